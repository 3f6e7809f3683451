"""
Tables of a benchmark on planted records: no model is run.
"""

import json
import re

import numpy as np
import pandas as pd
import pytest
from planted_benchmark import (
    FAILED,
    METHODS,
    PROVENANCE,
    Planted,
    planted_benchmark,
    planted_tables,
)
from scipy import stats

from xplique_forgrad.benchmark import Benchmark
from xplique_forgrad.benchmark._inference import (
    holm,
    kendall_tau,
    paired_test,
    ranks_of,
    tau_of_means,
)

TABLES = ("records", "methods", "choices")
MISSING = "\u2013"
SETTINGS = (("zero", 1), ("mean", 1), ("zero", 8))


@pytest.fixture(scope="module")
def benchmark():
    return planted_benchmark()


@pytest.fixture(scope="module")
def contrary():
    """Two settings that rank the methods the other way round."""
    means = np.array([0.1, 0.2, 0.3, 0.4])

    def tables(setting, means, sigmas):
        methods = [
            Planted(f"M{place}", "white", mean, by_filtering=0.05, sigma=sigma)
            for place, (mean, sigma) in enumerate(zip(means, sigmas))
        ]
        return planted_tables(methods=methods, settings=(setting,), failures=())

    one = tables(("zero", 1), means, (2, 4, 6, np.nan))
    other = tables(("mean", 1), means[::-1], (3, 9, 12, 30))
    records, _, choices = (pd.concat(pair) for pair in zip(one, other))
    return Benchmark(records, one[1], choices)


def rows_of(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def scores_of(benchmark, method, treatment, measure):
    rows = rows_of(benchmark.records, method=method, treatment=treatment).sort_values("image")
    measures = {
        "faithfulness": rows["insertion"] - rows["deletion"],
        "specific": rows["insertion"] - rows["deletion"] - rows["control"],
    }
    return measures[measure].to_numpy() if measure in measures else rows[measure].to_numpy()


# inference


def test_holm_is_that_of_the_textbook():
    # Wikipedia, Holm-Bonferroni method: at 5 % the first and the fourth are rejected
    corrected = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, 0.06, 0.06, 0.02])


def test_holm_rejects_as_the_steps_do(rng):
    """Holm (1979): from the smallest p on, each against the level over the number still open."""
    for _ in range(20):
        p_values = rng.random(6) ** 4
        for level in (0.01, 0.05, 0.2):
            rejected = np.zeros(6, bool)
            for step, index in enumerate(np.argsort(p_values)):
                if p_values[index] > level / (6 - step):
                    break
                rejected[index] = True
            np.testing.assert_array_equal(holm(p_values) <= level, rejected)


def test_what_was_not_tested_is_of_no_family():
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.01])), [0.02, np.nan, 0.02])
    assert holm(np.array([])).size == 0
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_the_paired_test_is_that_of_scipy(rng):
    scores, reference = rng.random((2, 12))
    scores[3] = reference[5] = np.nan
    expected = stats.ttest_rel(scores, reference, nan_policy="omit")
    found = paired_test(scores, reference)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.gain / found.standard_error == pytest.approx(expected.statistic)
    assert found.nb_images == 10


def test_pairs_without_a_test():
    same = paired_test(np.ones(4), np.ones(4))
    assert (same.gain, same.p_value) == (0, 1)
    assert np.isnan(paired_test(np.ones(1), np.zeros(1)).p_value)
    assert paired_test(np.full(3, np.nan), np.ones(3)).nb_images == 0


def test_tau_of_known_rankings():
    one = np.arange(4.0)
    assert kendall_tau(one, one) == 1
    assert kendall_tau(one, -one) == -1
    # one of six pairs is the other way round
    assert kendall_tau(one, [1, 0, 2, 3]) == pytest.approx(4 / 6)
    assert np.isnan(kendall_tau(one, np.ones(4)))
    assert np.isnan(kendall_tau([1.0], [2.0]))


