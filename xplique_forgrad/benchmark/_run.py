"""
The run of a benchmark: each row on each chunk of images, as far as the time goes.
"""

from __future__ import annotations

import datetime
import json
import numbers
import os
import textwrap
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from .._checks import batch_shape, check_choice
from .._models import weights_checksum
from .._progress import Progress, checked_verbose
from .._replicas import LostProcessError, Replicas
from .._samples import ArraySamples, first_batch, make_samples
from ..filtering._checks import DEFAULT_AXES, checked_axes
from ..search import Candidate
from ..search._settings import SearchOptions
from ._baselines import named_baselines
from ._journal import Journal
from ._measure import Chunk, Measure, Subject
from ._methods import Inputs, Wanted, wanted_methods
from ._plan import Plan, chunks_of, several
from ._result import Benchmark
from ._rows import Row, make_rows

# characters of a reason
_LONGEST = 240
_PACKAGES = ("xplique-forgrad", "xplique", "tensorflow", "keras", "numpy")


class _OutOfTimeError(Exception):
    """The time that a model has is over."""


def run_benchmark(
    models: Any,
    inputs: Any,
    targets: Any = None,
    methods: Any = None,
    *,
    controls: Any = ("noise", "centre", "edges", "other_image", "phase", "untrained"),
    baselines: Any = 0.0,
    patch_sizes: int | Sequence[int] = 1,
    sigmas: Sequence[float] | None = None,
    window: str | Sequence[str] = "disk",
    rectify: str | Sequence[str | None] | None = "magnitude",
    border: str = "periodic",
    axes: int | Sequence[int] | None = None,
    subtract_control: bool = False,
    nb_choosing: int | None = None,
    steps: int = 10,
    mu_fidelity_samples: int = 200,
    nb_stability: int = 8,
    activation: str | Mapping[str, str | None] | None = None,
    operator: Any = None,
    batch_size: int = 32,
    jit_compile: bool = False,
    strategy: tf.distribute.Strategy | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    max_time: float | None = None,
    verbose: int | str = "auto",
) -> Benchmark:
    """
    Compare attribution methods on models: as they are, rectified, and filtered, beside controls.

    Each method is filtered at a sigma of its own, which `SigmaOptimizer` finds on images that are
    not scored. Its maps are then scored on the other images: Deletion, Insertion and Faithfulness,
    what Faithfulness exceeds that of another image's map by (the specific part), MuFidelity,
    Stability, high-frequency content, and agreement with the map as it is. A method that cannot run
    is recorded with its reason. Controls are rows like methods: maps that explain nothing.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591 (tables 1 and 2).

    Parameters
    ----------
    models
        A model, or a mapping from names to models.
    inputs
        Inputs of shape (N, H, W, C), or others with `axes`, or a dataset that gives the same order
        at each pass, and is read as a stream; or a mapping from the names of the models to such
        inputs.
    targets
        One-hot targets of shape (N, output_size), or a mapping of them; None for the classes that
        the model predicts. A dataset brings its own.
    methods
        Names of methods of Xplique, with options: "Saliency", "SmoothGrad:nb_samples=20"; or a
        mapping from names to functions of a model that give explainers; None for all of Xplique.
        Options that are not given are Xplique's, but noise of a tenth of the range of the inputs,
        and an occluding patch of an eighth of their size.
    controls
        Controls, as `SigmaOptimizer` takes them, made of the maps of Saliency; one or several, ()
        for none. Of a control with several maps of each image, the first is the row.
    baselines
        What removed pixels become: a number, "zero", "mean" (colour of the image), "blur", "noise",
        a function of inputs (B, ...), several of them, or a mapping from names. Rankings depend on
        it, so try several.
    patch_sizes
        Side of the cells that Deletion and Insertion perturb, see `Deletion`; or several.
    sigmas
        Cutoffs to try; None for `default_sigmas`.
    window, rectify, border
        The filter, see `forgrad` and `SigmaOptimizer`.
    axes
        Axes to filter along; default to (1, 2) for images and (1,) for time series. Volumes and
        videos need it, and `mu_fidelity_samples=0`.
    subtract_control
        Choose the cutoffs by the specific part of Faithfulness instead of Faithfulness itself;
        takes twice the passes for choosing.
    nb_choosing
        Number of images, drawn at random, that choose sigma and are not scored; None for a quarter,
        at least 8 and at most 64.
    steps
        Steps of Insertion and Deletion.
    mu_fidelity_samples
        Number of masks of MuFidelity; 0 leaves it out.
    nb_stability
        Of how many images of each 32 maps are compared with those of a noisy copy, uniform in a
        tenth of the range of the inputs, both maps of unit norm; 0 leaves Stability out.
    activation
        "softmax", "sigmoid" or None: what to put on the outputs for scoring; or a mapping.
    operator
        Function g(model, inputs, targets) that gives the scores, in explaining and in scoring, or a
        task of Xplique, such as "object detection".
    batch_size
        Number of inputs to give to the model at once.
    jit_compile
        Compile the passes that score by XLA, see `Deletion`.
    strategy
        A `tf.distribute.Strategy` whose replicas share the passes, see `Deletion`. Of several
        processes, the first writes the folder. Explainers that draw noise run on one device.
    seed
        Seed of everything that is drawn.
    folder
        Folder that keeps each part as soon as it is there. A run that was killed goes on in it, and
        one with more models, methods or time computes only what is missing. The result is saved in
        it.
    max_time
        Seconds, shared by the models. When they are over, the parts that are there make a valid,
        smaller table: all methods on fewer images, or, before each had its first 32, fewer methods.
    verbose
        As in `keras.Model.fit`: 1 draws a progress bar, 2 prints a line a part, 0 nothing.

    Returns
    -------
    benchmark :
        Records of each image, and the tables made of them.

    Raises
    ------
    ValueError
        If an option is wrong, there are too few images, the folder holds another benchmark, or no
        method can run.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, _ = load_images(12)
    >>> benchmark = run_benchmark(
    ...     load_classifier(), inputs, targets, ["Saliency"], controls=["centre"], sigmas=[4],
    ...     mu_fidelity_samples=0, activation="softmax", verbose=0)
    >>> list(benchmark.methods["method"])
    ['Saliency', 'Centre']
    """
    plan = Plan(
        SearchOptions.checked(
            sigmas,
            window,
            rectify,
            border=border,
            seed=seed,
            subtract_control=bool(subtract_control),
        ),
        named_baselines(baselines),
        several(patch_sizes),
        several(() if controls is None else controls),
        nb_choosing,
        steps,
        mu_fidelity_samples,
        nb_stability,
        operator,
        batch_size,
        jit_compile,
        strategy,
    )
    replicas = Replicas(strategy)
    wanted = wanted_methods(methods)
    if max_time is not None and not (isinstance(max_time, numbers.Real) and max_time > 0):
        raise ValueError(f"`max_time` is {max_time!r}; give a number of seconds, or None.")
    shown = checked_verbose(verbose) if replicas.is_chief else 0
    subjects = _subjects(models, inputs, targets, activation, axes)
    _check_mu_fidelity(subjects, plan)
    # too few images show before anything runs
    splits = [plan.split(len(subject.samples)) for subject in subjects]
    journal = Journal(
        None if folder is None else Path(folder),
        {"settings": plan.describe(), "seed": plan.seed},
        replicas,
    )
    nb_rows = len(wanted) + len(plan.controls)
    nb_parts = sum(nb_rows * (1 + len(chunks_of(scored))) for _, scored in splits)
    clock = _Clock(max_time, len(subjects), Progress(nb_parts, shown), nb_parts, replicas)
    try:
        runs = []
        for subject, (choosing, scored) in zip(subjects, splits):
            clock.begin_model()
            run = _ModelRun(subject, plan, wanted, journal, clock, replicas)
            run.run(choosing, scored)
            runs.append(run)
    finally:
        journal.close()
    benchmark = _put_together(runs, plan)
    if folder is not None and replicas.is_chief:
        benchmark.save(folder)
    return benchmark


