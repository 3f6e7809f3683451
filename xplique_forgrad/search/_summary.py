"""
The result of a search as a table and as text.
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._statistics import standard_error
from ..filtering import forgrad
from ._gains import Gain
from .controls import LABELS

if TYPE_CHECKING:
    from ._result import SigmaSearch


def title_of(search: SigmaSearch) -> str:
    """What was searched for."""
    less = " less that of the control" if search.settings.options.subtract_control else ""
    return f"SigmaSearch of {search.objective}{less}"


def means_of(scores: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Means of the rows over the images that count; NaN if one of these is."""
    numbers = counted.sum(axis=1)
    totals = np.sum(np.where(counted, scores, 0.0), axis=1)
    return np.divide(totals, numbers, out=np.full(len(scores), np.nan), where=numbers > 0)


def frame_of(search: SigmaSearch) -> pd.DataFrame:
    """The table of `SigmaSearch.to_frame`."""
    counted = search.scored & search.usable
    numbers = counted.sum(axis=1)
    errors = standard_error(np.where(counted, search.scores, np.nan))
    errors[np.isnan(search.mean_scores)] = np.nan
    difference, error, p_value = search.comparison
    columns = {
        "sigma": [np.nan if c.sigma is None else c.sigma for c in search.candidates],
        "window": [c.window for c in search.candidates],
        "rectify": [c.rectify for c in search.candidates],
        search.objective: search.mean_scores,
        "standard_error": errors,
        "nb_images": numbers,
        "nb_failures": search.nb_failures,
        "difference": search.sign * difference,
        "difference_error": error,
        "p_value": p_value,
    }
    for name, scores in search.others.items():
        columns[name] = means_of(scores, search.scored & ~np.isnan(scores).all(axis=0))
    if search.control is not None:
        specific = search.scores - search.control
        columns["nb_control_images"] = np.sum(~np.isnan(specific), axis=1)
        columns["control"] = means_of(search.control, ~np.isnan(specific))
        columns["specific"] = means_of(specific, ~np.isnan(specific))
        columns["specific_error"] = standard_error(specific)
    return pd.DataFrame(columns, index=pd.Index(map(str, search.candidates), name="candidate"))


def verdict_of(search: SigmaSearch) -> str:
    """The sentence of `SigmaSearch.verdict`."""
    if not search.varies and search.settings.scoring.scored_by is not None:
        return (
            "No verdict: the scores do not vary between the candidates. Is the objective constant "
            "for these maps? Are the maps constant?"
        )
    if not search.varies:
        return (
            "No verdict: the scores do not vary between the candidates. Is the model untrained, or "
            "constant for these inputs? Is the preprocessing, the operator or the activation "
            "another than the model's? Are the maps constant?"
        )
    if search.best_sigma is not None:
        return _verdict_of_filter(search, search.best_sigma)
    nb_open = sum(candidate.is_filter for candidate in search.indistinguishable)
    if not nb_open:
        return f"Do not filter: the {search.best_candidate} map is best."
    cutoffs = "a cutoff is" if nb_open == 1 else f"{nb_open} cutoffs are"
    return (
        f"No gain found: the {search.best_candidate} map is best on "
        f"{search.settings.nb_images} images, and {cutoffs} not distinguishable from it."
    )


def _verdict_of_filter(search: SigmaSearch, sigma: float) -> str:
    """The verdict where a filter is best, beside what the control gains."""
    gains, specific = [search.gain_over_raw, search.gain_over_rectified], search.specific_gain
    if any(np.isnan(gain.low) for gain in gains):
        why = "one score for all images" if search.is_whole else "too few images"
        return f"sigma = {sigma:g} is best, without a verdict: {why}."
    if any(gain.high < 0 for gain in gains):
        return f"Do not filter: sigma = {sigma:g} loses on images that did not choose."
    if specific.high < 0:
        return f"Do not filter: sigma = {sigma:g} is not specific. {_beside_control(search)}."
    if not all(gain.low > 0 for gain in gains):
        return (
            f"No significant gain: sigma = {sigma:g} is best, but may gain nothing"
            f"{_how_to_settle(search, gains)}."
        )
    if np.isnan(specific.low):
        return f"Filter at sigma = {sigma:g}: a significant gain over no filter."
    if specific.low > 0:
        return (
            f"Filter at sigma = {sigma:g}: a significant gain over no filter. "
            f"{_beside_control(search)}."
        )
    return (
        f"No specific gain found at sigma = {sigma:g}. {_beside_control(search)}"
        f"{_how_to_settle(search, [specific])}."
    )


