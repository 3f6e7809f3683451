"""Scores that are none are warned of: once, by what is wrong and what to type."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_search import small_model
from xplique.attributions import Saliency

from xplique_forgrad import Deletion, MuFidelity, SigmaOptimizer
from xplique_forgrad._models import kind_of_outputs


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(20, 16, 16, 3)).astype(np.float32)
    return inputs, np.eye(3, dtype=np.float32)[rng.integers(3, size=20)]


def ending_in(model, activation):
    return keras.Model(model.inputs[0], keras.layers.Activation(activation)(model.outputs[0]))


def told(function):
    """The messages of the warnings, each with the file that it points at."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [(str(one.message), one.filename) for one in caught]


def searching(data, model, **options):
    optimizer = SigmaOptimizer(Saliency(model), sigmas=[2, 5], **options)
    return lambda: optimizer.search(*data, verbose=0)


def test_two_softmaxes_are_warned_of(model, data):
    maps = np.random.default_rng(0).uniform(size=(20, 16, 16, 1))
    for activation in ("softmax", "sigmoid"):
        squashed = ending_in(model, activation)
        for run in (
            searching(data, squashed, activation="softmax"),
            lambda squashed=squashed: Deletion(squashed, *data, activation="softmax")(maps),
            lambda squashed=squashed: MuFidelity(squashed, *data, activation="softmax")(maps),
        ):
            found = told(run)
            assert len(found) == 1, found
            ((message, file),) = found
            assert "squashes them again" in message
            assert "Leave `activation` to None" in message
            assert file == __file__
        assert not told(searching(data, squashed))
    # a function says nothing of its last layer, but its outputs do
    opaque = ending_in(model, "softmax")
    ((message, _),) = told(lambda: Deletion(lambda x: opaque(x), *data, activation="softmax")(maps))
    assert "squashes them again" in message


def test_logits_without_activation_are_warned_of_once(model, data):
    maps = np.random.default_rng(0).uniform(size=(20, 16, 16, 1))
    ((message, _),) = told(searching(data, model, report=["mu_fidelity"], nb_samples=10))
    assert "activation='softmax'" in message
    assert len(told(searching(data, model, objective="mu_fidelity", nb_samples=10))) == 1
    metric = Deletion(model, *data)
    assert len(told(lambda: [metric(maps) for _ in range(3)])) == 1
    assert not told(searching(data, model, activation="softmax"))
    # regression has no classes
    layers = [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]
    assert not told(searching((data[0], np.ones((20, 1))), keras.Sequential(layers)))


@pytest.mark.parametrize("baseline", [127.0, -1.0, lambda x: x * 0 + 5])
def test_a_baseline_outside_the_inputs_is_warned_of(model, data, baseline):
    options = {"activation": "softmax", "baseline_mode": baseline}
    ((message, _),) = told(searching(data, model, **options))
    assert "`baseline_mode` gives" in message
    assert "in the units of the inputs" in message
    options["baseline_mode"] = 0.5
    assert not told(searching(data, model, **options))


def test_outputs_that_are_no_classes_want_an_operator(data):
    layers = [keras.Input((16, 16, 3)), keras.layers.Conv2D(3, 3)]
    maps = np.ones((20, 16, 16, 1))
    targets = np.zeros((20, 14, 14, 3), np.float32)
    for model in (keras.Sequential(layers), lambda x: x[:, :14, :14]):
        for kind in (Deletion, MuFidelity):
            with pytest.raises(ValueError, match=r"instead of \(N, classes\).*`operator=`"):
                kind(model, data[0], targets)(maps)
        optimizer = SigmaOptimizer(None, model=model, sigmas=[2])
        with pytest.raises(ValueError, match=r"instead of \(N, classes\).*`operator=`"):
            optimizer.search(data[0], targets, maps, verbose=0)


def test_another_operator_than_the_explainers_is_warned_of(model, data):
    def opposite(model, inputs, targets):
        return -tf.reduce_sum(model(inputs) * targets, axis=-1)

    explainer = Saliency(model, operator=opposite)
    optimizer = SigmaOptimizer(explainer, sigmas=[2], activation="softmax")
    ((message, file),) = told(lambda: optimizer.search(*data, verbose=0))
    assert "Give the same `operator`" in message
    assert file == __file__
    for operator, nb_warnings in ((opposite, 0), (None, 1)):
        metric = Deletion(model, *data, activation="softmax", operator=operator)
        optimizer = SigmaOptimizer(explainer, metric, sigmas=[2])
        assert len(told(lambda optimizer=optimizer: optimizer.search(*data, verbose=0))) == (
            nb_warnings
        )
    optimizer = SigmaOptimizer(explainer, sigmas=[2], operator=opposite)
    assert not told(lambda: optimizer.search(*data, verbose=0))
    # probabilities of the logits that are explained are no other output
    squashed = keras.Sequential([model, keras.layers.Softmax()])
    optimizer = SigmaOptimizer(Saliency(model), sigmas=[2], model=squashed)
    assert not told(lambda: optimizer.search(*data, verbose=0))


def test_sharp_cutoffs_below_one_are_warned_of(model, data):
    optimizer = SigmaOptimizer(Saliency(model), sigmas=[0.5, 2], activation="softmax")
    messages = [message for message, _ in told(lambda: optimizer.search(*data, verbose=0))]
    assert any("nothing but the mean" in message for message in messages)


@pytest.mark.parametrize("kind", ["constant model", "zero maps", "untrained"])
def test_ties_are_no_verdict(data, kind):
    maps = np.random.default_rng(0).normal(size=(20, 16, 16, 1)).astype(np.float32)
    model = small_model()
    if kind == "constant model":
        model.layers[-1].set_weights([0 * w for w in model.layers[-1].get_weights()])
    if kind == "untrained":
        model.layers[-1].set_weights([1e-6 * w for w in model.layers[-1].get_weights()])
    if kind == "zero maps":
        maps *= 0
    for strategy in ("racing", "exhaustive"):
        optimizer = SigmaOptimizer(
            None, model=model, sigmas=[2, 5], activation="softmax", strategy=strategy
        )
        search = optimizer.search(*data, maps, verbose=0)
        assert search.verdict.startswith("No verdict: the scores do not vary")


def test_outputs_are_told_by_layer_or_value(model):
    values = np.array([[0.2, 0.8], [0.5, 0.5]])
    assert kind_of_outputs(lambda x: x, values) == "softmax"
    assert kind_of_outputs(lambda x: x, 2 * values) == "logits"
    assert kind_of_outputs(lambda x: x, values - 0.5) == "logits"
    for activation in ("softmax", "sigmoid"):
        assert kind_of_outputs(ending_in(model, activation), values) == activation
    nested = keras.Sequential([keras.Input((16, 16, 3)), ending_in(model, "sigmoid")])
    assert kind_of_outputs(nested, values) == "sigmoid"
