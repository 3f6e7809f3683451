"""
Gradients at layers against networks whose gradients are known in closed form, and checkerboards.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl
from kinds_models import swin_like

from xplique_forgrad.layers import (
    checkerboard_score,
    layerwise_high_frequency,
    mean_gradient_after,
)
from xplique_forgrad.layers._watch import spatial_layers
from xplique_forgrad.spectrum import high_frequency_power


def mean_of_maps(maps):
    """A measure that is linear in the gradient."""
    return np.asarray(maps).mean((1, 2))


def one_score(shape, layers, weights):
    """layers, then the sum of what they give times `weights`: the gradient there is `weights`."""
    inputs = keras.Input(shape, name="image")
    x = inputs
    for layer in layers:
        x = layer(x)
    head = kl.Dense(1, use_bias=False, name="score")
    model = keras.Model(inputs, head(kl.Flatten(name="flat")(x)))
    head.set_weights([np.asarray(weights, np.float32).reshape(-1, 1)])
    return model


ONE = np.ones((2, 1), np.float32)


class TestClosedForms:
    def test_pointwise_network(self, rng):
        """f(x) = sum_ij v_ij relu(w x_ij): the gradient is v behind the ReLU, v 1[w x > 0] before
        it, and w v 1[w x > 0] at the input."""
        v, w = rng.standard_normal((6, 5)), -1.5
        model = one_score(
            (6, 5, 1), [kl.Conv2D(1, 1, use_bias=False, name="conv"), kl.ReLU(name="relu")], v
        )
        model.get_layer("conv").set_weights([np.full((1, 1, 1, 1), w, np.float32)])
        x = rng.standard_normal((2, 6, 5, 1)).astype(np.float32)
        table = layerwise_high_frequency(model, x, ONE, measure=mean_of_maps).set_index("layer")

        active = (w * x[..., 0] > 0) * v
        expected = {"relu": v.mean(), "conv": active.mean(), "input": (w * active).mean()}
        for layer, value in expected.items():
            assert table.loc[layer, "mean"] == pytest.approx(value, rel=1e-5)
        per_image = (w * active).mean((1, 2))
        error = per_image.std(ddof=1) / np.sqrt(2)
        assert table.loc["input", "standard_error"] == pytest.approx(error, rel=1e-5)

    def test_strided_convolution_spreads_its_kernel(self, rng):
        """A 2 x 2 kernel k of stride 2: the gradient at the input is v_ij k_ab at (2i+a, 2j+b)."""
        v, kernel = rng.standard_normal((4, 3)), rng.standard_normal((2, 2))
        model = one_score((8, 6, 1), [kl.Conv2D(1, 2, 2, use_bias=False, name="conv")], v)
        model.get_layer("conv").set_weights([kernel[..., None, None]])
        x = rng.standard_normal((2, 8, 6, 1)).astype(np.float32)
        seen = {}

        def remember(maps):
            seen[maps.shape[1:]] = np.asarray(maps)
            return np.zeros(len(maps))

        table = layerwise_high_frequency(model, x, ONE, measure=remember)
        np.testing.assert_allclose(seen[(4, 3)][0], v, rtol=1e-5)
        np.testing.assert_allclose(seen[(8, 6)][1], np.kron(v, kernel), rtol=1e-5)
        assert table["layer"].tolist() == ["input", "conv"]
        assert table["stride"].tolist() == [1, 2]
        assert table["height"].tolist() == [8, 4]

    def test_a_layer_called_twice_is_two_places(self, rng):
        v = rng.standard_normal((4, 4))
        twice = kl.Conv2D(1, 1, use_bias=False, name="twice")
        model = one_score((4, 4, 1), [twice, twice], v)
        twice.set_weights([np.full((1, 1, 1, 1), 3, np.float32)])
        table = layerwise_high_frequency(
            model, np.ones((2, 4, 4, 1), np.float32), ONE, measure=mean_of_maps
        ).set_index("layer")
        assert table.index.tolist() == ["input", "twice", "twice (call 2)"]
        np.testing.assert_allclose(table["mean"], v.mean() * np.array([9, 3, 1]), rtol=1e-5)

    def test_tokens_are_laid_out_on_their_grid(self, rng):
        """A patch embedding, a class token before it, and a head on all tokens."""
        v = rng.standard_normal((1 + 12, 2))

        class WithToken(kl.Layer):
            def call(self, x):
                return keras.ops.concatenate([keras.ops.zeros_like(x[:, :1]), x], axis=1)

        model = one_score(
            (8, 6, 3),
            [kl.Conv2D(2, 2, 2, name="patches"), kl.Reshape((12, 2)), WithToken(name="token")],
            v,
        )
        seen = {}

        def remember(maps):
            seen[len(seen)] = np.asarray(maps)
            return np.zeros(len(maps))

        x = rng.standard_normal((2, 8, 6, 3)).astype(np.float32)
        table = layerwise_high_frequency(model, x, ONE, layers=["token"], measure=remember)
        assert table[["height", "width", "channels"]].values.tolist()[1] == [4, 3, 2]
        expected = v[1:].reshape(4, 3, 2).transpose(2, 0, 1)
        np.testing.assert_allclose(seen[0][:2], expected, rtol=1e-5)


class TestAgainstKeras:
    def test_gradients_are_those_of_a_model_with_many_outputs(self, classifier, images):
        inputs, targets, _ = images
        names = ["stem_relu", "pool", "block2_shortcut", "block3_add"]
        outputs = [classifier.get_layer(name).output for name in names]
        cut = keras.Model(classifier.inputs, [*outputs, classifier.output])
        x = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(x)
            *inner, logits = cut(x, training=False)
            score = tf.reduce_sum(logits * targets)
        gradients = dict(zip(["input", *names], tape.gradient(score, [x, *inner])))

        table = layerwise_high_frequency(classifier, inputs, targets, layers=names)
        assert table["layer"].tolist() == ["input", *names]
        for _, row in table.iterrows():
            by_channel = np.moveaxis(gradients[row["layer"]].numpy(), -1, 1)
            maps = by_channel.reshape(-1, *by_channel.shape[2:])
            alive = np.abs(maps).max((1, 2)) > 0
            shares = np.where(alive, high_frequency_power(maps), np.nan)
            per_image = np.nanmean(shares.reshape(len(inputs), -1), axis=1)
            assert row["mean"] == pytest.approx(per_image.mean(), abs=1e-4)
            assert row["zero_share"] == pytest.approx(1 - alive.mean())

    def test_batches_and_selections_change_nothing(self, classifier, images):
        inputs, targets, _ = images
        whole = layerwise_high_frequency(classifier, inputs, targets).set_index("layer")
        part = layerwise_high_frequency(
            classifier, inputs, targets, ["block1_add", "pool"], batch_size=4
        ).set_index("layer")
        dataset = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(2)
        streamed = layerwise_high_frequency(classifier, dataset, layers=["pool"])
        # forward order, whatever that of the names
        assert part.index.tolist() == ["input", "pool", "block1_add"]
        np.testing.assert_allclose(part["mean"], whole.loc[part.index, "mean"], atol=1e-4)
        assert streamed["mean"].iloc[1] == pytest.approx(whole.loc["pool", "mean"], abs=1e-4)
        assert whole.attrs["nb_images"] == len(inputs)

    def test_targets_are_the_predicted_class_by_default(self, classifier, images):
        predicted = np.argmax(classifier(images.inputs), -1)
        one_hot = np.eye(6, dtype=np.float32)[predicted]
        expected = layerwise_high_frequency(classifier, images.inputs, one_hot, ["pool"])
        found = layerwise_high_frequency(classifier, images.inputs, layers=["pool"])
        np.testing.assert_array_equal(found["mean"], expected["mean"])

    def test_the_model_is_left_as_it_was(self, classifier, images):
        before = classifier(images.inputs).numpy()
        # Xplique's GradCAM may have left a call of its own on a layer
        calls = [vars(layer).get("call") for layer in classifier.layers]
        layerwise_high_frequency(classifier, images.inputs, images.targets)

        def fails(maps):
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            layerwise_high_frequency(classifier, images.inputs, images.targets, measure=fails)
        assert [vars(layer).get("call") for layer in classifier.layers] == calls
        np.testing.assert_array_equal(classifier(images.inputs), before)

    @pytest.mark.parametrize("measure", ["expected_frequency", "compressed_size"])
    def test_measures_by_name_and_magnitudes(self, classifier, images, measure):
        table = layerwise_high_frequency(
            classifier, *images[:2], ["pool"], measure, rectify="magnitude"
        )
        assert (table["mean"] > 0).all()
        assert table.attrs["measure"] == measure


def make_body():
    return [
        kl.Conv2D(4, 3, 2, "same", name="first"),
        kl.ReLU(name="relu"),
        kl.MaxPooling2D(2, name="pool"),
        kl.Conv2D(3, 3, padding="same", name="last"),
    ]


def sequential():
    return keras.Sequential(
        [keras.Input((16, 16, 3)), *make_body(), kl.GlobalAveragePooling2D(), kl.Dense(2)]
    )


def nested():
    body = keras.Sequential([keras.Input((16, 16, 3)), *make_body()], name="body")
    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(body(inputs))))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = make_body()
        self.head = kl.Dense(2)

    def call(self, x):
        for layer in self.body:
            x = layer(x)
        return self.head(keras.ops.mean(x, axis=(1, 2)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 16, 16, 3), np.float32))
    return model


@pytest.mark.parametrize("build", [sequential, nested, subclassed])
def test_all_kinds_of_models_give_the_same_table(build, rng):
    inputs = rng.standard_normal((5, 16, 16, 3)).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1]]
    reference, model = sequential(), build()
    model.set_weights(reference.get_weights())
    expected = layerwise_high_frequency(reference, inputs, targets)
    table = layerwise_high_frequency(model, inputs, targets)
    prefix = "body/" if build is nested else ""
    names = ["input", *(prefix + name for name in ("first", "relu", "pool", "last"))]
    assert table["layer"].tolist() == names
    np.testing.assert_allclose(table["mean"], expected["mean"], rtol=1e-5)
    assert table["stride"].tolist() == [1, 2, 1, 2, 1]


def tokens_and_heads():
    """A ViT whose attention is written out, with a layer that gives a table of positions."""

    class WithToken(kl.Layer):
        def build(self, shape):
            self.token = self.add_weight(shape=(1, 1, 8), initializer="normal")

        def call(self, x):
            tokens = keras.ops.repeat(self.token, keras.ops.shape(x)[0], axis=0)
            return keras.ops.concatenate([tokens, x], axis=1)

    class Positions(kl.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(1, 17, 8), initializer="normal")

        def call(self, x):
            return self.table + 0.0

    inputs = keras.Input((16, 16, 3))
    x = kl.Reshape((16, 8))(kl.Conv2D(8, 4, 4, name="patches")(inputs))
    x = WithToken(name="token")(x)
    x = kl.Add(name="sum")([x, Positions(name="positions")(x)])
    heads = [kl.Permute((2, 1, 3))(kl.Reshape((17, 2, 4))(kl.Dense(8)(x))) for _ in range(3)]
    scores = keras.ops.matmul(heads[0], keras.ops.transpose(heads[1], (0, 1, 3, 2)))
    mixed = keras.ops.matmul(kl.Softmax(name="softmax")(scores), heads[2])
    x = kl.Add(name="block")([x, kl.Reshape((17, 8))(kl.Permute((2, 1, 3))(mixed))])
    return keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling1D()(x)))


def test_heads_and_positions_are_no_pictures(rng):
    """Of a batch of one image, too: there the table of positions has as many rows as images."""
    inputs = rng.standard_normal((5, 16, 16, 3)).astype(np.float32)
    model = tokens_and_heads()
    table = layerwise_high_frequency(model, inputs, batch_size=4)
    expected = ["input", "patches", "token", "dense", "dense", "dense", "sum", "block"]
    names = [name.rstrip("_0123456789") for name in table["layer"]]
    assert sorted(names) == sorted(expected)
    assert (table[["height", "width"]].to_numpy()[1:] == 4).all()
    assert table["stride"].tolist() == [1, 4] + [1] * (len(table) - 2)
    whole = layerwise_high_frequency(model, inputs, batch_size=5)
    np.testing.assert_allclose(table["mean"], whole["mean"], atol=1e-4)


@pytest.mark.parametrize(("sizes", "window"), [((16, 24), 2), ((16, 16), 4)])
def test_merged_patches_and_windows(rng, sizes, window):
    """
    Tokens lie on the grid of the patches, and on half of it once these are merged, two by two.

    Windows of the grid are none of these, though in the second case 16 tokens make a window, and
    a merged grid.
    """
    model = swin_like(*sizes, window=window)
    inputs = rng.random((3, *sizes, 3)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)
    table = layerwise_high_frequency(model, inputs, targets).set_index("layer")
    grids = {name: (row["height"], row["width"]) for name, row in table.iterrows()}
    patches, merged = (sizes[0] // 2, sizes[1] // 2), (sizes[0] // 4, sizes[1] // 4)
    for name in ("patches", "shifted_norm", "shifted_add"):
        assert grids[name] == patches
    for name in ("merging", "windows_norm", "windows_add", "norm"):
        assert grids[name] == merged
    assert set(grids.values()) == {sizes, patches, merged}
    assert "shifted_attention" not in grids

    below = keras.Model(model.input, model.get_layer("merging").output)
    tokens = tf.constant(below(inputs))
    above = keras.Model(model.get_layer("merging").output, model.output)
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        score = tf.reduce_sum(above(tokens) * targets)
    pictures = np.moveaxis(tape.gradient(score, tokens).numpy(), -1, 1).reshape(-1, *merged)
    expected = high_frequency_power(pictures).mean()
    assert table.loc["merging", "mean"] == pytest.approx(expected, rel=1e-4)


def test_cropping_and_padding_do_not_downsample(rng):
    layers = [kl.Cropping2D(4, name="crop"), kl.ZeroPadding2D(1), kl.UpSampling2D(2, name="up")]
    model = one_score((16, 16, 1), layers, rng.standard_normal((20, 20)))
    table = layerwise_high_frequency(model, rng.random((2, 16, 16, 1)).astype(np.float32), ONE)
    assert (table["stride"] == 1).all()


def test_resizing_layers_downsample_by_the_ratio_of_sizes(rng):
    model = one_score((16, 16, 1), [kl.Resizing(4, 8, name="resize")], rng.random((4, 8)))
    x = rng.random((2, 16, 16, 1)).astype(np.float32)
    table = layerwise_high_frequency(model, x, ONE).set_index("layer")
    assert table.loc["resize", "stride"] == 4


def test_layers_of_one_name_are_numbered(rng):
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = kl.Conv2D(2, 3, name="conv")
            self.second = kl.Conv2D(2, 3, name="conv")
            self.head = kl.Dense(2)

        def call(self, x):
            return self.head(keras.ops.mean(self.second(self.first(x)), axis=(1, 2)))

    model, x = Twice(), rng.random((2, 12, 12, 1)).astype(np.float32)
    model(x)
    table = layerwise_high_frequency(model, x)
    assert table["layer"].tolist() == ["input", "conv", "conv (2)"]
    assert table["height"].tolist() == [12, 10, 8]


def test_layers_inside_a_graph_of_their_own(rng):
    class Decorated(Subclassed):
        @tf.function
        def call(self, x):
            return super().call(x)

    inputs = rng.standard_normal((3, 16, 16, 3)).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[[0, 1, 0]]
    model = Decorated()
    model(inputs)
    with tf.GradientTape() as tape:
        x = tf.constant(inputs)
        tape.watch(x)
        score = tf.reduce_sum(model(x) * targets)
    maps = np.moveaxis(tape.gradient(score, x).numpy(), -1, 1).reshape(-1, 16, 16)
    found = layerwise_high_frequency(model, inputs, targets)
    assert found["layer"].tolist() == ["input", "first", "relu", "pool", "last"]
    assert found["mean"][0] == pytest.approx(high_frequency_power(maps).mean(), rel=1e-4)


def test_a_half_precision_model(rng):
    layers = [
        kl.Conv2D(4, 3, dtype="mixed_float16"),
        kl.GlobalAveragePooling2D(dtype="mixed_float16"),
        kl.Dense(2, dtype="mixed_float16"),
    ]
    model = keras.Sequential([keras.Input((12, 12, 3)), *layers])
    table = layerwise_high_frequency(model, rng.random((3, 12, 12, 3)).astype(np.float32))
    assert (table["mean"] > -1e-6).all()
    assert len(table) == 2


@pytest.mark.parametrize("name", ["VGG16", "ResNet50", "MobileNetV2", "EfficientNetB0"])
def test_applications_of_keras(name, rng):
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(64, 64, 3), classes=3, classifier_activation=None)
    inputs = 255 * rng.random((2, 64, 64, 3)).astype(np.float32)
    table = layerwise_high_frequency(model, inputs).set_index("layer")
    # the gradient at the input, by Keras alone
    with tf.GradientTape() as tape:
        x = tf.constant(inputs)
        tape.watch(x)
        score = tf.reduce_sum(tf.reduce_max(model(x, training=False), axis=-1))
    maps = np.moveaxis(tape.gradient(score, x).numpy(), -1, 1).reshape(-1, 64, 64)
    assert table.loc["input", "mean"] == pytest.approx(high_frequency_power(maps).mean(), abs=1e-3)
    # five halvings of 64 pixels
    assert table.loc[table["stride"] > 1, "height"].min() == 2
    assert {32, 16, 8, 4, 2} <= set(table["height"])


def test_half_precision_layers(rng):
    model = one_score(
        (8, 8, 1), [kl.Conv2D(1, 3, padding="same", dtype="mixed_float16")], np.ones((8, 8))
    )
    table = layerwise_high_frequency(model, rng.random((2, 8, 8, 1)).astype(np.float32), ONE)
    assert np.isfinite(table["mean"]).all()


def test_dead_channels_are_left_out_and_counted(rng):
    weights = np.zeros((4, 4, 2))
    weights[..., 0] = np.indices((4, 4)).sum(0) % 2
    model = one_score((4, 4, 2), [kl.ReLU(name="relu")], weights)
    x = 1 + rng.random((2, 4, 4, 2)).astype(np.float32)
    table = layerwise_high_frequency(model, x, ONE, measure=mean_of_maps).set_index("layer")
    assert table.loc["relu", "mean"] == pytest.approx(0.5)
    assert table.loc["relu", "zero_share"] == 0.5
    dead = layerwise_high_frequency(model, -x, ONE, measure=mean_of_maps).set_index("layer")
    assert dead.loc["input", "mean"] == 0
    assert dead.loc["input", "zero_share"] == 1


def test_one_image_tells_nothing_of_its_error(classifier, images):
    table = layerwise_high_frequency(classifier, images.inputs[:1], images.targets[:1], ["pool"])
    assert np.isfinite(table["mean"]).all()
    assert table["standard_error"].isna().all()


class TestBadInput:
    def test_callables_cannot_be_differentiated(self, images):
        with pytest.raises(TypeError, match=r"keras\.Model"):
            layerwise_high_frequency(lambda x: x, images.inputs, images.targets)

    def test_models_without_spatial_layers(self):
        model = keras.Sequential([keras.Input((4, 4, 1)), kl.Flatten(), kl.Dense(2)])
        with pytest.raises(ValueError, match="no spatial layers"):
            layerwise_high_frequency(model, np.ones((2, 4, 4, 1), np.float32))

    def test_models_of_tables(self):
        model = keras.Sequential([keras.Input((4,)), kl.Dense(2)])
        with pytest.raises(ValueError, match="images"):
            layerwise_high_frequency(model, np.ones((2, 4), np.float32))

    def test_unknown_layers(self, classifier, images):
        with pytest.raises(ValueError, match="block1_conv1"):
            layerwise_high_frequency(classifier, images.inputs, images.targets, ["block1_conv"])
        with pytest.raises(ValueError, match="No layer"):
            mean_gradient_after(classifier, images.inputs, layer="zzz")
        with pytest.raises(TypeError, match="layers"):
            layerwise_high_frequency(classifier, images.inputs, images.targets, 3)

    def test_names_that_stand_for_several(self):
        inner = [
            keras.Sequential([keras.Input((8, 8, 1)), kl.Conv2D(1, 3, name="conv")], name=name)
            for name in ("a", "b")
        ]
        model = one_score((8, 8, 1), [inner[0], kl.ZeroPadding2D(1), inner[1]], np.ones((6, 6)))
        with pytest.raises(ValueError, match="a/conv, b/conv"):
            layerwise_high_frequency(model, np.ones((2, 8, 8, 1), np.float32), ONE, ["conv"])

    def test_inputs_and_targets_that_disagree(self, classifier, images):
        with pytest.raises(ValueError, match="same N"):
            layerwise_high_frequency(classifier, images.inputs, images.targets[:2])
        with pytest.raises(ValueError, match="one-hot"):
            layerwise_high_frequency(classifier, images.inputs, images.targets[:, :3])
        with pytest.raises(ValueError, match="wants"):
            layerwise_high_frequency(classifier, images.inputs[:, :50], images.targets)

    def test_gradients_that_are_not_finite(self):
        model = one_score((4, 4, 1), [kl.ReLU(name="relu")], np.full((4, 4), np.inf))
        with pytest.raises(ValueError, match="relu"):
            layerwise_high_frequency(model, np.ones((2, 4, 4, 1), np.float32), ONE)

    def test_measures(self, classifier, images):
        with pytest.raises(ValueError, match="high_frequency_power"):
            layerwise_high_frequency(classifier, *images[:2], measure="entropy")
        with pytest.raises(ValueError, match="one finite number a map"):
            layerwise_high_frequency(classifier, *images[:2], measure=lambda maps: np.zeros(1))

    def test_batch_size(self, classifier, images):
        with pytest.raises(ValueError, match="batch_size"):
            layerwise_high_frequency(classifier, *images[:2], batch_size=0)

    def test_inputs_that_are_not_finite(self, classifier, images):
        inputs = images.inputs.copy()
        inputs[3, 5, 6, 0] = np.nan
        with pytest.raises(ValueError, match="Input 3"):
            layerwise_high_frequency(classifier, inputs, images.targets, batch_size=2)
        with pytest.raises(ValueError, match="Input 3"):
            mean_gradient_after(classifier, inputs, images.targets, layer="pool")

    def test_models_of_several_inputs_or_outputs(self, rng):
        images, other = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
        x = kl.GlobalAveragePooling2D()(kl.Conv2D(2, 3)(kl.Add()([images, other])))
        data = rng.random((2, 8, 8, 1)).astype(np.float32)
        with pytest.raises(ValueError, match="2 inputs"):
            layerwise_high_frequency(keras.Model([images, other], x), data)
        y = kl.GlobalAveragePooling2D()(kl.Conv2D(2, 3)(images))
        model = keras.Model(images, [y, kl.Dense(3)(y)])
        with pytest.raises(ValueError, match="operator"):
            layerwise_high_frequency(model, data)
        table = layerwise_high_frequency(
            model, data, ONE, operator=lambda f, x, y: tf.reduce_sum(f(x)[1], axis=-1)
        )
        assert len(table) == 2

    def test_no_or_single_inputs(self, classifier, images):
        with pytest.raises(ValueError, match="at least one"):
            layerwise_high_frequency(classifier, images.inputs[:0])
        with pytest.raises(ValueError, match=r"inputs\[None\]"):
            layerwise_high_frequency(classifier, images.inputs[0])

    @pytest.mark.parametrize("head", [[kl.Dense(2, "softmax")], [kl.Dense(2), kl.Softmax()]])
    def test_a_softmax_is_warned_of(self, rng, head):
        body = [keras.Input((8, 8, 1)), kl.Conv2D(2, 3), kl.GlobalAveragePooling2D()]
        model = keras.Sequential([*body, *head])
        with pytest.warns(UserWarning, match="logits") as record:
            layerwise_high_frequency(model, rng.random((2, 8, 8, 1)).astype(np.float32))
        assert record[0].filename == __file__

    def test_one_layer_at_a_time(self, classifier, images):
        for layer in (None, ["pool", "stem"]):
            with pytest.raises(TypeError, match="one layer"):
                mean_gradient_after(classifier, images.inputs, layer=layer)

    def test_scores_without_a_gradient(self, classifier, images):
        with pytest.raises(ValueError, match="no gradient"):
            layerwise_high_frequency(
                classifier,
                *images[:2],
                operator=lambda f, x, y: tf.cast(tf.argmax(f(x), -1), tf.float32),
            )


class TestCheckerboard:
    @pytest.mark.parametrize("stride", [2, 3, 4])
    def test_is_the_energy_at_the_alias_frequencies(self, rng, stride):
        pictures = rng.random((4, 24, 36))
        power = np.abs(np.fft.fft2(pictures)) ** 2
        power[:, 0, 0] = 0
        alias = power[:, :: 24 // stride, :: 36 // stride].sum((1, 2))
        np.testing.assert_allclose(checkerboard_score(pictures, stride), alias / power.sum((1, 2)))

    def test_pure_patterns_score_one_and_constants_zero(self):
        rows, columns = np.indices((9, 11))
        pictures = [(rows + columns) % 2, rows % 2 + 3 * (columns % 2), np.ones((9, 11))]
        np.testing.assert_allclose(checkerboard_score(pictures), [1, 1, 0], atol=1e-12)

    def test_strides_of_their_own_down_and_across(self, rng):
        pictures = rng.random((3, 24, 36))
        power = np.abs(np.fft.fft2(pictures)) ** 2
        power[:, 0, 0] = 0
        alias = power[:, :: 24 // 2, ::36].sum((1, 2))
        found = checkerboard_score(pictures, (2, 1))
        np.testing.assert_allclose(found, alias / power.sum((1, 2)))

    def test_noise_scores_what_it_should(self, rng):
        found = checkerboard_score(rng.standard_normal((4000, 12, 15)), 3)
        expected = (3**2 - 1) / (12 * 15 - 1)
        assert found.mean() == pytest.approx(expected, abs=4 * found.std() / 4000**0.5)

    def test_bad_pictures(self):
        with pytest.raises(ValueError, match="shape"):
            checkerboard_score(np.ones((8, 8)))
        with pytest.raises(ValueError, match="NaN"):
            checkerboard_score(np.full((1, 8, 8), np.nan))
        for stride in (1, 9, 2.5, True, (1, 1), (2, 9), (2,)):
            with pytest.raises(ValueError, match="stride"):
                checkerboard_score(np.ones((1, 8, 8)), stride)


class TestMeanGradient:
    X = np.random.default_rng(0).random((3, 8, 8, 1)).astype(np.float32)
    Y = np.ones((3, 1), np.float32)

    def test_a_convolution_of_one_pixel_leaves_holes(self):
        # in graphs: eagerly, TensorFlow 2.20 corrupts memory in the filter's gradient of this layer
        layer = kl.Conv2D(1, 1, 2, use_bias=False, name="down", kernel_initializer="ones")
        model = one_score((8, 8, 1), [layer], np.full((4, 4), 2.0))
        found = mean_gradient_after(model, self.X, self.Y, layer="down")
        expected = np.zeros((8, 8))
        expected[::2, ::2] = 2
        np.testing.assert_allclose(found.picture, expected)
        assert found.checkerboard == pytest.approx(1)
        assert (found.stride, found.layer, found.nb_images) == (2, "down", 3)
        assert found.expected_of_noise == pytest.approx(3 / 63)

    @pytest.mark.parametrize(("size", "score"), [(2, 0), (3, None)])
    def test_average_pooling_is_even_unless_its_windows_overlap(self, size, score):
        layer = kl.AveragePooling2D(size, 2, "valid", name="down")
        outputs = (8 - size) // 2 + 1
        model = one_score((8, 8, 1), [layer], np.ones((outputs, outputs)))
        found = mean_gradient_after(model, self.X, self.Y, layer="down")
        # how many windows hold each pixel
        inside = np.array(
            [sum(2 * i <= p < 2 * i + size for i in range(outputs)) for p in range(8)]
        )
        np.testing.assert_allclose(found.picture, np.outer(inside, inside) / size**2, rtol=1e-5)
        if score is None:
            assert found.checkerboard > 0.3
        else:
            assert found.checkerboard == score

    def test_only_what_comes_through_the_layer_counts(self):
        """Beside a shortcut: the gradient behind the layer, not that of what both are given."""
        inputs = keras.Input((8, 8, 1))
        branch = kl.Conv2D(1, 1, use_bias=False, name="branch", kernel_initializer="ones")(inputs)
        outputs = kl.Flatten()(kl.Add()([branch, inputs]))
        head = kl.Dense(1, use_bias=False, kernel_initializer="ones")
        model = keras.Model(inputs, head(outputs))
        found = mean_gradient_after(model, self.X, self.Y, layer="branch")
        np.testing.assert_allclose(found.picture, 1)

    def test_signs_cancel_unless_rectified(self):
        weights = np.where(np.indices((8, 8)).sum(0) % 2, 1.0, -1.0)
        layer = kl.Conv2D(2, 1, use_bias=False, name="two")
        model = one_score((8, 8, 1), [layer], np.stack([weights, weights], -1))
        layer.set_weights([np.array([1.0, -1.0]).reshape(1, 1, 1, 2)])
        tail = kl.Activation("linear", name="after")
        model = one_score((8, 8, 2), [tail, kl.ReLU()], np.stack([weights, -weights], -1))
        x = np.ones((3, 8, 8, 2), np.float32)
        mean = {
            rectify: mean_gradient_after(
                model, x, self.Y, layer=model.layers[2], rectify=rectify
            ).picture
            for rectify in (None, "magnitude", "positive")
        }
        np.testing.assert_allclose(mean[None], 0)
        np.testing.assert_allclose(mean["magnitude"], 1)
        np.testing.assert_allclose(mean["positive"], 0.5)

    def test_one_layer_called_once(self):
        twice = kl.ReLU(name="twice")
        model = one_score((8, 8, 1), [twice, twice], np.ones((8, 8)))
        with pytest.raises(ValueError, match="more than once"):
            mean_gradient_after(model, self.X, self.Y, layer="twice")
        with pytest.raises(ValueError, match=r"pictures|spatial"):
            mean_gradient_after(model, self.X, self.Y, layer="score")


def test_paths_of_nested_models():
    assert list(spatial_layers(nested()))[:4] == [
        f"body/{n}" for n in ("first", "relu", "pool", "last")
    ]