class _Clock:
    """The time that is left, of each model its share, and what is shown of it."""

    def __init__(
        self,
        max_time: float | None,
        nb_models: int,
        progress: Progress,
        nb_parts: int,
        replicas: Replicas,
    ):
        self._replicas = replicas
        self._end = None if max_time is None else time.monotonic() + max_time
        self._nb_models, self._deadline = nb_models, float("inf")
        self._progress, self._nb_left = progress, nb_parts
        self._spent: list[float] = []

    def begin_model(self) -> None:
        """A model begins: what is left is shared by it and those that follow."""
        if self._end is not None:
            now = time.monotonic()
            self._deadline = now + max(0.0, self._end - now) / self._nb_models
        self._nb_models -= 1

    @property
    def is_late(self) -> bool:
        """Whether the time of the model is over."""
        is_late = time.monotonic() > self._deadline
        # processes have clocks of their own
        return self._replicas.agree(is_late) if np.isfinite(self._deadline) else False

    def known(self) -> None:
        """A part was there already."""
        self._nb_left -= 1
        self._progress.step()

    def work(self, name: str, compute: Callable[[], Any]) -> Any:
        """What is computed, and its time."""
        self._progress.begin(f"{name}{self._estimate}")
        start = time.monotonic()
        try:
            return compute()
        finally:
            self._spent.append(time.monotonic() - start)
            self.known()

    @property
    def _estimate(self) -> str:
        if len(self._spent) < 3:
            return ""
        minutes = round(float(np.mean(self._spent)) * self._nb_left / 60)
        return f", about {minutes} min left" if minutes else ""


