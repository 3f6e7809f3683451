"""
Diagnoses of networks whose faults are planted, and of the bundled ones.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from xplique_forgrad.demo import load_images
from xplique_forgrad.layers import diagnose, layerwise_high_frequency
from xplique_forgrad.layers._diagnosis import _shared_grid


@pytest.fixture(scope="module")
def found(classifier):
    return diagnose(classifier, *load_images(8, seed=5)[:2])


def planted(*layers):
    """Layers, the mean of what they give, and a head: all gradients behind them are constant."""
    inputs = keras.Input((16, 16, 1))
    x = inputs
    for layer in layers:
        x = layer(x)
    head = kl.Dense(1, use_bias=False, kernel_initializer="ones", name="score")
    return keras.Model(inputs, head(kl.GlobalAveragePooling2D(name="mean")(x)))


class TestPlanted:
    X = np.random.default_rng(0).random((4, 16, 16, 1)).astype(np.float32)
    Y = np.ones((4, 1), np.float32)

    def test_holes_of_a_convolution_of_one_pixel(self):
        """Its gradient is a comb of every second pixel: 3/4 of its energy lies at the aliases."""
        conv = kl.Conv2D(1, 1, 2, use_bias=False, kernel_initializer="ones", name="holes")
        found = diagnose(planted(conv), self.X, self.Y)
        row = found.layers.set_index("layer").loc["holes"]
        assert (row["before"], row["stride"]) == (0, 2)
        assert row["injected"] == pytest.approx(0.75, abs=1e-5)
        assert row["checkerboard"] == pytest.approx(1)
        assert (found.grid.stride, found.grid.layer) == (2, "input")
        assert found.grid.checkerboard == pytest.approx(1)
        assert not found.has_grid
        assert "Too few images" in str(found)
        many = diagnose(planted(conv), np.tile(self.X, (3, 1, 1, 1)), np.tile(self.Y, (3, 1)))
        assert many.has_grid
        assert "grid of 2 pixels" in str(many)

    def test_even_pooling_injects_nothing(self):
        x, y = np.tile(self.X, (3, 1, 1, 1)), np.tile(self.Y, (3, 1))
        found = diagnose(planted(kl.AveragePooling2D(2, name="even")), x, y)
        row = found.layers.set_index("layer").loc["even"]
        assert row["injected"] == pytest.approx(0, abs=1e-6)
        assert row["checkerboard"] == 0
        assert "share next to no grid" in str(found)
        assert found.twin_curve is None
        assert "no max pooling, no strided" in str(found)

    def test_what_pooling_and_holes_inject_of_a_noisy_gradient(self, rng):
        """Repeating pixels leaves (1/2 + 1/pi)^2 of white noise in band, holes leave a quarter."""
        weights = rng.standard_normal((16, 48 * 48)).astype(np.float32)
        found = {}
        for layer in (
            kl.AveragePooling2D(2, name="even"),
            kl.Conv2D(1, 1, 2, use_bias=False, kernel_initializer="ones", name="holes"),
        ):
            inputs = keras.Input((96, 96, 1))
            head = kl.Dense(16, use_bias=False)
            model = keras.Model(inputs, head(kl.Flatten()(layer(inputs))))
            head.set_weights([weights.T])
            x = rng.random((16, 96, 96, 1)).astype(np.float32)
            rows = diagnose(model, x, np.eye(16, dtype=np.float32)).layers.set_index("layer")
            found[layer.name] = rows.loc[layer.name, "injected"]
        assert found["even"] == pytest.approx(1 - (1 / 2 + 1 / np.pi) ** 2, abs=0.02)
        assert found["holes"] == pytest.approx(3 / 4, abs=0.02)

    def test_an_axis_that_is_not_downsampled_is_not_blamed(self):
        """Rows alternate in the gradient that reaches a pooling across: it has put in nothing."""
        weights = np.zeros((16, 8), np.float32) + np.where(np.arange(16) % 2, 1, -1)[:, None]
        inputs = keras.Input((16, 16, 1))
        x = kl.AveragePooling2D((1, 2), name="across")(inputs)
        head = kl.Dense(1, use_bias=False)
        model = keras.Model(inputs, head(kl.Flatten()(x)))
        head.set_weights([weights.reshape(-1, 1)])
        row = diagnose(model, self.X, self.Y).layers.set_index("layer").loc["across"]
        assert row["injected"] == pytest.approx(0, abs=1e-6)
        assert row["checkerboard"] == 0

    def test_relu_injects_by_its_mask(self):
        """The gradient behind a ReLU is 1[x > 0]; a constant before it has no high frequency."""
        relu = kl.ReLU(name="relu")
        x = np.random.default_rng(0).standard_normal((4, 16, 16, 1)).astype(np.float32)
        row = diagnose(planted(relu), x, self.Y).layers.set_index("layer").loc["relu"]
        curve = layerwise_high_frequency(planted(relu), x, self.Y, ["relu"])
        assert row["before"] == pytest.approx(0, abs=1e-6)
        assert row["behind"] == pytest.approx(curve["mean"][0])
        # half of the energy of a random mask is its mean, and 80 % of the rest lies beyond
        assert row["injected"] == pytest.approx(0.4, abs=0.05)

    def test_surgery_mends_the_holes(self):
        conv = kl.Conv2D(1, 1, 2, use_bias=False, kernel_initializer="ones", name="holes")
        found = diagnose(planted(conv), self.X, self.Y)
        assert [r.layer for r in found.surgery.replaced] == ["holes"]
        assert found.map_share.mean() > 0.7
        assert found.twin_map_share.mean() == pytest.approx(0, abs=1e-6)
        assert found.change is None  # one output: no classes


def test_curves_are_those_of_the_layer_analysis(found, classifier):
    inputs, targets, _ = load_images(8, seed=5)
    expected = layerwise_high_frequency(classifier, inputs, targets)
    np.testing.assert_allclose(found.curve["mean"], expected["mean"], atol=1e-5)
    assert found.curve["layer"].tolist() == expected["layer"].tolist()


def test_strided_layers_inject_more_in_the_bundled_network(found):
    layers = found.layers
    assert layers.loc[layers["stride"] > 1, "injected"].mean() > 0.3
    assert found.twin_map_share.mean() < found.map_share.mean()
    frame = found.to_frame()
    assert frame["injected"].is_monotonic_decreasing
    assert len(frame) == len(layers)
    assert "MaxPooling2D / 2" in found.by_type().index
    assert found.change.nb_images == 8


def test_the_report_says_what_to_do_next(found):
    text = str(found)
    assert f"Start from sigma = {found.sigma:g}" in text
    assert "SigmaOptimizer" in text
    assert "block2_shortcut" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_the_guess_is_near_the_cutoffs_that_searches_find(classifier):
    """docs/demonstration.md: 1 to 6 cycles for Saliency."""
    assert 2 <= diagnose(classifier, *load_images(32)[:2]).sigma <= 6


def test_without_labels_there_is_no_accuracy(classifier):
    found = diagnose(classifier, load_images(4, seed=5).inputs)
    assert found.change.accuracy_before is None
    assert "accuracy" not in str(found)


def test_one_image_is_reported_without_errors(classifier):
    found = diagnose(classifier, *load_images(1, seed=5)[:2])
    assert found.layers["standard_error"].isna().all()
    assert "nan" not in str(found)
    assert "(share of power)." in str(found)
    assert "maps with 0." in str(found)


def test_maps_that_suggest_no_cutoff():
    """A linear model has one map whatever the noise, and a dead one has none at all."""
    x = np.random.default_rng(0).random((4, 16, 16, 1)).astype(np.float32)
    targets = np.ones((4, 1), np.float32)
    linear = diagnose(planted(kl.Conv2D(1, 3, name="conv")), x, targets)
    assert linear.sigma is None
    assert "agree everywhere" in str(linear)
    dead = diagnose(planted(kl.ReLU(name="relu")), -1 - x, targets)
    assert dead.sigma is None
    assert "agree nowhere" in str(dead)
    assert dead.plot() is not None
    with pytest.raises(ValueError, match="equal"):
        diagnose(planted(kl.ReLU()), 0 * x, targets)


def test_seeds_datasets_and_batches(classifier, found):
    inputs, targets, _ = load_images(8, seed=5)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(3)
    streamed = diagnose(classifier, dataset, batch_size=3)
    np.testing.assert_allclose(
        streamed.correlation.correlation, found.correlation.correlation, atol=1e-4
    )
    other = diagnose(classifier, inputs, targets, seed=1)
    assert not np.allclose(other.correlation.correlation, found.correlation.correlation)


def test_models_that_cannot_be_copied_are_diagnosed_without_a_twin(rng):
    class Body(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = kl.Conv2D(2, 3, 2, padding="same")
            self.head = kl.Dense(2)

        def call(self, x):
            return self.head(keras.ops.mean(self.conv(x), axis=(1, 2)))

    model, x = Body(), rng.random((3, 16, 16, 1)).astype(np.float32)
    model(x)
    with pytest.warns(UserWarning, match="no twin") as record:
        found = diagnose(model, x)
    assert record[0].filename == __file__
    assert found.surgery is None
    assert "No twin" in str(found)
    assert found.plot() is not None


def test_bad_input(classifier, images):
    with pytest.raises(TypeError, match=r"keras\.Model"):
        diagnose(len, images.inputs)
    assert diagnose(classifier, *images[:2], noise=np.float32(0.2)).sigma is not None
    for noise in (0, -1, np.nan, "much", True):
        with pytest.raises(ValueError, match="noise"):
            diagnose(classifier, *images[:2], noise=noise)
    with pytest.raises(ValueError, match="seed"):
        diagnose(classifier, *images[:2], seed=-1)


def test_the_shared_grid_is_looked_for_at_the_strides_of_the_model(rng):
    rows, _ = np.indices((32, 32))
    picture = (rows % 4 == 0) + 0.2 * rng.random((32, 32))
    assert _shared_grid(picture, [32, 16, 8], 5).stride == 4
    picture = (rows % 2 == 0) + 0.2 * rng.random((32, 32))
    assert _shared_grid(picture, [32, 16, 8, 4], 5).stride == 2
