"""Races keep to their tolerance on planted curves, are unbiased, and never let NaN win."""

import numpy as np
import pytest
from planted import bump, planted_scores, planted_steps

from xplique_forgrad.search.racing import FEWEST, START, Race, Request, StepOrder, split_images


def run_race(terms, seed, **options):
    """
    The race of a search, told what is planted: terms of shape (K, N, S), a score is their mean.

    Gives the race, the scores that it was told (K, N), and the share of the terms looked at.
    """
    nb_candidates, nb_images, nb_steps = terms.shape
    race = Race(nb_candidates, nb_images, nb_steps, seed=seed, unfiltered=(0, 1), **options)
    seen = np.zeros(terms.shape, bool)
    while (request := race.ask()) is not None:
        images = request.images
        where = np.ix_(request.candidates, images)
        steps = race.steps.of(images, request.steps)
        flags = np.zeros((len(images), nb_steps), bool)
        np.put_along_axis(flags, steps, True, axis=1)
        seen[where] |= flags
        known = np.where(seen[where], terms[where], np.nan)
        race.tell(request, np.nanmean(known, axis=-1))
    return race, seen, seen.mean()


CURVES = {
    "bump": bump(),
    "narrow": bump(width=1.5),
    "wide": bump(width=10.0),
    "flat": np.full(22, 0.4),
    "step": np.repeat([0.4, 0.42], 11),
    "two peaks": np.maximum(bump(peak=4, width=2.0), bump(peak=16, width=2.0, height=0.105)),
}


@pytest.mark.parametrize("name", CURVES)
def test_the_winner_is_within_the_tolerance(rng, name):
    """The documented bound, against an exhaustive search on the same images: 5 % of races."""
    regrets, costs = [], []
    for seed in range(300):
        terms = planted_steps(rng, CURVES[name], 256)
        race, _, cost = run_race(terms, seed)
        means = terms.mean(axis=(1, 2))
        regrets.append(means.max() - means[race.best])
        costs.append(cost)
    assert np.mean(np.array(regrets) > 0.01) <= 0.05
    assert np.mean(regrets) <= 0.003
    assert np.mean(costs) < 0.25


def test_few_steps_of_many_images_cost_less_than_all_steps_of_few(rng):
    means, costs, regrets = CURVES["wide"], {1: [], 9: []}, {1: [], 9: []}
    for seed in range(100):
        terms = planted_steps(rng, means, 256)
        # a race that knows only whole scores looks at all steps of an image
        for nb_steps, known in ((9, terms), (1, terms.mean(axis=-1, keepdims=True))):
            race, _, cost = run_race(known, seed)
            costs[nb_steps].append(cost)
            regrets[nb_steps].append(means.max() - means[race.best])
    assert np.mean(costs[9]) < 0.7 * np.mean(costs[1])
    assert np.mean(regrets[9]) < 0.005


def test_what_a_race_says_of_its_winner_is_unbiased(rng):
    """On images held out, with all steps; and each candidate's estimates on raced images."""
    means = CURVES["wide"]
    judged, raced, truths = [], [], []
    for seed in range(300):
        terms = planted_steps(rng, means, 128)
        race, seen, _ = run_race(terms, seed)
        assert seen[race.best, race.judging].all()
        judged.append(terms[race.best, race.judging].mean() - means[race.best])
        first = race.rounds[0]
        known = np.where(seen[:, first], terms[:, first], np.nan)
        raced.append(np.nanmean(known, axis=(1, 2)) - means)
        truths.append(np.nanmean(known, axis=2) - terms[:, first].mean(axis=2))
    for errors in (np.array(judged), np.array(raced), np.array(truths).mean(axis=(1, 2))):
        spread = errors.std(axis=0, ddof=1) / np.sqrt(len(errors))
        assert np.all(np.abs(errors.mean(axis=0)) < 4 * spread)


def test_more_standard_errors_err_less(rng):
    means = CURVES["wide"]
    terms = [planted_steps(rng, means, 256) for _ in range(100)]
    regret, cost = {}, {}
    for z in (1.0, 4.0):
        found = [run_race(one, seed, z=z) for seed, one in enumerate(terms)]
        regret[z] = np.mean([means.max() - means[race.best] for race, *_ in found])
        cost[z] = np.mean([share for *_, share in found])
    assert regret[4.0] < regret[1.0]
    assert cost[4.0] > cost[1.0]
    # the union bound: 21 candidates, 7 rounds, P(normal > 4) each
    winners = [run_race(one, 0, z=4.0)[0].best for one in terms]
    assert np.mean([means.max() - means[winner] > 0.01 for winner in winners]) <= 0.05


