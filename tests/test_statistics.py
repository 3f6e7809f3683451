"""Intervals that cover, verdicts that seldom err, held-out estimates without bias: simulated."""

import numpy as np
import pytest
from planted import bump, planted_scores

from xplique_forgrad.search._gains import (
    best_index,
    compare_with,
    cross_fitted,
    cross_fitted_gain,
    folds_of,
    paired_gain,
)

NB_RUNS = 500
# a rate of 5 % over 500 runs stays below 8 % with probability 0.997
MOST = 0.08


@pytest.mark.parametrize("nb_images", [6, 20, 64])
def test_the_paired_interval_covers(rng, nb_images):
    missed = 0
    for seed in range(NB_RUNS):
        gain = paired_gain(rng.normal(0.02, 0.1, nb_images), seed)
        missed += not gain.low <= 0.02 <= gain.high
    assert missed / NB_RUNS < MOST


def test_the_paired_interval_is_no_wider_than_it_must(rng):
    widths = [np.subtract(*paired_gain(rng.normal(size=64), s)[2:0:-1]) for s in range(50)]
    assert np.mean(widths) == pytest.approx(2 * 2.0 / 8, rel=0.08)


@pytest.mark.parametrize("nb_images", [32, 128])
def test_without_a_difference_gains_are_seldom_claimed(rng, nb_images):
    claims = []
    for seed in range(NB_RUNS):
        scores = planted_scores(rng, np.full(22, 0.4), nb_images)
        claims.append(cross_fitted_gain(scores, 0, seed).verdict)
    assert claims.count("significant gain") / NB_RUNS <= 0.05
    assert claims.count("significant loss") / NB_RUNS <= 0.05


@pytest.mark.parametrize("nb_images", [64, 256])
def test_the_cross_fitted_interval_covers(rng, nb_images):
    means, missed = bump(), 0
    for seed in range(NB_RUNS):
        scores = planted_scores(rng, means, nb_images)
        gain = cross_fitted_gain(scores, 0, seed)
        truth = np.mean(means[cross_fitted(scores, seed)] - means[0])
        missed += not gain.low <= truth <= gain.high
    assert missed / NB_RUNS < MOST


def test_the_held_out_score_is_unbiased_where_the_in_sample_one_is_not(rng):
    in_sample, held_out = [], []
    for seed in range(NB_RUNS):
        scores = planted_scores(rng, np.full(22, 0.4), 64, spread=0.0)
        in_sample.append(scores[best_index(scores)].mean() - 0.4)
        chosen = cross_fitted(scores, seed)
        held_out.append(scores[chosen, np.arange(64)].mean() - 0.4)
    error = np.std(held_out) / np.sqrt(NB_RUNS)
    assert abs(np.mean(held_out)) < 3.5 * error
    assert np.mean(in_sample) > 10 * error


def test_a_real_gain_is_found(rng):
    verdicts = [
        cross_fitted_gain(planted_scores(rng, bump(), 256), 0, seed).verdict for seed in range(20)
    ]
    assert verdicts == ["significant gain"] * 20


def test_the_truly_best_is_among_those_not_distinguishable(rng):
    means, lost = bump(width=3.0), 0
    for _ in range(NB_RUNS):
        scores = planted_scores(rng, means, 100)
        comparison = compare_with(best_index(scores), scores)
        lost += comparison.p_value[np.argmax(means)] <= 0.05 / 21
    assert lost / NB_RUNS <= 0.05


def test_comparison_is_the_paired_t_test(rng):
    from scipy.stats import ttest_rel

    scores = rng.normal(size=(4, 30))
    scores[2, :10] = np.nan
    comparison = compare_with(1, scores)
    for index in (0, 2, 3):
        shared = ~np.isnan(scores[index])
        expected = ttest_rel(scores[index, shared], scores[1, shared], alternative="less")
        assert comparison.p_value[index] == pytest.approx(expected.pvalue)
        assert comparison.difference[index] / comparison.standard_error[index] == pytest.approx(
            expected.statistic
        )


def test_cross_fitting_never_sees_the_image(rng):
    scores = rng.normal(size=(5, 20))
    chosen = cross_fitted(scores, seed=3)
    folds = folds_of(20, seed=3)
    assert np.bincount(folds).tolist() == [4] * 5
    for image in range(20):
        others = scores[:, folds != folds[image]]
        assert chosen[image] == np.argmax(others.mean(axis=1))


def test_nan_is_never_best(rng):
    scores = rng.normal(size=(3, 12))
    scores[1] = 5.0
    scores[1, 4] = np.nan
    assert best_index(scores) != 1
    assert 1 not in cross_fitted(scores)[folds_of(12, 0) != folds_of(12, 0)[4]]
    assert best_index(np.full((3, 4), np.nan)) == -1
    gain = cross_fitted_gain(scores, 0)
    assert gain.nb_images == 12
    assert np.isfinite(gain.low)


@pytest.mark.parametrize(("nb_images", "nb_untied"), [(16, 1), (100, 1), (100, 2), (40, 3)])
def test_mostly_tied_scores_claim_nothing(nb_images, nb_untied):
    """Scores of 0 and 1: a sign test of so few untied images has p >= 0.25."""
    for sign in (1, -1):
        differences = np.zeros(nb_images)
        differences[:nb_untied] = sign
        gain = paired_gain(differences)
        assert gain.verdict == "no significant gain"
        assert gain.high - gain.low < 0.3


def test_few_images_and_equal_candidates():
    assert paired_gain(np.array([])).verdict.startswith("no verdict")
    assert paired_gain(np.array([0.3])).verdict.startswith("no verdict")
    assert paired_gain(np.full(9, 0.0)) == (0.0, 0.0, 0.0, 0.0, 9)
    assert paired_gain(np.full(9, 0.0)).verdict == "no significant gain"
    assert paired_gain(np.array([0.1, np.nan, 0.2])).nb_images == 2
    equal = cross_fitted_gain(np.tile(np.linspace(0, 1, 10), (4, 1)), 2)
    assert equal == (0.0, 0.0, 0.0, 0.0, 10)
    assert np.isnan(cross_fitted_gain(np.ones((4, 1)), 2).low)
    assert str(paired_gain(np.arange(5.0))).endswith("gain)")
