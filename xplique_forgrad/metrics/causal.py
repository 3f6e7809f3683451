"""
What Deletion, Insertion and Faithfulness share: scores of gradually perturbed inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from xplique.metrics.fidelity import CausalFidelity

from .base import PerImageMetric, check_no_nan, checked_baseline
from .curves import area_under, levels_and_thresholds, slices


class CausalMetric(PerImageMetric, CausalFidelity):
    """
    What Deletion, Insertion and Faithfulness share: scores of inputs, gradually perturbed.

    The pixels that are perturbed first are those of highest attribution. On the device a pixel is
    perturbed where its attribution reaches the threshold of the step, so nothing is sorted there.
    """

    modes: tuple[str, ...]

    def __init__(
        self,
        model: Callable,
        inputs: tf.data.Dataset | tf.Tensor | np.ndarray,
        targets: tf.Tensor | np.ndarray | None = None,
        batch_size: int | str | None = 64,
        baseline_mode: float | Callable = 0.0,
        steps: int = 10,
        max_percentage_perturbed: float = 1.0,
        operator: Any = None,
        activation: str | None = None,
    ):
        if not 0 < max_percentage_perturbed <= 1:
            raise ValueError(
                f"`max_percentage_perturbed` is {max_percentage_perturbed}; it must be in ]0, 1]."
            )
        if steps != -1 and steps < 1:
            raise ValueError(f"`steps` is {steps}; give at least 1, or -1 for one per feature.")
        probe = self._prepare(inputs, targets, model, batch_size, operator, activation)
        super().__init__(
            model=model,
            inputs=probe[0],
            targets=probe[1],
            batch_size=None,
            baseline_mode=baseline_mode,
            steps=steps,
            max_percentage_perturbed=max_percentage_perturbed,
            operator=operator,
            activation=activation,
        )
        if self.max_nb_perturbed == 0:
            raise ValueError(
                f"`max_percentage_perturbed` is {max_percentage_perturbed}, which perturbs none of "
                f"{self.nb_features} features; give at least {1 / self.nb_features:g}."
            )
        del self.inputs_flatten
        self._keep(batch_size)
        self._all_baselines: np.ndarray | None = None
        self.nb_perturbed = np.linspace(0, self.max_nb_perturbed, self.steps + 1, dtype=np.int32)

    def evaluate_per_image(self, explanations: tf.Tensor | np.ndarray) -> np.ndarray:
        """
        Score of each explanation.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, ...).

        Returns
        -------
        scores
            Area under each curve by the trapezoidal rule, of shape (N,). NaN where the model gives
            NaN.
        """
        return area_under(self.curves(explanations), self.nb_perturbed)

    def detailed_evaluate(self, explanations: tf.Tensor | np.ndarray) -> dict[int, float]:
        """
        Mean curve over the images.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, ...).

        Returns
        -------
        scores
            Number of perturbed features, and mean score of the model there.
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
            time series and (N, W) for tabular data. Channels are averaged.

        Returns
        -------
        curves
            Scores, of shape (N, steps + 1). Column s is where `nb_perturbed[s]` features are
            perturbed.

        Raises
        ------
        ValueError
            If the explanations are not as many or as large as the inputs, or hold NaN.
        """
        found = [
            self._combined(self.batch_curves(positions, inputs, targets, part[np.newaxis]))[0]
            for positions, inputs, targets, part in self._explained_batches(explanations)
        ]
        return np.concatenate(found)

    def _combined(self, curves: dict[str, np.ndarray]) -> np.ndarray:
        return curves[self.causal_mode]

    def batch_curves(
        self, positions: np.ndarray, inputs: np.ndarray, targets: np.ndarray, maps: np.ndarray
    ) -> dict[str, np.ndarray]:
        """
        Curves of several explanations of each sample of a batch; what they share is scored once.

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
        curves
            For each mode, "deletion" or "insertion", the curves of shape (K, B, steps + 1).
        """
        flat = self._flattened(maps)
        images = inputs.reshape(len(inputs), self.nb_features, -1)
        baselines = self._batch_baselines(positions, inputs).reshape(images.shape)
        images, baselines = tf.constant(images), tf.constant(baselines)

        kept = np.unique(self.nb_perturbed)
        inner = kept[(kept > 0) & (kept < self.nb_features)]
        levels, thresholds = levels_and_thresholds(flat, inner)
        check_no_nan(flat, positions)
        inner_scores = self._retrying(
            self._inner_scores, images, baselines, targets, levels, thresholds
        )
        ends = self._retrying(self._end_scores, images, baselines, targets)

        curves = {}
        for mode, scores in zip(self.modes, inner_scores):
            start, end = ends if mode == "deletion" else ends[::-1]
            columns = np.empty((*flat.shape[:2], len(kept)), np.float32)
            columns[..., np.isin(kept, inner)] = scores
            columns[..., kept == 0] = start[:, np.newaxis]
            columns[..., kept == self.nb_features] = end[:, np.newaxis]
            curves[mode] = columns[..., np.searchsorted(kept, self.nb_perturbed)]
        return curves

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
                f"The explanations have shape {('N', *shape[2:])} and the inputs "
                f"{('N', *self.samples.shape)}; both must have the same height and width."
            )
        return flat

    def _batch_baselines(self, positions: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """What stands for perturbed inputs; a function is given all inputs of an array at once."""
        if self.samples.dataset is None:
            if self._all_baselines is None:
                everything = self.samples.inputs
                value = self.baseline_mode
                if callable(value):
                    value = value(everything.astype(np.float32, copy=False))
                self._all_baselines = checked_baseline(value, everything.shape)
            return self._all_baselines[positions]
        value = self.baseline_mode(inputs) if callable(self.baseline_mode) else self.baseline_mode
        if np.ndim(value) == inputs.ndim and not callable(self.baseline_mode):
            value = np.asarray(value)[positions if len(value) > 1 else 0]
        return checked_baseline(value, inputs.shape)

    def probe_baseline(self) -> np.ndarray:
        """What stands for the first input, of shape (1, ...)."""
        return self._batch_baselines(np.arange(1), self.samples.probe[0])

    def _end_scores(self, images, baselines, targets) -> list[np.ndarray]:
        """Scores of the inputs and of their baselines, each of shape (B,)."""
        # with both modes nothing is perturbed: one starts at the input, the other at the baseline
        ends = [np.inf] if len(self.modes) == 2 else [np.inf, -np.inf]
        perturb, size, found = _PERTURB[self.modes], max(1, self._nb_rows // 2), []
        for part in slices(len(targets), size):
            nb_samples = len(targets[part])
            levels = np.zeros((nb_samples, 1, self.nb_features), np.float32)
            thresholds = np.tile(np.array(ends, np.float32), (nb_samples, 1, 1))
            arguments = images[part], baselines[part], levels, thresholds
            scores = self._predict(perturb, targets[part], *arguments)
            found.append(np.moveaxis(scores, 1, -1).reshape(2, -1))
        inputs, removed = np.concatenate(found, axis=1)
        return [removed, inputs] if self.modes == ("insertion",) else [inputs, removed]

    def _inner_scores(self, images, baselines, targets, levels, thresholds) -> np.ndarray:
        """Scores at every step between the ends, of shape (modes, K, B, steps)."""
        nb_maps, nb_samples, nb_steps = thresholds.shape
        scores = np.empty((len(self.modes), nb_maps, nb_samples, nb_steps), np.float32)
        perturb = _PERTURB[self.modes]
        rows = max(1, self._nb_rows // len(self.modes))
        steps = slices(nb_steps, rows)
        rows //= max(1, -(-nb_steps // max(1, len(steps))))
        maps = slices(nb_maps, rows)
        rows //= max(1, -(-nb_maps // len(maps)))
        for part in slices(nb_samples, rows):
            for few in maps:
                levels_part = tf.constant(np.swapaxes(levels[few, part], 0, 1))
                for step in steps:
                    thresholds_part = np.swapaxes(thresholds[few, part, step], 0, 1)
                    found = self._predict(
                        perturb,
                        targets[part],
                        images[part],
                        baselines[part],
                        levels_part,
                        thresholds_part,
                    )
                    found = found.reshape(len(self.modes), *thresholds_part.shape)
                    scores[:, few, part, step] = np.swapaxes(found, 1, 2)
        return scores


def _perturbing(modes: tuple[str, ...]) -> Callable:
    def perturb(images, baselines, levels, thresholds):
        nb_images, nb_features, nb_channels = tf.unstack(tf.shape(images))
        shape = (nb_images, -1, nb_features * nb_channels)
        # channels side by side from the start: broadcasting along them takes twice as long
        levels = tf.repeat(levels, nb_channels, axis=-1)
        flipped = levels[:, :, tf.newaxis] >= thresholds[..., tf.newaxis]
        flipped = tf.reshape(flipped, shape)
        shown = tf.stack([flipped if mode == "insertion" else ~flipped for mode in modes])
        return tf.where(shown, tf.reshape(images, shape), tf.reshape(baselines, shape))

    return perturb


_MODES = (("deletion",), ("insertion",), ("deletion", "insertion"))
_PERTURB: dict[tuple[str, ...], Callable] = {modes: _perturbing(modes) for modes in _MODES}
