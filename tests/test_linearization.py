"""
Residuals of models whose linearisation is known, against NumPy in float64.
"""

import keras
import numpy as np
import pandas as pd
import pytest
import reference
import tensorflow as tf

from xplique_forgrad.linearization import TaylorResidual, taylor_residual

SHAPE = (6, 9, 2)
SIGMAS, RADII, NB_SAMPLES = [1.5, 3.0, 9.0], [0.5, 2.0], 40
OPTIONS = {"sigmas": SIGMAS, "radii": RADII, "nb_samples": NB_SAMPLES}


def linear_model(weights):
    """Outputs (0, sum of weights * x)."""
    inputs = keras.Input(weights.shape)
    head = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, head(keras.layers.Flatten()(inputs)))
    head.set_weights([np.stack([0 * weights.ravel(), weights.ravel()], axis=1)])
    return model


def quadratic_model(shape=SHAPE):
    """Outputs (0, ||x||^2 / 2): the gradient of the second is x, and its residual rho^2 / 2."""
    inputs = keras.Input(shape)
    head = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, head(keras.layers.Flatten()(inputs * inputs)))
    head.set_weights([np.repeat([[0, 0.5]], np.prod(shape), axis=0)])
    return model


def directions(nb_images, seed=0, nb_samples=NB_SAMPLES):
    """The unit vectors u of shape (N, n, D), drawn apart."""
    found = []
    for position in range(nb_images):
        normal = tf.random.stateless_normal((nb_samples, *SHAPE), (seed, position))
        normal = np.asarray(normal, np.float64).reshape(nb_samples, -1)
        found.append(normal / np.linalg.norm(normal, axis=1, keepdims=True))
    return np.stack(found)


def rms(values):
    return np.sqrt(np.mean(np.square(values), axis=-1))


def second_class(nb_images):
    return np.tile(np.float32([0, 1]), (nb_images, 1))


def products(u, maps):
    return np.einsum("nkd,nd->nk", u, maps.reshape(len(maps), -1))


