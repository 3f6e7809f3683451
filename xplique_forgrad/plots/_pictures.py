"""
Maps, spectra and gradients as pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ._records import MeanGradient
from ._style import axes_or_new, check_mapping, short


def plot_maps(
    inputs: ArrayLike,
    maps: Mapping[str, ArrayLike],
    *,
    cmap: str = "viridis",
    clip_percentile: float = 0.5,
    overlay: bool | Collection[str] = False,
    alpha: float = 0.8,
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
    overlay
        Draw each map over its image, as `xplique.plots` does; or the titles of the columns in which
        to do so.
    alpha
        How opaque an overlay is where the map is highest, above 0 and at most 1; where it is lower
        it is less, down to a fifth.

    Returns
    -------
    axes :
        Array of matplotlib Axes, of shape (N, 1 + len(maps)). The figure is `axes[0, 0].figure`.

    Raises
    ------
    ValueError
        If the images have no 1 or 3 channels or other values than [0, 1] or [0, 255], the maps
        have other numbers or sizes than the images, `clip_percentile` or `alpha` is out of range,
        or `overlay` names no column.
    TypeError
        If `maps` is no mapping.

    Examples
    --------
    >>> axes = plot_maps(np.zeros((2, 32, 32, 3)), {"saliency": np.zeros((2, 32, 32, 1))})
    >>> axes.shape
    (2, 2)
    """
    images = _checked_images(inputs)
    check_mapping("maps", maps, "{'Saliency': explanations}", may_be_empty=True)
    if not 0 <= clip_percentile < 50:
        raise ValueError(f"`clip_percentile` is {clip_percentile}; it must be in [0, 50[.")
    if not 0 < alpha <= 1:
        raise ValueError(f"`alpha` is {alpha}; it must be in ]0, 1].")
    columns = [_checked_maps(title, values, images) for title, values in maps.items()]
    is_over = [title in _titles_over(overlay, maps) for title in maps]

    white = 255 if np.issubdtype(images.dtype, np.integer) else 1
    nb_rows, nb_columns = len(images), 1 + len(columns)
    _, axes = plt.subplots(
        nb_rows,
        nb_columns,
        figsize=(1.5 * nb_columns, 1.5 * nb_rows + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for row, image in enumerate(images):
        for axis, shows in zip(axes[row], [True, *is_over]):
            if shows:
                axis.imshow(image, cmap="gray", vmin=0, vmax=white)
        for axis, values, over in zip(axes[row, 1:], columns, is_over):
            drawn = values[row] if values.ndim == 3 else np.mean(values[row], axis=-1)
            low, high = np.percentile(drawn, [clip_percentile, 100 - clip_percentile])
            opacity = alpha * _strength(drawn, low, high) if over else None
            axis.imshow(drawn, cmap=cmap, vmin=low, vmax=high, alpha=opacity)
    for axis, title in zip(axes[0], ["image", *maps]):
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return axes


def _strength(drawn: np.ndarray, low: float, high: float) -> np.ndarray:
    """How high values stand between two limits, from a fifth to 1."""
    span = high - low
    return np.clip((drawn - low) / span, 0.2, 1) if span > 0 else np.ones_like(drawn)


def _titles_over(overlay: bool | Collection[str], maps: Mapping[str, ArrayLike]) -> set[str]:
    """Titles of the columns that are drawn over the images."""
    if isinstance(overlay, bool):
        return set(maps) if overlay else set()
    titles = {overlay} if isinstance(overlay, str) else set(overlay)
    if unknown := titles - set(maps):
        raise ValueError(
            f"`overlay` names {', '.join(map(repr, sorted(unknown)))}; the columns are "
            f"{', '.join(map(repr, maps))}."
        )
    return titles


def _checked_images(inputs: ArrayLike) -> np.ndarray:
    images = np.asarray(inputs)
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"`inputs` has shape {images.shape}; give at least one image of 1 or 3 channels, "
            "(N, H, W, 1) or (N, H, W, 3)."
        )
    if np.issubdtype(images.dtype, np.floating) and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"`inputs` reach from {images.min():g} to {images.max():g}; give floats in [0, 1], or "
            "integers in [0, 255]: the images as they were before preprocessing."
        )
    return images


