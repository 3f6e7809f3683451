"""Deletion and Insertion of cells of pixels against a plain reference, and what they ignore."""

import keras
import numpy as np
import pytest
import xplique.metrics
from conftest import name_of
from test_metrics import PAIRS, case, linear_model
from test_search import Interrupted, InterruptedExplainer, small_model, small_parts
from xplique.attributions import Saliency

from xplique_forgrad import Deletion, Faithfulness, Insertion, MuFidelity, SigmaOptimizer
from xplique_forgrad._samples import Batch
from xplique_forgrad.metrics._metric import Steps


def cells_of(shape, side):
    """The cells as pairs of slices, in rows from the top left."""
    return [
        (slice(row, row + side), slice(column, column + side))
        for row in range(0, shape[0], side)
        for column in range(0, shape[1], side)
    ]


def plain_curves(model, inputs, targets, maps, side, steps, baseline=0.0, share=1.0):
    """Numbers of cells, and the curves of Deletion and Insertion, one cell after the other."""
    numbers, deletion, insertion = [], [], []
    for image, target, phi in zip(inputs, targets, maps):
        cells = cells_of(image.shape, side)
        means = np.array([np.asarray(phi[cell], np.float64).mean() for cell in cells])
        order = np.argsort(means)[::-1]
        most = int(len(cells) * share)
        numbers = sorted({int(most * step / steps) for step in range(steps + 1)})
        deleted, inserted = [], []
        for number in numbers:
            gone, come = image.copy(), np.full_like(image, baseline)
            for cell in order[:number]:
                gone[cells[cell]] = baseline
                come[cells[cell]] = image[cells[cell]]
            deleted.append(gone)
            inserted.append(come)
        for curves, perturbed in ((deletion, deleted), (insertion, inserted)):
            curves.append(model(np.stack(perturbed)).numpy() @ target)
    return numbers, np.array(deletion), np.array(insertion)


def area(curves):
    return (curves[:, :-1] + curves[:, 1:]).mean(axis=1) / 2


@pytest.mark.parametrize(
    ("shape", "side", "options"),
    [
        ((6, 8, 3), 2, {}),
        ((6, 8, 3), 2, {"steps": -1}),
        ((7, 5, 2), 3, {"steps": 4, "baseline_mode": 0.4}),
        ((5, 9, 1), 4, {"steps": -1, "batch_size": 3}),
        ((7, 7, 3), 2, {"steps": 3, "max_percentage_perturbed": 0.6}),
        ((4, 9, 1), 6, {"steps": 40}),
    ],
    ids=name_of,
)
def test_curves_and_scores_are_those_of_a_plain_loop(shape, side, options):
    model, inputs, targets, maps = case(shape, shape[:2])
    nb_cells = len(cells_of(shape, side))
    steps, share = options.get("steps", 10), options.get("max_percentage_perturbed", 1.0)
    steps = min(steps, nb_cells) if steps > 0 else int(share * nb_cells)
    numbers, deletion, insertion = plain_curves(
        model, inputs, targets, maps, side, steps, options.get("baseline_mode", 0.0), share
    )
    expected = {
        Deletion: deletion,
        Insertion: insertion,
        Faithfulness: insertion - deletion,
    }
    for kind, curves in expected.items():
        metric = kind(model, inputs, targets, patch_size=side, **options)
        assert (metric.nb_cells, metric.patch_size, metric.steps) == (nb_cells, side, steps)
        assert list(metric.nb_perturbed) == numbers
        np.testing.assert_allclose(metric.curves(maps), curves, atol=1e-5)
        np.testing.assert_allclose(metric.evaluate_per_image(maps), area(curves), atol=1e-5)
        detailed = metric.detailed_evaluate(maps)
        assert list(detailed) == numbers
        np.testing.assert_allclose(list(detailed.values()), curves.mean(axis=0), atol=1e-5)


def test_cells_of_one_pixel_are_xpliques_metric():
    model, inputs, targets, maps = case((6, 7, 3), (6, 7, 1))
    for ours, theirs in PAIRS:
        metric = ours(model, inputs, targets, patch_size=1)
        expected = theirs(model, inputs, targets).detailed_evaluate(maps)
        found = metric.detailed_evaluate(maps)
        assert list(found) == list(expected)
        np.testing.assert_allclose(list(found.values()), list(expected.values()), atol=1e-5)
        np.testing.assert_array_equal(
            metric.curves(maps), ours(model, inputs, targets).curves(maps)
        )


