"""
The benchmark: what is run, on which images, at what cost, and what is left when it is cut off.
"""

import functools
import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from xplique.attributions import GradientInput, Occlusion, Saliency

from xplique_forgrad import Faithfulness, Insertion, MuFidelity, SigmaOptimizer, forgrad
from xplique_forgrad._samples import Batch
from xplique_forgrad.benchmark import Benchmark, run_benchmark
from xplique_forgrad.benchmark._baselines import NAMED, named_baselines
from xplique_forgrad.benchmark._passes import Passes
from xplique_forgrad.benchmark._plan import chunks_of
from xplique_forgrad.search.controls import OtherImage

SIZE = 16
# small and quiet
QUICK = {"sigmas": [2, 4], "mu_fidelity_samples": 0, "nb_stability": 0, "verbose": 0}


@pytest.fixture(scope="module")
def data():
    """Images that are dark but for a bright square, each elsewhere."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(0, 0.1, (47, SIZE, SIZE, 1)).astype("f")
    for image, (row, column) in zip(inputs, rng.integers(0, SIZE - 4, (47, 2))):
        image[row : row + 4, column : column + 4] += 0.9
    return inputs, np.tile([[1.0, 0.0]], (47, 1)).astype("f")


@pytest.fixture(scope="module")
def model():
    """The first output is the sum of the pixels: each matters by its value."""
    inputs = keras.Input((SIZE, SIZE, 1))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs, name="sum")
    model.set_weights([np.tile([1.0, -1.0], (SIZE**2, 1)), np.zeros(2)])
    return model


class Mixed:
    """The image as its own map, which is right for the sum, with a share of noise."""

    def __init__(self, share, sign=1):
        self.share, self.sign = share, sign

    def explain(self, inputs, targets):
        inputs = np.asarray(inputs)
        rng = np.random.default_rng(1)
        noise = rng.uniform(size=(len(inputs), SIZE, SIZE, 1))
        return self.sign * ((1 - self.share) * inputs + self.share * noise).astype("f")


PLANTED = {
    "worst": lambda model: Mixed(0, -1),
    "half": lambda model: Mixed(0.5),
    "right": lambda model: Mixed(0),
    "noise": lambda model: Mixed(1),
}


def test_a_planted_ranking_is_found(model, data):
    def shifted(inputs, targets, maps):
        return np.roll(inputs, 1, axis=0)

    found = run_benchmark(model, *data, PLANTED, controls=[shifted], **QUICK)
    ranking = found.ranking("specific")
    as_is = ranking[ranking["treatment"] == "as is"]
    assert [name for name in as_is["method"] if name in PLANTED] == [
        *("right", "half", "noise", "worst"),
    ]
    # what explains another image has nothing to say of this one
    row = as_is[as_is["method"] == "shifted"].iloc[0]
    assert abs(row["mean"]) < 4 * row["error"]


def test_scores_are_those_of_the_metrics_on_images_that_did_not_choose(model, data):
    inputs, targets = data
    found = run_benchmark(
        model,
        *data,
        {"half": lambda model: Mixed(0.5)},
        controls=(),
        baselines=[0.0, "mean"],
        patch_sizes=[1, 2],
        **{**QUICK, "mu_fidelity_samples": 30, "nb_stability": 4},
        steps=5,
        nb_choosing=10,
    )
    scored = np.unique(found.records["image"])
    choosing = np.setdiff1d(np.arange(47), scored)
    assert (len(choosing), len(scored)) == (10, 37)
    # explained as there: eight at a time, the last repeated to fill up
    maps = np.empty((47, SIZE, SIZE, 1), "f")
    for chunk in [choosing, *chunks_of(scored)]:
        for start in range(0, len(chunk), 8):
            part = chunk[start : start + 8]
            filled = chunk[np.minimum(np.arange(start, start + 8), len(chunk) - 1)]
            maps[part] = Mixed(0.5).explain(inputs[filled], None)[: len(part)]
    others = np.concatenate(
        [
            OtherImage(seed=0).maps(Batch(chunk, inputs[chunk], targets[chunk]), maps[chunk])[0]
            for chunk in chunks_of(scored)
        ]
    )
    means = np.broadcast_to(inputs.mean(axis=(1, 2), keepdims=True), inputs.shape)
    for name, baseline in (("zero", 0.0), ("mean", means)):
        pair = inputs[scored], targets[scored]
        value = baseline if name == "zero" else baseline[scored]
        fidelity = MuFidelity(model, inputs, targets, baseline_mode=baseline, nb_samples=30)
        for patch_size in (1, 2):
            options = {"steps": 5, "patch_size": patch_size}
            search = SigmaOptimizer(
                None,
                sigmas=[2, 4],
                control=None,
                model=model,
                baseline_mode=baseline if name == "zero" else baseline[choosing],
                **options,
            ).search(inputs[choosing], targets[choosing], maps[choosing], verbose=0)
            rows = found.records.query("baseline == @name and patch_size == @patch_size")
            choice = found.choices.query("baseline == @name and patch_size == @patch_size")
            assert choice["candidate"].item() == str(search.best_candidate)
            metric = Faithfulness(model, *pair, baseline_mode=value, **options)
            treatments = {
                "as is": lambda one: one,
                "rectified": np.abs,
                "filtered": lambda one, search=search: search.filter(one).numpy(),
            }
            for treatment, treat in treatments.items():
                own = rows[rows["treatment"] == treatment].sort_values("image")
                expected = metric.evaluate_per_image(treat(maps[scored]))
                control = metric.evaluate_per_image(treat(others))
                np.testing.assert_allclose(own["insertion"] - own["deletion"], expected, atol=1e-5)
                np.testing.assert_allclose(own["control"], control, atol=1e-5)
                every = fidelity.evaluate_per_image(treat(maps))
                np.testing.assert_allclose(own["mu_fidelity"], every[scored], atol=1e-6)


def test_cutoffs_may_be_chosen_by_the_specific_part(model, data):
    methods, options = {"half": PLANTED["half"]}, {**QUICK, "nb_choosing": 16, "controls": ()}
    found = run_benchmark(model, *data, methods, subtract_control=True, **options)
    image = found.records["image"].unique()
    choosing = np.setdiff1d(np.arange(47), image)
    maps = [Mixed(0.5).explain(data[0][choosing[start : start + 8]], None) for start in (0, 8)]
    search = SigmaOptimizer(None, sigmas=[2, 4], model=model, subtract_control=True).search(
        data[0][choosing], data[1][choosing], np.concatenate(maps), verbose=0
    )
    assert found.choices["candidate"].item() == str(search.best_candidate)
    assert found.choices["nb_evaluations"].item() == search.nb_evaluations


def test_stability_and_agreement_by_their_formulas(model, data):
    found = run_benchmark(
        model,
        *data,
        {"right": PLANTED["right"]},
        controls=["centre"],
        **{**QUICK, "nb_stability": 4},
    )
    records = found.records.query("method == 'right' and treatment == 'as is'")
    spread = np.ptp(data[0][:32])
    measured = records[records["stability"].notna()]
    # 36 images are scored: 4 of each chunk
    assert len(measured) == 8
    for _, row in measured.iterrows():
        image = data[0][row["image"]].astype(float)
        noise = np.random.default_rng((0, row["image"])).uniform(-0.1, 0.1, image.shape) * spread
        units = [one / np.linalg.norm(one) for one in (image, image + noise)]
        assert row["stability"] == pytest.approx(np.linalg.norm(units[0] - units[1]), rel=1e-4)
    assert (records["agreement"] == 1).all()
    centre = found.records.query("method == 'Centre'")
    # a constant of the image has no noise, and nothing specific
    assert (centre["stability"].dropna() == 0).all()
    np.testing.assert_allclose(centre["insertion"] - centre["deletion"], centre["control"])


def test_a_method_that_raises_is_recorded_and_harms_no_other(model, data):
    class Broken:
        def explain(self, inputs, targets):
            raise RuntimeError("no luck\nin detail")

    methods = {"right": PLANTED["right"], "broken": lambda model: Broken()}
    found = run_benchmark(model, *data, methods, controls=(), **QUICK)
    alone = run_benchmark(model, *data, {"right": PLANTED["right"]}, controls=(), **QUICK)
    assert found.skipped["method"].tolist() == ["broken"]
    assert found.skipped["reason"].tolist() == ["RuntimeError: no luck"]
    pd.testing.assert_frame_equal(found.records, alone.records)
    assert "broken" in found.to_markdown()


def test_what_cannot_run_on_a_model_says_why(model, data):
    found = run_benchmark(
        model, *data, ["Saliency", "GuidedBackprop", "GradCAM", "FEM"], controls=(), **QUICK
    )
    reasons = dict(zip(found.skipped["method"], found.skipped["reason"]))
    assert "no ReLU" not in reasons
    assert "plain gradients" in reasons["GuidedBackprop"]
    assert "no layer to look at" in reasons["GradCAM"]
    assert "convolutional layer" in reasons["FEM"]


def test_scores_that_are_no_numbers_are_no_scores(data):
    def score(inputs):
        total = tf.reduce_sum(inputs, (1, 2, 3))
        return tf.stack([tf.where(total > 20, np.nan, total), tf.zeros(len(inputs))], axis=1)

    with pytest.raises(ValueError, match=r"No method runs.*gives NaN for (every|image)"):
        run_benchmark(score, *data, {"right": PLANTED["right"]}, controls=(), **QUICK)


def test_no_method_at_all_is_an_error(model, data):
    with pytest.raises(ValueError, match=r"No method runs on 'sum'. FEM: .*convolutional"):
        run_benchmark(model, *data, "FEM", controls=(), **QUICK)


def test_killed_at_ten_points_it_goes_on_and_ends_the_same(model, data, tmp_path):
    options = {**QUICK, "controls": ["other_image"], "nb_stability": 4, "folder": tmp_path}
    call = functools.partial(run_benchmark, model, *data, ["SmoothGrad:nb_samples=3"], **options)
    whole = call()
    journal = tmp_path / "journal.jsonl"
    content = journal.read_bytes()
    header = content.index(b"\n") + 1
    for cut in np.random.default_rng(0).integers(header, len(content), 10):
        # what a kill leaves: some lines, the last of them torn, and no result
        (tmp_path / "manifest.json").unlink()
        journal.write_bytes(content[:cut])
        again = call()
        pd.testing.assert_frame_equal(again.records, whole.records)
        pd.testing.assert_frame_equal(again.choices, whole.choices)
    pd.testing.assert_frame_equal(Benchmark.load(tmp_path).records, whole.records)


def test_it_computes_only_what_is_missing(model, data, tmp_path):
    calls = []

    class Counted(Mixed):
        def explain(self, inputs, targets):
            calls.append(len(inputs))
            return super().explain(inputs, targets)

    methods = {"half": lambda model: Counted(0.5)}
    options = {**QUICK, "controls": (), "folder": tmp_path}
    first = run_benchmark(model, *data, methods, **options)
    nb_calls = len(calls)
    methods["right"] = PLANTED["right"]
    second = run_benchmark(model, *data, methods, **options)
    assert len(calls) == nb_calls
    assert second.methods["method"].tolist() == ["half", "right"]
    own = second.records.query("method == 'half'").reset_index(drop=True)
    pd.testing.assert_frame_equal(own, first.records)


def test_a_folder_of_other_settings_or_images_is_refused(model, data, tmp_path):
    options = {**QUICK, "controls": (), "folder": tmp_path}
    methods = {"right": PLANTED["right"]}
    run_benchmark(model, *data, methods, **options)
    with pytest.raises(ValueError, match=r"another benchmark. What differs: settings"):
        run_benchmark(model, *data, methods, **{**options, "sigmas": [3]})
    with pytest.raises(ValueError, match=r"another model or other images by the name 'sum'"):
        run_benchmark(model, data[0][::-1], data[1], methods, **options)
    with pytest.raises(ValueError, match="journal.jsonl, which is a file; give a folder"):
        run_benchmark(model, *data, ["Saliency"], **{**QUICK, "folder": tmp_path / "journal.jsonl"})
    with pytest.raises(ValueError, match=r"names of methods go by methods=\['Saliency'\]"):
        run_benchmark(model, data[0], ["Saliency"], **QUICK)
    (tmp_path / "journal.jsonl").write_text("something else\n")
    with pytest.raises(ValueError, match=r"no journal of a benchmark"):
        run_benchmark(model, *data, methods, **options)


def test_out_of_time_it_ends_with_a_smaller_table_and_goes_on_later(model, data, tmp_path):
    options = {**QUICK, "controls": (), "folder": tmp_path}
    short = run_benchmark(model, *data, PLANTED, max_time=1e-6, **options)
    assert short.methods["status"].tolist() == ["done", *["not reached"] * 3]
    assert "time was over" in short.skipped["reason"][0]
    # the first 32 of those that are scored
    assert len(short.records) == 3 * 32
    whole = run_benchmark(model, *data, PLANTED, **options)
    fresh = run_benchmark(model, *data, PLANTED, **{**options, "folder": None})
    pd.testing.assert_frame_equal(whole.records, fresh.records)


def test_a_dataset_gives_what_arrays_give(model, data):
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(5)
    options = {**QUICK, "controls": ["edges"], "baselines": "blur"}
    found = [
        run_benchmark(model, *given, methods=["Saliency"], **options)
        for given in ((dataset,), data)
    ]
    pd.testing.assert_frame_equal(found[0].records, found[1].records)


def test_several_models_with_inputs_of_their_own(model, data):
    inputs, targets = data
    found = run_benchmark(
        {"one": model, "two": model},
        {"one": inputs, "two": inputs[:20]},
        {"one": targets, "two": None},
        ["Saliency"],
        controls=(),
        **QUICK,
    )
    assert found.methods["nb_images"].tolist() == [36, 12]
    assert found.provenance["data"]["two"]["nb_images"] == 20
    with pytest.raises(ValueError, match=r"nothing for the model 'two' among 'one'"):
        run_benchmark({"one": model, "two": model}, {"one": inputs}, **QUICK)


def test_every_control_is_a_row(model, data):
    found = run_benchmark(model, *data, ["GradientInput"], **QUICK)
    kinds = found.methods.set_index("method")["kind"]
    assert kinds.index[kinds == "control"].tolist() == [
        *("Noise", "Centre", "Edges", "Other image", "Random phases", "Untrained copy")
    ]
    # made of the maps of Saliency, whether that is asked for or not
    assert set(found.methods.query("kind == 'control'")["options"]) == {"of Saliency"}


def test_it_takes_no_more_passes_than_its_parts(model, data):
    _inputs, targets = data
    counting = Passes(model)
    run_benchmark(
        counting.model,
        *data,
        ["GradientInput", "Occlusion"],
        controls=(),
        **{**QUICK, "mu_fidelity_samples": 20},
        nb_choosing=10,
    )
    found = counting.count()[0]
    counting = Passes(model)
    # what a user would run by hand: explain, search, score three maps and their controls
    scored, chosen = data[0][10:], data[0][:10]
    scorer = Faithfulness(counting.model, scored, targets[10:])
    fidelity = MuFidelity(counting.model, scored, targets[10:], nb_samples=20)
    for explainer in (
        GradientInput(counting.model),
        Occlusion(counting.model, patch_size=2, patch_stride=1),
    ):
        maps = explainer.explain(chosen, targets[:10])
        search = SigmaOptimizer(None, sigmas=[2, 4], control=None, model=counting.model)
        search = search.search(chosen, targets[:10], maps, verbose=0)
        maps = explainer.explain(scored, targets[10:]).numpy()
        kinds = {"as is": maps, "rectified": np.abs(maps), "filtered": search.filter(maps).numpy()}
        distinct = {one.tobytes(): one for one in kinds.values()}
        for one in distinct.values():
            scorer.evaluate_per_image(one)
            scorer.evaluate_per_image(one[::-1])
            fidelity.evaluate_per_image(one)
    assert found <= 1.1 * counting.count()[0]


@pytest.mark.parametrize(
    ("method", "forward", "backward"),
    [("Saliency", 1, 1), ("SmoothGrad:nb_samples=7", 7, 7), ("Rise:nb_samples=30", 30, 0)],
)
def test_passes_are_counted(model, data, method, forward, backward):
    found = run_benchmark(model, *data, [method], controls=(), **QUICK).methods.iloc[0]
    assert (found["forward"], found["backward"]) == (forward, backward)
    assert found["seconds"] > 0


def test_passes_of_a_function_are_not_known(data):
    def score(inputs):
        return tf.stack([tf.reduce_sum(inputs, (1, 2, 3)), tf.zeros(len(inputs))], axis=1)

    found = run_benchmark(score, *data, ["Rise:nb_samples=30", "Saliency"], controls=(), **QUICK)
    methods = found.methods.set_index("method")
    assert np.isnan(methods.loc["Rise", "forward"])
    assert methods.loc["Rise", "status"] == "done"


def test_counting_changes_neither_outputs_nor_gradients(model, data):
    counting = Passes(model)
    first = Saliency(model).explain(*data).numpy()
    np.testing.assert_array_equal(Saliency(counting.model).explain(*data).numpy(), first)
    assert counting.count().tolist() == [47, 47]


def test_chunks_hold_every_image_once_and_none_alone():
    for number in (2, 3, 31, 32, 33, 64, 65, 96, 97, 993, 1985):
        chunks = chunks_of(np.arange(number))
        np.testing.assert_array_equal(np.concatenate(chunks), np.arange(number))
        assert min(map(len, chunks)) > 1


def test_named_baselines(data):
    inputs = data[0][:3]
    np.testing.assert_allclose(NAMED["mean"](inputs)[1], inputs[1].mean(), rtol=1e-5)
    # the same for an image wherever it stands
    np.testing.assert_array_equal(NAMED["noise"](inputs)[2], NAMED["noise"](inputs[2:])[0])
    blurred = NAMED["blur"](inputs)
    assert blurred.std() < inputs.std()
    assert blurred.mean() == pytest.approx(inputs.mean(), rel=0.2)
    assert list(named_baselines([0, "mean", 0.5])) == ["zero", "mean", "0.5"]
    assert list(named_baselines({"black": 0.0, "grey": 0.5})) == ["black", "grey"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["Salience"]}, r"no attribution method 'Salience'.*'?Saliency"),
        ({"methods": []}, r"at least one"),
        ({"methods": ["Saliency", "Saliency"]}, r"each once"),
        ({"baselines": "black"}, r"'black'; give a number.*'zero', 'mean', 'blur', 'noise'"),
        ({"baselines": [0, 0.0]}, r"a name of its own"),
        ({"patch_sizes": [1, 1]}, r"each once"),
        ({"patch_sizes": 0}, r"`patch_size` is 0"),
        ({"controls": ["centre", "middle"]}, r"`control` is 'middle'"),
        ({"nb_choosing": 46}, r"at least 2 to choose"),
        ({"nb_stability": 1}, r"at least 2, or 0"),
        ({"mu_fidelity_samples": 1}, r"correlation takes at least 2"),
        ({"max_time": 0}, r"number of seconds"),
        ({"activation": "relu"}, r"`activation` is 'relu'"),
        ({"sigmas": [0]}, r"sigma"),
    ],
)
def test_mistakes_show_before_anything_runs(model, data, options, message):
    class Never:
        def explain(self, inputs, targets):
            raise AssertionError

    given = {"methods": {"never": lambda model: Never()}, **QUICK, **options}
    with pytest.raises(ValueError, match=message):
        run_benchmark(model, *data, given.pop("methods"), **given)


def test_an_explainer_instead_of_a_function_is_refused(model, data):
    with pytest.raises(TypeError, match=r"a mapping from its name to a function"):
        run_benchmark(model, *data, [Saliency(model)], **QUICK)
    with pytest.raises(TypeError, match=r"'mine' is 3; give a function"):
        run_benchmark(model, *data, {"mine": 3}, **QUICK)


def test_the_journal_is_lines_of_json(model, data, tmp_path):
    run_benchmark(model, *data, {"right": PLANTED["right"]}, controls=(), folder=tmp_path, **QUICK)
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    keys = [json.loads(json.loads(line)[0]) for line in lines[1:]]
    assert [key[-1] for key in keys][:2] == ["data", "prepare"]


def small_network(*shape):
    """Of any inputs; three logits."""
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))


def some(rng, *shape):
    return rng.random((6, *shape)).astype("f"), np.eye(3, dtype="f")[np.arange(6) % 3]


@pytest.mark.filterwarnings("ignore:Only 4 images")
def test_methods_that_make_no_maps_of_series_or_volumes_say_so(rng):
    options = {**QUICK, "sigmas": [2], "controls": (), "nb_choosing": 2, "steps": 2}
    methods = ["Saliency", "Occlusion", "GradCAM", "SobolAttributionMethod"]
    series = run_benchmark(small_network(16, 2), *some(rng, 16, 2), methods, **options)
    volumes = run_benchmark(
        small_network(4, 5, 6, 1), *some(rng, 4, 5, 6, 1), methods, axes=(1, 2, 3), **options
    )
    for benchmark, shape, done in [
        (series, "(N, 16, 2)", methods[:2]),
        (volumes, "(N, 4, 5, 6, 1)", methods[:1]),
    ]:
        table = benchmark.methods.set_index("method")
        for name in methods:
            reason = f"ValueError: {name} of Xplique makes no maps of inputs {shape}."
            assert table.loc[name, "reason"] == ("" if name in done else reason)


@pytest.mark.filterwarnings("ignore:Only 4 images")
def test_axes_are_those_of_the_search(rng, tmp_path):
    keras.utils.set_random_seed(0)
    model, data = small_network(8, 8), some(rng, 8, 8)
    options = {**QUICK, "sigmas": [2], "controls": (), "nb_choosing": 2, "folder": tmp_path}
    found = run_benchmark(model, *data, ["Saliency"], axes=(1, 2), **options)
    records = found.records
    filtered = records[records["treatment"] == "filtered"].set_index("image")["insertion"]
    maps = np.asarray(Saliency(model).explain(*data))
    # of random weights the map as it is may be best
    if found.choices["sigma"].iloc[0] == 2:
        maps = forgrad(maps, 2, axes=(1, 2))
    expected = Insertion(model, *data, steps=10).evaluate_per_image(maps)
    np.testing.assert_allclose(filtered, expected[filtered.index], rtol=1e-5)
    with pytest.raises(ValueError, match="another model or other images"):
        run_benchmark(model, *data, ["Saliency"], **options)


def test_volumes_ask_for_axes_and_no_mu_fidelity(rng):
    model, data = small_network(4, 5, 6, 1), some(rng, 4, 5, 6, 1)
    with pytest.raises(ValueError, match=r"say along which axes.*axes=\(1, 2, 3\)"):
        run_benchmark(model, *data, **QUICK)
    with pytest.raises(ValueError, match="leave it out by mu_fidelity_samples=0"):
        run_benchmark(model, *data, axes=(1, 2, 3), verbose=0)


@pytest.mark.filterwarnings("ignore:Only 4 images")
def test_the_reason_of_an_error_in_a_graph_is_the_error(rng):
    @tf.function
    def explain(inputs, targets):
        raise ValueError("the cause")

    class Failing:
        def explain(self, inputs, targets):
            return explain(inputs, targets)

    methods = {"right": Saliency, "failing": lambda model: Failing()}
    found = run_benchmark(
        small_network(4, 4, 1), *some(rng, 4, 4, 1), methods, controls=(), nb_choosing=2, **QUICK
    )
    assert list(found.methods["reason"]) == ["", "ValueError: the cause"]
