"""
Diagnoses of networks whose faults are planted, and of the bundled ones.
"""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl
from xplique.commons import Tasks

from xplique_forgrad import forgrad
from xplique_forgrad.demo import load_images
from xplique_forgrad.layers import checkerboard_score, diagnose, layerwise_high_frequency
from xplique_forgrad.layers._diagnosis import _shared_grid
from xplique_forgrad.spectrum import RingCorrelation


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
        assert row["stride"] == 2
        # by definition none, which is no measurement
        assert np.isnan(row["before"])
        assert row["injected"] == pytest.approx(0.75, abs=1e-5)
        assert row["checkerboard"] == pytest.approx(1)
        assert (found.grid.stride, found.grid.layer) == (2, "input")
        assert found.grid.checkerboard == pytest.approx(1)
        assert not found.has_grid
        assert found.grid_frequency is None
        assert "Too few images" in str(found)
        many = diagnose(planted(conv), np.tile(self.X, (3, 1, 1, 1)), np.tile(self.Y, (3, 1)))
        assert many.has_grid
        assert "grid of 2 pixels" in str(many)
        # below the grid the maps hold nothing that could agree
        assert (many.resolution, many.grid_frequency, many.sigma) == (0, 8, None)

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
        assert np.isnan(row["checkerboard"])
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
    assert found.snippet in text
    assert "units of the inputs after preprocessing" in flat(text)
    assert "block2_shortcut" in text


def flat(text):
    """The text as one line."""
    return " ".join(text.split())


def test_the_cutoff_below_a_grid_is_the_resolution(found):
    """The grid of the bundled network, 4 of 96 pixels, lies far beyond what maps agree on."""
    assert (found.grid.stride, found.grid_frequency) == (4, 24)
    assert found.sigma == found.resolution < 24
    assert "It takes out the grid, at 24 cycles." in flat(str(found))


def test_no_cutoff_that_keeps_the_grid_is_suggested(rng):
    """Untrained strides: maps of noisy copies agree on the grid too, beyond its frequency."""
    keras.utils.set_random_seed(1)
    inputs = x = keras.Input((64, 64, 3))
    for _ in range(3):
        x = kl.LeakyReLU(0.8)(kl.Conv2D(8, 3, 2, padding="same")(x))
    model = keras.Model(inputs, kl.Dense(4)(kl.GlobalAveragePooling2D()(x)))
    images = rng.standard_normal((12, 64, 64, 3)).astype(np.float32)
    found = diagnose(model, images, verbose=0)
    assert (found.grid.stride, found.grid_frequency, found.sigma) == (8, 8, 7)
    assert found.resolution > 8

    def repeating(sigma):
        """Variance that repeats every 8 pixels."""
        kept = np.asarray(forgrad(found.grid.picture[np.newaxis], sigma, rectify=None))
        return checkerboard_score(kept, 8)[0] * kept.var()

    whole = repeating(found.correlation.radius[-1])
    assert repeating(found.sigma) < 1e-9 * whole
    assert repeating(found.resolution) > 0.1 * whole
    for resolution in (20, 8, 5):
        radius = np.arange(46)
        correlation = RingCorrelation(radius, np.where(radius <= resolution, 1.0, 0.0))
        planted = dataclasses.replace(found, correlation=correlation)
        text = flat(str(planted))
        assert planted.sigma == min(resolution, 7)
        assert f"agree up to {resolution} cycles" in text
        assert ("sigma = 7, the last whole number below the grid" in text) == (resolution > 7)
        assert ("Cutoffs from 8 on keep some of it" in text) == (resolution > 7)


def test_what_is_0_by_definition_is_no_measurement(found):
    strided = found.layers["stride"] > 1
    np.testing.assert_array_equal(found.layers["before"].isna(), strided)
    np.testing.assert_array_equal(found.layers["checkerboard"].isna(), ~strided)
    np.testing.assert_allclose(
        found.layers.loc[strided, "injected"], found.layers.loc[strided, "behind"]
    )
    assert any("Conv2D/2      -" in line for line in str(found).splitlines())
    assert '"-": before the layer there is none by definition' in flat(str(found))


def test_shares_say_what_they_are_of(found):
    text = flat(str(found))
    assert "Share of the power that lies beyond a quarter of the size" in text
    assert "beyond 24 cycles along 96 pixels" in text
    assert "of the variance of the mean map repeats every 4 pixels" in text
    assert "Share of the power of the gradient that is high frequency" in text
    assert "of their power beyond a quarter of the size" in text


def test_the_report_fits_a_phone(found):
    long = found.layers.assign(
        layer="backbone/" + 9 * "deep/" + found.layers["layer"], type=6 * "Custom" + "Layer"
    )
    strange = dataclasses.replace(found, model_name=90 * "m", layers=long)
    for report in (found, strange):
        assert max(map(len, str(report).splitlines())) <= 60


def test_notebooks_show_the_report_as_text_that_flows(found):
    named = dataclasses.replace(found, model_name="<script>")
    shown = named._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert found.snippet.splitlines()[0] in shown
    # every layer in the table that unfolds, and none in lines that do not wrap
    folded = shown.split("<details>")[1]
    assert all(f"<td>{name}</td>" in folded for name in found.layers["layer"])
    assert shown.count("<pre") == 1


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 1))
    x = kl.Conv2D(4, 3, 2, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, kl.Dense(3)(kl.Flatten()(x)))


