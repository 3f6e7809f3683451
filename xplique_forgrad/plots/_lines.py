"""
Scores, residuals and spectra as curves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import LogLocator

from ._records import Relevance, Residual, RingCorrelation, Search
from ._style import COLOURS, axes_or_new, check_mapping, short

# cutoffs that are few enough to be labelled each
_MOST_TICKS = 8


def plot_search(search: Search, *, ax: Axes | None = None) -> Axes:
    """
    Draw the mean score over sigma, one curve a window and rectification.

    The best cutoff is marked at its mean score, and the others lie below it by their paired
    differences, so that candidates that a race scored on fewer images can be compared; the band is
    one standard error of that difference. The held-out score of the choice is a diamond, and the
    maps without a filter are horizontal lines. The scores of the control's maps are grey; unless
    they were subtracted, they are known for the choice and the unfiltered maps alone.

    Parameters
    ----------
    search
        A `SigmaSearch`.
    ax
        Axes of matplotlib to draw on; new ones if None.

    Returns
    -------
    ax :
        The Axes.
    """
    ax = axes_or_new(ax, (5, 3.5))
    table = search.to_frame().drop(columns="control", errors="ignore")
    table = table.join(search.curves)
    unfiltered, filtered = table[table["sigma"].isna()], table[table["sigma"].notna()]
    markers = itertools.cycle("os^Dv<>p")
    families = filtered.groupby(["window", "rectify"], dropna=False, sort=False)
    for marker, ((window, rectify), family) in zip(markers, families):
        family = family.sort_values("sigma")
        name = window if isinstance(rectify, str) else f"{window}, signed"
        name += ", positive part" if rectify == "positive" else ""
        mean, error = family["own"], family["own_error"].fillna(0)
        (line,) = ax.plot(family["sigma"], mean, marker=marker, markersize=3, label=name)
        ax.fill_between(
            family["sigma"], mean - error, mean + error, color=line.get_color(), alpha=0.2, lw=0
        )
    styles = itertools.cycle(("--", ":", "-."))
    drawn: list[float] = []
    for style, (name, row) in zip(styles, unfiltered.iterrows()):
        if row["own"] not in drawn:
            ax.axhline(row["own"], color="0.35", ls=style, lw=1.2, label=f"{name}, no filter")
        drawn.append(row["own"])
    _draw_control(ax, unfiltered, filtered)
    if search.best_sigma is not None:
        point = search.best_sigma, search.best_score
        ax.plot(*point, "*", color="black", markersize=11, label=f"best, sigma = {point[0]:g}")
        held_out = point[0], search.held_out_score
        ax.plot(*held_out, "D", color="black", mfc="none", label="held out")
    ax.set_xscale("log")
    tried = sorted(filtered["sigma"].unique())
    if len(tried) <= _MOST_TICKS:
        ax.set_xticks(tried, [f"{sigma:g}" for sigma in tried])
        ax.set_xticks([], minor=True)
    else:
        _label_decades(ax.xaxis)
    ax.set_xlabel("sigma (cycles along the longest side)")
    better = "higher" if search.higher_is_better else "lower"
    ax.set_ylabel(f"{search.objective} ({better} is better)")
    ax.legend(fontsize=7)
    return ax


def _draw_control(ax: Axes, unfiltered: pd.DataFrame, filtered: pd.DataFrame) -> None:
    """The control's scores in grey: a curve or single points, and the lowest line of no filter."""
    known = filtered[filtered["control"].notna()].sort_values("sigma")
    families = known.groupby(["window", "rectify"], dropna=False, sort=False)
    for place, (_, family) in enumerate(families):
        mean, error = family["control"], family["control_error"].fillna(0)
        name = "_" if place else "control"
        ax.errorbar(family["sigma"], mean, error, color="0.6", marker="x", lw=1.2, label=name)
    for level in unfiltered["control"].dropna().unique()[-1:]:
        ax.axhline(level, color="0.75", ls="--", lw=1.2, label="control, no filter")


