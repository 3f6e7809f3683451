"""
Models whose decisions are known: linear ones, and ones that read only some frequencies.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_linearization import linear_model

from xplique_forgrad import forgrad, full_band_sigma
from xplique_forgrad.decisions import Band, band_attack, decision_relevance
from xplique_forgrad.decisions._margins import random_directions
from xplique_forgrad.plots import plot_relevance

SHAPE = (12, 10, 2)
SIGMAS, NORMS = [3.0], [0.5, 2.0]


class Bands(keras.layers.Layer):
    """Keeps the frequencies of images above one cutoff and up to another."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def call(self, images):
        kept = forgrad(images, self.high, rectify=None)
        return kept - forgrad(images, self.low, rectify=None) if self.low else kept


def reading(low, high, shape=(16, 16, 1), seed=1):
    """A network of three classes that sees these frequencies alone."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(shape)
    hidden = keras.layers.Conv2D(4, 3, activation="softplus")(Bands(low, high)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(hidden)))


def filtered(maps, sigma):
    return forgrad(maps, sigma, rectify=None).numpy() if sigma else np.zeros_like(maps)


@pytest.fixture
def weights(rng):
    return rng.normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def linear(weights):
    return linear_model(weights)


@pytest.fixture
def images(rng, weights):
    """Images whose decision for the second class is right, but the last one's."""
    found = rng.normal(size=(5, *SHAPE))
    signs = np.sign(np.einsum("nhwc,hwc->n", found, weights))
    signs[-1] *= -1
    return (found * signs[:, None, None, None]).astype(np.float32)


def second_class(number, nb_classes=2):
    return np.tile(np.eye(nb_classes, dtype=np.float32)[1], (number, 1))


def test_of_a_linear_model_the_change_is_the_share_of_the_energy(linear, images, weights):
    found = decision_relevance(linear, images, second_class(5), sigmas=SIGMAS, norms=NORMS)
    assert found.bands[0] == Band("full", 0.0, full_band_sigma(SHAPE[:2]))
    margins = np.einsum("nhwc,hwc->n", images, weights)
    np.testing.assert_allclose(found.margins, margins, rtol=1e-4)
    whole = np.sum(weights**2)
    for band, energy, change in zip(found.bands, found.energy, found.change):
        part = filtered(weights[np.newaxis].astype(float), band.high)[0]
        part = part - filtered(weights[np.newaxis].astype(float), band.low)[0]
        np.testing.assert_allclose(energy, np.sum(part**2) / whole, rtol=1e-5)
        expected = -np.outer(NORMS, np.full(5, np.sqrt(np.sum(part**2))))
        np.testing.assert_allclose(change, expected, rtol=1e-3, atol=1e-5)
    shares = (found.change / found.change[0]) ** 2
    np.testing.assert_allclose(shares, np.stack([found.energy] * 2, axis=1), rtol=2e-3)
    octaves = [index for index, band in enumerate(found.bands) if band.kind == "octave"]
    np.testing.assert_allclose(found.energy[octaves].sum(axis=0), 1, rtol=1e-5)


def test_flips_are_those_of_decisions_that_were_right(linear, images, weights):
    norm = np.abs(np.einsum("nhwc,hwc->n", images, weights)).max() / np.linalg.norm(weights)
    found = decision_relevance(linear, images, second_class(5), sigmas=[3], norms=[1.01 * norm])
    np.testing.assert_array_equal(found.is_right, [True] * 4 + [False])
    np.testing.assert_array_equal(found.flipped[0, 0], [True] * 4 + [False])
    table = found.to_frame()
    assert set(table["nb_right"]) == {4}
    assert set(table["nb_images"]) == {5}
    assert table["flipped"].iloc[0] == 1
    assert table["change"].iloc[0] == pytest.approx(found.change[0, 0].mean())