class TestSnippet:
    """The suggested search runs as it is pasted, without a warning."""

    X = np.random.default_rng(0).random((9, 16, 16, 1)).astype(np.float32)

    @staticmethod
    def run(found, **names):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            exec(found.snippet, names)
        return names["search"]

    def test_of_a_classifier(self, classifier, found):
        inputs, targets, _ = load_images(8, seed=5)
        search = self.run(found, model=classifier, inputs=inputs, targets=targets)
        options = search.settings.scoring.options
        assert (options["activation"], options["operator"]) == ("softmax", None)
        assert float(search.settings.scoring.baseline) == pytest.approx(inputs.mean(), abs=0.01)
        assert found.sigma in [candidate.sigma for candidate in search.candidates]

    def test_of_predicted_classes_and_datasets(self, model):
        x, y = 255 * self.X, np.eye(3, dtype=np.float32)[np.arange(9) % 3]
        found = diagnose(model, x, verbose=0)
        assert "search(inputs)" in found.snippet
        search = self.run(found, model=model, inputs=x)
        # in the units of the inputs, to a hundredth of their range
        assert float(search.settings.scoring.baseline) == pytest.approx(x.mean(), abs=2.55)
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        self.run(diagnose(model, dataset, verbose=0), model=model, inputs=dataset)

    def test_of_operators(self, model):
        def score(model, x, y):
            return tf.reduce_sum(model(x) * y, axis=-1)

        y = np.eye(3, dtype=np.float32)[np.arange(9) % 3]
        found = diagnose(model, self.X, y, operator=score, verbose=0)
        assert found.snippet.count("operator=score") == 2
        assert "operator` is the one that you gave" in str(found)
        self.run(found, model=model, inputs=self.X, targets=y, score=score)
        found = diagnose(model, self.X, y, operator=lambda m, x, y: score(m, x, y), verbose=0)
        assert "operator=operator" in found.snippet
        found = diagnose(model, self.X, y, operator="classification", verbose=0)
        search = self.run(found, model=model, inputs=self.X, targets=y)
        assert search.settings.scoring.options["activation"] == "softmax"

    @pytest.mark.parametrize("how", ["semantic segmentation", Tasks.SEMANTIC_SEGMENTATION])
    def test_of_tasks(self, how):
        inputs = keras.Input((16, 16, 1))
        model = keras.Model(inputs, kl.Conv2D(2, 3, padding="same")(inputs))
        y = np.zeros((9, 16, 16, 2), np.float32)
        y[..., 1] = 1
        found = diagnose(model, self.X, y, operator=how, verbose=0)
        assert 'Saliency(model, operator="semantic segmentation")' in found.snippet
        # its outputs are logits of each pixel
        assert 'activation="softmax"' in found.snippet
        self.run(found, model=model, inputs=self.X, targets=y)

    def test_of_probabilities_single_outputs_and_several_labels(self, model):
        y = np.eye(3, dtype=np.float32)[np.arange(9) % 3]
        probabilities = keras.Model(model.input, kl.Softmax()(model.output))
        with pytest.warns(UserWarning, match="softmax"):
            found = diagnose(probabilities, self.X, y, verbose=0)
        assert "activation=None" in found.snippet
        self.run(found, model=probabilities, inputs=self.X, targets=y)
        single = keras.Model(model.input, kl.Dense(1)(model.output))
        found = diagnose(single, self.X, np.ones((9, 1), np.float32), verbose=0)
        assert "activation=None" in found.snippet
        found = diagnose(model, self.X, np.ones((9, 3), np.float32), verbose=0)
        assert 'activation="sigmoid"' in found.snippet


@pytest.mark.parametrize(("layer", "nb_passes"), [(kl.ReLU(), 4), (kl.MaxPooling2D(2), 7)])
def test_progress_counts_all_passes_from_the_start(layer, nb_passes, capsys):
    """Layers, maps and two noisy copies; of a twin layers, maps and predictions."""
    x = np.random.default_rng(0).random((5, 16, 16, 1)).astype(np.float32)
    model, targets = planted(layer), np.ones((5, 1), np.float32)
    diagnose(model, x, targets, batch_size=2, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"0/{3 * nb_passes} gradients at the layers ..."
    assert lines[-1].startswith(f"{3 * nb_passes}/{3 * nb_passes}")
    diagnose(model, x, targets, batch_size=2, verbose=0)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="verbose"):
        diagnose(model, x, targets, verbose="much")


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
    assert "±" not in str(found).split("What average pooling would change")[0]


def test_maps_that_suggest_no_cutoff():
    """A linear model has one map whatever the noise, and a dead one has none at all."""
    x = np.random.default_rng(0).random((4, 16, 16, 1)).astype(np.float32)
    targets = np.ones((4, 1), np.float32)
    linear = diagnose(planted(kl.Conv2D(1, 3, name="conv")), x, targets)
    assert linear.sigma is None
    assert "sigmas=" not in linear.snippet
    assert "agree everywhere" in str(linear)
    dead = diagnose(planted(kl.ReLU(name="relu")), -1 - x, targets)
    assert dead.sigma is None
    assert "disagree from 1 cycle on" in flat(str(dead))
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
    # Xplique explains no subclassed model as it is
    TestSnippet.run(found, model=model, inputs=x)
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
