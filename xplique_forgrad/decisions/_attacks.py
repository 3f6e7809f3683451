"""
Adversarial inputs within a band of frequencies: how far must a decision be moved to turn it?
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from .._gradients import Inputs, Targets, check_finite_inputs
from ..filtering._checks import checked_sigma
from ._margins import (
    check_classes,
    check_gradients,
    checked_norms,
    make_decision,
    make_parts,
    unit,
)

# steps of 2.5 / steps of the norm can reach any point of the ball, and turn back
_STEP = 2.5


@dataclass(frozen=True, eq=False)
class BandAttack:
    """
    Perturbations within a band that turn decisions, of N images.

    Parameters
    ----------
    low
        Lower end of the band in cycles along the longest side, not included; 0 includes the mean.
    high
        Upper end, included.
    norm
        Largest L2 norm that was tried, in units of the inputs.
    is_right
        Whether the model decides for the target at the start, of shape (N,); only these are
        attacked.
    norms
        Smallest L2 norms found that turn the decision, of shape (N,): infinite where none does up
        to `norm`, 0 where the decision is wrong from the start.
    perturbations
        What turns the decisions, of shape (N, H, W, C); 0 where nothing does or need be done.
    """

    low: float
    high: float
    norm: float
    is_right: np.ndarray
    norms: np.ndarray
    perturbations: np.ndarray

    @property
    def success_rate(self) -> float:
        """Share of the right decisions that are turned; NaN if none is right."""
        turned = np.isfinite(self.norms[self.is_right])
        return float(turned.mean()) if len(turned) else float("nan")

    @property
    def median_norm(self) -> float:
        """Median norm over the right decisions; infinite if fewer than half are turned."""
        norms = self.norms[self.is_right]
        return float(np.quantile(norms, 0.5, method="higher")) if len(norms) else float("nan")

    def __str__(self) -> str:
        return (
            f"Perturbations of {self.low:g} to {self.high:g} cycles turn {self.success_rate:.0%} "
            f"of {int(self.is_right.sum())} right decisions within a norm of {self.norm:g}; median "
            f"norm {self.median_norm:.3g}"
        )

    def to_frame(self) -> pd.DataFrame:
        """
        A row per image.

        Returns
        -------
        frame :
            Columns low, high, is_right and norm (infinite where the decision stands).
        """
        columns = {"low": self.low, "high": self.high, "is_right": self.is_right}
        return pd.DataFrame({**columns, "norm": self.norms})


def band_attack(
    model: keras.Model,
    inputs: Inputs,
    targets: Targets = None,
    *,
    norm: float,
    low: float = 0.0,
    high: float | None = None,
    steps: int = 20,
    nb_bisections: int = 8,
    batch_size: int = 16,
) -> BandAttack:
    r"""
    Smallest perturbations within a band of frequencies that turn a classifier's decisions.

    Projected gradient descent on the margin $m$ (target score minus the best other), with the
    perturbation $\delta$ confined to the band and to an L2 ball:

    $$\delta \leftarrow \Pi_\epsilon\big(\delta - \alpha\, P_b g / \|P_b g\|\big), \qquad
    g = \nabla m(x + \delta), \quad \alpha = 2.5\, \epsilon / \text{steps},$$

    from $\delta = 0$, so that it repeats. The norm $\epsilon$ that is needed is found by bisection
    for each image. What it finds is an upper bound: a better attack may need less. Values are not
    clipped to the range of pixels, which would leave the band.

    Ref. Madry & al., Towards deep learning models resistant to adversarial attacks (2018),
    https://arxiv.org/abs/1706.06083.

    Parameters
    ----------
    model
        A classifier of Keras with logits out, run at inference, or a `TorchWrapper` of Xplique.
    inputs
        Images of shape (N, H, W, C), or a tf.data.Dataset of pairs (inputs, targets).
    targets
        One-hot labels of shape (N, nb_classes); None for the class that the model predicts.
    norm
        Largest L2 norm of a perturbation to try, in units of the inputs.
    low
        Lower end of the band in cycles along the longest side, not included; 0 includes the mean.
    high
        Upper end, included; None for all frequencies above `low`.
    steps
        Number of gradients for each norm that is tried.
    nb_bisections
        Number of norms to try after the largest: the result is within norm / 2^nb_bisections.
    batch_size
        Number of images to attack at once.

    Returns
    -------
    attack :
        A record, see `BandAttack`.

    Raises
    ------
    ValueError
        If the inputs are no images, targets are not one-hot, a number is out of range, or the model
        has no gradient, or one that is 0 or not finite.
    TypeError
        If the model is not one of Keras, or norm or ends are no real numbers.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, _ = load_images(2)
    >>> options = {"norm": 20.0, "steps": 5, "nb_bisections": 2}
    >>> attack = band_attack(load_classifier(), inputs, targets, **options)
    >>> attack.perturbations.shape
    (2, 96, 96, 3)
    """
    counts = {"steps": steps, "nb_bisections": nb_bisections, "batch_size": batch_size}
    decision = make_decision(model, inputs, targets, **counts)
    (largest,) = checked_norms([norm])
    low, high = _checked_ends(low, high, decision.samples.shape[:2], decision.full_band)
    cutoffs = np.array([low, high] if low else [high])
    split = tf.function(make_parts(cutoffs, np.array([[len(cutoffs) - 1, len(cutoffs)]])))

    def attacked(images, labels, norms):
        """Perturbations of these norms at most, and whether they turn the decisions."""
        limits = norms[:, np.newaxis, np.newaxis, np.newaxis]
        found = np.zeros(images.shape)
        perturbations, are_turned = found.copy(), np.zeros(len(images), bool)
        for _ in range(int(steps)):
            at = tf.constant(images + perturbations, tf.float32)
            gradients = decision.gradient(at, labels)
            whole = tf.cast(gradients, tf.float64)
            direction = unit(split(gradients)[0], whole).numpy()
            perturbations = perturbations - _STEP / steps * limits * direction
            sizes = np.sqrt(np.sum(perturbations**2, axis=(1, 2, 3), keepdims=True))
            perturbations = perturbations * np.minimum(1, limits / np.maximum(sizes, 1e-300))
            margins = decision.margin(tf.constant(images + perturbations, tf.float32), labels)
            is_new = (np.asarray(margins) <= 0) & ~are_turned
            found[is_new], are_turned = perturbations[is_new], are_turned | is_new
        return found, are_turned

    parts: list[tuple[np.ndarray, ...]] = []
    for batch in decision.samples.batches(int(batch_size)):
        check_finite_inputs(batch.inputs, batch.positions)
        check_classes(batch.targets, batch.positions)
        labels = tf.constant(batch.targets)
        is_right = np.asarray(decision.margin(tf.constant(batch.inputs), labels)) > 0
        check_gradients(decision.gradient(tf.constant(batch.inputs), labels), batch.positions)
        best, are_turned = attacked(batch.inputs, labels, np.full(len(is_right), largest))
        below, above = np.zeros(len(is_right)), np.full(len(is_right), largest)
        for _ in range(int(nb_bisections) if are_turned.any() else 0):
            middle = (below + above) / 2
            found, succeeded = attacked(batch.inputs, labels, middle)
            best[succeeded] = found[succeeded]
            above, below = np.where(succeeded, middle, above), np.where(succeeded, below, middle)
        sizes = np.sqrt(np.sum(best**2, axis=(1, 2, 3)))
        norms = np.where(is_right, np.where(are_turned, sizes, np.inf), 0.0)
        best[~(is_right & are_turned)] = 0
        parts.append((is_right, norms, best.astype(np.float32)))
    return BandAttack(low, high, float(largest), *map(np.concatenate, zip(*parts)))


def _checked_ends(
    low: float, high: float | None, sizes: tuple[int, ...], full_band: float
) -> tuple[float, float]:
    upper, lower = (
        default if end in (None, 0) else float(np.asarray(checked_sigma(end, sizes, name=name)))
        for name, end, default in (("high", high, full_band), ("low", low, 0.0))
    )
    if not 0 <= lower < upper:
        raise ValueError(
            f"The band goes from {low} to {high}; give 0 <= low < high, in cycles along the "
            f"longest side, up to {full_band:g}."
        )
    return lower, upper
