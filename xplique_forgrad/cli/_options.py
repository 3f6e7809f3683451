"""
What can be typed beyond click's own types: lists, baselines, durations, models.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import click

# what belongs to one model, as arguments of `load_network`
OF_MODEL = ("model", "weights", "preprocessing", "class_names", "nb_classes", "crop_fraction")
CONTROLS = ("noise", "centre", "edges", "other_image", "phase", "untrained")
BASELINES = ("zero", "mean", "blur", "noise")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Typed(click.ParamType):
    """A type that also says what a configuration file may hold in its place."""

    accepted: tuple[type, ...] = (str,)
    words = "text"


class Numbers(Typed):
    """Numbers separated by commas, or a list of them."""

    name = "A,B,..."
    accepted = (str, list, int, float)
    words = "a list of numbers"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[float, ...]:
        """The numbers."""
        parts = value.split(",") if isinstance(value, str) else value
        parts = parts if isinstance(parts, (list, tuple)) else [parts]
        try:
            return tuple(float(part) for part in parts)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is no list of numbers, such as 2,5,10.", param, context)


class Controls(Typed):
    """Names of controls separated by commas or spaces, a list of them, or none."""

    name = "A,B,..."
    accepted = (str, list)
    words = "a list of names"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[str, ...]:
        """The names; none is empty."""
        if isinstance(value, str):
            value = [part for part in re.split(r"[,;\s]+", value) if part]
        if list(value) == ["none"]:
            return ()
        for part in value:
            if part not in CONTROLS:
                self.fail(f"{part!r} is not one of {', '.join(CONTROLS)}, none.", param, context)
        return tuple(value)


class Baseline(Typed):
    """A number, or the name of a baseline."""

    name = "NUMBER|NAME"
    accepted = (str, int, float)
    words = "a number or a name"

    def convert(self, value: Any, param: Any, context: Any) -> float | str:
        """The number or the name."""
        if value in BASELINES:
            return str(value)
        with contextlib.suppress(ValueError):
            number = float(value)
            if math.isfinite(number):
                return number
        self.fail(f"{value!r} is no number, and not one of {', '.join(BASELINES)}.", param, context)


class Duration(Typed):
    """A time as 90s, 45m, 2h, or a number of seconds."""

    name = "TIME"
    accepted = (str, int, float)
    words = "a time"

    def convert(self, value: Any, param: Any, context: Any) -> float:
        """The seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(value).strip())
        seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
        if seconds <= 0:
            self.fail(f"{value!r} is no time, such as 90s, 45m or 2h.", param, context)
        return seconds


class Model(Typed):
    """A model; of a configuration file, a mapping of its options."""

    name = "MODEL"
    accepted = (str, dict)
    words = "a model, or a mapping of its options"

    def convert(self, value: Any, param: Any, context: Any) -> dict[str, Any]:
        """The options of the model by name."""
        return dict(value) if isinstance(value, Mapping) else {"model": value}


def split_methods(text: str) -> list[str]:
    """Methods separated by semicolons or spaces; commas separate the options of one."""
    return [part for part in re.split(r"\s*;\s*|(?<![,:])\s+", text.strip()) if part]


def rectify_of(options: Mapping[str, Any]) -> str | None:
    """What --rectify stands for."""
    return None if options["rectify"] == "none" else options["rectify"]


@contextlib.contextmanager
def wrong_options(place: str = "") -> Iterator[None]:
    """Errors in what was typed, found before the work, end as those of the parser do."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(f"{place}: {error}" if place else str(error)) from error