def test_tau_is_that_of_scipy_with_ties(rng):
    one, other = rng.integers(0, 4, (2, 5, 9)).astype(float)
    one[0, :2] = np.inf
    expected = [stats.kendalltau(*pair).statistic for pair in zip(one, other)]
    np.testing.assert_allclose(kendall_tau(one, other), expected)


def test_the_interval_of_tau(rng):
    means = np.arange(5) / 5
    clear, unclear = (
        [means + spread * rng.standard_normal((40, 5)) for _ in range(2)] for spread in (0.01, 2)
    )
    assert tau_of_means(*clear) == (1, 1, 1)
    found = tau_of_means(*unclear)
    assert found.high - found.low > 0.5
    assert tau_of_means(*unclear) == found
    assert np.isnan(tau_of_means(means[None], means[None]).low)


def test_ranks_and_their_intervals(rng):
    # two that nothing tells apart, before one that is clearly third, and a copy of it
    means = np.array([0.50, 0.2, 0.501])
    scores = means + 0.02 * rng.standard_normal((30, 3))
    ranks = ranks_of(np.column_stack([scores, scores[:, 1]]))
    assert {*ranks.rank[[0, 2]]} == {1, 2}
    np.testing.assert_array_equal(ranks.low, [1, 3, 1, 3])
    np.testing.assert_array_equal(ranks.high, [2, 3, 2, 3])
    assert ranks.rank[1] == ranks.rank[3] == 3
    assert np.isnan(ranks_of(scores[:1]).low).all()


def test_images_are_drawn_alike_for_all_methods(rng):
    """A method that is better on each image is so in each resample, however unlike images are."""
    of_images = rng.standard_normal(20)[:, None]
    ranks = ranks_of(of_images + np.array([0.0, 1e-6, 2e-6]))
    np.testing.assert_array_equal(np.stack(ranks), np.tile([3, 2, 1], (3, 1)))


# tables


@pytest.mark.parametrize("measure", ["deletion", "faithfulness", "specific", "mu_fidelity"])
def test_means_and_standard_errors(benchmark, measure):
    frame = benchmark.to_frame()
    for _, row in frame.iterrows():
        scores = scores_of(benchmark, row["method"], row["treatment"], measure)
        assert row[measure] == pytest.approx(scores.mean())
        assert row[f"{measure}_error"] == pytest.approx(scores.std(ddof=1) / 20**0.5)


def test_measures_of_some_images(benchmark):
    row = benchmark.to_frame().iloc[0]
    assert (row["stability"], row["nb_images"]) == (0.5, 20)
    records = planted_tables()[0].assign(mu_fidelity=np.nan)
    frame = Benchmark(records, *planted_tables()[1:]).to_frame()
    assert frame[["mu_fidelity", "global_score", "rank"]].isna().all(axis=None)


def test_the_global_score_ranks_methods_without_controls(benchmark):
    frame = benchmark.to_frame()
    expected = frame["insertion"] + frame["mu_fidelity"] - frame["deletion"]
    np.testing.assert_allclose(frame["global_score"], expected)
    assert frame.loc[frame["kind"] == "control", "rank"].isna().all()
    order = rows_of(frame, treatment="filtered").sort_values("rank")["method"].tolist()
    assert order == ["Best", "Signed", "Plain", "Harmed", "Noise"]


def test_rows_say_what_was_filtered_and_what_it_cost(benchmark):
    frame = benchmark.to_frame()
    of_best = rows_of(frame, method="Best")
    assert of_best["treatment"].tolist() == ["as is", "rectified", "filtered"]
    np.testing.assert_array_equal(of_best["sigma"], [np.nan, np.nan, 6])
    assert rows_of(frame, method="Plain")["sigma"].isna().all()
    assert (rows_of(frame, method="Signed")[["forward", "backward"]] == 50).all(axis=None)
    assert "is_copy" not in frame


