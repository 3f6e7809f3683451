import matplotlib.pyplot as plt
import numpy as np
import pytest

from xplique_forgrad.plots import map_gallery


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_gallery_draws_each_image_and_map(rng):
    inputs = rng.random((2, 8, 9, 3))
    maps = {"a": rng.random((2, 8, 9, 2)), "b": rng.random((2, 8, 9)) < 0.5}
    axes = map_gallery(inputs, maps)
    assert axes.shape == (2, 3)
    assert [axis.get_title() for axis in axes[0]] == ["image", "a", "b"]
    for row in range(2):
        drawn = [axis.images[0].get_array() for axis in axes[row]]
        np.testing.assert_allclose(drawn[0], inputs[row])
        np.testing.assert_allclose(drawn[1], maps["a"][row].mean(-1))
        np.testing.assert_allclose(drawn[2], maps["b"][row])


def test_gallery_clips_each_map_at_its_own_percentiles(rng):
    maps = {"a": rng.random((2, 20, 20)) * np.array([1, 100])[:, None, None]}
    axes = map_gallery(rng.random((2, 20, 20, 3)), maps, clip_percentile=5)
    for row in range(2):
        expected = np.percentile(maps["a"][row], [5, 95])
        np.testing.assert_allclose(axes[row, 1].images[0].get_clim(), expected)


def test_gallery_needs_maps_of_its_images(rng):
    with pytest.raises(ValueError, match="both must begin with"):
        map_gallery(rng.random((2, 8, 8, 3)), {"a": rng.random((2, 8, 7))})
    with pytest.raises(ValueError, match="at least one image"):
        map_gallery(rng.random((8, 8, 3)), {})
