import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct

from xplique_forgrad.filtering import _transforms


@given(size=st.integers(1, 40))
def test_sinusoids_are_an_orthonormal_basis(size):
    basis = _transforms._sinusoids(size, size)
    np.testing.assert_allclose(basis @ basis.T, np.eye(size), atol=1e-12)


@given(size=st.integers(1, 40))
def test_cosines_are_the_cosine_transform(size):
    expected = dct(np.eye(size), type=2, norm="ortho", axis=0)
    np.testing.assert_allclose(_transforms._cosines(size, size), expected, atol=1e-12)


@pytest.mark.parametrize("border", ["periodic", "reflect"])
@pytest.mark.parametrize("window", ["disk", "box"])
@pytest.mark.parametrize("nb_axes", [1, 2])
@given(
    sizes=st.lists(st.integers(2, 33), min_size=2, max_size=2),
    share=st.floats(0.02, 1.0),
    seed=st.integers(0, 99),
)
def test_products_equal_the_fft(border, window, nb_axes, sizes, share, seed):
    shape = tuple(sizes[:nb_axes])
    maps = np.random.default_rng(seed).standard_normal((3, 2, *shape))
    filtered = []
    for by_products in (True, False):
        plan = _transforms.cached_plan(
            shape, share * max(shape), window, border, tf.float64, by_products
        )
        assert bool(plan.bases) == by_products
        coefficients = _transforms.analyse(tf.constant(maps), plan.bases, nb_axes, border)
        filtered.append(
            _transforms.synthesise(coefficients * plan.mask, plan.bases, shape, nb_axes, border)
        )
    np.testing.assert_allclose(*filtered, atol=1e-12)


def test_products_are_for_narrow_bands_of_enough_maps():
    def pays_off(sigma, nb_maps, nb_cutoffs=1, border="periodic", size=224):
        return _transforms.products_pay_off(
            (size, size), sigma, "disk", border, nb_maps * size**2, nb_cutoffs
        )

    assert pays_off(15.0, nb_maps=32)
    assert not pays_off(112.0, nb_maps=32)
    assert not pays_off(60.0, nb_maps=1)
    assert pays_off(60.0, nb_maps=1, nb_cutoffs=20)
    assert pays_off(112.0, nb_maps=1, border="reflect")
    assert not pays_off(512.0, nb_maps=32, border="reflect", size=512)
    for border in ("periodic", "reflect"):
        assert not _transforms.products_pay_off((16, 16, 16), 2.0, "disk", border, 10**6)


def test_caches_hold_numpy_only():
    plan = _transforms.cached_plan((16, 16), 3.0, "disk", "reflect", tf.float32, True)
    assert all(type(value) is np.ndarray for value in (plan.mask, *plan.bases))
    assert plan.mask.dtype == np.float32
