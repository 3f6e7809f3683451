"""MuFidelity against Xplique's on the same masks, and what it computes only once."""

import numpy as np
import pytest
import tensorflow as tf
import xplique.metrics
from conftest import name_of
from scipy.stats import spearmanr
from test_metrics import case

from xplique_forgrad.metrics import MuFidelity
from xplique_forgrad.metrics._mu_fidelity import rank_correlation


def fed_with(masks, monkeypatch, model, inputs, targets, explanations, **options):
    """Xplique's MuFidelity on given masks (N, P, ...), one image at a time."""
    scores = []
    for index in range(len(inputs)):
        one = slice(index, index + 1)
        theirs = xplique.metrics.MuFidelity(
            model, inputs[one], targets[one], nb_samples=masks.shape[1], batch_size=512, **options
        )

        def perturb(inputs, nb_perturbations, index=index):
            kept = tf.constant(masks[index][None])
            repeated = tf.repeat(inputs[:, None], nb_perturbations, axis=1)
            baseline = options.get("baseline_mode", 0.0)
            value = baseline(repeated) if callable(baseline) else baseline
            perturbed = repeated * kept + (1 - kept) * value
            return tf.reshape(perturbed, (-1, *inputs.shape[1:])), kept

        monkeypatch.setattr(theirs, "_perturb_samples", perturb)
        scores.append(theirs(explanations[one]))
    return np.array(scores)


@pytest.mark.parametrize(
    ("shape", "explanation_shape", "options"),
    [
        ((10, 12, 3), (10, 12, 1), {}),
        ((10, 12, 3), (10, 12), {"grid_size": 4}),
        ((10, 12, 3), (10, 12, 3), {"grid_size": 4}),
        ((10, 12, 3), (10, 12, 1), {"grid_size": None}),
        ((6, 6, 1), (6, 6, 1), {"grid_size": 9}),
        ((10, 12, 3), (10, 12, 1), {"baseline_mode": 0.4, "subset_percent": 0.5}),
        (
            (10, 12, 3),
            (10, 12, 1),
            {"baseline_mode": lambda x: tf.reduce_mean(x, axis=(-3, -2), keepdims=True)},
        ),
        ((12, 5), (12, 5), {"grid_size": 4}),
        ((15,), (15,), {}),
    ],
    ids=name_of,
)
def test_as_xplique_on_the_same_masks(monkeypatch, shape, explanation_shape, options):
    arguments = case(shape, explanation_shape, nb=4)
    metric = MuFidelity(*arguments[:3], nb_samples=60, seed=3, **options)
    scores = metric.evaluate_per_image(arguments[3])
    masks = metric.subset_masks(range(4))
    expected = fed_with(masks, monkeypatch, *arguments, **options)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert metric(arguments[3]) == pytest.approx(expected.mean(), abs=1e-5)


def test_as_xplique_up_to_the_noise_of_masks(classifier, images):
    inputs, targets, masks = images
    options = {"nb_samples": 150, "grid_size": 6, "activation": "softmax"}
    noise = np.random.default_rng(0).normal(0, 0.1, (*masks.shape, 1))
    explanations = (masks[..., None] + noise).astype(np.float32)
    tf.random.set_seed(0)
    metric = xplique.metrics.MuFidelity(classifier, inputs, targets, batch_size=150, **options)
    theirs = [metric(explanations) for _ in range(4)]
    ours = [
        MuFidelity(classifier, inputs, targets, seed=seed, **options)(explanations)
        for seed in range(4)
    ]
    error = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 4)
    assert abs(np.mean(ours) - np.mean(theirs)) < 5 * max(error, 0.005)


def test_masks_and_predictions_serve_every_explanation():
    model, inputs, targets, explanations = case((10, 12, 3), (10, 12, 1))
    metric = MuFidelity(model, inputs, targets, nb_samples=30)
    first = metric.evaluate_per_image(explanations)
    spent = metric.nb_evaluations
    assert spent == 7 * 31
    np.testing.assert_array_equal(metric.evaluate_per_image(explanations), first)
    np.testing.assert_allclose(metric.evaluate_per_image(-explanations), -first, atol=1e-12)
    # only the inputs themselves, to see that the model is the same
    assert metric.nb_evaluations == spent + 2 * 7


