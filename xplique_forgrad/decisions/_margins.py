"""
The margin of a decision, its gradient, the parts of a gradient in bands, and random directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from .._checks import check_count
from .._gradients import (
    Inputs,
    Scorer,
    Targets,
    as_graph,
    batch_specs,
    check_are_images,
    check_finite_inputs,
    differentiable_samples,
    score_and_gradient,
)
from .._samples import Batch, Samples
from ..filtering import forgrad_sweep, full_band_sigma

# a part of a gradient that is this small, by its norm, is rounding
_ROUNDING = 1e-6


class Decision(NamedTuple):
    """Samples of a classifier, its margin (B,) for any batch, and that with its gradient."""

    samples: Samples
    margin: Scorer
    margin_and_gradient: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

    @property
    def full_band(self) -> float:
        """The cutoff that keeps all frequencies of the inputs."""
        return full_band_sigma(self.samples.shape[:2])

    def batches(self, size: int) -> Iterator[tuple[Batch, tf.Tensor, tf.Tensor]]:
        """Checked batches, with the margins of their inputs and the gradients of these."""
        for batch in self.samples.batches(size):
            check_finite_inputs(batch.inputs, batch.positions)
            _check_classes(batch.targets, batch.positions)
            given = tf.constant(batch.inputs), tf.constant(batch.targets)
            margins, gradients = self.margin_and_gradient(*given)
            _check_gradients(gradients, batch.positions)
            yield batch, margins, gradients


def make_decision(model: keras.Model, inputs: Inputs, targets: Targets, **counts: Any) -> Decision:
    """
    Check a classifier of images and its samples.

    Raises
    ------
    ValueError
        If the inputs are no images, there is one class, or a count is below 1.
    TypeError
        If the model is not one of Keras.
    """
    samples = differentiable_samples(model, inputs, targets)
    check_are_images(samples)
    if samples.probe[1].shape[-1] < 2:
        raise ValueError(
            "The model has one output; a margin is between two classes or more. Give it a second "
            "output of 0: keras.ops.concatenate([0 * output, output], axis=-1)."
        )
    for name, value in counts.items():
        check_count(name, value)

    def margin(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(model(inputs, training=False), tf.float32)
        own = tf.reduce_sum(outputs * targets, axis=-1)
        others = tf.where(targets > 0, -np.inf, outputs)
        return own - tf.reduce_max(others, axis=-1)

    specs = batch_specs(samples)
    both = as_graph(partial(score_and_gradient, margin), specs)
    return Decision(samples, as_graph(margin, specs), both)


def _check_classes(targets: np.ndarray, positions: np.ndarray) -> None:
    """Raise a ValueError unless each target is one-hot."""
    are_one_hot = np.isin(targets, (0, 1)).all(axis=-1) & (targets.sum(axis=-1) == 1)
    if not are_one_hot.all():
        raise ValueError(
            f"The target of image {positions[int(np.argmin(are_one_hot))]} is not one-hot; a "
            "margin is that of one class over the others."
        )


def _check_gradients(gradients: Any, positions: np.ndarray) -> None:
    """Raise a ValueError unless there is a gradient, of finite numbers that are not all 0."""
    if gradients is None:
        raise ValueError(
            "The margin has no gradient with respect to the inputs; the model cuts it, as "
            "tf.argmax and tf.stop_gradient do."
        )
    sizes = np.abs(gradients).max(axis=(1, 2, 3))
    good = np.isfinite(sizes) & (sizes > 0)
    if not good.all():
        index = int(np.argmin(good))
        what = "is 0 everywhere" if sizes[index] == 0 else "holds NaN or infinite values"
        raise ValueError(
            f"The gradient of the margin of image {positions[index]} {what}. Look at the model's "
            "outputs for that image, or drop it."
        )


def check_margins(margins: Any, positions: np.ndarray) -> None:
    """Raise a ValueError unless the margins of inputs that moved, (..., B), are finite."""
    is_finite = np.isfinite(margins)
    if not is_finite.all():
        raise ValueError(
            "The model gives NaN or infinite outputs near image "
            f"{positions[int(np.argwhere(~is_finite)[0][-1])]}. Give smaller norms, or drop the "
            "image."
        )


def checked_norms(norms: npt.ArrayLike | tf.Tensor, name: str = "norms") -> np.ndarray:
    """L2 norms above 0, increasing, of shape (R,)."""
    example = "a number, such as 2.0" if name == "norm" else "numbers, such as [0.5, 2.0]"
    values = np.atleast_1d(np.asarray(norms))
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise TypeError(f"`{name}` is {norms!r}; give {example}.")
    values = values.astype(np.float64)
    if values.ndim != 1 or not len(values) or not np.all((values > 0) & np.isfinite(values)):
        raise ValueError(
            f"`{name}` is {norms!r}; give {example}: finite L2 norms above 0 over the whole input, "
            "in its units."
        )
    return np.unique(values)


def make_parts(
    shape: tuple[int, ...], cutoffs: np.ndarray, ends: np.ndarray
) -> Callable[[tf.Tensor], tf.Tensor]:
    """
    A function that splits gradients (B, H, W, C) into bands: (K, B, H, W, C), in float64.

    Parameters
    ----------
    shape
        Shape (H, W, C) of a gradient.
    cutoffs
        Ends of the bands, of shape (S,), increasing.
    ends
        Places among 0 and the cutoffs of the lower (not included, but for 0) and upper end of each
        band, of shape (K, 2).
    """

    def split(gradients: tf.Tensor) -> tf.Tensor:
        maps = tf.cast(gradients, tf.float64)
        kept = forgrad_sweep(maps, cutoffs, rectify=None)
        kept = tf.concat([tf.zeros_like(kept[:1]), kept], axis=0)
        return tf.gather(kept, ends[:, 1]) - tf.gather(kept, ends[:, 0])

    return as_graph(split, [tf.TensorSpec([None, *shape], tf.float32)])


def unit(parts: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
    """Parts (..., H, W, C) of L2 norm 1; 0 where they are rounding beside the whole."""
    axes = [-3, -2, -1]
    norms, total = (tf.sqrt(tf.reduce_sum(x * x, axes, keepdims=True)) for x in (parts, whole))
    return tf.where(norms > _ROUNDING * total, parts / tf.maximum(norms, 1e-300), 0.0)


def random_directions(
    positions: np.ndarray, directions: np.ndarray, nb_random: int, seed: int
) -> list[np.ndarray]:
    """
    Random directions (K, B, H, W, C) with the spectra and norms of given ones.

    All channels of a direction turn by the same random phases, so that its colours stay what they
    are. Those of a sample depend on the seed and its position alone.
    """
    sizes = directions.shape[2:4]
    spectra = np.fft.rfft2(directions, axes=(2, 3))
    found = []
    for number in range(int(nb_random)):
        noise = np.stack(
            [
                np.random.default_rng([seed, number, position]).standard_normal(
                    (len(directions), *sizes, 1)
                )
                for position in positions
            ],
            axis=1,
        )
        phases = np.fft.rfft2(noise, axes=(2, 3))
        phases /= np.maximum(np.abs(phases), 1e-300)
        turned = np.fft.irfft2(spectra * phases, s=sizes, axes=(2, 3))
        found.append(turned.astype(directions.dtype))
    return found
