"""SigmaSearch: what it derives from scores, and files that hold it whole."""

import json
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from planted import bump, planted_scores

from xplique_forgrad import SigmaSearch, forgrad
from xplique_forgrad.search import Candidate
from xplique_forgrad.search._gains import best_index, cross_fitted
from xplique_forgrad.search._settings import Scoring, SearchOptions, Settings

SIGMAS = [1.0, 2.0, 3.0, 4.0, 6.0, 9.0]
CANDIDATES = (
    Candidate(),
    Candidate(rectify="magnitude"),
    *(Candidate(sigma, "disk", "magnitude") for sigma in SIGMAS),
)


def result(scores, higher_is_better=True, halves=None, scored=None):
    utility = scores if higher_is_better else -scores
    return SigmaSearch(
        objective="faithfulness" if higher_is_better else "deletion",
        higher_is_better=higher_is_better,
        candidates=CANDIDATES,
        scores=scores,
        others={"insertion": scores + 0.5},
        halves=np.stack([scores, scores]) if halves is None else halves,
        scored=np.ones(scores.shape, bool) if scored is None else scored,
        best=best_index(utility[:, ~np.isnan(utility).all(axis=0)]),
        held_out=cross_fitted(utility),
        nb_evaluations=1234,
        settings=Settings(
            objective="faithfulness",
            report=("insertion",),
            options=SearchOptions(strategy="exhaustive"),
            axes=(1, 2),
            nb_images=scores.shape[1],
            input_shape=(16, 16, 3),
            full_band=11.0,
            scoring=Scoring({"baseline_mode": 0.0, "activation": "softmax"}, scale=1.0),
            versions={"xplique": "2.0.2"},
        ),
    )


def test_a_control_that_gains_more_is_named_before_a_gain_that_is_open(rng):
    # a filter is best by a hair, and lifts the control by 0.3
    own = planted_scores(rng, np.where(np.arange(len(CANDIDATES)) > 1, 0.2, 0.4), 60)
    noise = rng.normal(size=60)
    own[1], own[3] = own[0], own[0] + 0.004 + 0.05 * (noise - noise.mean())
    search = result(own)
    assert search.verdict.startswith("No significant gain")
    control = planted_scores(rng, np.where(np.arange(len(CANDIDATES)) > 1, 0.7, 0.4), 60)
    settings = replace(search.settings, control="other_image")
    search = replace(search, control=control, settings=settings)
    assert search.specific_gain.high < 0
    assert search.verdict.startswith(
        f"Do not filter: sigma = {search.best_sigma:g} is not specific"
    )


@pytest.fixture
def scores(rng):
    return planted_scores(rng, bump(len(CANDIDATES), peak=4, width=1.5), 120)


def test_the_best(scores):
    search = result(scores)
    assert search.best_sigma in SIGMAS
    assert search.best_score == pytest.approx(scores.mean(axis=1).max())
    assert search.best_candidate in search.indistinguishable
    assert search.held_out_score <= search.best_score + 1e-12


def test_lower_can_be_better(scores):
    higher, lower = result(scores), result(-scores, higher_is_better=False)
    assert lower.best == higher.best
    assert lower.best_score == -higher.best_score
    assert lower.gain_over_raw == higher.gain_over_raw
    np.testing.assert_array_equal(lower.sigma_per_image, higher.sigma_per_image)
    assert lower.indistinguishable == higher.indistinguishable
    difference = lower.to_frame()["difference"]
    np.testing.assert_allclose(difference, -higher.to_frame()["difference"])


def test_of_equal_cutoffs_the_largest_is_the_cautious_one(rng):
    image = rng.normal(size=200)
    noise = 1e-3 * rng.normal(size=(len(CANDIDATES), 200))
    scores = image + noise + np.array([0, 0, 1, 2, 2, 2, 2, 1])[:, None]
    search = result(scores)
    cautious = search.one_standard_error_sigma
    assert cautious in SIGMAS[1:5]
    assert cautious >= search.best_sigma
    assert {c.sigma for c in search.indistinguishable} <= set(SIGMAS[1:5])
    names = {str(candidate) for candidate in search.indistinguishable}
    assert f"sigma={cautious:g}, disk, magnitude" in names
    assert f"sigma={cautious:g}" in repr(search)
    exact = result(image + np.array([0, 0, 1, 2, 2, 2, 2, 1])[:, None])
    assert exact.best_sigma == 2
    assert exact.one_standard_error_sigma == 6


