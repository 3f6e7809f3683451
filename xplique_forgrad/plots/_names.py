"""
Names beside what they name, where they cover nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox, blended_transform_factory

FONT = 7
# where a name may stand from its marker, in points
_DISTANCES = (7, 12, 20, 30, 42, 56, 72, 90)
_STEP = 6
_HEIGHTS = _STEP * np.arange(-13, 14)

# left, bottom, right and top in pixels
Box = tuple[float, ...]


def spread_names(ax: Axes, names: Sequence[Text]) -> None:
    """Move the names at the edge apart, and join those that moved to their lines."""
    if not names:
        return
    order = sorted(names, key=lambda text: text.get_position()[1])
    true = np.array([text.get_position()[1] for text in order])
    pixels = ax.transData.transform(np.column_stack([np.ones(len(true)), true]))[:, 1]
    height = 1.1 * max(text.get_window_extent().height for text in order)
    # the nearest places in order that are a height apart: means of runs that would overlap
    steps = height * np.arange(len(pixels))
    apart = _increasing(pixels - steps) + steps
    moved = ax.transData.inverted().transform(np.column_stack([np.ones(len(apart)), apart]))[:, 1]
    across = blended_transform_factory(ax.transAxes, ax.transData)
    for text, value, place in zip(order, true, moved):
        text.set_y(place)
        line = Line2D([1, 1.017], [value, place], transform=across, color="0.6", lw=0.6)
        line.set(clip_on=False, in_layout=False)
        ax.add_line(line)


def _increasing(values: np.ndarray) -> np.ndarray:
    """The nearest values that do not decrease, by pooling (isotonic regression)."""
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([float(value), 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (one, n), (other, m) = blocks[-2:]
            blocks[-2:] = [[(n * one + m * other) / (n + m), n + m]]
    return np.repeat([block[0] for block in blocks], [int(block[1]) for block in blocks])


def place_names(ax: Axes, named: Iterable[tuple[str, float, float]], boxes: Sequence[Box]) -> None:
    """
    Write names beside their points, where they cover nothing, or as little as can be.

    Parameters
    ----------
    ax
        Axes whose limits and size are final.
    named
        Each name and its point, in data coordinates. Those named first have the first choice.
    boxes
        What names must not cover.
    """
    scale = ax.figure.dpi / 72
    taken = np.array(boxes, np.float64).reshape(-1, 4)
    inside = ax.get_window_extent()
    for name, *point in named:
        x, y = ax.transData.transform(point)
        text = ax.annotate(
            name,
            (point[0], point[1]),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=FONT,
            va="center",
            zorder=4,
        )
        # names are placed after the layout, and must not move it
        text.set_in_layout(False)
        size = text.get_window_extent()
        across, up = _best_place(x, y, size.width, size.height, scale, taken, inside)
        text.set(ha="left" if across > 0 else "right")
        text.xyann = (across, up)
        if abs(across) > _DISTANCES[1] or abs(up) > _STEP:
            start = ax.transData.inverted().transform((x + across * scale, y + up * scale))
            ax.plot(*zip(point, start), color="0.6", lw=0.5, zorder=1)
        left = x + across * scale - (size.width if across < 0 else 0)
        bottom = y + up * scale - size.height / 2
        taken = np.vstack([taken, (left, bottom, left + size.width, bottom + size.height)])


def box_of(spots: np.ndarray, margin: float) -> Box:
    """The box around spots (N, 2), with a margin."""
    return (*(spots.min(axis=0) - margin), *(spots.max(axis=0) + margin))


def _best_place(
    x: float, y: float, width: float, height: float, scale: float, taken: np.ndarray, inside: Bbox
) -> tuple[float, float]:
    """Offset in points of the near end of a name; to the left where negative across."""
    sides = [sign * distance for distance in _DISTANCES for sign in (1, -1)]
    across, up = np.array([*itertools.product(sides, _HEIGHTS)]).T
    left = x + scale * across - np.where(across < 0, width, 0)
    bottom = y + scale * up - height / 2
    boxes = np.stack([left, bottom, left + width, bottom + height], axis=-1)
    covered = _overlap(boxes[:, np.newaxis], taken).sum(axis=1)
    frame = np.array([inside.x0, inside.y0, inside.x1, inside.y1])
    outside = width * height - _overlap(boxes, frame)
    distance = np.hypot(across, 1.5 * up) + 2 * (across < 0)
    best = int(np.argmin(distance + 10 * covered + 10 * outside))
    return float(across[best]), float(up[best])


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that boxes (left, bottom, right, top) share, of shapes (..., 4)."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    return np.prod(np.maximum(high - low, 0), axis=-1)
