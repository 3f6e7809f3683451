"""
Tables of a benchmark: means, comparisons, rankings and how far these hold across settings.

Each is a pure function of the scores by image, which `scores_of` makes once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .._statistics import standard_error
from ._inference import PairedTest, holm, kendall_tau, paired_test, ranks_of, tau_of_means
from ._records import LOWER_IS_BETTER, MEASURES, ROW, SETTING, TREATMENTS, Tables

COMPARED = ("faithfulness", "specific")
# scores that differ by less are of one map
_SAME = 1e-6


def scores_of(tables: Tables) -> pd.DataFrame:
    """
    The records in order, with all measures, the kind of method, and `is_copy`.

    That marks rectified rows of methods whose maps have no sign: they repeat the rows as is.
    """
    records, methods = tables.records, tables.methods
    kinds = methods[["model", "method", "kind"]]
    scores = records.merge(kinds, how="left", on=["model", "method"]).assign(
        faithfulness=records["insertion"] - records["deletion"],
        specific=records["insertion"] - records["deletion"] - records["control"],
        global_score=records["insertion"] + records["mu_fidelity"] - records["deletion"],
    )
    order = {"treatment": TREATMENTS, "baseline": records["baseline"]}
    order.update({name: methods[name] for name in ("model", "method")})
    places = {
        name: {value: place for place, value in enumerate(dict.fromkeys(values))}
        for name, values in order.items()
    }
    scores = scores.sort_values(
        [*ROW, "image"],
        key=lambda column: column.map(places.get(column.name, lambda value: value)),
        ignore_index=True,
    )
    copies = pd.MultiIndex.from_frame(scores[["model", "method"]]).isin(_copies(scores))
    return scores.assign(is_copy=copies & (scores["treatment"] == "rectified"))


def _copies(scores: pd.DataFrame) -> pd.Index:
    """Models and methods whose rectified maps are scored as those as is, on all images."""
    indexed = scores.set_index([*SETTING, "method", "image"])
    rectified, raw = (
        indexed.loc[indexed["treatment"] == treatment, ["deletion", "insertion"]]
        for treatment in ("rectified", "as is")
    )
    raw = raw.reindex(rectified.index)
    same = np.isclose(rectified, raw, rtol=0, atol=_SAME, equal_nan=True).all(axis=1)
    by_method = pd.Series(same, rectified.index).groupby(["model", "method"]).all()
    return by_method[by_method].index


def selected(
    table: pd.DataFrame,
    model: str | None = None,
    baseline: str | None = None,
    patch_size: int | None = None,
) -> pd.DataFrame:
    """
    Rows of a model, baseline and patch size; of all where None.

    Raises
    ------
    ValueError
        If there are none.
    """
    for name, wanted in (("model", model), ("baseline", baseline), ("patch_size", patch_size)):
        if wanted is None:
            continue
        found = table[name].unique()
        table = table[table[name] == wanted]
        if not len(table):
            there = ", ".join(map(repr, found.tolist()))
            raise ValueError(f"`{name}` is {wanted!r}; this benchmark has {there}.")
    return table


def check_measure(measure: str, allowed: Sequence[str] = MEASURES) -> None:
    """Raise a ValueError unless the measure is one of those allowed."""
    if measure not in allowed:
        raise ValueError(f"`measure` is {measure!r}; give one of {', '.join(map(repr, allowed))}.")


def by_setting(scores: pd.DataFrame, measure: str) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """
    Model, baseline and patch size with their scores of a measure: a row an image, a column a
    method and treatment.
    """
    for setting, rows in scores.groupby(SETTING, sort=False):
        columns = pd.MultiIndex.from_frame(rows[["method", "treatment"]]).unique()
        table = rows.pivot(index="image", columns=["method", "treatment"], values=measure)
        yield setting, table[columns]


def frame_of(scores: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """The table of `Benchmark.to_frame`, with the column `is_copy`."""
    keys = [*ROW, "kind", "is_copy"]
    groups = scores.groupby(keys, sort=False)
    measured = groups[[*MEASURES]]
    means, errors = measured.mean(), measured.agg(standard_error).add_suffix("_error")
    columns = [column for name in MEASURES for column in (name, f"{name}_error")]
    values = groups.size().rename("nb_images").to_frame().join([means, errors])
    frame = values[["nb_images", *columns]].reset_index()
    frame = frame.merge(
        tables.choices[[*SETTING, "method", "sigma"]], how="left", on=[*SETTING, "method"]
    )
    frame["sigma"] = frame["sigma"].where(frame["treatment"] == "filtered")
    ranked = frame[frame["kind"] != "control"].groupby([*SETTING, "treatment"], sort=False)
    frame["rank"] = ranked["global_score"].rank(ascending=False, method="min")
    costs = tables.methods[["model", "method", "seconds", "forward", "backward"]]
    frame = frame.merge(costs, how="left", on=["model", "method"])
    order = [*keys, "sigma", "nb_images", *columns, "rank", "seconds", "forward", "backward"]
    return frame[order]


def comparisons_of(scores: pd.DataFrame) -> pd.DataFrame:
    """The table of `Benchmark.comparisons`."""
    kinds = scores.drop_duplicates(["model", "method"]).set_index(["model", "method"])["kind"]
    rows: list[dict[str, Any]] = []
    for measure in COMPARED:
        for setting, table in by_setting(scores, measure):
            for method in table.columns.unique("method"):
                rows.extend(
                    {
                        **dict(zip(SETTING, setting)),
                        "method": method,
                        "kind": kinds[setting[0], method],
                        "measure": measure,
                        "reference": reference,
                        **paired_test(
                            table[method, "filtered"].to_numpy(),
                            table[method, reference].to_numpy(),
                        )._asdict(),
                    }
                    for reference in ("as is", "rectified")
                    if {(method, "filtered"), (method, reference)} <= {*table.columns}
                )
    columns = [*SETTING, "method", "kind", "measure", "reference", *PairedTest._fields]
    found = pd.DataFrame(rows, columns=columns)
    families = found[found["kind"] != "control"].groupby([*SETTING, "measure", "reference"])
    # controls have no hypothesis of their own
    found["p_holm"] = families["p_value"].transform(lambda values: holm(values.to_numpy()))
    return found


def ranking_of(scores: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The table of `Benchmark.ranking`."""
    check_measure(measure)
    sign = -1 if measure in LOWER_IS_BETTER else 1
    kinds = scores.drop_duplicates(["model", "method"]).set_index(["model", "method"])["kind"]
    parts = []
    for setting, table in by_setting(scores[~scores["is_copy"]], measure):
        known = table.dropna(axis=1, how="all").dropna()
        if not known.size:
            continue
        ranks = ranks_of(sign * known.to_numpy())
        methods, treatments = (known.columns.get_level_values(level) for level in range(2))
        columns = {
            **dict(zip(SETTING, setting)),
            "method": methods,
            "treatment": treatments,
            "kind": [kinds[setting[0], method] for method in methods],
            "nb_images": len(known),
            "mean": known.mean().to_numpy(),
            "error": standard_error(known.to_numpy(), axis=0),
            "rank": ranks.rank.astype(int),
            "rank_low": ranks.low,
            "rank_high": ranks.high,
        }
        parts.append(pd.DataFrame(columns).sort_values("rank", kind="stable"))
    if not parts:
        raise ValueError(f"{measure!r} was not measured; rank by another measure.")
    return pd.concat(parts, ignore_index=True)


