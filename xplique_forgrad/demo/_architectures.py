"""
The networks of the demonstration, untrained: a residual network, a vision transformer and a
network of ConvNeXt's blocks. Each is a functional model of Keras' own layers.
"""

from __future__ import annotations

import keras
from keras import layers

from ._images import CLASS_NAMES, IMAGE_SIZE

POOLINGS = ("max", "average")
NETWORKS = (*POOLINGS, "vit", "convnext")


def build_residual(pooling: str) -> keras.Model:
    """
    Build a residual network that downsamples by max pooling and strides, or by averages.

    Parameters
    ----------
    pooling
        "max" or "average".

    Returns
    -------
    model :
        A model of 176,046 parameters with explicit ReLU layers and logits out.
    """

    def conv(x, filters, size, strides, name):
        averaged = strides > 1 and pooling == "average"
        x = layers.Conv2D(
            filters, size, 1 if averaged else strides, "same", use_bias=False, name=name
        )(x)
        if averaged:
            x = layers.AveragePooling2D(strides, padding="same", name=f"{name}_pool")(x)
        return layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)

    def block(x, filters, strides, name):
        shortcut = x
        x = layers.ReLU(name=f"{name}_relu1")(conv(x, filters, 3, strides, f"{name}_conv1"))
        x = conv(x, filters, 3, 1, f"{name}_conv2")
        if strides > 1:
            shortcut = conv(shortcut, filters, 1, strides, f"{name}_shortcut")
        return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, shortcut]))

    pool = layers.MaxPooling2D if pooling == "max" else layers.AveragePooling2D
    inputs = _image()
    x = layers.ReLU(name="stem_relu")(conv(inputs, 24, 5, 2, "stem"))
    x = pool(3, 2, "same", name="pool")(x)
    x = block(x, 24, 1, "block1")
    x = block(x, 48, 2, "block2")
    x = block(x, 96, 2, "block3")
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(inputs, _logits(x), name=f"{pooling}_pooling_classifier")


def build_vit() -> keras.Model:
    """
    Build a vision transformer: 144 tokens of 8 x 8 pixels, four pre-norm blocks, mean pooling.

    Returns
    -------
    model :
        A model of 193,030 parameters with logits out.
    """
    patch_size, width, heads, nb_blocks = 8, 64, 4, 4
    nb_tokens = (IMAGE_SIZE // patch_size) ** 2

    inputs = _image()
    x = layers.Conv2D(
        width,
        patch_size,
        patch_size,
        use_bias=False,
        kernel_initializer="lecun_normal",
        name="patches",
    )(_centred(inputs))
    x = layers.Reshape((nb_tokens, width), name="tokens")(x)
    # a projection whose bias is one vector per token: the learned positions
    x = layers.EinsumDense(
        "btc,cd->btd",
        (nb_tokens, width),
        bias_axes="td",
        bias_initializer=keras.initializers.RandomNormal(stddev=0.02),
        name="positions",
    )(x)
    for number in range(1, nb_blocks + 1):
        name = f"block{number}"
        y = _norm(x, f"{name}_norm1")
        y = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")(y, y)
        x = layers.Add(name=f"{name}_add1")([x, y])
        y = _mlp(_norm(x, f"{name}_norm2"), 3 * width, name)
        x = layers.Add(name=f"{name}_add2")([x, y])
    x = layers.GlobalAveragePooling1D(name="features")(_norm(x, "norm"))
    return keras.Model(inputs, _logits(x), name="vit_classifier")


def build_convnext() -> keras.Model:
    """
    Build a network of ConvNeXt's blocks: three stages of depthwise 7 x 7 convolutions.

    Returns
    -------
    model :
        A model of 276,774 parameters with logits out.
    """
    inputs = _image()
    x = _norm(layers.Conv2D(32, 4, 4, name="stem")(_centred(inputs)), "stem_norm")
    for stage, (filters, nb_blocks) in enumerate(((32, 1), (64, 2), (96, 2)), start=1):
        if stage > 1:
            x = _norm(x, f"downsample{stage}_norm")
            x = layers.Conv2D(filters, 2, 2, name=f"downsample{stage}")(x)
        for number in range(1, nb_blocks + 1):
            name = f"stage{stage}_block{number}"
            y = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
            y = _mlp(_norm(y, f"{name}_norm"), 4 * filters, name)
            x = layers.Add(name=f"{name}_add")([x, y])
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(inputs, _logits(_norm(x, "norm")), name="convnext_classifier")


def _image() -> keras.KerasTensor:
    return keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")


def _centred(image: keras.KerasTensor) -> keras.KerasTensor:
    # from [0, 1] to [-2, 2]: else the first norm of a layer sees little but the brightness
    return layers.Rescaling(4.0, -2.0, name="centre")(image)


def _logits(features: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Dense(len(CLASS_NAMES), name="logits")(features)


def _norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _mlp(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    y = layers.Dense(width, activation="gelu", name=f"{name}_expand")(x)
    return layers.Dense(x.shape[-1], name=f"{name}_project")(y)
