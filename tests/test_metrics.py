"""Per-image Deletion, Insertion and Faithfulness against Xplique's and a plain reference."""

import functools
import operator

import keras
import numpy as np
import pytest
import tensorflow as tf
import xplique.metrics
from conftest import name_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xplique_forgrad.metrics import Deletion, Faithfulness, Insertion, MuFidelity
from xplique_forgrad.metrics._steps import levels_and_thresholds, slices

PAIRS = [(Deletion, xplique.metrics.Deletion), (Insertion, xplique.metrics.Insertion)]


def linear_model(shape, nb_classes=4, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(shape)
    hidden = keras.layers.Dense(8, activation="tanh")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(nb_classes)(hidden))


def case(shape, explanation_shape=None, nb=7, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(nb, *shape)).astype(np.float32)
    targets = np.eye(4, dtype=np.float32)[rng.integers(4, size=nb)]
    explanations = rng.normal(size=(nb, *(explanation_shape or shape))).astype(np.float32)
    return linear_model(shape), inputs, targets, explanations


def assert_as_xplique(model, inputs, targets, explanations, **options):
    for ours, theirs in PAIRS:
        mine = ours(model, inputs, targets, **options)
        expected = theirs(model, inputs, targets, **{"batch_size": 5, **options})
        curve, reference = (m.detailed_evaluate(explanations) for m in (mine, expected))
        assert list(curve) == list(reference)
        np.testing.assert_allclose(list(curve.values()), list(reference.values()), atol=1e-5)
        np.testing.assert_allclose(
            mine.evaluate(explanations), expected.evaluate(explanations), atol=1e-5
        )


@pytest.mark.parametrize(
    ("shape", "explanation_shape"),
    [
        ((6, 7, 3), (6, 7, 1)),
        ((6, 7, 3), (6, 7)),
        ((6, 7, 3), (6, 7, 3)),
        ((6, 7, 1), (6, 7, 1)),
        ((6, 7), (6, 7)),
        ((6, 7), (6, 7, 1)),
        ((9,), (9,)),
        ((3,), (3,)),
    ],
)
def test_as_xplique_on_every_kind_of_data(shape, explanation_shape):
    assert_as_xplique(*case(shape, explanation_shape))


@pytest.mark.parametrize(
    "options",
    [
        {"steps": -1},
        {"steps": 1},
        {"steps": 3, "max_percentage_perturbed": 0.35},
        {"batch_size": None},
        {"batch_size": 1},
        {"batch_size": 1000},
        {"activation": "softmax"},
        {"activation": "sigmoid"},
        {"baseline_mode": 0.3},
        {"baseline_mode": lambda inputs: np.full_like(inputs, inputs.mean())},
        {"baseline_mode": lambda inputs: inputs[::-1]},
        {"operator": "classification"},
        {"operator": lambda model, x, y: tf.reduce_sum((model(x) - y) ** 2, axis=-1)},
    ],
    ids=name_of,
)
def test_as_xplique_with_every_option(options):
    assert_as_xplique(*case((5, 6, 3), (5, 6, 1)), **options)


def test_operators_that_no_graph_takes_run_eagerly():
    def operator(model, inputs, targets):
        return tf.constant(np.sum(model(inputs).numpy() * np.asarray(targets), axis=-1))

    assert_as_xplique(*case((5, 6, 3), (5, 6, 1)), operator=operator)


def test_models_that_are_no_keras_models():
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    weights = np.random.default_rng(1).normal(size=(90, 4)).astype(np.float32)

    class Classifier:
        def predict_proba(self, inputs):
            assert isinstance(inputs, np.ndarray)
            return inputs.reshape(len(inputs), -1) @ weights

    for opaque in (Classifier(), lambda x: np.tanh(x.reshape(len(x), -1) @ weights)):
        assert_as_xplique(opaque, inputs, targets, explanations)
    assert_as_xplique(lambda x: model(x), inputs, targets, explanations, activation="softmax")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8, bool])