def test_verdicts(rng, scores):
    assert result(scores).verdict.startswith("Filter at sigma")
    null = planted_scores(rng, np.full(len(CANDIDATES), 0.4), 60)
    assert "significant gain over" not in result(null).verdict
    unfiltered = scores.copy()
    unfiltered[1] += 10
    search = result(unfiltered)
    assert search.best_sigma is None
    assert search.one_standard_error_sigma is None
    assert search.verdict == "Do not filter: the rectified map is best."
    assert search.gain_over_rectified.mean == 0


def test_scores_that_do_not_vary_are_no_verdict(scores):
    """All-zero maps, a constant model, an untrained one: 0.000 in every row."""
    for flat in (0 * scores, 1e-5 * scores, np.tile(scores[:1], (len(scores), 1))):
        search = result(flat)
        assert not search.varies
        assert search.verdict.startswith("No verdict: the scores do not vary")
        assert "untrained" in search.verdict
        assert "preprocessing" in search.verdict
    assert result(scores).varies
    # scores of no known scale, such as small regression outputs, may differ by less
    search = result(1e-5 * scores)
    scoring = replace(search.settings.scoring, scale=None)
    small = replace(search, settings=replace(search.settings, scoring=scoring))
    assert small.varies
    assert small.verdict.startswith("Filter at sigma")


def test_without_significance_it_says_how_many_images_would_tell(rng):
    means = np.full(len(CANDIDATES), 0.4)
    means[4] = 0.415
    for seed in range(20):
        search = result(planted_scores(np.random.default_rng(seed), means, 40))
        if search.verdict.startswith("No significant gain") and "about" in search.verdict:
            break
    found = re.search(r"now ± ([\d.]+); about ([\d,]+) images .* to ± ([\d.]+)\)", search.verdict)
    now, number, wanted = (float(text.replace(",", "")) for text in found.groups())
    assert wanted < now
    # widths fall with the root of the number
    assert number == pytest.approx(40 * (now / wanted) ** 2, rel=0.15)


def test_maps_of_another_size_are_not_filtered(scores):
    search = result(scores)
    assert search.filter(np.ones((3, 16, 16, 1))).shape == (3, 16, 16, 1)
    for shape in ((3, 28, 28, 1), (3, 16, 17), (3, 16)):
        with pytest.raises(ValueError, match="was found on maps of 16 x 16"):
            search.filter(np.ones(shape))


def test_the_settings_are_typed_and_may_be_read_by_name(scores):
    settings = result(scores).settings
    assert settings.axes == (1, 2)
    assert settings["axes"] == [1, 2]
    assert settings["strategy"] == settings.options.strategy == "exhaustive"
    assert dict(settings)["baseline_mode"] == 0.0
    assert settings.get("grid_size") is None
    with pytest.raises(AttributeError):
        settings.full_band = 3.0
    with pytest.raises(KeyError):
        settings["grid_size"]
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_a_filter_that_gains_nothing_over_the_raw_map_is_not_advised(rng):
    """Taking the magnitude loses here, and the filter only makes up for it."""
    advised = 0
    for _ in range(60):
        means = np.full(len(CANDIDATES), 0.5)
        means[1] = 0.4
        search = result(planted_scores(rng, means, 60))
        advised += "a significant gain" in search.verdict
    assert advised / 60 <= 0.05


def test_one_cutoff_per_image(rng):
    scores = np.zeros((len(CANDIDATES), 60))
    wanted = rng.integers(2, len(CANDIDATES), 60)
    scores[wanted, np.arange(60)] = 1
    scores[3] += 0.2
    search = result(scores)
    np.testing.assert_array_equal(search.sigma_per_image, np.array(SIGMAS)[wanted - 2])
    maps = forgrad(np.ones((60, 16, 16)), search.sigma_per_image)
    assert maps.shape == (60, 16, 16)
    assert search.gain_per_image.mean == pytest.approx(np.mean(scores.max(0) - scores[search.best]))


def test_the_gain_per_image_is_not_flattered_by_noise(rng):
    """Halves that share no noise: choosing on one gains nothing on the other."""
    gains = []
    for _ in range(100):
        halves = rng.normal(size=(2, len(CANDIDATES), 80))
        search = result(halves.mean(axis=0), halves=halves)
        gains.append(search.gain_per_image.mean)
    # slightly below zero: the best of all was chosen on both halves
    assert np.mean(gains) < 0.02


