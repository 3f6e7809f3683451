"""
The propositions against slow NumPy, exact probabilities and simulations.
"""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from xplique_forgrad.theory import (
    filtering_residual,
    noise_norm_ratio,
    preprint_noise_norm_ratio,
    residual_noise,
    smoothgrad_bound,
    smoothgrad_nb_samples,
)

WINDOWS = ("disk", "box", "gaussian", "butterworth")
PAPER = (224, 224)
sizes = st.tuples(st.integers(2, 9), st.integers(2, 9))


def energies(maps):
    return np.array([np.sum(np.square(values)) for values in maps])


def simulated_ratios(rng, shape, sigma, window, nb_draws, deviation=1.0):
    """||e||^2 / ||LP e||^2 by NumPy's own transform and Parseval's theorem."""
    noise = deviation * rng.standard_normal((nb_draws, *shape))
    power = np.abs(np.fft.fft2(noise)) ** 2
    kept = power * reference.low_pass_mask(shape, sigma, window)
    return power.sum(axis=(1, 2)) / kept.sum(axis=(1, 2))


# proposition 3.1


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shape", [(3, 9, 12), (2, 8, 5, 3)])
def test_residual_equals_the_reference(rng, window, shape):
    gradient, noise = rng.standard_normal((2, *shape))
    residual = filtering_residual(gradient, noise, 3.0, window=window)
    kept, noise_kept, noisy_kept = (
        reference.forgrad(maps, 3.0, window, rectify=None)
        for maps in (gradient, noise, gradient + noise)
    )
    np.testing.assert_allclose(residual.total, energies(noisy_kept - gradient))
    np.testing.assert_allclose(residual.noise_kept, energies(noise_kept))
    np.testing.assert_allclose(residual.signal_lost, energies(gradient - kept))
    np.testing.assert_allclose(residual.noise, energies(noise))
    cross = [-2 * np.sum(a * b) for a, b in zip(noise_kept, gradient - kept)]
    np.testing.assert_allclose(
        residual.total, residual.noise_kept + residual.signal_lost + cross, rtol=1e-9
    )
    if window in ("gaussian", "butterworth"):
        assert np.max(np.abs(cross)) > 0.01


@pytest.mark.parametrize("window", ["disk", "box"])
@given(shape=sizes, share=st.floats(0.1, 1.0), seed=st.integers(0, 99))
def test_binary_windows_split_the_residual_into_noise_and_signal(window, shape, share, seed):
    gradient, noise = np.random.default_rng(seed).standard_normal((2, 2, *shape))
    residual = filtering_residual(gradient, noise, share * max(shape), window=window)
    np.testing.assert_allclose(residual.total, residual.noise_kept + residual.signal_lost)
    assert np.all(residual.noise_kept <= residual.noise * (1 + 1e-9))


@pytest.mark.parametrize("window", ["disk", "box"])
def test_a_gradient_below_the_cutoff_leaves_noise_alone(rng, window):
    rows, columns = np.mgrid[:20, :30]
    gradient = np.cos(2 * np.pi * (2 * rows / 20 + 3 * columns / 30))[np.newaxis]
    noise = rng.standard_normal((1, 20, 30))
    residual = filtering_residual(gradient, noise, 5.0, window=window)
    np.testing.assert_allclose(residual.signal_lost, 0, atol=1e-20)
    np.testing.assert_allclose(residual.total, residual.noise_kept)
    assert residual.total < 0.3 * residual.noise


def test_one_cutoff_per_map_and_float32(rng):
    gradient, noise = rng.standard_normal((2, 2, 8, 8)).astype(np.float32)
    both = filtering_residual(gradient, noise, [2.0, 4.0])
    assert all(values.dtype == np.float64 and values.shape == (2,) for values in both)
    for index, sigma in enumerate([2.0, 4.0]):
        part = slice(index, index + 1)
        single = filtering_residual(gradient[part], noise[part], sigma)
        np.testing.assert_allclose(np.stack(both)[:, part], np.stack(single))


@pytest.mark.parametrize("window", WINDOWS)
def test_residual_noise_is_its_power_under_the_mask(rng, window):
    noise = rng.standard_normal((3, 7, 10))
    mask = reference.low_pass_mask((7, 10), 2.5, window)
    power = np.abs(np.fft.fft2(noise) * mask) ** 2
    expected = power.sum(axis=(1, 2)) / 70
    np.testing.assert_allclose(residual_noise(noise, 2.5, window=window), expected)


