"""
Copies of a model: of other downsampling (twins built by hand, NumPy references), or fresh weights.
"""

import random
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import convolve, maximum_filter

from xplique_forgrad.demo import load_classifier
from xplique_forgrad.demo.classifier import build_classifier
from xplique_forgrad.layers._surgery import (
    BlurPooling2D,
    PredictionChange,
    randomize,
    replace_downsampling,
)

BLUR = np.outer([1, 2, 1], [1, 2, 1]) / 16


def call(model, inputs):
    return np.asarray(model(inputs, training=False))


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def single(layer, size=(8, 8)):
    """A model of one layer with random weights."""
    return randomly_weighted(keras.Sequential([keras.Input((*size, 2)), layer]))


def randomly_weighted(model):
    """Random weights; variances are positive."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        values = rng.normal(size=weight.shape)
        weight.assign(np.abs(values) + 0.1 if "variance" in weight.path else values)
    return model


def weights_by_name(source, target):
    """Give the target's layers the weights of the source's layers of the same name."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
    return target


def small_network():
    """A strided convolution with its activation, max pooling, normalization, a head."""
    inputs = keras.Input((17, 22, 3), name="photo")
    x = layers.Conv2D(4, 3, 2, "same", activation="relu", name="stem")(inputs)
    x = layers.MaxPooling2D(3, 2, name="max")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    outputs = layers.Dense(5, name="head")(x)
    return randomly_weighted(keras.Model(inputs, outputs, name="small"))


# --- surgery: what the copy computes


def test_demo_classifier_becomes_its_average_pooling_twin():
    original = load_classifier("max")
    twin = weights_by_name(original, build_classifier("average"))
    surgery = replace_downsampling(original)
    images = noise(3, 96, 96, 3)
    assert_array_equal(call(surgery.model, images), call(twin, images))
    assert {layer.name for layer in surgery.model.layers} == {layer.name for layer in twin.layers}
    strided = {"stem", "block2_conv1", "block2_shortcut", "block3_conv1", "block3_shortcut"}
    assert {part.layer for part in surgery.replaced} == strided | {"pool"}


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda s: layers.Conv2D(3, 3, s, activation="relu"),
        lambda s: layers.Conv2D(4, 3, s, groups=2),
        lambda s: layers.DepthwiseConv2D(3, s, depth_multiplier=2),
        lambda s: layers.SeparableConv2D(3, 3, s),
    ],
)
def test_averaged_stride_is_the_mean_over_shifts_of_the_strided_layer(make, stride):
    # strided(x[a:, b:]) has the values of the stride-1 layer at s i + a, s j + b
    original = randomly_weighted(keras.Sequential([keras.Input((None, None, 2)), make(stride)]))
    size = 2 + 4 * stride  # 4 s values of stride 1, which pooling covers exactly
    images = noise(2, size + stride, size + stride, 2)
    shifts = [(a, b) for a in range(stride) for b in range(stride)]
    expected = np.mean([call(original, images[:, a:, b:])[:, :4, :4] for a, b in shifts], axis=0)
    found = call(replace_downsampling(original).model, images[:, :size, :size])
    assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def block_means(maps, size):
    """Means over blocks from the upper left; incomplete blocks at the end have fewer values."""
    starts = [range(0, n, size) for n in maps.shape[1:3]]
    return np.stack(
        [
            np.stack([maps[:, i : i + size, j : j + size].mean((1, 2)) for j in starts[1]], axis=1)
            for i in starts[0]
        ],
        axis=1,
    )


@pytest.mark.parametrize(
    "layer", [layers.Conv2D(2, 1, 2, use_bias=False), layers.MaxPooling2D(1, 2)]
)
def test_plain_subsampling_becomes_means_of_blocks(layer):
    # a 1 x 1 convolution of the identity, and the shortcuts of ResNet50V2, only skip pixels
    images = noise(2, 7, 9, 2)
    original = keras.Sequential([keras.Input((7, 9, 2)), layer])
    original.set_weights([np.eye(2).reshape(weight.shape) for weight in original.weights])
    assert_array_equal(call(original, images), images[:, ::2, ::2])
    found = call(replace_downsampling(original).model, images)
    assert_allclose(found, block_means(images, 2), rtol=1e-6, atol=1e-6)