def test_tolerances_do_not_add_up():
    """Each step is within the tolerance of the next, the first is not within that of the last."""
    means = np.linspace(0.4, 0.436, 5)
    images = np.random.default_rng(0).normal(size=400)
    scores = means[:, None] + 0.001 * np.random.default_rng(1).normal(size=(5, 400)) + images
    for seed in range(20):
        race, *_ = run_race(scores[..., None], seed, tolerance=0.01)
        assert means[-1] - means[race.best] <= 0.01
        # with steps to sample, images run out, and rivals within twice the tolerance are let go
        noise = 0.05 * np.random.default_rng(seed).normal(size=(5, 400, 9))
        race, *_ = run_race(scores[..., None] + noise, seed, tolerance=0.01)
        assert means[-1] - means[race.best] <= 0.02


def told(scores, **options):
    """A race after its first round, told scores (K, n) or (K, 1) for its images."""
    scores = np.broadcast_to(scores, (len(scores), START))
    race = Race(len(scores), 4 * START, **options)
    race.tell(race.ask(), scores)
    return race


def test_a_debt_goes_on_to_who_beats_its_owner(rng):
    """Absorb within 0.009, be beaten by 0.0005: what is left, 0.0085, binds the one that beats."""
    noise = 1e-5 * rng.normal(size=(3, 100))
    race = Race(3, 200, tolerance=0.01)
    race._absorbed[:] = [0.009, 0.0, 0.0]

    def tell(candidates, images, scores):
        race.alive = np.array(candidates)
        race.tell(Request(race.alive, images, slice(0, 1), "race"), scores[candidates])

    tell([0, 1], np.arange(100), np.array([[0.5], [0.5005], [0.0]]) + noise)
    assert race.alive.tolist() == [1]
    # nor may it be absorbed by one that is 0.005 better, though that is within the tolerance
    unsure = 0.05 * rng.normal(size=100)
    scores = np.array([[0.0], [0.5], [0.501]]) + noise
    scores[2] += unsure - unsure.mean()
    race.seen = np.arange(0)
    tell([1, 2], np.arange(100), scores)
    assert race.alive.tolist() == [1, 2]


def test_close_candidates_are_topped_up_and_clear_ones_are_not(rng):
    purposes = {}
    for name, gap in (("clear", 0.4), ("close", 0.0)):
        means = np.array([0.1, 0.1, 0.5, 0.5 + gap])
        terms = planted_steps(rng, means, 64, step_noise=0.6)
        race = Race(4, 64, 9, unfiltered=(0, 1))
        purposes[name], lengths = [], []
        while (request := race.ask()) is not None:
            purposes[name].append(request.purpose)
            lengths.append(request.steps.stop)
            steps = race.steps.of(request.images, slice(0, request.steps.stop))[None]
            known = terms[np.ix_(request.candidates, request.images)]
            race.tell(request, np.take_along_axis(known, steps, axis=2).mean(axis=2))
        assert lengths[-1] == 9
    assert purposes["clear"] == ["race", "judge"]
    assert "top up" in purposes["close"]