@pytest.mark.parametrize(
    ("dtype", "dtype_of_means"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int32, np.float64),
        (np.uint8, np.float32),
        (bool, np.float32),
    ],
)
def test_cells_are_ranked_as_xplique_ranks_their_means(dtype, dtype_of_means):
    """A model that looks at one pixel of each cell, and cells of which many are tied."""
    small, inputs, targets, maps = case((5, 6, 3), (5, 6))
    wide = keras.Input((15, 18, 3))
    model = keras.Model(wide, small(wide[:, ::3, ::3]))
    tied = np.round(3 * maps).clip(0).astype(dtype)
    means = tied.astype(dtype_of_means)

    def enlarged(values):
        return values.repeat(3, axis=1).repeat(3, axis=2)

    for ours, theirs in PAIRS:
        metric = ours(model, enlarged(inputs), targets, patch_size=3)
        expected = theirs(small, inputs, targets).detailed_evaluate(means)
        found = metric.detailed_evaluate(enlarged(tied))
        assert list(found) == list(expected)
        np.testing.assert_allclose(list(found.values()), list(expected.values()), atol=1e-5)


def test_the_arrangement_of_pixels_within_cells_does_not_count(rng):
    model, inputs, targets, maps = case((7, 10, 3), (7, 10))
    shuffled, filtered = maps.copy(), maps.copy()
    for cell in cells_of((7, 10), 4):
        for index in range(len(maps)):
            inside = maps[(index, *cell)]
            shuffled[(index, *cell)] = rng.permutation(inside.ravel()).reshape(inside.shape)
            filtered[(index, *cell)] = inside.mean()
    assert np.abs(shuffled - maps).max() > 1
    metric = Faithfulness(model, inputs, targets, patch_size=4)
    expected = metric.curves(maps)
    np.testing.assert_array_equal(metric.curves(shuffled), expected)
    np.testing.assert_array_equal(metric.curves(filtered), expected)
    pixels = Faithfulness(model, inputs, targets)
    assert np.abs(pixels.curves(filtered) - pixels.curves(maps)).max() > 0.01