def test_max_pooling_becomes_the_mean_of_its_windows():
    images = noise(2, 7, 9, 2)
    found = call(replace_downsampling(single(layers.MaxPooling2D(3, 2), (7, 9))).model, images)
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2))[:, ::2, ::2]
    assert_allclose(found, windows.mean((-2, -1)), rtol=1e-5, atol=1e-6)


def blurred(maps, stride):
    """Each channel convolved by the binomial filter with borders mirrored, then subsampled."""
    return convolve(maps.astype(float), BLUR[None, :, :, None], mode="mirror")[
        :, ::stride, ::stride
    ]


def test_max_blur_pooling_is_a_dense_maximum_blurred_and_subsampled():
    # "same": of 8 rows the windows are centred on 1, 3, 5, 7; of 11 columns on 0, 2, 4, 6, 8, 10
    images = noise(2, 8, 11, 2)
    original = single(layers.MaxPooling2D(3, 2, "same"), (8, 11))
    surgery = replace_downsampling(original, max_pool="blur")
    dense = maximum_filter(images, (1, 3, 3, 1), mode="constant", cval=-np.inf)
    expected = blurred(dense, 1)[:, 1::2, ::2]
    assert_allclose(call(surgery.model, images), expected, rtol=1e-5, atol=1e-6)
    assert surgery.replaced[0].becomes == "MaxPooling2D(3, strides 1) + BlurPooling2D(strides 2)"


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    kernel=st.integers(1, 5),
    stride=st.integers(2, 4),
    padding=st.sampled_from(["same", "valid"]),
    is_static=st.booleans(),
)
def test_blurred_stride_keeps_the_pixels_of_the_strided_layer(
    size, kernel, stride, padding, is_static
):
    # a kernel that copies its central pixel: applied to the pixels' numbers, it tells which it kept
    layer = layers.DepthwiseConv2D(kernel, stride, padding, use_bias=False)
    original = keras.Sequential([keras.Input((*size, 1) if is_static else (None, None, 1)), layer])
    delta = np.zeros((kernel, kernel, 1, 1))
    delta[(kernel - 1) // 2, (kernel - 1) // 2] = 1
    original.set_weights([delta])
    numbers = np.arange(np.prod(size), dtype=np.float32).reshape(1, *size, 1)
    kept = call(original, numbers).astype(int)
    # "valid": the dense convolution has left the rim away before the rest is blurred
    images, shift = noise(1, *size, 1), (kernel - 1) // 2
    inner = np.s_[:, shift : size[0] - kernel // 2, shift : size[1] - kernel // 2]
    smooth = images.astype(float)
    if padding == "same":
        smooth = blurred(smooth, 1)
    else:
        smooth[inner] = blurred(smooth[inner], 1)
    if padding == "valid" and min(size) - kernel + 1 == 1:
        return  # a single pixel, which is not blurred
    found = call(replace_downsampling(original, strides="blur").model, images)
    assert_allclose(found, smooth.ravel()[kept], rtol=1e-5, atol=1e-6)


def test_blurred_stride_is_the_dense_convolution_blurred_and_subsampled():
    images = noise(2, 8, 11, 2)
    kernel = noise(1, 1, 2, 2)
    original = keras.Sequential([keras.Input((8, 11, 2)), layers.Conv2D(2, 1, 3, use_bias=False)])
    original.set_weights([kernel])
    found = call(replace_downsampling(original, strides="blur").model, images)
    assert_allclose(found, blurred(images @ kernel[0, 0], 3), rtol=1e-5, atol=1e-5)


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(7, 16), st.integers(7, 16)),
    kernel=st.integers(1, 7),
    stride=st.integers(2, 4),
    padding=st.sampled_from(["same", "valid"]),
    kind=st.sampled_from(["conv", "depthwise", "max"]),
    how=st.sampled_from(["average", "blur"]),
)
def test_output_shapes_stay(size, kernel, stride, padding, kind, how):
    layer = {
        "conv": lambda: layers.Conv2D(1, kernel, stride, padding),
        "depthwise": lambda: layers.DepthwiseConv2D(kernel, stride, padding),
        "max": lambda: layers.MaxPooling2D(kernel, stride, padding),
    }[kind]()
    original = keras.Sequential([keras.Input((*size, 1)), layer])
    surgery = replace_downsampling(original, max_pool=how, strides=how)
    assert len(surgery.replaced) == 1
    assert surgery.model.output_shape == original.output_shape
    assert call(surgery.model, noise(1, *size, 1)).shape[1:] == original.output_shape[1:]