def test_as_xplique_for_every_dtype_and_with_ties(dtype):
    model, inputs, targets, explanations = case((8, 8, 3), (8, 8, 1))
    tied = np.round(explanations * 2).clip(0) if dtype is bool else np.round(explanations * 3)
    assert_as_xplique(model, inputs, targets, tied.astype(dtype))
    assert_as_xplique(model, inputs, targets, tied[..., 0].astype(dtype))
    assert_as_xplique(model, inputs, targets, np.zeros_like(explanations, dtype))


def test_attributions_that_only_float64_tells_apart():
    model, inputs, targets, explanations = case((8, 8, 3), (8, 8, 1))
    assert_as_xplique(model, inputs, targets, 1.0 + 1e-12 * explanations.astype(np.float64))


@given(
    flat=hnp.arrays(
        np.float32,
        (3, 24),
        elements=st.sampled_from([-1, -1e-41, 0, 1e-42, 2e-41, 1e-30, 0.5, 0.5000001, 3]),
    )
)
@settings(max_examples=60)
def test_thresholds_choose_the_features_that_argsort_does(flat):
    steps = np.array([1, 5, 12, 23])
    levels, thresholds = levels_and_thresholds(flat, steps)
    order = np.argsort(flat, axis=-1)[:, ::-1]
    for index, step in enumerate(steps):
        chosen = tf.constant(levels) >= thresholds[:, index, None]
        expected = np.zeros_like(chosen)
        np.put_along_axis(expected, order[:, :step], True, axis=-1)
        np.testing.assert_array_equal(chosen, expected)


def test_denormal_attributions_are_ordered():
    model, inputs, targets, explanations = case((8, 8, 3), (8, 8, 1))
    for scale in (1e-36, 1e-40, 1e-43):
        assert_as_xplique(model, inputs, targets, np.float32(scale) * np.abs(explanations))


def test_curves_against_a_plain_reference():
    model, inputs, targets, explanations = case((4, 5, 2), (4, 5, 1))
    curves = Deletion(model, inputs, targets, steps=4, baseline_mode=0.5).curves(explanations)
    assert curves.shape == (7, 5)
    for image, target, phi, curve in zip(inputs, targets, explanations, curves):
        for step, score in zip((0, 5, 10, 15, 20), curve):
            perturbed = image.copy()
            for place in np.argsort(-phi.ravel())[:step]:
                perturbed[place // 5, place % 5] = 0.5
            expected = float(np.sum(model(perturbed[None]).numpy() * target))
            assert score == pytest.approx(expected, abs=1e-5)


def test_scores_per_image_are_those_of_each_image_alone():
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    for kind in (Deletion, Insertion, Faithfulness):
        metric = kind(model, inputs, targets)
        scores = metric.evaluate_per_image(explanations)
        alone = [
            kind(model, inputs[i : i + 1], targets[i : i + 1])(explanations[i : i + 1])
            for i in range(len(inputs))
        ]
        np.testing.assert_allclose(scores, alone, atol=1e-5)
        assert metric(explanations) == pytest.approx(scores.mean(), abs=1e-7)
        curves = metric.curves(explanations)
        np.testing.assert_allclose((curves[:, :-1] + curves[:, 1:]).mean(axis=1) / 2, scores, 1e-6)


def test_faithfulness_is_insertion_minus_deletion_with_fewer_evaluations():
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    parts = [kind(model, inputs, targets, baseline_mode=0.2) for kind in (Insertion, Deletion)]
    both = Faithfulness(model, inputs, targets, baseline_mode=0.2)
    insertion, deletion = (part.evaluate_per_image(explanations) for part in parts)
    np.testing.assert_allclose(
        both.evaluate_per_image(explanations), insertion - deletion, atol=1e-6
    )
    curves = both.curves(explanations)
    expected = parts[0].curves(explanations) - parts[1].curves(explanations)
    np.testing.assert_allclose(curves, expected, atol=1e-6)
    # 9 steps of each, and the two ends once
    assert both.nb_evaluations == 2 * len(inputs) * (2 * 9 + 2)


def test_directions():
    directions = [kind.higher_is_better for kind in (Deletion, Insertion, Faithfulness, MuFidelity)]
    assert directions == [False, True, True, True]


def test_xplique_ignores_baselines_that_are_no_plain_functions():
    """Xplique multiplies ones by a partial or a callable object, or takes it for a number."""
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))

    def filled(inputs, value):
        return np.full_like(inputs, value)

    class Filled:
        def __call__(self, inputs):
            return np.full_like(inputs, 0.7)

    expected = Deletion(model, inputs, targets, baseline_mode=0.7).curves(explanations)
    for baseline in (functools.partial(filled, value=0.7), Filled(), np.full(3, 0.7)):
        curves = Deletion(model, inputs, targets, baseline_mode=baseline).curves(explanations)
        np.testing.assert_array_equal(curves, expected)
    theirs = xplique.metrics.Deletion(model, inputs, targets, baseline_mode=Filled())
    with pytest.raises(TypeError):
        theirs.evaluate(explanations)