@pytest.mark.parametrize(("low", "high", "kind"), [(0, 4, "below"), (4, 11.4, "above")])
def test_only_the_band_that_a_network_reads_decides(low, high, kind, rng):
    model, images = reading(low, high), rng.normal(size=(4, 16, 16, 1)).astype(np.float32)
    found = decision_relevance(model, images, sigmas=[4], norms=[1.0])
    changes = {band.kind: change for band, change in zip(found.bands, found.change)}
    other = {"below": "above", "above": "below"}[kind]
    np.testing.assert_allclose(changes[kind], changes["full"], rtol=1e-3)
    assert (changes[kind] < -0.05).all()
    np.testing.assert_allclose(changes[other], 0, atol=1e-5)
    # random directions of these frequencies do far less
    control = found.control_change[[band.kind for band in found.bands].index(kind)]
    assert np.abs(control).mean() < 0.5 * np.abs(changes[kind]).mean()


def test_random_directions_have_the_spectrum_of_the_band_and_cancel(linear, images):
    found = decision_relevance(
        *(linear, images, second_class(5)), sigmas=[3], norms=[1.0], nb_random=60
    )
    # of a linear model a random step changes the margin by a share of about 1 / sqrt(size)
    assert np.abs(found.control_change[0]).max() < 0.05 * np.abs(found.change[0]).min()


def test_streams_and_batches_give_the_same(linear, images):
    options = {"sigmas": [3], "norms": NORMS, "nb_random": 1}
    whole = decision_relevance(linear, images, second_class(5), **options)
    stream = tf.data.Dataset.from_tensor_slices((images, second_class(5))).batch(3)
    parts = decision_relevance(linear, stream, batch_size=2, **options)
    for name in ("margins", "energy", "change", "control_change"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), rtol=1e-4, atol=1e-5)
    again = decision_relevance(linear, images, second_class(5), seed=1, **options)
    np.testing.assert_array_equal(again.change, whole.change)
    assert np.abs(again.control_change - whole.control_change).max() > 1e-3


@pytest.mark.parametrize(("low", "high"), [(0, None), (0, 3), (3, None)])
def test_of_a_linear_model_the_norm_needed_is_known(low, high, linear, images, weights):
    maps = weights[np.newaxis].astype(float)
    part = filtered(maps, high or full_band_sigma(SHAPE[:2])) - filtered(maps, low)
    needed = np.einsum("nhwc,hwc->n", images, weights) / np.linalg.norm(part)
    options = {"low": low, "high": high, "steps": 3, "nb_bisections": 12}
    found = band_attack(linear, images, second_class(5), norm=1.5 * needed.max(), **options)
    np.testing.assert_allclose(found.norms[:4], needed[:4], rtol=2e-2)
    assert found.norms[4] == 0
    assert not found.perturbations[4].any()
    assert found.success_rate == 1
    outside = found.perturbations - (
        filtered(found.perturbations, found.high) - filtered(found.perturbations, found.low)
    )
    assert np.abs(outside).max() < 1e-4
    # half of the smallest norm turns none
    short = band_attack(linear, images, second_class(5), norm=0.5 * needed[:4].min(), **options)
    assert short.success_rate == 0
    assert np.isinf(short.norms[:4]).all()
    assert "turn 0% of 4" in str(short)


def test_an_attack_is_the_one_written_by_hand(rng):
    model = reading(0, 11.4)
    image = rng.normal(size=(1, 16, 16, 1)).astype(np.float32)
    outputs = np.asarray(model(image))[0]
    own, other = np.argsort(outputs)[::-1][:2]
    target = np.eye(3, dtype=np.float32)[[own]]
    delta, norm, steps = np.zeros_like(image), 30.0, 6
    for _ in range(steps):
        at = tf.constant(image + delta)
        with tf.GradientTape() as tape:
            tape.watch(at)
            scores = model(at)[0]
            margin = scores[own] - tf.reduce_max(tf.boolean_mask(scores, np.arange(3) != own))
        gradient = filtered(tape.gradient(margin, at).numpy(), 4)
        delta = delta - 2.5 / steps * norm * gradient / np.linalg.norm(gradient)
        delta *= min(1, norm / np.linalg.norm(delta))
        scores = np.asarray(model(image + delta))[0]
        if np.delete(scores, own).max() >= scores[own]:
            break
    else:
        pytest.fail("the attack by hand finds nothing; take a larger norm")
    found = band_attack(model, image, target, norm=norm, high=4, steps=steps, nb_bisections=1)
    by_bisection = band_attack(model, image, target, norm=norm, high=4, steps=40, nb_bisections=10)
    assert found.norms[0] <= np.linalg.norm(delta) * (1 + 1e-4)
    assert by_bisection.norms[0] <= found.norms[0] * (1 + 1e-3)
    turned = np.asarray(model(image + found.perturbations))[0]
    assert turned.argmax() == other or turned.argmax() != own