def test_order_is_that_of_the_methods_however_records_came():
    records, methods, choices = planted_tables(models=("b", "a"), settings=SETTINGS)
    shuffled = records.sample(frac=1, random_state=0)
    ours, theirs = (Benchmark(one, methods, choices) for one in (records, shuffled))
    found = theirs.to_frame()
    assert found["model"].unique().tolist() == ["b", "a"]
    assert found["method"].unique().tolist() == [method.name for method in METHODS]
    keys = ["model", "method", "treatment", "baseline", "patch_size"]
    one, other = (frame.set_index(keys).sort_index() for frame in (ours.to_frame(), found))
    pd.testing.assert_frame_equal(one, other)


def test_comparisons_are_paired_and_corrected(benchmark):
    found = benchmark.comparisons()
    assert len(found) == 5 * 2 * 2
    for _, row in found.iterrows():
        filtered, reference = (
            scores_of(benchmark, row["method"], treatment, row["measure"])
            for treatment in ("filtered", row["reference"])
        )
        assert row["p_value"] == pytest.approx(stats.ttest_rel(filtered, reference).pvalue)
        assert row["gain"] == pytest.approx(np.mean(filtered - reference))
        # the smallest p of four methods counts four times
    for _, family in found.groupby(["measure", "reference"]):
        methods = family[family["kind"] != "control"]
        smallest = methods.loc[methods["p_value"].idxmin()]
        assert smallest["p_holm"] == pytest.approx(4 * smallest["p_value"])
        assert family.loc[family["kind"] == "control", "p_holm"].isna().all()


def test_the_planted_ranking_is_found(benchmark):
    truth = {
        (method.name, treatment): method.specific(treatment)
        for method in METHODS
        for treatment in ("as is", "rectified", "filtered")
    }
    ranking = benchmark.ranking()
    names = list(zip(ranking["method"], ranking["treatment"]))
    # the rectified maps of the others are those as they are
    assert [name for name in names if name[1] == "rectified"] == [("Signed", "rectified")]
    values = np.array([truth[name] for name in names])
    best = np.array([1 + np.sum(values > value + 1e-9) for value in values])
    worst = np.array([np.sum(values >= value - 1e-9) for value in values])
    assert (ranking["rank_low"] <= worst).all()
    assert (ranking["rank_high"] >= best).all()
    assert names[0] == ("Best", "filtered")
    np.testing.assert_array_equal(ranking.loc[0, ["rank", "rank_low", "rank_high"]], 1)
    assert ranking["rank"].is_monotonic_increasing
    np.testing.assert_allclose(ranking["mean"], values, atol=0.01)


def test_rankings_of_measures_that_shall_be_low(benchmark):
    ranking = benchmark.ranking("high_frequency")
    assert (ranking["treatment"][ranking["rank"] == 1] == "filtered").all()


def test_rankings_are_of_a_setting():
    benchmark = planted_benchmark(models=("net", "other"), settings=SETTINGS)
    whole = benchmark.ranking()
    assert whole.groupby(["model", "baseline", "patch_size"])["rank"].min().tolist() == [1] * 6
    part = benchmark.ranking(model="other", baseline="zero", patch_size=8)
    expected = rows_of(whole, model="other", baseline="zero", patch_size=8)
    pd.testing.assert_frame_equal(part, expected.reset_index(drop=True))
    with pytest.raises(ValueError, match="`model` is 'another'; this benchmark has 'net', 'other'"):
        benchmark.ranking(model="another")
    with pytest.raises(ValueError, match="`patch_size` is 8; this benchmark has 1"):
        benchmark.ranking(baseline="mean", patch_size=8)
    with pytest.raises(ValueError, match="`measure` is 'speed'; give one of 'deletion'"):
        benchmark.ranking("speed")


def test_a_measure_that_was_not_taken_ranks_nothing():
    records, methods, choices = planted_tables()
    benchmark = Benchmark(records.assign(mu_fidelity=np.nan), methods, choices)
    with pytest.raises(ValueError, match="'mu_fidelity' was not measured"):
        benchmark.ranking("mu_fidelity")


