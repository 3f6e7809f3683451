"""
Spectra against the discrete Fourier transform written out, Parseval, and gratings of known radius.
"""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reference import dft, low_pass_mask, signed_frequencies
from scipy import signal

from xplique_forgrad import Faithfulness, forgrad
from xplique_forgrad.demo import load_images
from xplique_forgrad.filtering import full_band_sigma
from xplique_forgrad.spectrum import (
    band_importance,
    compressed_size,
    expected_frequency,
    fourier_ring_correlation,
    fourier_signature,
    high_frequency_power,
    mean_absolute_laplacian,
    radial_spectrum,
    share_outside,
)

MEASURES = (
    high_frequency_power,
    expected_frequency,
    mean_absolute_laplacian,
    compressed_size,
)
SHAPES = st.tuples(*[st.integers(1, 3), st.integers(2, 17), st.integers(2, 17), st.integers(1, 2)])


def spectrum_of(maps):
    """Amplitudes (N, H, W, C), zero frequency first, by products with the DFT matrix."""
    return np.abs(dft(dft(maps.astype(complex), 1, -1), 2, -1))


def radius_of(shape):
    longest = max(shape)
    rows, columns = (longest / size * signed_frequencies(size) for size in shape)
    return np.hypot(rows[:, None], columns)


def grating(shape, rows, columns, phase=0.0):
    i, j = np.indices(shape)
    return np.cos(2 * np.pi * (rows * i / shape[0] + columns * j / shape[1]) + phase)


@given(SHAPES, st.sampled_from(["float64", "float32"]))
def test_signature_is_the_mean_amplitude_centred(shape, dtype):
    maps = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    expected = np.fft.fftshift(spectrum_of(maps).mean((0, 3)))
    np.testing.assert_allclose(fourier_signature(maps), expected, rtol=1e-4, atol=1e-4)


def test_signature_has_the_mean_at_its_centre():
    signature = fourier_signature(np.full((2, 9, 12), -2.0))
    assert signature[4, 6] == pytest.approx(2.0 * 9 * 12)
    signature[4, 6] = 0
    np.testing.assert_allclose(signature, 0, atol=1e-9)


@given(SHAPES, st.sampled_from([None, "magnitude", "positive"]))
def test_rings_sum_up_to_the_energy(shape, rectify):
    maps = np.random.default_rng(0).standard_normal(shape)
    kept = {None: maps, "magnitude": np.abs(maps), "positive": np.maximum(maps, 0)}[rectify]
    spectrum = radial_spectrum(maps, rectify=rectify)
    assert spectrum.power.shape == (shape[0], len(spectrum.radius))
    assert spectrum.radius[-1] <= full_band_sigma(shape[1:3]) + 0.5
    np.testing.assert_allclose(spectrum.power.sum(1), (kept**2).sum((1, 2, 3)))


@given(SHAPES)
def test_rings_are_those_of_the_reference(shape):
    maps = np.random.default_rng(0).standard_normal(shape)
    power = (spectrum_of(maps) ** 2).sum(-1) / (shape[1] * shape[2])
    rings = np.floor(radius_of(shape[1:3]) + 0.5).astype(int).ravel()
    found = radial_spectrum(maps).power
    for one, expected in zip(found, power):
        np.testing.assert_allclose(one, np.bincount(rings, expected.ravel()), atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "rows", "columns", "radius"),
    [
        ((32, 32), 0, 5, 5),
        ((32, 32), 3, 4, 5),
        ((31, 31), 7, 0, 7),
        ((24, 48), 0, 6, 6),
        # 3 cycles along the short side are 6 along the long one
        ((24, 48), 3, 0, 6),
        ((24, 48), 3, 8, 10),
        ((32, 32), 0, 16, 16),
    ],
)
def test_gratings_are_found_at_their_radius(shape, rows, columns, radius):
    maps = np.stack([grating(shape, rows, columns, phase) for phase in (0, 0.7)])
    spectrum = radial_spectrum(maps)
    assert (spectrum.power.argmax(1) == radius).all()
    np.testing.assert_allclose(spectrum.power.max(1), spectrum.power.sum(1))
    np.testing.assert_allclose(expected_frequency(maps), radius)
    np.testing.assert_allclose(high_frequency_power(maps, radius), 0, atol=1e-12)
    np.testing.assert_allclose(high_frequency_power(maps, radius - 0.1), 1)


