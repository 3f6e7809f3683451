import numpy as np
import pytest
import reference
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from xplique_forgrad import frequency_radius, full_band_sigma, low_pass_mask

WINDOWS = ("disk", "box", "gaussian", "butterworth")
shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@given(shape=shapes)
def test_radius_follows_fftfreq_in_cycles_along_the_longest_axis(shape):
    cycles = [np.fft.fftfreq(size) * max(shape) for size in shape]
    expected = np.sqrt(sum(c**2 for c in np.meshgrid(*cycles, indexing="ij")))
    np.testing.assert_allclose(frequency_radius(shape), expected, atol=1e-12)
    half = frequency_radius(shape, half=True)
    np.testing.assert_allclose(half, expected[..., : shape[-1] // 2 + 1], atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@given(shape=shapes, share=st.floats(0.05, 1.0))
def test_masks_equal_the_reference(window, shape, share):
    sigma = share * max(shape)
    mask = low_pass_mask(shape, sigma, window)
    np.testing.assert_allclose(mask, reference.low_pass_mask(shape, sigma, window), atol=1e-9)
    assert mask.numpy().flat[0] == 1.0


@pytest.mark.parametrize("window", ["disk", "box"])
@given(shape=shapes)
def test_full_band_is_the_smallest_cutoff_that_keeps_everything(window, shape):
    sigma = full_band_sigma(shape, window)
    assert np.all(low_pass_mask(shape, sigma, window) == 1)
    assert max(shape) == 1 or not np.all(low_pass_mask(shape, 0.99 * sigma, window) == 1)


def test_full_band_of_even_squares():
    assert full_band_sigma((224, 224)) == pytest.approx(224 / np.sqrt(2))
    assert full_band_sigma((224, 224), window="box") == 112.0
    assert full_band_sigma((224, 224), border="reflect") == pytest.approx(223 / np.sqrt(2))
    assert full_band_sigma((224, 224), "box", border="reflect") == 111.5


@pytest.mark.parametrize("window", ["gaussian", "butterworth"])
def test_soft_windows_have_no_full_band(window):
    with pytest.raises(ValueError, match="no full band|has no"):
        full_band_sigma((8, 8), window)


def test_gains_at_the_cutoff_are_as_documented():
    assert low_pass_mask((64, 64), 8, "gaussian").numpy()[0, 8] == pytest.approx(np.exp(-0.5))
    assert low_pass_mask((64, 64), 8, "butterworth").numpy()[0, 8] == pytest.approx(0.5)


def test_disk_is_equally_wide_in_x_and_y_when_the_image_is_not_square():
    mask = low_pass_mask((64, 128), 16).numpy()
    # 16 cycles along 128 pixels are 8 along 64
    assert mask[8, 0] == 1
    assert mask[9, 0] == 0
    assert mask[0, 16] == 1
    assert mask[0, 17] == 0


def test_butterworth_equals_scikit_image(rng):
    from skimage.filters import butterworth

    from xplique_forgrad import forgrad

    image = rng.standard_normal((48, 64))
    expected = butterworth(image, cutoff_frequency_ratio=7 / 64, high_pass=False, order=2, npad=0)
    filtered = forgrad(image[None], 7, window="butterworth", rectify=None)[0]
    np.testing.assert_allclose(filtered, expected, atol=1e-6)


def test_a_cutoff_that_went_through_float32_keeps_its_frequency():
    sigma = tf.constant(np.sqrt(50.0), tf.float32)
    assert low_pass_mask((32, 32), sigma)[5, 5] == 1


def test_vector_of_cutoffs_gives_one_mask_each():
    masks = low_pass_mask((8, 6), [1.0, 2.5, 8.0])
    assert masks.shape == (3, 8, 6)
    for mask, sigma in zip(masks, [1.0, 2.5, 8.0]):
        np.testing.assert_array_equal(mask, low_pass_mask((8, 6), sigma))


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (224, TypeError, "give the sizes of the filtered axes"),
        (np.array(8), TypeError, "give the sizes of the filtered axes"),
        ("88", TypeError, "give the sizes of the filtered axes"),
        ((), ValueError, "one to three axes"),
        ((1, 2, 3, 4), ValueError, "one to three axes"),
        ((0, 4), ValueError, "at least 1"),
        ((4.5, 4), TypeError, "integer"),
    ],
)
def test_bad_shapes(shape, error, message):
    with pytest.raises(error, match=message):
        frequency_radius(shape)


def test_shapes_may_be_tensors():
    expected = low_pass_mask((8, 9), 3)
    for shape in (
        tf.constant([8, 9]),
        (tf.constant(8, tf.int64), tf.constant(9)),
        (8, tf.constant(9)),
    ):
        np.testing.assert_array_equal(low_pass_mask(shape, 3), expected)

    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def traced(maps):
        return low_pass_mask(tf.shape(maps), 3)

    np.testing.assert_array_equal(traced(tf.zeros((8, 9))), expected)
