"""
Whether high frequencies of the gradient help to predict the model: residuals of its linearisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf

from ._checks import check_choice, check_count, check_seed
from ._gradients import (
    Inputs,
    Operator,
    Scorer,
    Targets,
    as_graph,
    check_are_images,
    check_finite_inputs,
    differentiable_samples,
    make_gradient,
    make_scorer,
)
from ._samples import Samples
from ._statistics import standard_error
from .filtering import forgrad_sweep
from .filtering._checks import WINDOWS, checked_sigma

# perturbed inputs per input of a batch: without gradients they need little memory
_ROWS = 8


@dataclass(frozen=True, eq=False)
class TaylorResidual:
    """
    How well gradients predict the model around its inputs, filtered or not.

    All residuals are in units of the score, of N images, S cutoffs and R radii.

    Parameters
    ----------
    sigmas
        Cutoffs of shape (S,), in cycles along the longest axis.
    radii
        Lengths of the perturbations, of shape (R,), in units of the inputs.
    unfiltered
        Residuals with the full gradient, of shape (N, R).
    filtered
        Residuals with the filtered gradients, of shape (S, N, R).
    zero_order
        Residuals with no gradient at all, of shape (N, R): the control.
    """

    sigmas: np.ndarray
    radii: np.ndarray
    unfiltered: np.ndarray
    filtered: np.ndarray
    zero_order: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """
        filtered / unfiltered, of shape (S, N, R); 1 where both are 0, infinite where only one is.

        1 where the frequencies beyond the cutoff do not help to predict the model, above 1 where
        they do. To be read beside `zero_order_ratio`.
        """
        return _ratio(self.filtered, self.unfiltered)

    @property
    def zero_order_ratio(self) -> np.ndarray:
        """
        zero_order / unfiltered, of shape (N, R); 1 where both are 0, infinite where only one is.

        Where it is near 1 the whole gradient does not help, so that a `ratio` near 1 says nothing
        about its high frequencies.
        """
        return _ratio(self.zero_order, self.unfiltered)

    def __str__(self) -> str:
        names = ["no gradient", *(f"sigma {sigma:g}" for sigma in self.sigmas)]
        ratios = np.concatenate([self.zero_order_ratio[np.newaxis], self.ratio])
        columns = [f"radius {radius:g}" for radius in self.radii]
        table = pd.DataFrame(np.median(ratios, axis=1), names, columns)
        return (
            f"Residual over that of the full gradient, median of {ratios.shape[1]} images\n"
            + table.to_string(float_format="{:.3g}".format)
        )

    def to_frame(self) -> pd.DataFrame:
        """
        The ratios over the images, as a table.

        Returns
        -------
        frame :
            One row per cutoff and radius, after one per radius with a `sigma` of 0 for the control,
            no gradient at all. Columns: sigma, radius, median_ratio, mean_ratio, standard_error (of
            the mean; NaN for one image, or where a ratio is infinite) and nb_images.
        """
        ratios = np.concatenate([self.zero_order_ratio[np.newaxis], self.ratio])
        # where one ratio is infinite, the mean is, and has no error
        are_finite = np.isfinite(ratios).all(axis=1, keepdims=True)
        columns = {
            "sigma": np.repeat([0.0, *self.sigmas], len(self.radii)),
            "radius": np.tile(self.radii, len(ratios)),
            "median_ratio": np.median(ratios, axis=1).ravel(),
            "mean_ratio": np.mean(ratios, axis=1).ravel(),
            "standard_error": standard_error(np.where(are_finite, ratios, np.nan), axis=1).ravel(),
            "nb_images": ratios.shape[1],
        }
        return pd.DataFrame(columns)


def taylor_residual(
    model: keras.Model,
    inputs: Inputs,
    targets: Targets = None,
    *,
    sigmas: npt.ArrayLike | tf.Tensor,
    radii: npt.ArrayLike | tf.Tensor,
    nb_samples: int = 100,
    seed: int = 0,
    window: str = "disk",
    operator: Operator = None,
    batch_size: int = 8,
) -> TaylorResidual:
    r"""
    Residual of the model's linearisation with the gradient filtered at several cutoffs.

    For each image $x$, cutoff $\sigma$ and radius $\rho$, with $f$ the score of the target, it is
    the square root of the mean over $u$ of

    $$(f(x + \rho u) - f(x) - \rho u \cdot \nabla_\sigma f(x))^2,$$

    $u$ uniform on the unit sphere of the inputs' dimension $D$, and $\nabla_\sigma f$ the gradient
    filtered by `forgrad` with signs kept. If the high frequencies of the gradient told something
    about the model, leaving them out would raise the residual. All cutoffs and radii share the same
    directions $u$, so that their ratio is a paired comparison.

    A random direction hardly sees the gradient where $D$ is large: $u \cdot \nabla f$ is of the
    order of $\|\nabla f\| / \sqrt{D}$. Where curvature and kinks outweigh that, the residual is the
    same with any gradient, and with none. So the record also has `zero_order`, the residual without
    gradient: a ratio near 1 is evidence only where `zero_order_ratio` is well above 1, which takes
    small radii. And as $\rho$ goes to 0, the filtered residual goes to
    $\rho \|\nabla f - \nabla_\sigma f\| / \sqrt{D}$ and the unfiltered one vanishes faster: at
    small radii the ratio exceeds 1 for every gradient with power beyond the cutoff, by its very
    definition.
    On 48 images of the bundled classifier (96 x 96) the median ratio of sigma = 16 is 9.9 at radius
    0.1, where the control has 11.0, and 1.07 at radius 10, where the control has 1.08.

    Too small radii measure rounding: scores are float32, and $10^{-7} |f|$ must be far below the
    residuals for these to mean anything. A linear model has no other residual than that. TF32
    products, TensorFlow's default on recent NVIDIA GPUs, round much more coarsely; turn them off by
    tf.config.experimental.enable_tensor_float_32_execution(False).

    Ref. Muzellec & al., Gradient strikes back: How filtering out high frequencies improves
    explanations (2023), https://arxiv.org/abs/2307.09591v1 (sec. 3.2, figure 4; without the
    control).

    Parameters
    ----------
    model
        A Keras model, run at inference, or a `TorchWrapper` of Xplique.
    inputs
        Images of shape (N, H, W, C), or a tf.data.Dataset of pairs (inputs, targets).
    targets
        One-hot labels of shape (N, output_size), or what the operator takes; a dataset of pairs
        brings its own. None for the class that the model predicts.
    sigmas
        Cutoffs of shape (S,) in cycles along the longest axis, 0 < sigma <= max(H, W).
    radii
        Lengths $\rho > 0$ of the perturbations, of shape (R,): the L2 norm over the whole input.
    nb_samples
        Number of directions per image.
    seed
        Seed of the directions. Those of an image depend on it and the image's position alone.
    window
        "disk", "box", "gaussian" or "butterworth", see `low_pass_mask`.
    operator
        Function g(model, inputs, targets) that gives the scores, or a task of Xplique; None for
        the output of the target.
    batch_size
        Number of gradients to compute at once. Of perturbed inputs, which need no gradient, the
        model is given 8 times as many.

    Returns
    -------
    residual :
        A record of residuals, see `TaylorResidual`.

    Raises
    ------
    ValueError
        If the inputs are no images, a number is out of range, an option unknown, or the model
        gives NaN or infinite values.
    TypeError
        If the model is not one of Keras, or the cutoffs are no real numbers.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> model, images = load_classifier(), load_images(4)
    >>> residual = taylor_residual(
    ...     model, images.inputs, images.targets, sigmas=[8, 24], radii=[0.1, 1.0], nb_samples=20
    ... )
    >>> residual.ratio.shape
    (2, 4, 2)
    """
    samples = differentiable_samples(model, inputs, targets, operator)
    check_are_images(samples)
    check_choice("window", window, WINDOWS)
    check_seed(seed)
    for name, value in (("nb_samples", nb_samples), ("batch_size", batch_size)):
        check_count(name, value)
    cutoffs = np.atleast_1d(np.asarray(checked_sigma(sigmas, samples.shape[:2], name="sigmas")))
    if not len(cutoffs):
        raise ValueError("`sigmas` is empty; give at least one cutoff, such as [5, 10, 15].")
    norms = _checked_radii(radii)

    scorer = make_scorer(model, operator)
    gradient = make_gradient(scorer, samples)
    draw, compare = _make_graphs(scorer, samples, int(nb_samples))
    found = []
    lengths = tf.constant(norms, tf.float32)
    for positions, *batch in samples.batches(int(batch_size)):
        check_finite_inputs(batch[0], positions)
        images, labels = (tf.constant(part) for part in batch)
        gradients = gradient(images, labels)
        _check_gradients(gradients, positions)
        filtered = forgrad_sweep(gradients, cutoffs, rectify=None, window=window)
        maps = tf.concat([gradients[tf.newaxis], filtered], axis=0)
        for index, position in enumerate(positions):
            directions = draw(tf.constant([seed % 2**63, position], tf.int64))
            parts = [
                compare(images[index], labels[index], maps[:, index], rows, lengths)
                for rows in _chunks(directions, _ROWS * int(batch_size))
            ]
            changes, products = (np.concatenate(part, axis=-1) for part in zip(*parts))
            _check_changes(changes, norms, position)
            found.append(_residuals(changes, products, norms))
    zero_order, unfiltered, *kept = np.stack(found, axis=1)
    return TaylorResidual(cutoffs, norms, unfiltered, np.stack(kept), zero_order)


def _make_graphs(
    scorer: Scorer, samples: Samples, nb_samples: int
) -> tuple[Callable[..., tf.Tensor], Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
    """Functions for the directions of an image, and what these do to scores and to gradients."""
    shape, label_shape = (part.shape[1:] for part in samples.probe)

    def draw(seed):
        # one generator for all devices
        normal = tf.random.stateless_normal([nb_samples, *shape], seed, alg="philox")
        return normal / tf.sqrt(tf.reduce_sum(tf.square(normal), axis=[1, 2, 3], keepdims=True))

    def compare(image, label, maps, directions, radii):
        nb_rows = tf.shape(directions)[0]
        labels = tf.repeat(label[tf.newaxis], 1 + nb_rows, axis=0)

        def change(radius):
            inputs = tf.concat([image[tf.newaxis], image + radius * directions], axis=0)
            scores = tf.cast(scorer(inputs, labels), tf.float64)
            return scores[1:] - scores[0]

        changes = tf.map_fn(change, radii, parallel_iterations=1, fn_output_signature=tf.float64)
        flat = [
            tf.cast(tf.reshape(part, [-1, math.prod(shape)]), tf.float64)
            for part in (maps, directions)
        ]
        return changes, tf.matmul(*flat, transpose_b=True)

    sizes = [shape, label_shape, [None, *shape], [None, *shape], [None]]
    return (
        as_graph(draw, [tf.TensorSpec([2], tf.int64)]),
        as_graph(compare, [tf.TensorSpec(size) for size in sizes]),
    )


def _chunks(directions: tf.Tensor, size: int) -> list[tf.Tensor]:
    return [directions[start : start + size] for start in range(0, len(directions), size)]


def _residuals(changes: np.ndarray, products: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Residuals of shape (M + 1, R) of no gradient, and of M gradients: (R, n) and (M, n)."""
    predicted = radii[:, np.newaxis] * products[:, np.newaxis]
    errors = np.concatenate([changes[np.newaxis], changes - predicted])
    return np.sqrt(np.mean(np.square(errors), axis=-1))