def test_shares_of_a_sum_of_gratings_are_their_energies():
    """cos has the energy 1/2 a pixel, a constant c has c^2."""
    maps = (1 + 2 * grating((40, 40), 0, 3) + 3 * grating((40, 40), 12, 5))[None]
    total = 1 + 4 / 2 + 9 / 2
    assert high_frequency_power(maps, 2)[0] == pytest.approx((2 + 4.5) / total)
    assert high_frequency_power(maps, 3)[0] == pytest.approx(4.5 / total)
    # a box holds 12 cycles down and 5 across, a disk of 12 does not
    assert high_frequency_power(maps, 12, window="box")[0] == pytest.approx(0, abs=1e-12)
    assert high_frequency_power(maps, 12)[0] == pytest.approx(4.5 / total)
    assert expected_frequency(maps)[0] == pytest.approx((2 * 3 + 4.5 * 13) / total)


def test_power_beyond_a_cutoff_is_what_the_filter_takes_away(rng):
    maps = rng.standard_normal((3, 20, 31))
    kept = forgrad(maps, 7, rectify=None).numpy()
    lost = 1 - (kept**2).sum((1, 2)) / (maps**2).sum((1, 2))
    np.testing.assert_allclose(high_frequency_power(maps, 7), lost)


def test_limits_of_their_own_down_and_across():
    """3 cycles down 40 pixels are 0.075 a pixel, 9 across 30 are 0.3."""
    maps = grating((40, 30), 3, 9)[None]
    for limits, share in (((0.075, 0.3), 0), ((0.07, 0.3), 1), ((0.075, 0.29), 1), ((0, 0), 1)):
        np.testing.assert_allclose(share_outside(maps, limits), share, atol=1e-12)


def test_default_cutoff_is_a_quarter_of_the_longest_side(rng):
    maps = rng.standard_normal((3, 20, 32))
    np.testing.assert_array_equal(high_frequency_power(maps), high_frequency_power(maps, 8))


def test_laplacian_of_the_four_neighbours(rng):
    maps = rng.standard_normal((3, 9, 14))
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    edges = [np.abs(signal.convolve2d(one, kernel, mode="valid")).mean() for one in padded]
    np.testing.assert_allclose(mean_absolute_laplacian(maps), edges / maps.std((1, 2)))


def test_compressed_size_is_that_of_a_grey_png():
    maps = np.random.default_rng(0).integers(0, 256, (2, 20, 30))
    maps[:, 0, 0], maps[:, 0, 1] = 0, 255  # so that stretching changes nothing
    for one, size in zip(maps, compressed_size(maps / 7 + 3)):
        file = io.BytesIO()
        Image.fromarray(one.astype(np.uint8)).save(file, "PNG", compress_level=9)
        assert size == len(file.getvalue())


def test_codecs_and_bits_agree_on_the_order(rng):
    smooth = grating((64, 64), 1, 1)
    rough = rng.standard_normal((64, 64))
    for codec in ("png", "zlib", "bz2", "lzma"):
        sizes = compressed_size([smooth, rough], codec=codec)
        assert sizes[0] < sizes[1]
    bits = [compressed_size(rough[None], nb_bits=bits)[0] for bits in (1, 4, 8)]
    assert bits == sorted(bits)
    assert bits[0] >= 64 * 64 / 8


