"""
One report on where the high frequencies of a model's saliency maps come from.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from .._checks import check_count, check_seed
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
from .._progress import Progress, checked_verbose
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
from ._snippet import Scoring, make_scoring, snippet
from ._summary import ENOUGH, html_of, kinds, text_of
from ._surgery import PredictionChange, Surgery, replace_downsampling
from ._watch import INPUT, Place, check_has_layers


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
        One row a layer that was given one picture and gives one, see `to_frame`.
    curve, twin_curve
        Tables as of `layerwise_high_frequency`, of the model and of its twin without
        downsampling by strides and max pooling (None where there is no twin).
    map_share, twin_map_share
        Share of the power of each image's saliency map that lies beyond a quarter of its size, of
        shape (N,).
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
    scoring
        How a search should score the model: what `snippet` is made of.
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
    scoring: Scoring

    @property
    def has_grid(self) -> bool:
        """
        Whether saliency maps share a grid.

        True where at least 5 % of the variance of the mean map repeats, five times what white noise
        has, over 8 images or more: a single map shares nothing.
        """
        enough = max(0.05, 5 * self.grid.expected_of_noise)
        return self.nb_images >= ENOUGH and self.grid.checkerboard >= enough

    @property
    def grid_frequency(self) -> float | None:
        """
        Cycles along the longest side of the grid that saliency maps share; None without one.

        A grid that repeats every s pixels of H lies at H / s cycles and at multiples of that.
        """
        return max(self.grid.picture.shape) / self.grid.stride if self.has_grid else None

    @property
    def resolution(self) -> float:
        """
        Radius up to which the maps of two noisy copies of the images agree, in cycles.

        Up to it, the correlation is 0.5 or more: 0 where the maps agree nowhere, and the last
        radius where they agree everywhere. A grid that they share is part of the agreement.
        """
        return self.correlation.resolution()

    @property
    def sigma(self) -> float | None:
        """
        Cutoff to start from, in cycles along the longest side.

        The resolution of the maps or, where they share a grid and it is less, the last whole number
        below the frequency of the grid: a disk or a box of that cutoff takes the grid out. None
        where the maps agree nowhere, or everywhere and without a grid: then noise of the inputs
        suggests no cutoff. It is a place to start a search, and no prediction of what it finds.
        """
        bounds = [math.inf]
        if self.resolution < self.correlation.radius[-1]:
            bounds.append(self.resolution)
        if self.grid_frequency is not None:
            bounds.append(math.ceil(self.grid_frequency) - 1.0)
        return min(bounds) if 1 <= min(bounds) < math.inf else None

    @property
    def snippet(self) -> str:
        """
        The search to run next, as Python code.

        It runs as it is where `model`, `inputs` and `targets` are what `diagnose` was given (and
        the function that is the operator, by its own name). Its cutoffs lie around `sigma`, from a
        quarter to four times of it; where there is none, they are `default_sigmas`.
        """
        if self.sigma is None:
            return snippet(self.scoring, [])
        highest, factors = self.correlation.radius[-1], (0.25, 0.5, 0.7, 1, 1.4, 2, 4)
        around = {min(max(1, round(factor * self.sigma)), int(highest)) for factor in factors}
        return snippet(self.scoring, sorted(around))

    def to_frame(self) -> pd.DataFrame:
        """
        The layers, those that inject most first.

        Returns
        -------
        table :
            One row a layer: "layer", "type", "height", "width" and "channels" of what it was given,
            and "stride". "before" and "behind" are the shares of the power of the gradient that are
            high frequency, as it reaches the layer and once it has gone back through it, and
            "injected" is their difference, with its "standard_error" over images (NaN for a single
            one). "checkerboard" is the share of the variance of the mean magnitude behind the layer
            that repeats with its stride.

            High frequency is what lies beyond a quarter of the layer's size or, for a layer that
            downsamples, beyond what its output can hold. Of that there is none before the layer by
            definition: "before" is NaN, and "injected" is "behind". "checkerboard" is NaN for a
            layer that does not downsample.
        """
        return self.layers.sort_values("injected", ascending=False, ignore_index=True)

    def by_type(self) -> pd.DataFrame:
        """
        Mean injection by type of layer, those that downsample apart, the strongest first.

        Returns
        -------
        table :
            One row a type: its number of layers, and the mean of "injected" over them.
        """
        table = self.layers.groupby(kinds(self.layers))["injected"].agg(["count", "mean"])
        return table.sort_values("mean", ascending=False)

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def plot(self) -> Any:
        """
        Draw curves, layers, the shared grid and the correlation.

        Returns
        -------
        figure :
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
    verbose: int | str = "auto",
) -> Diagnosis:
    r"""
    Find out why a model's saliency maps are noisy, or a grid, and where to start filtering them.

    - Which layers inject high frequencies: the gradient is measured as it reaches each layer, and
      once it has gone back through it. For a layer that downsamples by $s$, high frequency is what
      lies beyond $1 / (2 s)$ cycles per pixel along an axis: the layer's output cannot hold it, so
      all of it comes from the layer. For the others it is what lies beyond a quarter of the size.
      No layer that downsamples is free of it: on a gradient of white noise, average pooling of
      stride 2 injects $1 - (1/2 + 1/\pi)^2$, about 0.3, since it gives each window one value, and a
      1 x 1 convolution of stride 2, which leaves holes, 3/4.
    - What surgery would change: the same for a copy that downsamples by average pooling
      (`replace_downsampling`), and how far its predictions differ.
    - Which cutoff to start from: the resolution of the maps, the radius up to which those of two
      copies of the images with Gaussian noise agree by `fourier_ring_correlation` of 0.5, or just
      below a grid that they share. It knows nothing of faithfulness, and predicts no best cutoff:
      a constant serves as well (`benchmarks/controls.py`). `SigmaOptimizer` finds one, and the
      report ends with the code that calls it.

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
    verbose
        1 draws a progress bar over all passes of the model, 2 prints a line a pass, 0 nothing;
        "auto" is 1 on a terminal and in a notebook, and 2 elsewhere.

    Returns
    -------
    diagnosis :
        `Diagnosis`.

    Raises
    ------
    ValueError
        If the model has no spatial layers, inputs and targets disagree with it, or an option is
        out of range.
    TypeError
        If the model is no Keras model.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> diagnosis = diagnose(load_classifier(), *load_images(4)[:2], verbose=0)
    >>> diagnosis.layers["injected"].idxmax() >= 0 and diagnosis.sigma >= 1
    True
    >>> print(diagnosis.snippet.splitlines()[-2])
    search = optimizer.search(inputs, targets)
    """
    check_seed(seed)
    check_count("batch_size", batch_size)
    verbose = checked_verbose(verbose)
    is_number = isinstance(noise, numbers.Real) and not isinstance(noise, bool)
    if not is_number or not 0 < noise < np.inf:
        raise ValueError(f"`noise` is {noise!r}; give a positive number, such as 0.2.")
    check_has_layers(model)
    samples = differentiable_samples(model, inputs, targets, operator).in_memory()
    deviation = float(noise) * float(np.ptp(samples.inputs))
    if not deviation:
        raise ValueError("All values of the inputs are equal; give images that show something.")
    surgery = _surgery_of(model)
    has_twin = surgery is not None and bool(surgery.replaced)
    # layers, maps, two noisy copies; of a twin layers, maps, and its predictions
    nb_passes = 7 if has_twin else 4
    progress = Progress(nb_passes * math.ceil(len(samples) / batch_size), verbose)
    progress.begin("gradients at the layers")
    layers, curve = _look(model, samples, operator, batch_size, progress.step)
    progress.begin("saliency maps")
    gradient = make_gradient(make_scorer(model, operator), samples)
    maps, mean_map = _saliency(gradient, samples, batch_size, progress.step)
    twin = _Twin()
    if surgery is not None and has_twin:
        twin = _twin_of(surgery, samples, operator, batch_size, progress)
    generator = np.random.default_rng(seed)
    progress.begin("saliency maps of two noisy copies")
    copies = (_noisy_copy(samples, deviation, generator) for _ in range(2))
    noisy_maps = [_saliency(gradient, copy, batch_size, progress.step)[0] for copy in copies]
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
        surgery=surgery,
        change=twin.change,
        correlation=fourier_ring_correlation(*noisy_maps),
        scoring=make_scoring(model, samples, operator, targets is not None),
    )


