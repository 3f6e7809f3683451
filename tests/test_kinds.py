"""
Every kind of model and input, with every part of the package: the cells of docs/supported.md.
"""

import functools
import importlib
from pathlib import Path

import kinds_images
import kinds_models
import kinds_tasks
import kinds_torch
import numpy as np
import pytest
import reference
import tensorflow as tf
from kinds import PARTS, NotTried, Refused
from xplique.wrappers import TorchWrapper

import xplique_forgrad as fg
from xplique_forgrad.benchmark import run_benchmark
from xplique_forgrad.layers import diagnose

KINDS = [*kinds_images.KINDS, *kinds_models.KINDS, *kinds_tasks.KINDS, *kinds_torch.KINDS]
# perturbation steps of Insertion and Deletion
_STEPS = 4


@functools.lru_cache(maxsize=1)
def case_of(kind):
    return kind.make()


def check_filter(case):
    maps = case.maps
    axes = case.axes or {3: (1,), 4: (1, 2)}.get(maps.ndim, (1, 2))
    found = np.asarray(fg.forgrad(maps, case.sigmas[0], axes=axes))
    expected = reference.forgrad(maps, case.sigmas[0], axes=axes)
    assert found.shape == maps.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(maps).max())


def check_explainer(case):
    explainer = fg.FORGrad(case.built, case.sigmas[0], axes=case.axes)
    found = np.asarray(explainer.explain(case.inputs, case.targets))
    maps = case.maps
    axes = case.axes or {3: (1,), 4: (1, 2)}[maps.ndim]
    assert np.ptp(maps) > 0
    np.testing.assert_allclose(
        found, fg.forgrad(maps, case.sigmas[0], axes=axes), atol=1e-5 * np.abs(maps).max()
    )


def causal_score(case, maps):
    """Insertion - Deletion of each input, step by step as the definition says."""
    # channels are perturbed together, but those of series
    maps = maps.mean(axis=-1) if maps.ndim > 3 else maps
    flat = maps.reshape(len(maps), -1)
    # ties in the order of Xplique's metrics
    order = np.argsort(flat, axis=1)[:, ::-1]
    images = case.inputs.reshape(len(maps), flat.shape[1], -1)
    curves = []
    for number in np.linspace(0, flat.shape[1], _STEPS + 1, dtype=int):
        first = np.zeros(flat.shape, bool)
        np.put_along_axis(first, order[:, :number], True, axis=1)
        inserted = np.where(first[..., None], images, 0).reshape(case.inputs.shape)
        deleted = np.where(first[..., None], 0, images).reshape(case.inputs.shape)
        pair = [case.score(one.astype(np.float32), case.targets) for one in (inserted, deleted)]
        curves.append(np.asarray(pair[0], np.float64) - np.asarray(pair[1], np.float64))
    curves = np.array(curves)
    return (curves[:-1] + curves[1:]).mean(axis=0) / 2


def check_metrics(case):
    metric = fg.Faithfulness(
        case.model, case.inputs, case.targets, steps=_STEPS, batch_size=16, **case.scoring
    )
    found = metric.evaluate_per_image(case.maps)
    expected = causal_score(case, case.maps)
    assert np.ptp(expected) > 0
    # where the model computes in half precision, that is what the scores have
    np.testing.assert_allclose(found, expected, atol=3e-3 * np.abs(expected).max())


def check_search(case):
    is_class = isinstance(case.explainer, type)
    optimizer = fg.SigmaOptimizer(
        case.explainer if is_class else case.built,
        model=case.model,
        sigmas=case.sigmas,
        axes=case.axes,
        control="other_image",
        steps=_STEPS,
        batch_size=16,
        **case.scoring,
    )
    result = optimizer.search(case.inputs, case.targets, verbose=0)
    # the first candidate is the map as it is
    expected = causal_score(case, case.maps)
    np.testing.assert_allclose(result.scores[0], expected, atol=3e-3 * np.abs(expected).max())
    assert np.isfinite(result.scores).all()
    assert np.ptp(result.scores) > 0


def check_diagnose(case):
    report = diagnose(case.model, case.inputs, case.targets, operator=case.operator, verbose=0)
    assert "sigma" in str(report)


def check_benchmark(case):
    options = {name: case.scoring[name] for name in ("activation",) if name in case.scoring}
    benchmark = run_benchmark(
        case.model,
        case.inputs,
        case.targets,
        case.methods,
        controls=["centre"],
        sigmas=case.sigmas[:1],
        axes=case.axes,
        mu_fidelity_samples=0,
        nb_stability=0,
        nb_choosing=2,
        steps=2,
        operator=case.operator,
        verbose=0,
        **options,
    )
    assert (benchmark.methods["status"] == "done").all()
    assert np.isfinite(benchmark.records["insertion"]).all()


CHECKS = {part: globals()[f"check_{part}"] for part in PARTS}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.section}-{kind.name}")
def test_cell(kind, part):
    cell = kind.cell(part)
    if isinstance(cell, NotTried):
        pytest.skip(cell.reason)
    try:
        case = case_of(kind)
    except ImportError as error:
        pytest.skip(str(error))
    # as the wrapper of PyTorch wants it, for the whole process
    tf.config.run_functions_eagerly(isinstance(case.model, TorchWrapper))
    try:
        if isinstance(cell, Refused):
            with pytest.raises((ValueError, TypeError)) as caught:
                CHECKS[part](case)
            assert cell.message in str(caught.value)
        else:
            CHECKS[part](case)
    finally:
        tf.config.run_functions_eagerly(False)


def test_the_table_of_the_docs_is_made_of_these_cells(monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(root / "benchmarks")
    supported = importlib.import_module("supported")
    page = (root / "docs/supported.md").read_text(encoding="utf-8")
    assert supported.filled(page) == page