@pytest.mark.parametrize("measure", MEASURES)
class TestEachMeasure:
    def test_higher_means_more_high_frequency(self, measure, rng):
        noise = rng.standard_normal((4, 48, 48))
        by_cutoff = [measure(forgrad(noise, sigma, rectify=None)) for sigma in (2, 6, 15, 34)]
        assert (np.diff(by_cutoff, axis=0) > 0).all()

    @pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e3, 1e30])
    def test_does_not_depend_on_the_scale(self, measure, rng, factor):
        maps = rng.standard_normal((3, 24, 24)).astype(np.float32)
        scaled = (maps * factor).astype(np.float32)
        np.testing.assert_allclose(measure(scaled), measure(maps), rtol=0.01)

    def test_constant_maps_have_none(self, measure):
        found = measure(np.stack([np.zeros((16, 16)), np.full((16, 16), 0.3), np.ones((16, 16))]))
        smallest = compressed_size(np.zeros((1, 16, 16)))[0] if measure is compressed_size else 0
        np.testing.assert_allclose(found, smallest, atol=1e-9)

    def test_rounding_of_a_constant_is_no_content(self, measure, rng):
        maps = (1 + 1e-7 * rng.standard_normal((1, 16, 16))).astype(np.float32)
        np.testing.assert_allclose(measure(maps), measure(np.ones((1, 16, 16))), atol=1e-5)

    def test_maps_and_channels_are_measured_alone(self, measure, rng):
        maps = rng.standard_normal((3, 12, 15, 2))
        alone = [[measure(maps[i : i + 1, ..., c])[0] for c in range(2)] for i in range(3)]
        np.testing.assert_allclose(measure(maps), np.mean(alone, axis=1))

    @pytest.mark.parametrize("rectify", ["magnitude", "positive"])
    def test_rectifies_first(self, measure, rng, rectify):
        maps = rng.standard_normal((2, 12, 15))
        expected = np.abs(maps) if rectify == "magnitude" else np.maximum(maps, 0)
        np.testing.assert_allclose(measure(maps, rectify=rectify), measure(expected))

    def test_streams_are_arrays(self, measure, rng):
        maps = rng.standard_normal((7, 12, 15, 1))
        dataset = tf.data.Dataset.from_tensor_slices(maps).batch(3)
        np.testing.assert_allclose(measure(dataset), measure(maps))
        np.testing.assert_allclose(measure(iter([maps[:5], maps[5:]])), measure(maps))

    def test_half_precision(self, measure, rng):
        maps = rng.standard_normal((2, 16, 16)).astype(np.float16)
        np.testing.assert_allclose(measure(maps), measure(maps.astype(np.float32)))
        assert measure(tf.cast(maps, tf.bfloat16)).shape == (2,)

    def test_integers(self, measure, rng):
        maps = rng.integers(0, 9, (2, 16, 16))
        np.testing.assert_allclose(measure(maps), measure(maps.astype(np.float32)))


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e18])
def test_energies_of_any_scale(rng, scale):
    maps = (scale * rng.standard_normal((2, 12, 15))).astype(np.float32)
    energy = np.sum(maps.astype(np.float64) ** 2, axis=(1, 2))
    np.testing.assert_allclose(radial_spectrum(maps).power.sum(1), energy, rtol=1e-5)


def test_signature_of_a_stream_is_that_of_the_array(rng):
    maps = rng.standard_normal((7, 12, 15, 1))
    dataset = tf.data.Dataset.from_tensor_slices(maps).batch(3)
    np.testing.assert_allclose(fourier_signature(dataset), fourier_signature(maps))
    np.testing.assert_allclose(radial_spectrum(dataset).power, radial_spectrum(maps).power)