class _ModelRun:
    """The rows of a model, chunk by chunk."""

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        wanted: Sequence[Wanted],
        journal: Journal,
        clock: _Clock,
        replicas: Replicas,
    ):
        self._replicas = replicas
        self.subject, self.plan = subject, plan
        self._journal, self._clock = journal, clock
        inputs = Inputs(subject.samples.shape, subject.spread, plan.batch_size, plan.operator)
        self.rows = make_rows(
            wanted, plan.controls, subject.model, inputs, subject.axes, plan.seed, replicas
        )
        self.names = [row.name for row in self.rows]
        self.reasons: dict[str, str] = {}
        self.prepared: dict[str, dict[str, Any]] = {}
        # of each row, by chunk
        self.columns: dict[str, dict[int, dict[str, np.ndarray]]] = {}
        self.data: dict[str, Any] = {}

    def run(self, choosing: np.ndarray, scored: np.ndarray) -> None:
        """Measure what is not known yet, as far as the time goes."""
        self._check_data(choosing, scored)
        chunks = chunks_of(scored)
        missing = [
            number for number, chunk in enumerate(chunks) if None in self._stored(int(chunk[0]))
        ]
        first = missing[0] if missing else len(chunks)
        for number, chunk in enumerate(chunks[:first]):
            for row in self.rows:
                self._take(row, number, int(chunk[0]))
        if missing:
            self._measure(choosing, chunks, first)
        methods = [row.name for row in self.rows if row.kind != "control"]
        if all(name in self.reasons for name in methods):
            raise ValueError(
                f"No method runs on {self.subject.name!r}. "
                + " ".join(f"{name}: {reason}" for name, reason in self.reasons.items())
            )

    def _measure(self, choosing: np.ndarray, chunks: Sequence[np.ndarray], first: int) -> None:
        samples, plan = self.subject.samples, self.plan
        measure = Measure(self.subject, plan)
        _, inputs, targets = zip(*samples.batches(len(choosing), choosing))
        images = ArraySamples(np.concatenate(inputs), np.concatenate(targets), samples.has_labels)
        # after these nothing is known
        is_known = [any(part is not None for part in self._stored(int(c[0]))) for c in chunks]
        nb_known = max(np.flatnonzero(is_known), default=-1) + 1
        size = len(chunks[0])
        positions = np.concatenate(chunks[first:])
        for number, batch in enumerate(samples.batches(size, positions), start=first):
            chunk = measure.chunk(batch)
            for row in self.rows:
                self._measure_row(row, number, chunk, measure, images)
            measure.forget()
            if self._clock.is_late and number + 1 >= nb_known:
                break

    def _measure_row(
        self, row: Row, number: int, chunk: Chunk, measure: Measure, images: ArraySamples
    ) -> None:
        if row.name in self.reasons or self._take(row, number, int(chunk.batch.positions[0])):
            return
        name = f"{self.subject.name}, {row.name}"
        try:
            if row.name not in self.prepared:
                self.prepared[row.name] = self._part(
                    self._key(row, "prepare"),
                    f"{name}: sigma",
                    lambda: _prepare(row, measure, images),
                )
                row.resume(self.prepared[row.name])
            columns = self._part(
                self._key(row, int(chunk.batch.positions[0])),
                f"{name}: chunk {number + 1}",
                lambda: measure.score(row, chunk, self.prepared[row.name]["choices"]),
            )
            self.columns.setdefault(row.name, {})[number] = columns
        except _OutOfTimeError:
            return
        except LostProcessError:
            raise
        except Exception as error:  # a method may fail in any way; it is recorded
            self.reasons[row.name] = f"{type(error).__name__}: {_first_line(error)}"
            self.columns.pop(row.name, None)

    def _part(self, key: Sequence[Any], name: str, compute: Callable[[], Any]) -> Any:
        """A part that is known, or is computed and kept now."""
        found = self._journal.get(key)
        if found is not None:
            self._clock.known()
            return found
        # something always comes of it
        if self._clock.is_late and self.columns:
            raise _OutOfTimeError
        found = self._clock.work(name, compute)
        self._journal.put(key, found)
        return found

    def _take(self, row: Row, number: int, first: int) -> bool:
        """Take a row of a chunk from the journal, if it is there."""
        prepared = self._journal.get(self._key(row, "prepare"))
        columns = self._journal.get(self._key(row, first))
        if prepared is None or columns is None:
            return False
        if row.name not in self.prepared:
            self.prepared[row.name] = prepared
            row.resume(prepared)
            self._clock.known()
        self.columns.setdefault(row.name, {})[number] = columns
        self._clock.known()
        return True

    def _stored(self, first: int) -> list[Any]:
        """What the journal has of each row on the chunk of this first image."""
        return [self._journal.get(self._key(row, first)) for row in self.rows]

    def _key(self, row: Row, part: Any) -> list[Any]:
        return [self.subject.name, row.name, row.identity, part]

    def _check_data(self, choosing: np.ndarray, scored: np.ndarray) -> None:
        """The folder must hold parts of the same model and images."""
        samples = self.subject.samples
        self.data = {
            "nb_images": len(samples),
            "nb_choosing": len(choosing),
            "fingerprint": zlib.crc32(samples.fingerprints().tobytes()),
            "weights": weights_checksum(self.subject.model),
            "activation": self.subject.activation,
        }
        if self.subject.axes != DEFAULT_AXES.get(len(samples.shape) + 1):
            self.data["axes"] = list(self.subject.axes)
        known = json.dumps([self.data, self.plan.describe()])
        self._replicas.check_same("models, inputs or settings", known)
        key = [self.subject.name, "data"]
        known = self._journal.get(key)
        if known is None:
            self._journal.put(key, self.data)
        elif known != self.data:
            raise ValueError(
                f"The folder holds parts of another model or other images by the name "
                f"{self.subject.name!r}: {known} there, {self.data} now. Give another folder, or "
                "the model another name."
            )

    def complete(self) -> tuple[list[str], list[int]]:
        """The rows of the tables, and the chunks that all of them have."""
        rows = [name for name in self.names if name in self.columns]
        chunks = [set(self.columns[name]) for name in rows]
        return rows, sorted(set.intersection(*chunks))


