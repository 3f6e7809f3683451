"""
One report on where the high frequencies of a model's saliency maps come from.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from .._checks import check_seed
from .._gradients import (
    Inputs,
    Operator,
    Scorer,
    Targets,
    differentiable_samples,
    make_gradient,
    make_scorer,
)
from .._notices import notify
from .._samples import ArraySamples, Samples
from ..spectrum import (
    RingCorrelation,
    fourier_ring_correlation,
    high_frequency_power,
    share_outside,
)
from ._layerwise import (
    MeanGradient,
    Measure,
    channel_values,
    image_means,
    layer_table,
    mean_and_error,
    mean_gradient,
    visit_all,
)
from ._summary import ENOUGH, kinds, summary
from ._surgery import PredictionChange, Surgery, replace_downsampling
from ._watch import INPUT, Place


@dataclass(frozen=True)
class Diagnosis:
    """
    What `diagnose` found: `print` it, `plot` it, or take its tables.

    Attributes
    ----------
    model_name
        Name of the model.
    nb_images
        Number of images.
    layers
        One row a layer that was given one picture and gives one: "layer", "type", "height",
        "width" and "channels" of what it was given, "stride", "before" and "behind", the share of
        high frequency of the gradient as it reaches the layer and once it has gone back through
        it, "injected", the difference, with its "standard_error" over images (NaN for a single
        one), and "checkerboard", the score of the mean magnitude behind a layer that downsamples.
    curve, twin_curve
        Tables as of `layerwise_high_frequency`, of the model and of its twin without
        downsampling by strides and max pooling (None where there is no twin).
    map_share, twin_map_share
        Share of power beyond a quarter of the size of each image's saliency map, of shape (N,).
    noise_share
        The same for saliency maps of white noise, the largest magnitude over as many channels.
    grid
        The mean magnitude of the gradient at the input, and how much of a checkerboard it is at the
        stride, of those of the model, where it is most of one. Its layer is "input".
    surgery
        How the twin was made; None where Keras cannot copy the model.
    change
        How the twin's predictions differ; None without a twin, or where there are no classes.
    correlation
        Fourier ring correlation of the saliency maps of two noisy copies of the images.
    sigma
        Cutoff to start from: up to it, the correlation is 0.5 or more. None where the maps agree
        nowhere, or everywhere: then noise of the inputs suggests no cutoff.
    """

    model_name: str
    nb_images: int
    layers: pd.DataFrame
    curve: pd.DataFrame
    twin_curve: pd.DataFrame | None
    map_share: np.ndarray
    twin_map_share: np.ndarray | None
    noise_share: float
    grid: MeanGradient
    surgery: Surgery | None
    change: PredictionChange | None
    correlation: RingCorrelation
    sigma: float | None

    @property
    def has_grid(self) -> bool:
        """
        Whether saliency maps share a grid.

        True where at least 5 % of the variance of the mean map repeats, five times what white noise
        has, over 8 images or more: a single map shares nothing.
        """
        enough = max(0.05, 5 * self.grid.expected_of_noise)
        return self.nb_images >= ENOUGH and self.grid.checkerboard >= enough

    def to_frame(self) -> pd.DataFrame:
        """The layers, those that inject most first."""
        return self.layers.sort_values("injected", ascending=False, ignore_index=True)

    def by_type(self) -> pd.DataFrame:
        """
        Mean injection by type of layer, those that downsample apart, the strongest first.

        Returns
        -------
        table
            One row a type: its number of layers, and the mean of "injected" over them.
        """
        table = self.layers.groupby(kinds(self.layers))["injected"].agg(["count", "mean"])
        return table.sort_values("mean", ascending=False)

    def __str__(self) -> str:
        return summary(self)

    def plot(self) -> Any:
        """
        Draw curves, layers, the shared grid and the correlation.

        Returns
        -------
        figure
            The matplotlib figure.
        """
        from ..plots import plot_diagnosis

        return plot_diagnosis(self)


def diagnose(
    model: keras.Model,
    inputs: Inputs,
    targets: Targets = None,
    *,
    noise: float = 0.2,
    seed: int = 0,
    operator: Operator = None,
    batch_size: int = 8,
) -> Diagnosis:
    """
    Find out why a model's saliency maps are noisy, or a grid, and where to start filtering them.

    - Which layers inject high frequencies: the gradient is measured as it reaches each layer, and
      once it has gone back through it. For a layer that downsamples by s, high frequency is what
      lies beyond 1 / (2 s) cycles per pixel along an axis: the layer's output cannot hold it, so
      all of it comes from the layer. For the others it is what lies beyond a quarter of the size.
      No layer that downsamples is free of it: on a gradient of white noise, average pooling of
      stride 2 injects 1 - (1/2 + 1/pi)^2, about 0.3, since it gives each window one value, and a
      1 x 1 convolution of stride 2, which leaves holes, 3/4.
    - What surgery would change: the same for a copy that downsamples by average pooling
      (`replace_downsampling`), and how far its predictions differ.
    - Which cutoff to start from: the resolution of the maps, the radius up to which those of two
      copies of the images with Gaussian noise agree by `fourier_ring_correlation` of 0.5. It is a
      guess that knows nothing of faithfulness; `SigmaOptimizer` finds the cutoff that does.

    Some 16 to 64 images are enough.

    Parameters
    ----------
    model
        Keras model of images with logits out, see `layerwise_high_frequency`.
    inputs
        Images of shape (N, H, W, C), or a `tf.data.Dataset` of pairs (inputs, targets), which is
        held in memory.
    targets
        One-hot labels of shape (N, output_size), or what the operator takes; a dataset of pairs
        brings its own. None for the class that the model predicts.
    noise
        Standard deviation of the noise in the two copies, over the range of the inputs. The default
        is that of Xplique's SmoothGrad.
    seed
        Seed of the noise.
    operator
        Function g(model, inputs, targets) that gives the scores, or a task of Xplique; None for
        the output of the target.
    batch_size
        Number of images at once.

    Returns
    -------
    diagnosis
        `Diagnosis`.

    Raises
    ------
    ValueError
        If the model has no spatial layers, or inputs and targets disagree with it.
    TypeError
        If the model is no Keras model.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> diagnosis = diagnose(load_classifier(), *load_images(4)[:2])
    >>> diagnosis.layers["injected"].idxmax() >= 0 and diagnosis.sigma >= 1
    True
    """
    check_seed(seed)
    is_number = isinstance(noise, numbers.Real) and not isinstance(noise, bool)
    if not is_number or not 0 < noise < np.inf:
        raise ValueError(f"`noise` is {noise!r}; give a positive number, such as 0.2.")
    samples = differentiable_samples(model, inputs, targets, operator).in_memory()
    deviation = float(noise) * float(np.ptp(samples.inputs))
    if not deviation:
        raise ValueError("All values of the inputs are equal; give images that show something.")
    layers, curve = _look(model, samples, operator, batch_size)
    gradient = make_gradient(make_scorer(model, operator), samples)
    maps, mean_map = _saliency(gradient, samples, batch_size)
    twin = _make_twin(model, samples, operator, batch_size)
    generator = np.random.default_rng(seed)
    copies = (_noisy_copy(samples, deviation, generator) for _ in range(2))
    noisy_maps = [_saliency(gradient, copy, batch_size)[0] for copy in copies]
    correlation = fourier_ring_correlation(*noisy_maps)
    resolution = correlation.resolution()
    white = np.abs(generator.standard_normal((32, *samples.shape))).max(axis=-1)
    return Diagnosis(
        model_name=model.name,
        nb_images=len(maps),
        layers=layers,
        curve=curve,
        twin_curve=twin.curve,
        map_share=high_frequency_power(maps),
        twin_map_share=twin.map_share,
        noise_share=float(high_frequency_power(white).mean()),
        grid=_shared_grid(mean_map, curve["height"], len(maps)),
        surgery=twin.surgery,
        change=twin.change,
        correlation=correlation,
        sigma=resolution if 1 <= resolution < correlation.radius[-1] else None,
    )


class _Twin(NamedTuple):
    """The copy without downsampling and what is known of it, see `Diagnosis`."""

    surgery: Surgery | None = None
    change: PredictionChange | None = None
    curve: pd.DataFrame | None = None
    map_share: np.ndarray | None = None


def _make_twin(
    model: keras.Model, samples: ArraySamples, operator: Operator, batch_size: int
) -> _Twin:
    """The copy, and how it differs where there was something to replace."""
    try:
        surgery = replace_downsampling(model)
    except (TypeError, ValueError) as error:
        notify(f"There is no twin without downsampling: {error}")
        return _Twin()
    if not surgery.replaced:
        return _Twin(surgery)
    change = None
    if operator is None and samples.targets.ndim == 2 and samples.targets.shape[1] > 1:
        labels = samples.targets if samples.has_labels else None
        change = surgery.compare(samples.inputs, labels, batch_size)
    _, curve = _look(surgery.model, samples, operator, batch_size)
    gradient = make_gradient(make_scorer(surgery.model, operator), samples)
    maps, _ = _saliency(gradient, samples, batch_size)
    return _Twin(surgery, change, curve, high_frequency_power(maps))


def _noisy_copy(
    samples: ArraySamples, deviation: float, generator: np.random.Generator
) -> ArraySamples:
    drawn = generator.standard_normal(samples.inputs.shape, np.float32)
    return ArraySamples(samples.inputs + deviation * drawn, samples.targets)


def _look(
    model: keras.Model, samples: Samples, operator: Operator, batch_size: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each layer injects, and the curve of the gradients at their outputs, in one pass."""
    outputs: dict[str, list[np.ndarray]] = {}
    behind: dict[str, list[np.ndarray]] = {}
    pictures: dict[str, np.ndarray] = {}

    def visit(place, gradient):
        if place.side == "output":
            found = channel_values(high_frequency_power, place, gradient)
            outputs.setdefault(place.name, []).append(found)
            return
        measure: Measure = high_frequency_power
        if place.stride > 1:
            # what the output's grid cannot hold
            measure = partial(share_outside, limits=[0.5 / stride for stride in place.strides])
            picture = tf.reduce_sum(tf.abs(gradient), (0, 3)).numpy()
            pictures[place.name] = pictures.get(place.name, 0) + picture
        behind.setdefault(place.name, []).append(channel_values(measure, place, gradient))

    sides = ("input", "output")
    places = visit_all(model, samples, None, visit, operator, batch_size, sides)
    rows = []
    for place in places:
        name = place.name
        if place.side == "input" and name in behind and name in outputs:
            board = _checkerboard(place, pictures.get(name), len(samples))
            rows.append({**_injection(place, outputs[name], behind[name]), "checkerboard": board})
    curve = layer_table([place for place in places if place.side == "output"], outputs)
    curve.attrs.update(measure="high_frequency_power", rectify=None, nb_images=len(samples))
    return pd.DataFrame(rows), curve


