import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from xplique.commons import forgrad as xplique_forgrad_function

from xplique_forgrad import forgrad, forgrad_sweep, full_band_sigma
from xplique_forgrad.filtering import _filters

WINDOWS = ("disk", "box", "gaussian", "butterworth")
RECTIFICATIONS = ("magnitude", "positive", None)
LAYOUTS = {
    "images": ((2, 12, 12), (1, 2)),
    "one channel": ((2, 12, 12, 1), (1, 2)),
    "colour": ((2, 9, 14, 3), (1, 2)),
    "odd": ((2, 11, 11, 1), (1, 2)),
    "time series": ((2, 21, 3), (1,)),
    "volumes": ((2, 6, 7, 8), (1, 2, 3)),
    "videos": ((2, 5, 7, 6, 2), (1, 2, 3)),
    "frames": ((2, 3, 7, 8, 2), (2, 3)),
    "last axes": ((2, 3, 7, 8), (-2, -1)),
}
EXACT = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(params=["fft", "products"])
def path(request, monkeypatch):
    """Both ways of filtering, whatever the sizes. Three axes always go by FFT."""
    by_products = request.param == "products"
    monkeypatch.setattr(
        _filters, "products_pay_off", lambda shape, *_: by_products and len(shape) < 3
    )


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("rectify", RECTIFICATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_the_reference(layout, rectify, window, rng):
    shape, axes = LAYOUTS[layout]
    explanations = rng.standard_normal(shape).astype(np.float32)
    positive_axes = [axis % len(shape) for axis in axes]
    for sigma in (1, 2.5, max(shape[axis] for axis in positive_axes)):
        filtered = forgrad(explanations, sigma, window=window, rectify=rectify, axes=axes)
        expected = reference.forgrad(explanations, sigma, window, rectify, positive_axes)
        np.testing.assert_allclose(filtered, expected, **EXACT)


@pytest.mark.filterwarnings("ignore:Explanations of shape")  # of width 1, on purpose
@pytest.mark.filterwarnings("ignore:`sigma` is .*; below 1")
@given(
    batch=st.integers(1, 4),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channels=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, "bfloat16", np.int32, np.uint8]),
    share=st.floats(0.03, 1.0),
    window=st.sampled_from(WINDOWS),
    rectify=st.sampled_from(RECTIFICATIONS),
    seed=st.integers(0, 99),
)
@settings(max_examples=150)
def test_any_shape_and_dtype(batch, height, width, channels, dtype, share, window, rectify, seed):
    shape = (batch, height, width) + ((channels,) if channels else ())
    values = 10 * np.random.default_rng(seed).random(shape)
    explanations = tf.cast(values, tf.as_dtype(dtype))
    sigma = share * max(height, width)
    before = explanations.numpy().copy()
    filtered = forgrad(explanations, sigma, window=window, rectify=rectify)

    assert filtered.shape == shape
    assert filtered.dtype == (explanations.dtype if explanations.dtype.is_floating else tf.float32)
    np.testing.assert_array_equal(explanations.numpy(), before)
    expected = reference.forgrad(explanations.numpy(), sigma, window, rectify)
    tolerance = {"float16": 0.02, "bfloat16": 0.1, "float64": 1e-11}
    error = np.max(np.abs(tf.cast(filtered, tf.float64) - expected))
    assert error < tolerance.get(explanations.dtype.name, 2e-5)


@pytest.mark.filterwarnings("ignore:Explanations of shape")  # of width 1, on purpose
@pytest.mark.filterwarnings("ignore:`sigma` is .*; below 1")
@given(
    sizes=st.lists(st.integers(1, 7), min_size=2, max_size=5),
    by_products=st.booleans(),
    negative=st.booleans(),
    share=st.floats(0.05, 1.0),
    data=st.data(),
)
def test_any_axes(sizes, by_products, negative, share, data):
    rank = len(sizes)
    choices = st.lists(st.integers(1, rank - 1), min_size=1, max_size=3, unique=True)
    axes = data.draw(choices.filter(lambda axes: rank < 5 or sorted(axes) != [1, 2]))
    explanations = np.random.default_rng(rank).standard_normal(sizes)
    sigma = share * max(sizes[axis] for axis in axes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            _filters, "products_pay_off", lambda shape, *_: by_products and len(shape) < 3
        )
        given_axes = [axis - rank if negative else axis for axis in axes]
        filtered = forgrad(explanations, sigma, axes=given_axes)
    expected = reference.forgrad(explanations, sigma, axes=axes)
    np.testing.assert_allclose(filtered, expected, atol=1e-11)