def test_datasets_are_scored_as_arrays(rng):
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1), nb=23)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, targets))
    for kind in (Deletion, Faithfulness, MuFidelity):
        expected = kind(model, inputs, targets, batch_size=4).evaluate_per_image(explanations)
        for given_dataset in (dataset, dataset.batch(5), dataset.batch(5).prefetch(1)):
            metric = kind(model, given_dataset, batch_size=4)
            np.testing.assert_allclose(metric.evaluate_per_image(explanations), expected, atol=1e-6)


def test_the_model_is_scored_as_it_is_when_evaluated():
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    metrics = [kind(model, inputs, targets) for kind in (Deletion, Faithfulness, MuFidelity)]
    for metric in metrics:
        metric(explanations)
    model.set_weights([2 * weight for weight in model.get_weights()])
    for metric in metrics:
        fresh = type(metric)(model, inputs, targets)
        assert metric(explanations) == pytest.approx(fresh(explanations), abs=1e-6)


def test_nan_outputs_stay_with_their_image():
    weights = np.random.default_rng(1).normal(size=(90, 4)).astype(np.float32)
    _, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    inputs[2] += 100

    def overflowing(x):
        with np.errstate(over="ignore", invalid="ignore"):
            powers = np.exp(np.abs(x.reshape(len(x), -1) @ weights))
            return powers / powers.sum(axis=1, keepdims=True)

    for kind in (Deletion, Insertion, Faithfulness, MuFidelity):
        scores = kind(overflowing, inputs, targets).evaluate_per_image(explanations)
        np.testing.assert_array_equal(np.isnan(scores), np.arange(7) == 2)


def exhausted_above(limit, calls):
    def model(inputs):
        calls.append(len(inputs))
        if len(inputs) > limit:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return inputs.reshape(len(inputs), -1)[:, :4]

    return model


@pytest.mark.parametrize("kind", [Deletion, Faithfulness, MuFidelity])
def test_automatic_batches_shrink_and_say_so(kind):
    _, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1), nb=40)
    calls = []
    metric = kind(exhausted_above(40, calls), inputs, targets, batch_size="auto")
    with pytest.warns(UserWarning, match="memory was exhausted") as record:
        scores = metric.evaluate_per_image(explanations)
    assert "batch_size=32" in str(record[-1].message)
    roomy = kind(exhausted_above(10**6, []), inputs, targets)
    np.testing.assert_allclose(scores, roomy.evaluate_per_image(explanations), atol=1e-6)
    assert max(calls) > 40
    calls.clear()
    metric.evaluate_per_image(explanations)
    assert max(calls) <= 32
    with pytest.raises(tf.errors.ResourceExhaustedError):
        kind(exhausted_above(8, []), inputs, targets, batch_size=64)(explanations)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("kind", [Deletion, Faithfulness, MuFidelity])
