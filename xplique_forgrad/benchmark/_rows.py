"""
The rows of a benchmark: methods, and controls that explain nothing, which give maps of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
from xplique.attributions.base import BlackBoxExplainer

from .._checks import batch_shape
from .._explainers import check_explains, unwrapped
from .._replicas import Replicas
from .._samples import Batch
from ..search._description import describe_with_data
from ..search._explaining import EXPLAINED, Explaining
from ..search._seeds import repeatable
from ..search.controls import control_maps, make_control
from ._methods import Inputs, Wanted, kind_of, wanted_methods
from ._passes import Passes

# what controls by name are called in tables
CONTROLS = {
    "noise": "Noise",
    "centre": "Centre",
    "edges": "Edges",
    "other_image": "Other image",
    "phase": "Random phases",
    "untrained": "Untrained copy",
    "other_class": "Other class",
}
# the method whose maps controls are made of
_BASE = "Saliency"


class Row(Protocol):
    """A method or a control."""

    name: str
    options: str
    kind: str

    @property
    def identity(self) -> Any:
        """What its maps depend on beside model and data, in plain values."""
        ...

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Its kind, cost and whether it draws noise, from a few images."""
        ...

    def resume(self, prepared: dict[str, Any]) -> None:
        """Take from an earlier run what `prepare` found."""
        ...

    def maps(self, batch: Batch) -> np.ndarray:
        """Maps of a batch, of shape (B, ...)."""
        ...


class MethodRow:
    """
    A method on a model.

    Parameters
    ----------
    wanted
        Its name, and how its explainer is built.
    passes
        The model, which counts.
    inputs
        What its options depend on.
    seed
        Seed of what it draws.
    replicas
        Devices that share the images.
    """

    def __init__(
        self, wanted: Wanted, passes: Passes, inputs: Inputs, seed: int, replicas: Replicas
    ):
        self.name, self.options, self.kind = wanted.name, wanted.options, wanted.kind
        self.wanted, self._passes, self._inputs = wanted, passes, inputs
        self._explainer: Any = None
        # whether it draws noise is found out, if it is not told
        self._explaining = Explaining(
            lambda batch: self.explainer.explain(batch.inputs, batch.targets),
            seed,
            in_graphs=True,
            replicas=replicas,
        )
        self._at_once = EXPLAINED
        self._last: tuple[Batch | None, np.ndarray] = None, np.empty(0)

    @property
    def identity(self) -> Any:
        return self.wanted.identity

    @property
    def explainer(self) -> Any:
        """The explainer, built when it is first asked for."""
        if self._explainer is None:
            self._explainer = self.wanted.build(self._passes.model, self._inputs)
            if not callable(getattr(self._explainer, "explain", None)):
                raise TypeError(
                    f"The method {self.name!r} gave {self._explainer!r}, which has no `explain`; "
                    "give a function of a model that gives an explainer, as Xplique's are."
                )
            check_explains(self._explainer)
        return self._explainer

    def prepare(self, batch: Batch) -> dict[str, Any]:
        inner = unwrapped(self.explainer)
        kind = kind_of(type(inner))
        # black-box methods of Xplique take images one by one
        is_slow = kind == "black" and isinstance(inner, BlackBoxExplainer)
        at_once = 1 if is_slow else EXPLAINED
        few = Batch(*(values[:at_once] for values in batch))
        nb_images = len(few.positions)
        with repeatable(self._explaining.seed, eagerly=False):
            # the first time it traces graphs, which keep the seed
            first = np.asarray(self.explainer.explain(few.inputs, few.targets))
            before, start = self._passes.count(), time.perf_counter()
            second = np.asarray(self.explainer.explain(few.inputs, few.targets))
            seconds = time.perf_counter() - start
        forward, backward = (self._passes.count() - before) / nb_images
        prepared = {
            "kind": kind,
            "seconds": 100 * seconds / nb_images,
            # a method that stops at an inner layer does not reach the counter
            "forward": _known(max(1.0, forward) if kind == "grey" else forward),
            "backward": _known(backward),
            "at_once": at_once,
            "is_random": self._explaining.replicas.agree(not np.array_equal(first, second)),
        }
        self.resume(prepared)
        return prepared

    def resume(self, prepared: dict[str, Any]) -> None:
        self.kind = prepared["kind"]
        self._explaining.is_random = prepared["is_random"]
        self._at_once = prepared["at_once"]

    def maps(self, batch: Batch) -> np.ndarray:
        # controls ask again
        if self._last[0] is not batch:
            maps = self._explaining(batch, self._at_once)
            sizes, wanted = maps.shape[1:3], batch.inputs.shape[1:-1][:2]
            if sizes[: len(wanted)] != wanted:
                raise ValueError(
                    f"The method gave maps of shape {batch_shape(maps.shape[1:])} for inputs "
                    f"{batch_shape(batch.inputs.shape[1:])}; `explain` must give (N, H, W) or "
                    "(N, H, W, 1), as high and wide as the inputs."
                )
            self._last = batch, maps
        return self._last[1]


class ControlRow:
    """
    A control, made of the maps of a method.

    Parameters
    ----------
    control
        Its name, object or function.
    base
        The method.
    model
        The model as it was given.
    inputs
        What options depend on.
    axes
        Axes that are filtered.
    seed
        Seed of the control.
    """

    kind = "control"

    def __init__(
        self,
        control: Any,
        base: MethodRow,
        model: Any,
        inputs: Inputs,
        axes: tuple[int, ...],
        seed: int,
    ):
        self._given, self._base, self._model = control, base, model
        self._inputs, self._axes, self._seed = inputs, axes, seed
        own_name = getattr(control, "name", None) or getattr(control, "__name__", None)
        name = CONTROLS[control] if isinstance(control, str) else own_name
        self.name = str(name or type(control).__name__)
        self.options = f"of {base.name}"
        self._control: Any = None

    @property
    def identity(self) -> Any:
        return [describe_with_data(self._given), self.options]

    def prepare(self, batch: Batch) -> dict[str, Any]:
        return {"kind": self.kind, "seconds": None, "forward": None, "backward": None}

    def resume(self, prepared: dict[str, Any]) -> None:
        pass

    def maps(self, batch: Batch) -> np.ndarray:
        if self._control is None:
            explainer = None
            if self._given in ("untrained", "other_class"):
                # copies of the model as it was given
                explainer = self._base.wanted.build(self._model, self._inputs)
            nb_images = len(batch.positions)
            self._control = make_control(self._given, explainer, self._axes, self._seed, nb_images)
        return control_maps(self._control, batch, self._base.maps(batch))[0]


def make_rows(
    wanted: Sequence[Wanted],
    controls: Sequence[Any],
    model: Any,
    inputs: Inputs,
    axes: tuple[int, ...],
    seed: int,
    replicas: Replicas,
) -> list[Row]:
    """The rows of a model: its methods, and the controls."""
    passes = Passes(model)
    methods = [MethodRow(one, passes, inputs, seed, replicas) for one in wanted]
    base = next((row for row in methods if row.name == _BASE), methods[0])
    if base.name != _BASE and isinstance(model, keras.Model):
        base = MethodRow(wanted_methods([_BASE])[0], passes, inputs, seed, replicas)
    # another seed than that of the partners that every row is compared with
    own = [ControlRow(one, base, model, inputs, axes, seed + 1) for one in controls]
    rows: list[Row] = [*methods, *own]
    names = [row.name for row in rows]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"Two rows are called {twice[0]!r}; give the method another name.")
    return rows


def _known(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
