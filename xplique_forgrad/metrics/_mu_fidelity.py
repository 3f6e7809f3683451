"""
MuFidelity whose masks and predictions serve every explanation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy.stats import rankdata

from .._checks import batch_shape
from .._models import weights_checksum
from .._samples import Batch
from ._metric import Parts, PerImageMetric, Steps, check_no_nan
from ._options import Baseline, MaskOptions, ScoringOptions
from ._scorer import Item
from ._steps import slices

# masks of a step, if there are enough, and steps at most
_MASKS_OF_A_STEP = 10
_MOST_STEPS = 10


class MuFidelity(PerImageMetric):
    """
    Xplique's MuFidelity, image by image, with seeded masks: how well do attributions rank drops?

    For random subsets of super-pixels, Spearman's correlation between the drop of the model's
    score when the subset is set to the baseline, and the sum of its attributions; higher is better.
    Neither masks nor predictions depend on the explanation: they are drawn and computed once, and
    every explanation asked about is scored on them, so comparisons are paired and nearly free.
    When the model's weights or its scores of the inputs have changed, they are computed again.

    Values agree with `xplique.metrics.MuFidelity` up to its random masks, and are the same on the
    same masks. Where an explanation or the drops are constant, the correlation is 0, as there.

    Ref. Bhatt & al., Evaluating and Aggregating Feature-based Model Explanations (2020),
    https://arxiv.org/abs/2005.00631 (def. 3).

    Parameters
    ----------
    model
        Model that is scored: a Keras model, or any callable that takes arrays.
    inputs
        Inputs of shape (N, H, W, C), (N, T, W) or (N, W), or a dataset of pairs
        (inputs, targets), batched or not.
    targets
        One-hot targets of shape (N, output_size), or what the operator takes. None for the class
        that the model predicts; a dataset brings its own, or is one of inputs alone.
    batch_size
        Number of perturbed inputs to evaluate at once; None for the number of inputs, "auto" to
        start at 256 and halve it where memory is exhausted.
    grid_size
        Number of super-pixels along each side; None for single pixels.
    subset_percent
        Probability that a super-pixel belongs to a subset, in ]0, 1[.
    baseline_mode
        What stands for removed features: a number, an array that goes with the inputs, or a
        function of inputs (B, ...), as for `Deletion`. (Xplique gives one inputs (B, 1, ...).) It
        is in the units of the inputs as the model gets them, after preprocessing: 0 is black for
        inputs in [0, 1], mid-grey for [-1, 1], the mean colour where the mean was subtracted.
    nb_samples
        Number of subsets per input, at least 2.
    operator
        Function g(model, inputs, targets) that gives the scores; default to model(inputs)[target].
    activation
        "softmax" or "sigmoid" to put on the model's outputs, or None.
    seed
        Seed of the masks; each input has masks of its own.
    jit_compile
        Compile the model's passes by XLA, see `Deletion`.
    strategy
        Replicas that share the passes, see `Deletion`.

    Raises
    ------
    ValueError
        If inputs and targets do not go together, or an option is out of range.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, masks = load_images(4)
    >>> metric = MuFidelity(load_classifier(), inputs, targets, nb_samples=50, seed=1)
    >>> metric.evaluate_per_image(masks).shape
    (4,)
    """

    name = "mu_fidelity"
    higher_is_better = True

    def __init__(
        self,
        model: Callable,
        inputs: tf.data.Dataset | tf.Tensor | np.ndarray,
        targets: tf.Tensor | np.ndarray | None = None,
        batch_size: int | str | None = 64,
        grid_size: int | None = 9,
        subset_percent: float = 0.2,
        baseline_mode: Baseline = 0.0,
        nb_samples: int = 200,
        operator: Any = None,
        activation: str | None = None,
        seed: int = 0,
        jit_compile: bool = False,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.masks = MaskOptions(grid_size, subset_percent, nb_samples, int(seed))
        scoring = ScoringOptions(
            batch_size, baseline_mode, operator, activation, jit_compile, strategy
        )
        super().__init__(model, inputs, targets, scoring)
        if len(self.samples.shape) > 3:
            raise ValueError(
                f"The inputs have shape {batch_shape(self.samples.shape)}; MuFidelity takes images "
                "(N, H, W, C), time series (N, T, W) and tabular data (N, W)."
            )
        self.grid_size = grid_size or self.samples.shape[0]
        self.subset_percent = subset_percent
        self.nb_samples = nb_samples
        self.nb_steps = int(np.clip(nb_samples // _MASKS_OF_A_STEP, 1, _MOST_STEPS))
        self.seed = int(seed) % (2**31 - 1)
        self._cells = self._super_pixels()
        self._nb_cells = int(self._cells.max()) + 1
        self._perturb = partial(_perturb, self._cells)
        self._cache: dict[int, _Predictions] = {}
        self._cached_weights: int | None = None
        self._last_base: tuple[Batch | None, np.ndarray] = None, np.empty(0)

    def options(self) -> dict[str, Any]:
        """What the metric was built with, but model and data."""
        return {**self.scorer.options.to_dict(), **asdict(self.masks)}

    def takes(self, steps: Steps | None) -> bool:
        """Masks may be shared out to any number of steps, if there are enough for each."""
        return steps is None or self.takes_total(steps.total)

    def takes_total(self, nb_steps: int) -> bool:
        """Whether there are masks for so many steps: correlations of few are nearer to 0."""
        return self.nb_samples // nb_steps >= _MASKS_OF_A_STEP

    def nb_rows(self, nb_maps: int, share: float) -> int:
        """Number of perturbed inputs of a sample with so many maps, for a share of the steps."""
        return round(share * self.nb_samples) + 1

    def evaluate_per_image(self, explanations: tf.Tensor | np.ndarray) -> np.ndarray:
        """
        Score of each explanation.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, H, W) or (N, H, W, C) for images, (N, T, W) for
            time series and (N, W) for tabular data. Channels are summed. Or a dataset of them,
            batched or not, in the order of the inputs; or an explainer, such as
            `FORGrad(Saliency(model))`, which explains each batch of inputs when it is scored.

        Returns
        -------
        scores :
            Correlations of shape (N,). NaN where the model gives NaN.

        Raises
        ------
        ValueError
            If the explanations are not as many or as large as the inputs, or hold NaN.
        """
        self.forget_if_changed()
        return super().evaluate_per_image(explanations)

    def forget_if_changed(self) -> None:
        """Forget the predictions if the model's weights have changed."""
        weights = weights_checksum(self.raw_model)
        if weights != self._cached_weights:
            self.forget()
        self._cached_weights = weights

    def forget(self) -> None:
        """Forget the predictions; they are computed again where they are asked for."""
        self._cache.clear()

    def subset_masks(self, positions: Sequence[int]) -> np.ndarray:
        """
        The masks of the inputs at `positions`, to feed to another implementation.

        Parameters
        ----------
        positions
            Positions of B inputs.

        Returns
        -------
        masks :
            1 where the input is kept and 0 where it is set to the baseline, as float32 of shape
            (B, nb_samples, H, W, 1) for images, (B, nb_samples, T, W) and (B, nb_samples, W).
        """
        kept = self._kept(np.asarray(positions))[..., self._cells].astype(np.float32)
        spatial = self.samples.shape[:2]
        shape = (*spatial, 1) if len(self.samples.shape) == 3 else spatial
        return kept.reshape(*kept.shape[:2], *shape)

    def parts(self, batch: Batch, maps: np.ndarray, steps: Steps | None = None) -> Parts:
        """
        Correlations of K maps of each sample, which share masks and predictions.

        Parameters
        ----------
        batch
            B samples.
        maps
            Explanations of shape (K, B, ...).
        steps
            Steps to estimate the correlations from, where a step is a share of the masks: the only
            ones whose predictions are computed. None for all.

        Returns
        -------
        parts :
            The scores and their halves, of shape (3, K, B). A correlation of few masks is a little
            nearer to 0 than that of all.
        """
        flat = self._flattened(np.asarray(maps))
        check_no_nan(flat, batch.positions)
        chosen = self._masks_of(len(batch.positions), steps)
        base, perturbed = self._predictions(batch, chosen)
        drops = base[:, np.newaxis] - perturbed
        sums = self._sums(flat, batch.positions, chosen)
        halves = (slice(None), slice(None, None, 2), slice(1, None, 2))
        found = [rank_correlation(drops[:, half], sums[..., half]) for half in halves]
        return {self.name: np.stack(found)}

    def _masks_of(self, nb_inputs: int, steps: Steps | None) -> np.ndarray:
        """Numbers of the masks to look at, of shape (B, number of masks)."""
        nb_masks = 0 if steps is None else self.nb_samples // steps.total
        if steps is None or not self.takes(steps):
            return np.tile(np.arange(self.nb_samples), (nb_inputs, 1))
        # every total-th one: masks are drawn alike
        places = steps.chosen[..., np.newaxis] + steps.total * np.arange(nb_masks)
        return np.sort(places.reshape(nb_inputs, -1), axis=-1)

    def _sums(self, flat: np.ndarray, positions: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Sums of attributions over the dropped super-pixels, of shape (K, B, masks)."""
        # pixels side by side by super-pixel, each summed at once
        order = np.argsort(self._cells, kind="stable")
        starts = np.searchsorted(self._cells[order], np.arange(self._nb_cells))
        cells = np.add.reduceat(flat[..., order], starts, axis=-1, dtype=np.float64)
        sums = np.empty((*flat.shape[:2], chosen.shape[1]))
        for part in slices(len(positions), max(1, 2**23 // (self.nb_samples * self._nb_cells))):
            kept = np.take_along_axis(
                self._kept(positions[part]), chosen[part][..., np.newaxis], axis=1
            )
            dropped = np.swapaxes(~kept, 1, 2).astype(np.float64)
            sums[:, part] = np.swapaxes(np.swapaxes(cells[:, part], 0, 1) @ dropped, 0, 1)
        return sums

    def _super_pixels(self) -> np.ndarray:
        """The super-pixel of each pixel, as the nearest-neighbour resize of Xplique has them."""
        shape = self.samples.shape
        if len(shape) == 1:
            return np.arange(shape[0])
        rows, columns = self.grid_size, self.grid_size if len(shape) == 3 else shape[1]
        grid = tf.reshape(tf.range(rows * columns), (1, rows, columns, 1))
        resized = tf.image.resize(grid, shape[:2], method="nearest").numpy().ravel()
        # a grid finer than the image leaves super-pixels without a pixel
        return np.unique(resized, return_inverse=True)[1]

    def _kept(self, positions: np.ndarray) -> np.ndarray:
        """Which super-pixels each subset leaves, of shape (B, nb_samples, cells)."""
        numbers = map(tf.constant, (self.nb_samples, self._nb_cells, self.seed))
        draw = _uniform(*numbers, tf.constant(positions))
        return draw.numpy() > self.subset_percent

    def _flattened(self, maps: np.ndarray) -> np.ndarray:
        """Explanations of shape (K, B, ...) as (K, B, number of pixels)."""
        shape, spatial = self.samples.shape, self.samples.shape[:2]
        values = maps
        if len(shape) == 3 and maps.ndim == 5:
            values = maps.sum(axis=-1, dtype=np.float64) if maps.shape[-1] > 1 else maps[..., 0]
        elif len(shape) == 2 and maps.ndim == 3:
            values = np.broadcast_to(maps[..., np.newaxis], (*maps.shape, shape[1]))
        if values.shape[2:] != spatial:
            raise ValueError(
                f"The explanations have shape {batch_shape(maps.shape[2:])} and the inputs "
                f"{batch_shape(shape)}; both must have the same height and width."
            )
        return values.reshape(*values.shape[:2], -1)

    def _predictions(self, batch: Batch, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the inputs (B,), and of those perturbed by the chosen masks (B, masks)."""
        images = tf.constant(batch.inputs.reshape(len(batch.inputs), len(self._cells), -1))
        # once for all maps of a batch
        if self._last_base[0] is not batch:
            self._last_base = batch, self.scorer.retrying(self._base_scores, images, batch.targets)
        base = self._last_base[1]
        cached = [self._cached(int(p), score) for p, score in zip(batch.positions, base)]
        missing = np.stack(
            [np.isin(masks, one.masks, invert=True) for one, masks in zip(cached, chosen)]
        )
        wanted = np.flatnonzero(missing.any(axis=1))
        if len(wanted):
            part = Batch(*(values[wanted] for values in batch))
            baselines = self.scorer.baselines(part).reshape(len(wanted), len(self._cells), -1)
            # of a sample that lacks one mask, all that are asked for
            perturbed = self.scorer.retrying(
                self._perturbed_scores,
                tf.gather(images, wanted),
                tf.constant(baselines),
                part.targets,
                part.positions,
                chosen[wanted],
            )
            for index, scores in zip(wanted, perturbed):
                cached[index] = cached[index].extended(chosen[index], scores)
                self._cache[int(batch.positions[index])] = cached[index]
        found = [one.scores[np.searchsorted(one.masks, m)] for one, m in zip(cached, chosen)]
        return np.array([one.base for one in cached]), np.stack(found)

    def _cached(self, position: int, base: float) -> _Predictions:
        """What is known of a sample, unless the model scores it otherwise by now."""
        found = self._cache.get(position)
        if found is None or not np.isclose(found.base, base, 1e-5, 1e-7):
            return _Predictions(base, np.empty(0, int), np.empty(0, np.float32))
        return found

    def _base_scores(self, images, targets) -> np.ndarray:
        items = [
            Item((len(targets[part]),), targets[part], (images[part],))
            for part in slices(len(targets), self.scorer.nb_rows)
        ]
        return np.concatenate(list(self.scorer.predict(_as_they_are, items)))

    def _perturbed_scores(self, images, baselines, targets, positions, chosen) -> np.ndarray:
        nb_masks, nb_rows = chosen.shape[1], self.scorer.nb_rows
        scores = np.empty(chosen.shape, np.float32)
        several = slices(len(targets), max(1, nb_rows // nb_masks)), slices(nb_masks, nb_rows)

        def items() -> Iterator[Item]:
            for part in several[0]:
                kept = np.take_along_axis(
                    self._kept(positions[part]), chosen[part][..., np.newaxis], axis=1
                )
                for few in several[1]:
                    tensors = images[part], baselines[part], kept[:, few]
                    yield Item(kept[:, few].shape[:2], targets[part], tensors)

        found = self.scorer.predict(self._perturb, items())
        for (part, few), part_scores in zip(itertools.product(*several), found):
            scores[part, few] = part_scores
        return scores


class _Predictions(NamedTuple):
    """Scores of a sample, and of it perturbed by some masks, in the order of their numbers."""

    base: float
    masks: np.ndarray
    scores: np.ndarray

    def extended(self, masks: np.ndarray, scores: np.ndarray) -> _Predictions:
        numbers, first = np.unique(np.concatenate([self.masks, masks]), return_index=True)
        scores = np.concatenate([self.scores, scores])[first]
        # half the size, which counts for many images
        return _Predictions(self.base, numbers.astype(np.int32), scores)


def rank_correlation(drops: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """
    Spearman's correlations of drops (B, P) and sums (K, B, P), of shape (K, B).

    0 where one of them is constant, and NaN where it is NaN.
    """
    correlations = np.zeros(sums.shape[:2])
    first, second = rankdata(drops, axis=-1), rankdata(sums, axis=-1)
    first -= first.mean(axis=-1, keepdims=True)
    second -= second.mean(axis=-1, keepdims=True)
    norms = np.sqrt(np.sum(first**2, axis=-1) * np.sum(second**2, axis=-1))
    np.divide(np.sum(first * second, axis=-1), norms, out=correlations, where=norms != 0)
    return np.where(np.isnan(norms), np.nan, correlations)


@tf.function(reduce_retracing=True)
def _uniform(nb_samples, nb_cells, seed, positions):
    def draw(position):
        return tf.random.stateless_uniform((nb_samples, nb_cells), seed=(seed, position))

    return tf.map_fn(draw, tf.cast(positions, tf.int32), fn_output_signature=tf.float32)


def _as_they_are(images):
    return images[tf.newaxis, :, tf.newaxis]


def _perturb(cells, images, baselines, kept):
    nb_images, nb_pixels, nb_channels = tf.unstack(tf.shape(images))
    flipped = tf.repeat(tf.gather(kept, cells, axis=-1), nb_channels, axis=-1)
    shape = (nb_images, 1, nb_pixels * nb_channels)
    return tf.where(flipped, tf.reshape(images, shape), tf.reshape(baselines, shape))[tf.newaxis]
