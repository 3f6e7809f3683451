"""
How much high frequency the gradients hold at each layer, and how much of a grid they are.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Collection
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf

from .._checks import batch_shape, check_choice, check_count
from .._gradients import (
    Inputs,
    Operator,
    Targets,
    check_finite_inputs,
    differentiable_samples,
    make_scorer,
)
from .._samples import Samples
from .._statistics import standard_error
from ..filtering._checks import RECTIFICATIONS
from ..filtering._transforms import rectified
from ..spectrum import (
    compressed_size,
    expected_frequency,
    high_frequency_power,
    mean_absolute_laplacian,
)
from ._watch import INPUT, Layers, Place, Visitor, Visits, check_has_layers, named_layers

# takes maps (M, H, W) to numbers (M,)
Measure = Callable[[tf.Tensor], np.ndarray]

MEASURES: dict[str, Measure] = {
    "high_frequency_power": high_frequency_power,
    "expected_frequency": expected_frequency,
    "mean_absolute_laplacian": mean_absolute_laplacian,
    "compressed_size": compressed_size,
}


class MeanGradient(NamedTuple):
    """
    The mean gradient behind a layer, and how much of a checkerboard it is.

    Attributes
    ----------
    picture
        Mean over images and channels, of shape (H, W).
    layer
        Name of the layer.
    stride
        How many times the layer downsamples, down or across: the period of the checkerboard.
    checkerboard
        `checkerboard_score` of the picture at that stride; 0 for a stride of 1.
    expected_of_noise
        What white noise of that size scores on average, $(s^2 - 1) / (H W - 1)$ for a stride $s$.
    nb_images
        Number of images.
    """

    picture: np.ndarray
    layer: str
    stride: int
    checkerboard: float
    expected_of_noise: float
    nb_images: int

    def __str__(self) -> str:
        height, width = self.picture.shape
        return (
            f"Mean gradient behind {self.layer!r}: {height} x {width} pixels, {self.nb_images} "
            f"images, stride {self.stride}, checkerboard {self.checkerboard:.3f} (white noise "
            f"{self.expected_of_noise:.4f})"
        )


def layerwise_high_frequency(
    model: keras.Model,
    inputs: Inputs,
    targets: Targets = None,
    layers: Layers = None,
    measure: str | Measure = "high_frequency_power",
    *,
    rectify: str | None = None,
    operator: Operator = None,
    batch_size: int = 8,
) -> pd.DataFrame:
    """
    High-frequency content of the gradient of the target score at every spatial layer of a model.

    The gradient of the score is taken with respect to the output of each layer, (N, H, W, C), and
    each channel of each image is measured alone. One forward and one backward pass a batch meet all
    layers; each gradient is measured when the backward pass gets there, and let go. So memory is
    that of the gradient of `batch_size` images, whatever the number of layers.

    Gradients flow from the last row to the first: content that grows *up* the table is added on the
    way to the input. Ref. Muzellec & al. (2024), https://arxiv.org/abs/2307.09591 (sec. 3.3, fig.
    5).

    Parameters
    ----------
    model
        Keras model of images (N, H, W, C): Sequential, functional, nested, or subclassed. Give
        logits: a softmax scales the gradient.
    inputs
        Images of shape (N, H, W, C), or a `tf.data.Dataset` of pairs (inputs, targets).
    targets
        One-hot labels of shape (N, output_size), or what the operator takes; a dataset of pairs
        brings its own. None for the class that the model predicts.
    layers
        Names of layers (paths such as "backbone/conv1" in nested models) or layers; None for every
        layer whose output is a picture: of shape (N, H, W, C) with H and W above 1, or tokens
        (N, T, C) that fill a grid, class and register tokens aside. The input is always there.
    measure
        "high_frequency_power" (share of power beyond a quarter of the layer's own size),
        "expected_frequency", "mean_absolute_laplacian", "compressed_size" (see
        `xplique_forgrad.spectrum`; expected frequencies and sizes grow with the layer), or a
        function that takes maps (M, H, W) to numbers (M,).
    rectify
        "magnitude" or "positive" to rectify the gradients before they are measured; None, the
        default of every measure, to measure them as they are, see `fourier_signature`. Signed
        gradients have no mean, which inflates shares of power: look at both.
    operator
        Function g(model, inputs, targets) that gives the scores, or a task of Xplique; None for
        the output of the target.
    batch_size
        Number of images at once.

    Returns
    -------
    table :
        One row a layer, in forward order, the input first: "layer", "type", "height", "width",
        "channels", "stride" (how many times it downsamples), "mean" of the measure over channels
        and images, its "standard_error" over images (NaN for a single image), and "zero_share", the
        share of channels whose gradient is zero, which are left out of the mean (0 if all are).
        `table.attrs` names the measure and the number of images.

    Raises
    ------
    ValueError
        If a layer is unknown, no layer is spatial, gradients are not finite, or inputs and targets
        disagree with each other or with the model.
    TypeError
        If the model is no Keras model.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, _ = load_images(4)
    >>> table = layerwise_high_frequency(load_classifier(), inputs, targets, layers=["pool"])
    >>> table["layer"].tolist(), table["stride"].tolist()
    (['input', 'pool'], [1, 2])
    """
    measure, name = _checked_measure(measure)
    check_choice("rectify", rectify, RECTIFICATIONS)
    values: dict[str, list[np.ndarray]] = {}

    def visit(place, gradient):
        found = channel_values(measure, place, gradient, rectify)
        values.setdefault(place.name, []).append(found)

    check_has_layers(model)
    samples = differentiable_samples(model, inputs, targets, operator)
    places = visit_all(model, samples, layers, visit, operator, batch_size)
    table = layer_table(places, values)
    table.attrs.update(measure=name, rectify=rectify, nb_images=len(samples))
    return table


def mean_gradient_after(
    model: keras.Model,
    inputs: Inputs,
    targets: Targets = None,
    *,
    layer: str | keras.Layer,
    rectify: str | None = "magnitude",
    operator: Operator = None,
    batch_size: int = 8,
) -> MeanGradient:
    """
    The mean gradient picture behind a layer, once it has gone back through that layer.

    It is the gradient with respect to what the layer was given, by way of this layer alone,
    averaged over images and channels. Behind strided convolutions, and behind pooling whose windows
    overlap, some pixels get more of the gradient than their neighbours, wherever the image shows
    what: a checkerboard that averaging does not remove.

    Ref. Muzellec & al. (2024), https://arxiv.org/abs/2307.09591, sec. 3.3, fig. 5; Olah & al.,
    Feature visualization (2017), https://distill.pub/2017/feature-visualization.

    Parameters
    ----------
    model
        Keras model, see `layerwise_high_frequency`.
    inputs
        Images of shape (N, H, W, C), or a `tf.data.Dataset` of pairs (inputs, targets).
    targets
        One-hot labels of shape (N, output_size), or what the operator takes; a dataset of pairs
        brings its own. None for the class that the model predicts.
    layer
        Name of a spatial layer (its path in a nested model), or the layer.
    rectify
        "magnitude", as in `forgrad`, or "positive" to rectify the gradients before they are
        averaged, so that signs do not cancel; None for the mean of signed gradients.
    operator
        See `layerwise_high_frequency`.
    batch_size
        Number of images at once.

    Returns
    -------
    mean_gradient :
        `MeanGradient`: the picture (H, W), the layer's stride, and the checkerboard score.

    Raises
    ------
    ValueError
        If the layer is unknown or not spatial, is called more than once, or inputs and targets
        disagree.
    TypeError
        If the model is no Keras model.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> found = mean_gradient_after(load_classifier(), load_images(4).inputs, layer="block2_conv1")
    >>> found.picture.shape, found.stride
    ((24, 24), 2)
    """
    check_choice("rectify", rectify, RECTIFICATIONS)
    if not isinstance(layer, (str, keras.Layer)):
        raise TypeError(f"`layer` is {layer!r}; give the name of one layer, or the layer.")
    total = np.zeros(())
    nb_images = 0

    def visit(place, gradient):
        nonlocal total, nb_images
        if place.name == INPUT:
            return
        kept = tf.cast(rectified(gradient, rectify), tf.float64)
        means = tf.reduce_mean(kept, axis=-1).numpy()
        total, nb_images = total + means.sum(axis=0), nb_images + len(means)

    check_has_layers(model)
    samples = differentiable_samples(model, inputs, targets, operator)
    places = visit_all(model, samples, layer, visit, operator, batch_size, ["input"])
    if len(places) != 2:
        reason = "is called more than once" if len(places) > 2 else "was not given pictures"
        raise ValueError(f"The layer {getattr(layer, 'name', layer)!r} {reason}; name another.")
    if not nb_images:
        raise ValueError(f"The score does not depend on the layer {places[1].name!r}.")
    return mean_gradient(total / nb_images, places[1].name, places[1].strides, nb_images)


def checkerboard_score(pictures: npt.ArrayLike, stride: int | tuple[int, int] = 2) -> np.ndarray:
    r"""
    How much of a checkerboard pictures are: the share of their variance at the alias frequencies.

    The alias frequencies of a stride $s$ are the multiples of $1 / s$ cycles per pixel along each
    axis, zero apart: what repeats every $s$ pixels. The energy there, over the energy of all
    frequencies but zero, equals the variance between the $s^2$ phases $(i \bmod s, j \bmod s)$ over
    the variance of the picture ($\eta^2$), and is computed so, since that holds for sizes that $s$
    does not divide.

    Parameters
    ----------
    pictures
        Of shape (N, H, W) or (N, H, W, C), whose channels are averaged.
    stride
        Period in pixels, an integer of 2 or more up to H and W; or a pair, down and across, of
        which one may be 1.

    Returns
    -------
    score :
        In [0, 1] for each picture, of shape (N,): 1 for a pure pattern of that period, 0 for a
        constant, about $(s^2 - 1) / (H W - 1)$ for white noise.

    Raises
    ------
    ValueError
        If pictures have another shape or hold NaN, or the stride is out of range.

    Examples
    --------
    >>> rows, columns = np.indices((8, 8))
    >>> checkerboard_score([(rows + columns) % 2, rows])
    array([1.        , 0.04761905])
    """
    maps = _checked_pictures(pictures)
    down, across = _checked_strides(stride, maps.shape[1:])
    centred = maps - maps.mean((1, 2), keepdims=True)
    between = np.zeros(len(maps))
    for row, column in np.ndindex(down, across):
        phase = centred[:, row::down, column::across]
        between += phase.mean((1, 2)) ** 2 * phase[0].size
    variance = np.square(centred).sum((1, 2))
    is_flat = np.ptp(maps, axis=(1, 2)) <= 1e-6 * np.abs(maps).max((1, 2))
    return np.where(is_flat, 0.0, between / np.where(is_flat, 1.0, variance))


def _checked_pictures(pictures: npt.ArrayLike) -> np.ndarray:
    """Finite pictures of shape (N, H, W), channels averaged."""
    maps = np.asarray(pictures, np.float64)
    if maps.ndim == 4:
        maps = maps.mean(axis=-1)
    if maps.ndim != 3 or not len(maps):
        raise ValueError(f"The pictures have shape {maps.shape}; give (N, H, W).")
    if not np.isfinite(maps).all():
        raise ValueError("The pictures hold NaN or infinite values.")
    return maps


def _checked_strides(stride: int | tuple[int, int], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Strides down and across, one of them 2 or more."""
    strides = tuple(stride) if isinstance(stride, (tuple, list)) else (stride, stride)
    fits = len(strides) == 2 and all(
        isinstance(s, numbers.Integral) and not isinstance(s, bool) and 1 <= s <= size
        for s, size in zip(strides, sizes)
    )
    if not fits or max(strides) == 1:
        raise ValueError(
            f"`stride` is {stride!r}; give an integer from 2 to {min(sizes)}, or a "
            "pair of them, of which one may be 1."
        )
    return strides


def mean_gradient(
    picture: np.ndarray, name: str, strides: tuple[int, int], nb_images: int
) -> MeanGradient:
    """A mean gradient with its checkerboard score at the strides."""
    score = 0.0
    if max(strides) > 1 and all(s <= size for s, size in zip(strides, picture.shape)):
        score = float(checkerboard_score(picture[np.newaxis], strides)[0])
    expected = (strides[0] * strides[1] - 1) / (picture.size - 1)
    return MeanGradient(picture, name, max(strides), score, expected, nb_images)


def visit_all(
    model: keras.Model,
    samples: Samples,
    layers: Layers,
    visit: Visitor,
    operator: Operator,
    batch_size: int,
    sides: Collection[str] = ("output",),
    step: Callable[[], None] | None = None,
) -> list[Place]:
    """
    Visit the gradients of all batches; the places in forward order, the same in each batch.

    `step` is called after each batch.
    """
    if len(samples.shape) != 3:
        raise ValueError(
            f"The inputs have shape {batch_shape(samples.shape)}; layers are analysed for images "
            "(N, H, W, C). Maps of series, volumes and videos are filtered without: "
            "SigmaOptimizer(explainer, axes=...) finds their cutoff."
        )
    check_count("batch_size", batch_size)
    chosen = named_layers(model, layers)
    for path, layer in chosen.items():
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"The layer {path!r} has its channels first; layers are analysed with channels "
                "last, (N, H, W, C). Build the model with data_format='channels_last': kernels of "
                "convolutions are the same."
            )
    visits = Visits(model, make_scorer(model, operator), samples, chosen, visit, sides)
    places = visits.places
    if len(places) == 1 and (layers is None or chosen):
        raise ValueError(
            f"The model {model.name!r} has no spatial layers"
            + (f" among {list(chosen)}" if layers is not None else "")
            + ": none gives pictures (N, H, W, C) or tokens on a grid."
        )
    for positions, images, labels in samples.batches(batch_size):
        check_finite_inputs(images, positions)
        visits(images, labels)
        if step is not None:
            step()
    return places


