"""
Measures by method, by band and by layer as bars, and the diagnosis that holds them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .._statistics import standard_error
from ._lines import plot_layers, plot_ring_correlation
from ._pictures import plot_mean_gradient
from ._records import Diagnosis
from ._style import COLOURS, axes_or_new, check_mapping, short


def plot_content(
    contents: Mapping[str, ArrayLike],
    *,
    families: Mapping[str, str] | None = None,
    label: str = "high-frequency content",
    ax: Axes | None = None,
) -> Axes:
    """
    Draw the mean of a measure by method, with its standard error over the images.

    A method of one image has no standard error.

    Parameters
    ----------
    contents
        Method and its values, one an image, of shape (N,): `spectrum.high_frequency_power`, ...
    families
        Family of each method, such as "white-box"; each gets a colour and a hatching of its own.
    label
        What the values are, with their unit.
    ax
        Axes of matplotlib to draw on; new ones if None.

    Returns
    -------
    ax :
        The Axes.

    Raises
    ------
    ValueError
        If a method has no values, or NaN or infinite ones.
    TypeError
        If `contents` is no mapping.

    Examples
    --------
    >>> ax = plot_content({"Saliency": [0.5, 0.6], "Rise": [0.1, 0.2]}, label="share of power")
    >>> [round(float(bar.get_width()), 2) for bar in ax.patches]
    [0.55, 0.15]
    """
    check_mapping("contents", contents, "{'Saliency': high_frequency_power(explanations)}")
    measured = {method: _checked_values(method, values) for method, values in contents.items()}
    ax = axes_or_new(ax, (5, 0.35 * len(contents) + 0.9))
    named = {method: (families or {}).get(method, "other") for method in contents}
    styles = _family_styles(named.values())
    labelled: set[str] = set()
    for method, values in measured.items():
        family = named[method]
        colour, hatch = styles[family]
        ax.barh(
            method,
            values.mean(),
            xerr=standard_error(values),
            color=colour,
            hatch=hatch,
            edgecolor="white",
            ecolor="black",
            capsize=2,
            label=family if family not in labelled else None,
        )
        labelled.add(family)
    ax.invert_yaxis()
    ax.set_xlabel(f"{label}\n(mean ± standard error)")
    if families:
        ax.legend(fontsize=7, loc="lower right")
    return ax


def _checked_values(method: str, given: ArrayLike) -> np.ndarray:
    values = np.asarray(given, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"The values of {method!r} have shape {values.shape}, or hold NaN; give one finite "
            "number an image."
        )
    return values


def _family_styles(families: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and hatching of each family, in the order in which they first come."""
    hatches = itertools.cycle(("", "///", "...", "xxx", "ooo"))
    return dict(zip(dict.fromkeys(families), zip(itertools.cycle(COLOURS), hatches)))


def plot_bands(
    table: pd.DataFrame, *, axes: Axes | Sequence[Axes] | np.ndarray | None = None
) -> np.ndarray:
    """
    Draw the energy of each band of frequencies and, if scored, what each adds.

    Parameters
    ----------
    table
        A table of `spectrum.band_importance`.
    axes
        Axes of matplotlib to draw on, two for a table with scores and one else; new ones if None.

    Returns
    -------
    axes :
        Array of Axes: energy, then what each band adds to the score.

    Raises
    ------
    ValueError
        If there are too few or too many axes.

    Examples
    --------
    >>> from xplique_forgrad.spectrum import band_importance
    >>> len(plot_bands(band_importance(np.random.rand(2, 32, 32))))
    1
    """
    columns = {"energy": "share of the energy", "added": "added to the score"}
    columns = {name: label for name, label in columns.items() if name in table}
    if axes is None:
        figure, axes = plt.subplots(1, len(columns), figsize=(3.6 * len(columns), 3), squeeze=False)
        figure.set_layout_engine("constrained")
    panels = np.ravel(np.asarray(axes, object))
    if len(panels) != len(columns):
        raise ValueError(f"There are {len(panels)} axes; give {len(columns)}, one for each panel.")
    names = ["mean"] + [f"{row.low:g}-{row.high:.3g}" for row in table.iloc[1:].itertuples()]
    for axis, (name, label), colour in zip(panels, columns.items(), COLOURS):
        # the score of a constant map is where the sum begins, no band
        shown = slice(1 if name == "added" else 0, None)
        axis.bar(
            names[shown],
            table[name].iloc[shown],
            yerr=table[f"{name}_error"].iloc[shown],
            color=colour,
            capsize=2,
        )
        axis.axhline(0, color="0.3", lw=0.8)
        axis.tick_params(axis="x", rotation=45, labelsize=7)
        axis.set_xlabel("band (cycles along the longest side)", fontsize=8)
        axis.set_ylabel(f"{label} (± standard error)", fontsize=8)
    return panels


def plot_diagnosis(found: Diagnosis) -> Figure:
    """
    Draw a diagnosis: the curves of the model and its twin, the layers that inject most, the grid
    that maps share, and up to which radius maps of noisy copies agree.

    Parameters
    ----------
    found
        A `Diagnosis`: `layers.diagnose`.

    Returns
    -------
    figure :
        The matplotlib figure.
    """
    figure, axes = plt.subplots(
        2, 2, figsize=(11, 7.5), width_ratios=(1.7, 1), layout="constrained"
    )
    curves = {"as it is": found.curve}
    if found.twin_curve is not None:
        curves["twin of average pooling"] = found.twin_curve
    plot_layers(curves, ax=axes[0, 0])
    _plot_injections(found.to_frame().head(12).iloc[::-1], axes[1, 0])
    plot_mean_gradient(found.grid, ax=axes[0, 1])
    axes[0, 1].set_title(
        f"mean |gradient| at the input: {found.grid.checkerboard:.3f} of\n"
        f"its variance repeats every {found.grid.stride} pixels",
        fontsize=8,
    )
    plot_ring_correlation({"maps of two noisy copies": found.correlation}, ax=axes[1, 1])
    if found.grid_frequency is not None:
        label = f"grid: {found.grid_frequency:.3g} cycles"
        axes[1, 1].axvline(found.grid_frequency, color="0.3", ls=":", label=label)
    if found.sigma is not None:
        sigma = f"start from sigma = {found.sigma:g}"
        axes[1, 1].axvline(found.sigma, color=COLOURS[3], ls="--", label=sigma)
    axes[1, 1].legend(fontsize=7)
    figure.suptitle(f"{found.model_name}, {found.nb_images} images", fontsize=10)
    return figure


def _plot_injections(table: pd.DataFrame, ax: Axes) -> None:
    """Bars of what each layer injects, those that downsample apart."""
    is_strided = table["stride"] > 1
    for flags, colour, hatch, label in (
        (is_strided, COLOURS[3], "///", "downsamples"),
        (~is_strided, COLOURS[0], "", "keeps the size"),
    ):
        ax.barh(
            np.flatnonzero(flags),
            table.loc[flags, "injected"],
            xerr=table.loc[flags, "standard_error"],
            color=colour,
            hatch=hatch,
            edgecolor="white",
            capsize=2,
            label=label,
        )
    ax.set_yticks(range(len(table)), [short(name) for name in table["layer"]], fontsize=7)
    ax.set_xlabel(
        "injected: share of the power of the gradient behind the layer, less that before it,\n"
        "beyond what the layer's output can hold (hatched) or a quarter of its size (± standard "
        "error)",
        fontsize=8,
    )
    ax.legend(fontsize=7, loc="lower right")