def test_an_attack_of_a_band_that_is_not_read_finds_nothing(rng):
    images = rng.normal(size=(3, 16, 16, 1)).astype(np.float32)
    found = band_attack(reading(0, 4), images, norm=50.0, low=5, steps=4, nb_bisections=2)
    assert found.success_rate == 0
    assert not found.perturbations.any()


def test_the_control_of_an_attack_is_as_strong_and_has_other_phases(linear, images, rng):
    # the norm of an input alone decides, and phases do not change it
    inputs = keras.Input((16, 16, 1))
    energy = keras.ops.sum(keras.ops.square(inputs), axis=(1, 2, 3))
    model = keras.Model(inputs, keras.ops.stack([1 - energy, 0 * energy], axis=-1))
    near = 1e-4 * rng.normal(size=(3, 16, 16, 1)).astype(np.float32)
    found = band_attack(model, near, norm=4.0, steps=1, nb_bisections=1, nb_random=3)
    np.testing.assert_allclose(found.norms, 4, rtol=1e-4)
    np.testing.assert_array_equal(found.control_turned, 1)
    assert "random ones of the same norms and spectra turn 100%" in str(found)
    # of a linear model a random direction is nearly orthogonal to the gradient
    found = band_attack(linear, images, second_class(5), norm=50.0, steps=3, nb_random=5)
    assert found.control_rate == 0
    assert list(found.to_frame()) == ["low", "high", "is_right", "norm", "control_turned"]


def test_the_norm_is_as_near_as_documented(linear, images, weights):
    needed = np.einsum("nhwc,hwc->n", images, weights)[:4] / np.linalg.norm(weights)
    for norm in (2 * needed.max(), 400 * needed.min()):
        found = band_attack(linear, images, second_class(5), norm=norm, steps=3)
        within = found.norms[:4] / needed
        assert (within > 1 - 1e-3).all()
        assert (within < 1.07).all()


def test_norms_far_below_the_largest_are_found(linear, images):
    options = {"steps": 3, "nb_bisections": 14}
    near = band_attack(linear, images, second_class(5), norm=10.0, **options)
    far = band_attack(linear, images, second_class(5), norm=1e5, **options)
    np.testing.assert_allclose(far.norms, near.norms, rtol=0.05)


def test_steps_that_are_too_long_do_not_hide_shorter_ones(rng):
    # the margin is below 0 within a shell alone: long steps go beyond it
    inputs = keras.Input((16, 16, 1))
    size = keras.ops.sqrt(keras.ops.sum(keras.ops.square(inputs), axis=(1, 2, 3)) + 1e-6)
    margin = keras.ops.abs(size - 6) - 4
    model = keras.Model(inputs, keras.ops.stack([margin, 0 * margin], axis=-1))
    near = 1e-2 * rng.normal(size=(2, 16, 16, 1)).astype(np.float32)
    found = band_attack(model, near, norm=1000.0, steps=10, nb_bisections=12)
    start = np.linalg.norm(near.reshape(2, -1), axis=1)
    np.testing.assert_allclose(found.norms + start, 2, atol=0.02)


def test_outputs_that_stop_being_numbers_are_an_error(rng):
    inputs = keras.Input((8, 8, 1))
    scores = keras.ops.log(keras.layers.Flatten()(inputs))[:, :2]
    model = keras.Model(inputs, scores)
    images = rng.uniform(1, 2, size=(2, 8, 8, 1)).astype(np.float32)
    for call in (
        lambda: decision_relevance(model, images, sigmas=[2], norms=[30.0]),
        lambda: band_attack(model, images, norm=100.0, low=1, steps=2),
    ):
        with pytest.raises(ValueError, match="NaN or infinite outputs near image"):
            call()