@pytest.mark.parametrize("how", ["average", "blur"])
def test_strides_that_differ_by_axis(how):
    original = single(layers.Conv2D(3, (3, 2), (2, 1), "same"), (7, 8))
    surgery = replace_downsampling(original, strides=how)
    assert surgery.model.output_shape == original.output_shape == (None, 4, 8, 3)
    assert surgery.replaced[0].was == "Conv2D((3, 2), strides (2, 1))"


@pytest.mark.parametrize("how", ["average", "blur"])
def test_channels_first_gives_the_same_as_channels_last(how):
    def build(data_format):
        size = (9, 8, 2) if data_format == "channels_last" else (2, 9, 8)
        options = {"padding": "same", "data_format": data_format}
        conv = layers.Conv2D(3, 3, 2, **options)
        stack = [keras.Input(size), conv, layers.MaxPooling2D(2, 2, **options)]
        return randomly_weighted(keras.Sequential(stack))

    images = noise(2, 9, 8, 2)
    last, first = (
        replace_downsampling(build(data_format), max_pool=how, strides=how).model
        for data_format in ("channels_last", "channels_first")
    )
    found = np.moveaxis(call(first, np.moveaxis(images, -1, 1)), 1, -1)
    assert_allclose(found, call(last, images), rtol=1e-5, atol=1e-5)


# --- surgery: the graph of the copy


def test_sequential_stays_sequential_and_equals_a_twin():
    def build(averaged):
        strided = [layers.Conv2D(4, 3, 2, name="conv"), layers.MaxPooling2D(2, name="max")]
        twin = [
            layers.Conv2D(4, 3, 1, name="conv"),
            layers.AveragePooling2D(2, padding="same", name="conv_pool"),
            layers.AveragePooling2D(2, name="max"),
        ]
        head = [layers.Flatten(name="flat"), layers.Dense(3, name="head")]
        inputs = keras.Input((13, 14, 2))
        return keras.Sequential([inputs, *(twin if averaged else strided), *head])

    original = randomly_weighted(build(averaged=False))
    twin = weights_by_name(original, build(averaged=True))
    surgery = replace_downsampling(original)
    images = noise(2, 13, 14, 2)
    assert isinstance(surgery.model, keras.Sequential)
    assert [layer.name for layer in surgery.model.layers] == [layer.name for layer in twin.layers]
    assert_array_equal(call(surgery.model, images), call(twin, images))


def test_sequential_without_input_layer_that_was_built_by_a_call():
    original = keras.Sequential([layers.Conv2D(2, 3, 2), layers.GlobalMaxPooling2D()])
    images = noise(2, 9, 9, 1)
    call(original, images)
    assert len(replace_downsampling(original).replaced) == 1
    assert_array_equal(
        call(replace_downsampling(original, strides=None).model, images), call(original, images)
    )


def test_nested_models_are_reached_and_named_by_path():
    def backbone(averaged):
        inputs = keras.Input((None, None, 2))
        pool = layers.AveragePooling2D if averaged else layers.MaxPooling2D
        x = layers.Conv2D(3, 3, 1 if averaged else 2, name="conv")(inputs)
        if averaged:
            x = layers.AveragePooling2D(2, padding="same", name="conv_pool")(x)
        x = keras.Sequential([layers.Dense(3, name="mix"), pool(2, name="max")], name="inner")(x)
        return keras.Model(inputs, x, name="backbone")

    def whole(averaged):
        inputs = keras.Input((16, 15, 2))
        x = layers.GlobalAveragePooling2D()(backbone(averaged)(inputs))
        return keras.Model(inputs, layers.Dense(3, name="head")(x))

    original, twin = randomly_weighted(whole(averaged=False)), whole(averaged=True)
    twin.set_weights(original.get_weights())  # one order: pooling has no weights
    surgery = replace_downsampling(original)
    assert [part.layer for part in surgery.replaced] == ["backbone/conv", "backbone/inner/max"]
    images = noise(2, 16, 15, 2)
    assert_array_equal(call(surgery.model, images), call(twin, images))


