"""
Maps that are mirrored at their borders: `border="reflect"`.
"""

import numpy as np
import pytest
import reference
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from xplique_forgrad import FORGrad, forgrad, forgrad_sweep, full_band_sigma
from xplique_forgrad.filtering import _filters

WINDOWS = ("disk", "box", "gaussian", "butterworth")
RECTIFICATIONS = ("magnitude", "positive", None)
LAYOUTS = {
    "images": ((2, 12, 12), (1, 2)),
    "colour": ((2, 9, 14, 3), (1, 2)),
    "odd": ((2, 11, 11, 1), (1, 2)),
    "time series": ((2, 21, 3), (1,)),
    "volumes": ((2, 4, 5, 6), (1, 2, 3)),
    "frames": ((2, 3, 7, 8, 2), (2, 3)),
}
EXACT = {"atol": 1e-5, "rtol": 0}


def reflected(maps, sigma, **options):
    return forgrad(maps, sigma, border="reflect", **options)


@pytest.fixture(params=["fft", "products"])
def path(request, monkeypatch):
    """Both ways of filtering, whatever the sizes. Three axes always go by FFT."""
    by_products = request.param == "products"
    monkeypatch.setattr(
        _filters, "products_pay_off", lambda shape, *_: by_products and len(shape) < 3
    )


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_the_filtered_mirrored_map(layout, window, rng):
    shape, axes = LAYOUTS[layout]
    explanations = rng.standard_normal(shape).astype(np.float32)
    for sigma, rectify in zip((0.5, 2.7, max(shape[axis] for axis in axes)), RECTIFICATIONS):
        filtered = reflected(explanations, sigma, window=window, rectify=rectify, axes=axes)
        expected = reference.forgrad(explanations, sigma, window, rectify, axes, "reflect")
        np.testing.assert_allclose(filtered, expected, **EXACT)


@pytest.mark.filterwarnings("ignore:Explanations of shape")  # of width 1, on purpose
@pytest.mark.filterwarnings("ignore:`sigma` is .*; below 0.5")
@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    channels=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, "bfloat16", np.int32]),
    share=st.floats(0.03, 1.0),
    window=st.sampled_from(WINDOWS),
    rectify=st.sampled_from(RECTIFICATIONS),
    by_products=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=80)
def test_any_shape_and_dtype(
    height, width, channels, dtype, share, window, rectify, by_products, seed
):
    shape = (2, height, width) + ((channels,) if channels else ())
    values = 10 * np.random.default_rng(seed).random(shape)
    explanations = tf.cast(values, tf.as_dtype(dtype))
    sigma = share * max(height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_filters, "products_pay_off", lambda *_: by_products)
        filtered = reflected(explanations, sigma, window=window, rectify=rectify)

    assert filtered.shape == shape
    assert filtered.dtype == (explanations.dtype if explanations.dtype.is_floating else tf.float32)
    expected = reference.forgrad(explanations.numpy(), sigma, window, rectify, border="reflect")
    tolerance = {"float16": 0.02, "bfloat16": 0.1, "float64": 1e-11}
    error = np.max(np.abs(tf.cast(filtered, tf.float64) - expected))
    assert error < tolerance.get(explanations.dtype.name, 2e-5)


