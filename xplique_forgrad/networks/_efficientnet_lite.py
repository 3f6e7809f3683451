"""
EfficientNet-Lite, which downsamples by convolutions with strides.

In plain Keras: with these weights the backbone of keras-cv 0.9.0 gives the same outputs to the last
bit, but it is no longer maintained, and brings tensorflow-datasets and keras-core with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
from keras import layers

from ._pickles import read_state_dictionary


class _Stage(NamedTuple):
    """Some blocks alike; the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


class _Variant(NamedTuple):
    """What tells the networks of the family apart."""

    width: float
    depth: float
    size: int


VARIANTS = {
    "efficientnet-lite0": _Variant(1.0, 1.0, 224),
    "efficientnet-lite1": _Variant(1.0, 1.1, 240),
    "efficientnet-lite2": _Variant(1.1, 1.2, 260),
}
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class _Block(NamedTuple):
    """One inverted bottleneck."""

    kernel: int
    stride: int
    expansion: int
    filters: int


def build_efficientnet_lite(name: str) -> keras.Model:
    """A network of the family, of 1,000 classes, untrained, with logits out."""
    variant = VARIANTS[name]
    inputs = layers.Input((variant.size, variant.size, 3))
    x = layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem_conv")(inputs)
    x = _activated(_normalized(x, "stem_bn"), "stem_relu")
    for index, block in enumerate(_blocks(variant)):
        x = _add_block(x, block, f"block{index}")
    x = layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x)
    x = _activated(_normalized(x, "head_bn"), "head_relu")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(1000, name="logits")(x), name=name)


def load_weights(model: keras.Model, path: Path) -> None:
    """Set the weights of PyTorch's state dictionary, whose kernels are (out, in, h, w)."""
    state = read_state_dictionary(path)
    for layer in model.layers:
        source = _name_in_state(layer.name)
        if isinstance(layer, layers.DepthwiseConv2D):
            # Keras: (h, w, in, 1)
            values = [state[f"{source}.weight"].transpose(2, 3, 0, 1)]
        elif isinstance(layer, layers.Conv2D):
            values = [state[f"{source}.weight"].transpose(2, 3, 1, 0)]
        elif isinstance(layer, layers.Dense):
            values = [state[f"{source}.weight"].T, state[f"{source}.bias"]]
        elif isinstance(layer, layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            values = [state[f"{source}.{part}"] for part in parts]
        else:
            continue
        layer.set_weights(values)


def _blocks(variant: _Variant) -> Iterator[_Block]:
    for index, stage in enumerate(_STAGES):
        scales = 0 < index < len(_STAGES) - 1
        repeats = math.ceil(variant.depth * stage.repeats) if scales else stage.repeats
        filters = _rounded(variant.width * stage.filters)
        for repeat in range(repeats):
            stride = 1 if repeat else stage.stride
            yield _Block(stage.kernel, stride, stage.expansion, filters)


def _rounded(filters: float) -> int:
    """The nearest multiple of 8 that is not below nine tenths of what was asked."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * filters else rounded + 8


def _add_block(x: keras.KerasTensor, block: _Block, name: str) -> keras.KerasTensor:
    before, filters = x, x.shape[-1]
    if block.expansion > 1:
        x = layers.Conv2D(block.expansion * filters, 1, use_bias=False, name=f"{name}_expand_conv")(
            x
        )
        x = _activated(_normalized(x, f"{name}_expand_bn"), f"{name}_expand_relu")
    x = layers.DepthwiseConv2D(
        block.kernel, block.stride, "same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = _activated(_normalized(x, f"{name}_depthwise_bn"), f"{name}_depthwise_relu")
    x = layers.Conv2D(block.filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = _normalized(x, f"{name}_project_bn")
    if block.stride == 1 and block.filters == filters:
        x = layers.Add(name=f"{name}_add")([before, x])
    return x


def _normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(epsilon=1e-3, name=name)(x)


def _activated(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.ReLU(6, name=name)(x)


# the names of layers behind those of their block, ours and PyTorch's
_PARTS = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_OUTSIDE = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "head_conv": "_conv_head",
    "head_bn": "_bn1",
    "logits": "_fc",
}


def _name_in_state(name: str) -> str:
    block, _, part = name.partition("_")
    if not block.startswith("block"):
        return _OUTSIDE.get(name, "")
    return f"_blocks.{block.removeprefix('block')}.{_PARTS.get(part, '')}"