def test_residuals_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"\(1, 8, 8\) and `noise` \(1, 8, 9\)"):
        filtering_residual(np.ones((1, 8, 8)), np.ones((1, 8, 9)), 3)
    with pytest.raises(ValueError, match="0 < sigma <= 8"):
        filtering_residual(np.ones((1, 8, 8)), np.ones((1, 8, 8)), 9)
    with pytest.raises(ValueError, match="NaN or infinite"):
        residual_noise(np.full((1, 8, 8), np.nan), 3)
    with pytest.raises(ValueError, match="`window`"):
        residual_noise(np.ones((1, 8, 8)), 3, window="hann")
    with pytest.raises(TypeError, match="real numbers"):
        residual_noise(np.ones((1, 8, 8), complex), 3)


# proposition 3.3


@pytest.mark.parametrize("window", ["disk", "box"])
@pytest.mark.parametrize(
    ("shape", "sigma"), [((16, 16), 4), ((15, 15), 3.5), ((12, 17), 4), ((31, 16), 6.5)]
)
def test_simulated_ratios_follow_the_distribution_and_not_the_printed_one(
    rng, window, shape, sigma
):
    ratios = simulated_ratios(rng, shape, sigma, window, 4000, deviation=3.7)
    ratio = noise_norm_ratio(shape, sigma, window=window)
    assert stats.kstest(ratios, ratio.cdf).pvalue > 0.01
    assert stats.kstest(ratios, preprint_noise_norm_ratio(shape, sigma).cdf).pvalue < 1e-100


@pytest.mark.parametrize("window", ["disk", "box"])
@given(shape=sizes, share=st.floats(0.15, 0.3))
def test_mean_ratio_and_its_lowest_value(window, shape, share):
    ratio = noise_norm_ratio(shape, share * max(shape), window=window)
    nb_kept = reference.low_pass_mask(shape, share * max(shape), window).sum()
    assert ratio.support()[0] == 1
    if nb_kept > 2:
        assert ratio.mean() == pytest.approx((np.prod(shape) - 2) / (nb_kept - 2))
    else:
        assert ratio.mean() == np.inf


@pytest.mark.parametrize(
    ("window", "mean", "low", "high"), [("disk", 159, 133, 192), ("box", 114, 98, 134)]
)
def test_the_example_of_the_preprint(rng, window, mean, low, high):
    ratio = noise_norm_ratio(PAPER, 10, window=window)
    printed = preprint_noise_norm_ratio(PAPER, 10)
    assert round(ratio.mean()) == mean
    assert tuple(np.round(ratio.ppf([0.01, 0.99]))) == (low, high)
    assert round(printed.mean()) == 15755
    assert ratio.cdf(70) < 1e-14
    ratios = simulated_ratios(rng, PAPER, 10, window, 20)
    assert np.all((ratio.ppf(1e-5) < ratios) & (ratios < ratio.isf(1e-5)))
    assert np.all(printed.cdf(ratios) < 1e-100)


def test_ratios_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"always 1.*full_band_sigma\(\(8, 8\), 'box'\)"):
        noise_norm_ratio((8, 8), 4, window="box")
    with pytest.raises(ValueError, match="no closed form"):
        noise_norm_ratio((8, 8), 4, window="gaussian")
    with pytest.raises(ValueError, match="0 < sigma <= 8"):
        noise_norm_ratio((8, 8), 9)
    with pytest.raises(ValueError, match="give one number"):
        noise_norm_ratio((8, 8), [2, 3])
    with pytest.raises(ValueError, match="0 < sigma <= 8"):
        preprint_noise_norm_ratio((8, 8), 0)
    with pytest.raises(ValueError, match="two sizes"):
        preprint_noise_norm_ratio((8, 8, 8), 2)


# proposition 3.4


def exceeding(nb_samples, t):
    """P(|mean of n random signs| >= t), exactly."""
    fewest = np.ceil(nb_samples * (1 + t) / 2 - 1e-9)
    return min(1.0, 2 * stats.binom.sf(fewest - 1, nb_samples, 0.5))


