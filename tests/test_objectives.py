"""What may be optimised: anything that scores maps, and what a result says of how it was scored."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import xplique.metrics
from test_search import Interrupted, InterruptedExplainer, small_model, small_parts
from xplique.attributions import GradientInput, Saliency
from xplique.metrics.base import ExplanationMetric

from xplique_forgrad import (
    Deletion,
    Faithfulness,
    HighFrequencyPower,
    Insertion,
    MuFidelity,
    SigmaOptimizer,
    forgrad,
)
from xplique_forgrad.search import Objective


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(70, 16, 16, 3)).astype(np.float32)
    return inputs, np.eye(3, dtype=np.float32)[rng.integers(3, size=70)]


class ShareInside:
    """The share of a map that lies inside a mask of its image: all that a new objective needs."""

    name = "share inside"
    higher_is_better = True

    def __init__(self, masks):
        self.masks = masks

    def score(self, batch, maps):
        maps = np.abs(maps[..., 0])
        inside = maps * self.masks[batch.positions]
        return inside.sum(axis=(2, 3)) / maps.sum(axis=(2, 3))


@pytest.fixture(scope="module")
def masks():
    rows, columns = np.indices((16, 16))
    centres = np.random.default_rng(3).integers(4, 12, size=(2, 70, 1, 1))
    return (np.hypot(rows - centres[0], columns - centres[1]) < 4).astype(float)


@pytest.fixture(scope="module")
def masked_maps(masks):
    noise = np.random.default_rng(4).normal(size=(70, 16, 16))
    return (masks + noise)[..., None]


def test_a_new_objective_races_reports_and_refines(model, data, masks, masked_maps):
    objective = ShareInside(masks)
    assert isinstance(objective, Objective)
    options = {"sigmas": [1, 4, 8], "report": ["insertion"], "refine": True, "model": model}
    options["rectify"] = None
    search = SigmaOptimizer(None, objective, **options).search(*data, masked_maps, verbose=0)
    assert search.objective == "share inside"
    assert search.settings.options.strategy == "racing"
    assert search.gain_over_rectified.verdict == "significant gain"
    assert set(search.others) == {"insertion"}
    assert len(search.candidates) > 5
    # the held-out images are scored as a plain loop scores them
    held_out = np.flatnonzero(search.held_out >= 0)
    maps = np.abs(search.filter(masked_maps).numpy()[..., 0])
    expected = (maps * masks).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    np.testing.assert_allclose(search.scores[search.best, held_out], expected[held_out])
    insertion = Insertion(model, *data).evaluate_per_image(search.filter(masked_maps))
    np.testing.assert_allclose(
        search.others["insertion"][search.best, held_out], insertion[held_out], atol=1e-6
    )


def test_a_new_objective_resumes(tmp_path, monkeypatch, model, data, masks):
    small_parts(monkeypatch)
    path = tmp_path / "search.checkpoint"

    def search(after, checkpoint):
        explainer = InterruptedExplainer(model, nb_samples=3, noise=0.5, after=after)
        optimizer = SigmaOptimizer(explainer, ShareInside(masks), sigmas=[1, 3, 6])
        return optimizer.search(*data, checkpoint=checkpoint, verbose=0)

    with pytest.raises(Interrupted):
        search(8, path)
    written = path.stat().st_size
    found, expected = search(-1, path), search(-1, None)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.best == expected.best
    assert path.stat().st_size > written > 1000
    with pytest.raises(ValueError, match="What differs: objective"):
        SigmaOptimizer(InterruptedExplainer(model, after=-1), "insertion", sigmas=[1, 3, 6]).search(
            *data, checkpoint=path, verbose=0
        )


def test_an_objective_over_steps_is_sampled(model, data):
    """Its estimates from some steps are asked for in a race, and its scores at the end."""
    asked = []
    terms = np.random.default_rng(0).normal(size=(70, 8)) * 0.01

    class Stepwise:
        name, higher_is_better, nb_steps = "stepwise", False, 8

        def score(self, batch, maps, steps=None):
            chosen = np.tile(np.arange(8), (len(maps[0]), 1)) if steps is None else steps.chosen
            asked.append(chosen.shape[1])
            rough = np.abs(np.diff(maps, axis=2)).mean(axis=(2, 3, 4))
            noise = np.take_along_axis(terms[batch.positions], chosen, axis=1).mean(axis=1)
            return rough + noise

    maps = np.random.default_rng(1).normal(size=(70, 16, 16, 1))
    search = SigmaOptimizer(None, Stepwise(), sigmas=[1, 4]).search(*data, maps, verbose=0)
    assert search.best_sigma == 1
    assert asked[0] == 2
    assert asked[-1] == 8


METRICS = {
    "deletion": Deletion,
    "insertion": Insertion,
    "faithfulness": Faithfulness,
    "mu_fidelity": MuFidelity,
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
def test_a_metric_is_searched_as_its_name_is(model, data, name, strategy):
    options = {"activation": "softmax", "baseline_mode": 0.2}
    options |= {"nb_samples": 40, "grid_size": 4} if name == "mu_fidelity" else {"steps": 7}
    common = {"sigmas": [1, 4, 8], "strategy": strategy, "report": ["insertion"], "refine": True}
    explainer = GradientInput(model)
    named = SigmaOptimizer(explainer, name, **common, **options).search(*data, verbose=0)
    metric = METRICS[name](model, *data, **options)
    given = SigmaOptimizer(explainer, metric, **common).search(*data, verbose=0)
    np.testing.assert_array_equal(given.scores, named.scores)
    assert (given.best, given.nb_evaluations) == (named.best, named.nb_evaluations)
    assert given.nb_evaluations > 0
    assert given.gain_over_raw == named.gain_over_raw
    assert given.gain_per_image == named.gain_per_image
    assert list(given.others) == list(named.others)
    assert repr(given) == repr(named)


def test_a_result_says_what_was_truly_used(model, data):
    metric = Deletion(model, *data, steps=3, activation="softmax")
    search = SigmaOptimizer(Saliency(model), metric, sigmas=[2]).search(*data, verbose=0)
    assert search.settings["steps"] == 3
    assert search.settings["activation"] == "softmax"
    assert "grid_size" not in search.settings
    named = SigmaOptimizer(Saliency(model), "mu_fidelity", sigmas=[2], nb_samples=20)
    settings = named.search(*data, verbose=0).settings
    assert settings["nb_samples"] == 20
    assert "steps" not in settings
    assert settings.seed == settings.options.seed == settings["seed"] == 0


def test_options_of_a_metric_and_of_the_search_are_refused_together(model, data):
    metric = Deletion(model, *data, steps=3)
    with pytest.raises(ValueError, match="'steps', 'activation'.*Deletion"):
        SigmaOptimizer(Saliency(model), metric, steps=7, activation="softmax")
    with pytest.raises(TypeError, match="'stepps'; did you mean 'steps'"):
        SigmaOptimizer(Saliency(model), stepps=7)


@pytest.mark.parametrize("kind", [Deletion, xplique.metrics.AverageDropMetric])
def test_a_metric_of_other_inputs_or_another_model_is_refused(model, data, kind):
    inputs, targets = data
    other = small_model(seed=1)
    for arguments, message in (
        ((other, inputs, targets), rf"scores the model '{other.name}'.*'{model.name}'"),
        ((model, inputs[:60], targets[:60]), "60 inputs .* the search has 70"),
        ((model, inputs[::-1], targets), "not the same"),
        ((model, inputs, targets[::-1]), "not the same"),
    ):
        optimizer = SigmaOptimizer(Saliency(model), kind(*arguments), sigmas=[2])
        with pytest.raises(ValueError, match=message):
            optimizer.search(inputs, targets, verbose=0)


def test_a_metric_of_xplique_that_scores_samples_races(model, data):
    explainer = GradientInput(model)
    metric = xplique.metrics.AverageDropMetric(model, *data)
    search = SigmaOptimizer(explainer, metric, sigmas=[2, 5]).search(*data, verbose=0)
    assert search.objective == "AverageDropMetric"
    assert not search.higher_is_better
    assert search.settings.options.strategy == "racing"
    full = SigmaOptimizer(explainer, metric, sigmas=[2, 5], strategy="exhaustive")
    full = full.search(*data, verbose=0)
    for candidate, mean in zip(full.candidates, full.mean_scores):
        if candidate.is_filter:
            maps = forgrad(explainer(*data), candidate.sigma)
            assert mean == pytest.approx(metric(maps), abs=1e-6)
    assert full.best == np.argmin(full.mean_scores)


class Centredness(ExplanationMetric):
    """A metric that the package has never heard of, with one score for all explanations."""

    def evaluate(self, explanations):
        rows = np.abs(np.linspace(-1, 1, 16))[:, None]
        maps = np.abs(np.asarray(explanations)[..., 0])
        return float((maps * rows).sum() / maps.sum())


def test_a_metric_that_nobody_has_heard_of_is_scored_as_a_whole(tmp_path, model, data):
    explainer, epochs = GradientInput(model), []
    metric = Centredness(model, *data)
    recorder = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(logs))
    with pytest.raises(ValueError, match="`mode` is None"):
        SigmaOptimizer(explainer, metric)
    optimizer = SigmaOptimizer(explainer, metric, sigmas=[2, 5], mode="max")
    path = tmp_path / "search.checkpoint"
    search = optimizer.search(*data, callbacks=recorder, checkpoint=path, verbose=0)
    assert len(epochs) == 1
    assert search.scores.shape == (4, 1)
    maps = forgrad(explainer(*data), 5)
    assert search.mean_scores[-1] == pytest.approx(metric(maps), abs=1e-6)
    assert search.best == np.argmax(search.mean_scores) > 1
    assert search.gain_over_raw.verdict.startswith("no verdict")
    # one score a candidate tells nothing apart
    assert search.indistinguishable == search.candidates
    assert "one score for all images" in search.verdict
    assert "images: 70" in repr(search)
    again = optimizer.search(*data, checkpoint=path, verbose=0)
    np.testing.assert_array_equal(again.scores, search.scores)


def test_functions_are_given_all_explanations(model, data):
    explainer, shapes = GradientInput(model), set()

    def roughness(maps):
        shapes.add(maps.shape)
        return np.abs(np.diff(maps, axis=1)).mean(axis=(1, 2, 3))

    optimizer = SigmaOptimizer(explainer, roughness, sigmas=[1, 5], mode="min", refine=True)
    search = optimizer.search(*data, verbose=0)
    assert shapes == {(70, 16, 16, 1)}
    assert search.objective == "roughness"
    assert search.best_sigma == 1
    assert search.scores.shape == (len(search.candidates), 70)
    assert len(search.candidates) > 4
    assert search.gain_over_raw.verdict == "significant gain"
    with pytest.raises(ValueError, match="must give one number"):
        SigmaOptimizer(explainer, lambda maps: maps, mode="max").search(*data, verbose=0)


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_are_searched_too(model, data, steps, strategy):
    options = {"sigmas": [2, 5], "steps": steps, "strategy": strategy, "model": model}
    maps = np.random.default_rng(0).uniform(size=(70, 16, 16, 1))
    search = SigmaOptimizer(None, **options).search(*data, maps, verbose=0)
    assert search.verdict.startswith("No verdict") == (steps == 1)


def test_a_metric_may_score_another_head_of_the_explained_model(model, data):
    squashed = keras.Sequential([model, keras.layers.Softmax()])
    metric = Deletion(squashed, *data)
    explainer = Saliency(model)
    search = SigmaOptimizer(explainer, metric, sigmas=[2, 5], strategy="exhaustive")
    search = search.search(*data, verbose=0)
    assert search.mean_scores[0] == pytest.approx(metric(explainer(*data)), abs=1e-6)
    with pytest.raises(ValueError, match="scores the model"):
        SigmaOptimizer(explainer, metric, model=model).search(*data, verbose=0)


def test_a_sum_with_few_masks_is_not_sampled(model, data):
    """40 masks are too few for 255 steps: the sum is scored whole, and no part is lost."""
    weights = {"insertion": 1, "mu_fidelity": 1}
    options = {"steps": -1, "nb_samples": 40, "grid_size": 4, "tolerance": 0.0, "z": 50.0}
    optimizer = SigmaOptimizer(GradientInput(model), weights, [2], **options)
    search = optimizer.search(data[0][:48], data[1][:48], verbose=0)
    assert np.isfinite(search.scores[search.scored]).all()
    expected = search.others["insertion"] + search.others["mu_fidelity"]
    np.testing.assert_allclose(search.scores, expected, atol=1e-9)


def test_complexity_metrics_race(model, data):
    maps = np.random.default_rng(1).normal(size=(70, 16, 16, 1))
    search = SigmaOptimizer(None, HighFrequencyPower(sigma=4), sigmas=[2, 6])
    search = search.search(*data, maps, verbose=0)
    assert search.settings.options.strategy == "racing"
    assert not search.higher_is_better
    assert search.best_sigma == 2
    theirs = SigmaOptimizer(None, xplique.metrics.Sparseness(), sigmas=[2, 6], mode="max")
    assert theirs.search(*data, maps, verbose=0).scores.shape == (4, 70)


def test_directions_are_declared_or_given(model, data):
    metric = Deletion(model, *data)
    with pytest.raises(ValueError, match="declares that low scores are good"):
        SigmaOptimizer(None, metric, mode="max")
    SigmaOptimizer(None, metric, mode="min")
    with pytest.raises(ValueError, match="`mode` is None"):
        SigmaOptimizer(None, lambda maps: 0.0)
    with pytest.raises(ValueError, match="has 2 members|The objective is"):
        SigmaOptimizer(None, object())


def test_a_checkpoint_knows_what_an_objective_sees(tmp_path, model, data, masks):
    """Masks are arrays of an object, or seen by a function from where it stands."""

    class Hidden(ShareInside):
        def __init__(self, masks):
            self._hidden = masks

        @property
        def masks(self):
            return self._hidden

    def function_of(masks):
        def inside(maps):
            maps = np.abs(maps[..., 0])
            return (maps * masks).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))

        return inside

    for number, kind in enumerate((ShareInside, Hidden, function_of)):
        path = tmp_path / f"{number}.checkpoint"

        def search(masks, kind=kind, path=path):
            mode = "max" if kind is function_of else None
            optimizer = SigmaOptimizer(Saliency(model), kind(masks), sigmas=[2], mode=mode)
            return optimizer.search(*data, checkpoint=path, verbose=0)

        first = search(masks)
        np.testing.assert_array_equal(search(masks).scores, first.scores)
        with pytest.raises(ValueError, match="is the checkpoint of another search"):
            search(masks[::-1])


def test_names_of_the_package_and_classes_are_refused(model, data):
    class Other:
        name, higher_is_better = "deletion", True

        def score(self, batch, maps):
            return maps.mean(axis=(2, 3, 4))

    with pytest.raises(ValueError, match="named 'deletion', as one of the package"):
        SigmaOptimizer(Saliency(model), Other())
    for kind in (ShareInside, Deletion):
        with pytest.raises(TypeError, match=rf"give an instance .* {kind.__name__}\(...\)"):
            SigmaOptimizer(Saliency(model), kind)


def test_what_is_reported_over_other_steps_is_scored_once(model, data):
    """MuFidelity takes 4 steps here and Insertion 9, which a race looks at once, all of them."""
    options = {"nb_samples": 40, "grid_size": 4, "tolerance": 0.0, "report": ["insertion"]}
    search = SigmaOptimizer(GradientInput(model), "mu_fidelity", [2, 5], **options)
    search = search.search(*data, verbose=0)
    metric = Insertion(model, *data)
    maps = search.filter(GradientInput(model)(*data))
    expected = metric.evaluate_per_image(maps)
    known = search.scored[search.best]
    assert known.sum() > 50
    found = search.others["insertion"][search.best]
    np.testing.assert_allclose(found[known], expected[known], atol=1e-6)


def test_scores_of_a_wrong_shape_are_refused(model, data):
    class Flat:
        name, higher_is_better = "flat", True

        def score(self, batch, maps):
            return np.zeros(len(maps))

    with pytest.raises(ValueError, match=r"'flat' gave scores of shape \(.*one for each map"):
        SigmaOptimizer(Saliency(model), Flat(), sigmas=[2]).search(*data, verbose=0)


def test_targets_of_none_are_the_predicted_classes(model, data):
    inputs = data[0]
    predicted = np.eye(3, dtype=np.float32)[np.argmax(model(inputs), axis=1)]
    optimizer = SigmaOptimizer(Saliency(model), sigmas=[2, 5])
    expected = optimizer.search(inputs, predicted, verbose=0)
    for given in (inputs, tf.data.Dataset.from_tensor_slices(inputs).batch(16)):
        found = optimizer.search(given, verbose=0)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    maps = Saliency(model)(inputs, predicted)
    for kind in (Deletion, MuFidelity):
        assert kind(model, inputs)(maps) == pytest.approx(kind(model, inputs, predicted)(maps))
