"""
A diagnosis in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._layerwise import mean_and_error

if TYPE_CHECKING:
    from ._diagnosis import Diagnosis

# images over which a mean map shows what maps share
ENOUGH = 8
# rows of each table of layers
_MOST = 6


def summary(diagnosis: Diagnosis) -> str:
    """What `print` shows of a diagnosis: the content, the layers, the twin, and what to do next."""
    parts = (_content, _injection, _by_type, _twin, _next_step)
    return "\n\n".join("\n".join(part(diagnosis)) for part in parts)


def kinds(layers: pd.DataFrame) -> pd.Series:
    """Type of each layer, with the stride of those that downsample: "Conv2D / 2"."""
    strided = layers["type"] + " / " + layers["stride"].astype(str)
    return layers["type"].where(layers["stride"] == 1, strided)


def _content(diagnosis: Diagnosis) -> Iterator[str]:
    """How much high frequency there is, and whether it is a grid."""
    grid = diagnosis.grid
    yield (
        f"Where high frequencies of {diagnosis.model_name!r} come from "
        f"({diagnosis.nb_images} images)"
    )
    yield ""
    yield "Share of power beyond a quarter of the size:"
    yield f"  gradients at the input {diagnosis.curve['mean'].iloc[0]:.3f} (white noise about 0.8)"
    yield (
        f"  saliency maps {_mean(diagnosis.map_share)} (of white noise, treated alike, "
        f"{diagnosis.noise_share:.3f})"
    )
    if diagnosis.has_grid:
        yield (
            f"The maps share a grid of {grid.stride} pixels: checkerboard score "
            f"{grid.checkerboard:.3f} (white noise {grid.expected_of_noise:.4f})."
        )
    elif diagnosis.nb_images < ENOUGH:
        yield f"Too few images to see whether maps share a grid; give {ENOUGH}."
    else:
        yield (
            f"The maps share next to no grid: checkerboard score {grid.checkerboard:.3f} "
            f"(white noise {grid.expected_of_noise:.4f})."
        )


def _injection(diagnosis: Diagnosis) -> Iterator[str]:
    """The layers that inject most, those that downsample apart."""
    layers = diagnosis.layers
    # of one image, no error is known
    error = " ± standard error" if diagnosis.nb_images > 1 else ""
    yield "High frequency of the gradient before it goes back through a layer, and behind it."
    yield f"The difference is what the layer injects (share of power{error})."
    is_strided = layers["stride"] > 1
    # on three pixels every frequency but the mean is high
    is_large = layers[["height", "width"]].min(axis=1) > 3
    for title, chosen in (
        ("Layers that downsample: beyond what their output can hold", is_strided),
        ("Layers that keep the size: beyond a quarter of it", ~is_strided & is_large),
    ):
        ordered = layers[chosen].sort_values("injected", ascending=False)
        if len(ordered):
            yield ""
            yield title
            yield _table(ordered.head(_MOST))
        if len(ordered) > _MOST:
            yield f"... and {len(ordered) - _MOST} more, in to_frame()"
    yield ""
    yield "For comparison, on a gradient of white noise: average pooling of stride 2 injects"
    yield "about 0.3, a 1 x 1 convolution of stride 2 about 0.75."


def _by_type(diagnosis: Diagnosis) -> Iterator[str]:
    yield "Mean by type"
    yield diagnosis.by_type().to_string(float_format="{:+.2f}".format)


def _twin(diagnosis: Diagnosis) -> Iterator[str]:
    """What surgery changes."""
    if diagnosis.surgery is None:
        yield "No twin: Keras cannot copy this model."
    elif diagnosis.twin_map_share is None:
        yield "Nothing to replace: no max pooling, no strided convolution."
    else:
        yield (
            f"With average pooling in {len(diagnosis.surgery.replaced)} places, the same weights "
            f"give maps with {_mean(diagnosis.twin_map_share)}."
        )
        if diagnosis.change is not None:
            yield from str(diagnosis.change).split("; ")
        yield (
            "The twin is another function: it shows where the noise comes from, not how to "
            "explain this model."
        )


def _next_step(diagnosis: Diagnosis) -> Iterator[str]:
    """The cutoff to start from, and the search to type."""
    if diagnosis.sigma is not None:
        yield (
            f"Start from sigma = {diagnosis.sigma:g}: up to there, maps of two noisy copies of the "
            "images agree. Then search:"
        )
        yield (
            f"SigmaOptimizer(Saliency(model), sigmas={_candidates(diagnosis)})"
            ".search(inputs, targets)"
        )
    else:
        where = "nowhere" if diagnosis.correlation.resolution() < 1 else "everywhere"
        yield f"Maps of two noisy copies of the images agree {where}: no sigma to start."


def _mean(values: np.ndarray) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:.3f}{_plus_minus(error, 3)}"


def _plus_minus(error: float, nb_digits: int) -> str:
    return "" if np.isnan(error) else f" ± {error:.{nb_digits}f}"


def _candidates(diagnosis: Diagnosis) -> list[float]:
    """Cutoffs around the guess, four times below to four times above."""
    highest, guess = diagnosis.correlation.radius[-1], diagnosis.sigma or 1.0
    factors = (0.25, 0.5, 0.7, 1, 1.4, 2, 4)
    return sorted({round(min(max(1.0, factor * guess), highest)) for factor in factors})


def _table(layers: pd.DataFrame) -> str:
    """Layers as lines of text."""
    injected = layers["injected"].map("{:+.2f}".format)
    columns = {
        # of a long path, the end tells more
        "layer": [name if len(name) < 40 else "..." + name[-36:] for name in layers["layer"]],
        "type": kinds(layers),
        "input": layers["height"].astype(str) + " x " + layers["width"].astype(str),
        "before": layers["before"].map("{:.2f}".format),
        "behind": layers["behind"].map("{:.2f}".format),
        "injected": injected + layers["standard_error"].map(lambda error: _plus_minus(error, 2)),
    }
    return pd.DataFrame(columns).to_string(index=False)