def test_the_plot_shows_the_fall_by_octave(linear, images):
    found = decision_relevance(linear, images, second_class(5), sigmas=[3], norms=NORMS)
    ax = found.plot()
    octaves = [index for index, band in enumerate(found.bands) if band.kind == "octave"]
    # 1, 2, 4 and 8; not the corners
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [1, 2, 4, 8])
    drawn = ax.lines[0].get_ydata()
    np.testing.assert_allclose(drawn, -found.change[octaves[:-1], 0].mean(axis=-1))
    assert plot_relevance(found, ax=ax) is ax


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmas": [0]}, "`sigmas`"),
        ({"sigmas": [13]}, "`sigmas`"),
        ({"norms": [-1.0]}, "`norms` is .*above 0"),
        ({"norms": []}, "`norms` is"),
        ({"norms": [[1.0]]}, "`norms` is .*such as"),
        ({"nb_random": 0}, "`nb_random` is 0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"targets": np.full((5, 2), 0.5, np.float32)}, "target of image 0 is not one-hot"),
    ],
)
def test_bad_options_are_refused(options, message, linear, images):
    given = {"targets": second_class(5), "sigmas": [3], "norms": [1.0], **options}
    with pytest.raises(ValueError, match=message):
        decision_relevance(linear, images, **given)


def test_models_without_a_margin_or_gradient_are_refused(images):
    inputs = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(inputs)
    one = keras.Model(inputs, keras.layers.Dense(1)(flat))
    with pytest.raises(ValueError, match="one output; a margin is between two"):
        decision_relevance(one, images, np.ones((5, 1), np.float32), sigmas=[3], norms=[1.0])
    still = keras.layers.Lambda(tf.stop_gradient)(flat)
    cut = keras.Model(inputs, keras.layers.Dense(2)(still))
    for call in (
        lambda: decision_relevance(cut, images, second_class(5), sigmas=[3], norms=[1.0]),
        lambda: band_attack(cut, images, second_class(5), norm=1.0),
    ):
        with pytest.raises(ValueError, match="margin has no gradient"):
            call()
    with pytest.raises(TypeError, match=r"give a keras\.Model"):
        band_attack(lambda x: x, images, second_class(5), norm=1.0)


@pytest.mark.parametrize(
    ("low", "high"), [(3, 2), (3, 3), (-1, None), (0, 20), (0, 0), (9, None), (9, 10), ([1], None)]
)
def test_bands_that_are_none_are_refused(low, high, linear, images):
    with pytest.raises((ValueError, TypeError), match="band goes from|`high`|`low`"):
        band_attack(linear, images, second_class(5), norm=1.0, low=low, high=high)


@pytest.mark.parametrize("norm", ["1", True, None, [1j]])
def test_norms_that_are_no_numbers_are_refused(norm, linear, images):
    with pytest.raises(TypeError, match="`norms` is .*; give numbers"):
        decision_relevance(linear, images, second_class(5), sigmas=[3], norms=norm)
    with pytest.raises(TypeError, match="`norm` is .*; give a number, such as 2.0"):
        band_attack(linear, images, second_class(5), norm=norm)
    with pytest.raises(TypeError, match="`norm` is .*; give a number, such as 2.0"):
        band_attack(linear, images, second_class(5), norm=[1.0, 2.0])


def test_an_attack_of_wrong_decisions_says_so(linear, images):
    found = band_attack(linear, images[-1:], second_class(1), norm=1.0, steps=2, nb_bisections=1)
    assert str(found) == "None of the 1 decisions is right at the start"
    assert found.norms[0] == 0


def test_random_directions_turn_all_channels_alike(rng):
    given = rng.normal(size=(2, 3, 9, 8, 2)).astype(np.float32)
    (found,) = random_directions(np.array([4, 0, 7]), given, 1, seed=0)
    spectra, others = (np.fft.fft2(maps, axes=(2, 3)) for maps in (given, found))
    np.testing.assert_allclose(np.abs(others), np.abs(spectra), rtol=1e-3, atol=1e-4)
    turns = others / spectra
    np.testing.assert_allclose(turns[..., 0], turns[..., 1], rtol=1e-3, atol=1e-3)
    assert np.abs(found - given).max() > 1
    # of a sample they depend on its position alone
    (alone,) = random_directions(np.array([7]), given[:, 2:], 1, seed=0)
    np.testing.assert_allclose(alone[:, 0], found[:, 2], atol=1e-6)
