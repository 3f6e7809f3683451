"""
What a search works on, checked before anything is computed: samples, explainer, model, settings.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from xplique.commons.operators_operations import get_inference_function

from .._checks import batch_shape
from .._explainers import build_explainer, check_explains, unwrapped
from .._models import share_weights, weights_checksum
from .._notices import notify
from .._ranges import check_range
from .._replicas import Replicas
from .._samples import Batch, first_batch, make_samples
from .._tasks import check_values
from ..filtering import full_band_sigma
from ..filtering._checks import DEFAULT_AXES, checked_axes
from ..metrics._metric import PerImageMetric
from ..metrics._scorer import AUTOMATIC
from ._description import describe, describe_with_data
from ._explaining import Explaining
from ._loop import Search
from ._panel import ScoringSettings, make_panel
from ._seeds import repeatable
from ._settings import SearchOptions, Settings
from .controls import Control, control_maps, fewest_images, make_control

_PACKAGES = ("xplique-forgrad", "xplique", "tensorflow", "numpy")


class Subject(NamedTuple):
    """What is explained, and the model that is scored."""

    explainer: Any
    model: Any


class Asked(NamedTuple):
    """What a search is asked for, as `SigmaOptimizer` has it."""

    objective: Any
    mode: str | None
    report: tuple[str, ...]
    control: Any
    axes: int | Sequence[int] | None
    options: SearchOptions
    scoring: ScoringSettings


class Setup(NamedTuple):
    """A search that can begin, and how its result is to be described."""

    search: Search
    settings: Settings
    model: Any
    given: np.ndarray | None


def prepare(asked: Asked, subject: Subject, inputs: Any, targets: Any, explanations: Any) -> Setup:
    """
    Put together what a search works on.

    Raises
    ------
    ValueError
        If inputs, targets, explanations, model, metric and cutoffs do not go together.
    """
    explainer, model = subject
    if explanations is None and explainer is None:
        raise ValueError("There is no explainer; give `explanations`, or an explainer.")
    if explanations is None:
        check_explains(explainer)
    samples = make_samples(inputs, targets, model)
    axes = _checked_axes(asked.axes, samples.shape)
    sizes = [samples.shape[axis - 1] for axis in axes]
    full_band = full_band_sigma(sizes)
    _check_sigmas(asked.options, sizes, full_band)
    given = None if explanations is None else _checked_maps(explanations)
    if given is not None and len(given) != len(samples):
        raise ValueError(
            f"There are {len(given)} explanations for {len(samples)} inputs; give one each."
        )

    operator = asked.scoring.scoring.operator

    def explain(batch: Batch) -> Any:
        if given is not None:
            return given[batch.positions]
        check_values(batch.targets, batch.positions, operator)
        return explainer.explain(batch.inputs, batch.targets)

    panel = make_panel(asked.objective, asked.mode, asked.report, model, samples, asked.scoring)
    if not panel.sources:
        # metrics look at it themselves
        check_range(model, lambda: first_batch(samples).inputs)
    replicas = panel.replicas or Replicas(asked.scoring.scoring.strategy)
    batch_size = asked.scoring.scoring.batch_size
    options = asked.options
    control = make_control(asked.control, explainer, axes, options.seed, len(samples))
    search = Search(
        samples,
        Explaining(explain, options.seed, replicas=replicas),
        options.candidates(sizes),
        panel,
        axes,
        int(batch_size) if isinstance(batch_size, (int, np.integer)) else AUTOMATIC,
        control,
        options.subtract_control,
        options.border,
        replicas,
    )
    if control is not None and not isinstance(asked.control, str):
        _check_control(control, search)
    settings = Settings(
        objective=describe(asked.objective),
        report=asked.report,
        options=asked.options,
        axes=axes,
        nb_images=len(samples),
        input_shape=tuple(int(size) for size in samples.shape),
        full_band=full_band,
        control=None if control is None else control.name,
        control_options=describe_with_data(asked.control),
        explainer=describe(explainer),
        versions={name: version(name) for name in _PACKAGES},
    )
    return Setup(search, settings, model, given)


def fingerprints(setup: Setup, is_resumable: bool) -> dict[str, Any]:
    """
    What tells apart searches of the same settings: data, weights, what functions do.

    A dataset is read once to know its samples, and checked at each pass from then on.
    """
    search = setup.search
    found: dict[str, Any] = {}
    samples = search.samples
    if samples.is_stream or is_resumable:
        found["data"] = zlib.crc32(samples.fingerprints().tobytes())
    if setup.given is not None:
        found["explanations"] = zlib.crc32(np.ascontiguousarray(setup.given).tobytes())
    found["weights"] = weights_checksum(setup.model)
    if is_resumable:
        # settings do not tell all: what functions and explainers do to the first input does
        first = next(iter(samples.batches(1, [0])))
        with repeatable(search.explain.seed):
            explanation = np.asarray(search.explain.explain(first))
        values = explanation.astype(np.float64)
        found["first_explanation"] = f"{values.mean():.4g}, {values.std():.4g}"
        found["first_scores"] = search.panel.probe(explanation, samples)
    return found


def find_subject(
    explainer: Any, model: Any, trained: keras.Model | None, metric: Any, operator: Any = None
) -> Subject:
    """
    The explainer and the model to score, as they are now.

    Parameters
    ----------
    explainer
        An explainer, a class of explainers, or None.
    model
        The model to score, or None for the explainer's.
    trained
        The model that is being trained, or None.
    metric
        The objective: a metric scores the model that it was built on.
    operator
        What a class of explainers is to explain, where the metric does not say it.
    """
    is_class = inspect.isclass(explainer)
    if is_class:
        explained = model if trained is None else trained
        if explained is None:
            raise ValueError(
                f"{explainer.__name__} is a class; give the model to explain by `model=`."
            )
        if isinstance(metric, PerImageMetric):
            operator = metric.scorer.options.operator
        takes = operator is not None and "operator" in inspect.signature(explainer).parameters
        options = {"operator": operator} if takes else {}
        explainer = build_explainer(explainer, explained, **options)
    followed = getattr(explainer, "model", None)
    if trained is not None and not is_class:
        _check_follows(explainer, followed, trained)
    if model is not None:
        return Subject(explainer, model)
    scored = followed if trained is None else trained
    measured = getattr(metric, "raw_model", None)
    # a metric may score the explained model by another head, such as a softmax
    if measured is not None and (scored is None or share_weights(measured, scored)):
        scored = measured
    return Subject(explainer, scored)


def _check_follows(explainer: Any, followed: Any, trained: keras.Model) -> None:
    """Raise a ValueError if the explainer explains another model than the one that is trained."""
    if not isinstance(followed, keras.Model):
        return
    own = {id(variable) for variable in followed.variables}
    if own.isdisjoint(id(variable) for variable in trained.variables):
        raise ValueError(
            f"{type(explainer).__name__} explains another model, or a copy with weights of "
            "its own, than the one that is trained. Give the class instead, such as "
            "SigmaOptimizer(GuidedBackprop): it is then built for the current weights."
        )


def check_operators(setup: Setup, subject: Subject) -> None:
    """Warn if the explainer explains another score of the first input than the search compares."""
    inference: Any = getattr(subject.explainer, "inference_function", None)
    explained = getattr(subject.explainer, "model", None)
    # another model may give another score of the same output, such as its probability
    is_comparable = callable(inference) and explained is subject.model and explained is not None
    if not setup.search.panel.sources or not is_comparable:
        return
    batch = setup.search.samples.probe
    operator = setup.search.panel.sources[0].scorer.options.operator
    try:
        explained_scores = np.asarray(inference(explained, *map(tf.constant, batch)))
        if explained_scores.size > 1:
            notify(
                f"The explainer explains {explained_scores.size:,} values of the first input at "
                "once, and the search scores one. Give the same `operator` to both, as in "
                f"{type(unwrapped(subject.explainer)).__name__}(model, operator=...)."
            )
            return
        own = float(explained_scores.ravel()[0])
        score = get_inference_function(subject.model, operator)[0]
        found = float(np.asarray(score(subject.model, *map(tf.constant, batch))).ravel()[0])
    except Exception:  # an operator may call anything, and scoring says what is wrong with it
        return
    if abs(own - found) > 1e-2 * max(abs(own), abs(found), 1e-6):
        notify(
            f"The explainer explains {own:.4g} for the first input, and the search scores it "
            f"{found:.4g}: they look at different outputs. Give the same `operator` (and model) to "
            "both, as in SigmaOptimizer(..., operator=...)."
        )


def _check_control(control: Control, search: Search) -> None:
    """Ask a control of the user's own for a few maps, before anything is scored."""
    number = min(len(search.samples), max(2, fewest_images(control)))
    batch = next(iter(search.samples.batches(number, range(number))))
    control_maps(control, batch, search.explain(batch))


