"""
The answer of a search, with its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from ._candidates import Candidate, filtered_maps
from ._gains import LEVEL, Comparison, Gain, compare_with, cross_fitted_gain, paired_gain
from ._record import load_record, save_record
from ._settings import Settings
from ._summary import code_of, frame_of, html_of, means_of, summary_of, title_of, verdict_of


@dataclass(frozen=True, eq=False, repr=False)
class SigmaSearch:
    """
    What a search found: the best cutoff, what it gains, and how sure that is.

    Parameters
    ----------
    objective
        Name of what was optimised.
    higher_is_better
        Whether high scores are good.
    candidates
        What was compared: K candidates, the raw map first.
    scores
        Scores of the objective, of shape (K, N); NaN where a race skipped them, or the model gave
        NaN. (K, 1) for an objective that scores all explanations as a whole.
    others
        Scores of the other objectives, likewise.
    halves
        Estimates of what candidates are compared by from each half of the perturbation steps or
        masks, of shape (2, K, N); NaN where there is none.
    scored
        Which images each candidate was scored on, of shape (K, N).
    best
        Index of the best candidate.
    held_out
        For each image, the index of a candidate that was chosen without it, or -1, of shape (N,).
    nb_evaluations
        Number of inputs that the model was given to score them.
    settings
        How it was found: typed fields, which may be read by name too, `settings["steps"]`.
    control
        Scores of the control's maps, treated and scored alike, of shape (K, N), NaN where they were
        not scored; None without a control.
    """

    objective: str
    higher_is_better: bool
    candidates: tuple[Candidate, ...]
    scores: np.ndarray
    others: dict[str, np.ndarray]
    halves: np.ndarray
    scored: np.ndarray
    best: int
    held_out: np.ndarray
    nb_evaluations: int
    settings: Settings
    control: np.ndarray | None = None

    @property
    def best_candidate(self) -> Candidate:
        """The best candidate: cutoff, window and rectification."""
        return self.candidates[self.best]

    @property
    def best_sigma(self) -> float | None:
        """The best cutoff; None where no filter is best."""
        return self.best_candidate.sigma

    @property
    def best_score(self) -> float:
        """
        Mean score of the best candidate on all images it was scored on. Choosing flatters it.

        NaN is left out: the best has some only where every candidate fails on an image.
        """
        return float(np.nanmean(self.scores[self.best]))

    @cached_property
    def mean_scores(self) -> np.ndarray:
        """
        Mean score of each candidate, of shape (K,), NaN if a score is.

        After a race, candidates were scored on other images: compare the differences in `to_frame`.
        """
        return means_of(self.scores, self.scored & self.usable)

    @property
    def is_whole(self) -> bool:
        """Whether the objective gave one score to all images together."""
        return self.scores.shape[1] == 1 < self.settings.nb_images

    @property
    def nb_failures(self) -> np.ndarray:
        """Number of images on which the model gave NaN for each candidate, of shape (K,)."""
        return np.sum(self.scored & np.isnan(self._utility), axis=1)

    @cached_property
    def comparison(self) -> Comparison:
        """
        Paired differences of each candidate from the best, with standard errors and p-values.

        Of the scores, or of what they exceed the control's by if that was searched for.
        """
        return compare_with(self.best, self._utility)

    @property
    def indistinguishable(self) -> tuple[Candidate, ...]:
        """
        Candidates that are not significantly worse than the best.

        One-sided paired t-tests at 5 %, Bonferroni-corrected for the number of candidates: the
        truly best one is in it with a probability of 95 % or more. A race compares on fewer images,
        so that more candidates are in it.
        """
        threshold = (1 - LEVEL) / max(1, len(self.candidates) - 1)
        # where there is no test, nothing tells them apart
        kept = ~(self.comparison.p_value <= threshold) & ~np.isnan(self.mean_scores)
        return tuple(c for c, is_kept in zip(self.candidates, kept) if is_kept)

    @property
    def one_standard_error_sigma(self) -> float | None:
        """
        The largest cutoff, window and rectification as the best, within one standard error of it.

        Among answers that the data cannot tell apart, the largest cutoff removes least of the map:
        it is the most cautious choice, as is the simplest model in the one-standard-error rule
        (Breiman & al., Classification and Regression Trees, 1984). It belongs to
        `indistinguishable`. None where no filter is best.
        """
        if self.best_sigma is None:
            return None
        difference, error, _ = self.comparison
        among = set(self.indistinguishable)
        sigmas = [
            candidate.sigma
            for candidate, gap, one in zip(self.candidates, difference, error)
            if candidate in among
            and candidate.is_filter
            and candidate[1:] == self.best_candidate[1:]
            and (gap + np.nan_to_num(one) >= 0)
        ]
        return max(sigma for sigma in [*sigmas, self.best_sigma] if sigma is not None)

    @cached_property
    def gain_over_raw(self) -> Gain:
        """
        What the search gains over the explainer's own map, on images that did not choose.

        Positive is better, whatever the objective. With a paired bootstrap interval: over the
        images held out of a race, or, after an exhaustive search, over five folds, each judged by
        the candidate chosen on the others, which is chosen anew in each resample.
        """
        return self._gain_over(self.candidates.index(Candidate()), self.scores)

    @cached_property
    def gain_over_rectified(self) -> Gain:
        """
        What the filter itself gains: as `gain_over_raw`, over the rectified unfiltered map.

        On signed methods much of the gain over the raw map comes from taking the magnitude.
        """
        return self._gain_over(self._rectified, self.scores)

    @cached_property
    def control_gain(self) -> Gain:
        """
        What the same treatment gains on the control's maps, which explain nothing of the image.

        As `gain_over_rectified`: each image at the cutoff that was chosen without it. NaN without a
        control.
        """
        return self._gain_over(self._rectified, self._control)

    @cached_property
    def gain_beside_control(self) -> Gain:
        """
        `gain_over_rectified` on the images that the control was scored on: `control_gain` and
        `specific_gain` add up to it.
        """
        found = self._gain_over(self._rectified, self.scores + 0 * self._control)
        is_same = found.nb_images == self.gain_over_rectified.nb_images
        return self.gain_over_rectified if is_same else found

    @cached_property
    def specific_gain(self) -> Gain:
        """
        What the filter gains beyond the control: `gain_beside_control` less `control_gain`, paired.

        On images that did not choose and that the control was scored on; these are fewer than those
        of `gain_over_rectified` where the control would have cost too many passes. NaN without a
        control.
        """
        return self._gain_over(self._rectified, self.scores - self._control)

    @property
    def held_out_score(self) -> float:
        """Mean score of the choice on images that did not choose, which `best_score` flatters."""
        chosen = self._chosen_scores(self.scores)
        return float(np.nanmean(chosen)) if not np.isnan(chosen).all() else float("nan")

    @cached_property
    def varies(self) -> bool:
        """
        Whether the candidates differ in score at all: by 0.0005 or more for probabilities and rank
        correlations, by a millionth of the largest score for others.
        """
        differences = np.abs(self.comparison.difference)
        if np.isnan(differences).all():
            return True
        largest = float(np.nanmax(np.abs(self.scores)))
        scale = self.settings.scoring.scale
        least = 1e-6 * largest if scale is None else 5e-4 * scale
        return float(np.nanmax(differences)) > least

    @property
    def verdict(self) -> str:
        """
        What to do, in a sentence.

        Filter if that gains significantly over the raw map, over the rectified one and, where there
        is a control, beyond that.
        """
        return verdict_of(self)

    @property
    def code(self) -> str:
        """
        What `filter` does, as an expression to paste: `forgrad(explanations, sigma=6)`.

        It needs `from xplique_forgrad import forgrad` and maps named `explanations`. Where no
        filter is best, it takes their magnitude or positive part, or leaves them.
        """
        return code_of(self)

    @property
    def summary(self) -> dict[str, str]:
        """What `print` shows below the verdict: the text of each line by its title."""
        return summary_of(self)

    @cached_property
    def sigma_per_image(self) -> np.ndarray:
        """
        The best cutoff of each image, of shape (N,), to give to `forgrad` as `sigma`.

        Among cutoffs of the best window and rectification; the full band where no filter is best,
        and the best cutoff of all where an image was not scored. After a race, among those that
        each image was scored at. Read `gain_per_image` first.
        """
        family, sigmas = self._family
        utility = self._utility[family]
        known = (~np.isnan(utility)).any(axis=0)
        overall = self.best_sigma or self.settings.full_band
        found = np.full(utility.shape[1], overall)
        found[known] = sigmas[np.nanargmax(utility[:, known], axis=0)]
        return found

    @cached_property
    def gain_per_image(self) -> Gain:
        """
        What one cutoff per image gains over the best cutoff for all, cross-fitted.

        Each image's cutoff is chosen on every other perturbation step or mask and judged on the
        rest, and the other way round. Steps beside each other are not independent, so a little
        optimism is left. On images that have at least two cutoffs scored.
        """
        family, _ = self._family
        halves = self.sign * self.halves[:, family]
        reference = self.sign * self.halves[:, self.best]
        usable = (np.sum(~np.isnan(halves).any(axis=0), axis=0) > 1) & ~np.isnan(reference).any(0)
        halves, reference = halves[..., usable], reference[:, usable]
        columns = np.arange(halves.shape[-1])
        gains = np.zeros(len(columns))
        if len(columns):
            for choosing, judging in ((0, 1), (1, 0)):
                chosen = np.nanargmax(halves[choosing], axis=0)
                gains += (halves[judging, chosen, columns] - reference[judging]) / 2
        return paired_gain(gains, self.settings.seed)

    def filter(self, explanations: Any) -> tf.Tensor:
        """
        Treat explanations as the best candidate does: filter, rectify, or leave them.

        Parameters
        ----------
        explanations
            Attribution maps of the same sizes as those of the search: sigma counts cycles.

        Returns
        -------
        explanations_filtered :
            Maps of the same shape and dtype.

        Raises
        ------
        ValueError
            If the maps have other sizes along the filtered axes.
        """
        explanations = tf.convert_to_tensor(explanations)
        axes, wanted = self.settings.axes, self.settings.map_sizes
        border = self.settings.options.border
        found = tuple(explanations.shape[axis] for axis in axes if axis < explanations.shape.rank)
        if found != wanted:
            raise ValueError(
                f"The maps have shape {tuple(explanations.shape)}, and the cutoff was found on "
                f"maps of {' x '.join(map(str, wanted))}; sigma counts cycles along the longest "
                "axis, so search on maps of the size that you filter."
            )
        return tf.convert_to_tensor(
            filtered_maps(explanations.numpy(), [self.best_candidate], axes, border)[0]
        )

    def to_frame(self) -> pd.DataFrame:
        """
        A table of the candidates.

        Returns
        -------
        table :
            One row a candidate: sigma (NaN without a filter), window, rectify, the mean and its
            standard error, the number of images and of failures, the paired difference from the
            best with its standard error and one-sided p-value (of what was searched for: the score,
            or what it exceeds the control's by), and the means of other objectives. With a control:
            `nb_control_images`, on how many images it was scored, and on these the mean `control`
            of its scores and `specific`, the mean of what the maps' scores exceed them by, with
            its standard error; NaN where the control was not scored.
        """
        return frame_of(self)

    def plot(self, ax: Any = None) -> Any:
        """
        Draw the score over sigma: the best cutoff at its mean, the others by their paired
        differences from it, with one standard error, no filter as lines, and the control below.

        Parameters
        ----------
        ax
            Axes of matplotlib to draw on; new ones if None.

        Returns
        -------
        ax :
            The Axes.
        """
        from ..plots import plot_search

        return plot_search(self, ax=ax)

    def save(self, path: str | Path) -> None:
        """
        Write the result as JSON, in one step: an older file stays whole until the new one is.

        Parameters
        ----------
        path
            File to write.
        """
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        save_record(Path(path), {**content, "settings": self.settings.to_json()})

    @classmethod
    def load(cls, path: str | Path) -> SigmaSearch:
        """
        Read a result that `save` wrote.

        Parameters
        ----------
        path
            File to read.

        Returns
        -------
        search :
            The result, with the same scores to the last bit.

        Raises
        ------
        ValueError
            If the file is no result of a search, or not whole.
        """
        content = load_record(Path(path))
        try:
            content["settings"] = Settings.from_json(content["settings"])
            content["candidates"] = tuple(Candidate(*values) for values in content["candidates"])
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} lacks a part of a result: {error}.") from error

    def __repr__(self) -> str:
        direction = "higher" if self.higher_is_better else "lower"
        lines = [
            f"{title_of(self)} ({direction} is better)",
            f"  {self.verdict}",
            *(f"  {name}: {text}" for name, text in self.summary.items()),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_of(self)

    @property
    def sign(self) -> int:
        """1 if higher is better, -1 if lower is."""
        return 1 if self.higher_is_better else -1

    @cached_property
    def usable(self) -> np.ndarray:
        """Images on which the model gave a number for some candidate."""
        return ~np.isnan(self.scores).all(axis=0)

    @cached_property
    def _utility(self) -> np.ndarray:
        compared = self.scores - self._control if self._is_subtracted else self.scores
        return self.sign * compared

    @property
    def _is_subtracted(self) -> bool:
        return self.settings.options.subtract_control

    @property
    def _control(self) -> np.ndarray:
        return np.full(self.scores.shape, np.nan) if self.control is None else self.control

    @property
    def _rectified(self) -> int:
        """Index of the unfiltered map that is rectified as the best candidate is."""
        rectified = [c for c in self.candidates if c.rectify and not c.is_filter]
        same = [c for c in rectified if c.rectify == self.best_candidate.rectify]
        return self.candidates.index((same or rectified)[0])

    @property
    def _family(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and cutoffs of the candidates that `sigma_per_image` may choose."""
        window, rectify = self.best_candidate[1:]
        if window is None:
            window, rectify = next((c[1:] for c in self.candidates if c.is_filter), (None, None))
        unfiltered = Candidate(rectify=rectify)
        indices = [
            index
            for index, c in enumerate(self.candidates)
            if (c == unfiltered and window in ("disk", "box"))
            or (c.is_filter and c[1:] == (window, rectify))
        ]
        sigmas = [self.candidates[index].sigma or self.settings.full_band for index in indices]
        return np.array(indices, int), np.array(sigmas, np.float64)

    def _chosen_scores(self, scores: np.ndarray) -> np.ndarray:
        columns = np.flatnonzero(self.held_out >= 0)
        return scores[self.held_out[columns], columns]

    def _gain_over(self, reference: int, scores: np.ndarray) -> Gain:
        """What the choice gains over a candidate in these scores, on images that did not choose."""
        judged, seed = self.sign * scores, self.settings.seed
        columns = np.flatnonzero(self.held_out >= 0)
        choosing = self._utility[:, columns]
        is_known = not (np.isnan(judged[:, columns]) & ~np.isnan(choosing)).any()
        if self.settings.options.strategy == "exhaustive" and is_known:
            return cross_fitted_gain(choosing, reference, seed, judged[:, columns])
        return paired_gain(self._chosen_scores(judged) - judged[reference, columns], seed)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """
        What `plot` draws: one row a candidate, as in `to_frame`.

        `own`: the mean score of the best candidate, and of the others that plus their paired
        difference from it, so that candidates scored on other images can be compared; `own_error`,
        the standard error of that difference. `control` and `control_error`: the same of the
        control, NaN where it was not scored.
        """
        columns = {}
        for name, scores in (("own", self.scores), ("control", self._control)):
            difference, error, _ = compare_with(self.best, scores)
            known = scores[self.best][~np.isnan(scores[self.best])]
            columns[name] = (np.mean(known) if len(known) else np.nan) + difference
            columns[f"{name}_error"] = error
        return pd.DataFrame(columns, index=list(map(str, self.candidates)))