def test_batches_are_never_larger(kind, batch_size):
    _, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1), nb=40)
    calls = []
    model = exhausted_above(10**6, calls)
    kind(model, inputs, targets, batch_size=batch_size)(explanations)
    assert max(calls) <= max(batch_size, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps` is 0"),
        ({"steps": -2}, "`steps`"),
        ({"max_percentage_perturbed": 0.0}, "max_percentage_perturbed"),
        ({"max_percentage_perturbed": 1.5}, "max_percentage_perturbed"),
        ({"max_percentage_perturbed": 0.01}, "none of 30 features"),
        ({"batch_size": 0}, "`batch_size` is 0"),
        ({"batch_size": "automatic"}, "'auto'"),
        ({"batch_size": True}, "`batch_size`"),
    ],
)
def test_bad_options(options, message):
    model, inputs, targets, _ = case((5, 6, 3))
    with pytest.raises(ValueError, match=message):
        Deletion(model, inputs, targets, **options)


def test_bad_explanations():
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    for metric in (Deletion(model, inputs, targets), MuFidelity(model, inputs, targets)):
        with pytest.raises(ValueError, match="5 explanations for 7 inputs"):
            metric(explanations[:5])
        with pytest.raises(ValueError, match="same height and width"):
            metric(explanations[:, :4])
        with pytest.raises(TypeError, match="real numbers"):
            metric(explanations.astype(complex))
        bad = explanations.copy()
        bad[3, 0, 0] = np.nan
        with pytest.raises(ValueError, match="Explanation 3"):
            metric(bad)
    labels = np.argmax(targets, axis=-1)
    for given_targets in (labels, labels[:, None]):
        with pytest.raises(ValueError, match="one-hot"):
            Deletion(model, inputs, given_targets)
    with pytest.raises(ValueError, match="`activation` is 'soft'"):
        Deletion(model, inputs, targets, activation="soft")
    for baseline in ("black", np.nan, lambda inputs: inputs[0, 0, 0, :2]):
        for kind in (Deletion, MuFidelity):
            with pytest.raises(ValueError, match="`baseline_mode` is or gives"):
                kind(model, inputs, targets, baseline_mode=baseline)(explanations)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, targets))
    for nb in (5, 9):
        with pytest.raises(ValueError, match=f"{nb} explanations for 7 inputs"):
            Deletion(model, dataset)(np.zeros((nb, 5, 6)))


@given(size=st.integers(0, 50), most=st.integers(1, 60))
def test_slices_cover_a_range(size, most):
    parts = [list(range(size))[part] for part in slices(size, most)]
    assert functools.reduce(operator.iadd, parts, []) == list(range(size))
    assert all(0 < len(part) <= most for part in parts)
    assert not parts or max(map(len, parts)) - min(map(len, parts)) <= 1


def test_xla_compiles_a_few_sizes_and_gives_the_same_scores(classifier, images):
    inputs, targets, masks = images
    options = {"activation": "softmax", "steps": 3, "batch_size": 8}
    plain = Faithfulness(classifier, inputs, targets, **options)
    compiled = Faithfulness(classifier, inputs, targets, jit_compile=True, **options)
    np.testing.assert_allclose(
        compiled.evaluate_per_image(masks), plain.evaluate_per_image(masks), atol=1e-5
    )


def test_what_xla_does_not_compile_is_refused(classifier, images):
    inputs, targets, masks = images

    class OfNumPy(keras.layers.Layer):
        def call(self, values):
            return tf.ensure_shape(
                tf.numpy_function(lambda x: x, [values], tf.float32), values.shape
            )

    model = keras.Model(classifier.inputs, classifier(OfNumPy()(classifier.inputs[0])))
    with pytest.raises(ValueError, match="XLA does not compile the model.*PyFunc"):
        Insertion(model, inputs, targets, jit_compile=True).evaluate(masks)

    def operator(model, inputs, targets):
        return np.sum(model(inputs).numpy() * targets, axis=-1)

    with pytest.raises(ValueError, match="XLA compiles graphs of TensorFlow.*Give the keras.Model"):
        Insertion(classifier, inputs, targets, jit_compile=True, operator=operator).evaluate(masks)
    with pytest.raises(ValueError, match="`jit_compile` is 'yes'"):
        Insertion(classifier, inputs, targets, jit_compile="yes")