def test_robustness_of_contrary_settings(contrary):
    found = contrary.robustness().set_index("compared")
    assert found.loc["as is", "tau"] == found.loc["filtered", "tau"] == -1
    assert (found[["low", "high"]].dropna() == -1).all(axis=None)
    # no filter is the highest cutoff: here both settings have the same order
    assert found.loc["sigma", "tau"] == 1
    assert np.isnan(found.loc["sigma", "low"])
    assert (found["nb_methods"] == 4).all()
    assert found.loc["filtered", ["baseline", "other_baseline"]].tolist() == ["zero", "mean"]


def test_robustness_has_a_row_for_each_pair():
    found = planted_benchmark(settings=SETTINGS).robustness()
    assert len(found) == 3 * 3
    # four methods that are apart by much more than the noise; controls are left out
    assert (found["tau"] == 1).all()
    assert not len(planted_benchmark().robustness())


# words


def test_the_verdict_tells_filter_and_rectification_apart(benchmark):
    lines = benchmark.verdict.splitlines()
    assert lines[0] == "net, 20 images scored:"
    of = {name: next(line for line in lines if name in line) for name in ("Best", "Signed")}
    assert of["Best"].startswith("Filtering gains specific faithfulness over the map as is and")
    assert re.match(r"On Signed \(\+0.151 ± 0.\d{3}\) the gain .* comes from rect", of["Signed"])
    assert any(line.startswith("Filtering loses specific") and "Harmed (" in line for line in lines)
    assert any(re.match(r"Filtering shows no .* on Plain \(", line) for line in lines)
    assert "First by specific faithfulness: Best filtered (2 passes an image)." in lines
    assert lines[-1] == "Not in the tables: Broken (failed: no convolution, said it)."
    assert "settings" not in benchmark.verdict


def test_a_control_that_gains_as_much_comes_first():
    methods = (
        Planted("Weak", "white", 0.1, by_filtering=0.03),
        Planted("Strong", "white", 0.1, by_filtering=0.30),
        Planted("Noise", "control", 0.0, by_control=0.06),
        Planted("Edges", "control", 0.0, by_control=0.001),
    )
    line = planted_benchmark(methods=methods, spread=0.005).verdict.splitlines()[1]
    assert line.startswith("The filter gains as much plain faithfulness on controls as on some")
    assert re.search(r"Noise \(\+0.06\d\) against Weak \(\+0.03\d\)\.", line)
    assert "Strong" not in line
    assert "Edges" not in line


def test_a_method_without_a_filter_is_said_to_have_none():
    records, methods, choices = planted_tables()
    scores = ["deletion", "insertion", "control"]
    of_best = records["method"] == "Best"
    raw = records.loc[of_best & (records["treatment"] == "as is"), scores].to_numpy()
    records.loc[of_best & (records["treatment"] == "filtered"), scores] = raw
    verdict = Benchmark(records, methods, choices).verdict
    assert "No filter was chosen on Best (+0.000 ± 0.000): the map is as it is" in verdict


def test_methods_that_score_no_more_than_a_control_are_named():
    methods = (
        Planted("Weak", "white", 0.1),
        Planted("Strong", "white", 0.5),
        Planted("Edges", "control", 0.3),
        Planted("Noise", "control", 0.0),
    )

    def line_of(methods):
        verdict = planted_benchmark(methods=methods, spread=0.005).verdict
        return next(line for line in verdict.splitlines() if line.startswith("The best control"))

    assert re.search(r"is Edges \(\+0.(29|30)\d\); Weak has no more\.", line_of(methods))
    assert line_of(methods[1:]).endswith("all methods have more.")
    assert line_of((methods[0], *methods[2:])).endswith("no method has more.")


def test_all_that_may_be_first_are_named():
    methods = (
        Planted("One", "white", 0.3, passes=(1, 1)),
        Planted("Two", "black", 0.3, passes=(100, 0)),
        Planted("Centre", "control", 0.3),
        Planted("Last", "grey", 0.1),
    )
    line = next(
        line
        for line in planted_benchmark(methods=methods, spread=0.1).verdict.splitlines()
        if line.startswith("May be first by specific faithfulness, within 95 % intervals")
    )
    assert "(2 passes an image)" in line
    assert "(100 passes an image)" in line
    assert "the control Centre" in line
    assert "Last" not in line