@pytest.mark.parametrize("nb_steps", [1, 2, 3, 9, 10, 33, 100])
def test_steps_of_an_image_are_spread_and_equally_likely(nb_steps):
    order = StepOrder(nb_steps, 4000, seed=3)
    whole = order.of(np.arange(4000), slice(0, nb_steps))
    assert np.all(np.sort(whole, axis=1) == np.arange(nb_steps))
    for size in {1, min(2, nb_steps), min(4, nb_steps)}:
        first = order.of(np.arange(4000), slice(0, size))
        counts = np.bincount(first.ravel(), minlength=nb_steps) / (4000 * size / nb_steps)
        assert np.all(np.abs(counts - 1) < 5 / np.sqrt(4000 * size / nb_steps))
    if nb_steps > 3:
        # two steps lie about half the curve apart, going around
        first, second = order.of(np.arange(4000), slice(0, 2)).T
        apart = np.abs(first - second)
        assert np.all(np.minimum(apart, nb_steps - apart) >= (nb_steps - 1) // 2)


def test_refined_candidates_catch_up_and_may_win(rng):
    means = np.array([0.1, 0.1, 0.5, 0.4, 0.6])
    scores = planted_scores(rng, means, 100, noise=0.01)
    asked = []

    def refine(best):
        asked.append(best)
        return 1 if len(asked) == 1 else 0

    for strategy in ("racing", "exhaustive"):
        asked.clear()
        race = Race(4, 100, strategy=strategy, unfiltered=(0, 1), refine=refine)
        requests = []
        while (request := race.ask()) is not None:
            requests.append(request)
            race.tell(request, scores[np.ix_(request.candidates, request.images)])
        assert asked == [2, 4]
        assert race.best == 4
        refined = next(request for request in requests if request.purpose == "refine")
        assert refined.candidates.tolist() == [4]
        np.testing.assert_array_equal(refined.images, race.seen)


def test_a_stopped_race_still_judges_its_winner(rng):
    scores = planted_scores(rng, bump(), 256)
    race = Race(22, 256, unfiltered=(0, 1), refine=lambda best: pytest.fail("refined"))
    request = race.ask()
    race.tell(request, scores[np.ix_(request.candidates, request.images)])
    race.stop()
    judged = race.ask()
    assert judged.purpose == "judge"
    assert set(judged.candidates) == {0, 1, race.best}
    # and the judging itself may be cut short
    part = judged._replace(images=judged.images[:3])
    race.tell(part, scores[np.ix_(part.candidates, part.images)])
    assert race.ask() is None
    assert np.sum(race.chosen_without() == race.best) == 3


@pytest.mark.parametrize("nb_images", [1, 2, 47, 48, 100, 256, 1000])
def test_rounds_cover_all_images_once(nb_images):
    rounds, judging = split_images(nb_images, seed=1)
    positions = np.concatenate([*rounds, judging])
    assert sorted(positions) == list(range(nb_images))
    if nb_images < FEWEST:
        assert len(rounds) == 1
        assert not len(judging)
    else:
        assert len(rounds[0]) == min(START, nb_images - round(nb_images / 4))
        assert len(judging) == round(nb_images / 4)
    again, _ = split_images(nb_images, seed=1)
    other, _ = split_images(nb_images, seed=2)
    assert all(map(np.array_equal, rounds, again))
    if nb_images >= 48:
        assert not np.array_equal(rounds[0], other[0])


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_a_request_are_batches_of_the_samples(seed):
    """Rows of groups, read by one pass each, give the groups back."""
    from xplique_forgrad.search._loop import _rows

    rng = np.random.default_rng(seed)
    cohorts = [np.sort(part) for part in np.split(rng.permutation(60), [3, 9, 30, 34])]
    cohorts.append(np.arange(60, 75))
    groups = [part[i : i + 8] for part in cohorts for i in range(0, len(part), 8)]
    found = []
    for row in _rows(groups):
        positions = np.concatenate(row)
        assert np.all(np.diff(positions) > 0)
        size = len(row[0])
        found += [positions[i : i + size] for i in range(0, len(positions), size)]
    assert all(map(np.array_equal, found, groups))
    assert len(found) == len(groups)


def test_nan_is_dropped_and_an_image_without_scores_left_out(rng):
    scores = rng.normal(0.5, 0.1, size=(4, START))
    scores[2] += 1
    scores[2, 7] = np.nan
    scores[:, 20] = np.nan
    race = told(scores, tolerance=0.0)
    assert race.best != 2
    assert 2 not in race.alive
    nothing = told(np.full((4, 1), np.nan), tolerance=0.0)
    assert nothing.alive.tolist() == [0, 1, 2, 3]
    assert nothing.best == -1


def test_equal_candidates_end_at_once():
    race = told(np.tile(np.linspace(0, 1, START), (5, 1)), tolerance=0.0)
    assert race.best == 0
    assert race.ask().purpose == "judge"


def test_a_winner_that_fails_where_it_is_judged_is_replaced(rng):
    scores = planted_scores(rng, np.array([0.1, 0.1, 0.6, 0.5, 0.4]), 100, noise=0.01)
    scores[2, split_images(100, 0)[1]] = np.nan
    # all are alive to the end: no comparison is ever sure
    race = Race(5, 100, tolerance=0.0, z=500.0, unfiltered=(0, 1))
    while (request := race.ask()) is not None:
        race.tell(request, scores[np.ix_(request.candidates, request.images)])
    assert race.best == 3
    assert set(race.chosen_without()) == {-1, 3}