def test_a_cell_as_large_as_the_image_leaves_the_two_ends():
    model, inputs, targets, maps = case((6, 7, 3), (6, 7))
    metric = Faithfulness(model, inputs, targets, patch_size=7, baseline_mode=0.3)
    deletion = Deletion(model, inputs, targets, patch_size=7, baseline_mode=0.3)
    whole = np.sum(model(inputs).numpy() * targets, axis=1)
    gone = np.sum(model(np.full_like(inputs, 0.3)).numpy() * targets, axis=1)
    ends = np.stack([whole, gone], axis=1)
    np.testing.assert_allclose(deletion.curves(maps), ends, atol=1e-5)
    np.testing.assert_allclose(deletion.evaluate_per_image(maps), ends.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(metric.curves(maps), ends[:, ::-1] - ends, atol=1e-5)
    np.testing.assert_allclose(metric.evaluate_per_image(maps), 0, atol=1e-6)


def test_several_maps_at_once_score_as_one_at_a_time(rng):
    model, inputs, targets, _ = case((7, 10, 3))
    maps = rng.normal(size=(4, 7, 7, 10)).astype(np.float32)
    metric = Faithfulness(model, inputs, targets, patch_size=2, batch_size=16)
    batch = Batch(np.arange(7), inputs, targets)
    found = metric.parts(batch, maps)
    for index, one in enumerate(maps):
        alone = metric.parts(batch, one[np.newaxis])
        for name in ("insertion", "deletion", "faithfulness"):
            np.testing.assert_allclose(found[name][:, index], alone[name][:, 0], atol=1e-6)
        np.testing.assert_allclose(
            found["faithfulness"][0, index], metric.evaluate_per_image(one), atol=1e-6
        )


def test_steps_of_a_curve_estimate_its_area_without_bias(rng):
    model, inputs, targets, maps = case((7, 10, 3), (7, 10))
    metric = Insertion(model, inputs, targets, patch_size=2, steps=6)
    batch = Batch(np.arange(7), inputs, targets)
    estimates = [
        metric.score(batch, maps[np.newaxis], Steps(np.full((7, 1), step), metric.nb_steps))[0]
        for step in range(metric.nb_steps)
    ]
    np.testing.assert_allclose(
        np.mean(estimates, axis=0), metric.evaluate_per_image(maps), atol=1e-6
    )


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
def test_a_search_takes_a_patch_size_and_goes_on_where_it_was_interrupted(
    tmp_path, monkeypatch, strategy
):
    small_parts(monkeypatch)
    model, rng = small_model(), np.random.default_rng(0)
    inputs = rng.uniform(size=(60, 16, 16, 3)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[rng.integers(3, size=60)]
    path = tmp_path / "search.checkpoint"

    def search(after, checkpoint=None, **options):
        explainer = InterruptedExplainer(model, nb_samples=3, noise=0.5, after=after)
        options = {"sigmas": [1, 3, 6], "strategy": strategy, "patch_size": 4, **options}
        return SigmaOptimizer(explainer, **options).search(
            inputs, targets, checkpoint=checkpoint, verbose=0
        )

    expected = search(-1)
    assert expected.settings["patch_size"] == 4
    assert expected.settings.options.strategy == strategy
    with pytest.raises(Interrupted):
        search(4, path)
    found = search(-1, path)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert repr(found) == repr(expected)
    with pytest.raises(ValueError, match="What differs: patch_size: 4 there, 1 now"):
        search(-1, path, patch_size=1)


def test_a_search_scores_cells_as_the_metric_does():
    model, rng = small_model(), np.random.default_rng(0)
    inputs = rng.uniform(size=(12, 16, 16, 3)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[rng.integers(3, size=12)]
    explanations = np.asarray(Saliency(model).explain(inputs, targets))
    search = SigmaOptimizer(None, model=model, sigmas=[3], patch_size=5, report=["mu_fidelity"])
    found = search.search(inputs, targets, explanations, verbose=0)
    metric = Faithfulness(model, inputs, targets, patch_size=5)
    np.testing.assert_allclose(found.scores[0], metric.evaluate_per_image(explanations), atol=1e-6)
    np.testing.assert_allclose(
        found.others["mu_fidelity"][0],
        MuFidelity(model, inputs, targets).evaluate_per_image(explanations),
        atol=1e-6,
    )
    given = SigmaOptimizer(None, metric, sigmas=[3], model=model)
    again = given.search(inputs, targets, explanations, verbose=0)
    np.testing.assert_array_equal(again.scores, found.scores)
    assert again.settings["patch_size"] == 5


@pytest.mark.parametrize("size", [0, -2, 2.0, 1.5, True, None, "8", (2, 2)])
def test_bad_patch_sizes(size):
    model, inputs, targets, _ = case((5, 6, 3))
    with pytest.raises(ValueError, match=r"`patch_size` is .*; give an integer of 1 or more"):
        Deletion(model, inputs, targets, patch_size=size)
    with pytest.raises(ValueError, match="`patch_size` is"):
        SigmaOptimizer(Saliency(model), patch_size=size)


def test_patches_larger_than_the_image_and_shares_of_no_cell():
    model, inputs, targets, _ = case((5, 6, 3))
    with pytest.raises(ValueError, match=r"`patch_size` is 7, .* 5 x 6 pixels; give at most 6"):
        Deletion(model, inputs, targets, patch_size=7)
    with pytest.raises(ValueError, match=r"none of 9 cells of 2 x 2 pixels; give at least 0\.111"):
        Deletion(model, inputs, targets, patch_size=2, max_percentage_perturbed=0.1)


@pytest.mark.parametrize("shape", [(6, 7), (9,)])
def test_patches_are_for_images(shape):
    model, inputs, targets, maps = case(shape)
    with pytest.raises(ValueError, match=r"patches are for images .* Leave `patch_size` at 1"):
        Insertion(model, inputs, targets, patch_size=2)
    expected = xplique.metrics.Insertion(model, inputs, targets).evaluate(maps)
    assert Insertion(model, inputs, targets, patch_size=1)(maps) == pytest.approx(
        expected, abs=1e-5
    )


def test_wrong_explanations_are_refused_with_patches_too():
    model, inputs, targets = linear_model((5, 6, 3)), *case((5, 6, 3))[1:3]
    metric = Deletion(model, inputs, targets, patch_size=2)
    maps = np.ones((7, 5, 6), np.float32)
    with pytest.raises(ValueError, match="same height and width"):
        metric(maps[:, :4])
    maps[3, 2, 2] = np.nan
    with pytest.raises(ValueError, match="Explanation 3 holds NaN"):
        metric(maps)
