import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from xplique import attributions
from xplique.attributions.base import BlackBoxExplainer
from xplique.metrics import (
    AverageStability,
    ModelRandomizationMetric,
    ProgressiveLayerRandomization,
    RandomLogitMetric,
)

from xplique_forgrad import FORGrad, forgrad

METHODS = {
    "DeconvNet": {},
    "FEM": {},
    "GradCAM": {},
    "GradCAMPP": {},
    "GradientInput": {},
    "GuidedBackprop": {},
    "HsicAttributionMethod": {"nb_design": 20, "grid_size": 4},
    "IntegratedGradients": {"steps": 4},
    "KernelShap": {"nb_samples": 20},
    "Lime": {"nb_samples": 20},
    "Occlusion": {"patch_size": 24, "patch_stride": 24},
    "Rise": {"nb_samples": 20},
    "Saliency": {},
    "SmoothGrad": {"nb_samples": 3},
    "SobolAttributionMethod": {"nb_design": 2, "grid_size": 4},
    "SquareGrad": {"nb_samples": 3},
    "VarGrad": {"nb_samples": 3},
}


def test_the_list_of_methods_is_complete():
    assert {*METHODS} == {*attributions.__all__} - {"FORGrad", "global_sensitivity_analysis"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_around_each_method_of_xplique(method, classifier, images):
    inputs, targets = images.inputs[:2], images.targets[:2]
    explainer = getattr(attributions, method)(classifier, **METHODS[method])
    raw = []
    explain = explainer.explain
    explainer.explain = lambda *arguments: raw.append(explain(*arguments)) or raw[-1]
    filtered = FORGrad(explainer, sigma=5, window="gaussian").explain(inputs, targets)
    assert filtered.shape == (2, 96, 96, 1)
    expected = forgrad(np.reshape(raw[0], (2, 96, 96, 1)), 5, window="gaussian")
    np.testing.assert_array_equal(filtered, expected)


@pytest.fixture
def saliency(classifier):
    return attributions.Saliency(classifier)


def test_it_is_an_explainer_of_xplique(saliency, images):
    explainer = FORGrad(saliency, sigma=6)
    assert isinstance(explainer, BlackBoxExplainer)
    expected = forgrad(saliency(images.inputs, images.targets), 6)
    np.testing.assert_allclose(explainer(images.inputs, images.targets), expected, rtol=1e-6)


def test_inputs_of_every_kind(saliency, images):
    inputs, targets, _ = images
    explainer = FORGrad(saliency, sigma=6)
    expected = explainer.explain(inputs, targets)
    pairs = tf.data.Dataset.from_tensor_slices((inputs, targets))
    for dataset in (
        pairs,
        pairs.batch(4),
        pairs.batch(4).prefetch(1),
        pairs.batch(3, drop_remainder=True),
        pairs.batch(4).map(lambda x, y: (x + 0.0, y)),
        pairs.prefetch(2),
    ):
        np.testing.assert_allclose(explainer.explain(dataset), expected, rtol=1e-4, atol=1e-6)
    tensors = explainer.explain(tf.constant(inputs), tf.constant(targets))
    np.testing.assert_allclose(tensors, expected, rtol=1e-5)


def test_datasets_where_the_model_does_not_tell_its_inputs(classifier, images):
    inputs, targets, _ = images
    occlusion = attributions.Occlusion(lambda x: classifier(x), patch_size=32, patch_stride=32)
    explainer = FORGrad(occlusion, sigma=6)
    expected = explainer.explain(inputs, targets)
    pairs = tf.data.Dataset.from_tensor_slices((inputs, targets))
    unknown_sizes = tf.data.Dataset.from_generator(
        lambda: zip(inputs, targets),
        output_signature=(tf.TensorSpec((None, None, 3)), tf.TensorSpec((6,))),
    )
    for dataset in (
        pairs,
        pairs.batch(4),
        pairs.batch(4).prefetch(1),
        pairs.batch(3, drop_remainder=True).prefetch(1),
        pairs.batch(3, drop_remainder=True).map(lambda x, y: (x, y)),
        unknown_sizes,
        unknown_sizes.batch(4).prefetch(1),
    ):
        np.testing.assert_allclose(explainer(dataset), expected, rtol=1e-4, atol=1e-6)


def test_an_empty_batch_gives_an_empty_batch(saliency, images):
    empty = FORGrad(saliency, sigma=6).explain(images.inputs[:0], images.targets[:0])
    assert empty.shape == (0, 96, 96, 1)


def test_time_series_are_filtered_along_time(rng):
    model = keras.Sequential(
        [
            keras.Input((40, 3)),
            keras.layers.Conv1D(4, 5, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    inputs = rng.standard_normal((3, 40, 3)).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[[0, 1, 0]]
    saliency = attributions.Saliency(model)
    raw = saliency.explain(inputs, targets)
    filtered = FORGrad(saliency, sigma=4).explain(inputs, targets)
    assert filtered.shape == (3, 40, 3)
    np.testing.assert_allclose(filtered, forgrad(raw, 4, axes=(1,)), rtol=1e-5)
    both = FORGrad(saliency, sigma=4, axes=(1, 2)).explain(inputs, targets)
    np.testing.assert_allclose(both, forgrad(raw, 4, axes=(1, 2)), rtol=1e-5)


def test_tabular_inputs_get_a_clear_error(rng):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    explainer = FORGrad(attributions.Saliency(model))
    inputs, targets = rng.standard_normal((3, 5)), np.eye(2)[[0, 1, 0]]
    with pytest.raises(ValueError, match="rank 2: the explanations of tabular inputs"):
        explainer.explain(inputs, targets)
    with pytest.raises(ValueError, match="tabular"):
        explainer.explain(tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(2))


def test_model_is_the_wrapped_explainers(saliency, classifier):
    explainer = FORGrad(FORGrad(saliency))
    assert explainer.model is classifier
    other = keras.models.clone_model(classifier)
    explainer.model = other
    assert saliency.model is other
    explainer.batch_size = 7
    assert saliency.batch_size == 7
    explainer.sigma = 5
    assert explainer.sigma == 5
    assert explainer.explainer.sigma == 15


def test_average_stability(saliency, images):
    metric = AverageStability(saliency.model, images.inputs[:2], images.targets[:2], nb_samples=3)
    raw, filtered = metric(saliency), metric(FORGrad(saliency, sigma=3))
    assert 0 < filtered < raw


def test_model_randomization_is_not_passed_vacuously(saliency, classifier, images):
    weights = classifier.get_weights()
    metric = ModelRandomizationMetric(
        classifier,
        images.inputs,
        images.targets,
        randomization_strategy=ProgressiveLayerRandomization(1.0),
    )
    explainer = FORGrad(saliency, sigma=48)
    explained_models = []
    explain = saliency.explain
    saliency.explain = lambda *a: explained_models.append(saliency.model) or explain(*a)
    similarity = metric(explainer)

    assert len({id(model) for model in explained_models}) == 2
    assert similarity < 0.9
    assert saliency.model is classifier
    for before, after in zip(weights, classifier.get_weights()):
        np.testing.assert_array_equal(before, after)


def test_random_logit(saliency, images):
    metric = RandomLogitMetric(saliency.model, images.inputs, images.targets)
    assert -1 <= metric(FORGrad(saliency, sigma=6)) < 1


def test_it_answers_as_the_wrapped_explainer_and_can_be_copied(classifier):
    explainer = FORGrad(attributions.SmoothGrad(classifier, nb_samples=11), sigma=4)
    assert explainer.nb_samples == 11
    assert explainer.gradient is explainer.explainer.gradient
    assert copy.copy(explainer).sigma == 4
    with pytest.raises(AttributeError, match="nonexistent"):
        _ = explainer.nonexistent
    with pytest.raises(AttributeError):
        _ = FORGrad.__new__(FORGrad).model
    assert pickle.loads(pickle.dumps(FORGrad(Constant()))).sigma == 15


class Constant:
    def explain(self, inputs, targets):
        nb_inputs = len(list(inputs)) if isinstance(inputs, tf.data.Dataset) else len(inputs)
        return np.ones((nb_inputs, 96, 96)).tolist()


def test_any_object_that_explains_will_do(images):
    explainer = FORGrad(Constant(), sigma=3)
    assert explainer.explain(images.inputs, images.targets).shape == (6, 96, 96, 1)
    dataset = tf.data.Dataset.from_tensor_slices((images.inputs, images.targets))
    assert explainer(dataset).shape == (6, 96, 96, 1)
    assert explainer(dataset.batch(4)).shape == (6, 96, 96, 1)
    assert repr(explainer) == (
        "FORGrad(Constant, sigma=3, window='disk', rectify='magnitude', axes=None, "
        "border='periodic')"
    )


@pytest.mark.parametrize("wrapped", [None, "Saliency", attributions.Saliency])
def test_what_is_no_explainer_is_refused(wrapped):
    with pytest.raises(TypeError, match=r"FORGrad\(Saliency\(model\), sigma=15\)"):
        FORGrad(wrapped)


def test_a_model_in_place_of_an_explainer_is_refused(classifier):
    with pytest.raises(TypeError, match="wraps an explainer"):
        FORGrad(classifier)


def test_datasets_and_targets_that_do_not_go_together(saliency, images):
    inputs, targets, masks = images
    explainer = FORGrad(saliency, sigma=6)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, targets))
    with pytest.raises(ValueError, match="brings its own targets"):
        explainer.explain(dataset, targets)
    with pytest.raises(ValueError, match=r"pairs \(inputs, targets\)"):
        explainer.explain(tf.data.Dataset.from_tensor_slices(inputs))
    with pytest.raises(ValueError, match=r"pairs \(inputs, targets\)"):
        explainer.explain(tf.data.Dataset.from_tensor_slices((inputs, targets, masks)))


def test_targets_that_are_not_one_hot_and_a_single_image(saliency, classifier, images):
    inputs, targets, _ = images
    labels = np.argmax(targets, axis=1)
    opaque = attributions.Occlusion(lambda x: classifier(x), patch_size=32, patch_stride=32)
    for wrapped in (saliency, FORGrad(saliency), opaque):
        explainer = FORGrad(wrapped, 6)
        for given in (
            (inputs, labels),
            (tf.constant(inputs), tf.constant(labels)),
            (tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(4),),
        ):
            with pytest.raises(ValueError, match=r"one number per input; .*tf\.one_hot"):
                explainer.explain(*given)
        with pytest.raises(ValueError, match="with the same N"):
            explainer.explain(inputs, targets[:2])
    with pytest.raises(ValueError, match="with the same N"):
        FORGrad(opaque, 6).explain(inputs[0], targets[0])
    explainer = FORGrad(saliency, 6)
    with pytest.raises(ValueError, match=r"\(N, 4\) and the model's outputs \(N, 6\)"):
        explainer.explain(inputs, targets[:, :4])
    for given in ((inputs[0], targets[0]), (inputs[0], labels[0]), (inputs[0],)):
        with pytest.raises(ValueError, match=r"a single input goes as inputs\[None\]"):
            explainer.explain(*given)


def test_operators_take_other_targets(classifier, images):
    labels = np.argmax(images.targets, axis=1)

    def of_label(model, inputs, targets):
        return tf.gather(model(inputs), tf.cast(targets, tf.int32), batch_dims=1)

    explainer = FORGrad(attributions.Saliency(classifier, operator=of_label), 6)
    expected = FORGrad(attributions.Saliency(classifier), 6).explain(*images[:2])
    np.testing.assert_allclose(explainer.explain(images.inputs, labels), expected, rtol=1e-4)


def test_explaining_in_a_graph(classifier, images):
    explainer = FORGrad(attributions.Saliency(classifier, batch_size=None), 6)
    specs = [tf.TensorSpec((None, *part.shape[1:])) for part in images[:2]]
    traced = tf.function(explainer.explain, input_signature=specs)
    expected = explainer.explain(images.inputs, images.targets)
    np.testing.assert_allclose(traced(images.inputs, images.targets), expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_without_targets_the_predicted_class_is_explained(batch_size, classifier, images):
    inputs = images.inputs
    saliency = attributions.Saliency(classifier, batch_size=batch_size)
    predicted = tf.one_hot(tf.argmax(classifier(inputs), axis=1), 6)
    expected = FORGrad(saliency, 6).explain(inputs, predicted)
    wrong = FORGrad(saliency, 6).explain(inputs, np.roll(predicted, 1, axis=1))
    assert not np.allclose(expected, wrong)
    for explainer in (FORGrad(saliency, 6), FORGrad(FORGrad(saliency, 48), 6)):
        for given in (inputs, tf.constant(inputs), inputs.tolist()):
            np.testing.assert_allclose(explainer(given), explainer(given, predicted), rtol=1e-4)
    np.testing.assert_allclose(FORGrad(saliency, 6)(inputs), expected, rtol=1e-4)
    assert FORGrad(saliency, 6)(inputs[:0]).shape == (0, 96, 96, 1)


def test_without_targets_of_a_model_that_is_no_keras_model(classifier, images):
    occlusion = attributions.Occlusion(lambda x: classifier(x), patch_size=32, patch_stride=32)
    predicted = tf.one_hot(tf.argmax(classifier(images.inputs), axis=1), 6)
    expected = FORGrad(occlusion, 6).explain(images.inputs, predicted)
    np.testing.assert_allclose(FORGrad(occlusion, 6).explain(images.inputs), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "there is no model that predicts a class.*give one-hot targets"),
        (lambda x: x, r"outputs of shape \(6, 96, 96, 3\) instead.*give the zones"),
        (lambda x: x[:, 0], r"outputs of shape \(6, 96, 3\).*give the boxes"),
        (lambda x: x[:, 0, 0, 0], r"outputs of shape \(6,\).*give one-hot targets"),
        (lambda x: [x, x], "2 outputs instead.*give one-hot targets"),
        (lambda x: {"a": x}, "1 outputs instead.*give one-hot targets"),
    ],
)
def test_without_targets_there_must_be_classes_to_predict(model, message, images):
    constant = Constant()
    if model is not None:
        constant.model = model
    for explainer in (FORGrad(constant, 3), FORGrad(FORGrad(constant), 3)):
        with pytest.raises(ValueError, match=f"`targets` is None.*{message}"):
            explainer.explain(images.inputs)


@pytest.mark.parametrize("nb_wrappers", [1, 2])
def test_a_misspelt_attribute_is_refused(nb_wrappers, saliency):
    explainer = saliency
    for _ in range(nb_wrappers):
        explainer = FORGrad(explainer)
    before = dict(vars(saliency))
    with pytest.raises(AttributeError, match="'sgima' to set; did you mean 'sigma'.*Its own are"):
        explainer.sgima = 9
    with pytest.raises(AttributeError, match="Saliency in it.*'bach_size'.* mean 'batch_size'"):
        explainer.bach_size = 9
    with pytest.raises(AttributeError, match=r"to set\. Its own are explainer, sigma, .*model or"):
        explainer.zzz = 9
    with pytest.raises(AttributeError, match="_axes"):
        explainer._axes = (1,)
    assert vars(saliency) == before
    assert explainer.sigma == 15


@pytest.mark.parametrize("name", ["model", "batch_size", "nb_samples", "noise", "reduce"])
def test_attributes_of_the_wrapped_explainer_can_be_set(name, classifier):
    smoothgrad = attributions.SmoothGrad(classifier)
    explainer, value = FORGrad(FORGrad(smoothgrad)), object()
    setattr(explainer, name, value)
    assert getattr(smoothgrad, name) is value
    assert getattr(explainer, name) is value
    assert name not in vars(explainer)
    assert name in dir(explainer)


def test_a_subclass_may_have_properties_of_its_own(saliency):
    class Percent(FORGrad):
        @property
        def percent(self):
            return 100 * self.sigma / 96

        @percent.setter
        def percent(self, value):
            self.sigma = 96 * value / 100

    explainer = Percent(saliency)
    explainer.percent = 50
    assert explainer.sigma == 48


def test_cutoffs_that_mislead_are_warned_of(images):
    explainer = FORGrad(Constant(), 0.5)
    with pytest.warns(UserWarning, match=r"`sigma` is 0\.5; below 1") as record:
        explainer.explain(*images[:2])
    assert record[0].filename == __file__

    class Small:
        def explain(self, inputs, targets):
            return np.ones((len(inputs), 28, 28))

    small, targets = np.zeros((2, 28, 28, 1)), np.eye(2)
    with pytest.warns(UserWarning, match=r"maps of 28 x 28 .*sigma=1\.9 here") as record:
        FORGrad(Small())(small, targets)
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FORGrad(Small(), 2)(small, targets)
        FORGrad(Constant())(*images[:2])


@pytest.mark.parametrize(
    ("option", "value"), [("window", "hann"), ("rectify", "abs"), ("border", "mirror")]
)
def test_unknown_options_are_refused(option, value, saliency):
    with pytest.raises(ValueError, match=f"`{option}` is '{value}'"):
        FORGrad(saliency, **{option: value})


@pytest.mark.parametrize(
    "options", [{"sigma": 0}, {"sigma": 97}, {"sigma": [1, 2]}, {"axes": (1, 7)}]
)
def test_bad_cutoffs_and_axes_are_refused_before_anything_is_explained(options, saliency, images):
    saliency.explain = None  # never called
    explainer = FORGrad(Constant(), **options)
    explainer.explainer = saliency
    with pytest.raises(ValueError, match=r"0 < sigma <= 96|shape \(6,\)|axes"):
        explainer.explain(images.inputs, images.targets)