def channel_values(
    measure: Measure, place: Place, gradient: tf.Tensor, rectify: str | None = None
) -> np.ndarray:
    """The measure of each channel of each image, (B, C); NaN where the gradient is zero."""
    maps = tf.reshape(tf.transpose(gradient, (0, 3, 1, 2)), (-1, *place.grid))
    maps = rectified(maps, rectify)
    alive = tf.reduce_max(tf.abs(maps), (1, 2)).numpy() != 0
    found = np.full(len(alive), np.nan)
    if alive.any():
        found[alive] = _measured(measure, maps if alive.all() else maps[alive], place)
    return found.reshape(-1, place.channels)


def image_means(values: list[np.ndarray]) -> np.ndarray:
    """Mean over the channels that are not zero, of shape (N,); NaN for an image that has none."""
    found = np.concatenate(values)
    counts = np.isfinite(found).sum(axis=1)
    sums = np.nansum(found, axis=1)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of those that are no NaN, 0 for none, and its standard error."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0, float(standard_error(values))


def layer_table(places: list[Place], values: dict[str, list[np.ndarray]]) -> pd.DataFrame:
    """The table of `layerwise_high_frequency` from the values of `channel_values`."""
    rows = []
    for place in places:
        if place.name not in values:
            continue
        mean, error = mean_and_error(image_means(values[place.name]))
        rows.append(
            {
                **place.columns(),
                "mean": mean,
                "standard_error": error,
                "zero_share": float(np.isnan(np.concatenate(values[place.name])).mean()),
            }
        )
    return pd.DataFrame(rows)


def _checked_measure(measure: str | Measure) -> tuple[Measure, str]:
    if callable(measure):
        return measure, getattr(measure, "__name__", type(measure).__name__)
    if not isinstance(measure, str) or measure not in MEASURES:
        raise ValueError(
            f"`measure` is {measure!r}; give one of {', '.join(map(repr, MEASURES))}, or a "
            "function of maps (M, H, W)."
        )
    return MEASURES[measure], measure


def _measured(measure: Measure, maps: tf.Tensor, place: Place) -> np.ndarray:
    try:
        found = np.asarray(measure(maps), np.float64)
    except ValueError as error:
        raise ValueError(f"The gradient at {place.name!r} cannot be measured: {error}") from error
    if found.shape != (len(maps),) or not np.isfinite(found).all():
        raise ValueError(
            f"`measure` gave values of shape {found.shape} for {len(maps)} maps, or NaN; it must "
            "give one finite number a map."
        )
    return found