def test_no_ranking_stands_for_several_settings(contrary):
    lines = contrary.verdict.splitlines()
    assert "Each ranking is that of its setting alone." in lines
    tau = "-1.00 [-1.00, -1.00]"
    assert any(f"is {tau} for the maps as they are, {tau} for the filtered" in x for x in lines)
    first = [line for line in lines if "First by" in line]
    assert first == [
        "With baseline zero, patches of 1 pixel: First by specific faithfulness: M3 filtered "
        "(2 passes an image).",
        "With baseline mean, patches of 1 pixel: First by specific faithfulness: M0 filtered "
        "(2 passes an image).",
    ]


def test_several_models_have_a_paragraph_each():
    benchmark = planted_benchmark(models=("net", "other"))
    paragraphs = benchmark.verdict.split("\n\n")
    assert [text.split("\n")[0] for text in paragraphs] == [
        "net, 20 images scored:",
        "other, 20 images scored:",
    ]
    assert "Broken" in paragraphs[0]
    assert "Broken" not in paragraphs[1]
    assert repr(benchmark).endswith(benchmark.verdict)
    page = benchmark._repr_html_()
    assert page.count("<details>") == 2
    assert "Best filtered" in page


def test_without_another_image_faithfulness_counts():
    records, methods, choices = planted_tables(nb_images=1)
    benchmark = Benchmark(records.assign(control=np.nan), methods, choices)
    assert benchmark.measure == "faithfulness"
    assert "First by faithfulness: " in benchmark.verdict
    assert benchmark.to_frame()["faithfulness_error"].isna().all()
    assert "Best | filtered" in benchmark.to_markdown()


def test_a_benchmark_in_which_all_failed(tmp_path):
    records, methods, choices = planted_tables()
    benchmark = Benchmark(records[:0], methods[methods["status"] == "failed"], choices[:0])
    assert (
        benchmark.verdict
        == "net, 0 images scored:\nNot in the tables: Broken (failed: no convolution, said it)."
    )
    for table in (benchmark.to_frame(), benchmark.comparisons(), benchmark.robustness()):
        assert not len(table)
    assert "Broken" in benchmark.to_markdown()
    benchmark.save(tmp_path / "a")
    assert Benchmark.load(tmp_path / "a").verdict == benchmark.verdict


# text


def parsed_markdown(text):
    """Tables of a text in Markdown: lists of cells."""
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)
    for table in tables:
        header, _, *lines = (
            [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
        )
        yield pd.DataFrame(lines, columns=header)


def parsed_latex(text):
    for table in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.S):
        text = table.replace(r"$\pm$", "±").replace("--", MISSING).replace("\\midrule\n", "")
        text = text.replace(r" $\downarrow$", " ↓").replace(r" $\uparrow$", " ↑")
        header, *lines = (
            [cell.strip() for cell in line.removesuffix(r"\\").split("&")]
            for line in text.strip().splitlines()
        )
        yield pd.DataFrame(lines, columns=header)


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_tables_read_back_as_the_same_numbers(form):
    benchmark = planted_benchmark(models=("net", "other"), settings=SETTINGS)
    text, read = {
        "markdown": (benchmark.to_markdown(), parsed_markdown),
        "latex": (benchmark.to_latex(), parsed_latex),
    }[form]
    frame = benchmark.to_frame()
    is_shown = (frame["treatment"] != "rectified") | (frame["method"] == "Signed")
    groups = frame[is_shown].groupby(["model", "baseline", "patch_size"], sort=False)
    tables = list(read(text))
    assert len(tables) == len(groups) == 6
    for table, (_, rows) in zip(tables, groups):
        assert table["Method"].str.removesuffix(" *").tolist() == rows["method"].tolist()
        assert table["Map"].tolist() == rows["treatment"].tolist()
        for title, name in (
            ("Del. ↓", "deletion"),
            ("Stab. ↓", "stability"),
            ("Global rank", "rank"),
        ):
            found = [float(cell.replace(MISSING, "nan")) for cell in table[title]]
            np.testing.assert_allclose(found, rows[name], atol=0.0006)
        pairs = table["Specific ↑"].str.split(" ± ", expand=True).astype(float)
        np.testing.assert_allclose(pairs, rows[["specific", "specific_error"]], atol=0.0006)
        passes = rows["forward"] + rows["backward"]
        np.testing.assert_allclose(table["Passes"].astype(float), passes)