def _ratio(residual: np.ndarray, unfiltered: np.ndarray) -> np.ndarray:
    residual, unfiltered = np.broadcast_arrays(residual, unfiltered)
    exact = np.where(residual == 0, 1.0, np.inf)
    return np.divide(residual, unfiltered, out=exact, where=unfiltered != 0)


def _checked_radii(radii: npt.ArrayLike | tf.Tensor) -> np.ndarray:
    try:
        values = np.atleast_1d(np.asarray(radii, np.float64))
    except (TypeError, ValueError) as error:
        raise TypeError(f"`radii` is {radii!r}; give numbers, such as [0.1, 1.0].") from error
    if values.ndim != 1 or not len(values) or not np.all((values > 0) & np.isfinite(values)):
        raise ValueError(
            f"`radii` is {radii!r}; give a vector of finite numbers above 0, such as [0.1, 1.0]."
        )
    return values


def _check_gradients(gradients: tf.Tensor | None, positions: np.ndarray) -> None:
    if gradients is None:
        raise ValueError(
            "The score has no gradient with respect to the inputs; the model or the operator cuts "
            "it, as tf.argmax and tf.stop_gradient do."
        )
    finite = np.isfinite(gradients).all(axis=(1, 2, 3))
    if not finite.all():
        raise ValueError(
            f"The gradient of image {positions[int(np.argmin(finite))]} holds NaN or infinite "
            "values. Look at the model's outputs for that image, or drop it."
        )


def _check_changes(changes: np.ndarray, radii: np.ndarray, position: int) -> None:
    finite = np.isfinite(changes).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"The model gives NaN or infinite scores for image {position} at or near it, at radius "
            f"{radii[int(np.argmin(finite))]:g}. Give smaller radii, or drop the image."
        )
