"""
Scores of methods over what they cost.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from matplotlib.transforms import blended_transform_factory

from ._names import FONT, Box, box_of, place_names, spread_names
from ._style import COLOURS, check_mapping

_KINDS = {
    "white": ("white-box", "o", COLOURS[0]),
    "grey": ("grey-box", "s", COLOURS[1]),
    "black": ("black-box", "^", COLOURS[2]),
}
_SIZE = 6
# between methods of equal passes, as a share of the width
_STEP = 0.022
# and by which share of the height those at one place are apart
_GAP = 0.01
_MARGIN = 0.06


class _Point(NamedTuple):
    """A method: its passes and where it is drawn, and its value and error by treatment."""

    method: str
    kind: str
    passes: float
    place: float
    values: dict[str, float]
    errors: dict[str, float]

    @property
    def named_at(self) -> float:
        """The value that the name stands beside."""
        return self.values.get("filtered", next(iter(self.values.values())))


class _Panel(NamedTuple):
    """What names must know: the points, the corners of the front, the names at the edge."""

    points: list[_Point]
    front: np.ndarray
    names: list[Text]


def plot_front(
    tables: Mapping[str, pd.DataFrame] | pd.DataFrame,
    *,
    measure: str = "specific",
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """
    Draw what methods score over the passes of the model that their maps cost, one panel a table.

    A hollow marker is a method as it is, the filled one that is joined to it is filtered; bars are
    standard errors. Methods of equal passes that would cover each other stand side by side. The
    step line is the front: no other map scores more at as few passes. Controls, which explain
    nothing, are grey at the right edge: dotted as they are, a line when filtered. So are methods
    whose passes are not known. Names are placed for the size that the figure has.

    Parameters
    ----------
    tables
        Title of each panel and its table, or one table: rows of `Benchmark.to_frame` of one model,
        baseline and patch size.
    measure
        What is drawn: a column of the tables that has an error beside it, the higher the better.
    axes
        Axes of matplotlib to draw on, as many as tables; new ones if None.

    Returns
    -------
    axes :
        Array of the Axes, of shape (number of tables,).

    Raises
    ------
    ValueError
        If there is no table, a table lacks a column or has two rows of a method and treatment, or
        the number of Axes is another.
    TypeError
        If `tables` is neither a table nor a mapping.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"method": "Saliency", "kind": "white", "treatment": ["as is", "filtered"]}
    >>> scores = {"specific": [0.1, 0.2], "specific_error": 0.01, "forward": 1, "backward": 1}
    >>> (ax,) = plot_front(pd.DataFrame({**rows, **scores}))
    >>> [text.get_text() for text in ax.texts]
    ['Saliency']
    """
    if isinstance(tables, pd.DataFrame):
        tables = {"": tables}
    check_mapping("tables", tables, "{'ResNet50': benchmark.to_frame()}")
    for table in tables.values():
        _check_table(table, measure)
    if axes is None:
        _, new = plt.subplots(
            len(tables), figsize=(8, 5 * len(tables)), layout="constrained", squeeze=False
        )
        axes = new[:, 0]
    panels = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(panels) != len(tables):
        raise ValueError(
            f"`axes` has {len(panels)} Axes for {len(tables)} tables; give one for each, or None."
        )
    drawn = [
        _draw_panel(ax, title, table, measure) for ax, (title, table) in zip(panels, tables.items())
    ]
    # names are moved apart in the final size of the Axes
    for figure in {ax.get_figure(root=True) for ax in panels}:
        figure.draw_without_rendering()
    for ax, panel in zip(panels, drawn):
        spread_names(ax, panel.names)
        named = sorted(((p.method, p.place, p.named_at) for p in panel.points), key=lambda n: -n[2])
        place_names(ax, named, _marks(ax, panel.points, panel.front))
    return panels


def _check_table(table: pd.DataFrame, measure: str) -> None:
    wanted = ["method", "kind", "treatment", measure, f"{measure}_error", "forward", "backward"]
    if lacking := [name for name in wanted if name not in table.columns]:
        raise ValueError(
            f"The table lacks {', '.join(lacking)}; give rows of `Benchmark.to_frame`."
        )
    if not table[measure].notna().any():
        raise ValueError(f"{measure!r} was not measured; draw another measure.")
    if table.duplicated(["method", "treatment"]).any():
        raise ValueError(
            "The table has two rows of a method and treatment; give one model, baseline and patch "
            "size a table, such as {name: rows for name, rows in frame.groupby('model')}."
        )


def _draw_panel(ax: Axes, title: str, table: pd.DataFrame, measure: str) -> _Panel:
    table = table[table["treatment"].isin(("as is", "filtered")) & table[measure].notna()]
    points = _points_of(table, measure)
    placed = [point for point in points if np.isfinite(point.place)]
    at_the_edge = [point for point in points if not np.isfinite(point.place)]
    ax.set_xscale("log")
    # room for names at both sides
    ax.margins(x=0.09)
    for point in placed:
        _draw_point(ax, point)
    front = _draw_front(ax, placed)
    ends = [
        value + sign * np.nan_to_num(point.errors[treatment])
        for point in points
        for treatment, value in point.values.items()
        for sign in (-1, 1)
    ]
    margin = _MARGIN * (max(ends) - min(ends) or 1)
    ax.set_ylim(min(ends) - margin, max(ends) + margin)
    ax.set_xlabel("passes of the model per image, forward + backward (equal ones may stand aside)")
    for axis in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
        axis(StrMethodFormatter("{x:g}"))
    if len({round(np.log10(point.passes)) for point in placed}) > 1:
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel(f"{_in_words(measure)} (mean ± standard error)")
    ax.set_title(title, fontsize=9, loc="left", pad=20)
    _draw_legend(ax, placed, at_the_edge)
    names = _draw_edge(ax, at_the_edge)
    return _Panel(placed, front, names)


def _points_of(table: pd.DataFrame, measure: str) -> list[_Point]:
    points = []
    for method, rows in table.groupby("method", sort=False):
        row = rows.iloc[0]
        is_control = row["kind"] == "control"
        passes = np.nan if is_control else float(row["forward"] + row["backward"])
        by_treatment = rows.set_index("treatment")
        points.append(
            _Point(
                str(method),
                str(row["kind"]),
                # a logarithm has no place for a method that needs none
                passes if passes > 0 else np.nan,
                np.nan,
                by_treatment[measure].astype(float).to_dict(),
                by_treatment[f"{measure}_error"].astype(float).to_dict(),
            )
        )
    return _side_by_side(points)


def _side_by_side(points: list[_Point]) -> list[_Point]:
    """The points, those of equal passes apart where they would cover each other."""
    known = np.array([point.passes for point in points if np.isfinite(point.passes)])
    decades = float(np.log10(known.max() / known.min())) if len(known) else 0.0
    step = _STEP * max(decades, 1.0)
    gap = _GAP * np.ptp([value for point in points for value in point.values.values()])
    taken: dict[tuple[float, int], list[tuple[float, float]]] = {}
    placed = []
    for point in sorted(points, key=lambda p: -p.named_at):
        bars = [
            value + sign * np.nan_to_num(point.errors[treatment])
            for treatment, value in point.values.items()
            for sign in (-1, 1)
        ]
        low, high = min(bars) - gap, max(bars) + gap
        # at its passes, or a step to the right, to the left, two to the right, ...
        for index in itertools.count():
            spans = taken.setdefault((point.passes, index), [])
            if all(high < other_low or other_high < low for other_low, other_high in spans):
                break
        spans.append((low, high))
        side = (index + 1) // 2 * (1 if index % 2 else -1)
        placed.append(point._replace(place=point.passes * 10 ** (step * side)))
    return placed


def _draw_point(ax: Axes, point: _Point) -> None:
    _, marker, colour = _KINDS.get(point.kind, (point.kind, "D", COLOURS[3]))
    x = [point.place] * len(point.values)
    ax.plot(x, [*point.values.values()], color=colour, lw=0.8, alpha=0.6, zorder=2)
    for treatment, value in point.values.items():
        ax.errorbar(
            point.place,
            value,
            point.errors[treatment],
            color=colour,
            marker=marker,
            markersize=_SIZE,
            markerfacecolor=colour if treatment == "filtered" else "white",
            elinewidth=0.8,
            capsize=0,
            zorder=3,
        )


def _draw_front(ax: Axes, points: Iterable[_Point]) -> np.ndarray:
    """Draw the highest values at as few passes or fewer to the right edge; corners of the line."""
    best, front = -np.inf, []
    for point in sorted(points, key=lambda p: (p.passes, -max(p.values.values()))):
        value = max(point.values.values())
        if value > best:
            best = value
            front.append((point.place, value))
    if not front:
        return np.empty((0, 2))
    right = ax.get_xlim()[1]
    x, y = zip(*front, (right, best))
    ax.step(x, y, where="post", color="0.3", lw=0.9, ls="--", zorder=1, label="front")
    ax.set_xlim(right=right)
    return np.column_stack([np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]])


def _draw_edge(ax: Axes, points: Iterable[_Point]) -> list[Text]:
    """Lines at the right edge, and their names outside of it."""
    names = []
    for point in points:
        for treatment, value in point.values.items():
            style = "-" if treatment == "filtered" else ":"
            ax.axhline(value, 0.965, 1, color="0.5", lw=1.4, ls=style, zorder=1)
        name = point.method if point.kind == "control" else f"{point.method} (passes not known)"
        text = ax.text(
            1.02,
            point.named_at,
            name,
            transform=blended_transform_factory(ax.transAxes, ax.transData),
            fontsize=FONT,
            color="0.35",
            va="center",
        )
        names.append(text)
    return names


def _draw_legend(ax: Axes, placed: Iterable[_Point], at_the_edge: Sequence[_Point]) -> None:
    handles = []
    there = [point.kind for point in placed]
    for kind in sorted({*there}, key=[*_KINDS, *there].index):
        label, marker, colour = _KINDS.get(kind, (kind, "D", COLOURS[3]))
        handles.append(Line2D([], [], color=colour, marker=marker, ls="", label=label))
    handles += [
        Line2D([], [], color="black", marker="o", ls="", mfc="white", label="as is"),
        Line2D([], [], color="black", marker="o", ls="", label="filtered"),
        Line2D([], [], color="0.3", lw=0.9, ls="--", label="front"),
    ]
    if at_the_edge:
        handles.append(Line2D([], [], color="0.5", lw=1.4, label="control (dotted: as is)"))
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.995),
        ncols=len(handles),
        fontsize=FONT,
        frameon=False,
        borderpad=0.2,
        handletextpad=0.4,
        columnspacing=1.2,
        handlelength=1.6,
    )


def _marks(ax: Axes, points: Iterable[_Point], front: np.ndarray) -> list[Box]:
    """Boxes in pixels of what names must not cover: markers, bars and the front."""
    scale = ax.figure.dpi / 72
    half = scale * (_SIZE / 2 + 1)
    boxes: list[Box] = []
    for point in points:
        spots = ax.transData.transform([(point.place, value) for value in point.values.values()])
        boxes += [(x - half, y - half, x + half, y + half) for x, y in spots]
        ends = [
            (point.place, value + sign * np.nan_to_num(point.errors[treatment]))
            for treatment, value in point.values.items()
            for sign in (-1, 1)
        ]
        boxes.append(box_of(ax.transData.transform(ends), scale))
    if len(front):
        corners = ax.transData.transform(front)
        boxes += [box_of(np.array(pair), scale) for pair in itertools.pairwise(corners)]
    return boxes


def _in_words(measure: str) -> str:
    return {"specific": "specific faithfulness"}.get(measure, measure.replace("_", " "))