def _prepare(row: Row, measure: Measure, images: ArraySamples) -> dict[str, Any]:
    batch = next(images.batches(len(images)))
    prepared = row.prepare(batch)
    return {**prepared, "choices": measure.choose(row.maps(batch), images)}


def _subjects(
    models: Any, inputs: Any, targets: Any, activation: Any, axes: int | Sequence[int] | None
) -> list[Subject]:
    is_several = isinstance(models, Mapping)
    if isinstance(targets, (list, tuple)) and any(isinstance(one, str) for one in targets):
        raise ValueError(f"`targets` is {targets!r}; names of methods go by methods={targets!r}.")
    named = models if is_several else {str(getattr(models, "name", "model")): models}
    if not named:
        raise ValueError("`models` is empty; give a model, or a mapping from names to models.")
    found = []
    for name, model in named.items():
        if not callable(getattr(model, "predict_proba", model)):
            raise TypeError(
                f"The model {name!r} is {model!r}; give a Keras model or a function of inputs."
            )
        given = [_of_model(part, name) for part in (inputs, targets, activation)]
        check_choice("activation", given[2], ("softmax", "sigmoid", None))
        samples = make_samples(given[0], given[1], model)
        rank = len(samples.shape) + 1
        if axes is None and rank not in DEFAULT_AXES:
            raise ValueError(
                f"The inputs of {name!r} have shape "
                f"{batch_shape(samples.shape)}; say along which axes "
                "to filter their explanations, for instance run_benchmark(..., axes=(1, 2, 3)). "
                "Tabular inputs have no order to filter along."
            )
        chosen = (
            DEFAULT_AXES[rank]
            if axes is None
            else checked_axes(axes, tf.TensorShape((None, *samples.shape)))
        )
        spread = float(np.ptp(first_batch(samples).inputs)) or 1.0
        found.append(Subject(str(name), model, samples, given[2], chosen, spread))
    return found