def test_shared_layers_go_on_sharing_their_weights():
    conv = layers.Conv2D(2, 3, 2, "same", name="conv")
    left, _right = keras.Input((8, 8, 2), name="left"), keras.Input((8, 8, 2), name="right")
    inner = keras.Model(left, conv(left), name="inner")
    twice = keras.Input((8, 8, 2))
    x = layers.Concatenate()([inner(twice), conv(twice), conv(layers.ReLU()(twice))])
    original = randomly_weighted(keras.Model(twice, x))
    surgery = replace_downsampling(original)
    assert len(surgery.replaced) == 1
    assert len(surgery.model.weights) == len(original.weights) == 2
    images = noise(2, 8, 8, 2)
    dense = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(2, 3, 1, "same")])
    dense.set_weights(original.get_weights())
    one, other = (block_means(call(dense, x), 2) for x in (images, np.maximum(images, 0)))
    expected = np.concatenate([one, one, other], axis=-1)
    assert_allclose(call(surgery.model, images), expected, rtol=1e-5, atol=1e-5)


def test_a_name_that_is_taken_gets_a_number():
    inputs = keras.Input((16, 16, 2))
    x = layers.Conv2D(2, 3, 2, "same", name="conv")(inputs)
    original = keras.Model(inputs, layers.MaxPooling2D(2, name="conv_pool")(x))
    names = [layer.name for layer in replace_downsampling(original).model.layers[1:]]
    assert names == ["conv", "conv_pool_1", "conv_pool"]


def test_named_inputs_operations_and_lambdas_are_copied():
    inputs = {"a": keras.Input((8, 8, 2), name="a"), "b": keras.Input((4, 4, 3), name="b")}
    x = layers.Conv2D(3, 3, 2, "same", name="conv")(inputs["a"])
    x = keras.ops.relu(x - 0.5)[:, 1:, ::2] + layers.Lambda(lambda y: np.e * y[:, 1:, ::2])(
        inputs["b"]
    )
    original = randomly_weighted(keras.Model(inputs, {"map": x, "plain": inputs["b"]}))
    arrays = {"a": noise(2, 8, 8, 2), "b": noise(2, 4, 4, 3)}
    copy = replace_downsampling(original, strides=None).model
    assert_array_equal(np.asarray(copy(arrays)["map"]), np.asarray(original(arrays)["map"]))
    changed = replace_downsampling(original).model
    assert list(changed.output) == ["map", "plain"]
    assert not np.allclose(changed(arrays)["map"], original(arrays)["map"])


def test_activations_are_those_of_the_original_whatever_their_names():
    def relu(x):  # neither registered nor that of Keras
        return -x

    inputs = keras.Input((4,))
    original = randomly_weighted(keras.Model(inputs, layers.Dense(3, activation=relu)(inputs)))
    images = noise(2, 4)
    assert_array_equal(call(replace_downsampling(original).model, images), call(original, images))


def test_original_stays_as_it_was():
    original = small_network()
    original.compile("adam", "mse")
    images, targets = noise(4, 17, 22, 3), noise(4, 5)
    original.fit(images, targets, verbose=0)
    original.get_layer("stem").trainable = False
    optimizer, config = original.optimizer, original.get_config()
    nodes = [len(layer._inbound_nodes) for layer in original.layers]
    weights, outputs = original.get_weights(), call(original, images)
    replace_downsampling(original, max_pool="blur", strides="blur")
    randomize(original)
    assert original.optimizer is optimizer
    assert int(optimizer.iterations) == 1
    assert original.get_config() == config
    assert [len(layer._inbound_nodes) for layer in original.layers] == nodes
    assert [layer.trainable for layer in original.layers].count(False) == 1
    for before, after in zip(weights, original.get_weights()):
        assert_array_equal(before, after)
    assert_array_equal(call(original, images), outputs)


def test_copy_has_its_own_weights_and_is_not_compiled():
    original = small_network()
    original.compile("adam", lambda y, p: keras.ops.mean(p))  # a loss that no config can hold
    copy = replace_downsampling(original, max_pool=None, strides=None).model
    images = noise(2, 17, 22, 3)
    outputs = call(original, images)
    assert_array_equal(call(copy, images), outputs)
    assert not copy.compiled
    assert [op.name for op in copy.operations] == [op.name for op in original.operations]
    for weight in copy.weights:
        weight.assign(weight + 1.0)
    assert_array_equal(call(original, images), outputs)