def test_texts_say_what_is_missing_and_how_they_were_made(benchmark):
    for text in (benchmark.to_markdown(), benchmark.to_latex()):
        assert "Not in the tables: net: Broken (failed: no convolution, said it)." in text
        assert "Noise *" in text
        assert "xplique-forgrad 0.1.0" in text
        assert "fingerprint abc" in text
    expected = {**FAILED, "reason": "no convolution, said it"}
    assert benchmark.skipped.to_dict("records") == [expected]


def test_columns_that_are_asked_for(benchmark):
    (table,) = parsed_markdown(benchmark.to_markdown(["specific", "nb_images"]))
    assert table.columns.tolist() == ["Method", "Map", "Specific ↑", "Images"]
    with pytest.raises(ValueError, match="`columns` has 'speed'; the tables can show deletion, "):
        benchmark.to_latex(["speed"])
    # what was not measured needs no column, unless it is asked for
    records, methods, choices = planted_tables()
    without = Benchmark(records.assign(mu_fidelity=np.nan), methods, choices)
    assert "MuFid." not in without.to_markdown()
    assert "MuFid." in without.to_markdown(["mu_fidelity"])


def test_names_are_no_markup():
    methods = [Planted("a|b_c & 100 %", "white", 0.1)]
    benchmark = planted_benchmark(methods=methods)
    assert r"| a\|b_c & 100 % |" in benchmark.to_markdown()
    assert r"a|b\_c \& 100 \%" in benchmark.to_latex()


# folder


def nasty_tables():
    records, methods, choices = planted_tables(models=("net", "other"))
    records.loc[:4, "deletion"] = [1 / 3, 5e-324, -0.0, 0.1 + 0.2, 1.7976931348623157e308]
    reason = 'NA,\n"quoted",\ttab\r\nand a line '
    methods.loc[methods["status"] == "failed", "reason"] = reason
    return records, methods, choices


def test_a_saved_benchmark_is_the_same_to_the_last_bit(tmp_path):
    saved = Benchmark(*nasty_tables(), PROVENANCE)
    saved.save(tmp_path / "new" / "a")
    loaded = Benchmark.load(tmp_path / "new" / "a")
    for name in TABLES:
        ours, theirs = getattr(saved, name), getattr(loaded, name)
        pd.testing.assert_frame_equal(theirs, ours, check_exact=True)
        for column in ours.select_dtypes("float"):
            bits = [
                table[column].fillna(-1.0).to_numpy().view(np.int64) for table in (ours, theirs)
            ]
            np.testing.assert_array_equal(*bits)
    assert loaded.provenance == PROVENANCE
    assert loaded.methods["reason"].iloc[-1] == 'NA,\n"quoted",\ttab\r\nand a line '
    files = {path.name for path in (tmp_path / "new" / "a").iterdir()}
    assert files == {"records.csv", "methods.csv", "choices.csv", "manifest.json"}


@pytest.mark.parametrize("name", TABLES)
def test_torn_folders_are_refused(benchmark, tmp_path, name):
    benchmark.save(tmp_path)
    path = tmp_path / f"{name}.csv"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name}.csv is missing, torn or changed"):
        Benchmark.load(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="missing"):
        Benchmark.load(tmp_path)
    # a whole one takes its place
    benchmark.save(tmp_path)
    assert len(Benchmark.load(tmp_path).records) == len(benchmark.records)


