"""
What explainers of Xplique are refused for, and that what is typed instead works.
"""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from kinds import samples
from kinds_models import functional, nested, of_precision, subclassed
from xplique.attributions import (
    FEM,
    DeconvNet,
    GradCAM,
    GradCAMPP,
    GuidedBackprop,
    Occlusion,
    Rise,
    Saliency,
)

from xplique_forgrad import Faithfulness, FORGrad, SigmaOptimizer
from xplique_forgrad._notices import ForgradWarning


def scores_in_float32(model, inputs, targets):
    return tf.reduce_sum(tf.cast(model(inputs), tf.float32) * targets, axis=-1)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_maps_of_other_precisions_are_those_of_float32(policy):
    """With a float32 head, and with an operator that casts; few ReLUs and maxima switch."""
    case = of_precision("float32")
    expected = FORGrad(Saliency(case.model), 3).explain(case.inputs, case.targets)
    of_head = of_precision(policy, "float32").model
    to_the_end = of_precision(policy).model
    for explainer in (Saliency(of_head), Saliency(to_the_end, operator=scores_in_float32)):
        explainer.model.set_weights(case.model.get_weights())
        found = FORGrad(explainer, 3).explain(case.inputs, case.targets)
        assert found.dtype == tf.float32
        assert np.corrcoef(np.ravel(found), np.ravel(expected))[0, 1] > 0.99


@pytest.mark.parametrize("method", [GuidedBackprop, DeconvNet, GradCAM, GradCAMPP, FEM])
def test_methods_that_compute_in_float32_inside_the_model(method):
    case = of_precision("mixed_bfloat16", "float32")
    explainer = FORGrad(method(case.model), 3)
    match = f"{method.__name__} works in float32, and the layer 'conv2d.* in bfloat16"
    with pytest.raises(ValueError, match=match):
        explainer.explain(case.inputs, case.targets)
    # what the message says to type
    same = of_precision("float32").model
    same.set_weights(case.model.get_weights())
    assert np.ptp(FORGrad(method(same), 3).explain(case.inputs, case.targets)) > 0


@pytest.mark.parametrize("method", [Rise, Occlusion])
def test_black_box_methods_need_outputs_in_float32_too(method):
    case = of_precision("mixed_float16")
    with pytest.raises(ValueError, match=f"{method.__name__} does not multiply outputs in float16"):
        FORGrad(method(case.model), 3).explain(case.inputs, case.targets)


@pytest.mark.parametrize("method", [GuidedBackprop, DeconvNet])
def test_guided_gradients_without_a_relu_to_change_are_warned_of(method):
    inside, plain = nested(), functional()
    explainer = FORGrad(method(inside.model), 3)
    with pytest.warns(ForgradWarning, match="'functional.*' has none: its maps are plain gradi"):
        found = explainer.explain(inside.inputs, inside.targets)
    gradient = tf.Variable(inside.inputs)
    with tf.GradientTape() as tape:
        score = tf.reduce_sum(inside.model(gradient) * inside.targets)
    maps = tf.reduce_mean(tape.gradient(score, gradient), -1, keepdims=True)
    np.testing.assert_allclose(explainer.explainer.explain(inside.inputs, inside.targets), maps)
    assert found.shape == maps.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FORGrad(method(plain.model), 3).explain(plain.inputs, plain.targets)


def test_a_class_of_explainers_for_a_model_that_it_does_not_take():
    case = nested()
    with pytest.raises(ValueError, match="GradCAM finds no layer to look at among those of"):
        SigmaOptimizer(GradCAM, model=case.model).search(case.inputs, case.targets)
    case = subclassed()
    with pytest.raises(ValueError, match=r"is subclassed \(Subclassed\).* keras.Model\(x, model"):
        SigmaOptimizer(Saliency, model=case.model).search(case.inputs, case.targets)


def first_convolution(shape, kind, **options):
    signal = keras.Input(shape)
    x = layers.Flatten()(kind(2, 3, data_format="channels_first", **options)(signal))
    return keras.Model(signal, layers.Dense(3)(x))


@pytest.mark.parametrize(
    ("shape", "kind", "advice"),
    [
        ((2, 16), layers.Conv1D, r"keras.Input\(\(16, 2\)\).*Permute\(\(2, 1\)\)"),
        ((3, 8, 12), layers.Conv2D, r"keras.Input\(\(8, 12, 3\)\).*Permute\(\(3, 1, 2\)\)"),
        ((1, 4, 6, 8), layers.Conv3D, r"\(\(4, 6, 8, 1\)\).*Permute\(\(4, 1, 2, 3\)\)"),
    ],
)
def test_channels_first_is_found_and_permuted(shape, kind, advice):
    model = first_convolution(shape, kind)
    inputs, targets = samples(*shape, number=2)
    with pytest.raises(ValueError, match=advice):
        Faithfulness(model, inputs, targets)
    with pytest.raises(ValueError, match=advice):
        FORGrad(Saliency(model), 2).explain(inputs, targets)
    # what the message says to type
    last = keras.Input((*shape[1:], shape[0]))
    rank = len(shape)
    model = keras.Model(last, model(layers.Permute((rank, *range(1, rank)))(last)))
    Faithfulness(model, np.moveaxis(inputs, 1, -1), targets)