@pytest.fixture
def pictures(rng):
    return rng.standard_normal((5, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("window", ["disk", "box", "gaussian", "butterworth"])
def test_linear_model_leaves_what_the_filter_removed(rng, pictures, window):
    weights = rng.standard_normal(SHAPE).astype(np.float32)
    targets, model = second_class(3), linear_model(weights)
    found = taylor_residual(model, pictures[:3], targets, seed=7, window=window, **OPTIONS)
    u, gradient = directions(3, seed=7), np.repeat(weights[np.newaxis], 3, axis=0)
    for s, sigma in enumerate(SIGMAS):
        removed = gradient - reference.forgrad(gradient, sigma, window, rectify=None)
        expected = rms(products(u, removed))[:, np.newaxis] * RADII
        np.testing.assert_allclose(found.filtered[s], expected, rtol=1e-4, atol=1e-5)
    expected = rms(products(u, gradient))[:, np.newaxis] * RADII
    np.testing.assert_allclose(found.zero_order, expected, rtol=1e-4)
    np.testing.assert_allclose(found.unfiltered, 0, atol=5e-6)


def test_residual_of_a_linear_model_is_the_norm_of_what_was_removed_over_sqrt_of_d(rng, pictures):
    weights = rng.standard_normal(SHAPE).astype(np.float32)
    model, nb_samples = linear_model(weights), 4000
    found = taylor_residual(
        model, pictures[:1], second_class(1), sigmas=[2.0], radii=[1.0], nb_samples=nb_samples
    )
    removed = weights - reference.forgrad(weights[np.newaxis], 2.0, rectify=None)[0]
    expected = np.linalg.norm(removed) / np.sqrt(np.prod(SHAPE))
    # the mean of n squares has a relative deviation of sqrt(2 / n), and their root half of it
    assert found.filtered[0, 0, 0] == pytest.approx(expected, rel=4 / np.sqrt(2 * nb_samples))


def test_quadratic_model_has_a_residual_of_half_the_squared_radius(pictures):
    found = taylor_residual(quadratic_model(), pictures, second_class(5), **OPTIONS)
    radii = np.array(RADII)[:, np.newaxis]
    # scores of 50, in float32
    close = {"rtol": 1e-4, "atol": 3e-5}
    half_square = np.tile(np.square(RADII) / 2, (5, 1))
    np.testing.assert_allclose(found.unfiltered, half_square, **close)
    u = directions(5)

    def expected(maps):
        return rms(radii * products(u, maps)[:, np.newaxis] + radii**2 / 2)

    np.testing.assert_allclose(found.zero_order, expected(pictures), **close)
    for s, sigma in enumerate(SIGMAS):
        removed = pictures - reference.forgrad(pictures, sigma, rectify=None)
        np.testing.assert_allclose(found.filtered[s], expected(removed), **close)
    np.testing.assert_allclose(found.ratio, found.filtered / found.unfiltered)
    np.testing.assert_allclose(found.zero_order_ratio, found.zero_order / found.unfiltered)
    # 9 cycles are the full band of 6 x 9
    np.testing.assert_allclose(found.ratio[2], 1, rtol=1e-4)


def test_a_gradient_of_low_frequencies_loses_nothing_above_them():
    rows, columns = np.mgrid[:6, :9]
    wave = np.cos(2 * np.pi * (rows / 6 + columns / 9))  # radius sqrt(1.5^2 + 1) = 1.8
    pictures = np.float32(np.repeat(wave[np.newaxis, ..., np.newaxis], 2, axis=-1))
    options = {"sigmas": [1.0, 2.0, 4.0], "radii": [0.1]}
    found = taylor_residual(quadratic_model(), pictures, second_class(1), **options)
    below, *above = found.ratio[:, 0, 0]
    np.testing.assert_allclose(above, 1, rtol=1e-2)
    assert below > 5
    assert found.zero_order_ratio[0, 0] == pytest.approx(below, rel=1e-2)


def test_results_do_not_depend_on_the_batch_size_or_the_other_images(pictures):
    options = {"sigmas": SIGMAS, "radii": RADII, "nb_samples": 21}
    model, targets = quadratic_model(), second_class(5)
    expected = taylor_residual(model, pictures, targets, **options)
    for batch_size in (1, 2, 7):
        found = taylor_residual(model, pictures, targets, batch_size=batch_size, **options)
        for name in ("unfiltered", "filtered", "zero_order"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4)
    first = taylor_residual(model, pictures[:2], targets[:2], **options)
    np.testing.assert_allclose(first.filtered, expected.filtered[:, :2], rtol=1e-4)


def test_the_seed_decides_and_the_global_one_is_left_alone(pictures):
    def residual(seed):
        found = taylor_residual(
            quadratic_model(),
            pictures[:1],
            second_class(1),
            sigmas=[2.0],
            radii=[1.0],
            nb_samples=5,
            seed=seed,
        )
        return found.filtered

    tf.random.set_seed(3)
    expected = tf.random.normal([3])
    tf.random.set_seed(3)
    first = residual(2**70)
    np.testing.assert_array_equal(tf.random.normal([3]), expected)
    np.testing.assert_array_equal(residual(2**70), first)
    assert not np.array_equal(residual(1), first)


def test_a_dataset_gives_what_its_arrays_give(pictures):
    model, targets = quadratic_model(), second_class(5)
    dataset = tf.data.Dataset.from_tensor_slices((pictures, targets)).batch(2)
    options = {"sigmas": SIGMAS, "radii": RADII, "nb_samples": 10}
    expected = taylor_residual(model, pictures, targets, **options)
    found = taylor_residual(model, dataset, **options)
    np.testing.assert_allclose(found.filtered, expected.filtered, rtol=1e-4)
    np.testing.assert_allclose(found.zero_order, expected.zero_order, rtol=1e-4)


def test_an_operator_is_the_score_and_is_traced_a_few_times(pictures):
    traces = []

    def twice(model, inputs, targets):
        traces.append(inputs.shape)
        return 2 * tf.reduce_sum(model(inputs) * targets, axis=-1)

    model, targets = quadratic_model(), second_class(5)
    options = {"sigmas": [2.0], "radii": RADII, "nb_samples": 21, "batch_size": 2}
    expected = taylor_residual(model, pictures, targets, **options)
    found = taylor_residual(model, pictures, targets, operator=twice, **options)
    np.testing.assert_allclose(found.filtered, 2 * expected.filtered, rtol=1e-4)
    assert len(traces) < 6


def record(unfiltered, filtered, zero_order):
    return TaylorResidual(
        np.array([4.0]),
        np.array([0.5, 1.0]),
        np.array(unfiltered),
        np.array([filtered]),
        np.array(zero_order),
    )


def test_zero_over_zero_is_equal_and_more_is_infinite():
    found = record([[0.0, 0.0]], [[0.0, 2.0]], [[3.0, 0.0]])
    np.testing.assert_array_equal(found.ratio, [[[1.0, np.inf]]])
    np.testing.assert_array_equal(found.zero_order_ratio, [[np.inf, 1.0]])
    frame = found.to_frame()
    np.testing.assert_array_equal(frame["mean_ratio"], [np.inf, 1, 1, np.inf])
    assert frame["standard_error"].isna().all()


def test_table_of_ratios():
    found = record(
        [[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]],
        [[1.0, 2.0], [2.0, 6.0], [12.0, 5.0]],
        [[4.0, 4.0], [4.0, 0.0], [8.0, 0.0]],
    )
    expected = pd.DataFrame(
        {
            "sigma": [0.0, 0.0, 4.0, 4.0],
            "radius": [0.5, 1.0, 0.5, 1.0],
            "median_ratio": [4.0, 0.0, 2.0, 3.0],
            "mean_ratio": [4.0, 2 / 3, 3.0, 3.0],
            "standard_error": [0.0, 2 / 3, np.sqrt(7 / 3), np.sqrt(4 / 3)],
            "nb_images": 3,
        }
    )
    pd.testing.assert_frame_equal(found.to_frame(), expected)


def test_the_bundled_classifier(classifier, images):
    inputs, targets, _ = images
    options = {"sigmas": [16, 68], "radii": [0.1, 10.0], "nb_samples": 30}
    found = taylor_residual(classifier, inputs, targets, **options)
    assert found.ratio.shape == (2, 6, 2)
    np.testing.assert_allclose(found.ratio[1], 1, atol=1e-3)
    # nearby, the gradient tells much, most of it beyond 16 cycles
    assert np.median(found.zero_order_ratio[:, 0]) > 5
    assert np.median(found.ratio[0, :, 0]) > 5
    # far away, no gradient tells much, so that none of its parts does
    assert np.median(found.zero_order_ratio[:, 1]) < 1.3
    assert np.median(found.ratio[0, :, 1]) < 1.3

    predicted = taylor_residual(classifier, inputs, **options)
    assert predicted.filtered.shape == found.filtered.shape


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sigmas": [3.0, 10.0]}, ValueError, "0 < sigmas <= 9"),
        ({"sigmas": [0.0]}, ValueError, "0 < sigmas <= 9"),
        ({"sigmas": []}, ValueError, "`sigmas` is empty"),
        ({"sigmas": ["a"]}, TypeError, "`sigmas`"),
        ({"radii": [1.0, -1.0]}, ValueError, "finite numbers above 0"),
        ({"radii": [np.inf]}, ValueError, "finite numbers above 0"),
        ({"radii": []}, ValueError, "finite numbers above 0"),
        ({"radii": "far"}, TypeError, "`radii` is 'far'"),
        ({"radii": [1e39]}, ValueError, r"image 0 .* radius 1e\+39"),
        ({"nb_samples": 0}, ValueError, "`nb_samples` is 0"),
        ({"batch_size": 2.0}, ValueError, r"`batch_size` is 2\.0"),
        ({"seed": -1}, ValueError, "`seed` is -1"),
        ({"window": "hann"}, ValueError, "`window` is 'hann'"),
        ({"model": lambda x: x}, TypeError, "keras.Model"),
    ],
)
def test_bad_arguments(pictures, changes, error, message):
    options = {"model": quadratic_model(), "sigmas": [3.0], "radii": [1.0], "nb_samples": 2}
    with pytest.raises(error, match=message):
        taylor_residual(inputs=pictures, targets=second_class(5), **(options | changes))


