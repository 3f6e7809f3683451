"""
Subsampling that blurs first.
"""

from __future__ import annotations

from typing import Any

import keras

from .._checks import check_choice


@keras.saving.register_keras_serializable(package="xplique_forgrad")
class BlurPooling2D(keras.layers.Layer):
    r"""
    Anti-aliased subsampling: each channel is blurred, then every `strides`-th pixel is kept.

    $$y_{i,j} = \textstyle\sum_{a,b} w_a w_b x_{s i + o + a, s j + o + b},$$

    with $a$ and $b$ of -1, 0 and 1, $w = (1, 2, 1) / 4$, borders reflected about the outer pixels
    ($x_{-1} = x_1$), and $o$ the centre of the first window of a layer of this size, strides $s$
    and padding "same": 0 for a window of 1. An axis of stride 1 or of size 1 is not blurred.
    Without weights, for any number of channels.

    Ref. Zhang, Making convolutional networks shift-invariant again (2019),
    https://arxiv.org/abs/1904.11486 (Triangle-3 filter).

    Parameters
    ----------
    strides
        Subsampling of rows and columns, each an integer of at least 1, or one for both.
    window
        Size of the windows whose centres are kept, an integer of at least 1, or one for rows and
        one for columns. In front of an even size, windows of 3 and strides of 2 keep the pixels 1,
        3, 5, and windows of 1 the pixels 0, 2, 4.
    data_format
        "channels_last" or "channels_first". Default to that of `keras.config`.
    kwargs
        `name` and `dtype`, as in any Keras layer.

    Raises
    ------
    ValueError
        If `strides`, `window` or `data_format` are none of these.

    Examples
    --------
    >>> BlurPooling2D(2)(keras.ops.ones((1, 5, 6, 3))).shape
    TensorShape([1, 3, 3, 3])
    """

    def __init__(
        self,
        strides: int | tuple[int, int] = 2,
        window: int | tuple[int, int] = 1,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.strides = _checked_pair("strides", strides)
        self.window = _checked_pair("window", window)
        self.data_format = data_format or keras.config.image_data_format()
        check_choice("data_format", self.data_format, ("channels_last", "channels_first"))
        self.input_spec = keras.layers.InputSpec(ndim=4)

    @property
    def _axes(self) -> tuple[int, int]:
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def call(self, inputs):
        outputs = inputs
        for axis, stride, window in zip(self._axes, self.strides, self.window):
            if stride > 1 and inputs.shape[axis] != 1:
                outputs = _blurred(outputs, axis, stride, window)
        return outputs

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        for axis, stride in zip(self._axes, self.strides):
            shape[axis] = None if shape[axis] is None else -(-shape[axis] // stride)
        return tuple(shape)

    def get_config(self):
        config = {"strides": self.strides, "window": self.window, "data_format": self.data_format}
        return {**super().get_config(), **config}


def _checked_pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """One integer of at least 1 for rows and one for columns."""
    pair = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or not all(isinstance(size, int) and size >= 1 for size in pair):
        raise ValueError(
            f"`{name}` is {value!r}; give one integer of at least 1, or one for rows and one for "
            "columns, as in (2, 1)."
        )
    return pair


def _blurred(maps, axis: int, stride: int, window: int):
    """The maps blurred by [1, 2, 1] / 4 and subsampled along one axis."""
    ops = keras.ops
    size = ops.shape(maps)[axis]
    # what padding "same" adds, in front by half: twice the positive part of `missing`, over 4
    missing = stride * ((size - 1) // stride) + window - size
    first = (window - 1) // 2 - (missing + abs(missing)) // 4
    padded = ops.pad(maps, [[int(other == axis)] * 2 for other in range(4)], mode="reflect")

    def taps(start, stop):
        index: list[slice] = [slice(None)] * 4
        index[axis] = slice(first + start, stop, stride)
        return padded[tuple(index)]

    return 0.25 * (taps(0, -2) + taps(2, None)) + 0.5 * taps(1, -1)