def plot_residuals(residual: Residual, *, ax: Axes | None = None) -> Axes:
    """
    Draw the residual of the linear model with a filtered gradient, over that with the full one.

    One curve a cutoff, the median over images; the band is the middle half of the images. The
    dashed curve is the control without any gradient: where it lies at 1 too, the test cannot tell
    a good gradient from none.

    Parameters
    ----------
    residual
        A `TaylorResidual`: `linearization.taylor_residual`.
    ax
        Axes of matplotlib to draw on; new ones if None.

    Returns
    -------
    ax :
        The Axes.
    """
    ax = axes_or_new(ax, (5, 3.5))
    named = {f"sigma = {sigma:g}": ratio for sigma, ratio in zip(residual.sigmas, residual.ratio)}
    styles = zip(itertools.cycle(COLOURS), itertools.cycle("os^Dv<>p"))
    for (name, ratio), (colour, marker) in zip(named.items(), styles):
        low, middle, high = np.percentile(ratio, [25, 50, 75], axis=0)
        ax.plot(residual.radii, middle, color=colour, marker=marker, markersize=4, label=name)
        ax.fill_between(residual.radii, low, high, color=colour, alpha=0.15, lw=0)
    control = np.median(residual.zero_order_ratio, axis=0)
    ax.plot(residual.radii, control, "--", color="black", label="no gradient")
    ax.axhline(1, color="0.6", lw=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    _label_decades(ax.yaxis)
    ax.set_xlabel("radius of the perturbation (norm, unit of the inputs)")
    ax.set_ylabel("residual / residual of the full gradient")
    ax.legend(fontsize=7)
    return ax


def plot_relevance(relevance: Relevance, *, ax: Axes | None = None) -> Axes:
    """
    Draw by how much a step in each octave of frequencies lowers the margin, beside random steps.

    One curve a norm, with one standard error; the dashed curve of its colour is the control, random
    directions of the same spectrum. The corners of the spectrum, which are no whole octave, are
    left out.

    Parameters
    ----------
    relevance
        A `DecisionRelevance`: `decisions.decision_relevance`.
    ax
        Axes of matplotlib to draw on; new ones if None.

    Returns
    -------
    ax :
        The Axes.
    """
    ax = axes_or_new(ax, (5, 3.5))
    table = relevance.to_frame()
    octaves = table[(table["kind"] == "octave") & (table["high"] < table["high"].max())]
    for colour, (norm, rows) in zip(itertools.cycle(COLOURS), octaves.groupby("norm")):
        for name, style in (("change", "-o"), ("control_change", "--")):
            values, errors = -rows[name], rows[f"{name}_error"].fillna(0)
            label = f"norm {norm:g}" if name == "change" else f"norm {norm:g}, random"
            ax.plot(rows["high"], values, style, color=colour, markersize=4, label=label)
            ax.fill_between(
                rows["high"], values - errors, values + errors, color=colour, alpha=0.15, lw=0
            )
    ax.axhline(0, color="0.6", lw=0.8)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("octave, up to so many cycles along the longest side")
    ax.set_ylabel("fall of the margin")
    ax.legend(fontsize=7)
    return ax


def plot_layers(
    tables: Mapping[str, pd.DataFrame] | pd.DataFrame, *, ax: Axes | None = None
) -> Axes:
    """
    Draw the content of the gradients layer by layer, from the input to the output.

    Layers are placed as in the first table, and those that only another table has halfway behind
    the layer that they follow there. Dotted lines mark the layers of the first table that
    downsample. The band is one standard error.

    Parameters
    ----------
    tables
        Name of each curve and its table, such as {"trained": ..., "random": ...}, or one table:
        `layers.layerwise_high_frequency`.
    ax
        Axes of matplotlib to draw on; new ones if None.

    Returns
    -------
    ax :
        The Axes.

    Raises
    ------
    TypeError
        If `tables` is neither a table nor a mapping.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = {"layer": ["input", "conv"], "stride": [1, 2], "mean": [0.5, 0.2]}
    >>> ax = plot_layers(pd.DataFrame({**columns, "standard_error": 0.01}))
    >>> ax.lines[0].get_xydata().tolist()
    [[0.0, 0.5], [1.0, 0.2]]
    """
    if isinstance(tables, pd.DataFrame):
        tables = {"": tables}
    check_mapping("tables", tables, "{'trained': layerwise_high_frequency(model, x, y)}")
    ax = axes_or_new(ax, (7, 3.8))
    first = next(iter(tables.values()))
    positions = {layer: float(index) for index, layer in enumerate(first["layer"])}
    styles = zip(itertools.cycle(COLOURS), itertools.cycle("os^Dv<>p"))
    for (name, table), (colour, marker) in zip(tables.items(), styles):
        x = _places(table["layer"], positions)
        order = np.argsort(x, kind="stable")
        where, mean = x[order], table["mean"].to_numpy()[order]
        error = table["standard_error"].to_numpy()[order]
        label = name or None
        ax.plot(where, mean, color=colour, marker=marker, markersize=4, lw=1.2, label=label)
        ax.fill_between(where, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
    ax.set_xlim(-0.5, len(first) - 0.5)
    _mark_layers(first.loc[first["stride"] > 1, "layer"], positions, ax)
    ax.set_xlabel("layer, from the input to the output (dotted: downsamples)")
    ax.set_ylabel(_label_of(str(first.attrs.get("measure", "mean"))))
    if any(tables):
        ax.legend(fontsize=7)
    return ax


def _label_of(measure: str) -> str:
    """What a measure of the gradients says, a share with what it is of."""
    if measure == "high_frequency_power":
        return "share of the power of the gradient\nbeyond a quarter of the layer's size"
    return f"{measure.replace('_', ' ')} of the gradient"


def _places(layers: Iterable[str], positions: Mapping[str, float]) -> np.ndarray:
    """Where each layer is drawn: those without a position halfway behind the one they follow."""
    places, last = [], 0.0
    for layer in layers:
        last = positions.get(layer, np.floor(last) + 0.5)
        places.append(last)
    return np.array(places)


def _mark_layers(layers: Iterable[str], positions: Mapping[str, float], ax: Axes) -> None:
    """Dotted lines at these layers, with their names where there is room."""
    labelled = -np.inf
    for layer in layers:
        ax.axvline(positions[layer], color="0.5", ls=":", lw=1)
        if positions[layer] - labelled < 0.03 * len(positions):
            continue
        labelled = positions[layer]
        ax.annotate(
            short(layer),
            (positions[layer], 1.01),
            xycoords=("data", "axes fraction"),
            rotation=40,
            fontsize=6,
        )


def plot_ring_correlation(
    curves: Mapping[str, RingCorrelation], *, threshold: float = 0.5, ax: Axes | None = None
) -> Axes:
    """
    Draw up to which radius two sets of maps agree.

    Parameters
    ----------
    curves
        Name of each curve and its `RingCorrelation`: `spectrum.fourier_ring_correlation`.
    threshold
        Correlation to mark.
    ax
        Axes of matplotlib to draw on; new ones if None.

    Returns
    -------
    ax :
        The Axes.

    Raises
    ------
    TypeError
        If `curves` is no mapping.
    """
    check_mapping("curves", curves, "{'two noisy copies': fourier_ring_correlation(a, b)}")
    ax = axes_or_new(ax, (5, 3.2))
    styles = zip(itertools.cycle(COLOURS), itertools.cycle(("-", "--", ":", "-.")))
    for (name, curve), (colour, style) in zip(curves.items(), styles):
        ax.plot(curve.radius[1:], curve.correlation[1:], style, color=colour, label=name)
    ax.axhline(threshold, color="0.5", lw=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("radius (cycles along the longest side)")
    ax.set_ylabel("Fourier ring correlation")
    ax.legend(fontsize=7)
    return ax


def _label_decades(axis: XAxis | YAxis) -> None:
    """Ticks at 1, 2 and 5 of each decade of a logarithmic axis, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
