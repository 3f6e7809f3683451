"""
Tables of pandas as cells of text.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# an en dash
MISSING = "\u2013"
# characters from which on a text may wrap, so that it does not stretch its column
_LONG = 32


class Cell(NamedTuple):
    """
    A text and how it is set: `kind` is "number", "long" or empty.
    """

    text: str
    kind: str = ""


class Table(NamedTuple):
    """
    A table to draw.

    Attributes
    ----------
    header
        Names of the columns; empty where none has a name.
    rows
        Cells of each row.
    nb_labels
        Number of columns, from the first, that name the row.
    """

    header: list[Cell]
    rows: list[list[Cell]]
    nb_labels: int


def table_of(frame: pd.DataFrame) -> Table:
    """A table of a frame, with its index unless that only counts the rows."""
    labels: list[tuple[Any, pd.Series]] = []
    if not isinstance(frame.index, pd.RangeIndex):
        levels = [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
        labels = [(level.name, level.to_series()) for level in levels]
    # by position: two columns may have one name
    named = labels + [(name, frame.iloc[:, place]) for place, name in enumerate(frame.columns)]
    columns = [cells_of(values) for _, values in named]
    header = [
        Cell(_name_of(name), "number" if cells and cells[0].kind == "number" else "")
        for (name, _), cells in zip(named, columns)
    ]
    has_names = any(cell.text for cell in header)
    return Table(header if has_names else [], [list(row) for row in zip(*columns)], len(labels))


def cells_of(values: pd.Series) -> list[Cell]:
    """Cells of a column; numbers of a numeric column share their number of decimals."""
    dtype = values.dtype
    if pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_float_dtype(dtype):
        floats = values.to_numpy(np.float64, na_value=np.nan)
        return [Cell(text, "number") for text in format_numbers(floats)]
    return [_cell_of(value) for value in values]


def format_numbers(values: Sequence[float] | np.ndarray) -> list[str]:
    """
    Numbers of a column, aligned by their decimals.

    Three decimals, more if all numbers are below 0.1 and fewer beyond 1000, so that the largest
    has three digits or more; none that are zero in all numbers. A number that these would round to
    zero is written by its order of magnitude.
    """
    sizes = np.abs(np.asarray(values, np.float64))
    largest = float(np.max(sizes, initial=0, where=np.isfinite(sizes)))
    if largest and not 1e-4 <= largest < 1e9:
        return [f"{value:.2e}" if math.isfinite(value) else _not_finite(value) for value in values]
    order = math.floor(math.log10(largest)) if largest else 0
    decimals = 3 if -1 <= order <= 2 else max(0, 2 - order) if order < 0 else 1
    finite = sizes[np.isfinite(sizes)]
    while decimals and np.array_equal(np.round(finite, decimals - 1), np.round(finite, 9)):
        decimals -= 1
    return [_format(value, decimals) for value in values]


def _format(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return _not_finite(value)
    if 0 < abs(value) < 0.5 * 10**-decimals:
        return f"{value:.0e}"
    return f"{value:,.{decimals}f}"


def _not_finite(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:g}"


def _cell_of(value: Any) -> Cell:
    """A cell of a column of mixed values."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return Cell(MISSING)
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)):
        return Cell(format_numbers([float(value)])[0], "number")
    text = str(value)
    return Cell(text, "long" if len(text) > _LONG else "")


def _name_of(name: Any) -> str:
    """The name of a column or index level, in words."""
    parts = name if isinstance(name, tuple) else (name,)
    return " ".join(str(part) for part in parts if part is not None).replace("_", " ").strip()
