"""
What a benchmark is asked for, checked before anything runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._checks import check_count
from .._notices import notify
from ..metrics._options import CausalOptions, MaskOptions, ScoringOptions
from ..search._description import describe, describe_with_data
from ..search._settings import SearchOptions
from ..search.controls import check_control

# images that are explained, paired and scored together
CHUNK = 32
_FEWEST, _MOST = 8, 64


class Setting(NamedTuple):
    """One way to perturb the inputs."""

    baseline: str
    patch_size: int


@dataclass(frozen=True)
class Plan:
    """How methods are compared; see `run_benchmark` for what the fields mean."""

    search: SearchOptions
    baselines: Mapping[str, Any]
    patch_sizes: tuple[int, ...]
    controls: tuple[Any, ...]
    nb_choosing: int | None
    steps: int
    mu_fidelity_samples: int
    nb_stability: int
    operator: Any
    batch_size: int
    jit_compile: bool = False
    strategy: tf.distribute.Strategy | None = None

    def __post_init__(self) -> None:
        for size in self.patch_sizes:
            CausalOptions(steps=self.steps, patch_size=size)
        if not self.patch_sizes or len(set(self.patch_sizes)) < len(self.patch_sizes):
            raise ValueError(
                f"`patch_sizes` is {self.patch_sizes!r}; give each once, and at least one."
            )
        check_count("batch_size", self.batch_size)
        if self.nb_choosing is not None:
            check_count("nb_choosing", self.nb_choosing)
        if self.mu_fidelity_samples != 0:
            check_count("mu_fidelity_samples", self.mu_fidelity_samples)
            MaskOptions(nb_samples=self.mu_fidelity_samples)
        if self.nb_stability != 0:
            check_count("nb_stability", self.nb_stability)
        if self.nb_stability == 1:
            raise ValueError("`nb_stability` is 1; give at least 2, or 0 to leave it out.")
        for control in self.controls:
            check_control(control)

    @property
    def seed(self) -> int:
        """Seed of everything."""
        return self.search.seed

    @property
    def settings(self) -> list[Setting]:
        """Every baseline with every patch size."""
        return [Setting(*pair) for pair in itertools.product(self.baselines, self.patch_sizes)]

    def scoring(self, baseline: str, activation: str | None) -> ScoringOptions:
        """How the model scores perturbed inputs."""
        return ScoringOptions(
            self.batch_size,
            self.baselines[baseline],
            self.operator,
            activation,
            self.jit_compile,
            self.strategy,
        )

    def split(self, nb_images: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Positions of the images that choose sigma, and of those that are scored, at random.

        Raises
        ------
        ValueError
            If there are too few.
        """
        nb_choosing = self.nb_choosing
        if nb_choosing is None:
            nb_choosing = max(_FEWEST, min(_MOST, nb_images // 4))
        if nb_choosing < 2 or nb_images - nb_choosing < 2:
            raise ValueError(
                f"There are {nb_images} images, and {nb_choosing} of them would choose sigma; give "
                "at least 2 to choose, by `nb_choosing`, and 2 more to score."
            )
        if nb_images - nb_choosing < CHUNK:
            notify(
                f"Only {nb_images - nb_choosing} images are scored: differences between methods "
                f"are uncertain. Give {nb_choosing + 100} or more."
            )
        order = np.random.default_rng(self.seed).permutation(nb_images)
        return np.sort(order[:nb_choosing]), np.sort(order[nb_choosing:])

    def describe(self) -> dict[str, Any]:
        """All that the scores depend on, in plain values."""
        return {
            "sigmas": list(self.search.sigmas) if self.search.sigmas else None,
            "window": list(self.search.windows),
            "rectify": list(self.search.rectifications),
            "border": self.search.border,
            "subtract_control": self.search.subtract_control,
            "controls": [describe(control) for control in self.controls],
            "baselines": {name: describe_with_data(b) for name, b in self.baselines.items()},
            "patch_sizes": list(self.patch_sizes),
            "nb_choosing": self.nb_choosing,
            "steps": self.steps,
            "mu_fidelity_samples": self.mu_fidelity_samples,
            "nb_stability": self.nb_stability,
            "operator": describe(self.operator),
            "jit_compile": self.jit_compile,
        }


def several(value: Any) -> tuple[Any, ...]:
    """Values as users write them: one, or several."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def chunks_of(positions: np.ndarray) -> list[np.ndarray]:
    """Positions in chunks; none holds one image alone, which has no other image."""
    size = next(size for size in range(CHUNK, 1, -1) if len(positions) % size != 1 or size == 2)
    if len(positions) % size == 1:
        size = len(positions)
    return [positions[start : start + size] for start in range(0, len(positions), size)]
