"""
MuFidelity whose masks and predictions serve every explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import xplique.metrics
from scipy.stats import rankdata

from .._checks import check_seed
from .._samples import weights_checksum
from .base import PerImageMetric, check_no_nan, checked_baseline
from .curves import slices


class MuFidelity(PerImageMetric, xplique.metrics.MuFidelity):
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
        One-hot targets of shape (N, output_size), or what the operator takes.
    batch_size
        Number of perturbed inputs to evaluate at once; None for the number of inputs, "auto" to
        start at 256 and halve it where memory is exhausted.
    grid_size
        Number of super-pixels along each side; None for single pixels.
    subset_percent
        Probability that a super-pixel belongs to a subset, in ]0, 1[.
    baseline_mode
        What stands for removed features: a number, an array that goes with the inputs, or a
        function that, as in Xplique, gets a tensor of inputs of shape (B, 1, ...).
    nb_samples
        Number of subsets per input, at least 2.
    operator
        Function g(model, inputs, targets) that gives the scores; default to model(inputs)[target].
    activation
        "softmax" or "sigmoid" to put on the model's outputs, or None.
    seed
        Seed of the masks; each input has masks of its own.

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

    higher_is_better = True

    def __init__(
        self,
        model: Callable,
        inputs: tf.data.Dataset | tf.Tensor | np.ndarray,
        targets: tf.Tensor | np.ndarray | None = None,
        batch_size: int | str | None = 64,
        grid_size: int | None = 9,
        subset_percent: float = 0.2,
        baseline_mode: float | Callable = 0.0,
        nb_samples: int = 200,
        operator: Any = None,
        activation: str | None = None,
        seed: int = 0,
    ):
        if not 0 < subset_percent < 1:
            raise ValueError(f"`subset_percent` is {subset_percent}; it must be in ]0, 1[.")
        if nb_samples < 2:
            raise ValueError(f"`nb_samples` is {nb_samples}; a correlation takes at least 2.")
        check_seed(seed)
        if grid_size is not None and grid_size < 1:
            raise ValueError(f"`grid_size` is {grid_size}; give at least 1, or None for pixels.")
        probe = self._prepare(inputs, targets, model, batch_size, operator, activation)
        rank = probe[0].ndim
        if rank > 4:
            raise ValueError(
                f"The inputs have shape {('N', *self.samples.shape)}; MuFidelity takes images "
                "(N, H, W, C), time series (N, T, W) and tabular data (N, W)."
            )
        # past the constructor of Xplique's MuFidelity, which scores the model as it is then
        super(xplique.metrics.MuFidelity, self).__init__(
            model=model,
            inputs=probe[0],
            targets=probe[1],
            batch_size=None,
            operator=operator,
            activation=activation,
        )
        self.grid_size = grid_size or probe[0].shape[1]
        self.subset_percent = subset_percent
        self.baseline_mode = baseline_mode
        self.nb_samples = nb_samples
        self.seed = int(seed) % (2**31 - 1)
        self._raw_model = model
        self._keep(batch_size)
        self._cells = self._super_pixels()
        self._nb_cells = int(self._cells.max()) + 1
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._cached_weights: int | None = None

    def evaluate_per_image(self, explanations: tf.Tensor | np.ndarray) -> np.ndarray:
        """
        Score of each explanation.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, H, W) or (N, H, W, C) for images, (N, T, W) for
            time series and (N, W) for tabular data. Channels are summed.

        Returns
        -------
        scores
            Correlations of shape (N,). NaN where the model gives NaN.

        Raises
        ------
        ValueError
            If the explanations are not as many or as large as the inputs, or hold NaN.
        """
        self.forget_if_changed()
        found = []
        for positions, inputs, targets, part in self._explained_batches(explanations):
            drops, sums = self.batch_terms(positions, inputs, targets, part[np.newaxis])
            found.append(rank_correlation(drops, sums)[0])
        return np.concatenate(found)

    def forget_if_changed(self) -> None:
        """Forget the predictions if the model's weights have changed."""
        weights = weights_checksum(self._raw_model)
        if weights != self._cached_weights:
            self._cache.clear()
        self._cached_weights = weights

    def subset_masks(self, positions: Sequence[int]) -> np.ndarray:
        """
        The masks of the inputs at `positions`, to feed to another implementation.

        Parameters
        ----------
        positions
            Positions of B inputs.

        Returns
        -------
        masks
            1 where the input is kept and 0 where it is set to the baseline, as float32 of shape
            (B, nb_samples, H, W, 1) for images, (B, nb_samples, T, W) and (B, nb_samples, W).
        """
        kept = self._kept(np.asarray(positions))[..., self._cells].astype(np.float32)
        spatial = self.samples.shape[:2]
        shape = (*spatial, 1) if len(self.samples.shape) == 3 else spatial
        return kept.reshape(*kept.shape[:2], *shape)

    def batch_terms(
        self, positions: np.ndarray, inputs: np.ndarray, targets: np.ndarray, maps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        What is correlated, for several explanations of each sample of a batch.

        Parameters
        ----------
        positions
            Positions of the B samples in the data.
        inputs
            Inputs of shape (B, ...).
        targets
            Targets of shape (B, ...).
        maps
            K explanations of each input, of shape (K, B, ...).

        Returns
        -------
        drops
            Drops of the score, of shape (B, nb_samples).
        sums
            Sums of attributions, of shape (K, B, nb_samples).
        """
        flat = self._flattened(maps)
        check_no_nan(flat, positions)
        base, perturbed = self._predictions(positions, inputs, targets)
        # pixels side by side by super-pixel, each summed at once
        order = np.argsort(self._cells, kind="stable")
        starts = np.searchsorted(self._cells[order], np.arange(self._nb_cells))
        cells = np.add.reduceat(flat[..., order], starts, axis=-1, dtype=np.float64)
        sums = np.empty((*flat.shape[:2], self.nb_samples))
        for part in slices(len(positions), max(1, 2**23 // (self.nb_samples * self._nb_cells))):
            dropped = ~self._kept(positions[part])
            sums[:, part] = np.swapaxes(
                np.swapaxes(cells[:, part], 0, 1) @ np.swapaxes(dropped, 1, 2).astype(np.float64),
                0,
                1,
            )
        return base[:, np.newaxis] - perturbed, sums

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
                f"The explanations have shape {('N', *maps.shape[2:])} and the inputs "
                f"{('N', *shape)}; both must have the same height and width."
            )
        return values.reshape(*values.shape[:2], -1)

    def _predictions(self, positions, inputs, targets) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the inputs, of shape (B,), and of all perturbed inputs, (B, nb_samples)."""
        images = tf.constant(inputs.reshape(len(inputs), len(self._cells), -1))
        base = self._retrying(self._base_scores, images, targets)
        known = [self._cache.get(int(position)) for position in positions]
        changed = np.array(
            [
                found is None or not np.isclose(found[0], b, 1e-5, 1e-7)
                for found, b in zip(known, base)
            ]
        )
        if changed.any():
            images, targets = images[changed], targets[changed]
            part = positions[changed]
            baselines = self._batch_baselines(part, inputs[changed])
            perturbed = self._retrying(self._perturbed_scores, images, baselines, targets, part)
            for position, score, scores in zip(positions[changed], base[changed], perturbed):
                self._cache[int(position)] = score, scores
        found = [self._cache[int(position)] for position in positions]
        return np.stack([pair[0] for pair in found]), np.stack([pair[1] for pair in found])

    def _batch_baselines(self, positions: np.ndarray, inputs: np.ndarray) -> tf.Tensor:
        value: Any = self.baseline_mode
        if callable(value):
            value = np.asarray(value(tf.constant(inputs[:, np.newaxis])))
            value = value[:, 0] if value.ndim == inputs.ndim + 1 else value
        elif np.ndim(value) == inputs.ndim and len(value) == len(self.samples):
            value = np.asarray(value)[positions]
        value = checked_baseline(value, inputs.shape)
        return tf.constant(value.reshape(len(inputs), len(self._cells), -1))

    def probe_baseline(self) -> np.ndarray:
        """What stands for the first input, of shape (1, ...)."""
        inputs = self.samples.probe[0]
        return self._batch_baselines(np.arange(1), inputs).numpy().reshape(inputs.shape)

    def _base_scores(self, images, targets) -> np.ndarray:
        found = [
            self._predict(_as_they_are, targets[part], images[part])
            for part in slices(len(targets), self._nb_rows)
        ]
        return np.concatenate([scores.reshape(-1) for scores in found])

    def _perturbed_scores(self, images, baselines, targets, positions) -> np.ndarray:
        scores = np.empty((len(positions), self.nb_samples), np.float32)
        subsets = slices(self.nb_samples, self._nb_rows)
        cells = tf.constant(self._cells)
        for part in slices(len(targets), max(1, self._nb_rows // self.nb_samples)):
            kept = self._kept(positions[part])
            for few in subsets:
                found = self._predict(
                    _perturb, targets[part], images[part], baselines[part], kept[:, few], cells
                )
                scores[part, few] = found[0]
        return scores


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


def _perturb(images, baselines, kept, cells):
    nb_images, nb_pixels, nb_channels = tf.unstack(tf.shape(images))
    flipped = tf.repeat(tf.gather(kept, cells, axis=-1), nb_channels, axis=-1)
    shape = (nb_images, 1, nb_pixels * nb_channels)
    return tf.where(flipped, tf.reshape(images, shape), tf.reshape(baselines, shape))[tf.newaxis]
