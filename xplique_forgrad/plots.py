"""
Arrays into matplotlib Axes. No global style is touched and nothing is shown.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator


def map_gallery(
    inputs: Any, maps: Mapping[str, Any], *, cmap: str = "viridis", clip_percentile: float = 0.5
) -> np.ndarray:
    """
    Draw each image beside its attribution maps: one row an image, one column a kind of map.

    Each map is drawn between its own `clip_percentile` and 100 - `clip_percentile` percentiles, as
    `xplique.plots` does, so colours compare places within a map and not values between maps.

    Parameters
    ----------
    inputs
        Images of shape (N, H, W, C) with C of 1 or 3, floats in [0, 1] or integers in [0, 255].
    maps
        Title of each column, and its maps of shape (N, H, W) or (N, H, W, C), masks included.
        Channels are averaged.
    cmap
        Colour map of matplotlib.
    clip_percentile
        Percentile to clip at each end, at least 0 and below 50.

    Returns
    -------
    axes
        Array of matplotlib Axes, of shape (N, 1 + len(maps)). The figure is `axes[0, 0].figure`.

    Raises
    ------
    ValueError
        If the images have no 1 or 3 channels or other values than [0, 1] or [0, 255], the maps
        have other numbers or sizes than the images, or `clip_percentile` is out of range.
    TypeError
        If `maps` is no mapping.

    Examples
    --------
    >>> axes = map_gallery(np.zeros((2, 32, 32, 3)), {"saliency": np.zeros((2, 32, 32, 1))})
    >>> axes.shape
    (2, 2)
    """
    inputs = np.asarray(inputs)
    if inputs.ndim != 4 or not len(inputs) or inputs.shape[-1] not in (1, 3):
        raise ValueError(
            f"`inputs` has shape {inputs.shape}; give at least one image of 1 or 3 channels, "
            "(N, H, W, 1) or (N, H, W, 3)."
        )
    if np.issubdtype(inputs.dtype, np.floating) and not (inputs.min() >= 0 and inputs.max() <= 1):
        raise ValueError(
            f"`inputs` reach from {inputs.min():g} to {inputs.max():g}; give floats in [0, 1], or "
            "integers in [0, 255]: the images as they were before preprocessing."
        )
    if not isinstance(maps, Mapping):
        raise TypeError(
            f"`maps` is a {type(maps).__name__}; give a dict of title and maps, such as "
            "{'Saliency': explanations}."
        )
    if not 0 <= clip_percentile < 50:
        raise ValueError(f"`clip_percentile` is {clip_percentile}; it must be in [0, 50[.")
    maps = {title: np.asarray(values, np.float64) for title, values in maps.items()}
    for title, values in maps.items():
        if values.shape[:3] != inputs.shape[:3] or values.ndim > 4:
            raise ValueError(
                f"The maps {title!r} have shape {values.shape}, which does not go with images of "
                f"shape {inputs.shape}: both must begin with (N, H, W)."
            )

    white = 255 if np.issubdtype(inputs.dtype, np.integer) else 1
    nb_rows, nb_columns = len(inputs), 1 + len(maps)
    _, axes = plt.subplots(
        nb_rows,
        nb_columns,
        figsize=(1.5 * nb_columns, 1.5 * nb_rows + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for row, image in enumerate(inputs):
        axes[row, 0].imshow(image, cmap="gray", vmin=0, vmax=white)
        for axis, values in zip(axes[row, 1:], maps.values()):
            drawn = values[row] if values.ndim == 3 else np.mean(values[row], axis=-1)
            low, high = np.percentile(drawn, [clip_percentile, 100 - clip_percentile])
            axis.imshow(drawn, cmap=cmap, vmin=low, vmax=high)
    for axis, title in zip(axes[0], ["image", *maps]):
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return axes


def sigma_curve(search: Any, *, ax: Any = None) -> Any:
    """
    Draw the mean score over sigma, one curve a window and rectification.

    The best cutoff is marked at its mean score, and the others lie below it by their paired
    differences, so that candidates that a race scored on fewer images can be compared; the band is
    one standard error of that difference. The held-out score of the choice is a diamond, and the
    maps without a filter are horizontal lines.

    Parameters
    ----------
    search
        A `SigmaSearch`.
    ax
        Axes of matplotlib to draw on; new ones if None.

    Returns
    -------
    ax
        The Axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    table = search.to_frame()
    table["level"] = search.best_score + table["difference"]
    unfiltered, filtered = table[table["sigma"].isna()], table[table["sigma"].notna()]
    markers = itertools.cycle("os^Dv<>p")
    families = filtered.groupby(["window", "rectify"], dropna=False, sort=False)
    for marker, ((window, rectify), family) in zip(markers, families):
        family = family.sort_values("sigma")
        name = window if isinstance(rectify, str) else f"{window}, signed"
        name += ", positive part" if rectify == "positive" else ""
        mean, error = family["level"], family["difference_error"].fillna(0)
        (line,) = ax.plot(family["sigma"], mean, marker=marker, markersize=3, label=name)
        ax.fill_between(
            family["sigma"], mean - error, mean + error, color=line.get_color(), alpha=0.2, lw=0
        )
    styles = itertools.cycle(("--", ":", "-."))
    drawn: list[float] = []
    for style, (name, row) in zip(styles, unfiltered.iterrows()):
        if row["level"] not in drawn:
            ax.axhline(row["level"], color="0.35", ls=style, lw=1.2, label=f"{name}, no filter")
        drawn.append(row["level"])
    if search.best_sigma is not None:
        point = search.best_sigma, search.best_score
        ax.plot(*point, "*", color="black", markersize=11, label=f"best, sigma = {point[0]:g}")
        held_out = point[0], search.held_out_score
        ax.plot(*held_out, "D", color="black", mfc="none", label="held out")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.set_xlabel("sigma (cycles along the longest side)")
    better = "higher" if search.higher_is_better else "lower"
    ax.set_ylabel(f"{search.objective} ({better} is better)")
    ax.legend(fontsize=7)
    return ax
