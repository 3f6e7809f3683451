"""
What the tables of a benchmark say, in sentences.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ._inference import LEVEL
from ._markup import setting_in_words, skipped_in_words
from ._records import SETTING

_NAMES = {"specific": "specific faithfulness", "faithfulness": "faithfulness"}
_CLASSES = {
    "helps": "Filtering gains {measure} over the map as is and over the rectified map on {names}.",
    "rectified": "On {names} the gain over the map as is comes from rectification: the filter adds "
    "none that is significant.",
    "loses": "Filtering loses {measure} on {names}.",
    "open": "Filtering shows no significant gain of {measure} over the map as is on {names}.",
    "none": "No filter was chosen on {names}: the map is as it is, or rectified.",
}


def verdict_of(
    methods: pd.DataFrame,
    comparisons: pd.DataFrame,
    ranking: pd.DataFrame,
    robustness: pd.DataFrame,
    measure: str,
) -> str:
    """
    The text of `Benchmark.verdict`: a paragraph a model, a sentence a line.

    Parameters
    ----------
    methods, comparisons, ranking, robustness
        Tables of the benchmark; the last two by the measure.
    measure
        "specific", or "faithfulness" where no control was scored.
    """
    skipped = dict(
        zip(
            methods.loc[methods["status"] != "done", "model"].unique(),
            skipped_in_words(methods),
        )
    )
    paragraphs = []
    for model in methods["model"].unique():
        of_model = comparisons[comparisons["model"] == model]
        costs = methods[methods["model"] == model].set_index("method")
        sentences = [
            *_controls(of_model),
            *_above_controls(ranking[ranking["model"] == model], measure),
            *_gains(of_model[of_model["measure"] == measure], measure),
            *_agreement(robustness[robustness["model"] == model]),
            *_leaders(ranking[ranking["model"] == model], costs, measure),
        ]
        if model in skipped:
            sentences.append(f"Not in the tables: {skipped[model].removeprefix(f'{model}: ')}.")
        nb_images = int(costs["nb_images"].max())
        paragraphs.append("\n".join([f"{model}, {nb_images} images scored:", *sentences]))
    return "\n\n".join(paragraphs)


def _controls(comparisons: pd.DataFrame) -> Iterable[str]:
    """In which settings a control gains as much from the filter as methods."""
    plain = comparisons[comparisons["measure"] == "faithfulness"]
    for _, both in plain.groupby(SETTING, sort=False):
        unfiltered = both.loc[_is_same(both), "method"]
        rows = both[(both["reference"] == "rectified") & ~both["method"].isin(unfiltered)]
        controls = rows[(rows["kind"] == "control") & (rows["gain"] > 0)]
        methods = rows[_is_significant(rows) & (rows["gain"] > 0)]
        methods = methods[methods["gain"] <= controls["gain"].max()]
        if not len(methods):
            continue
        controls = controls[controls["gain"] >= methods["gain"].min()]
        yield _in_setting(
            comparisons,
            rows,
            "The filter gains as much plain faithfulness on controls as on some methods: over the "
            f"rectified map {_with_gains(controls)} against {_with_gains(methods)}.",
        )


def _above_controls(ranking: pd.DataFrame, measure: str) -> Iterable[str]:
    """Whether the best map of each method scores more than that of the best control."""
    for _, rows in ranking.groupby(SETTING, sort=False):
        best = rows.groupby("method", sort=False)["mean"].max()
        of_kind = rows.drop_duplicates("method").set_index("method")["kind"]
        controls = best[of_kind == "control"]
        if not len(controls):
            continue
        control, highest = controls.idxmax(), controls.max()
        methods = best[of_kind != "control"]
        below = methods[methods <= highest]
        text = f"The best control by {_NAMES[measure]} is {control} ({highest:+.3f}); "
        if len(below) == len(methods):
            text += "no method has more."
        elif len(below):
            text += f"{_listed(below.index)} {'has' if len(below) == 1 else 'have'} no more."
        else:
            text += "all methods have more."
        yield _in_setting(ranking, rows, text)


def _gains(comparisons: pd.DataFrame, measure: str) -> Iterable[str]:
    """On which methods the filter helps, rectification alone does it, or neither."""
    methods = comparisons[comparisons["kind"] != "control"]
    nb_settings = len(methods[SETTING].drop_duplicates())
    found: dict[str, dict[str, list[str]]] = {name: {} for name in _CLASSES}
    for (*_, method), rows in methods.groupby([*SETTING, "method"], sort=False):
        by_reference = rows.set_index("reference")
        found[_class_of(by_reference)].setdefault(method, []).append(_gain_of(by_reference))
    for name, gains in found.items():
        if gains:
            names = _listed(
                f"{method} ({' to '.join(_ends(values))}"
                + (
                    f", {len(values)} of {nb_settings} settings)"
                    if len(values) < nb_settings
                    else ")"
                )
                for method, values in gains.items()
            )
            yield _CLASSES[name].format(measure=_NAMES[measure], names=names)
    if found["helps"] or found["rectified"] or found["loses"]:
        yield "Gains are over the map as is, by paired t-tests at 5 % with Holm's correction."


def _gain_of(rows: pd.DataFrame) -> str:
    """The gain over the map as is, with its standard error."""
    if "as is" not in rows.index:
        return "not known"
    row = rows.loc["as is"]
    return f"{row['gain']:+.3f} ± {row['standard_error']:.3f}"


def _ends(texts: list[str]) -> list[str]:
    """The least and the largest of the gains, or the one."""
    ordered = sorted(texts, key=lambda text: float(text.split()[0]) if text[0] in "+-" else 0.0)
    return list(dict.fromkeys([ordered[0], ordered[-1]]))


def _class_of(rows: pd.DataFrame) -> str:
    """Of a method in a setting: what its rows, indexed by the reference, say of the filter."""
    if _is_same(rows).any():
        return "none"
    signs = np.sign(rows["gain"]).where(_is_significant(rows), 0)
    as_is, rectified = (signs.get(name, 0) for name in ("as is", "rectified"))
    if min(as_is, rectified) < 0:
        return "loses"
    if as_is > 0:
        return "helps" if rectified > 0 else "rectified"
    return "open"


def _is_same(rows: pd.DataFrame) -> pd.Series:
    """Whether the filtered maps are those of the reference on all images: no filter was chosen."""
    return (rows["gain"] == 0) & (rows["standard_error"] == 0)


def _is_significant(rows: pd.DataFrame) -> pd.Series:
    return rows["p_holm"] < 1 - LEVEL


def _agreement(robustness: pd.DataFrame) -> Iterable[str]:
    """How far rankings and cutoffs of one setting hold in another."""
    words = {"as is": "maps as they are", "filtered": "filtered maps", "sigma": "cutoffs"}
    parts = [
        f"{_span(rows['tau'], '.2f')}{_interval(rows)} for the {words[compared]}"
        for compared, rows in robustness.groupby("compared", sort=False)
        if rows["tau"].notna().any()
    ]
    if parts:
        yield f"Between settings, Kendall's tau of the rankings is {_listed(parts)}."
    if len(robustness):
        yield "Each ranking is that of its setting alone."


def _interval(rows: pd.DataFrame) -> str:
    """The bounds of a tau that is the only one."""
    row = rows.iloc[0]
    known = len(rows) == 1 and not np.isnan(row["low"])
    return f" [{row['low']:.2f}, {row['high']:.2f}]" if known else ""


def _leaders(ranking: pd.DataFrame, costs: pd.DataFrame, measure: str) -> Iterable[str]:
    """Who may be first in each setting, at how many passes."""
    for _, rows in ranking.groupby(SETTING, sort=False):
        # without an interval, the first
        first = rows[(rows["rank_low"] == 1) | (rows["rank"] == 1)]
        names = [
            _leader(method, treatments["treatment"], costs.loc[method])
            for method, treatments in first.groupby("method", sort=False)
        ]
        by = f"by {_NAMES[measure]}"
        if len(names) == 1:
            text = f"First {by}: {names[0]}."
        else:
            text = f"May be first {by}, within 95 % intervals of the ranks: {_listed(names)}."
        yield _in_setting(ranking, rows, text)


def _leader(method: str, treatments: Iterable[str], costs: pd.Series) -> str:
    if costs["kind"] == "control":
        return f"the control {method}"
    passes = costs["forward"] + costs["backward"]
    cost = "passes not known" if np.isnan(passes) else f"{passes:g} passes an image"
    return f"{method} {_listed(treatments)} ({cost})"


def _in_setting(table: pd.DataFrame, rows: pd.DataFrame, text: str) -> str:
    """The sentence, after its setting where the table has several."""
    if len(table[SETTING].drop_duplicates()) == 1:
        return text
    row = rows.iloc[0]
    setting = setting_in_words(row["baseline"], row["patch_size"])
    return f"With {setting}: {text}"


def _with_gains(rows: pd.DataFrame) -> str:
    return _listed(f"{row.method} ({row.gain:+.3f})" for row in rows.itertuples())


def _span(values: Iterable[float], form: str = "+.3f") -> str:
    """The least and the largest number, or the one."""
    texts = [format(bound, form) for bound in (np.nanmin(list(values)), np.nanmax(list(values)))]
    return " to ".join(dict.fromkeys(texts))


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
