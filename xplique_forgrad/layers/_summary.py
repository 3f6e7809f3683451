"""
A diagnosis in words: as text of 60 columns, and as HTML that flows.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from ._layerwise import mean_and_error

if TYPE_CHECKING:
    from ._diagnosis import Diagnosis

# images over which a mean map shows what maps share
ENOUGH = 8
# columns of the text, what a phone shows
_WIDTH = 60
# rows of each table of layers
_MOST = 6


class _Heading(str):
    """A line that begins a part of the report."""


class _Code(str):
    """Lines to paste, which are not to be broken."""


# what a report is made of; other strings are paragraphs
_Part: TypeAlias = str | pd.DataFrame


def text_of(diagnosis: Diagnosis) -> str:
    """What `print` shows of a diagnosis."""
    text = "\n".join(map(_as_text, _report(diagnosis))).strip()
    return re.sub("\n{3,}", "\n\n", text)


def html_of(diagnosis: Diagnosis) -> str:
    """What a notebook shows of it."""
    parts = "".join(map(_as_html, _report(diagnosis)))
    layers = _table_as_html(diagnosis.to_frame(), float_format="{:.3f}".format, na_rep="-")
    meaning = (
        "All layers. checkerboard: share of the variance of the mean magnitude behind a layer that "
        "repeats with its stride; - for layers that do not downsample"
    )
    return f"{parts}<details><summary>{meaning}</summary>{layers}</details>"


def kinds(layers: pd.DataFrame) -> pd.Series:
    """Type of each layer, with the stride of those that downsample: "Conv2D / 2"."""
    strided = layers["type"] + " / " + layers["stride"].astype(str)
    return layers["type"].where(layers["stride"] == 1, strided)


def _report(diagnosis: Diagnosis) -> Iterator[_Part]:
    """The content, the layers, the twin, and what to do next."""
    for part in (_content, _injection, _by_type, _twin, _next_step):
        yield from part(diagnosis)


def _content(diagnosis: Diagnosis) -> Iterator[_Part]:
    """How much high frequency there is, and whether it is a grid."""
    grid, size = diagnosis.grid, max(diagnosis.grid.picture.shape)
    yield _Heading(
        f"Where high frequencies of {diagnosis.model_name!r} come from "
        f"({diagnosis.nb_images} images)"
    )
    yield (
        "Share of the power that lies beyond a quarter of the size, that is beyond "
        f"{size / 4:g} cycles along {size} pixels:"
    )
    of_gradient = f"{diagnosis.curve['mean'].iloc[0]:.3f}"
    yield pd.DataFrame(
        {
            "of the power of": ["gradients at the input", "saliency maps"],
            "share": [of_gradient, _mean(diagnosis.map_share)],
            "white noise": ["about 0.8", f"{diagnosis.noise_share:.3f}"],
        }
    )
    repeats = (
        f"{grid.checkerboard:.3f} of the variance of the mean map repeats every {grid.stride} "
        f"pixels (of white noise {grid.expected_of_noise:.4f})."
    )
    if diagnosis.grid_frequency is not None:
        yield (
            f"The maps share a grid of {grid.stride} pixels: {repeats} It lies at "
            f"{diagnosis.grid_frequency:.3g} cycles and at multiples of that."
        )
    elif diagnosis.nb_images < ENOUGH:
        yield f"Too few images to see whether maps share a grid; give {ENOUGH}."
    else:
        yield f"The maps share next to no grid: {repeats}"


def _injection(diagnosis: Diagnosis) -> Iterator[_Part]:
    """The layers that inject most, those that downsample apart."""
    layers = diagnosis.layers
    # of one image, no error is known
    error = " (± standard error)" if diagnosis.nb_images > 1 else ""
    yield _Heading("Which layers inject them")
    yield (
        "Share of the power of the gradient that is high frequency, before the gradient goes back "
        f"through a layer and behind it. The difference is injected by the layer{error}."
    )
    is_strided = layers["stride"] > 1
    # on three pixels every frequency but the mean is high
    is_large = layers[["height", "width"]].min(axis=1) > 3
    for title, meaning, chosen in (
        (
            "Layers that downsample",
            'High is what lies beyond what the layer\'s output can hold. "-": before the layer '
            "there is none by definition, so all that is behind it is injected. On a gradient of "
            "white noise, average pooling of stride 2 injects about 0.3, a 1 x 1 convolution of "
            "stride 2 about 0.75.",
            is_strided,
        ),
        (
            "Layers that keep the size",
            "High is what lies beyond a quarter of the layer's size.",
            ~is_strided & is_large,
        ),
    ):
        ordered = layers[chosen].sort_values("injected", ascending=False)
        if len(ordered):
            yield _Heading(title)
            yield meaning
            shown = _strongest(ordered.head(_MOST))
            # which is what is injected, where there is nothing before
            yield shown.drop(columns="behind") if ordered["before"].isna().all() else shown
        if len(ordered) > _MOST:
            yield f"... and {len(ordered) - _MOST} more, in to_frame()"


def _strongest(layers: pd.DataFrame) -> pd.DataFrame:
    """The columns of the layers that are shown."""
    error = layers["standard_error"].map(lambda value: _plus_minus(value, 2, "±"))
    table = {
        "layer": layers["layer"],
        "type": kinds(layers).str.replace(" / ", "/"),
        "before": ["-" if np.isnan(share) else f"{share:.2f}" for share in layers["before"]],
        "behind": layers["behind"].map("{:.2f}".format),
        "injected": layers["injected"].map(_signed) + error,
    }
    return pd.DataFrame(table)


def _by_type(diagnosis: Diagnosis) -> Iterator[_Part]:
    table = diagnosis.by_type().reset_index(names="type")
    table["mean"] = table["mean"].map(_signed)
    yield _Heading("Mean share injected, by type of layer")
    yield table.rename(columns={"count": "layers", "mean": "mean injected"})


def _twin(diagnosis: Diagnosis) -> Iterator[_Part]:
    """What surgery changes."""
    yield _Heading("What average pooling would change")
    if diagnosis.surgery is None:
        yield "No twin: Keras cannot copy this model."
    elif diagnosis.twin_map_share is None:
        yield "Nothing to replace: no max pooling, no strided convolution."
    else:
        change = "" if diagnosis.change is None else f" {diagnosis.change}."
        yield (
            f"With average pooling in {len(diagnosis.surgery.replaced)} places, the same weights "
            f"give saliency maps with {_mean(diagnosis.twin_map_share)} of their power beyond a "
            f"quarter of the size, instead of {_mean(diagnosis.map_share)}.{change}"
        )
        yield (
            "The twin is another function: it shows where the noise comes from, not how to "
            "explain this model."
        )


def _next_step(diagnosis: Diagnosis) -> Iterator[_Part]:
    """The cutoff to start from, and the search to paste."""
    yield _Heading("What to do next")
    yield from _start(diagnosis)
    yield "Then search:" if diagnosis.sigma is not None else "Search them all:"
    yield _Code(diagnosis.snippet)
    yield (
        "`baseline_mode` is what removed pixels become, in the units of the inputs after "
        "preprocessing; here it is their mean. The best sigma depends on it: search with the "
        "baseline that you report."
    )
    if diagnosis.scoring.operator is not None:
        yield (
            "`operator` is the one that you gave. Give an `activation` too if it scores logits of "
            "classes."
        )


def _start(diagnosis: Diagnosis) -> Iterator[str]:
    """Why to start from this cutoff."""
    sigma, frequency = diagnosis.sigma, diagnosis.grid_frequency
    if diagnosis.resolution < 1:
        found = "disagree from 1 cycle on"
    elif diagnosis.resolution >= diagnosis.correlation.radius[-1]:
        found = "agree everywhere"
    else:
        found = f"agree up to {diagnosis.resolution:g} cycles"
    agree = f"Maps of two noisy copies of the images {found}"
    if sigma is None:
        yield f"{agree}: no sigma to start from."
        return
    if sigma == diagnosis.resolution:
        below = "" if frequency is None else f" It takes out the grid, at {frequency:.3g} cycles."
        yield f"Start from sigma = {sigma:g}. {agree}.{below}"
        return
    yield (
        f"Start from sigma = {sigma:g}, the last whole number below the grid: it takes the grid "
        f"out. {agree}, but the grid is part of what they agree on. Cutoffs from {frequency:.3g} "
        "on keep some of it, and are tried so that the search can tell."
    )


def _mean(values: np.ndarray) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:.3f}{_plus_minus(error, 3)}"


def _signed(share: float) -> str:
    """With its sign, and no minus before what rounds to 0."""
    return f"{round(share, 2) + 0.0:+.2f}"


def _plus_minus(error: float, nb_digits: int, sign: str = " ± ") -> str:
    return "" if np.isnan(error) else f"{sign}{error:.{nb_digits}f}"


def _as_text(part: _Part) -> str:
    if isinstance(part, pd.DataFrame):
        return f"{_table_as_text(part)}\n"
    if isinstance(part, _Code):
        return f"\n{part}\n"
    wrapped = textwrap.fill(part, _WIDTH)
    return f"\n{wrapped}" if isinstance(part, _Heading) else wrapped


def _table_as_text(table: pd.DataFrame) -> str:
    """A table whose first column, names, gets the columns that the others leave."""
    rest = {name: list(map(str, table[name])) for name in table.columns[1:]}
    for name, cells in rest.items():
        # of a long type, the beginning tells more
        rest[name] = [cell if len(cell) <= 18 else f"{cell[:15]}..." for cell in cells]
    taken = sum(1 + max(map(len, [name, *cells])) for name, cells in rest.items())
    names = [_tail(str(name), _WIDTH - taken) for name in table.iloc[:, 0]]
    width = max(map(len, [table.columns[0], *names]))
    shown = {table.columns[0].ljust(width): [name.ljust(width) for name in names], **rest}
    return pd.DataFrame(shown).to_string(index=False)


def _tail(name: str, length: int) -> str:
    """Of a long path, the end tells more."""
    return name if len(name) <= length else f"...{name[3 - length :]}"


def _as_html(part: _Part) -> str:
    if isinstance(part, pd.DataFrame):
        return _table_as_html(part)
    text = html.escape(part)
    if isinstance(part, _Code):
        return f"<pre style='overflow-x:auto'>{text}</pre>"
    if isinstance(part, _Heading):
        return f"<p><b>{text}</b></p>"
    return f"<p style='max-width:{_WIDTH}ch'>{text}</p>"


def _table_as_html(table: pd.DataFrame, **options) -> str:
    """A table that is scrolled where it is wider than the page."""
    rows = table.to_html(index=False, border=0, justify="left", **options)
    return f"<div style='overflow-x:auto;font-size:80%'>{rows}</div>"