class _Twin(NamedTuple):
    """What is known of the copy without downsampling, see `Diagnosis`."""

    change: PredictionChange | None = None
    curve: pd.DataFrame | None = None
    map_share: np.ndarray | None = None


def _surgery_of(model: keras.Model) -> Surgery | None:
    """The copy without downsampling; None, and a warning, if Keras cannot make it."""
    try:
        return replace_downsampling(model)
    except (TypeError, ValueError) as error:
        notify(f"There is no twin without downsampling: {error}")
        return None


def _twin_of(
    surgery: Surgery,
    samples: ArraySamples,
    operator: Operator,
    batch_size: int,
    progress: Progress,
) -> _Twin:
    """How the copy differs."""
    progress.begin("gradients at the layers of the twin")
    _, curve = _look(surgery.model, samples, operator, batch_size, progress.step)
    progress.begin("saliency maps of the twin")
    gradient = make_gradient(make_scorer(surgery.model, operator), samples)
    maps, _ = _saliency(gradient, samples, batch_size, progress.step)
    progress.begin("predictions of the twin")
    change = None
    if operator is None and samples.targets.ndim == 2 and samples.targets.shape[1] > 1:
        labels = samples.targets if samples.has_labels else None
        change = surgery.compare(samples.inputs, labels, batch_size)
    progress.step(math.ceil(len(samples) / batch_size))
    return _Twin(change, curve, high_frequency_power(maps))


def _noisy_copy(
    samples: ArraySamples, deviation: float, generator: np.random.Generator
) -> ArraySamples:
    drawn = generator.standard_normal(samples.inputs.shape, np.float32)
    return ArraySamples(samples.inputs + deviation * drawn, samples.targets)


def _look(
    model: keras.Model,
    samples: Samples,
    operator: Operator,
    batch_size: int,
    step: Callable[[], None],
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
    places = visit_all(model, samples, None, visit, operator, batch_size, sides, step)
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
    downsamples = place.stride > 1
    injected, error = mean_and_error(after - (0 * before if downsamples else before))
    return {
        **place.columns(),
        "before": np.nan if downsamples else mean_and_error(before)[0],
        "behind": mean_and_error(after)[0],
        "injected": injected,
        "standard_error": error,
    }


def _checkerboard(place: Place, picture: np.ndarray | None, nb_images: int) -> float:
    """Score of the mean magnitude behind a layer that downsamples; NaN of another."""
    if place.stride == 1:
        return math.nan
    if picture is None:
        return 0.0
    return mean_gradient(picture, place.name, place.strides, nb_images).checkerboard


def _saliency(
    gradient: Scorer, samples: Samples, batch_size: int, step: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Saliency maps (N, H, W), the largest magnitude over channels, and the mean magnitude."""
    magnitudes = []
    for _, inputs, targets in samples.batches(batch_size):
        found = gradient(tf.constant(inputs), tf.constant(targets))
        magnitudes.append(np.abs(found.numpy()))
        step()
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