def test_other_inputs_than_images(rng):
    rows = rng.standard_normal((2, 7)).astype(np.float32)
    with pytest.raises(ValueError, match=r"\(N, 7\); give images"):
        taylor_residual(quadratic_model((7,)), rows, second_class(2), sigmas=[3.0], radii=[1.0])


def test_values_that_are_no_numbers_are_named():
    inputs = keras.Input(SHAPE)
    logarithm = keras.Model(inputs, keras.layers.Flatten()(keras.ops.log(inputs)))
    options = {"targets": np.ones((2, 108), np.float32), "sigmas": [3.0], "nb_samples": 3}
    positive = np.ones((2, *SHAPE), np.float32)
    with pytest.raises(ValueError, match="image 0 at or near it, at radius 50"):
        taylor_residual(logarithm, positive, radii=[0.1, 50.0], **options)
    positive[1] = 0
    with pytest.raises(ValueError, match="gradient of image 1 holds NaN or infinite"):
        taylor_residual(logarithm, positive, radii=[0.1], **options)


def test_scores_without_a_gradient(pictures):
    def cut(model, inputs, targets):
        return tf.reduce_sum(tf.stop_gradient(model(inputs)) * targets, axis=-1)

    with pytest.raises(ValueError, match="no gradient"):
        taylor_residual(
            quadratic_model(), pictures, second_class(5), sigmas=[3.0], radii=[1.0], operator=cut
        )