class TestBandImportance:
    def test_energies_are_those_of_the_reference(self, rng):
        maps = rng.standard_normal((4, 18, 27)) + 1
        table = band_importance(maps, rectify=None)
        power = spectrum_of(maps[..., None])[..., 0] ** 2
        shares = []
        for low, high in zip(table["low"], table["high"]):
            mask = low_pass_mask((18, 27), high, "disk") if high else np.zeros((18, 27))
            if low:
                mask = mask - low_pass_mask((18, 27), low, "disk")
            mask[0, 0] = high == 0
            shares.append((power * mask).sum((1, 2)) / power.sum((1, 2)))
        np.testing.assert_allclose(table["energy"], np.mean(shares, axis=1))
        errors = np.std(shares, axis=1, ddof=1) / 2
        np.testing.assert_allclose(table["energy_error"], errors, atol=1e-12)
        assert table["energy"].sum() == pytest.approx(1)

    def test_bands_are_octaves_up_to_the_full_band(self):
        table = band_importance(np.random.default_rng(0).standard_normal((1, 32, 32)))
        expected = [0, 1, 2, 4, 8, 16, full_band_sigma((32, 32))]
        assert table["high"].tolist() == pytest.approx(expected)
        assert table["energy_error"].isna().all()  # one image tells nothing of its error

    def test_a_grating_sits_in_its_octave(self):
        table = band_importance(grating((32, 32), 0, 6)[None], rectify=None)
        assert table.loc[table["energy"].idxmax(), ["low", "high"]].tolist() == [4, 8]

    def test_edges_of_the_users(self):
        table = band_importance(grating((32, 32), 0, 6)[None], edges=[5, 7], rectify=None)
        assert table["high"].tolist()[:3] == [0, 5, 7]
        np.testing.assert_allclose(table["energy"], [0, 0, 1, 0], atol=1e-12)

    def test_what_bands_add_sums_up_to_the_score_of_the_map(self, classifier):
        inputs, targets, masks = load_images(6, seed=3)
        metric = Faithfulness(classifier, inputs, targets, activation="softmax")
        maps = masks.astype(np.float32)
        table = band_importance(maps, metric)
        assert table["added"].sum() == pytest.approx(metric(maps), abs=1e-5)

    def test_each_band_is_scored_alone_and_in_sum(self):
        """A metric that knows the answer: how much of a planted grating the map holds."""
        planted = grating((32, 32), 0, 6)
        noise = grating((32, 32), 13, 0)

        class Metric:
            def evaluate_per_image(self, maps):
                return np.sum(np.asarray(maps) * planted, axis=(1, 2)) / np.sum(planted**2)

        maps = np.stack([planted + noise, 3 * planted + noise])
        table = band_importance(maps, Metric(), rectify=None).set_index("high")
        for column in ("alone", "added"):
            expected = np.where(table.index == 8, 2.0, 0.0)
            np.testing.assert_allclose(table[column], expected, atol=1e-9)
            assert table.loc[8, f"{column}_error"] == pytest.approx(1.0)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (2, 2)])
    def test_smallest_maps(self, shape):
        table = band_importance(np.ones((2, *shape, 1)) + np.arange(shape[1])[:, np.newaxis])
        assert table["energy"].sum() == pytest.approx(1)

    def test_scores_and_maps_must_be_finite(self, rng):
        maps = rng.standard_normal((3, 16, 16))

        class Metric:
            def __init__(self, scores):
                self.scores = scores

            def evaluate_per_image(self, maps):
                return self.scores

        for scores in (np.array([0, np.nan, 1]), np.zeros(2)):
            with pytest.raises(ValueError, match="one finite number a map"):
                band_importance(maps, Metric(scores))
        maps[1] = np.nan
        with pytest.raises(ValueError, match="Map 1 "):
            band_importance(maps, edges=[16])

    def test_magnitudes_of_bands_are_scored_as_the_filter_gives_them(self, rng):
        seen = []

        class Metric:
            def evaluate_per_image(self, maps):
                seen.append(np.asarray(maps))
                return np.zeros(len(maps))

        maps = rng.standard_normal((2, 16, 16))
        band_importance(maps, Metric(), edges=[4])
        assert min(part.min() for part in seen) >= 0
        np.testing.assert_allclose(seen[3], forgrad(maps, 4), atol=1e-12)
        np.testing.assert_allclose(seen[-1], np.abs(maps))

    def test_bad_edges(self, rng):
        maps = rng.standard_normal((2, 32, 32))
        for edges in ([4, 2], [2, 2], [], [0, 3], [3, 99], 5, [[1, 2]]):
            with pytest.raises(ValueError, match="edges"):
                band_importance(maps, edges=edges)

    def test_a_metric_must_score_image_by_image(self, rng):
        with pytest.raises(TypeError, match="Faithfulness"):
            band_importance(rng.standard_normal((2, 32, 32)), metric=len)