def test_inputs_of_every_kind(rng):
    explanations = rng.standard_normal((2, 8, 8)).astype(np.float32)
    expected = forgrad(explanations, 2).numpy()
    for given_explanations in (
        tf.constant(explanations),
        tf.Variable(explanations),
        explanations.tolist(),
        list(tf.constant(explanations)),
        explanations[:, ::-1][:, ::-1],
    ):
        np.testing.assert_allclose(forgrad(given_explanations, 2), expected, atol=1e-6)
    read_only = explanations.copy()
    read_only.flags.writeable = False
    forgrad(read_only, 2)


# identities


@pytest.mark.parametrize("shape", [(3, 16, 16, 1), (3, 15, 15, 1), (3, 15, 22, 2)])
@pytest.mark.parametrize("window", ["disk", "box"])
def test_full_band_is_the_identity_on_the_magnitude(shape, window, rng):
    explanations = rng.standard_normal(shape)
    sigma = full_band_sigma(shape[1:3], window)
    filtered = forgrad(explanations, sigma, window=window)
    np.testing.assert_allclose(filtered, np.abs(explanations), atol=1e-12)
    signed = forgrad(explanations, sigma, window=window, rectify=None)
    np.testing.assert_allclose(signed, explanations, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("rectify", ["positive", None])
def test_the_mean_is_kept(window, rectify, rng):
    explanations = rng.standard_normal((4, 13, 18, 2))
    rectified = np.maximum(explanations, 0) if rectify else explanations
    filtered = forgrad(explanations, 3, window=window, rectify=rectify).numpy()
    np.testing.assert_allclose(filtered.mean((1, 2)), rectified.mean((1, 2)), atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [16, 17])
def test_a_constant_map_stays_the_same_constant(window, size):
    explanations = np.full((1, size, size, 1), 0.7, np.float32)
    filtered = forgrad(explanations, 2, window=window)
    np.testing.assert_allclose(filtered, explanations, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_linear_without_rectification(window, rng):
    first, second = rng.standard_normal((2, 3, 14, 11))

    def filter_map(maps):
        return forgrad(maps, 4, window=window, rectify=None).numpy()

    np.testing.assert_allclose(
        filter_map(2 * first - 3 * second),
        2 * filter_map(first) - 3 * filter_map(second),
        atol=1e-12,
    )


@pytest.mark.parametrize("window", ["disk", "box"])
@pytest.mark.parametrize("size", [16, 17])
def test_disk_and_box_are_idempotent(window, size, rng):
    once = forgrad(rng.standard_normal((2, size, size)), 5, window=window, rectify=None)
    twice = forgrad(once, 5, window=window, rectify=None)
    np.testing.assert_allclose(twice, once, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("rectify", RECTIFICATIONS)
def test_shift_equivariant(window, rectify, rng):
    explanations = rng.standard_normal((2, 15, 12))
    options = {"window": window, "rectify": rectify}
    shifted = forgrad(np.roll(explanations, (4, 7), axis=(1, 2)), 3, **options)
    expected = np.roll(forgrad(explanations, 3, **options), (4, 7), axis=(1, 2))
    np.testing.assert_allclose(shifted, expected, atol=1e-12)


@pytest.mark.parametrize("size", [32, 33])
def test_sinusoids_pass_below_the_cutoff_and_vanish_above(size):
    x = np.arange(size)
    for cycles in (3, 4, 5, 6):
        grating = np.cos(2 * np.pi * cycles * x / size)[None, :, None] * np.ones((1, 1, size))
        for window in ("disk", "box"):
            filtered = forgrad(grating, 4.5, window=window, rectify=None)
            np.testing.assert_allclose(filtered, grating if cycles <= 4 else 0, atol=1e-12)


@pytest.mark.parametrize("nb_maps", [1, 5, 40])
def test_a_batch_equals_its_maps_one_by_one(nb_maps, rng):
    # scales of 1e-8 and 1e8 side by side: no map leaks into another
    scales = 10.0 ** rng.integers(-8, 9, size=(nb_maps, 1, 1, 1))
    explanations = (scales * rng.standard_normal((nb_maps, 64, 64, 1))).astype(np.float32)
    together = forgrad(explanations, 6).numpy()
    for i in range(nb_maps):
        alone = forgrad(explanations[i : i + 1], 6).numpy()[0]
        np.testing.assert_allclose(together[i] / scales[i], alone / scales[i], **EXACT)


def test_channels_are_filtered_one_by_one(rng):
    explanations = rng.standard_normal((2, 12, 12, 3))
    together = forgrad(explanations, 3, rectify=None)
    for channel in range(3):
        alone = forgrad(explanations[..., channel], 3, rectify=None)
        np.testing.assert_allclose(together[..., channel], alone, atol=1e-12)


def test_soft_windows_ring_less_than_disk_and_box():
    step = np.zeros((1, 64, 64))
    step[:, :, 32:] = 1.0
    overshoot = {w: float(np.max(forgrad(step, 8, window=w, rectify=None))) for w in WINDOWS}
    assert overshoot["gaussian"] < 1.001
    assert overshoot["butterworth"] < 1.05
    assert overshoot["disk"] > 1.05
    assert overshoot["box"] > 1.05


# cutoffs


@pytest.mark.parametrize("window", WINDOWS)
def test_one_cutoff_per_map(window, rng):
    explanations = rng.standard_normal((3, 14, 14, 2)).astype(np.float32)
    sigmas = [1.5, 6, 3]
    expected = reference.forgrad(explanations, sigmas, window)
    for given_sigmas in (sigmas, np.array(sigmas), tf.constant(sigmas)):
        np.testing.assert_allclose(
            forgrad(explanations, given_sigmas, window=window), expected, **EXACT
        )


@pytest.mark.parametrize(
    "sigma",
    [
        4,
        4.0,
        np.int64(4),
        np.float32(4),
        tf.constant(4),
        tf.constant(4.0),
        tf.Variable(4.0),
        keras.Variable(4.0),
    ],
)
def test_a_cutoff_of_any_kind_of_number(sigma, rng):
    explanations = rng.standard_normal((3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(
        forgrad(explanations, sigma), reference.forgrad(explanations, 4), **EXACT
    )


def test_sweep_equals_single_calls(rng):
    for shape, axes in LAYOUTS.values():
        explanations = rng.standard_normal(shape).astype(np.float32)
        sigmas = [5, 1, 2.5, 3, 4]
        for rectify in RECTIFICATIONS:
            options = {"rectify": rectify, "axes": axes}
            sweep = forgrad_sweep(explanations, sigmas, **options)
            assert sweep.shape == (5, *shape)
            for filtered, sigma in zip(sweep, sigmas):
                np.testing.assert_allclose(
                    filtered, forgrad(explanations, sigma, **options), **EXACT
                )


def test_sweeps_of_any_order_share_one_graph(rng):
    explanations = rng.standard_normal((2, 224, 224, 1)).astype(np.float32)
    sigmas = np.linspace(2, 200, 8)
    expected = forgrad_sweep(explanations, sigmas).numpy()
    nb_graphs = _filters._compiled.cache_info().misses
    for _ in range(3):
        order = rng.permutation(8)
        sweep = forgrad_sweep(explanations, sigmas[order])
        np.testing.assert_allclose(sweep, expected[order], **EXACT)
    assert _filters._compiled.cache_info().misses == nb_graphs


def test_sweep_mixes_products_and_ffts(rng):
    # narrow bands by products, wide ones by FFT
    explanations = rng.standard_normal((4, 256, 256, 1)).astype(np.float32)
    sigmas = [180, 5, 250, 20]
    sweep = forgrad_sweep(explanations, sigmas)
    for filtered, sigma in zip(sweep, sigmas):
        alone = tf.function(forgrad)(explanations, sigma)
        np.testing.assert_allclose(filtered, alone, **EXACT)


def test_sweep_of_one_cutoff_keeps_its_axis(rng):
    assert forgrad_sweep(rng.standard_normal((2, 8, 8)), [3]).shape == (1, 2, 8, 8)


# graphs, compilers, gradients


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_a_function_of_the_caller(layout, jit_compile, rng):
    shape, axes = LAYOUTS[layout]
    explanations = rng.standard_normal(shape).astype(np.float32)
    traced = tf.function(
        lambda maps, sigma: forgrad(maps, sigma, axes=axes),
        input_signature=[tf.TensorSpec([None] * len(shape)), tf.TensorSpec([])],
        jit_compile=jit_compile,
    )
    np.testing.assert_allclose(
        traced(explanations, 3.0), forgrad(explanations, 3, axes=axes), **EXACT
    )


def test_static_shapes_survive_tracing():
    @tf.function(input_signature=[tf.TensorSpec([None, 8, 9, 1])])
    def traced(maps):
        filtered = forgrad(maps, 3)
        assert filtered.shape.as_list() == [None, 8, 9, 1]
        return filtered

    traced(tf.zeros((2, 8, 9, 1)))


def test_no_retracing_when_sigma_changes(rng):
    nb_traces = 0

    @tf.function
    def traced(maps, sigma):
        nonlocal nb_traces
        nb_traces += 1
        return forgrad(maps, sigma)

    explanations = rng.standard_normal((2, 16, 16)).astype(np.float32)
    for sigma in (1.0, 2.5, 7.0, 16.0):
        np.testing.assert_allclose(
            traced(explanations, tf.constant(sigma)),
            reference.forgrad(explanations, sigma),
            **EXACT,
        )
    assert nb_traces == 1


def test_eager_calls_share_one_graph_for_all_sizes_and_cutoffs(rng):
    _filters._compiled.cache_clear()
    for size in (8, 11, 20):
        for sigma in (1, 2, tf.constant(3.0)):
            forgrad(rng.standard_normal((2, size, size + 3)), sigma)
    assert _filters._compiled.cache_info().misses == 1


def test_per_map_cutoffs_while_tracing(rng):
    explanations = rng.standard_normal((3, 9, 9)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None] * 3), tf.TensorSpec([None])])
    def traced(maps, sigmas):
        return forgrad(maps, sigmas)

    expected = reference.forgrad(explanations, [1, 2, 4])
    np.testing.assert_allclose(traced(explanations, [1.0, 2.0, 4.0]), expected, **EXACT)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one cutoff per map"):
        traced(explanations, [1.0])


def test_a_list_of_tensors_while_tracing(rng):
    explanations = rng.standard_normal((2, 9, 9)).astype(np.float32)
    traced = tf.function(lambda sigma: forgrad(explanations, [sigma, 3.0]))
    expected = reference.forgrad(explanations, [2, 3])
    np.testing.assert_allclose(traced(tf.constant(2.0)), expected, **EXACT)


def test_tracing_warns_of_nothing(caplog):
    import logging

    tf.get_logger().propagate = True
    try:
        with caplog.at_level(logging.WARNING):
            for function in (forgrad, lambda maps, s: forgrad_sweep(maps, [1, 2]), forgrad):
                tf.function(function)(np.ones((1, 8, 8)), tf.constant(3.0))
    finally:
        tf.get_logger().propagate = False
    assert not [record for record in caplog.records if "AutoGraph" in record.getMessage()]


def test_sweep_while_tracing(rng):
    explanations = rng.standard_normal((2, 9, 10)).astype(np.float32)
    expected = forgrad_sweep(explanations, [1, 4])

    @tf.function(input_signature=[tf.TensorSpec([None] * 3), tf.TensorSpec([2])])
    def of_tensor(maps, sigmas):
        return forgrad_sweep(maps, sigmas)

    @tf.function
    def of_numbers(maps):
        return forgrad_sweep(maps, [1, 4])

    np.testing.assert_allclose(of_tensor(explanations, [1.0, 4.0]), expected, **EXACT)
    np.testing.assert_allclose(of_numbers(explanations), expected, **EXACT)


def test_in_a_dataset(rng):
    explanations = rng.standard_normal((5, 9, 9, 1)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(explanations).batch(2)
    batches = list(dataset.map(lambda maps: forgrad(maps, 3)))
    np.testing.assert_allclose(tf.concat(batches, 0), forgrad(explanations, 3), **EXACT)


@pytest.mark.parametrize("sigma", [4, tf.constant(4.0)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_is_that_of_the_linear_filter(layout, sigma, rng):
    shape, axes = LAYOUTS[layout]
    explanations = tf.constant(rng.standard_normal(shape))
    weights = rng.standard_normal(shape)
    with tf.GradientTape() as tape:
        tape.watch(explanations)
        filtered = forgrad(explanations, sigma, rectify=None, axes=axes)
        loss = tf.reduce_sum(weights * filtered)
    # a filter of real, symmetric gain is its own adjoint
    expected = forgrad(weights, 4, rectify=None, axes=axes)
    np.testing.assert_allclose(tape.gradient(loss, explanations), expected, atol=1e-10)


def test_gradient_through_rectification_and_sweep(rng):
    explanations = tf.constant(rng.standard_normal((2, 7, 8, 1)))

    def total(maps):
        return tf.reduce_sum(forgrad(maps, 3) ** 2) + tf.reduce_sum(forgrad_sweep(maps, [1, 2]))

    for function in (total, tf.function(total)):
        theoretical, numerical = tf.test.compute_gradient(function, [explanations], delta=1e-6)
        np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-5)


@pytest.mark.parametrize("window", ["gaussian", "butterworth"])
def test_gradient_in_sigma_with_soft_windows(window, rng):
    explanations = rng.standard_normal((2, 8, 8))

    def total(sigma):
        return tf.reduce_sum(forgrad(explanations, sigma, window=window, rectify=None) ** 2)

    theoretical, numerical = tf.test.compute_gradient(total, [tf.constant(3.0, tf.float64)])
    np.testing.assert_allclose(theoretical[0], numerical[0], rtol=1e-3)


# parity with Xplique, where Xplique is right


@pytest.mark.parametrize("size", [8, 64, 224])
@pytest.mark.parametrize("channel", [True, False])
def test_equals_xplique_on_even_squares(size, channel, rng):
    explanations = rng.standard_normal((3, size, size, 1)).astype(np.float32)
    if not channel:
        explanations = explanations[..., 0]
    for sigma in {1, 5, 15, size // 2, size} & set(range(size + 1)):
        expected = xplique_forgrad_function(explanations, sigma).numpy()
        filtered = forgrad(explanations, sigma).numpy().reshape(expected.shape)
        assert np.max(np.abs(filtered - expected)) < 1e-5 * np.max(np.abs(explanations))


@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="needs a GPU")
def test_runs_where_its_input_lives(rng):
    explanations = rng.standard_normal((4, 224, 224, 1)).astype(np.float32)
    for device in ("CPU:0", "GPU:0"):
        with tf.device(device):
            maps = tf.constant(explanations)
        filtered = forgrad(maps, 15)
        assert filtered.device.endswith(device)
        np.testing.assert_allclose(filtered, reference.forgrad(explanations, 15), **EXACT)


@pytest.mark.parametrize("shape", [(32, 32), (31, 31), (24, 40)])
@pytest.mark.parametrize(("deviation", "share"), [(1.0, 0.01), (2.5, 1e-12), (4.0, 1e-12)])
def test_the_gaussian_window_is_a_gaussian_blur(shape, deviation, share, rng):
    maps = rng.standard_normal((2, *shape))
    sigma = max(shape) / (2 * np.pi * deviation)
    for rectify, values in ((None, maps), ("magnitude", np.abs(maps))):
        blurred = gaussian_filter(values, deviation, axes=(1, 2), mode="wrap", truncate=8)
        filtered = forgrad(maps, sigma, window="gaussian", rectify=rectify)
        np.testing.assert_allclose(filtered, blurred, rtol=0, atol=share * blurred.max())