def test_images_that_a_race_skipped(scores):
    raced = scores.copy()
    raced[2:5, 24:] = np.nan
    search = result(raced, scored=~np.isnan(raced))
    table = search.to_frame()
    assert table["nb_images"].tolist() == [120, 120, 24, 24, 24, 120, 120, 120]
    assert table["nb_failures"].sum() == 0
    np.testing.assert_allclose(table["faithfulness"].iloc[2], scores[2, :24].mean())
    np.testing.assert_allclose(
        table["difference"].iloc[2], (scores[2] - scores[search.best])[:24].mean()
    )
    assert np.isfinite(search.sigma_per_image).all()


def test_the_table(scores):
    table = result(scores).to_frame()
    assert table.index.tolist()[:3] == ["raw", "rectified", "sigma=1, disk, magnitude"]
    np.testing.assert_allclose(
        table["standard_error"], scores.std(axis=1, ddof=1) / np.sqrt(120), rtol=1e-12
    )
    assert table["sigma"].isna().tolist() == [True, True] + [False] * 6
    assert "insertion" in table


def test_a_saved_result_comes_back_to_the_last_bit(tmp_path, scores):
    scores[2, 5] = np.nan
    search, path = result(scores), tmp_path / "search.json"
    search.save(path)
    loaded = SigmaSearch.load(path)
    for name in ("scores", "halves", "scored", "held_out"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(search, name))
    assert loaded.candidates == search.candidates
    assert loaded.settings == search.settings
    assert repr(loaded) == repr(search)
    content = json.loads(path.read_text())
    assert content["settings"]["versions"] == {"xplique": "2.0.2"}
    assert [file.name for file in tmp_path.iterdir()] == ["search.json"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "other"}', "no json", "null"])
def test_other_files_are_refused(tmp_path, scores, content):
    path = tmp_path / "search.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"no result that SigmaSearch\.save wrote"):
        SigmaSearch.load(path)
    result(scores).save(path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"no result that SigmaSearch\.save wrote"):
        SigmaSearch.load(path)


@pytest.mark.parametrize(
    ("candidate", "axes", "code"),
    [
        (Candidate(), (1, 2), "explanations"),
        (Candidate(rectify="magnitude"), (1, 2), "abs(explanations)"),
        (Candidate(rectify="positive"), (1, 2), "(explanations + abs(explanations)) / 2"),
        (Candidate(6.0, "disk", "magnitude"), (1, 2), "forgrad(explanations, sigma=6)"),
        (
            Candidate(2.123456789, "gaussian", None),
            (1, 2),
            'forgrad(explanations, sigma=2.123456789, window="gaussian", rectify=None)',
        ),
        (
            Candidate(3.0, "box", "positive"),
            (1,),
            'forgrad(explanations, sigma=3, window="box", rectify="positive", axes=(1,))',
        ),
    ],
)
def test_the_code_of_the_best_does_what_the_search_does(rng, scores, candidate, axes, code):
    search = result(scores)
    settings = replace(search.settings, axes=axes)
    candidates = (*CANDIDATES[:2], candidate)
    search = replace(search, candidates=candidates, best=2, settings=settings)
    assert search.code == code
    explanations = rng.normal(size=(3, 16, 16, 2)).astype(np.float32)
    wanted = search.filter(explanations)
    for maps in (explanations, tf.constant(explanations)):
        found = eval(search.code, {"forgrad": forgrad, "explanations": maps})
        # one cutoff alone may take another way than several
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_it_reads_well(scores):
    search = result(scores)
    text, page = repr(search), search._repr_html_()
    for word in (
        "Filter at sigma",
        "gain over raw",
        "held out",
        "not distinguishable",
        "1,234",
        "softmax",
    ):
        assert word in text
    assert search.code in text
    assert all(f"{title}: {line}" in text for title, line in search.summary.items())
    assert "<table" in page
    assert "gain over rectified" in page


def test_it_is_frozen(scores):
    search = result(scores)
    with pytest.raises(AttributeError):
        search.best = 0


def test_the_curve_draws_paired_levels(scores):
    search = result(scores)
    ax = search.plot()
    table = search.to_frame()
    curve = next(line for line in ax.lines if len(line.get_xdata()) == len(SIGMAS))
    np.testing.assert_array_equal(curve.get_xdata(), SIGMAS)
    np.testing.assert_allclose(
        curve.get_ydata(), (search.best_score + table["difference"]).iloc[2:]
    )
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "raw, no filter" in labels
    assert "rectified, no filter" in labels
    assert any(label.startswith("best, sigma") for label in labels)
    assert "cycles" in ax.get_xlabel()
    _, own = plt.subplots()
    assert search.plot(ax=own) is own
    plt.close("all")