def _injection(
    place: Place, outputs: list[np.ndarray], behind: list[np.ndarray]
) -> dict[str, str | int | float]:
    """The row of a layer, from the content of the gradient that reaches it and behind it."""
    before, after = image_means(outputs), image_means(behind)
    # what its output cannot hold was not there before
    before = 0 * before if place.stride > 1 else before
    injected, error = mean_and_error(after - before)
    return {
        **place.columns(),
        "before": mean_and_error(before)[0],
        "behind": mean_and_error(after)[0],
        "injected": injected,
        "standard_error": error,
    }


def _checkerboard(place: Place, picture: np.ndarray | None, nb_images: int) -> float:
    """Score of the mean magnitude behind a layer that downsamples, and 0 of another."""
    if picture is None:
        return 0.0
    return mean_gradient(picture, place.name, place.strides, nb_images).checkerboard


def _saliency(gradient: Scorer, samples: Samples, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Saliency maps (N, H, W), the largest magnitude over channels, and the mean magnitude."""
    magnitudes = [
        np.abs(gradient(tf.constant(inputs), tf.constant(targets)).numpy())
        for _, inputs, targets in samples.batches(batch_size)
    ]
    maps = np.concatenate([values.max(axis=-1) for values in magnitudes])
    return maps, np.concatenate([values.mean(axis=-1) for values in magnitudes]).mean(axis=0)


def _shared_grid(mean_map: np.ndarray, heights: pd.Series, nb_images: int) -> MeanGradient:
    """The mean map at the stride of which it is most of a checkerboard, beyond chance."""
    reached = {round(len(mean_map) / height) for height in heights}
    fitting = sorted(stride for stride in reached if 1 < stride <= min(mean_map.shape) // 4) or [2]
    grids = [mean_gradient(mean_map, INPUT, (stride, stride), nb_images) for stride in fitting]
    beyond = [grid.checkerboard - grid.expected_of_noise for grid in grids]
    # what repeats every 2 pixels repeats every 4 too
    enough = max(beyond) - 0.1 * abs(max(beyond))
    return next(grid for grid, value in zip(grids, beyond) if value >= enough)
