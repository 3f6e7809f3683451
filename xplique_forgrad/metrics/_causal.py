"""
Deletion, Insertion, and their difference: the model's scores of gradually perturbed inputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import batch_shape
from .._samples import Batch
from ._cells import Cells
from ._metric import Parts, PerImageMetric, Steps, check_no_nan
from ._options import Baseline, CausalOptions, ScoringOptions
from ._scorer import Item
from ._steps import areas_under, fullest_batches, levels_and_thresholds, slices


class CausalMetric(PerImageMetric):
    """
    What Deletion, Insertion and Faithfulness share: scores of inputs, gradually perturbed.

    The pixels that are perturbed first are those of highest attribution, or those of the cells of
    highest mean attribution. On the device a pixel is perturbed where this reaches the threshold of
    the step, so nothing is sorted there.
    """

    # the curves that are computed
    modes: tuple[str, ...]

    def __init__(
        self,
        model: Callable,
        inputs: tf.data.Dataset | tf.Tensor | np.ndarray,
        targets: tf.Tensor | np.ndarray | None = None,
        batch_size: int | str | None = 64,
        baseline_mode: Baseline = 0.0,
        steps: int = 10,
        max_percentage_perturbed: float = 1.0,
        operator: Any = None,
        activation: str | None = None,
        patch_size: int = 1,
        jit_compile: bool = False,
        strategy: tf.distribute.Strategy | None = None,
    ):
        scoring = ScoringOptions(
            batch_size, baseline_mode, operator, activation, jit_compile, strategy
        )
        self.causal = CausalOptions(steps, max_percentage_perturbed, patch_size)
        super().__init__(model, inputs, targets, scoring)
        self.cells = Cells(self.samples.shape, patch_size)
        self.nb_features, self.nb_cells = self.cells.nb_features, self.cells.nb_cells
        self.max_nb_perturbed = int(np.floor(self.nb_cells * max_percentage_perturbed))
        if self.max_nb_perturbed == 0:
            raise ValueError(
                f"`max_percentage_perturbed` is {max_percentage_perturbed}, which perturbs none of "
                f"{self.nb_cells} {self.cells.noun}; give at least {1 / self.nb_cells:g}."
            )
        # more steps than cells repeat some, as in Xplique for single features
        is_each = steps == -1 or (patch_size > 1 and steps > self.max_nb_perturbed)
        self.steps = self.max_nb_perturbed if is_each else steps
        self.nb_perturbed = np.linspace(0, self.max_nb_perturbed, self.steps + 1, dtype=np.int32)
        kept = np.unique(self.nb_perturbed)
        # the steps that depend on the explanation
        self._inner = kept[(kept > 0) & (kept < self.nb_cells)]
        self.nb_steps = len(self._inner)
        self._last_ends: tuple[Batch | None, np.ndarray] = None, np.empty((2, 0))

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that `parts` gives."""
        return tuple(dict.fromkeys((*self.modes, self.name)))

    @property
    def max_percentage_perturbed(self) -> float:
        """Share of the features, or of the cells, that is perturbed at the end."""
        return self.causal.max_percentage_perturbed

    @property
    def patch_size(self) -> int:
        """Side of the cells in pixels."""
        return self.causal.patch_size

    def options(self) -> dict[str, Any]:
        """What the metric was built with, but model and data."""
        return {**self.scorer.options.to_dict(), **asdict(self.causal)}

    def nb_rows(self, nb_maps: int, share: float) -> int:
        """Number of perturbed inputs of a sample with so many maps, for a share of the steps."""
        return nb_maps * len(self.modes) * round(share * self.nb_steps) + 2

    def detailed_evaluate(self, explanations: tf.Tensor | np.ndarray) -> dict[int, float]:
        """
        Mean curve over the images.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, ...), or what gives them, as
            `evaluate_per_image` takes it.

        Returns
        -------
        scores :
            Number of perturbed features, or of cells if `patch_size` is not 1, and the model's mean
            score there.
        """
        means: Any = np.mean(self.curves(explanations), axis=0, dtype=np.float64)
        return {step: np.float32(mean) for step, mean in zip(self.nb_perturbed, means)}

    def curves(self, explanations: tf.Tensor | np.ndarray) -> np.ndarray:
        """
        Curve of each explanation: the model's score after each perturbation step.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, H, W) or (N, H, W, C) for images, (N, T, W) for
            time series and (N, W) for tabular data; or a dataset of them or an explainer, as
            `evaluate_per_image` takes it. Channels are averaged.

        Returns
        -------
        curves :
            Scores, of shape (N, steps + 1). Column s is where `nb_perturbed[s]` features are
            perturbed, or cells if `patch_size` is not 1.

        Raises
        ------
        ValueError
            If the explanations are not as many or as large as the inputs, or hold NaN.
        """
        found = [
            self._curves(batch, part[np.newaxis])[0]
            for batch, part in self._explained_batches(explanations)
        ]
        return np.concatenate(found)

    def parts(self, batch: Batch, maps: np.ndarray, steps: Steps | None = None) -> Parts:
        """
        Areas under the curves of K maps of each sample; what the maps share is scored once.

        Parameters
        ----------
        batch
            B samples.
        maps
            Explanations of shape (K, B, ...).
        steps
            Steps between the ends to estimate the areas from, in all that is computed the same for
            the maps of a sample; None for all, and if they are counted otherwise.

        Returns
        -------
        parts :
            For each curve, and for the metric itself, scores and halves of shape (3, K, B).
        """
        if not self.takes(steps):
            steps = None
        inner, ends = self._scores(batch, maps, None if steps is None else steps.chosen)
        is_whole = self.max_nb_perturbed == self.nb_cells
        weights = np.ones(self.nb_steps)
        if not is_whole:
            # the last step stands at the end of the curve, with half the weight
            weights[-1] = 0.5
        if steps is not None:
            weights = weights[steps.chosen]
        areas = {}
        for mode in self.modes:
            start, end = ends[mode]
            outer = (start + end if is_whole else start) / 2
            areas[mode] = areas_under(inner[mode], outer, weights, self.nb_steps, is_whole)
        return {**areas, self.name: self._combined(areas)}

    def _combined(self, found: dict[str, np.ndarray]) -> np.ndarray:
        return found[self.name]

    def _curves(self, batch: Batch, maps: np.ndarray) -> np.ndarray:
        """Curves of the metric, of shape (K, B, steps + 1)."""
        inner, ends = self._scores(batch, maps)
        curves = {}
        for mode, scores in inner.items():
            start, end = ends[mode]
            curve = np.empty((*scores.shape[:2], len(self.nb_perturbed)), np.float32)
            places = np.searchsorted(self._inner, self.nb_perturbed)
            curve[...] = scores[..., np.minimum(places, self.nb_steps - 1)] if self.nb_steps else 0
            curve[..., self.nb_perturbed == 0] = start[:, np.newaxis]
            curve[..., self.nb_perturbed == self.nb_cells] = end[:, np.newaxis]
            curves[mode] = curve
        return self._combined(curves)

    def _scores(
        self, batch: Batch, maps: np.ndarray | tf.Tensor, chosen: np.ndarray | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """For each mode, scores at inner steps (K, B, s), and at its start and end (2, B)."""
        # sorted on the host; where the maps are on a GPU, their levels stay there
        flat = self.cells.means(self._flattened(np.asarray(maps)))
        images = batch.inputs.reshape(len(batch.inputs), self.nb_features, -1)
        baselines = self.scorer.baselines(batch).reshape(images.shape)
        images, baselines = tf.constant(images), tf.constant(baselines)
        levels, thresholds = levels_and_thresholds(flat, self._inner)
        check_no_nan(flat, batch.positions)
        levels = self.cells.on_pixels(levels)
        if levels is flat and tf.is_tensor(maps) and math.prod(maps.shape) == flat.size:
            levels = tf.reshape(maps, flat.shape)
        if chosen is not None:
            thresholds = np.take_along_axis(thresholds, chosen[np.newaxis], axis=-1)
        retrying = self.scorer.retrying
        scores = retrying(self._inner_scores, images, baselines, batch.targets, levels, thresholds)
        # of the inputs, and of their baselines: once for all maps of a batch
        if self._last_ends[0] is not batch:
            self._last_ends = batch, retrying(self._end_scores, images, baselines, batch.targets)
        ends = self._last_ends[1]
        order = {"deletion": ends, "insertion": ends[::-1]}
        return dict(zip(self.modes, scores)), {mode: order[mode] for mode in self.modes}

    def _flattened(self, maps: np.ndarray) -> np.ndarray:
        """Explanations of shape (K, B, ...) as (K, B, number of features)."""
        shape = maps.shape
        rank = len(self.samples.shape) + 1
        if maps.ndim - 1 == max(rank, 4):
            is_single = shape[-1] == 1 and maps.dtype.kind == "f"
            maps = maps[..., 0] if is_single else np.mean(maps, axis=-1)
        flat = maps.reshape(*maps.shape[:2], -1)
        if flat.shape[-1] != self.nb_features:
            raise ValueError(
                f"The explanations have shape {batch_shape(shape[2:])} and the inputs "
                f"{batch_shape(self.samples.shape)}; both must have the same height and width."
            )
        return flat

    def _end_scores(self, images, baselines, targets) -> np.ndarray:
        """Scores of the inputs and of their baselines, of shape (2, B)."""
        # with both modes nothing is perturbed: one starts at the input, the other at the baseline
        ends = [np.inf] if len(self.modes) == 2 else [np.inf, -np.inf]
        nb_samples, levels = len(targets), np.zeros((len(targets), 1, self.nb_features), np.float32)
        thresholds = np.tile(np.array(ends, np.float32), (nb_samples, 1, 1))
        nb_modes = len(self.modes)
        items = [
            Item(
                (nb_modes, levels[part].shape[0], len(ends)),
                targets[part],
                (images[part], baselines[part], levels[part], thresholds[part]),
            )
            for part in slices(nb_samples, max(1, self.scorer.nb_rows // 2))
        ]
        found = [
            np.moveaxis(scores, 1, -1).reshape(2, -1)
            for scores in self.scorer.predict(_PERTURB[self.modes], items)
        ]
        scores = np.concatenate(found, axis=1)
        return scores[::-1] if self.modes == ("insertion",) else scores

    def _inner_scores(self, images, baselines, targets, levels, thresholds) -> np.ndarray:
        """Scores at every step between the ends, of shape (modes, K, B, steps)."""
        nb_maps, nb_samples, nb_steps = thresholds.shape
        nb_modes = len(self.modes)
        scores = np.empty((nb_modes, nb_maps, nb_samples, nb_steps), np.float32)
        samples, maps, steps = fullest_batches(
            (nb_samples, nb_maps, nb_steps), self.scorer.nb_rows // nb_modes
        )

        def items() -> Iterator[Item]:
            for part in samples:
                # on the device once for all maps and steps
                fixed = [tf.constant(targets[part]), images[part], baselines[part]]
                for few in maps:
                    levels_part = tf.transpose(levels[few, part], (1, 0, 2))
                    for step in steps:
                        thresholds_part = np.swapaxes(thresholds[few, part, step], 0, 1)
                        yield Item(
                            (nb_modes, *thresholds_part.shape),
                            fixed[0],
                            (*fixed[1:], levels_part, thresholds_part),
                        )

        places = itertools.product(samples, maps, steps)
        for (part, few, step), found in zip(
            places, self.scorer.predict(_PERTURB[self.modes], items())
        ):
            scores[:, few, part, step] = np.swapaxes(found, 1, 2)
        return scores


class Deletion(CausalMetric):
    """
    Xplique's Deletion, image by image: the model's score while the most important pixels go.

    A sharp drop, a small area under the curve, speaks for the explanation: lower is better. Equal
    to `xplique.metrics.Deletion`, whose parameters it takes; ties in a map are ordered as there.
    New are `evaluate_per_image`, `curves`, `batch_size="auto"` (halved where memory is exhausted),
    any callable as a baseline, datasets that are read as a stream (memory follows the batch size),
    and `patch_size`, with which a map gains nothing by grouping pixels within a patch.

    Ref. Petsiuk & al., RISE: Randomized Input Sampling for Explanation of Black-box Models (2018),
    https://arxiv.org/abs/1806.07421; for patches Samek & al., Evaluating the Visualization of What
    a Deep Neural Network Has Learned (2017), https://arxiv.org/abs/1509.06321

    Parameters
    ----------
    model
        Model that is scored: a Keras model, or any callable that takes arrays.
    inputs
        Inputs of shape (N, H, W, C), (N, T, W) or (N, W), or a dataset of pairs
        (inputs, targets), batched or not, that gives the same order at each pass (no reshuffling).
    targets
        One-hot targets of shape (N, output_size), or what the operator takes. None for the class
        that the model predicts; a dataset brings its own, or is one of inputs alone.
    batch_size
        Number of perturbed inputs to evaluate at once; None for the number of inputs, "auto" to
        start at 256 and halve it where memory is exhausted.
    baseline_mode
        What stands for removed features: a number, an array that goes with the inputs, or a
        function of inputs (B, ...) that gives what replaces them, of the same shape: it gets all
        inputs of an array at once, as in Xplique, and each batch of a dataset.
        It is in the units of the inputs as the model gets them, after preprocessing: 0 is black for
        inputs in [0, 1], mid-grey for [-1, 1], the mean colour where the mean was subtracted.
    steps
        Number of steps between the start and the end; -1 for one step per feature.
    max_percentage_perturbed
        Share of the features that is perturbed at the end, in ]0, 1].
    operator
        Function g(model, inputs, targets) that gives the scores; default to model(inputs)[target].
        It is traced once into a graph if it can be, and called for each batch otherwise.
    activation
        "softmax" or "sigmoid" to put on the model's outputs, or None.
    patch_size
        Side in pixels of the square cells of images (N, H, W, C) that are ranked by their mean
        attribution and perturbed whole; 1 for single features, as in Xplique. With more,
        `steps`, `max_percentage_perturbed`, `nb_perturbed` and the keys of `detailed_evaluate`
        count cells, and there are at most as many steps as cells. The cells at the bottom and at
        the right are smaller where the side does not divide the size.
    jit_compile
        Compile the model's passes by XLA: once for each of a few sizes of batches. It may be faster
        or, on a processor above all, many times slower. The model's assertions are not checked.
    strategy
        A `tf.distribute.Strategy` whose replicas share each batch, such as `MirroredStrategy()`:
        load the model in its scope, or its weights are copied at each pass. Scores are those of
        one device, up to rounding. With `MultiWorkerMirroredStrategy` each process runs the same
        program on the same data.

    Raises
    ------
    ValueError
        If inputs and targets do not go together, an option is out of range, XLA cannot compile the
        model, or the processes of a strategy differ in their data.
    RuntimeError
        If a process of the strategy does not answer any more.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, masks = load_images(4)
    >>> model = load_classifier()
    >>> metric = Deletion(model, inputs, targets, activation="softmax")
    >>> metric.evaluate_per_image(masks).shape
    (4,)

    The images have 96 pixels: 12 x 12 cells of 8 pixels.

    >>> metric = Deletion(model, inputs, targets, activation="softmax", steps=4, patch_size=8)
    >>> [int(number) for number in metric.nb_perturbed]
    [0, 36, 72, 108, 144]
    """

    name = "deletion"
    modes = ("deletion",)
    higher_is_better = False


class Insertion(CausalMetric):
    """
    Xplique's Insertion, image by image: the model's score while the most important pixels come.

    A fast rise, a large area under the curve, speaks for the explanation: higher is better. Equal
    to `xplique.metrics.Insertion`; see `Deletion` for the parameters and for what is new.

    Ref. Petsiuk & al., RISE: Randomized Input Sampling for Explanation of Black-box Models (2018),
    https://arxiv.org/abs/1806.07421; for patches Samek & al., Evaluating the Visualization of What
    a Deep Neural Network Has Learned (2017), https://arxiv.org/abs/1509.06321

    Parameters
    ----------
    model
        As for `Deletion`, and so are the others.
    inputs
        Inputs or a dataset.
    targets
        One-hot targets of shape (N, output_size); None for the class that the model predicts.
    batch_size
        Number of perturbed inputs to evaluate at once, None, or "auto".
    baseline_mode
        What stands for features not inserted yet, in the units of the inputs as the model gets
        them, after preprocessing: 0 is black for inputs in [0, 1], mid-grey for [-1, 1], the mean
        colour where the mean was subtracted.
    steps
        Number of steps between the start and the end; -1 for one step per feature.
    max_percentage_perturbed
        Share of the features that is inserted at the end.
    operator
        Function g(model, inputs, targets) that gives the scores.
    activation
        "softmax", "sigmoid" or None.
    patch_size
        Side in pixels of the cells of images that are ranked by their mean attribution and
        perturbed whole; 1 for single features. With more, steps and shares count cells.
    jit_compile
        Compile the model's passes by XLA, see `Deletion`.
    strategy
        Replicas that share the passes, see `Deletion`.

    Raises
    ------
    ValueError
        As `Deletion` does.
    RuntimeError
        As `Deletion` does.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, masks = load_images(4)
    >>> metric = Insertion(load_classifier(), inputs, targets, activation="softmax", steps=5)
    >>> metric.curves(masks).shape
    (4, 6)
    """

    name = "insertion"
    modes = ("insertion",)
    higher_is_better = True


class Faithfulness(CausalMetric):
    """
    Insertion - Deletion in one pass: higher is better.

    Both curves come from the same perturbation masks, and the model's scores of the input and of
    the baseline, where both begin and end, are computed once.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591. (The preprint prints
    Deletion - Insertion: a slip, since the best explanations would then score lowest.) For patches
    Samek & al., Evaluating the Visualization of What a Deep Neural Network Has Learned (2017),
    https://arxiv.org/abs/1509.06321

    Parameters
    ----------
    model
        As for `Deletion`, and so are the others.
    inputs
        Inputs or a dataset.
    targets
        One-hot targets of shape (N, output_size); None for the class that the model predicts.
    batch_size
        Number of perturbed inputs to evaluate at once, None, or "auto".
    baseline_mode
        What stands for removed features, in the units of the inputs as the model gets them, after
        preprocessing: 0 is black for inputs in [0, 1], mid-grey for [-1, 1], the mean colour where
        the mean was subtracted.
    steps
        Number of steps between the start and the end; -1 for one step per feature.
    max_percentage_perturbed
        Share of the features that is perturbed at the end.
    operator
        Function g(model, inputs, targets) that gives the scores.
    activation
        "softmax", "sigmoid" or None.
    patch_size
        Side in pixels of the cells of images that are ranked by their mean attribution and
        perturbed whole; 1 for single features. With more, steps and shares count cells.
    jit_compile
        Compile the model's passes by XLA, see `Deletion`.
    strategy
        Replicas that share the passes, see `Deletion`.

    Raises
    ------
    ValueError
        As `Deletion` does.
    RuntimeError
        As `Deletion` does.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, masks = load_images(4)
    >>> metric = Faithfulness(load_classifier(), inputs, targets, activation="softmax")
    >>> bool(metric(masks) > metric(1 - masks))
    True
    """

    name = "faithfulness"
    modes = ("deletion", "insertion")
    higher_is_better = True

    def _combined(self, found: dict[str, np.ndarray]) -> np.ndarray:
        return found["insertion"] - found["deletion"]


def _perturbing(modes: tuple[str, ...]) -> Callable:
    def perturb(images, baselines, levels, thresholds):
        nb_images, nb_features, nb_channels = tf.unstack(tf.shape(images))
        shape = (nb_images, -1, nb_features * nb_channels)
        # channels side by side from the start: broadcasting along them takes twice as long
        levels = tf.repeat(levels, nb_channels, axis=-1)
        flipped = tf.reshape(levels[:, :, tf.newaxis] >= thresholds[..., tf.newaxis], shape)
        kept, gone = tf.reshape(images, shape), tf.reshape(baselines, shape)
        ends = {"deletion": (gone, kept), "insertion": (kept, gone)}
        return tf.stack([tf.where(flipped, *ends[mode]) for mode in modes])

    return perturb


_MODES = (("deletion",), ("insertion",), ("deletion", "insertion"))
_PERTURB: dict[tuple[str, ...], Callable] = {modes: _perturbing(modes) for modes in _MODES}
