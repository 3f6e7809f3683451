"""
The change of a model's margin along bands of its gradient, beside random directions.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf

from .._checks import check_seed
from .._gradients import Inputs, Targets
from .._samples import Batch
from .._statistics import standard_error
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

# inputs per image of a batch that go through the model at once: no gradient, little memory
_ROWS = 8


class Band(NamedTuple):
    """
    Frequencies of an input.

    Attributes
    ----------
    kind
        "full", "below" or "above" a cutoff, or "octave".
    low
        Lower end in cycles along the longest side, not included; 0 includes the mean.
    high
        Upper end, included.
    """

    kind: str
    low: float
    high: float

    def __str__(self) -> str:
        ends = {"full": "all", "below": f"up to {self.high:g}", "above": f"above {self.low:g}"}
        return ends.get(self.kind, f"{self.low:g} to {self.high:g}")


@dataclass(frozen=True, eq=False)
class DecisionRelevance:
    """
    What the model does when its inputs move along bands of the margin's gradient.

    Of K bands, R norms and N images; margins are in units of the model's outputs.

    Parameters
    ----------
    bands
        The K bands.
    norms
        L2 norms of the steps, increasing, of shape (R,), in units of the inputs.
    margins
        Margins of the inputs as they are, of shape (N,): above 0 where the model is right.
    energy
        Share of the gradient's energy in each band, of shape (K, N).
    change
        Changes of the margin by steps against the gradient, of shape (K, R, N).
    flipped
        Whether such a step makes a right decision wrong, of shape (K, R, N); False where the
        decision is wrong from the start.
    control_change
        Changes by random directions with the spectrum of the band, of shape (K, R, N).
    control_flipped
        Share of the random directions that make the decision wrong, of shape (K, R, N).
    """

    bands: tuple[Band, ...]
    norms: np.ndarray
    margins: np.ndarray
    energy: np.ndarray
    change: np.ndarray
    flipped: np.ndarray
    control_change: np.ndarray
    control_flipped: np.ndarray

    @property
    def is_right(self) -> np.ndarray:
        """Whether the model decides for the target, of shape (N,)."""
        return self.margins > 0

    def __str__(self) -> str:
        table = self.to_frame()
        wrong = int((~self.is_right).sum())
        parts = [f"Margins of {len(self.margins)} images, {wrong} decided wrongly from the start"]
        for norm, rows in table.groupby("norm", sort=False):
            columns = ["energy", "change", "control_change", "flipped", "control_flipped"]
            shown = rows.set_index("band")[columns].rename_axis(None)
            parts.append(
                f"steps of norm {norm:g}\n" + shown.to_string(float_format="{:.3f}".format)
            )
        return "\n".join(parts)

    def to_frame(self) -> pd.DataFrame:
        """
        Means over the images, as a table.

        Returns
        -------
        frame :
            One row per band and norm. Columns: band, kind, low, high, norm; energy, change,
            flipped, control_change and control_flipped, each with its standard error in a column
            that ends in "_error" (NaN for a single image); nb_images, and nb_right, of which the
            shares that flip are taken.
        """
        right = self.is_right
        shares = (
            np.where(right, self.flipped, np.nan),
            np.where(right, self.control_flipped, np.nan),
        )
        shape = len(self.bands), len(self.norms)
        columns = {
            "energy": np.broadcast_to(self.energy[:, np.newaxis], self.change.shape),
            "change": self.change,
            "flipped": shares[0],
            "control_change": self.control_change,
            "control_flipped": shares[1],
        }
        index = [(str(band), *band, norm) for band in self.bands for norm in map(float, self.norms)]
        frame = pd.DataFrame(index, columns=["band", "kind", "low", "high", "norm"])
        for name, values in columns.items():
            known = ~np.isnan(values)
            counts = known.sum(axis=-1)
            sums = np.sum(values, axis=-1, where=known)
            means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
            frame[name] = means.reshape(shape).ravel()
            frame[f"{name}_error"] = standard_error(values).reshape(shape).ravel()
        return frame.assign(nb_images=len(right), nb_right=int(right.sum()))

    def plot(self, ax: Any = None) -> Any:
        """
        Draw the fall of the margin by whole octave, -change, beside that by random directions.

        Parameters
        ----------
        ax
            Axes of matplotlib; new ones if None.

        Returns
        -------
        ax :
            The Axes.
        """
        from ..plots import plot_relevance

        return plot_relevance(self, ax=ax)


def decision_relevance(
    model: keras.Model,
    inputs: Inputs,
    targets: Targets = None,
    *,
    sigmas: npt.ArrayLike | tf.Tensor,
    norms: npt.ArrayLike | tf.Tensor,
    nb_random: int = 2,
    seed: int = 0,
    batch_size: int = 8,
) -> DecisionRelevance:
    r"""
    Whether the frequencies that a filter removes matter for the decision.

    The margin $m(x) = f_t(x) - \max_{j \neq t} f_j(x)$ is above 0 where the model decides for the
    target. Each input goes a step against the margin's gradient, band by band of its frequencies,
    and the model says what that changes:

    $$m(x - \rho\, P_b g / \|P_b g\|) - m(x), \qquad g = \nabla m(x),$$

    with $P_b$ the part of a band, signs kept, and the same norm $\rho$ for all bands. Of a linear
    model the change is $-\rho \|P_b g\|$: its square, by that of the full band, is the band's share
    of the gradient's energy, and so it is of small steps. The control goes in random directions
    with the spectrum of $P_b g$, whose phases are turned alike in all channels: what a
    perturbation of such frequencies does that does not know the model.

    Faithfulness asks what an explanation is worth; this asks what the model does. A band of large
    change beside its control decides, whatever the maps at a cutoff show.

    Bands are those of the disk: below and above each cutoff, octaves, and all frequencies. Inputs
    that the model decides wrongly are part of the changes, and not of the shares that flip.

    Parameters
    ----------
    model
        A classifier of Keras with logits out, run at inference, or a `TorchWrapper` of Xplique.
    inputs
        Images of shape (N, H, W, C), or a tf.data.Dataset of pairs (inputs, targets).
    targets
        One-hot labels of shape (N, nb_classes); None for the class that the model predicts.
    sigmas
        Cutoffs of shape (S,) in cycles along the longest side, 0 < sigma <= max(H, W).
    norms
        L2 norms $\rho > 0$ of the steps over the whole input, (R,), in units of the inputs. A value
        of an input moves by $\rho / \sqrt{H W C}$ in the root mean square: 0.3 of images in 0 to 1
        is 76.5 of images in 0 to 255.
    nb_random
        Number of random directions per image and band.
    seed
        Seed of the random directions; those of an image depend on it and the image's position.
    batch_size
        Number of gradients to compute at once; of inputs without gradients the model gets 8 times
        as many. Held at once are K (1 + nb_random) directions of each of these inputs.

    Returns
    -------
    relevance :
        A record, see `DecisionRelevance`.

    Raises
    ------
    ValueError
        If the inputs are no images, targets are not one-hot, a number is out of range, or the model
        has no gradient, or one that is 0 or not finite.
    TypeError
        If the model is not one of Keras, or cutoffs or norms are no real numbers.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, _ = load_images(4)
    >>> relevance = decision_relevance(
    ...     load_classifier(), inputs, targets, sigmas=[6], norms=[1.0], nb_random=1
    ... )
    >>> [str(band) for band in relevance.bands[:3]]
    ['all', 'up to 6', 'above 6']
    """
    counts = {"nb_random": nb_random, "batch_size": batch_size}
    decision = make_decision(model, inputs, targets, **counts)
    check_seed(seed)
    lengths = checked_norms(norms)
    given = np.asarray(checked_sigma(sigmas, decision.samples.shape[:2], name="sigmas"))
    bands = _bands(np.unique(given), decision.full_band)
    cutoffs = np.unique([band.high for band in bands])
    places = np.array(
        [[np.searchsorted([0, *cutoffs], end) for end in (band.low, band.high)] for band in bands]
    )
    split = make_parts(decision.samples.shape, cutoffs, places)
    found: list[tuple[np.ndarray, ...]] = []
    for batch, margins, gradients in decision.batches(int(batch_size)):
        whole = tf.cast(gradients, tf.float64)[tf.newaxis]
        parts = split(gradients)
        energy = tf.reduce_sum(parts**2, [2, 3, 4]) / tf.reduce_sum(whole**2, [2, 3, 4])
        own = unit(parts, whole).numpy().astype(np.float32)
        others = random_directions(batch.positions, own, nb_random, seed)
        directions = np.stack([own, *others])
        moved = _margins_along(decision, batch, directions, lengths, batch_size)
        found.append((np.asarray(margins, np.float64), np.asarray(energy), moved))
    margins, energy, moved = (np.concatenate(part, axis=-1) for part in zip(*found))
    change = moved - margins
    flips = (moved <= 0) & (margins > 0)
    return DecisionRelevance(
        bands,
        lengths,
        margins,
        energy,
        change[0],
        flips[0],
        change[1:].mean(axis=0),
        flips[1:].mean(axis=0),
    )


def _bands(sigmas: np.ndarray, full_band: float) -> tuple[Band, ...]:
    halves = [
        band
        for sigma in map(float, sigmas)
        for band in (Band("below", 0.0, sigma), Band("above", sigma, full_band))
        if band.low < full_band
    ]
    edges = [0.0, *(2.0**power for power in range(int(np.ceil(np.log2(full_band))))), full_band]
    octaves = [Band("octave", low, high) for low, high in itertools.pairwise(edges)]
    return (Band("full", 0.0, full_band), *halves, *octaves)


def _margins_along(
    decision: Decision, batch: Batch, directions: np.ndarray, norms: np.ndarray, batch_size: int
) -> np.ndarray:
    """Margins of the inputs where they moved, of shape (D, K, R, B)."""
    head = (*directions.shape[:2], len(norms))
    moved = np.empty((*head, len(batch.inputs)))
    size = max(1, _ROWS * int(batch_size) // len(batch.inputs))
    places = list(np.ndindex(*head))
    for start in range(0, len(places), size):
        part = places[start : start + size]
        rows = [batch.inputs - norms[r] * directions[d, k] for d, k, r in part]
        labels = np.concatenate([batch.targets] * len(part))
        found = decision.margin(
            tf.constant(np.concatenate(rows), tf.float32), tf.constant(labels, tf.float32)
        )
        for place, values in zip(part, np.split(np.asarray(found, np.float64), len(part))):
            moved[place] = values
    check_margins(moved, batch.positions)
    return moved