def test_changed_weights_are_noticed_where_the_inputs_do_not_show_them():
    model, inputs, targets, explanations = case((10, 12, 3), (10, 12, 1))
    metric = MuFidelity(model, inputs, targets, activation="softmax", nb_samples=30)
    weights = model.get_weights()
    # saturated: the scores of the inputs are exactly 0 or 1 before and after
    model.set_weights([*weights[:-2], 1e4 * weights[-2], weights[-1]])
    metric(explanations)
    model.set_weights([weights[0][::-1], *weights[1:-2], 1e4 * weights[-2], weights[-1]])
    fresh = MuFidelity(model, inputs, targets, activation="softmax", nb_samples=30)
    assert metric(explanations) == fresh(explanations)


def test_masks_depend_on_seed_and_image_alone():
    model, inputs, targets, _ = case((10, 12, 3))
    metric = MuFidelity(model, inputs, targets, nb_samples=400, seed=1)
    masks = metric.subset_masks(range(7))
    assert masks.shape == (7, 400, 10, 12, 1)
    np.testing.assert_array_equal(metric.subset_masks([4, 2]), masks[[4, 2]])
    other = MuFidelity(model, inputs, targets, nb_samples=400, seed=2)
    assert np.any(other.subset_masks([0]) != masks[:1])
    assert np.any(masks[0] != masks[1])
    assert np.mean(masks == 0) == pytest.approx(0.2, abs=0.01)


def test_a_planted_attribution_scores_one_and_its_opposite_minus_one():
    _, inputs, targets, _ = case((6, 6, 1), nb=5)
    weights = np.random.default_rng(0).normal(size=36).astype(np.float32)

    def linear(x):
        return np.repeat((x.reshape(len(x), -1) @ weights)[:, None], 4, axis=1)

    attribution = (inputs[..., 0].reshape(5, -1) * weights).reshape(5, 6, 6)
    metric = MuFidelity(linear, inputs, targets, grid_size=None)
    np.testing.assert_allclose(metric.evaluate_per_image(attribution), 1, atol=1e-3)
    np.testing.assert_allclose(metric.evaluate_per_image(-attribution), -1, atol=1e-3)


def test_constant_explanations_and_drops_score_zero():
    model, inputs, targets, explanations = case((10, 12, 3), (10, 12, 1))
    zero = np.zeros_like(explanations)
    assert not MuFidelity(model, inputs, targets).evaluate_per_image(zero).any()
    constant = MuFidelity(lambda x: np.ones((len(x), 4)), inputs, targets)
    assert not constant.evaluate_per_image(explanations).any()


def test_rank_correlation_is_that_of_scipy(rng):
    drops = np.round(rng.normal(size=(3, 40)), 1)
    sums = np.round(rng.normal(size=(5, 3, 40)), 1)
    found = rank_correlation(drops, sums)
    expected = [[spearmanr(a, b)[0] for a, b in zip(drops, row)] for row in sums]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    drops[1, 0] = np.nan
    found = rank_correlation(drops, sums)
    np.testing.assert_array_equal(np.isnan(found).all(axis=0), [False, True, False])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset_percent": 0.0}, "subset_percent"),
        ({"subset_percent": 1.0}, "subset_percent"),
        ({"nb_samples": 1}, "nb_samples"),
        ({"grid_size": 0}, "grid_size"),
    ],
)
def test_bad_options(options, message):
    model, inputs, targets, _ = case((10, 12, 3))
    with pytest.raises(ValueError, match=message):
        MuFidelity(model, inputs, targets, **options)


def test_videos_are_refused():
    with pytest.raises(ValueError, match="takes images"):
        MuFidelity(lambda x: x, np.zeros((2, 3, 4, 5, 1)), np.eye(2))


def test_volumes_and_videos_are_refused(rng):
    videos, targets = rng.random((2, 3, 4, 5, 1)), np.eye(2)
    with pytest.raises(ValueError, match=r"\(N, 3, 4, 5, 1\).*MuFidelity takes images"):
        MuFidelity(lambda inputs: inputs[:, 0, 0, :2, 0], videos, targets).evaluate(videos)