@pytest.mark.parametrize("copied", [randomize, lambda model: replace_downsampling(model).model])
def test_trainable_flags_and_dtypes_are_kept(copied):
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, 2, dtype="mixed_float16", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.MaxPooling2D(2, dtype="mixed_float16", name="max"),
        ],
        name="backbone",
    )
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten(name="flat", dtype="float64")(backbone(inputs))
    original = keras.Model(inputs, layers.Dense(2, name="head")(x))
    backbone.trainable = False
    backbone.get_layer("norm").trainable = True
    original.get_layer("head").bias.trainable = False
    copy = copied(original)
    for path in ("conv", "norm", "max"):
        before, after = (model.get_layer("backbone").get_layer(path) for model in (original, copy))
        assert after.trainable == before.trainable
        assert after.dtype_policy.name == before.dtype_policy.name
    if "conv_pool" in [layer.name for layer in copy.get_layer("backbone").layers]:
        pool = copy.get_layer("backbone").get_layer("conv_pool")
        assert pool.dtype_policy.name == "mixed_float16"
    assert copy.get_layer("flat").dtype_policy.name == "float64"
    assert not copy.get_layer("head").bias.trainable
    assert copy.get_layer("backbone").trainable is False

    def paths(model):
        return [weight.path for weight in model.trainable_weights]

    assert paths(copy) == paths(original)


def test_nothing_to_replace_gives_a_copy():
    original = single(layers.Conv2D(2, 3), (8, 8))
    surgery = replace_downsampling(original)
    images = noise(2, 8, 8, 2)
    assert surgery.replaced == ()
    assert len(surgery.to_frame()) == 0
    assert str(surgery).startswith("Nothing to replace")
    assert surgery.model is not original
    assert_array_equal(call(surgery.model, images), call(original, images))


def test_max_pooling_that_does_not_downsample_stays():
    assert not replace_downsampling(single(layers.MaxPooling2D(3, 1, "same"))).replaced


def test_text_and_table_name_what_was_replaced():
    surgery = replace_downsampling(small_network())
    assert surgery.to_frame().values.tolist() == [
        ["stem", "Conv2D(3, strides 2)", "Conv2D(3, strides 1) + AveragePooling2D(2, strides 2)"],
        ["max", "MaxPooling2D(3, strides 2)", "AveragePooling2D(3, strides 2)"],
    ]
    assert str(surgery).splitlines()[0] == "2 layers of the model 'small' replaced:"
    assert "max: MaxPooling2D(3, strides 2) -> AveragePooling2D(3, strides 2)" in str(surgery)


@pytest.mark.parametrize("how", ["average", "blur"])
def test_copy_can_be_saved_and_loaded(how, tmp_path):
    surgery = replace_downsampling(small_network(), max_pool=how, strides=how)
    surgery.model.save(tmp_path / "copy.keras")
    loaded = keras.models.load_model(tmp_path / "copy.keras")
    images = noise(2, 17, 22, 3)
    assert_array_equal(call(loaded, images), call(surgery.model, images))


def test_surgery_draws_nothing_from_the_generators_of_the_caller():
    model = small_network()
    state = random.getstate()  # where Keras takes the seeds of new layers from
    replace_downsampling(model, max_pool="blur")
    assert random.getstate() == state


# --- blur pooling


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("size", [(2, 5), (8, 9), (7, 12)])
def test_blur_pooling_is_a_mirrored_convolution_subsampled(stride, size):
    images = noise(2, *size, 5)
    layer = BlurPooling2D(stride)
    found = call(layer, images)
    assert_allclose(found, blurred(images, stride), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape(images.shape) == found.shape


def test_blur_pooling_keeps_constants_and_follows_shifts():
    layer = BlurPooling2D(2)
    assert_allclose(call(layer, np.full((1, 9, 6, 1), 3.0, np.float32)), 3.0)
    images = noise(1, 32, 32, 1)
    moved = np.roll(images, 2, axis=(1, 2))
    # a shift by the stride shifts the output by one pixel; away from the borders
    assert_allclose(
        call(layer, moved)[:, 2:15, 2:15], call(layer, images)[:, 1:14, 1:14], rtol=1e-5
    )


def test_gradient_of_blur_pooling_reaches_every_pixel_alike():
    # plain subsampling by 2 gives a checkerboard of 0 and 1; [1, 2, 1] / 4 gives 1/2 per axis
    images = tf.Variable(noise(1, 16, 16, 1))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(BlurPooling2D(2)(images))
    gradient = tape.gradient(total, images).numpy()
    assert_allclose(gradient[0, 2:-2, 2:-2, 0], 0.25, rtol=1e-6)


def test_blur_pooling_of_single_pixels_and_unknown_sizes():
    one = noise(2, 1, 1, 3)
    assert_array_equal(call(BlurPooling2D(2), one), one)
    row = noise(2, 1, 6, 3)
    expected = convolve(row.astype(float), [[[[0.25], [0.5], [0.25]]]], mode="mirror")[:, :, ::2]
    assert_allclose(call(BlurPooling2D(2), row), expected, rtol=1e-5, atol=1e-6)
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, BlurPooling2D(2)(inputs))
    assert model.output_shape == (None, None, None, 2)
    images = noise(2, 7, 8, 2)
    assert_allclose(call(model, images), blurred(images, 2), rtol=1e-5, atol=1e-6)
    assert BlurPooling2D(2, dtype="mixed_float16")(images).dtype == tf.float16


