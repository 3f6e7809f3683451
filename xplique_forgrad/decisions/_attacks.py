"""
Adversarial inputs within a band of frequencies: how far must a decision be moved to turn it?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from .._checks import check_seed
from .._gradients import Inputs, Targets
from .._samples import Batch
from ..filtering._checks import checked_sigma
from ._margins import (
    Decision,
    check_margins,
    checked_norms,
    make_decision,
    make_parts,
    random_directions,
    unit,
)

# steps of 2.5 / steps of the norm can reach any point of the ball, and turn back
_STEP = 2.5
# while all norms that were tried turn a decision, or none does, the next is the last over this
_SHRINK = 8


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
        Smallest L2 norms found that turn the decision, of shape (N,): infinite where no descent up
        to `norm` found one, 0 where the decision is wrong from the start.
    perturbations
        What turns the decisions, of shape (N, H, W, C); 0 where nothing does or need be done.
    control_turned
        Share of random perturbations with the same norm and spectrum as the one found that turn the
        decision, of shape (N,); 0 where none was found.
    """

    low: float
    high: float
    norm: float
    is_right: np.ndarray
    norms: np.ndarray
    perturbations: np.ndarray
    control_turned: np.ndarray

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

    @property
    def control_rate(self) -> float:
        """Share of decisions that random perturbations like those found turn; NaN if none was."""
        is_turned = self.is_right & np.isfinite(self.norms)
        return float(self.control_turned[is_turned].mean()) if is_turned.any() else float("nan")

    def __str__(self) -> str:
        if not self.is_right.any():
            return f"None of the {len(self.is_right)} decisions is right at the start"
        text = (
            f"Perturbations of {self.low:g} to {self.high:g} cycles turn {self.success_rate:.0%} "
            f"of {int(self.is_right.sum())} right decisions within a norm of {self.norm:g}; median "
            f"norm {self.median_norm:.3g}"
        )
        if np.isnan(self.control_rate):
            return text
        return f"{text}; random ones of the same norms and spectra turn {self.control_rate:.0%}"

    def to_frame(self) -> pd.DataFrame:
        """
        A row per image.

        Returns
        -------
        frame :
            Columns low, high, is_right, norm (infinite where the decision stands, 0 where it is
            wrong from the start) and control_turned.
        """
        columns = {"low": self.low, "high": self.high, "is_right": self.is_right}
        return pd.DataFrame({**columns, "norm": self.norms, "control_turned": self.control_turned})


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
    nb_random: int = 2,
    seed: int = 0,
    batch_size: int = 16,
) -> BandAttack:
    r"""
    Smallest perturbations within a band of frequencies that turn a classifier's decisions.

    Projected gradient descent on the margin $m$ (target score minus the best other), with the
    perturbation $\delta$ confined to the band and to an L2 ball:

    $$\delta \leftarrow \Pi_\epsilon\big(\delta - \alpha\, P_b g / \|P_b g\|\big), \qquad
    g = \nabla m(x + \delta), \quad \alpha = 2.5\, \epsilon / \text{steps},$$

    from $\delta = 0$, so that it repeats, until the decision turns. The norm $\epsilon$ that is
    needed is searched for each image: from `norm` down by factors of 8 until a descent succeeds and
    a smaller one fails, then by bisection of the logarithm between the two. What it finds is an
    upper bound: a better attack may need less. Values are not clipped to the range of pixels, which
    would leave the band. The control are random perturbations with the spectrum and norm of the one
    found, whose phases are turned alike in all channels.

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
        Largest L2 norm of a perturbation to try, over the whole input and in its units.
    low
        Lower end of the band in cycles along the longest side, not included; 0 includes the mean.
    high
        Upper end, included; None for all frequencies above `low`.
    steps
        Number of gradients for each norm that is tried.
    nb_bisections
        Number of norms to try after the largest. 8 find the norm that the attack needs within 7 %
        where it is `norm` / 512 or more, if larger norms succeed too.
    nb_random
        Number of random perturbations per image.
    seed
        Seed of the random perturbations.
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
    counts = {"steps": steps, "nb_bisections": nb_bisections, "nb_random": nb_random}
    decision = make_decision(model, inputs, targets, **counts, batch_size=batch_size)
    check_seed(seed)
    if np.ndim(norm):
        raise TypeError(f"`norm` is {norm!r}; give a number, such as 2.0.")
    (largest,) = checked_norms(norm, name="norm")
    low, high = _checked_ends(low, high, decision.samples.shape[:2], decision.full_band)
    cutoffs = np.array([low, high] if low else [high])
    places = np.array([[len(cutoffs) - 1, len(cutoffs)]])
    split = make_parts(decision.samples.shape, cutoffs, places)
    parts: list[tuple[np.ndarray, ...]] = []
    for batch, margins, gradients in decision.batches(int(batch_size)):
        labels = tf.constant(batch.targets)
        is_right = np.asarray(margins) > 0
        descend = partial(_descend, decision, split, int(steps))
        found = _smallest(descend, batch, gradients, is_right, largest, int(nb_bisections))
        norms = _norms(found)
        is_turned = norms > 0
        turned = [
            np.asarray(decision.margin(tf.constant(batch.inputs + one[0], tf.float32), labels)) <= 0
            for one in random_directions(batch.positions, found[np.newaxis], nb_random, seed)
        ]
        norms = np.where(is_right & ~is_turned, np.inf, norms)
        control = np.where(is_turned, np.mean(turned, axis=0), 0.0)
        parts.append((is_right, norms, found.astype(np.float32), control))
    return BandAttack(low, high, float(largest), *map(np.concatenate, zip(*parts)))


def _norms(maps: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum(maps**2, axis=(1, 2, 3)))


def _smallest(
    descend: Callable[[Batch, tf.Tensor, np.ndarray], np.ndarray],
    batch: Batch,
    gradients: tf.Tensor,
    is_right: np.ndarray,
    largest: float,
    nb_bisections: int,
) -> np.ndarray:
    """Smallest perturbations found that turn the right decisions of a batch; 0 where none does."""
    best = np.zeros(batch.inputs.shape)
    left = np.flatnonzero(is_right)
    # the largest norm below those that turn the decision that does not, and the smallest that does
    below, above = (np.full(len(is_right), end) for end in (0.0, np.inf))
    limits = np.full(len(is_right), largest)
    for _ in range(1 + nb_bisections):
        if not len(left):
            break
        part = Batch(*(one[left] for one in batch))
        found = descend(part, tf.gather(gradients, left), limits[left])
        norms = _norms(found)
        is_turned = norms > 0
        best[left[is_turned]] = found[is_turned]
        # a descent may turn the decision well within its limit
        above[left[is_turned]] = norms[is_turned]
        # a descent with steps that are too long fails too: it says nothing of smaller ones
        failed = left[~is_turned]
        is_bound = np.isfinite(above[failed])
        below[failed[is_bound]] = limits[failed[is_bound]]
        left = left[above[left] > below[left]]
        is_between = below > 0
        middle = np.sqrt(below * np.where(is_between, above, 1.0))
        limits = np.where(is_between, middle, np.minimum(limits, above) / _SHRINK)
    return best


def _descend(
    decision: Decision,
    split: Callable[[tf.Tensor], tf.Tensor],
    steps: int,
    batch: Batch,
    gradients: tf.Tensor,
    limits: np.ndarray,
) -> np.ndarray:
    """
    Perturbations of these norms at most that turn the decisions; 0 where none does.

    The gradients are those of the inputs as they are, where each descent begins.
    """
    found = np.zeros(batch.inputs.shape)
    perturbations, left = found.copy(), np.arange(len(found))
    for _ in range(steps):
        sizes = limits[left, np.newaxis, np.newaxis, np.newaxis]
        direction = unit(split(gradients)[0], tf.cast(gradients, tf.float64)).numpy()
        perturbations = perturbations - _STEP / steps * sizes * direction
        norms = _norms(perturbations)[:, np.newaxis, np.newaxis, np.newaxis]
        perturbations = perturbations * np.minimum(1, sizes / np.maximum(norms, 1e-300))
        at = tf.constant(batch.inputs[left] + perturbations, tf.float32)
        margins, gradients = decision.margin_and_gradient(at, tf.constant(batch.targets[left]))
        check_margins(margins, batch.positions[left])
        is_turned = np.asarray(margins) <= 0
        found[left[is_turned]] = perturbations[is_turned]
        left, perturbations = left[~is_turned], perturbations[~is_turned]
        if not len(left):
            break
        gradients = tf.boolean_mask(gradients, ~is_turned)
    return found


def _checked_ends(
    low: float, high: float | None, sizes: tuple[int, ...], full_band: float
) -> tuple[float, float]:
    for name, end in (("low", low), ("high", high)):
        if end is not None and (np.ndim(end) or isinstance(end, bool | str)):
            raise TypeError(f"`{name}` is {end!r}; give a number of cycles.")
    upper = (
        full_band if high is None else float(np.asarray(checked_sigma(high, sizes, name="high")))
    )
    lower = float(low)
    if not 0 <= lower < min(upper, full_band):
        raise ValueError(
            f"The band goes from {low} to {high}; give 0 <= low < high, in cycles along the "
            f"longest side, of which there are up to {full_band:g}."
        )
    return lower, upper
