"""
What Xplique's own `forgrad` gets wrong, one test a defect.

`benchmarks/differences.py` measures them.
"""

import numpy as np
import pytest
import reference
import tensorflow as tf

from xplique_forgrad import forgrad, full_band_sigma


@pytest.fixture
def maps(rng):
    return rng.standard_normal((2, 15, 15, 1)).astype(np.float32)


def check(explanations, sigma, filtered):
    expected = reference.forgrad(explanations, sigma)
    np.testing.assert_allclose(np.asarray(filtered, float), expected, atol=1e-5)


def test_odd_sizes_have_a_centred_mask_and_lose_no_column(maps):
    check(maps, 4, forgrad(maps, 4))


@pytest.mark.filterwarnings("ignore:`sigma` is 15, which the paper")
def test_the_identity_cutoff_is_the_identity_on_an_odd_impulse():
    impulse = np.zeros((1, 15, 15, 1), np.float32)
    impulse[0, 7, 7] = 1.0
    for sigma in (full_band_sigma((15, 15)), 15):
        np.testing.assert_allclose(forgrad(impulse, sigma), impulse, atol=1e-6)


@pytest.mark.parametrize("size", [14, 15])
def test_the_rank_does_not_depend_on_parity(size):
    for shape in ((2, size, size), (2, size, size, 1)):
        assert forgrad(np.zeros(shape, np.float32), 4).shape == shape


def test_height_and_width_may_differ(rng):
    explanations = rng.standard_normal((2, 12, 17, 1)).astype(np.float32)
    check(explanations, 4, forgrad(explanations, 4))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-12), (np.float16, 2e-3), (np.int32, 1e-5)]
)
def test_every_dtype_is_filtered(dtype, tolerance, rng):
    explanations = rng.integers(-3, 4, size=(2, 14, 14, 1)).astype(dtype)
    filtered = np.asarray(forgrad(explanations, 4), float)
    np.testing.assert_allclose(filtered, reference.forgrad(explanations, 4), atol=tolerance)


def test_rank_two_gets_an_explanation_and_no_index_error():
    with pytest.raises(ValueError, match="rank 2"):
        forgrad(np.zeros((4, 4), np.float32), 2)


@pytest.mark.parametrize("first", ["eager", "traced"])
def test_eager_and_traced_calls_in_any_order(maps, first):
    sigma = 3.21 if first == "eager" else 3.22  # a mask that no test has cached yet
    eager, traced = (lambda: forgrad(maps, sigma)), tf.function(lambda: forgrad(maps, sigma))
    for call in (eager, traced, eager) if first == "eager" else (traced, eager, traced):
        check(maps, sigma, call())


def test_unknown_shapes_are_traced(maps):
    traced = tf.function(forgrad, input_signature=[tf.TensorSpec([None, None, None, 1])])
    check(maps[:, :4], 4, tf.function(lambda m: forgrad(m, 4))(maps[:, :4]))
    check(
        np.pad(maps, ((0, 0), (0, 5), (0, 5), (0, 0))),
        15,
        traced(tf.pad(maps, [[0, 0], [0, 5], [0, 5], [0, 0]])),
    )


def test_opposite_channels_do_not_cancel(maps):
    explanations = np.concatenate([maps, -maps], axis=-1)
    filtered = forgrad(explanations, 4)
    check(maps, 4, filtered[..., :1])
    check(maps, 4, filtered[..., 1:])


def test_sigma_may_be_a_tensor(maps):
    check(maps, 4, forgrad(maps, tf.constant(4)))
    check(maps, 4, tf.function(forgrad)(maps, tf.constant(4.0)))


def test_user_input_is_checked_under_python_O_too(maps):
    # an assert would be gone; a ValueError says what is allowed
    with pytest.raises(ValueError, match="0 < sigma <= 15"):
        forgrad(maps, 16)