@pytest.mark.parametrize("name", ["strides", "window"])
@pytest.mark.parametrize("value", [0, 1.5, (2,), (2, 0), "2", None])
def test_blur_pooling_refuses_other_sizes(name, value):
    with pytest.raises(ValueError, match=f"`{name}` is .*give one integer"):
        BlurPooling2D(**{name: value})


def test_blur_pooling_refuses_other_data_formats():
    with pytest.raises(ValueError, match="`data_format` is 'last'"):
        BlurPooling2D(2, data_format="last")


# --- compare


def sign_classifier():
    """Its class is the sign of the first pixel of four; after surgery, that of their mean."""
    original = keras.Sequential(
        [keras.Input((2, 2, 1)), layers.Conv2D(2, 1, 2, use_bias=False), layers.Flatten()]
    )
    original.set_weights([np.array([[[[-1.0, 1.0]]]])])
    return original


def test_compare_counts_agreement_and_accuracy():
    images = np.zeros((5, 2, 2, 1), np.float32)
    images[:, 0, 0, 0] = [1, 1, 1, -1, -1]
    images[:, 1, 1, 0] = [0, -3, 0, 0, 3]  # turns the mean of the second and the last
    labels = np.array([1, 1, 0, 0, 1])
    targets = np.eye(2, dtype=np.float32)[labels]
    surgery = replace_downsampling(sign_classifier())
    expected = PredictionChange(3 / 5, 3 / 5, 3 / 5, 5)
    assert surgery.compare(images, targets) == expected
    assert surgery.compare(images, targets, batch_size=2) == expected
    pairs = tf.data.Dataset.from_tensor_slices((images, targets))
    assert surgery.compare(pairs) == surgery.compare(pairs.batch(3)) == expected
    assert surgery.compare(images) == PredictionChange(3 / 5, None, None, 5)
    assert "accuracy 60.0% ± 21.9% before" in str(expected)


def test_standard_errors_are_those_of_shares():
    change = PredictionChange(0.9, 0.5, 1.0, 100)
    assert change.agreement_error == pytest.approx(0.03)
    assert change.accuracy_before_error == pytest.approx(0.05)
    assert change.accuracy_after_error == 0.0
    unlabelled = PredictionChange(0.9, None, None, 100)
    assert unlabelled.accuracy_before_error is unlabelled.accuracy_after_error is None
    assert "accuracy" not in str(unlabelled)


def test_a_copy_without_changes_agrees_everywhere(classifier, images):
    surgery = replace_downsampling(classifier, max_pool=None, strides=None)
    change = surgery.compare(images.inputs, images.targets)
    assert change.agreement == 1.0
    assert change.accuracy_before == change.accuracy_after


def test_compare_refuses_what_names_no_class():
    surgery = replace_downsampling(sign_classifier())
    with pytest.raises(ValueError, match="gives NaN, which names no predicted class"):
        surgery.compare(np.full((1, 2, 2, 1), np.nan))
    with pytest.raises(ValueError, match="inputs have shape"):
        surgery.compare(np.zeros((1, 3, 2, 1)))
    maps = replace_downsampling(single(layers.Conv2D(2, 1, 2)))
    with pytest.raises(ValueError, match="name no predicted class"):
        maps.compare(np.zeros((1, 8, 8, 2)))
    one = keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(1)])
    with pytest.raises(ValueError, match="name no predicted class"):
        replace_downsampling(one).compare(np.zeros((1, 2, 2, 1)), np.ones((1, 1)))


