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
    for shape in ((8, 8, 3), (2, 8, 8, 2), (0, 8, 8, 3)):
        with pytest.raises(ValueError, match="at least one image of 1 or 3 channels"):
            map_gallery(rng.random(shape), {})
    for scale in (255, -1, np.nan):
        with pytest.raises(ValueError, match="before preprocessing"):
            map_gallery(scale * rng.random((2, 8, 8, 3)), {})
    with pytest.raises(TypeError, match="give a dict of title and maps"):
        map_gallery(rng.random((2, 8, 8, 3)), rng.random((2, 8, 8)))
    for percentile in (-1, 50):
        with pytest.raises(ValueError, match="clip_percentile"):
            map_gallery(rng.random((2, 8, 8, 3)), {}, clip_percentile=percentile)


def test_grey_images_are_not_stretched():
    for white, dtype in ((1, float), (255, np.uint8)):
        axes = map_gallery(np.ones((1, 8, 8, 1), dtype), {})
        assert axes[0, 0].images[0].get_clim() == (0, white)