def robustness_of(scores: pd.DataFrame, choices: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The table of `Benchmark.robustness`."""
    check_measure(measure)
    methods = scores[scores["kind"] != "control"]
    by_model: dict[str, dict[tuple, pd.DataFrame]] = {}
    for (model, *setting), table in by_setting(methods, measure):
        by_model.setdefault(model, {})[tuple(setting)] = table
    sigmas = choices.set_index(["model", "baseline", "patch_size"])[["method", "sigma"]]
    rows: list[dict[str, Any]] = []
    for model, settings in by_model.items():
        for one, other in itertools.combinations(settings, 2):
            pair = {
                **{"model": model, "baseline": one[0], "patch_size": one[1]},
                **{"other_baseline": other[0], "other_patch_size": other[1]},
            }
            for treatment in ("as is", "filtered"):
                tables = [_treated(settings[setting], treatment) for setting in (one, other)]
                rows.append({**pair, "compared": treatment, **_tau_of(*tables)})
            known = settings[one].columns.unique("method")
            chosen = [_sigmas(sigmas, (model, *setting), known) for setting in (one, other)]
            rows.append({**pair, "compared": "sigma", **_tau_of_sigmas(*chosen)})
    columns = [*SETTING, "other_baseline", "other_patch_size", "compared"]
    return pd.DataFrame(rows, columns=[*columns, "nb_methods", "nb_images", "tau", "low", "high"])


def _treated(table: pd.DataFrame, treatment: str) -> pd.DataFrame:
    treated = table.loc[:, table.columns.get_level_values("treatment") == treatment]
    return treated.droplevel("treatment", axis=1).dropna(axis=1, how="all")


def _tau_of(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, float]:
    shared = one.columns.intersection(other.columns, sort=False)
    both = pd.concat([one[shared], other[shared]], axis=1, join="inner").dropna()
    nb_methods, nb_images = len(shared), len(both)
    values = both.to_numpy()
    if nb_methods < 2 or not nb_images:
        tau = low = high = np.nan
    else:
        tau, low, high = tau_of_means(values[:, :nb_methods], values[:, nb_methods:])
    return {
        **{"nb_methods": nb_methods, "nb_images": nb_images},
        **{"tau": tau, "low": low, "high": high},
    }


def _sigmas(sigmas: pd.DataFrame, setting: tuple, methods: pd.Index) -> pd.Series:
    """Cutoffs by method; where no filter was best, none is removed: infinite."""
    if setting not in sigmas.index:
        return pd.Series(dtype=float)
    chosen = sigmas.loc[[setting]].set_index("method")["sigma"].fillna(np.inf)
    return chosen[chosen.index.isin(methods)]


def _tau_of_sigmas(one: pd.Series, other: pd.Series) -> dict[str, float]:
    both = pd.concat([one, other], axis=1, join="inner").to_numpy()
    tau = float(kendall_tau(both[:, 0], both[:, 1])) if len(both) else np.nan
    # one value a setting: no images to resample
    return {"nb_methods": len(both), "nb_images": 0, "tau": tau, "low": np.nan, "high": np.nan}