# --- refusals


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(2, 3, 2, name="conv")

    def call(self, inputs):
        return self.conv(inputs)


class Uncopyable(layers.Layer):
    def __init__(self, factor):
        super().__init__(name="scale")
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs


@pytest.mark.parametrize("copied", [randomize, replace_downsampling])
def test_models_that_cannot_be_copied_are_refused(copied):
    with pytest.raises(TypeError, match="give a keras.Model"):
        copied(lambda x: x)
    with pytest.raises(ValueError, match="not built: it has no inputs"):
        copied(keras.Sequential([layers.Conv2D(2, 3)]))
    subclassed = Subclassed()
    subclassed(noise(1, 8, 8, 1))
    with pytest.raises(ValueError, match="is subclassed \\(Subclassed\\)"):
        copied(subclassed)
    with pytest.raises(ValueError, match="layer 'scale' \\(Uncopyable\\) cannot be copied"):
        copied(single(Uncopyable(2.0)))

    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match="is subclassed \\(Doubled\\)"):
        copied(Doubled(inputs, layers.Dense(2)(inputs)))


def test_functional_subclasses_without_a_call_become_functional():
    class Backbone(keras.Model):
        def __init__(self, width):
            inputs = keras.Input((8, 8, 1))
            super().__init__(inputs, layers.Conv2D(width, 3, 2)(inputs), name="backbone")

    original = randomly_weighted(Backbone(3))
    images = noise(2, 8, 8, 1)
    copy = replace_downsampling(original, strides=None).model
    assert_array_equal(call(copy, images), call(original, images))
    assert len(replace_downsampling(original).replaced) == 1


def test_a_custom_layer_that_downsamples_inside_is_copied_with_a_warning():
    inputs = keras.Input((9, 9, 1))
    original = keras.Model(inputs, Subclassed()(inputs))
    with pytest.warns(
        UserWarning, match="1 downsampling layers .* subclassed[_0-9]*/conv"
    ) as record:
        surgery = replace_downsampling(original)
    assert record[0].filename == __file__
    assert surgery.replaced == ()
    images = noise(2, 9, 9, 1)
    assert_array_equal(call(surgery.model, images), call(original, images))
    assert surgery.model.layers[-1].name == original.layers[-1].name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace_downsampling(original, strides=None)


@pytest.mark.parametrize("option", ["max_pool", "strides"])
def test_unknown_options_are_refused(option):
    with pytest.raises(ValueError, match=f"`{option}` is 'mean'; it must be one of 'average'"):
        replace_downsampling(small_network(), **{option: "mean"})


@pytest.mark.parametrize("seed", [-1, 1.0, True, None])
def test_seeds_other_than_counts_are_refused(seed):
    with pytest.raises(ValueError, match="`seed` is .*give an integer of 0 or more"):
        randomize(small_network(), seed=seed)


# --- randomize


def kernels(model):
    return [weight.numpy() for weight in model.weights if len(weight.shape) > 1]


def seeded_network():
    """Nested, with initialisers of all kinds: named, seeded by a number or a generator, wrapped."""
    inner = keras.Sequential(
        [
            layers.Conv2D(4, 3, 2, kernel_initializer="he_normal", name="conv"),
            layers.Reshape((-1, 4)),
            layers.TimeDistributed(
                layers.Dense(4, kernel_initializer=keras.initializers.HeNormal(seed=4)), name="each"
            ),
        ],
        name="inner",
    )
    generator = keras.random.SeedGenerator(5)
    inputs = keras.Input((9, 9, 2))
    x = inner(inputs)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.Flatten()(x)
    outputs = layers.Dense(
        3, kernel_initializer=keras.initializers.RandomNormal(seed=generator), name="head"
    )(x)
    return keras.Model(inputs, outputs)


def test_weights_are_drawn_anew_by_the_seed():
    original = seeded_network()
    trained = kernels(original)
    one, same, other = (kernels(randomize(original, seed)) for seed in (1, 1, 2))
    # convolution, wrapped layer, head; kernel and bias of query, key and value; output
    assert len(trained) == len(one) == 3 + 3 * 2 + 1
    for drawn, again, elsewhere, before in zip(one, same, other, trained):
        assert_array_equal(drawn, again)
        if drawn.any():  # no bias
            assert not np.allclose(drawn, elsewhere)
            assert not np.allclose(drawn, before)
    for kernel, before in zip(kernels(original), trained):
        assert_array_equal(kernel, before)


