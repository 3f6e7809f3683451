"""The values that a model takes, and inputs that clearly have others."""

import gc
import warnings
import weakref
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from xplique.attributions import Saliency

from xplique_forgrad import Deletion, FORGrad, SigmaOptimizer
from xplique_forgrad._ranges import check_range, declare_range, expected_range
from xplique_forgrad.layers import diagnose

# networks that take pixels, pixels in [0, 1] or in [-1, 1], normalised ones, and Caffe's
PIXELS, UNIT, SIGNED = (0, 255), (0, 1), (-1, 1)
NORMALISED, CAFFE = (-2.12, 2.64), (-124, 152)


def network(*first):
    behind = [layers.Conv2D(4, 3, strides=2), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((16, 16, 3)), *first, *behind])


@cache
def taking(low, high):
    model = network()
    declare_range(model, low, high)
    return model


def photographs(low, high):
    pixels = np.random.default_rng(0).uniform(low, high, (4, 16, 16, 3))
    # a black and a white one
    pixels[0, 0, 0], pixels[0, 0, 1] = low, high
    return pixels.astype(np.float32)


def told(function):
    """Messages and files of the warnings of ranges."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    found = [(str(one.message), one.filename) for one in caught]
    return [pair for pair in found if "The inputs reach from" in pair[0]]


@pytest.mark.parametrize(
    ("scale", "offset", "expected"),
    [
        (1 / 255, 0, PIXELS),
        (1 / 256, 0, PIXELS),
        (1 / 127.5, -1, PIXELS),
        (1 / 255, -0.5, PIXELS),
        (2, -1, UNIT),
        (255, 0, UNIT),
        (1, 0, None),
        (0.3, 7, None),
        ([1 / 255, 1 / 255, 1 / 128], 0, None),
    ],
)
def test_a_rescaling_tells_what_it_takes(scale, offset, expected):
    assert expected_range(network(layers.Rescaling(scale, offset))) == expected


def test_the_rescaling_may_be_nested_and_stand_behind_what_keeps_the_range():
    rescaling = layers.Rescaling(1 / 255)
    preprocessing = keras.Sequential([layers.RandomFlip(), layers.Resizing(16, 16), rescaling])
    assert expected_range(network(preprocessing)) == PIXELS
    inner = network(layers.Rescaling(1 / 255))
    inputs = keras.Input((16, 16, 3))
    assert expected_range(keras.Model(inputs, inner(inputs))) == PIXELS
    assert expected_range(keras.Model(inner.inputs, inner.layers[-2].output)) == PIXELS
    # of the inputs of a model it says nothing once other layers stand before it
    assert expected_range(network(layers.BatchNormalization(), layers.Rescaling(1 / 255))) is None


def test_nothing_is_known_of_other_models():
    assert expected_range(network()) is None
    assert expected_range(lambda x: x) is None
    assert expected_range(None) is None
    two = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3))]
    assert expected_range(keras.Model(two, layers.Add()(two))) is None


def test_a_declared_range_holds_for_models_cut_out_of_it():
    model = taking(*CAFFE)
    assert expected_range(model) == CAFFE
    assert expected_range(keras.Model(model.inputs, model.layers[-2].output)) == CAFFE
    assert expected_range(keras.Sequential([keras.Input((16, 16, 3)), model])) == CAFFE
    assert expected_range(network(layers.Rescaling(1 / 255), model.layers[0])) == PIXELS
    for low, high in ((1, 0), (0, 0), (0, np.inf), (np.nan, 1)):
        with pytest.raises(ValueError, match="the lower one first"):
            declare_range(model, low, high)


def test_a_declared_range_keeps_no_model_alive():
    model = network()
    declare_range(model, *CAFFE)
    held = weakref.ref(model)
    del model
    gc.collect()
    assert held() is None


@pytest.mark.parametrize(
    ("expected", "found", "advice"),
    [
        (PIXELS, (0, 1), r"give 255 \* inputs\."),
        (PIXELS, (-1, 1), "prepare them"),
        (PIXELS, CAFFE, "prepare them"),
        (UNIT, (0, 255), "give inputs / 255"),
        (UNIT, (-1, 1), "prepare them"),
        (UNIT, NORMALISED, "prepare them"),
        (SIGNED, (0, 255), "prepare them"),
        (NORMALISED, (0, 255), "prepare them"),
        (NORMALISED, (0, 1), "prepare them"),
        (CAFFE, (0, 1), "prepare them"),
        (CAFFE, (-1, 1), "prepare them"),
        (CAFFE, (0, 255), "prepare them"),
        (CAFFE, NORMALISED, "prepare them"),
    ],
)
def test_inputs_of_another_range_are_warned_of(expected, found, advice):
    with pytest.warns(UserWarning, match=advice) as record:
        check_range(taking(*expected), lambda: photographs(*found))
    assert f"from {found[0]:.4g} to {found[1]:.4g}, and the model takes" in str(record[0].message)


ranges = st.sampled_from([PIXELS, UNIT, SIGNED, NORMALISED, CAFFE])


@given(expected=ranges, shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_images_in_the_range_are_not_warned_of(expected, shares):
    low, high = expected
    darkest, brightest = (low + share * (high - low) for share in sorted(shares))
    # some contrast: a single grey is an image of no range
    if brightest - darkest > (high - low) / 2:
        assert not told(
            lambda: check_range(taking(*expected), lambda: photographs(darkest, brightest))
        )


def test_black_images_and_noise_are_not_warned_of(rng):
    for expected in (PIXELS, UNIT, SIGNED, NORMALISED, CAFFE):
        assert not told(
            lambda expected=expected: check_range(taking(*expected), lambda: 0 * rng.random(9))
        )
    for inputs in (rng.standard_normal(999), photographs(*SIGNED)):
        assert not told(lambda inputs=inputs: check_range(taking(*NORMALISED), lambda: inputs))
    # inputs are read only where the range is known
    check_range(network(), pytest.fail)


def test_every_room_warns_once_at_the_users_line():
    model, targets = network(layers.Rescaling(1 / 255)), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    saliency, maps = Saliency(model), np.ones((4, 16, 16, 1))
    explainer = FORGrad(saliency, 5)

    def search(inputs, **options):
        optimizer = SigmaOptimizer(saliency, sigmas=[2], **options)
        return lambda: optimizer.search(inputs, targets, verbose=0)

    def asked(inputs):
        pairs = tf.data.Dataset.from_tensor_slices((inputs, targets))
        return (
            lambda: explainer.explain(inputs, targets),
            lambda: explainer.explain(pairs.batch(2)),
            lambda: Deletion(model, inputs, targets)(maps),
            lambda: Deletion(model, pairs)(maps),
            search(inputs, report=["mu_fidelity"], nb_samples=4),
            search(inputs, objective=lambda found: 1.0, mode="max"),
            lambda: diagnose(model, inputs, targets),
        )

    for ask in asked(photographs(0, 1)):
        ((message, file),) = told(ask)
        assert "the model takes values from 0 to 255: give 255 * inputs." in message
        assert file == __file__
    for ask in asked(photographs(0, 255)):
        assert not told(ask)