@pytest.mark.parametrize("size", [1, 16])
@pytest.mark.parametrize("t", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("nb_samples", [1, 10, 50, 400, 2000])
def test_bernstein_bounds_diagonals_of_random_signs(size, t, nb_samples):
    """Spectral norm 1, so L = 1 and v = 1; the mean's norm is that of its largest entry."""
    exact = 1 - (1 - exceeding(nb_samples, t)) ** size
    assert exact <= smoothgrad_bound(t, nb_samples, 1.0, 1.0, (size, size))


@pytest.mark.parametrize("t", [0.1, 0.3])
def test_the_printed_bound_is_violated_by_a_sign_times_a_matrix(t):
    """G = +-A with ||A|| = 1: L = 1, v = 1, and ||SG|| is the mean of the signs."""
    options = {"lipschitz": 1.0, "variance": 1.0, "shape": (4, 4)}
    nb_samples = smoothgrad_nb_samples(t, 0.01, formula="preprint", **options)
    assert exceeding(nb_samples, t) > 0.05
    assert exceeding(smoothgrad_nb_samples(t, 0.01, **options), t) < 0.01


def test_bounds_of_matrices_of_random_signs(rng):
    """Frobenius norm 1 = L, and E G G^T = I / H, E G^T G = I / W: v = 1 / min(H, W)."""
    shape, t = (6, 9), 0.1
    options = {"lipschitz": 1.0, "variance": 1 / 6, "shape": shape}

    def exceeded(nb_samples):
        means = 2 * rng.binomial(nb_samples, 0.5, (2000, *shape)) / nb_samples - 1
        return np.mean(np.linalg.norm(means / np.sqrt(54), 2, axis=(1, 2)) >= t)

    for nb_samples in (30, 60, 100, 150):
        assert exceeded(nb_samples) <= smoothgrad_bound(t, nb_samples, **options)
    printed = smoothgrad_nb_samples(t, 0.01, formula="preprint", **options)
    assert exceeded(printed) > 0.5
    assert exceeded(smoothgrad_nb_samples(t, 0.01, **options)) < 0.01


def test_the_preprints_example_needs_far_more_samples(rng):
    options = {"lipschitz": 1.0, "variance": 224.0, "shape": PAPER}
    printed = smoothgrad_nb_samples(0.1, 0.01, formula="preprint", **options)
    assert printed == 693
    assert smoothgrad_nb_samples(0.1, 0.01, **options) == 479_950
    assert smoothgrad_nb_samples(0.1, 0.01, 1.0, 1.0, PAPER) == 2285

    # the mean of n matrices of standard normal noise
    noise = rng.standard_normal((3, *PAPER))
    norms = np.linalg.norm(noise, 2, axis=(1, 2))
    np.testing.assert_allclose(norms, 2 * np.sqrt(224), rtol=0.05)
    assert np.all(norms / np.sqrt(printed) > 1.0)
    assert np.all(norms / np.sqrt(95_000) < 0.1)


@pytest.mark.parametrize("formula", ["bernstein", "preprint"])
@given(
    t=st.floats(1e-3, 5),
    probability=st.floats(1e-6, 0.99),
    lipschitz=st.floats(1e-2, 1e2),
    variance=st.floats(0, 1e3),
    shape=sizes,
)
def test_number_of_samples_is_the_smallest(formula, t, probability, lipschitz, variance, shape):
    options = (lipschitz, variance, shape)
    nb_samples = smoothgrad_nb_samples(t, probability, *options, formula=formula)
    assert smoothgrad_bound(t, nb_samples, *options, formula=formula) <= probability
    if nb_samples > 1:
        assert smoothgrad_bound(t, nb_samples - 1, *options, formula=formula) > probability


def test_bernstein_of_one_number():
    expected = 7 * np.exp(-100 * 0.5**2 / 2 / (2.0 + 2 * 3.0 * 0.5 / 3))
    assert smoothgrad_bound(0.5, 100, 3.0, 2.0, (3, 4)) == pytest.approx(expected)
    assert smoothgrad_bound(0.01, 1, 3.0, 2.0, (3, 4)) == 1.0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"t": 0}, ValueError, "`t` is 0"),
        ({"t": np.nan}, ValueError, "`t` is nan"),
        ({"t": None}, TypeError, "`t` is None"),
        ({"lipschitz": -1}, ValueError, "`lipschitz` is -1"),
        ({"variance": -1}, ValueError, "`variance` is -1"),
        ({"shape": (3,)}, ValueError, "two sizes"),
        ({"formula": "hoeffding"}, ValueError, "'bernstein', 'preprint'"),
    ],
)
def test_bounds_say_what_is_wrong(changes, error, message):
    options = {"t": 0.1, "lipschitz": 1, "variance": 1, "shape": (3, 4)} | changes
    with pytest.raises(error, match=message):
        smoothgrad_bound(nb_samples=5, **options)
    with pytest.raises(error, match=message):
        smoothgrad_nb_samples(probability=0.1, **options)


def test_numbers_of_samples_say_what_is_wrong():
    for nb_samples in (0, 2.5, True):
        with pytest.raises(ValueError, match="`nb_samples` is"):
            smoothgrad_bound(0.1, nb_samples, 1, 1, (3, 4))
    for probability in (0, 1, np.nan):
        with pytest.raises(ValueError, match="`probability` is"):
            smoothgrad_nb_samples(0.1, probability, 1, 1, (3, 4))
    with pytest.raises(ValueError, match="too small"):
        smoothgrad_nb_samples(1e-200, 0.1, 1, 1, (3, 4))