def _check_mu_fidelity(subjects: Sequence[Subject], plan: Plan) -> None:
    for subject in subjects if plan.mu_fidelity_samples else ():
        if len(subject.samples.shape) > 3:
            raise ValueError(
                f"The inputs of {subject.name!r} have shape "
                f"{batch_shape(subject.samples.shape)}, and "
                "MuFidelity takes none beyond images; leave it out by mu_fidelity_samples=0."
            )


def _of_model(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if name not in value:
        raise ValueError(
            f"There is nothing for the model {name!r} among {', '.join(map(repr, value))}; give "
            "each model its own, by its name, or the same for all."
        )
    return value[name]


def _put_together(runs: Sequence[_ModelRun], plan: Plan) -> Benchmark:
    records, choices, methods = [], [], []
    for run in runs:
        rows, chunks = run.complete()
        names = {"model": run.subject.name}
        for name in rows:
            parts = [run.columns[name][chunk] for chunk in chunks]
            columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            records.append(pd.DataFrame({**columns, **names, "method": name}))
            for choice in run.prepared[name]["choices"]:
                candidate = Candidate(*choice["candidate"])
                choices.append({**names, "method": name, **choice, "candidate": str(candidate)})
        nb_images = sum(len(np.unique(run.columns[rows[0]][chunk]["image"])) for chunk in chunks)
        methods += [_of_method(run, name, nb_images if name in rows else 0) for name in run.names]
    return Benchmark(
        records=pd.concat(records),
        methods=pd.DataFrame(methods),
        choices=pd.DataFrame(choices),
        provenance=_provenance(runs, plan),
    )


def _of_method(run: _ModelRun, name: str, nb_images: int) -> dict[str, Any]:
    row = next(row for row in run.rows if row.name == name)
    prepared, reason = run.prepared.get(name, {}), run.reasons.get(name, "")
    status = "done" if nb_images else "failed" if reason else "not reached"
    return {
        "model": run.subject.name,
        "method": name,
        # of a function that gave no explainer nothing else is known
        "kind": row.kind or "black",
        "status": status,
        "reason": "The time was over." if status == "not reached" else reason,
        "nb_images": nb_images,
        **{key: prepared.get(key) for key in ("seconds", "forward", "backward")},
        "options": row.options,
    }


def _provenance(runs: Sequence[_ModelRun], plan: Plan) -> dict[str, Any]:
    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "device": _device(),
        "date": datetime.date.today().isoformat(),
        "seed": plan.seed,
        "batch_size": plan.batch_size,
        "settings": plan.describe(),
        "data": {run.subject.name: run.data for run in runs},
    }


def _device() -> str:
    """What the model ran on."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"CPU, {os.cpu_count()} cores"
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    return ", ".join(name or "GPU" for name in names)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    # what AutoGraph writes: the trace comes first
    if lines[:1] == ["in user code:"]:
        lines = [lines[-1].strip().removeprefix(f"{type(error).__name__}: ")]
    return textwrap.shorten(lines[0], _LONGEST) if lines else "without a message"
