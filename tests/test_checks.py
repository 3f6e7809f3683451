import warnings

import numpy as np
import pytest
import tensorflow as tf

from xplique_forgrad import forgrad, forgrad_sweep, full_band_sigma

MAPS = np.random.default_rng(0).standard_normal((3, 8, 8, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("explanations", "axes", "message"),
    [
        (np.zeros(5), (1, 2), r"shape \(5,\) of rank 1.*\(N, H, W\)"),
        (np.zeros((5, 7)), (1, 2), r"shape \(5, 7\) of rank 2.*a single map explanations\[None\]"),
        (np.zeros((5, 7)), (1, 2), "Tabular explanations"),
        (np.zeros((5, 7, 7)), (1, 2, 3), r"axes` = \(1, 2, 3\) reach beyond"),
        (np.zeros((5, 7, 7)), (0, 1), "batch axis"),
        (np.zeros((5, 7, 7)), (-3, -1), "batch axis"),
        (np.zeros((5, 7, 7)), (1, 1), "different axes"),
        (np.zeros((5, 7, 7)), (1, -2), "different axes"),
        (np.zeros((5, 7, 7)), (), "one to three different axes"),
        (np.zeros((2, 3, 4, 4, 1)), (1, 2), r"videos.*axes=\(2, 3\)"),
        (np.zeros((5, 0, 7)), (1, 2), "nothing to filter"),
    ],
)
def test_bad_ranks_and_axes(explanations, axes, message):
    with pytest.raises(ValueError, match=message):
        forgrad(explanations, 1, axes=axes)


@pytest.mark.parametrize("axes", ["12", (1.0, 2.0), (None,), None, True])
def test_axes_that_are_no_integers(axes):
    with pytest.raises(TypeError, match="give integers"):
        forgrad(MAPS, 1, axes=axes)


@pytest.mark.parametrize(
    "sigma", [0, -1, 8.1, 10**400, np.nan, np.inf, -np.inf, tf.constant(0.0), np.array(9)]
)
def test_sigma_out_of_range(sigma):
    with pytest.raises(ValueError, match=r"`sigma` is .*0 < sigma <= 8.*8 x 8"):
        forgrad(MAPS, sigma)


def test_sigma_may_reach_the_longest_axis():
    forgrad(np.zeros((1, 4, 8)), 8)
    with pytest.raises(ValueError, match="sigma <= 8"):
        forgrad(np.zeros((1, 4, 8)), 9)


def test_a_bad_cutoff_among_several_is_named():
    with pytest.raises(ValueError, match="`sigma` is 9 at position 1"):
        forgrad(MAPS, [1, 9, 2])
    with pytest.raises(ValueError, match="`sigmas` is -1 at position 2"):
        forgrad_sweep(MAPS, [1, 2, -1])


@pytest.mark.parametrize("sigma", [[1, 2], [1, 2, 3, 4], [[1], [2], [3]], tf.ones((2,)), []])
def test_sigma_of_wrong_length(sigma):
    with pytest.raises(ValueError, match=r"`sigma` has shape.*vector of shape \(3,\), one per map"):
        forgrad(MAPS, sigma)


@pytest.mark.parametrize(
    "sigma", ["15", None, 3j, True, [1, "a", 2], [[1], [1, 2]], tf.constant("a")]
)
def test_sigma_that_is_no_number(sigma):
    with pytest.raises(TypeError, match="`sigma`.*real number"):
        forgrad(MAPS, sigma)


@pytest.mark.parametrize("sigmas", [3, tf.constant(3.0), [], [[1, 2, 3]]])
def test_sweep_needs_a_vector(sigmas):
    with pytest.raises(ValueError, match="`sigmas`.* vector of .*cutoff"):
        forgrad_sweep(MAPS, sigmas)


def test_sigma_out_of_range_while_tracing():
    traced = tf.function(forgrad)
    for sigma in (0.0, 8.5, np.nan):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must lie in 0 < sigma"):
            traced(MAPS, tf.constant(sigma, tf.float32))
    with pytest.raises(ValueError, match="0 < sigma <= 8"):
        tf.function(lambda maps: forgrad(maps, 9))(MAPS)


def test_under_xla_a_bad_sigma_gives_nan_and_no_wrong_map():
    compiled = tf.function(forgrad, jit_compile=True)
    for sigma in (0.0, -3.0, 9.0, np.nan):
        assert np.all(np.isnan(compiled(MAPS, tf.constant(sigma, tf.float32))))
    per_map = tf.function(
        forgrad,
        input_signature=[tf.TensorSpec(MAPS.shape), tf.TensorSpec([None])],
        jit_compile=True,
    )
    filtered = per_map(MAPS, [2.0, 9.0, 3.0])
    assert np.all(np.isnan(filtered[1]))
    np.testing.assert_allclose(filtered[0], forgrad(MAPS, 2)[0], atol=1e-6)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        per_map(MAPS, [2.0])


def test_axes_as_numbers_of_any_kind():
    expected = forgrad(MAPS, 2, axes=(1,))
    for axes in (1, [1], np.array(1), np.int64(1), -3):
        np.testing.assert_array_equal(forgrad(MAPS, 2, axes=axes), expected)


def test_masked_arrays():
    with pytest.raises(TypeError, match=r"explanations.filled\(0\)"):
        forgrad(np.ma.masked_less(MAPS, 0), 2)


def test_options_that_are_no_names():
    for window in (np.array(["disk", "box"]), tf.constant("disk"), None):
        with pytest.raises(ValueError, match="`window` is .*must be one of"):
            forgrad(MAPS, 2, window=window)


def test_options_that_are_unknown():
    with pytest.raises(ValueError, match="`window` is 'hann'; it must be one of 'disk', 'box'"):
        forgrad(MAPS, 2, window="hann")
    with pytest.raises(ValueError, match="`rectify` is 'abs'; it must be one of 'magnitude'"):
        forgrad(MAPS, 2, rectify="abs")
    for border in ("symmetric", None, True):
        for function in (forgrad, forgrad_sweep):
            with pytest.raises(ValueError, match="`border` is .*one of 'periodic', 'reflect'"):
                function(MAPS, [2, 2, 2], border=border)
    with pytest.raises(ValueError, match="`border` is 'mirror'; it must be one of 'periodic'"):
        full_band_sigma((8, 8), border="mirror")


@pytest.mark.parametrize(
    "explanations", [MAPS.astype(complex), np.full((2, 4, 4), "a"), np.full((2, 4, 4), None)]
)
def test_explanations_that_are_no_real_numbers(explanations):
    with pytest.raises(TypeError, match="give real numbers"):
        forgrad(explanations, 2)


def test_a_single_map_with_channels_is_warned_of():
    with pytest.warns(UserWarning, match=r"8 maps of width 1.*explanations\[None\]") as record:
        forgrad(MAPS[0], 2)
    assert record[0].filename == __file__


@pytest.mark.parametrize("window", ["disk", "box"])
@pytest.mark.parametrize("sigma", [0.5, [2, 0.5, 3], tf.constant(0.5)])
def test_sharp_windows_that_keep_the_mean_alone_are_warned_of(window, sigma):
    message = f"`sigma` is 0.5; below 1, a {window} .*constant.*1 or more, or window='gaussian'"
    with pytest.warns(UserWarning, match=message) as record:
        filtered = forgrad(MAPS, sigma, window=window).numpy()
    assert record[0].filename == __file__
    assert np.ptp(filtered, axis=(1, 2)).min() < 1e-6
    with pytest.warns(UserWarning, match=r"`sigmas` is 0\.9; below 1.*Give sigmas of 1 or more"):
        forgrad_sweep(MAPS, [3, 0.9, 2], window=window)


@pytest.mark.parametrize("window", ["disk", "box"])
def test_of_reflected_maps_half_a_cycle_is_the_lowest_frequency(window):
    message = f"`sigma` is 0.4; below 0.5, a {window} .*constant.* sigma of 0.5 or more"
    with pytest.warns(UserWarning, match=message):
        filtered = forgrad(MAPS, 0.4, window=window, border="reflect").numpy()
    assert np.ptp(filtered, axis=(1, 2)).max() < 1e-6
    with pytest.warns(UserWarning, match=r"`sigmas` is 0\.4.* sigmas of 0\.5 or more"):
        forgrad_sweep(MAPS, [3, 0.4], window=window, border="reflect")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filtered = forgrad(MAPS, 0.5, window=window, rectify=None, border="reflect").numpy()
    assert np.ptp(filtered, axis=(1, 2)).min() > 0.01


@pytest.mark.parametrize("size", [15, 28, 63])
def test_the_default_sigma_on_small_maps_is_warned_of(size):
    message = f"224 pixels: on maps of {size - 1} x {size} .*sigma={15 * size / 224:.2g} here"
    with pytest.warns(UserWarning, match=message) as record:
        forgrad(np.ones((1, size - 1, size)))
    assert record[0].filename == __file__
    with pytest.warns(UserWarning, match=f"on maps of {size} it keeps"):
        forgrad(np.ones((1, size, 2)), axes=1)


def test_cutoffs_that_need_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sigma in (1, 1.0, [1, 2, 3], 8):
            forgrad(MAPS, sigma)
        for window in ("gaussian", "butterworth"):
            forgrad(MAPS, 0.5, window=window)
        forgrad(np.ones((1, 1, 1)), 0.5)  # constant anyhow
        forgrad(np.zeros((0, 8, 8)), np.zeros(0))
        for sizes in ((224, 224), (64, 64), (20, 64)):
            forgrad(np.ones((1, *sizes)))
        for sigma in (14, 16, [15]):
            forgrad(np.ones((1, 28, 28)), sigma)


def test_while_tracing_no_cutoff_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tf.function(lambda maps: forgrad(maps, 0.5))(MAPS)
        tf.function(lambda maps: forgrad_sweep(maps, [0.5, 2]))(MAPS)
        tf.function(forgrad)(tf.ones((1, 28, 28)))


def test_ragged_explanations():
    with pytest.raises(ValueError, match="ragged"):
        forgrad(tf.ragged.constant([[[1.0, 2.0], [3.0]], [[1.0]]]), 1)
    with pytest.raises(ValueError, match="nested lists must have one size per axis"):
        forgrad([[[1.0, 2.0], [3.0]], [[1.0]]], 1)


def test_explanations_that_are_no_array():
    with pytest.raises(TypeError, match=r"dataset\.map"):
        forgrad(tf.data.Dataset.from_tensor_slices(MAPS), 2)
    with pytest.raises(ValueError, match="no array of numbers"):
        forgrad(object(), 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rectify", ["magnitude", "positive", None])
def test_the_first_map_that_is_not_finite_is_named(value, rectify):
    explanations = MAPS.copy()
    explanations[1, 2, 3] = value
    explanations[2] = value
    with pytest.raises(ValueError, match="Map 1 .* 1 NaN or infinite values of 64"):
        forgrad(explanations, 2, rectify=rectify)
    with pytest.raises(ValueError, match="Map 1 "):
        forgrad_sweep(explanations, [2, 3], rectify=rectify)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_traced_only_the_map_that_is_not_finite_is_lost(value):
    explanations = MAPS.copy()
    explanations[1, 2, 3] = value
    filtered = tf.function(forgrad)(explanations, 2)
    assert not np.any(np.isfinite(filtered[1]))
    for i in (0, 2):
        np.testing.assert_allclose(filtered[i], forgrad(MAPS, 2)[i], atol=1e-6)


def test_overflow_is_an_error_and_not_a_nan():
    impulse = np.zeros((1, 224, 224), np.float32)
    impulse[0, 5, 5] = 1e35
    checkerboard = 3e37 * (-1.0) ** np.indices((1, 8, 8)).sum(axis=0)
    for explanations, sigma, rectify in (
        (np.full((1, 8, 8), 3e38), 2, "magnitude"),
        (impulse, 112, "magnitude"),
        (impulse, 5, "positive"),
        (checkerboard, 2, None),
    ):
        with pytest.raises(ValueError, match="Map 0 .*overflows float32.*Divide"):
            forgrad(explanations.astype(np.float32), sigma, rectify=rectify)
        assert np.all(np.isfinite(forgrad(explanations.astype(float), sigma, rectify=rectify)))


def test_half_precision_saturates_where_ringing_would_overflow():
    explanations = np.zeros((1, 16, 16), np.float16)
    explanations[:, :, :8] = 65000
    assert np.all(np.isfinite(forgrad(explanations, 4)))


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (0, 8, 8), (2, 8, 8, 0)])
def test_an_empty_batch_gives_an_empty_batch(shape):
    assert forgrad(np.zeros(shape, np.float32), 2).shape == shape
    assert forgrad_sweep(np.zeros(shape, np.float32), [2, 3]).shape == (2, *shape)


def test_unknown_rank_while_tracing():
    @tf.function(input_signature=[tf.TensorSpec(None)])
    def traced(maps):
        return forgrad(maps, 2)

    with pytest.raises(ValueError, match="rank of the explanations is unknown.*ensure_shape"):
        traced(MAPS)
