"""
A network of PyTorch, in Xplique's wrapper, gives what the same network of Keras gives.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kinds import one_hot
from kinds_torch import keras_network, ported
from xplique.attributions import GradientInput, IntegratedGradients, Saliency, SmoothGrad

import xplique_forgrad as fg
from xplique_forgrad._models import kind_of_outputs, share_weights, weights_checksum
from xplique_forgrad.benchmark import run_benchmark
from xplique_forgrad.layers import (
    diagnose,
    layerwise_high_frequency,
    mean_gradient_after,
    randomize,
    replace_downsampling,
)
from xplique_forgrad.linearization import taylor_residual
from xplique_forgrad.search import _checkpoint, _loop

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install xplique-forgrad[torch]")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# a race takes 48 images or more
NB_IMAGES = 48


def wrapped(network):
    from xplique.wrappers import TorchWrapper

    return TorchWrapper(network, device="cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The threads of two libraries get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def eager():
    """What the wrapper sets for the whole process ends with the test."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def keras_model():
    return keras_network()


@pytest.fixture
def model(keras_model):
    return wrapped(ported(keras_model))


@pytest.fixture(scope="module")
def data():
    inputs = np.random.default_rng(0).random((NB_IMAGES, 16, 16, 3)).astype(np.float32)
    return inputs, one_hot(np.arange(NB_IMAGES))


def assert_close(found, expected, tolerance=1e-4):
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(
    "explainer",
    [
        Saliency,
        GradientInput,
        lambda model: IntegratedGradients(model, steps=8),
        lambda model: SmoothGrad(model, nb_samples=4, noise=0.1),
    ],
    ids=["Saliency", "GradientInput", "IntegratedGradients", "SmoothGrad"],
)
@pytest.mark.parametrize("rectify", ["magnitude", None])
def test_explanations_are_those_of_keras(model, keras_model, data, explainer, rectify):
    inputs, targets = (part[:8] for part in data)
    found = []
    for one in (model, keras_model):
        tf.random.set_seed(0)
        found.append(fg.FORGrad(explainer(one), 3, rectify=rectify).explain(inputs, targets))
    assert_close(*found)


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (fg.Deletion, {"steps": 8}),
        (fg.Insertion, {"steps": 8, "baseline_mode": 0.5}),
        (fg.Faithfulness, {"steps": 8, "patch_size": 2}),
        (fg.MuFidelity, {"grid_size": 4, "nb_samples": 30, "seed": 0}),
    ],
)
def test_scores_are_those_of_keras(model, keras_model, data, metric, options, activation):
    inputs, targets = (part[:8] for part in data)
    maps = GradientInput(keras_model).explain(inputs, targets)
    found = [
        metric(one, inputs, targets, activation=activation, **options).evaluate_per_image(maps)
        for one in (model, keras_model)
    ]
    assert_close(*found)


# ranks of MuFidelity change by whole places
@pytest.mark.parametrize(
    ("objective", "strategy", "number", "options", "tolerance"),
    [
        ("faithfulness", "exhaustive", 16, {"steps": 4}, 1e-4),
        ("faithfulness", "racing", NB_IMAGES, {"steps": 8}, 1e-4),
        ("mu_fidelity", "exhaustive", 16, {"grid_size": 4, "nb_samples": 30}, 1e-2),
    ],
)
def test_searches_are_those_of_keras(
    model, keras_model, data, objective, strategy, number, options, tolerance
):
    inputs, targets = (part[:number] for part in data)
    found = []
    for one in (model, keras_model):
        optimizer = fg.SigmaOptimizer(GradientInput(one), objective, [1, 4], strategy, **options)
        found.append(optimizer.search(inputs, targets, verbose=0))
    first, second = found
    assert first.best_candidate == second.best_candidate
    assert first.nb_evaluations == second.nb_evaluations
    known = ~np.isnan(second.scores)
    np.testing.assert_array_equal(~np.isnan(first.scores), known)
    assert_close(first.scores[known], second.scores[known], tolerance)
    assert first.best_score == pytest.approx(second.best_score, abs=1e-4)


def test_a_search_that_was_cut_off_goes_on(tmp_path, monkeypatch, model, data):
    monkeypatch.setattr(_loop, "_GROUP_IMAGES", 8)
    monkeypatch.setattr(_loop, "_PART_VALUES", 1)
    monkeypatch.setattr(_checkpoint, "_PERIOD", 0.0)

    def search(path, one=model):
        optimizer = fg.SigmaOptimizer(Saliency(one), sigmas=[1, 3], steps=4)
        return optimizer.search(*data, checkpoint=path, verbose=0)

    whole = search(None)
    flush, left = _checkpoint.Checkpoint.flush, [4]

    def failing(checkpoint, *arguments):
        flush(checkpoint, *arguments)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    path = tmp_path / "search.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint.Checkpoint, "flush", failing)
        with pytest.raises(KeyboardInterrupt):
            search(path)
    rest = search(path)
    np.testing.assert_array_equal(rest.scores, whole.scores)

    other = ported(keras_network())
    with torch.no_grad():
        # the scores of the first image, of class 0, do not tell
        other[-1].bias[2] += 1
    with pytest.raises(ValueError, match="What differs: weights"):
        search(path, wrapped(other))
    search(path, wrapped(model.model))


@pytest.mark.parametrize("batched", [True, False])
def test_datasets_are_read_as_those_of_keras(model, keras_model, data, batched):
    inputs, targets = (part[:6] for part in data)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, targets))
    dataset = dataset.batch(4).prefetch(1) if batched else dataset
    metrics = [fg.Faithfulness(one, dataset, None, steps=4) for one in (model, keras_model)]
    maps = GradientInput(keras_model).explain(inputs, targets)
    assert_close(*(metric.evaluate_per_image(maps) for metric in metrics))


