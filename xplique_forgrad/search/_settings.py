"""
What a search is asked to do, and what a result says of how it was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from .._checks import check_choice, check_seed
from ..filtering._checks import BORDERS, RECTIFICATIONS, WINDOWS
from ._candidates import Candidate, make_candidates

STRATEGIES = ("racing", "exhaustive")


@dataclass(frozen=True)
class SearchOptions:
    """What is searched, and how; see `SigmaOptimizer` for the fields."""

    sigmas: tuple[float, ...] | None = None
    windows: tuple[str, ...] = ("disk",)
    rectifications: tuple[str | None, ...] = ("magnitude",)
    strategy: str = "racing"
    tolerance: float = 0.01
    z: float = 2.0
    refine: bool = False
    seed: int = 0
    subtract_control: bool = False
    border: str = "periodic"

    def __post_init__(self) -> None:
        check_choice("strategy", self.strategy, STRATEGIES)
        check_choice("border", self.border, BORDERS)
        for name, value in (("tolerance", self.tolerance), ("z", self.z)):
            if not 0 <= value < np.inf:
                raise ValueError(f"`{name}` is {value!r}; it must be a number of 0 or more.")
        check_seed(self.seed)

    @classmethod
    def checked(cls, sigmas: Any, window: Any, rectify: Any, **others: Any) -> SearchOptions:
        """Options as users write them: single values, or several."""
        return cls(
            sigmas=_checked_sigmas(sigmas),
            windows=_checked_several("window", window, WINDOWS),
            rectifications=_checked_several("rectify", rectify, RECTIFICATIONS),
            **others,
        )

    def candidates(self, shape: Sequence[int]) -> list[Candidate]:
        """What to compare on maps whose filtered axes have these sizes."""
        return make_candidates(shape, self.sigmas, self.windows, self.rectifications)


@dataclass(frozen=True)
class Scoring:
    """
    What scores were computed with.

    Parameters
    ----------
    options
        Options of the metrics, as they were built; of those that are reported, if `scored_by` says
        what the objective is.
    scale
        What scores are of the order of, where that is known: 1 for probabilities and rank
        correlations.
    scored_by
        An objective that scores by itself, described in plain values; None for the named ones.
    """

    options: dict[str, Any] = field(default_factory=dict)
    scale: float | None = None
    scored_by: Any = None

    @property
    def baseline(self) -> str:
        """The baseline in few words."""
        if self.scored_by is not None:
            return "its own"
        return str(self.options.get("baseline_mode", "unknown")).split(", checksum")[0]


@dataclass(frozen=True)
class Settings:
    """
    How a result was found: all that it depends on, as it was truly used.

    Fields may be read by name too, as may those of the records in it: `settings["steps"]`.

    Parameters
    ----------
    objective
        The objective, described in plain values.
    report
        Names of other objectives that were asked for.
    options
        What was searched, and how; its strategy is the one that was used.
    axes
        Filtered axes.
    nb_images
        Number of images.
    input_shape
        Shape of one input.
    full_band
        The cutoff from which on nothing is removed.
    scoring
        What the scores were computed with.
    control
        Name of the control; None if there is none.
    control_options
        The control, described in plain values.
    explainer
        The explainer, described in plain values.
    versions
        Versions of the packages.
    fingerprints
        What tells data, weights and functions apart from others of the same description.
    """

    objective: Any
    report: tuple[str, ...]
    options: SearchOptions
    axes: tuple[int, ...]
    nb_images: int
    input_shape: tuple[int, ...]
    full_band: float
    scoring: Scoring = field(default_factory=Scoring)
    control: str | None = None
    control_options: Any = None
    explainer: Any = None
    versions: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed of the search."""
        return self.options.seed

    @property
    def map_sizes(self) -> tuple[int, ...]:
        """Sizes of the filtered axes of the maps that were searched."""
        return tuple(self.input_shape[axis - 1] for axis in self.axes)

    def to_dict(self) -> dict[str, Any]:
        """All fields in one dictionary of plain values, as JSON has them."""
        own = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name not in ("options", "scoring", "fingerprints")
        }
        flat = {**own, **asdict(self.options)}
        more = {**self.scoring.options, **self.fingerprints}
        if self.scoring.scored_by is not None:
            more["scored_by"] = self.scoring.scored_by
            more.setdefault("baseline_mode", self.scoring.baseline)
        # what a metric calls as the search calls something is the search's
        flat |= {key: value for key, value in more.items() if key not in flat}
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()
        }

    def __getitem__(self, name: str) -> Any:
        return self.to_dict()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.to_dict()

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def keys(self) -> Any:
        """Names of all fields."""
        return self.to_dict().keys()

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or the default."""
        return self.to_dict().get(name, default)

    def to_json(self) -> dict[str, Any]:
        """The fields as a file keeps them."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Settings:
        """What `to_json` gave, after it went through a file."""
        content = dict(content)
        options = dict(content.pop("options"))
        for name in ("sigmas", "windows", "rectifications"):
            options[name] = None if options[name] is None else tuple(options[name])
        for name in ("report", "axes", "input_shape"):
            content[name] = tuple(content[name])
        scoring = Scoring(**content.pop("scoring"))
        return cls(options=SearchOptions(**options), scoring=scoring, **content)


def _checked_sigmas(sigmas: Any) -> tuple[float, ...] | None:
    """Cutoffs as a tuple of numbers; None stands for the default ones."""
    if sigmas is None:
        return None
    given = np.atleast_1d(np.asarray(sigmas))
    if given.ndim != 1 or given.dtype.kind not in "iuf" or not np.all(given > 0):
        raise ValueError(
            f"`sigmas` is {sigmas!r}; give positive cutoffs such as [2, 4, 8, 16], or None for the "
            "default ones. No filter is always among the candidates."
        )
    return tuple(float(sigma) for sigma in given)


def _checked_several(name: str, given: Any, allowed: Sequence[Any]) -> tuple[Any, ...]:
    """One window or rectification, or several, as a tuple."""
    options = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if not options:
        raise ValueError(
            f"`{name}` is empty; give at least one of {', '.join(map(repr, allowed))}."
        )
    for option in options:
        check_choice(name, option, allowed)
    return options
