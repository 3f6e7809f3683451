"""
What the drawings share: colours, and what they say of wrong arguments.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito: told apart by the colour-blind; in grey, markers, lines and hatchings tell
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")


def axes_or_new(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """The Axes given, or those of a new figure."""
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def short(name: str, length: int = 22) -> str:
    """The end of a layer's path, at most so many characters of it."""
    name = name.split("/")[-1]
    return name if len(name) <= length else "..." + name[3 - length :]


def check_mapping(name: str, value: object, example: str, may_be_empty: bool = False) -> None:
    """Raise a TypeError or ValueError unless the value is a mapping that holds something."""
    if not isinstance(value, Mapping):
        raise TypeError(
            f"`{name}` is a {type(value).__name__}; give a dict of title and {name}, such as "
            f"{example}."
        )
    if not value and not may_be_empty:
        raise ValueError(f"`{name}` is empty; give a dict such as {example}.")
