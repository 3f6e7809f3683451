"""
The result of a search as a table and as text.
"""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd


def means_of(scores: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Means of the rows over the images that count; NaN if one of these is."""
    numbers = counted.sum(axis=1)
    totals = np.sum(np.where(counted, scores, 0.0), axis=1)
    return np.divide(totals, numbers, out=np.full(len(scores), np.nan), where=numbers > 0)


def frame_of(search: Any) -> pd.DataFrame:
    """The table of `SigmaSearch.to_frame`."""
    counted = search.scored & search.usable
    numbers = counted.sum(axis=1)
    centred = np.where(counted, search.scores - search.mean_scores[:, np.newaxis], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.sqrt(np.sum(centred**2, axis=1) / (numbers - 1) / numbers)
    errors[numbers < 2] = np.nan
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
    return pd.DataFrame(columns, index=pd.Index(map(str, search.candidates), name="candidate"))


def summary_of(search: Any) -> dict[str, str]:
    """What `repr` prints, by title."""
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
        "gain over raw": str(search.gain_over_raw),
        "gain over rectified": str(search.gain_over_rectified),
        "not distinguishable from the best": "; ".join(equals[:12]) + more,
        "one standard error": "no filter" if cautious is None else f"sigma={cautious:g}",
        "images": f"{search.settings['nb_images']} ({search.settings['strategy']})",
        "model evaluations": f"{search.nb_evaluations:,}",
    }
    if failed:
        summary["failures"] = f"{failed} scores are NaN, and never win"
    return summary


def html_of(search: Any) -> str:
    """What a notebook shows."""
    style = "style='text-align:left'"
    rows = "".join(
        f"<tr><th {style}>{html.escape(name)}</th><td {style}>{html.escape(text)}</td></tr>"
        for name, text in summary_of(search).items()
    )
    table = search.to_frame().to_html(float_format="{:.3f}".format, max_rows=40)
    title = f"SigmaSearch of {search.objective}: {search.verdict}"
    return (
        f"<b>{html.escape(title)}</b><table>{rows}</table>"
        f"<details><summary>All candidates</summary>{table}</details>"
    )