def test_the_manifest_comes_last(benchmark, tmp_path, monkeypatch):
    from xplique_forgrad.benchmark import _records

    whole = _records.replace_file

    def fail_at_choices(path, content):
        if path.name == "choices.csv":
            raise OSError("no space left")
        whole(path, content)

    monkeypatch.setattr(_records, "replace_file", fail_at_choices)
    with pytest.raises(OSError, match="no space"):
        benchmark.save(tmp_path)
    with pytest.raises(ValueError, match=r"holds no benchmark: it has no manifest.json"):
        Benchmark.load(tmp_path)
    monkeypatch.undo()
    benchmark.save(tmp_path)
    Benchmark.load(tmp_path)


def test_another_benchmark_is_never_replaced(benchmark, tmp_path):
    benchmark.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = json.loads(json.dumps(PROVENANCE))
    other["settings"]["steps"] = 20
    other["data"]["net"]["fingerprint"] = "xyz"
    expected = r'settings.steps: 10 there, 20 now; data.net.fingerprint: "abc" there'
    with pytest.raises(ValueError, match=expected):
        planted_benchmark(other).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    # the same work at another time, on another machine
    later = {**PROVENANCE, "date": "2027-01-01", "device": "GPU"}
    planted_benchmark(later, seed=1).save(tmp_path)
    assert Benchmark.load(tmp_path).provenance == later


def test_one_with_more_models_holds_what_was_there(benchmark, tmp_path):
    benchmark.save(tmp_path)
    larger = {**PROVENANCE, "data": {**PROVENANCE["data"], "other": {"nb_images": 3}}}
    planted_benchmark(larger).save(tmp_path)
    with pytest.raises(ValueError, match=r"data.other: .* there, null now"):
        benchmark.save(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "another 1"}'])
def test_folders_of_something_else(benchmark, tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    for call in (benchmark.save, Benchmark.load):
        with pytest.raises(ValueError, match="manifest.json is not of a benchmark"):
            call(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == content


def test_files_of_something_else(benchmark, tmp_path):
    (tmp_path / "records.csv").write_text("my,own,table\n")
    with pytest.raises(ValueError, match=r"records.csv is a file of something else"):
        benchmark.save(tmp_path)
    with pytest.raises(ValueError, match="is a file; give a folder"):
        benchmark.save(tmp_path / "records.csv")
    with pytest.raises(ValueError, match="holds no benchmark"):
        Benchmark.load(tmp_path / "none")


def test_provenance_is_json(tmp_path):
    for value in (np.ones(2), float("nan")):
        with pytest.raises(ValueError, match="provenance cannot be written as JSON"):
            planted_benchmark({"settings": {"x": value}}).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


# what is given


def test_tables_are_checked():
    records, methods, choices = planted_tables()

    def refused(match, error=ValueError, **tables):
        given = {"records": records, "methods": methods, "choices": choices, **tables}
        with pytest.raises(error, match=match):
            Benchmark(**given)

    refused("`records` is of type list; give a pandas DataFrame", TypeError, records=[])
    refused("`records` has the columns .* it needs model", records=records.drop(columns="image"))
    refused("needs model", methods=methods.assign(more=1))
    refused("'treatment' of `records` holds 'raw'", records=records.assign(treatment="raw"))
    refused("'kind' of `methods` holds 'pink'", methods=methods.assign(kind="pink"))
    refused("lacks values of 'reason'", methods=methods.assign(reason=None))
    refused("value of the wrong type", records=records.assign(deletion="much"))
    refused("two rows of model net", records=pd.concat([records, records[:1]]))
    refused("'Best' on 'net', which `methods` does not list", methods=methods[1:])
    refused("is scored on 19 of the 20 images of 'net'", records=records[1:])


def test_what_was_given_is_not_touched():
    tables = planted_tables()
    before = [table.copy() for table in tables]
    benchmark = Benchmark(*tables)
    benchmark.to_frame()["specific"] = 0
    benchmark.comparisons()["gain"] = 0
    assert (benchmark.to_frame()["specific"] != 0).any()
    assert (benchmark.comparisons()["gain"] != 0).any()
    for one, other in zip(tables, before):
        pd.testing.assert_frame_equal(one, other)