def test_residuals_are_those_of_keras(model, keras_model, data):
    inputs, targets = (part[:5] for part in data)
    options = {"sigmas": [2, 4], "radii": [0.5, 2.0], "nb_samples": 9, "batch_size": 2}
    tf.config.run_functions_eagerly(False)
    expected = taylor_residual(keras_model, inputs, targets, **options)
    tf.config.run_functions_eagerly(True)
    found = taylor_residual(model, inputs, targets, **options)
    for name in ("unfiltered", "filtered", "zero_order"):
        assert_close(getattr(found, name), getattr(expected, name))


def test_a_wrapper_that_was_never_called_is_taken(keras_model, data):
    inputs, targets = (part[:2] for part in data)
    residual = taylor_residual(
        wrapped(ported(keras_model)), inputs, targets, sigmas=[2], radii=[1.0], nb_samples=2
    )
    assert residual.ratio.shape == (1, 2, 1)


@pytest.mark.parametrize(
    "look",
    [
        lambda model, data: diagnose(model, *data, verbose=0),
        lambda model, data: layerwise_high_frequency(model, *data),
        lambda model, data: mean_gradient_after(model, *data, layer="conv"),
        lambda model, data: replace_downsampling(model),
        lambda model, data: randomize(model),
    ],
)
def test_what_looks_at_layers_says_that_they_are_those_of_pytorch(model, data, look):
    with pytest.raises(TypeError, match="its layers are those of PyTorch"):
        look(model, data)


def test_a_copy_for_the_control_untrained_is_given_by_the_user(model, data):
    inputs, targets = (part[:6] for part in data)
    with pytest.raises(ValueError, match="'untrained' cannot copy.*PyTorch.*Give a function"):
        fg.SigmaOptimizer(Saliency(model), sigmas=[2], control="untrained").search(
            inputs, targets, verbose=0
        )
    untrained = Saliency(wrapped(ported(keras_network(seed=1))))
    search = fg.SigmaOptimizer(
        Saliency(model),
        sigmas=[2],
        control=lambda inputs, targets, maps: untrained.explain(inputs, targets),
    ).search(inputs, targets, verbose=0)
    assert np.isfinite(search.specific_gain).all()


def test_a_class_of_explainers_is_built_on_the_wrapper(model, data):
    inputs, targets = (part[:6] for part in data)
    found = [
        fg.SigmaOptimizer(explainer, sigmas=[2], model=model).search(inputs, targets, verbose=0)
        for explainer in (Saliency, Saliency(model))
    ]
    np.testing.assert_array_equal(found[0].scores, found[1].scores)


def test_a_benchmark_records_methods_that_look_at_layers_with_a_reason(model, data):
    methods = ["Saliency", "GuidedBackprop", "GradCAM", "FEM"]
    benchmark = run_benchmark(
        model,
        *(part[:7] for part in data),
        methods,
        controls=(),
        sigmas=[2],
        mu_fidelity_samples=10,
        nb_choosing=3,
        steps=2,
        verbose=0,
    )
    table = benchmark.methods.set_index("method")
    assert table.loc["Saliency", "status"] == "done"
    assert np.isnan(table.loc["Saliency", "forward"].astype(float))
    for name in methods[1:]:
        reason = f"{name} looks at layers of Keras, and those of a TorchWrapper are PyTorch's."
        assert table.loc[name, "reason"] == f"ValueError: {reason}"


def test_weights_of_pytorch_tell_models_apart(model, keras_model):
    twin, other = wrapped(model.model), wrapped(ported(keras_model))
    assert share_weights(model, twin)
    assert share_weights(model, other)
    before = weights_checksum(other)
    with torch.no_grad():
        other.model[0].weight[0, 0, 0, 0] += 1
    assert None is not weights_checksum(other) != before
    assert not share_weights(model, other)
    # a dtype that NumPy has not
    assert weights_checksum(wrapped(ported(keras_model).bfloat16())) is not None


def test_outputs_are_told_apart_by_their_values(keras_model, data):
    network = ported(keras_model)
    for one, kind in [
        (network, "logits"),
        (torch.nn.Sequential(network, torch.nn.Softmax(1)), "softmax"),
    ]:
        model = wrapped(one.eval())
        assert kind_of_outputs(model, np.asarray(model(data[0][:4]))) == kind


def test_a_module_that_is_not_wrapped_is_refused(keras_model, data):
    network = ported(keras_model)
    for use in (
        lambda: fg.Faithfulness(network, *data),
        lambda: fg.SigmaOptimizer(None, model=network).search(*data, data[0]),
        lambda: run_benchmark(network, *data),
        lambda: fg.FORGrad(Saliency(network), 3).explain(*data),
    ):
        with pytest.raises(TypeError, match="is a Sequential of PyTorch.*TorchWrapper"):
            use()


def test_keras_models_are_differentiated_in_a_graph(keras_model, data, monkeypatch):
    tf.config.run_functions_eagerly(False)
    graphs = []
    call = keras.Sequential.call

    def counting(self, inputs, *arguments, **options):
        graphs.append(tf.is_symbolic_tensor(inputs))
        return call(self, inputs, *arguments, **options)

    monkeypatch.setattr(keras.Sequential, "call", counting)
    inputs, targets = (part[:2] for part in data)
    taylor_residual(keras_model, inputs, targets, sigmas=[2], radii=[1.0], nb_samples=2)
    assert graphs
    assert all(graphs)
