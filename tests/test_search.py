"""The search against a plain loop, on planted data, interrupted, and on bad input."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import xplique.metrics
from conftest import name_of
from kinds import samples
from kinds_images import small_network
from xplique.attributions import GradientInput, Saliency, SmoothGrad

from xplique_forgrad import Faithfulness, FORGrad, MuFidelity, SigmaOptimizer, forgrad
from xplique_forgrad.search import Candidate, _checkpoint, _loop, default_sigmas
from xplique_forgrad.search._candidates import filtered_maps, neighbours


def small_model(shape=(16, 16, 3), seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def small_parts(monkeypatch):
    """Groups of 8 images, in parts of a few model batches, each written at once."""
    monkeypatch.setattr(_loop, "_GROUP_IMAGES", 8)
    monkeypatch.setattr(_loop, "_PART_VALUES", 1)
    monkeypatch.setattr(_checkpoint, "_PERIOD", 0.0)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(70, 16, 16, 3)).astype(np.float32)
    return inputs, np.eye(3, dtype=np.float32)[rng.integers(3, size=70)]


def exhaustive(explainer, objective="faithfulness", **options):
    return SigmaOptimizer(explainer, objective, strategy="exhaustive", **options)


@pytest.mark.parametrize("baseline", [0.0, lambda inputs: np.full_like(inputs, inputs.mean())])
def test_mean_scores_are_those_of_a_plain_loop(model, data, baseline):
    inputs, targets = data
    explainer = GradientInput(model)
    options = {"activation": "softmax", "baseline_mode": baseline}
    search = exhaustive(explainer, **options).search(inputs, targets, verbose=0)
    explanations = explainer(inputs, targets)
    insertion = xplique.metrics.Insertion(model, inputs, targets, **options)
    deletion = xplique.metrics.Deletion(model, inputs, targets, **options)
    for candidate, mean, scores in zip(search.candidates, search.mean_scores, search.scores):
        if candidate.is_filter:
            maps = forgrad(explanations, candidate.sigma)
        else:
            maps = tf.abs(explanations) if candidate.rectify else explanations
        expected = insertion(maps) - deletion(maps)
        assert mean == pytest.approx(expected, abs=2e-5)
        ours = Faithfulness(model, inputs, targets, **options).evaluate_per_image(maps)
        np.testing.assert_allclose(scores, ours, atol=1e-5)
    assert search.best == np.argmax(search.mean_scores)


def test_reflected_borders(model, data):
    inputs, targets = data[0][:12], data[1][:12]
    explainer = Saliency(model)
    options = {"sigmas": [1, 2], "border": "reflect", "control": None}
    search = exhaustive(explainer, **options).search(inputs, targets, verbose=0)
    explanations = explainer(inputs, targets)
    maps = forgrad(explanations, 2, border="reflect")
    expected = Faithfulness(model, inputs, targets).evaluate_per_image(maps)
    np.testing.assert_allclose(search.scores[-1], expected, atol=1e-5)
    best = replace(search, best=3)
    assert best.code == 'forgrad(explanations, sigma=2, border="reflect")'
    np.testing.assert_array_equal(best.filter(explanations), maps)
    with pytest.raises(ValueError, match="`border`.*'periodic', 'reflect'"):
        SigmaOptimizer(explainer, border="mirror")


def test_every_objective_is_reported(model, data):
    inputs, targets = data[0][:12], data[1][:12]
    optimizer = exhaustive(Saliency(model), sigmas=[2, 4], report=["mu_fidelity"])
    search = optimizer.search(inputs, targets, verbose=0)
    assert set(search.others) == {"insertion", "deletion", "mu_fidelity"}
    np.testing.assert_allclose(
        search.scores, search.others["insertion"] - search.others["deletion"], atol=1e-6
    )
    maps = forgrad(Saliency(model)(inputs, targets), 4)
    expected = MuFidelity(model, inputs, targets).evaluate_per_image(maps)
    np.testing.assert_allclose(search.others["mu_fidelity"][-1], expected, atol=1e-9)
    assert {"insertion", "deletion", "mu_fidelity"} <= set(search.to_frame().columns)


def test_a_mapping_is_the_weighted_sum(model, data):
    inputs, targets = data[0][:12], data[1][:12]
    weights = {"insertion": 1, "mu_fidelity": 2, "deletion": -1}
    search = exhaustive(Saliency(model), weights, sigmas=[2, 4]).search(inputs, targets, verbose=0)
    expected = sum(weight * search.others[name] for name, weight in weights.items())
    np.testing.assert_allclose(search.scores, expected, atol=1e-12)
    assert search.objective == "insertion + 2 mu_fidelity - deletion"
    assert search.higher_is_better


def test_deletion_is_minimised(model, data):
    search = exhaustive(Saliency(model), "deletion").search(*data, verbose=0)
    assert not search.higher_is_better
    assert search.best == np.argmin(search.mean_scores)
    difference = search.scores[0].mean() - search.best_score
    assert difference >= 0
    assert search.to_frame()["difference"].min() == 0


def planted(nb_images=60, size=16, sigma=4):
    """Explanations whose low frequencies alone are the weights of a linear model."""
    rng = np.random.default_rng(1)
    truth = forgrad(rng.normal(size=(nb_images, size, size)) ** 2, sigma, rectify=None).numpy()
    noise = rng.normal(size=truth.shape)
    noise = noise - forgrad(noise, sigma, rectify=None).numpy()
    truth = np.maximum(truth, 0)
    explanations = truth + 6 * truth.std() * noise / noise.std()
    inputs = np.ones((nb_images, size, size, 1), np.float32)
    inputs += np.arange(nb_images)[:, None, None, None]

    def model(perturbed):
        index = np.rint(perturbed.max(axis=(1, 2, 3)) - 1).astype(int)
        kept = perturbed[..., 0] > 0
        weights = truth[np.maximum(index, 0)]
        score = (kept * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
        return np.stack([score, 1 - score], axis=1)

    return model, inputs, np.tile(np.float32([[1, 0]]), (nb_images, 1)), explanations


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
@pytest.mark.parametrize("objective", ["faithfulness", "insertion", "deletion", "mu_fidelity"])
def test_a_planted_optimum_is_found(strategy, objective):
    model, inputs, targets, explanations = planted()
    optimizer = SigmaOptimizer(
        None, objective, strategy=strategy, model=model, rectify=None, grid_size=8, tolerance=0.001
    )
    search = optimizer.search(inputs, targets, explanations, verbose=0)
    assert search.best_sigma in (3, 4, 5)
    assert search.gain_over_raw.verdict == "significant gain"
    assert "a significant gain" in search.verdict


@pytest.mark.parametrize("sigmas", [[1, 9], [2, 8], [6]])
def test_refining_ends_beside_scored_integers(sigmas):
    model, inputs, targets, explanations = planted(30)
    optimizer = SigmaOptimizer(None, sigmas=sigmas, refine=True, model=model, rectify=None)
    search = optimizer.search(inputs, targets, explanations, verbose=0)
    tried = {candidate.sigma for candidate in search.candidates}
    assert {search.best_sigma - 1, search.best_sigma + 1} <= tried | {0.0}
    assert search.best_sigma in (3, 4, 5)


def test_neighbours_halve_the_gaps():
    assert neighbours(8.0, [2.0, 8.0, 20.0], 32) == [5.0, 14.0]
    assert neighbours(8.0, [7.0, 8.0, 9.0], 32) == []
    assert neighbours(1.0, [1.0, 2.0], 32) == []
    assert neighbours(4.5, [4.5], 32) == [3.0, 18.0]


def test_no_filter_can_win(model, data):
    inputs, targets = data

    def operator(model, inputs, targets):
        # falls with one pixel alone, which a blur puts behind the broad patch
        return inputs[:, 3, 5, 0]

    explanations = np.zeros((70, 16, 16, 1))
    explanations[:, 3, 5] = 1
    explanations[:, 8:14, 8:14] = 0.5
    optimizer = exhaustive(None, "deletion", model=model, operator=operator, window="gaussian")
    search = optimizer.search(inputs + 1, targets, explanations, verbose=0)
    assert search.best_sigma is None
    assert search.best_candidate == Candidate()
    assert "the raw map is best" in search.verdict
    np.testing.assert_array_equal(search.filter(explanations), explanations)


def test_windows_and_rectifications_are_searched(model, data):
    optimizer = exhaustive(
        GradientInput(model),
        sigmas=[2, 5],
        window=("disk", "gaussian"),
        rectify=("magnitude", "positive", None),
    )
    search = optimizer.search(data[0][:10], data[1][:10], verbose=0)
    assert len(search.candidates) == 3 + 2 * 3 * 2
    explanations = GradientInput(model)(data[0][:10], data[1][:10])
    maps = filtered_maps(explanations.numpy(), search.candidates, (1, 2))
    for candidate, treated in zip(search.candidates, maps):
        if candidate.is_filter:
            expected = forgrad(
                explanations, candidate.sigma, window=candidate.window, rectify=candidate.rectify
            )
            np.testing.assert_allclose(treated, expected, atol=1e-6)


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
def test_a_dataset_is_searched_as_arrays_are(model, data, strategy):
    def search(*arguments):
        optimizer = SigmaOptimizer(Saliency(model), sigmas=[1, 3, 6], strategy=strategy)
        return optimizer.search(*arguments, verbose=0)

    expected = search(*data)
    for dataset in (
        tf.data.Dataset.from_tensor_slices(data),
        tf.data.Dataset.from_tensor_slices(data).batch(9).prefetch(1),
    ):
        found = search(dataset)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        assert found.best == expected.best


def test_time_series_are_filtered_along_time():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((40, 2)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    inputs = np.random.default_rng(0).normal(size=(12, 40, 2)).astype(np.float32)
    targets = np.eye(2)[np.arange(12) % 2]
    search = exhaustive(Saliency(model)).search(inputs, targets, verbose=0)
    assert search.settings["axes"] == [1]
    assert search.filter(Saliency(model)(inputs, targets)).shape == (12, 40, 2)


def test_default_sigmas_are_distinct_masks_below_the_full_band():
    for shape in ((7, 7), (16, 16), (224, 224), (33, 50), (100,), (1, 1), (2, 2)):
        sigmas = default_sigmas(shape)
        assert sigmas[0] == 1
        assert sigmas == sorted(set(sigmas))
        noise = np.random.default_rng(0).normal(size=(1, *shape))
        axes = tuple(range(1, 1 + len(shape)))
        candidates = [Candidate(float(s), "disk", None) for s in sigmas]
        if max(shape) > 2:
            maps = filtered_maps(noise, candidates, axes)
            energies = (maps**2).reshape(len(sigmas), -1).sum(axis=1)
            assert np.all(np.diff(energies) > 0)
            assert energies[-1] < (noise**2).sum()
    assert len([sigma for sigma in default_sigmas((224, 224)) if sigma <= 15]) >= 11


def test_searches_repeat_with_noise_of_the_explainer(model, data):
    def search(seed):
        explainer = SmoothGrad(model, nb_samples=5, noise=0.5)
        optimizer = SigmaOptimizer(explainer, sigmas=[2, 5], seed=seed)
        return optimizer.search(*data, verbose=0).scores

    np.random.seed(1)  # noqa: NPY002
    tf.random.set_seed(1)
    first = search(0)
    following = tf.random.uniform((3,)).numpy()
    np.testing.assert_array_equal(search(0), first)
    assert np.any(np.nan_to_num(search(1)) != np.nan_to_num(first))
    # what the caller draws after a search does not repeat from search to search
    assert np.any(tf.random.uniform((3,)).numpy() != following)


class Interrupted(Exception):
    pass


class InterruptedExplainer(SmoothGrad):
    """Stops the search at its n-th call."""

    def __init__(self, *arguments, after, **options):
        super().__init__(*arguments, **options)
        self._left = after

    def explain(self, inputs, targets=None):
        self._left -= 1
        if self._left == 0:
            raise Interrupted
        return super().explain(inputs, targets)


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
def test_an_interrupted_search_goes_on(tmp_path, monkeypatch, model, data, strategy):
    small_parts(monkeypatch)
    options = {
        "sigmas": [1, 3, 6],
        "strategy": strategy,
        "refine": True,
        "report": ["mu_fidelity"],
        "nb_samples": 20,
    }

    def search(after, path=None):
        explainer = InterruptedExplainer(model, nb_samples=3, noise=0.5, after=after)
        optimizer = SigmaOptimizer(explainer, **options)
        return optimizer.search(*data, checkpoint=path, verbose=0)

    expected = search(-1)
    path = tmp_path / "search.ckpt"
    nb_interruptions = 0
    for after in (1, 4, 6, 3, 5):
        try:
            search(after, path)
        except Interrupted:
            nb_interruptions += 1
    assert nb_interruptions >= 3
    found = search(-1, path)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.halves, expected.halves)
    np.testing.assert_array_equal(found.others["mu_fidelity"], expected.others["mu_fidelity"])
    assert (found.best, found.nb_evaluations) == (expected.best, expected.nb_evaluations)
    assert repr(found) == repr(expected)
    assert os.listdir(tmp_path) == ["search.ckpt"]


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import conftest
import numpy as np
from xplique.attributions import SmoothGrad
from test_search import small_model
from xplique_forgrad import SigmaOptimizer
from xplique_forgrad.search import _checkpoint, _loop

_loop._GROUP_IMAGES, _loop._PART_VALUES, _checkpoint._PERIOD = 8, 1, 0.0
flush = _checkpoint.Checkpoint.flush
def killed(self, calls=[]):
    calls.append(None)
    if len(calls) == 9:
        os.kill(os.getpid(), signal.SIGKILL)  # a block is on its way
    flush(self)
_checkpoint.Checkpoint.flush = killed
rng = np.random.default_rng(0)
inputs = rng.uniform(size=(70, 16, 16, 3)).astype(np.float32)
targets = np.eye(3, dtype=np.float32)[rng.integers(3, size=70)]
explainer = SmoothGrad(small_model(), nb_samples=3, noise=0.5)
# traced under a seed of this process alone
import keras
keras.utils.set_random_seed(os.getpid())
explainer.explain(inputs[:8], targets[:8])
optimizer = SigmaOptimizer(explainer, sigmas=[1, 3, 6])
optimizer.search(inputs, targets, checkpoint={path!r}, verbose=0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_killed_search_ends_with_the_same_bits(tmp_path, monkeypatch, model, data):
    path = tmp_path / "search.ckpt"
    script = SCRIPT.format(tests=str(Path(__file__).parent), path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert path.exists()
    small_parts(monkeypatch)

    def search(checkpoint):
        explainer = SmoothGrad(model, nb_samples=3, noise=0.5)
        optimizer = SigmaOptimizer(explainer, sigmas=[1, 3, 6])
        return optimizer.search(*data, checkpoint=checkpoint, verbose=0)

    np.testing.assert_array_equal(search(path).scores, search(None).scores)


@pytest.fixture
def checkpoint(tmp_path, model, data):
    path = tmp_path / "search.ckpt"
    SigmaOptimizer(Saliency(model), sigmas=[2]).search(*data, checkpoint=path, verbose=0)
    return path


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"sigmas": [3]}, "sigmas"),
        ({"steps": 5}, "steps"),
        ({"seed": 1}, "seed"),
        ({"baseline_mode": 0.5}, "baseline_mode"),
        ({"baseline_mode": lambda inputs: inputs * 0}, "baseline_mode"),
        ({"objective": "insertion"}, "objective"),
        ({"strategy": "exhaustive"}, "strategy"),
        ({"activation": "softmax"}, "activation"),
    ],
    ids=name_of,
)
def test_a_checkpoint_of_other_settings_is_refused(checkpoint, model, data, options, name):
    before = checkpoint.read_bytes()
    optimizer = SigmaOptimizer(Saliency(model), **{"sigmas": [2], **options})
    with pytest.raises(ValueError, match=f"What differs: {name}: .* there, .* now"):
        optimizer.search(*data, checkpoint=checkpoint, verbose=0)
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_of_other_data_weights_or_explainer_is_refused(checkpoint, model, data):
    inputs, targets = data

    def search(explainer, *arguments):
        optimizer = SigmaOptimizer(explainer, sigmas=[2])
        optimizer.search(*arguments, checkpoint=checkpoint, verbose=0)

    search(Saliency(model), inputs, targets)
    with pytest.raises(ValueError, match="What differs: data"):
        search(Saliency(model), inputs[::-1], targets)
    with pytest.raises(ValueError, match="What differs: nb_images: 70 there, 60 now"):
        search(Saliency(model), inputs[:60], targets[:60])
    with pytest.raises(ValueError, match="What differs: weights"):
        search(Saliency(small_model(seed=1)), inputs, targets)
    with pytest.raises(ValueError, match="What differs: explainer"):
        search(SmoothGrad(model), inputs, targets)


def test_other_models_without_weights_are_told_apart(tmp_path, data):
    inputs, targets = data
    path = tmp_path / "search.ckpt"

    def model_of(power):
        return lambda inputs: inputs.reshape(len(inputs), -1)[:, :3] ** power

    def search(power):
        optimizer = SigmaOptimizer(None, sigmas=[2], model=model_of(power))
        return optimizer.search(inputs, targets, inputs, checkpoint=path, verbose=0)

    search(1)
    search(1)
    with pytest.raises(ValueError, match="What differs: first_scores"):
        search(2)
    with pytest.raises(ValueError, match="there is no folder"):
        SigmaOptimizer(None, model=model_of(1)).search(
            inputs, targets, inputs, checkpoint=tmp_path / "no" / "search.ckpt", verbose=0
        )


def test_functions_are_told_apart_by_what_they_do(tmp_path, model, data):
    path = tmp_path / "search.ckpt"

    def search(fill, explainer):
        # a nested function, whose code differs from process to process
        baseline = lambda inputs: np.stack([fill(image) for image in inputs])  # noqa: E731
        optimizer = SigmaOptimizer(explainer, sigmas=[2], baseline_mode=baseline)
        optimizer.search(*data, checkpoint=path, verbose=0)

    search(np.zeros_like, FORGrad(Saliency(model), 3))
    search(np.zeros_like, FORGrad(Saliency(model), 3))
    with pytest.raises(ValueError, match="What differs: first_scores"):
        search(np.ones_like, FORGrad(Saliency(model), 3))
    with pytest.raises(ValueError, match="What differs: first_explanation"):
        search(np.zeros_like, FORGrad(GradientInput(model), 3))


def test_torn_and_foreign_files_are_refused(checkpoint, tmp_path, model, data):
    whole = checkpoint.read_bytes()
    middle = len(whole) // 2
    foreign = {
        "torn beginning": whole[:300],
        "flipped beginning": whole[:300] + bytes([whole[300] ^ 255]) + whole[301:],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "empty": b"",
        "text": b"these are no numbers",
        "json": json.dumps({"scores": []}).encode(),
    }
    np.savez(tmp_path / "other.npz", scores=np.zeros(3))
    foreign["other"] = (tmp_path / "other.npz").read_bytes()
    optimizer = SigmaOptimizer(Saliency(model), sigmas=[2])
    for content in foreign.values():
        checkpoint.write_bytes(content)
        with pytest.raises(ValueError, match="is no checkpoint of a search, or a torn one"):
            optimizer.search(*data, checkpoint=checkpoint, verbose=0)
        assert checkpoint.read_bytes() == content


def test_a_torn_end_is_scored_again(checkpoint, model, data, monkeypatch):
    """Killed at 20 places, a search goes on from the last whole block, with the same bits."""
    whole = checkpoint.read_bytes()
    expected = SigmaOptimizer(Saliency(model), sigmas=[2]).search(*data, verbose=0)
    first = whole.index(b"\n") + 1
    beginning = first + 8 + int.from_bytes(whole[first : first + 4], "little")
    places = np.random.default_rng(0).integers(beginning, len(whole), 20)
    for length in (len(whole) - 1, *places):
        checkpoint.write_bytes(whole[:length])
        optimizer = SigmaOptimizer(Saliency(model), sigmas=[2])
        found = optimizer.search(*data, checkpoint=checkpoint, verbose=0)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert found.nb_evaluations == expected.nb_evaluations
        assert checkpoint.read_bytes() == whole


def nan_without_upper_half(inputs):
    """A model that overflows where little but the upper half is gone."""
    gone = (inputs == 0).all(axis=-1)
    scores = inputs.reshape(len(inputs), -1)[:, :3] + 1
    upper, lower = gone[:, :8].mean(axis=(1, 2)), gone[:, 8:].mean(axis=(1, 2))
    scores[(upper > 0.8) & (lower < 0.2)] = np.nan
    return scores


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
def test_nan_scores_never_win_and_are_reported(data, strategy):
    inputs, targets = data
    explanations = 10 * np.random.default_rng(0).uniform(size=(70, 16, 16, 1))
    explanations += 3 * (np.arange(16) < 8)[None, :, None, None]
    options = {"sigmas": [1, 8], "model": nan_without_upper_half, "strategy": strategy}
    search = SigmaOptimizer(None, **options).search(inputs, targets, explanations, verbose=0)
    failing = [candidate.sigma == 1 for candidate in search.candidates]
    np.testing.assert_array_equal(search.nb_failures > 0, failing)
    assert np.isnan(search.mean_scores[failing]).all()
    assert search.best_sigma != 1
    assert np.isfinite(search.best_score)
    assert np.isfinite(search.gain_over_raw.low)
    assert "scores are NaN, and never win" in repr(search)


def test_a_winner_that_fails_where_it_is_judged_is_replaced(data):
    inputs, targets = data
    from xplique_forgrad.search.racing import split_images

    _, held_out = split_images(70, seed=0)
    explanations = 10 * np.random.default_rng(0).uniform(size=(70, 16, 16, 1))
    # a smooth map of these inserts the lower half first, and the model overflows
    is_lower = (np.arange(16) >= 8)[:, None, None]
    explanations[held_out] += 3 * is_lower
    explanations[np.setdiff1d(np.arange(70), held_out)] += 3 * ~is_lower

    def model(perturbed):
        scores = nan_without_upper_half(perturbed)
        # smooth maps win in the race
        rough = np.abs(np.diff((perturbed == 0).all(axis=-1).astype(float), axis=1)).mean((1, 2))
        return scores * 0 - rough[:, None]

    options = {"sigmas": [1], "model": model, "objective": "insertion"}
    search = SigmaOptimizer(None, **options).search(inputs, targets, explanations, verbose=0)
    failed = search.candidates[2]
    assert failed.sigma == 1
    assert search.nb_failures[2] > 0
    assert not np.isnan(search.scores[2, np.setdiff1d(np.arange(70), held_out)]).all()
    assert search.best_candidate != failed
    assert np.isfinite(search.held_out_score)


def test_candidates_that_each_fail_somewhere_are_compared_where_none_does():
    from xplique_forgrad.search._gains import best_index

    scores = np.tile([[1.0], [3.0], [2.0]], 9)
    scores[[0, 1, 2], [3, 4, 5]] = np.nan
    assert best_index(scores) == 1


def test_a_model_of_nan_alone_is_no_answer(data):
    inputs, targets = data
    explanations = np.random.default_rng(0).uniform(size=(70, 16, 16, 1))

    def always_nan(inputs):
        return np.full((len(inputs), 3), np.nan)

    for strategy in ("racing", "exhaustive"):
        optimizer = SigmaOptimizer(None, sigmas=[2], strategy=strategy, model=always_nan)
        with pytest.raises(ValueError, match="NaN for every candidate"):
            optimizer.search(inputs, targets, explanations, verbose=0)


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
@pytest.mark.parametrize("nb_images", [1, 2, 3, 48, 70])
def test_degenerate_searches_end_with_an_answer(model, data, strategy, nb_images):
    inputs, targets = (part[:nb_images] for part in data)
    cases = {
        "usual": np.random.default_rng(0).normal(size=(nb_images, 16, 16, 1)),
        "constant": np.ones((nb_images, 16, 16, 1)),
    }
    for name, explanations in cases.items():
        options = {"control": None} if nb_images == 1 else {}
        optimizer = SigmaOptimizer(None, sigmas=[3], strategy=strategy, model=model, **options)
        search = optimizer.search(inputs, targets, explanations, verbose=0)
        assert search.verdict
        assert repr(search)
        assert np.isfinite(search.best_score)
        if name == "constant" and nb_images > 1:
            assert search.gain_over_raw.verdict in ("no significant gain", "significant loss")
        if nb_images == 1:
            assert search.gain_over_raw.verdict.startswith("no verdict")


def test_one_class_and_an_explainer_of_constant_maps(data):
    inputs, _ = data
    keras.utils.set_random_seed(0)
    layers = [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    search = SigmaOptimizer(Saliency(model), sigmas=[2, 4]).search(
        inputs, np.ones((70, 1)), verbose=0
    )
    assert np.isfinite(search.best_score)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "faith"}, "objective is 'faith'"),
        ({"objective": {}}, "objective is"),
        ({"objective": {"insertion": "1"}}, "weights finite numbers"),
        ({"objective": {"saliency": 1}}, "its keys must be"),
        ({"objective": {"insertion": 0}}, "other than 0"),
        ({"objective": len}, "`mode` is None"),
        ({"mode": "max"}, "direction of 'faithfulness' is known"),
        ({"objective": len, "mode": "max", "report": ["insertion"]}, "that score each image"),
        ({"objective": len, "mode": "up"}, "`mode` is 'up'"),
        ({"strategy": "halving"}, "`strategy` is 'halving'"),
        ({"sigmas": []}, None),
        ({"sigmas": [0, 2]}, "positive cutoffs"),
        ({"sigmas": ["2"]}, "positive cutoffs"),
        ({"window": "hann"}, "`window` is 'hann'"),
        ({"window": ()}, "`window` is empty"),
        ({"rectify": ("magnitude", "abs")}, "`rectify` is 'abs'"),
        ({"report": ["accuracy"]}, "`report` is 'accuracy'"),
        ({"tolerance": -1}, "`tolerance` is -1"),
        ({"z": np.nan}, "`z` is nan"),
        ({"every": 0}, "`every` is 0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"seed": 0.5}, "`seed` is 0.5"),
    ],
    ids=name_of,
)
def test_bad_settings(model, arguments, message):
    if message is None:
        search = exhaustive(Saliency(model), **arguments)
        assert search.asked.options.sigmas == ()
        return
    with pytest.raises(ValueError, match=message):
        SigmaOptimizer(Saliency(model), **arguments)


def test_bad_calls(model, data):
    inputs, targets = data
    with pytest.raises(TypeError, match="explainer of Xplique"):
        SigmaOptimizer(model)
    with pytest.raises(ValueError, match="beyond the longest filtered axis, 16"):
        SigmaOptimizer(Saliency(model), sigmas=[20]).search(inputs, targets)
    with pytest.raises(ValueError, match="There is no explainer"):
        SigmaOptimizer(None, model=model).search(inputs, targets)
    with pytest.raises(ValueError, match="There is no model to score"):
        SigmaOptimizer(None).search(inputs, targets, inputs)
    with pytest.raises(ValueError, match="60 explanations for 70 inputs"):
        SigmaOptimizer(None, model=model).search(inputs, targets, inputs[:60])
    rows = inputs[:, 0, 0]
    with pytest.raises(ValueError, match=r"\(70, 3\) and the model wants \(N, 16, 16, 3\)\.$"):
        SigmaOptimizer(None, model=model).search(rows, targets, rows)
    with pytest.raises(ValueError, match="axes"):
        SigmaOptimizer(None, model=lambda x: x).search(rows, targets, rows)
    bad = np.ones((70, 16, 16, 1))
    bad[33] = np.nan
    with pytest.raises(ValueError, match="explanation of image 33 holds NaN"):
        SigmaOptimizer(None, model=model).search(inputs, targets, bad, verbose=0)


def test_maps_on_a_gpu_stay_there_and_score_the_same(monkeypatch):
    """Where there is no GPU, tensors on the processor are taken for it."""
    model = small_network((16, 16, 3))
    inputs, targets = samples(16, 16, 3, number=20)
    options = {"sigmas": [2, 4], "rectify": ("magnitude", "positive", None), "steps": 4}
    optimizer = SigmaOptimizer(
        GradientInput(model), control="other_image", report="mu_fidelity", **options
    )
    expected = optimizer.search(inputs, targets, verbose=0)
    monkeypatch.setattr("xplique_forgrad.search._explaining.is_on_gpu", tf.is_tensor)
    looked_at = []
    score = Faithfulness.parts
    monkeypatch.setattr(
        Faithfulness,
        "parts",
        lambda self, batch, maps, steps=None: (
            looked_at.append(tf.is_tensor(maps)) or score(self, batch, maps, steps)
        ),
    )
    found = optimizer.search(inputs, targets, verbose=0)
    assert any(looked_at)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(found.others["mu_fidelity"], expected.others["mu_fidelity"])
    np.testing.assert_allclose(found.control, expected.control, atol=1e-6, equal_nan=True)


def test_explanations_that_are_read_once_are_refused(images, classifier):
    maps = tf.data.Dataset.from_tensor_slices(images.inputs[..., 0])
    optimizer = SigmaOptimizer(None, sigmas=[4], model=classifier)
    for explanations in (maps, Saliency(classifier)):
        with pytest.raises(TypeError, match="reads maps several times.*np.memmap"):
            optimizer.search(images.inputs, images.targets, explanations)