@pytest.mark.parametrize("function", [*MEASURES, fourier_signature, radial_spectrum])
class TestBadInput:
    def test_nan_names_the_map(self, function):
        maps = np.zeros((3, 8, 8))
        maps[1, 2, 3] = np.nan
        with pytest.raises(ValueError, match="Map 1 "):
            function(maps)

    def test_no_maps(self, function):
        with pytest.raises(ValueError, match="at least one"):
            function(np.zeros((0, 8, 8)))
        with pytest.raises(ValueError, match="at least one"):
            function(iter([]))

    def test_wrong_rank(self, function):
        for shape in ((8,), (8, 8), (2, 3, 8, 8, 1)):
            with pytest.raises(ValueError, match="shape"):
                function(np.zeros(shape))

    def test_sizes_that_differ(self, function):
        with pytest.raises(ValueError, match="several sizes"):
            function(iter([np.ones((1, 8, 8)), np.ones((1, 8, 9))]))

    def test_stream_of_single_maps(self, function):
        with pytest.raises(ValueError, match=r"batch\(64\)"):
            function(tf.data.Dataset.from_tensor_slices(np.ones((3, 8, 8))))
        for channels in (1, 3, 5):
            with pytest.raises(ValueError, match=r"batch\(64\)"):
                function(tf.data.Dataset.from_tensor_slices(np.ones((3, 8, 8, channels))))
        with pytest.raises(ValueError, match=r"batch\(64\)"):
            function(iter([np.ones((8, 8, 1))]))

    def test_text_and_complex(self, function):
        with pytest.raises((TypeError, ValueError)):
            function("maps")
        with pytest.raises(TypeError, match="dtype"):
            function(np.ones((2, 8, 8), complex))

    def test_unknown_rectification(self, function):
        with pytest.raises(ValueError, match="rectify"):
            function(np.ones((2, 8, 8)), rectify="square")


def test_bad_options(rng):
    maps = rng.standard_normal((2, 16, 16))
    for sigma in (0, -1, 17, np.nan):
        with pytest.raises(ValueError, match="sigma"):
            high_frequency_power(maps, sigma)
    with pytest.raises(ValueError, match="one cutoff"):
        high_frequency_power(maps, [3, 4])
    with pytest.raises(ValueError, match="window"):
        high_frequency_power(maps, 3, window="gaussian")
    with pytest.raises(ValueError, match="codec"):
        compressed_size(maps, codec="jpeg")
    for nb_bits in (0, 9, 2.5, True):
        with pytest.raises(ValueError, match="nb_bits"):
            compressed_size(maps, nb_bits=nb_bits)


class TestRingCorrelation:
    def test_is_the_correlation_of_each_ring(self, rng):
        first, second = rng.standard_normal((2, 3, 12, 17))
        rings = np.floor(radius_of((12, 17)) + 0.5).astype(int).ravel()

        def spectra(maps):
            unit = maps / np.sqrt((maps**2).sum((1, 2), keepdims=True))
            return np.fft.fft2(unit)

        a, b = spectra(first), spectra(second)
        sums = [
            np.bincount(rings, values.sum(0).ravel())
            for values in ((a * b.conj()).real, abs(a) ** 2, abs(b) ** 2)
        ]
        expected = sums[0] / np.sqrt(sums[1] * sums[2])
        found = fourier_ring_correlation(first, second)
        np.testing.assert_allclose(found.correlation, expected, atol=1e-9)

    def test_finds_where_a_planted_signal_ends(self, rng):
        signal_maps = forgrad(rng.standard_normal((32, 64, 64)), 9, rectify=None).numpy()
        copies = [signal_maps + 0.3 * rng.standard_normal(signal_maps.shape) for _ in range(2)]
        assert fourier_ring_correlation(*copies).resolution() == pytest.approx(9, abs=1)

    def test_equal_and_opposite_maps(self, rng):
        maps = rng.standard_normal((3, 16, 16, 2))
        same = fourier_ring_correlation(maps, 7 * maps)
        np.testing.assert_allclose(same.correlation, 1)
        assert same.resolution() == same.radius[-1]
        np.testing.assert_allclose(fourier_ring_correlation(maps, -maps).correlation, -1)
        assert fourier_ring_correlation(maps, -maps).resolution() == 0

    def test_dtypes_and_thresholds(self, rng):
        maps = rng.standard_normal((2, 8, 8))
        both = fourier_ring_correlation(maps, maps.astype(np.float32))
        np.testing.assert_allclose(both.correlation, 1)
        for threshold in (0, np.nan, 1.1):
            with pytest.raises(ValueError, match="threshold"):
                both.resolution(threshold)
        dataset = tf.data.Dataset.from_tensor_slices(maps).batch(2)
        with pytest.raises(TypeError, match="Dataset"):
            fourier_ring_correlation(dataset, dataset)

    def test_zeros_and_other_shapes(self):
        zeros = np.zeros((2, 8, 8))
        assert (fourier_ring_correlation(zeros, zeros).correlation == 0).all()
        with pytest.raises(ValueError, match="same"):
            fourier_ring_correlation(zeros, zeros[:1])