def _checked_maps(title: str, given: ArrayLike, images: np.ndarray) -> np.ndarray:
    maps = np.asarray(given, np.float64)
    if maps.shape[:3] != images.shape[:3] or maps.ndim > 4:
        raise ValueError(
            f"The maps {title!r} have shape {maps.shape}, which does not go with images of "
            f"shape {images.shape}: both must begin with (N, H, W)."
        )
    return maps


def plot_signatures(
    signatures: Mapping[str, ArrayLike], *, nb_columns: int = 4, floor: float = -60
) -> np.ndarray:
    """
    Draw Fourier signatures side by side, each in decibels below its own peak.

    Parameters
    ----------
    signatures
        Title and signature (H, W), zero frequency in the centre: `spectrum.fourier_signature`.
    nb_columns
        Number of pictures in a row.
    floor
        Decibels below the peak that are drawn darkest, negative.

    Returns
    -------
    axes :
        Array of matplotlib Axes, one a signature, of shape (len(signatures),). The figure is
        `axes[0].figure`.

    Raises
    ------
    ValueError
        If there is no signature, or one has another shape than (H, W).
    TypeError
        If `signatures` is no mapping.

    Examples
    --------
    >>> from xplique_forgrad.spectrum import fourier_signature
    >>> axes = plot_signatures({"noise": fourier_signature(np.random.rand(2, 32, 32))})
    >>> axes[0].get_xlabel()
    'cycles per width'
    """
    check_mapping("signatures", signatures, "{'Saliency': fourier_signature(explanations)}")
    nb_rows = -(-len(signatures) // nb_columns)
    _, grid = plt.subplots(
        nb_rows,
        min(nb_columns, len(signatures)),
        figsize=(2.1 * min(nb_columns, len(signatures)) + 0.8, 2.2 * nb_rows),
        squeeze=False,
        layout="constrained",
    )
    axes = grid.ravel()[: len(signatures)]
    for spare in grid.ravel()[len(signatures) :]:
        spare.set_visible(False)
    for axis, (title, signature) in zip(axes, signatures.items()):
        amplitudes = np.asarray(signature, np.float64)
        if amplitudes.ndim != 2:
            raise ValueError(
                f"The signature {title!r} has shape {amplitudes.shape}; give (H, W), as "
                "`fourier_signature` does."
            )
        height, width = amplitudes.shape
        peak = amplitudes.max() or 1.0
        decibels = 20 * np.log10(np.maximum(amplitudes / peak, 1e-12))
        left, bottom = -(width // 2) - 0.5, -(height // 2) - 0.5
        image = axis.imshow(
            decibels,
            cmap="cividis",
            vmin=floor,
            vmax=0,
            extent=(left, left + width, bottom + height, bottom),
        )
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("cycles per width", fontsize=7)
    axes[0].set_ylabel("cycles per height", fontsize=7)
    bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.8)
    bar.set_label("amplitude (dB below the peak)", fontsize=7)
    return axes


def plot_mean_gradient(found: MeanGradient, *, ax: Axes | None = None) -> Axes:
    """
    Draw the mean gradient behind a layer, with its checkerboard score.

    A picture that has negative values, the mean of signed gradients, gets colours about 0.

    Parameters
    ----------
    found
        A `MeanGradient`: `layers.mean_gradient_after`.
    ax
        Axes of matplotlib to draw on; new ones if None.

    Returns
    -------
    ax :
        The Axes.
    """
    ax = axes_or_new(ax, (3, 3.2))
    low, high = np.percentile(found.picture, [0.5, 99.5])
    is_signed = found.picture.min() < 0
    if is_signed:
        low, high = -max(-low, high), max(-low, high)
    cmap = "PuOr" if is_signed else "cividis"
    image = ax.imshow(found.picture, cmap=cmap, vmin=low, vmax=high)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7)
    bar.set_label("mean gradient" if is_signed else "mean rectified gradient", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    bar.ax.yaxis.get_offset_text().set_fontsize(6)
    ax.set_title(f"behind {short(found.layer)}\ncheckerboard {found.checkerboard:.2f}", fontsize=8)
    ax.set_xlabel("column (pixels)", fontsize=7)
    ax.set_ylabel("row (pixels)", fontsize=7)
    ax.tick_params(labelsize=7)
    return ax