def _beside_control(search: SigmaSearch) -> str:
    """The three figures of a verdict."""
    moves = "rises" if search.higher_is_better else "falls"
    own = search.gain_beside_control
    where = f"On {own.nb_images} images the" if own != search.gain_over_rectified else "The"
    return (
        f"{where} score {moves} by {own.interval}, that of "
        f"{control_label(search)} by {search.control_gain.interval}: a specific gain of "
        f"{search.specific_gain.interval}"
    )


def control_label(search: SigmaSearch) -> str:
    """How a text calls the control's map."""
    name = search.settings.control or ""
    return LABELS.get(name, f"the control {name}")


def _how_to_settle(search: SigmaSearch, gains: Sequence[Gain]) -> str:
    """How many images would tell the gain that is not significant from none."""
    unsure = min(gains, key=lambda gain: gain.low)
    half_width = (unsure.high - unsure.low) / 2
    wanted = max(abs(unsure.mean), search.settings.options.tolerance)
    if not 0 < wanted < half_width:
        return ""
    number = search.settings.nb_images * (half_width / wanted) ** 2
    # two digits are more than is known
    rounded = int(float(f"{number:.1e}"))
    return (
        f" (now ± {half_width:.3f}; about {rounded:,} images would narrow this to ± {wanted:.3f})"
    )


def code_of(search: SigmaSearch) -> str:
    """The expression of `SigmaSearch.code`."""
    sigma, window, rectify = search.best_candidate
    if sigma is None:
        return {
            "magnitude": "abs(explanations)",
            # of arrays and tensors alike
            "positive": "(explanations + abs(explanations)) / 2",
        }.get(rectify or "", "explanations")
    defaults = inspect.signature(forgrad).parameters
    settings = search.settings
    options = {"window": window, "rectify": rectify, "axes": settings.axes}
    options["border"] = settings.options.border
    others = [f", {k}={v!r}" for k, v in options.items() if v != defaults[k].default]
    cutoff = int(sigma) if sigma == int(sigma) else float(sigma)
    return f"forgrad(explanations, sigma={cutoff!r}{''.join(others)})".replace("'", '"')


def scoring_of(search: SigmaSearch) -> str:
    """The settings that decide more than all others."""
    scoring = search.settings.scoring
    if scoring.scored_by is not None:
        own = scoring.scored_by
        return "; ".join(own) if isinstance(own, Mapping) else str(own)
    options = scoring.options
    patch = options.get("patch_size", 1)
    return (
        f"activation {options.get('activation')}, baseline {scoring.baseline}, operator "
        f"{options.get('operator')}" + (f", patches of {patch} pixels" if patch != 1 else "")
    )


def summary_of(search: SigmaSearch) -> dict[str, str]:
    """The texts of `SigmaSearch.summary`."""
    families = {candidate[1:] for candidate in search.candidates if candidate.is_filter}
    equals = [
        f"sigma={candidate.sigma:g}"
        if candidate.is_filter and len(families) == 1
        else str(candidate)
        for candidate in search.indistinguishable
    ]
    more = f" (and {len(equals) - 12} more)" if len(equals) > 12 else ""
    cautious = search.one_standard_error_sigma
    failed = int(search.nb_failures.sum())
    summary = {
        "best": f"{search.best_candidate}: {search.best_score:.3f} "
        f"(held out: {search.held_out_score:.3f})",
        "code of the best": code_of(search),
        "gain over raw": str(search.gain_over_raw),
        "gain over rectified": str(search.gain_over_rectified),
        **_control_of(search),
        "not distinguishable from the best": "; ".join(equals[:12]) + more,
        "one standard error": "no filter" if cautious is None else f"sigma={cautious:g}",
        "images": f"{search.settings.nb_images} ({search.settings.options.strategy})",
        "model evaluations": f"{search.nb_evaluations:,}" if search.nb_evaluations else "not known",
        "scored with": scoring_of(search),
    }
    if failed:
        summary["failures"] = f"{failed} scores are NaN, and never win"
    return summary


def _control_of(search: SigmaSearch) -> dict[str, str]:
    if search.control is None:
        return {}
    return {
        f"gain of {control_label(search)}": search.control_gain.interval,
        "specific gain": f"{search.specific_gain}, on {search.specific_gain.nb_images} images",
    }


def html_of(search: SigmaSearch) -> str:
    """What a notebook shows."""
    style = "style='text-align:left'"
    rows = "".join(
        f"<tr><th {style}>{html.escape(name)}</th><td {style}>{html.escape(text)}</td></tr>"
        for name, text in search.summary.items()
    )
    table = search.to_frame().to_html(float_format="{:.3f}".format, max_rows=40)
    title = f"{title_of(search)}: {search.verdict}"
    return (
        f"<b>{html.escape(title)}</b><table>{rows}</table>"
        f"<details><summary>All candidates</summary>{table}</details>"
    )