def test_weights_of_one_initialiser_differ_from_each_other():
    inputs = keras.Input((5, 8))
    attention = layers.MultiHeadAttention(2, 4, use_bias=False)
    original = keras.Model(inputs, attention(inputs, inputs))
    query, key, value, _ = kernels(randomize(original))
    assert query.shape == key.shape == value.shape
    assert not np.allclose(query, key)
    assert not np.allclose(query, value)


def test_weights_have_the_spread_of_their_initialiser():
    # He: variance 2 / fan_in
    conv = layers.Conv2D(64, 5, kernel_initializer=keras.initializers.HeNormal(seed=1), name="c")
    original = keras.Sequential([keras.Input((8, 8, 16)), conv])
    original.set_weights([np.ones(weight.shape) for weight in original.weights])
    kernel, bias = randomize(original).get_weights()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (5 * 5 * 16)), rel=0.03)
    assert_array_equal(bias, 0.0)


def test_random_generators_of_the_caller_go_on_as_if_nothing_was_drawn():
    def draw(randomizes):
        original = small_network()
        keras.utils.set_random_seed(7)
        if randomizes:
            randomize(original, seed=3)
        return [
            random.random(),
            float(np.random.random()),  # noqa: NPY002
            float(tf.random.uniform(())),
            float(keras.random.uniform(())),
        ]

    assert draw(randomizes=True) == draw(randomizes=False)
    keras.utils.set_random_seed(7)
    one = kernels(randomize(small_network()))
    keras.utils.set_random_seed(8)
    for before, after in zip(one, kernels(randomize(small_network()))):
        assert_array_equal(before, after)


def test_adapted_statistics_stay_and_moving_ones_start_anew():
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(5.0 + 3.0 * noise(50, 4, 4, 3))
    original = keras.Sequential(
        [keras.Input((4, 4, 3)), normalization, layers.BatchNormalization(name="batch")]
    )
    original.get_layer("batch").set_weights([np.full(3, value) for value in (2, 3, 4, 5)])
    images = noise(2, 4, 4, 3)
    copy = randomize(original)
    assert_array_equal(call(copy.get_layer("normalization"), images), call(normalization, images))
    assert [weight.mean() for weight in copy.get_layer("batch").get_weights()] == [1, 0, 0, 1]


def test_normalization_of_a_surgery_is_kept_too():
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(5.0 + 3.0 * noise(50, 4, 4, 3))
    original = keras.Sequential([keras.Input((4, 4, 3)), normalization])
    images = noise(2, 4, 4, 3)
    assert_array_equal(call(replace_downsampling(original).model, images), call(original, images))


# --- keras.applications


@pytest.mark.parametrize(
    ("name", "nb_replaced"),
    [("ResNet50V2", 8), ("MobileNetV2", 5), ("EfficientNetB0", 5), ("ConvNeXtTiny", 4)],
)
def test_applications(name, nb_replaced):
    build = getattr(keras.applications, name)
    original = build(weights=None, input_shape=(64, 64, 3), classes=10)
    if name == "ConvNeXtTiny":  # its LayerScale of 1e-6 hides what a block does
        original = randomly_weighted(original)
    images = noise(1, 64, 64, 3)
    copy = replace_downsampling(original, max_pool=None, strides=None).model
    assert_array_equal(call(copy, images), call(original, images))
    surgery = replace_downsampling(original)
    assert len(surgery.replaced) == nb_replaced
    assert surgery.model.count_params() == original.count_params()
    pooled = {part.layer for part in surgery.replaced if "+" in part.becomes}
    for layer in original.layers:
        last = f"{layer.name}_pool" if layer.name in pooled else layer.name
        assert surgery.model.get_layer(last).output.shape == layer.output.shape
    for kernel, before in zip(kernels(randomize(original)), kernels(original)):
        assert not np.allclose(kernel, before)


def test_random_weights_are_not_those_of_a_model_built_with_the_same_seed():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)])
    kernel, *_ = model.get_weights()
    assert not np.array_equal(randomize(model, seed=0).get_weights()[0], kernel)