def _checked_maps(explanations: Any) -> np.ndarray:
    if isinstance(explanations, tf.data.Dataset) or hasattr(explanations, "explain"):
        raise TypeError(
            f"`explanations` is a {type(explanations).__name__}; a search reads maps several "
            "times. Give an array, which may be a np.memmap, or leave them out and search with an "
            "explainer, SigmaOptimizer(explainer)."
        )
    try:
        return np.asarray(explanations)
    except ValueError as error:
        raise ValueError(
            "The explanations are maps of several sizes; a search compares maps of one size, of "
            "shape (N, H, W) or (N, H, W, C): resize the images, or search for each size apart."
        ) from error


def _check_sigmas(options: SearchOptions, sizes: Sequence[int], full_band: float) -> None:
    for sigma in options.sigmas or ():
        if sigma > max(sizes):
            raise ValueError(
                f"`sigmas` holds {sigma:g}, beyond the longest filtered axis, {max(sizes)}; "
                f"from {full_band:.4g} on nothing is removed."
            )


def _checked_axes(axes: int | Sequence[int] | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    if axes is not None:
        return checked_axes(axes, tf.TensorShape((None, *shape)))
    if len(shape) + 1 not in DEFAULT_AXES:
        raise ValueError(
            f"The inputs have shape {batch_shape(shape)}; say along which axes to filter their "
            "explanations, for instance SigmaOptimizer(explainer, axes=(1, 2, 3)). Tabular "
            "inputs have no order to filter along."
        )
    return DEFAULT_AXES[len(shape) + 1]
