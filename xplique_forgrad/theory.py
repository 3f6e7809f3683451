"""
The propositions of the FORGrad preprint as functions: what filtering and SmoothGrad leave of noise.

Two of them are printed with errors. The functions compute what holds, and the printed formulas can
be asked for by name, to compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy import stats
from scipy.stats.distributions import rv_frozen

from ._checks import check_choice, check_count
from .filtering import forgrad, low_pass_mask
from .filtering._checks import WINDOWS, checked_explanations, checked_shape, checked_sigma

# maps (N, H, W) or (N, H, W, C), or cutoffs
Array: TypeAlias = npt.ArrayLike | tf.Tensor

FORMULAS = ("bernstein", "preprint")


class FilteringResidual(NamedTuple):
    r"""
    Squared distance of filtered noisy gradients from the true ones, and what it is made of.

    Attributes
    ----------
    total
        $\|LP(g + e) - g\|^2$ of each map, of shape (N,), in squared units of the gradient.
    noise_kept
        $\|LP(e)\|^2$, the noise below the cutoff, of shape (N,).
    signal_lost
        $\|g - LP(g)\|^2$, the true gradient beyond the cutoff, of shape (N,).
    noise
        $\|e\|^2$, the distance without any filter, of shape (N,).
    """

    total: np.ndarray
    noise_kept: np.ndarray
    signal_lost: np.ndarray
    noise: np.ndarray


def filtering_residual(
    gradient: Array, noise: Array, sigma: Array, *, window: str = "disk"
) -> FilteringResidual:
    r"""
    How far filtered noisy gradients are from the true ones: proposition 3.1.

    With $g$ the true gradient, $e$ its noise, $K$ the mask and $LP(a) = F^{-1}(F(a) \cdot K)$ the
    linear filter,

    $$\|LP(g + e) - g\|^2 = \|LP(e)\|^2 + \|g - LP(g)\|^2,$$

    and $\|LP(e)\|^2 \le \|e\|^2$.

    The sum is exact for the binary windows, "disk" and "box": what is kept and what is lost have
    no frequency in common, so they are orthogonal. "gaussian" and "butterworth" attenuate where
    they keep, which adds $-2 \langle LP(e), g - LP(g) \rangle$, of either sign; `total` includes
    it.

    The preprint's equation (1) is the case where `signal_lost` is 0. Its definition of $\sigma^*$,
    $\inf \{\sigma : \|F(g + e) \cdot K^\sigma\| = 0\}$, is a slip of the pen: what has to vanish is
    the true gradient outside the mask, $\|F(g) \cdot (1 - K^\sigma)\| = 0$. Filtering brings the
    gradient closer to the true one wherever `total` is below `noise`: the noise removed outweighs
    the signal lost.

    Ref. Muzellec & al., Gradient strikes back: How filtering out high frequencies improves
    explanations (2023), https://arxiv.org/abs/2307.09591v1 (sec. 3.4, proposition 3.1).

    Parameters
    ----------
    gradient
        True gradients $g$ of shape (N, H, W) or (N, H, W, C).
    noise
        Noise $e$ of the same shape; the noisy gradient is their sum.
    sigma
        Cutoff in cycles along the longest axis, 0 < sigma <= max(H, W), see `forgrad`. One number,
        or one per map of shape (N,).
    window
        "disk", "box", "gaussian" or "butterworth", see `low_pass_mask`.

    Returns
    -------
    residual :
        Squared Frobenius norms over each map and its channels, four float64 arrays of shape (N,).

    Raises
    ------
    ValueError
        If the shapes differ, and as `forgrad` does.
    TypeError
        If the maps are no real numbers.

    Examples
    --------
    >>> wave = np.cos(2 * np.pi * np.arange(32) / 32)
    >>> gradient = np.broadcast_to(wave, (4, 32, 32))
    >>> noise = np.random.default_rng(0).normal(size=(4, 32, 32))
    >>> residual = filtering_residual(gradient, noise, sigma=6)
    >>> bool(np.all(residual.total < 0.2 * residual.noise))
    True
    """
    g, e = _float64(gradient), _float64(noise)
    if g.shape != e.shape:
        raise ValueError(
            f"`gradient` has shape {g.shape} and `noise` {e.shape}; give two arrays of "
            "the same shape, (N, H, W) or (N, H, W, C)."
        )
    noisy, kept, noise_kept = (
        forgrad(maps, sigma, window=window, rectify=None) for maps in (g + e, g, e)
    )
    differences = (noisy - g, noise_kept, g - kept, e)
    return FilteringResidual(*(_squared_norms(maps) for maps in differences))


def residual_noise(noise: Array, sigma: Array, *, window: str = "disk") -> np.ndarray:
    r"""
    How much noise the filter keeps, of proposition 3.1.

    It is $\|F^{-1}(F(e) \cdot K)\|^2$, never more than $\|e\|^2$. See `filtering_residual` for what
    filtering costs in signal.

    Ref. Muzellec & al., Gradient strikes back: How filtering out high frequencies improves
    explanations (2023), https://arxiv.org/abs/2307.09591v1 (sec. 3.4, proposition 3.1).

    Parameters
    ----------
    noise
        Noise $e$ of shape (N, H, W) or (N, H, W, C).
    sigma
        Cutoff in cycles along the longest axis, 0 < sigma <= max(H, W). One number, or one per map
        of shape (N,).
    window
        "disk", "box", "gaussian" or "butterworth", see `low_pass_mask`.

    Returns
    -------
    noise_kept :
        Squared Frobenius norm over each map and its channels, float64 of shape (N,).

    Raises
    ------
    ValueError
        As `forgrad` does.
    TypeError
        If the noise is no real numbers.

    Examples
    --------
    >>> residual_noise(np.ones((2, 8, 8)), sigma=3).round(6)
    array([64., 64.])
    """
    return _squared_norms(forgrad(_float64(noise), sigma, window=window, rectify=None))


def noise_norm_ratio(shape: Sequence[int], sigma: float, *, window: str = "disk") -> rv_frozen:
    r"""
    By how much the filter shrinks white Gaussian noise: the distribution of proposition 3.3.

    $$R = \|e\|^2 / \|LP(e)\|^2 = 1 + B, \quad B \sim \beta'((n - m) / 2, m / 2),$$

    with $\beta'$ the beta prime distribution, $n = H W$ the degrees of freedom of the noise
    $e \sim N(0, s^2)$, and $m$ the number of ones of the `low_pass_mask`.
    $\|LP(e)\|^2 \sim s^2 \chi^2(m)$ and the rest $\|e - LP(e)\|^2 \sim s^2 \chi^2(n - m)$ are
    independent, and the ratio of two such is a beta prime variable. $s$ cancels. The mean is
    $(n - 2) / (m - 2)$ for $m > 2$, and infinite for $m \le 2$. Holds exactly, for all sizes.

    The preprint prints $\beta'(2 N, 8 \sigma^2, 1, W H / (4 \sigma^2))$ instead, which
    `preprint_noise_norm_ratio` gives and simulation refutes. On 224 x 224 maps with sigma = 10 its
    mean is 15,755, and the true mean is 159 with a disk and 114 with a box. Its slips:

    - It takes $\|e\|^2$ and $\|LP(e)\|^2$ as independent, and the second is a part of the first. So
      it also allows ratios below 1.
    - The spectrum of real noise is Hermitian: $W H$ real degrees of freedom,
      $\Gamma(k = W H / 2)$, and not $\Gamma(k = 2 W H)$; likewise for the part that is kept.
    - Both Gamma variables have the same scale, that of one frequency. With the scales that are
      printed, $W H$ and $4 \sigma^2$, the ratio of the sizes, 125, is counted twice.
    - A box keeps $(2 \lfloor \sigma \rfloor + 1)^2$ frequencies of a square map, 441 and not
      $4 \sigma^2 = 400$; a disk about $\pi \sigma^2$, 317 here.

    What the preprint concludes for that example, a ratio above 70 with probability almost one, is
    true nevertheless: $P(R \le 70)$ is below 1e-14 with either window. 98 % of the ratios lie
    between 133 and 192 with a disk, and between 98 and 134 with a box.

    Ref. Muzellec & al., Gradient strikes back: How filtering out high frequencies improves
    explanations (2023), https://arxiv.org/abs/2307.09591v1 (sec. 3.4, proposition 3.3); Johnson,
    Kotz & Balakrishnan, Continuous univariate distributions 2 (1995), ch. 25 and 27.

    Parameters
    ----------
    shape
        Sizes of the filtered axes, (H, W) for images.
    sigma
        Cutoff in cycles along the longest axis, 0 < sigma <= max(shape).
    window
        "disk" or "box". The other two attenuate gradually, and have no closed form.

    Returns
    -------
    ratio :
        A frozen distribution of scipy.stats: `ratio.mean()`, `ratio.sf(70)`, `ratio.rvs(100)`.

    Raises
    ------
    ValueError
        If the window has no closed form, `sigma` is out of range, or keeps all frequencies: then
        the ratio is 1.

    Examples
    --------
    >>> ratio = noise_norm_ratio((224, 224), sigma=10)
    >>> round(float(ratio.mean()), 1), float(ratio.sf(70))
    (159.3, 1.0)
    """
    check_choice("window", window, WINDOWS)
    if window not in ("disk", "box"):
        raise ValueError(
            f"With a {window!r} window the ratio has no closed form; give 'disk' or 'box', or "
            "simulate it by residual_noise."
        )
    mask = low_pass_mask(shape, _checked_cutoff(sigma, checked_shape(shape)), window).numpy()
    nb_kept = int(mask.sum())
    if nb_kept == mask.size:
        raise ValueError(
            f"`sigma` is {sigma} and keeps all {mask.size} frequencies of maps of "
            f"{' x '.join(map(str, mask.shape))}: the ratio is always 1. Give a cutoff below "
            f"full_band_sigma({mask.shape}, {window!r})."
        )
    return stats.betaprime((mask.size - nb_kept) / 2, nb_kept / 2, loc=1)


def preprint_noise_norm_ratio(shape: Sequence[int], sigma: float) -> rv_frozen:
    r"""
    The distribution that is printed in proposition 3.3, which does not hold: to compare with.

    It is $\beta'(2 N, 8 \sigma^2, 1, W H / (4 \sigma^2))$ with $N = W H$: a beta prime variable of
    shapes $2 W H$ and $8 \sigma^2$, power 1 and scale $W H / (4 \sigma^2)$. See `noise_norm_ratio`
    for the true one, and for what goes wrong.

    Ref. Muzellec & al., Gradient strikes back: How filtering out high frequencies improves
    explanations (2023), https://arxiv.org/abs/2307.09591v1 (sec. 3.4, proposition 3.3).

    Parameters
    ----------
    shape
        Sizes of the maps, (H, W).
    sigma
        Cutoff in cycles along the longest axis, 0 < sigma <= max(H, W).

    Returns
    -------
    ratio :
        A frozen distribution of scipy.stats.

    Raises
    ------
    ValueError
        If `shape` is not two sizes, or `sigma` is out of range.

    Examples
    --------
    >>> round(float(preprint_noise_norm_ratio((224, 224), sigma=10).mean()))
    15755
    """
    sizes = _checked_map_shape(shape)
    sigma, size = _checked_cutoff(sigma, sizes), math.prod(sizes)
    return stats.betaprime(2 * size, 8 * sigma**2, scale=size / (4 * sigma**2))


def smoothgrad_bound(
    t: float,
    nb_samples: int,
    lipschitz: float,
    variance: float,
    shape: Sequence[int],
    *,
    formula: str = "bernstein",
) -> float:
    r"""
    Bound on the probability that SmoothGrad is far from its mean: proposition 3.4.

    SmoothGrad $S$ is the mean of $n$ independent random gradients $G_i$ of shape (H, W). With
    "bernstein",

    $$P(\|S - E S\| \ge t) \le (W + H) \exp(-\tfrac{n t^2}{2} / (v + \tfrac{2}{3} L t)),$$

    with $\|.\|$ the spectral norm and $v = \max(\|E D D^T\|, \|E D^T D\|)$, $D = G_1 - E G_1$, the
    matrix variance of one gradient. It holds where $\|D\| \le 2 L$ always: an L-Lipschitz model has
    $\|G\| \le \|G\|_F \le L$, and then $v \le L^2$.

    With "preprint" it is the printed
    $(W + H) \exp(-\tfrac{n^2 t^2}{2} / (V + \tfrac{2}{3} L t))$, which does not hold: the printed
    numerator is that of the sum of $n$ gradients, and its denominator lacks the $n$ that the sum's
    variance $n v$ and term $\tfrac{2}{3} L n t$ have. Deviations shrink as $1 / \sqrt{n}$, and it
    claims $1 / n$.

    Ref. Muzellec & al., Gradient strikes back: How filtering out high frequencies improves
    explanations (2023), https://arxiv.org/abs/2307.09591v1 (sec. 3.4, proposition 3.4); Tropp, An
    introduction to matrix concentration inequalities (2015), https://arxiv.org/abs/1501.01571
    (theorem 1.6.2 and corollary 6.1.2).

    Parameters
    ----------
    t
        Distance in the spectral norm, above 0, in units of the gradient.
    nb_samples
        Number $n$ of gradients that are averaged, at least 1.
    lipschitz
        Lipschitz constant $L$ of the model's score, above 0, in units of the gradient.
    variance
        Matrix variance $v$ of one gradient, 0 or more, in squared units of the gradient. $L^2$ is
        always large enough. For a gradient with independent noise of standard deviation $s$ in each
        pixel it is max(H, W) $s^2$. The printed formula takes it for its $V$.
    shape
        Sizes of the gradient, (H, W).
    formula
        "bernstein", or "preprint" for the one that is printed.

    Returns
    -------
    bound :
        Upper bound on the probability, at most 1.

    Raises
    ------
    ValueError
        If a number is out of range, `shape` is not two sizes, or the formula unknown.
    TypeError
        If a number is none.

    Examples
    --------
    >>> smoothgrad_bound(0.1, 700, lipschitz=1, variance=1, shape=(224, 224))
    1.0
    >>> round(smoothgrad_bound(0.1, 3000, lipschitz=1, variance=1, shape=(224, 224)), 6)
    0.00035
    """
    rate, size, power = _bernstein(t, lipschitz, variance, shape, formula)
    check_count("nb_samples", nb_samples)
    return min(1.0, size * math.exp(-rate * float(nb_samples) ** power))


def smoothgrad_nb_samples(
    t: float,
    probability: float,
    lipschitz: float,
    variance: float,
    shape: Sequence[int],
    *,
    formula: str = "bernstein",
) -> int:
    r"""
    How many gradients SmoothGrad must average: the smallest n whose `smoothgrad_bound` suffices.

    $$n = 2 (v + \tfrac{2}{3} L t) \log((W + H) / p) / t^2,$$

    rounded up. It is enough, not necessary: bounds are cautious.

    The preprint's example, $n = 700$ for $t = L / 10$ and $p = 0.01$ on 224 x 224 gradients with
    noise of standard deviation 1, comes out of the printed formula with $L = 1$ and
    $V = 224 \cdot 1^2$: $n = 693$. It does not hold: the mean of 700 matrices of such noise has a
    spectral norm of 1.1, not 0.1. The norm is close to $(\sqrt{W} + \sqrt{H}) / \sqrt{n}$, and only
    about 92,000 samples bring it below 0.1 in 99 of 100 cases. Bernstein's formula gives 479,950
    for these numbers. (Such noise is not bounded by $2 L$; the gradients of a model with $L = 1$
    are, and with their variance of at most 1 it gives 2,285.) That SmoothGrad needs many samples,
    and more than filtering, is true all the more.

    Ref. as `smoothgrad_bound`.

    Parameters
    ----------
    t
        Distance in the spectral norm that is to be exceeded rarely, above 0.
    probability
        How rarely: $p$, above 0 and below 1.
    lipschitz
        Lipschitz constant $L$ of the model's score, above 0, in units of the gradient.
    variance
        Matrix variance $v$ of one gradient, 0 or more, see `smoothgrad_bound`.
    shape
        Sizes of the gradient, (H, W).
    formula
        "bernstein", or "preprint" for the one that is printed, which does not hold.

    Returns
    -------
    nb_samples :
        Number of gradients, at least 1.

    Raises
    ------
    ValueError
        If a number is out of range, `shape` is not two sizes, or the formula unknown.
    TypeError
        If a number is none.

    Examples
    --------
    >>> smoothgrad_nb_samples(0.1, 0.01, lipschitz=1, variance=224, shape=(224, 224))
    479950
    >>> smoothgrad_nb_samples(0.1, 0.01, 1, 224, (224, 224), formula="preprint")
    693
    """
    rate, size, power = _bernstein(t, lipschitz, variance, shape, formula)
    probability = _checked_number("probability", probability)
    if not 0 < probability < 1:
        raise ValueError(f"`probability` is {probability}; give a number above 0 and below 1.")
    exact = (math.log(size / probability) / rate) ** (1 / power) if rate else math.inf
    if exact > 2**52:
        raise ValueError(f"`t` is {t}, too small: it would take more than {2**52:.0e} samples.")
    # next to where the logarithm says, whatever its rounding
    found = max(1, math.ceil(exact) - 1)
    while size * math.exp(-rate * float(found) ** power) > probability:
        found += 1
    return found


def _bernstein(
    t: float, lipschitz: float, variance: float, shape: Sequence[int], formula: str
) -> tuple[float, int, int]:
    """Rate c, factor W + H and power k of the bound (W + H) exp(-c n^k)."""
    check_choice("formula", formula, FORMULAS)
    size = sum(_checked_map_shape(shape))
    t, lipschitz, variance = (
        _checked_number(name, value)
        for name, value in (("t", t), ("lipschitz", lipschitz), ("variance", variance))
    )
    for name, value in (("t", t), ("lipschitz", lipschitz)):
        if not 0 < value < math.inf:
            raise ValueError(f"`{name}` is {value}; give a finite number above 0.")
    if not 0 <= variance < math.inf:
        raise ValueError(f"`variance` is {variance}; give a finite number of 0 or more.")
    return t / 2 * t / (variance + 2 * lipschitz * t / 3), size, 1 if formula == "bernstein" else 2


def _checked_number(name: str, value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` is {value!r}; give a real number.") from error


def _checked_cutoff(sigma: float, shape: Sequence[int | tf.Tensor]) -> float:
    value = np.asarray(checked_sigma(sigma, shape))
    if value.ndim:
        raise ValueError(f"`sigma` has shape {value.shape}; give one number.")
    return float(value)


def _checked_map_shape(shape: Sequence[int]) -> tuple[int, ...]:
    sizes = checked_shape(shape)
    if len(sizes) != 2:
        raise ValueError(f"`shape` is {sizes}; give the two sizes of a map, (H, W).")
    return tuple(int(size) for size in sizes)


def _float64(maps: Array) -> np.ndarray:
    return tf.cast(checked_explanations(maps), tf.float64).numpy()


def _squared_norms(maps: np.ndarray | tf.Tensor) -> np.ndarray:
    """Sum of squares of each map, of shape (N,)."""
    values = np.asarray(maps)
    return np.sum(np.square(values.reshape(len(values), -1)), axis=1)