def test_periodic_is_the_default(rng):
    explanations = rng.standard_normal((2, 12, 15, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        forgrad(explanations, 3, border="periodic"), forgrad(explanations, 3)
    )
    np.testing.assert_array_equal(
        forgrad_sweep(explanations, [3, 5], border="periodic"), forgrad_sweep(explanations, [3, 5])
    )
    assert np.max(np.abs(reflected(explanations, 3) - forgrad(explanations, 3))) > 0.01


# what reflection is for


def test_nothing_leaks_to_the_opposite_border():
    impulse = np.zeros((1, 64, 48))
    impulse[0, 0, 20] = 1.0
    leaks = {
        border: np.max(forgrad(impulse, 4, window="gaussian", border=border)[0, 48:])
        for border in ("periodic", "reflect")
    }
    peak = np.max(reflected(impulse, 4, window="gaussian"))
    assert leaks["periodic"] > 0.3 * peak
    assert leaks["reflect"] < 1e-12 * peak


@pytest.mark.parametrize("shape", [(32, 32), (31, 31), (24, 40)])
@pytest.mark.parametrize(("deviation", "share"), [(1.0, 0.01), (2.5, 1e-12), (4.0, 1e-12)])
def test_the_gaussian_window_is_a_gaussian_blur(shape, deviation, share, rng):
    maps = rng.standard_normal((2, *shape))
    sigma = max(shape) / (2 * np.pi * deviation)
    blurred = gaussian_filter(maps, deviation, axes=(1, 2), mode="reflect", truncate=8)
    filtered = reflected(maps, sigma, window="gaussian", rectify=None)
    np.testing.assert_allclose(filtered, blurred, rtol=0, atol=share * np.abs(blurred).max())


def test_a_box_keeps_the_first_coefficients_of_the_cosine_transform(rng):
    maps = rng.standard_normal((2, 16, 16))
    coefficients = dctn(maps, axes=(1, 2))
    coefficients[:, 7:] = coefficients[:, :, 7:] = 0  # more than 3 cycles: from 7 halves on
    filtered = reflected(maps, 3, window="box", rectify=None)
    np.testing.assert_allclose(filtered, idctn(coefficients, axes=(1, 2)), atol=1e-12)


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("halves", [1, 8, 9, 10])
def test_cosines_of_half_cycles_pass_below_the_cutoff_and_vanish_above(size, halves):
    x = np.arange(size) + 0.5
    grating = np.cos(np.pi * halves * x / size)[None, :, None] * np.ones((1, 1, size))
    for window in ("disk", "box"):
        filtered = reflected(grating, 4.5, window=window, rectify=None)
        np.testing.assert_allclose(filtered, grating if halves <= 9 else 0, atol=1e-12)


# identities


@pytest.mark.parametrize("shape", [(3, 16, 16, 1), (3, 15, 15, 1), (3, 15, 22, 2)])
@pytest.mark.parametrize("window", ["disk", "box"])
def test_full_band_is_the_smallest_cutoff_that_keeps_everything(shape, window, rng):
    explanations = rng.standard_normal(shape)
    sigma = full_band_sigma(shape[1:3], window, border="reflect")
    assert sigma <= full_band_sigma(shape[1:3], window)
    for cutoff in (sigma, full_band_sigma(shape[1:3], window)):
        filtered = reflected(explanations, cutoff, window=window, rectify=None)
        np.testing.assert_allclose(filtered, explanations, atol=1e-12)
    filtered = reflected(explanations, 0.99 * sigma, window=window, rectify=None)
    assert np.max(np.abs(filtered - explanations)) > 1e-3
    np.testing.assert_allclose(
        reflected(explanations, sigma, window=window), np.abs(explanations), atol=1e-12
    )


@pytest.mark.parametrize("window", WINDOWS)
def test_the_mean_and_constant_maps_are_kept(window, rng):
    explanations = rng.standard_normal((4, 13, 18, 2))
    filtered = reflected(explanations, 3, window=window, rectify=None).numpy()
    np.testing.assert_allclose(filtered.mean((1, 2)), explanations.mean((1, 2)), atol=1e-12)
    constant = np.full((1, 13, 18), 0.7)
    np.testing.assert_allclose(reflected(constant, 3, window=window), constant, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
def test_linear_without_rectification(window, rng):
    first, second = rng.standard_normal((2, 3, 14, 11))

    def filter_map(maps):
        return reflected(maps, 4, window=window, rectify=None).numpy()

    np.testing.assert_allclose(
        filter_map(2 * first - 3 * second),
        2 * filter_map(first) - 3 * filter_map(second),
        atol=1e-12,
    )


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("axis", [1, 2])
def test_commutes_with_flips(window, axis, rng):
    explanations = rng.standard_normal((2, 15, 12))
    flipped = reflected(np.flip(explanations, axis), 3, window=window)
    expected = np.flip(reflected(explanations, 3, window=window), axis)
    np.testing.assert_allclose(flipped, expected, atol=1e-12)


# cutoffs, graphs, gradients


@pytest.mark.parametrize("window", WINDOWS)
def test_one_cutoff_per_map(window, rng):
    explanations = rng.standard_normal((3, 10, 12, 2)).astype(np.float32)
    sigmas = [1.5, 6, 3]
    expected = reference.forgrad(explanations, sigmas, window, border="reflect")
    for given_sigmas in (sigmas, tf.constant(sigmas)):
        np.testing.assert_allclose(
            reflected(explanations, given_sigmas, window=window), expected, **EXACT
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sweep_equals_single_calls(layout, rng):
    shape, axes = LAYOUTS[layout]
    explanations = rng.standard_normal(shape).astype(np.float32)
    for sigmas in ([5, 0.5, 2.5], tf.constant([5, 0.5, 2.5])):
        sweep = forgrad_sweep(explanations, sigmas, axes=axes, border="reflect")
        assert sweep.shape == (3, *shape)
        for filtered, sigma in zip(sweep, [5, 0.5, 2.5]):
            np.testing.assert_allclose(filtered, reflected(explanations, sigma, axes=axes), **EXACT)


def test_sweep_mixes_products_and_cosine_transforms(rng):
    # narrow bands by products, wide ones by cosine transforms
    series = rng.standard_normal((1, 700, 2)).astype(np.float32)
    sigmas = [600, 5, 300, 40]
    sweep = forgrad_sweep(series, sigmas, axes=1, border="reflect")
    for filtered, sigma in zip(sweep, sigmas):
        alone = tf.function(reflected)(series, sigma, axes=1)
        np.testing.assert_allclose(filtered, alone, **EXACT)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_a_function_of_the_caller(layout, jit_compile, rng):
    shape, axes = LAYOUTS[layout]
    explanations = rng.standard_normal(shape).astype(np.float32)
    traced = tf.function(
        lambda maps, sigma: reflected(maps, sigma, axes=axes),
        input_signature=[tf.TensorSpec([None] * len(shape)), tf.TensorSpec([])],
        jit_compile=jit_compile,
    )
    np.testing.assert_allclose(
        traced(explanations, 2.5), reflected(explanations, 2.5, axes=axes), **EXACT
    )


@pytest.mark.parametrize("sigma", [2.5, tf.constant(2.5)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_is_that_of_the_linear_filter(layout, sigma, rng):
    shape, axes = LAYOUTS[layout]
    explanations = tf.constant(rng.standard_normal(shape))
    weights = rng.standard_normal(shape)
    with tf.GradientTape() as tape:
        tape.watch(explanations)
        filtered = reflected(explanations, sigma, rectify=None, axes=axes)
        loss = tf.reduce_sum(weights * filtered)
    # the cosines are orthonormal: the filter is its own adjoint
    expected = reflected(weights, 2.5, rectify=None, axes=axes)
    np.testing.assert_allclose(tape.gradient(loss, explanations), expected, atol=1e-10)


@pytest.mark.parametrize("window", ["gaussian", "butterworth"])
def test_gradient_in_sigma_with_soft_windows(window, rng):
    explanations = rng.standard_normal((2, 8, 8))

    def total(sigma):
        return tf.reduce_sum(reflected(explanations, sigma, window=window, rectify=None) ** 2)

    theoretical, numerical = tf.test.compute_gradient(total, [tf.constant(3.0, tf.float64)])
    np.testing.assert_allclose(theoretical[0], numerical[0], rtol=1e-3)


# what cannot be filtered


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("rectify", RECTIFICATIONS)
def test_what_is_not_finite_or_overflows_is_an_error(rectify, rng):
    explanations = rng.standard_normal((3, 8, 8)).astype(np.float32)
    explanations[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="Map 1 .* 1 NaN or infinite values of 64"):
        reflected(explanations, 2, rectify=rectify)
    for shape in ((1, 8, 8), (1, 1, 1)):
        with pytest.raises(ValueError, match="Map 0 .*overflows float32.*Divide"):
            reflected(np.full(shape, 3e38, np.float32), 1, rectify=rectify)


def test_traced_only_the_map_that_is_not_finite_is_lost(rng):
    explanations = rng.standard_normal((3, 8, 8, 1)).astype(np.float32)
    expected = reflected(explanations, 2).numpy()
    explanations[1, 2, 3] = np.nan
    filtered = tf.function(reflected)(explanations, 2)
    assert not np.any(np.isfinite(filtered[1]))
    np.testing.assert_allclose(filtered[::2], expected[::2], **EXACT)


# the explainer


class Given:
    """Explains by maps that are given."""

    def __init__(self, maps):
        self.maps = maps

    def explain(self, inputs, targets):
        return self.maps


@pytest.mark.parametrize("shape", [(2, 14, 11, 1), (2, 21, 3)])
def test_the_explainer_hands_the_border_on(shape, rng):
    maps = rng.standard_normal(shape).astype(np.float32)
    explainer = FORGrad(Given(maps), sigma=3, border="reflect")
    axes = (1, 2) if len(shape) == 4 else (1,)
    np.testing.assert_array_equal(explainer.explain(maps, np.eye(2)), reflected(maps, 3, axes=axes))
    explainer.border = "periodic"
    np.testing.assert_array_equal(explainer.explain(maps, np.eye(2)), forgrad(maps, 3, axes=axes))
    assert "border" not in vars(explainer.explainer)
