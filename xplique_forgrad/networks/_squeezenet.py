"""
SqueezeNet 1.1, which downsamples by max pooling.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import layers

from ._pickles import read_arrays

# filters of the squeeze and of each expand convolution, by fire module
_FIRES = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}
_POOLED = ("fire3", "fire5")


def build_squeezenet() -> keras.Model:
    """SqueezeNet 1.1 of 1,000 classes, untrained, with logits out."""
    inputs = layers.Input((224, 224, 3))
    x = layers.Conv2D(64, 3, 2, "same", activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(3, 2, "same", name="pool_conv1")(x)
    for name, (squeeze, expand) in _FIRES.items():
        x = layers.Conv2D(squeeze, 1, activation="relu", name=f"{name}_squeeze1x1")(x)
        parts = [
            layers.Conv2D(expand, 1, activation="relu", name=f"{name}_expand1x1")(x),
            layers.Conv2D(expand, 3, 1, "same", activation="relu", name=f"{name}_expand3x3")(x),
        ]
        x = layers.Concatenate(name=f"{name}_concatenate")(parts)
        if name in _POOLED:
            x = layers.MaxPooling2D(3, 2, "same", name=f"pool_{name}")(x)
    x = layers.Conv2D(1000, 1, name="conv10")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="logits")(x), name="squeezenet")


def load_weights(model: keras.Model, path: Path) -> None:
    """Set the weights of the file, kernels (h, w, in, out) and biases by name of the layer."""
    weights: dict[str, Any] = read_arrays(path)
    for name, (kernel, bias) in weights.items():
        model.get_layer(name.replace("/", "_")).set_weights([kernel, bias])
