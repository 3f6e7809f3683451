"""Controls, and gains beyond them, on evidence that is planted: where the truth is known."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import bump, planted_scores
from scipy import ndimage
from test_search import Interrupted, InterruptedExplainer, small_model, small_parts
from test_search_result import CANDIDATES, result
from xplique.attributions import GradCAM, GuidedBackprop, IntegratedGradients, Saliency, SmoothGrad

from xplique_forgrad import FORGrad, SigmaOptimizer, SigmaSearch
from xplique_forgrad._samples import Batch
from xplique_forgrad.search import Control, controls
from xplique_forgrad.search._gains import best_index, cross_fitted
from xplique_forgrad.search.racing import Race

NAMES = tuple(controls.LABELS)
SIZE = 16


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(70, SIZE, SIZE, 3)).astype(np.float32)
    return inputs, np.eye(3, dtype=np.float32)[rng.integers(3, size=70)]


@pytest.fixture(scope="module")
def batch(data):
    return Batch(np.arange(10, 22), data[0][10:22], data[1][10:22])


@pytest.fixture(scope="module")
def maps(model, batch):
    return np.asarray(Saliency(model).explain(batch.inputs, batch.targets))


class Insertion:
    """The evidence on the 26 pixels of highest attribution: an insertion that needs no model."""

    name = "evidence inserted"
    higher_is_better = True

    def __init__(self, evidence):
        self.evidence = evidence

    def score(self, batch, maps):
        places = np.argsort(maps.reshape(*maps.shape[:2], -1))[..., -26:]
        evidence = np.broadcast_to(
            self.evidence[batch.positions].reshape(1, maps.shape[1], -1),
            (*maps.shape[:2], SIZE * SIZE),
        )
        return np.take_along_axis(evidence, places, axis=-1).mean(axis=-1)


def blobs(centres):
    rows, columns = np.indices((SIZE, SIZE))
    centres = np.asarray(centres, float)[..., None, None]
    return np.exp(-((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2) / 8)


def search_planted(evidence, maps, objective=None, **options):
    nothing = np.zeros((len(maps), SIZE, SIZE, 1), np.float32)
    optimizer = SigmaOptimizer(None, objective or Insertion(evidence), model=len, **options)
    return optimizer.search(nothing, np.ones((len(maps), 1), np.float32), maps, verbose=0)


def noisy(rng, maps):
    return np.abs(maps + rng.normal(size=maps.shape))


# ---------------------------------------------------------------- what is planted is found


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
@pytest.mark.parametrize("subtract", [False, True])
def test_a_map_of_evidence_gains_specifically(rng, strategy, subtract):
    evidence = blobs(rng.integers(2, 14, size=(160, 2)))
    options = {"strategy": strategy, "subtract_control": subtract}
    search = search_planted(evidence, noisy(rng, 3 * evidence), **options)
    assert search.specific_gain.low > 0
    # another image's map lies elsewhere
    assert abs(search.control_gain.mean) < 0.2 * search.gain_over_rectified.mean
    assert search.verdict.startswith("Filter at sigma")
    assert "a specific gain of +0." in search.verdict


@pytest.mark.parametrize("subtract", [False, True])
def test_of_a_central_prior_the_control_gains_all(rng, subtract):
    """Evidence and maps lie at the centre of every image: the score doubles, for any map."""
    evidence = blobs(np.full((160, 2), 7.5) + rng.normal(size=(160, 2)) * 0.5)
    maps = noisy(rng, 3 * blobs(np.full((160, 2), 7.5)))
    search = search_planted(evidence, maps, subtract_control=subtract, sigmas=[2, 3, 4])
    plain = search_planted(evidence, maps, control=None, sigmas=[2, 3, 4])
    assert plain.verdict.startswith("Filter")
    assert not search.verdict.startswith("Filter")
    if not subtract:
        assert search.gain_over_rectified.low > 0
        assert search.control_gain.mean == pytest.approx(search.gain_over_rectified.mean, rel=0.1)
        assert search.verdict.startswith("No specific gain found at sigma")
        assert "gains" not in search.verdict


def test_a_metric_that_does_not_care_for_location(rng):
    """Peaked maps score high wherever the peak is: filtering changes own and control alike."""

    class Flatness:
        name, higher_is_better = "flatness", True

        def score(self, batch, maps):
            maps = np.abs(maps)
            return maps.mean(axis=(2, 3)) / maps.max(axis=(2, 3))

    evidence = blobs(rng.integers(2, 14, size=(160, 2)))
    search = search_planted(evidence, noisy(rng, evidence), Flatness())
    assert search.gain_over_rectified.low > 0
    assert search.specific_gain.low < 0 < search.specific_gain.high
    assert not search.verdict.startswith("Filter")


def test_a_map_that_does_not_know_its_image_has_no_specific_gain(rng):
    """In 95 % of draws at least, the interval holds 0."""
    holds = []
    for _ in range(40):
        evidence = blobs(7.5 + 2 * rng.normal(size=(64, 2)))
        maps = noisy(rng, 2 * blobs(7.5 + 2 * rng.normal(size=(64, 2))))
        search = search_planted(evidence, maps, sigmas=[2, 4], strategy="exhaustive")
        assert search.gain_over_rectified.low > 0
        holds.append(search.specific_gain.low <= 0 <= search.specific_gain.high)
    # a rate of 5 % over 40 draws stays below 6 with a probability of 0.986
    assert holds.count(False) <= 5


def searched(own, control, seed, is_racing, subtract):
    """A `SigmaSearch` of planted scores (K, N): what the loop does, without maps."""
    strategy = "racing" if is_racing else "exhaustive"
    nb_candidates, nb_images = own.shape
    race = Race(nb_candidates, nb_images, seed=seed, strategy=strategy, unfiltered=(0, 1))
    compared = own - control if subtract else own
    while (request := race.ask()) is not None:
        race.tell(request, compared[np.ix_(request.candidates, request.images)])
    held_out = race.chosen_without()
    known = np.zeros(own.shape, bool)
    chosen = np.unique([0, 1, race.best, *held_out[held_out >= 0]])
    known[chosen] = held_out >= 0
    base = result(own)
    settings = base.settings
    options = replace(settings.options, strategy=strategy, subtract_control=subtract, seed=seed)
    return replace(
        base,
        best=race.best,
        held_out=held_out,
        control=control if subtract else np.where(known, control, np.nan),
        settings=replace(settings, options=options, control="other_image"),
    )


@pytest.mark.parametrize("is_racing", [True, False])
@pytest.mark.parametrize("subtract", [True, False])
def test_specific_gains_are_seldom_claimed_of_a_control(rng, is_racing, subtract):
    """Own and control are an exchangeable pair, and both gain by filtering."""
    claims, means = [], bump(len(CANDIDATES), peak=4, width=1.5, height=0.2)
    for seed in range(200):
        own, control = planted_scores(rng, means, 96), planted_scores(rng, means, 96)
        claims.append(searched(own, control, seed, is_racing, subtract))
    false = [search.specific_gain.low > 0 for search in claims]
    # a rate of 2.5 % over 200 runs stays below 6 % with probability 0.998
    assert np.mean(false) < 0.06
    assert np.mean([search.verdict.startswith("Filter") for search in claims]) <= 0.05


def test_the_specific_gain_is_the_paired_difference(rng):
    own, control = planted_scores(rng, bump(8), 50), planted_scores(rng, bump(8, height=0.02), 50)
    for subtract in (True, False):
        search = searched(own, control, 0, False, subtract)
        chosen = cross_fitted(own - control if subtract else own)
        images = np.arange(50)
        differences = own[chosen, images] - own[1] - (control[chosen, images] - control[1])
        assert search.specific_gain.mean == pytest.approx(differences.mean())
        parts = search.gain_over_rectified.mean - search.control_gain.mean
        assert search.specific_gain.mean == pytest.approx(parts)
        assert search.gain_beside_control == search.gain_over_rectified
        # scored on some of the images only: the three figures are of these
        some = replace(search, control=np.where(images < 30, search.control, np.nan))
        three = some.gain_beside_control, some.control_gain, some.specific_gain
        assert [gain.nb_images for gain in three] == [30, 30, 30]
        assert three[2].mean == pytest.approx(three[0].mean - three[1].mean)
        assert search.best == best_index(own - control if subtract else own)


def test_the_verdict_of_a_deletion_says_falls(rng):
    own, control = planted_scores(rng, bump(8), 200), planted_scores(rng, np.full(8, 0.4), 200)
    search = searched(own, control, 0, False, False)
    lower = replace(search, scores=-own, control=-search.control, higher_is_better=False)
    assert "The score falls by +0." in lower.verdict
    assert lower.specific_gain == search.specific_gain


# ---------------------------------------------------------------- in the search


def test_scores_of_the_control_are_those_of_its_maps(model, data):
    inputs, targets = data[0][:20], data[1][:20]
    options = {"sigmas": [2, 4], "strategy": "exhaustive", "activation": "softmax"}
    explainer = Saliency(model)
    search = SigmaOptimizer(explainer, subtract_control=True, **options).search(
        inputs, targets, verbose=0
    )
    batch = Batch(np.arange(20), inputs, targets)
    others = controls.OtherImage().maps(batch, np.asarray(explainer.explain(inputs, targets)))[0]
    alone = SigmaOptimizer(None, model=model, control=None, **options)
    np.testing.assert_allclose(
        search.control, alone.search(inputs, targets, others, verbose=0).scores, atol=1e-6
    )
    own = alone.search(
        inputs, targets, np.asarray(explainer.explain(inputs, targets)), verbose=0
    ).scores
    np.testing.assert_allclose(search.scores, own, atol=1e-6)
    table = search.to_frame()
    np.testing.assert_allclose(table["control"], search.control.mean(axis=1))
    np.testing.assert_allclose(table["specific"], (own - search.control).mean(axis=1), atol=1e-6)
    assert search.best == np.argmax(table["specific"])


def test_without_a_control_the_search_is_the_same(model, data):
    options = {"sigmas": [1, 2, 4, 8], "activation": "softmax"}
    with_one = SigmaOptimizer(Saliency(model), **options).search(*data, verbose=0)
    without = SigmaOptimizer(Saliency(model), control=None, **options).search(*data, verbose=0)
    np.testing.assert_array_equal(with_one.scores, without.scores)
    assert with_one.best == without.best
    assert without.control is None
    assert np.isnan(without.specific_gain.mean)
    assert "control" not in without.to_frame()
    assert "another image" not in repr(without)
    assert without.nb_evaluations < with_one.nb_evaluations


@pytest.mark.parametrize("strategy", ["racing", "exhaustive"])
def test_the_control_takes_a_quarter_more_passes_at_most(strategy):
    from xplique_forgrad.demo import load_images

    inputs = load_images(150, seed=3).inputs[:, ::12, ::12]
    explanations = np.random.default_rng(0).normal(size=(150, 8, 8))

    def model(inputs):
        return np.stack([inputs.mean(axis=(1, 2, 3)), inputs[:, 0, 0, 0]], axis=1)

    passes = [
        SigmaOptimizer(None, model=model, strategy=strategy, control=control)
        .search(inputs, np.eye(2, dtype=np.float32)[np.zeros(150, int)], explanations, verbose=0)
        .nb_evaluations
        for control in ("other_image", None)
    ]
    assert passes[1] < passes[0] <= 1.25 * passes[1]


def test_an_interrupted_search_ends_with_the_same_control(model, data, tmp_path, monkeypatch):
    small_parts(monkeypatch)
    inputs, targets = data
    for subtract in (False, True):
        options = {"sigmas": [1, 2, 4], "strategy": "exhaustive", "subtract_control": subtract}
        explainer = InterruptedExplainer(model, nb_samples=2, after=-1)
        expected = SigmaOptimizer(explainer, **options).search(inputs, targets, verbose=0)
        path = tmp_path / f"{subtract}.checkpoint"
        for calls in (5, 6, 4) if subtract else (5, 6, 4, 7):
            explainer = InterruptedExplainer(model, nb_samples=2, after=calls)
            with pytest.raises(Interrupted):
                SigmaOptimizer(explainer, **options).search(
                    inputs, targets, checkpoint=path, verbose=0
                )
        explainer = InterruptedExplainer(model, nb_samples=2, after=-1)
        found = SigmaOptimizer(explainer, **options).search(
            inputs, targets, checkpoint=path, verbose=0
        )
        np.testing.assert_array_equal(found.control, expected.control)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_result_is_saved_with_its_control(model, data, tmp_path):
    search = SigmaOptimizer(Saliency(model), sigmas=[2, 4]).search(*data, verbose=0)
    search.save(tmp_path / "search.json")
    loaded = SigmaSearch.load(tmp_path / "search.json")
    np.testing.assert_array_equal(loaded.control, search.control)
    assert loaded.specific_gain == search.specific_gain
    assert loaded.verdict == search.verdict
    assert loaded.settings["control"] == "other_image"
    assert loaded.settings == search.settings


def test_the_plot_shows_the_control(model, data):
    for subtract in (False, True):
        search = SigmaOptimizer(Saliency(model), sigmas=[1, 2, 4], subtract_control=subtract)
        ax = search.search(*data, verbose=0).plot()
        curves = [text.get_text() for text in ax.get_legend().get_texts()]
        assert "control, no filter" in curves
        assert ("control" in curves) or not subtract
        if subtract:
            found = [line.get_ydata() for line in ax.get_lines() if len(line.get_xdata()) == 3]
            assert len(found) >= 2


def test_images_are_never_left_without_a_partner(model, monkeypatch):
    """65 images are explained 64 at once: the last one is explained with them."""
    small_parts(monkeypatch)
    rng = np.random.default_rng(0)
    for number in (9, 17, 57):
        inputs = rng.uniform(size=(number, SIZE, SIZE, 3)).astype(np.float32)
        optimizer = SigmaOptimizer(Saliency(model), sigmas=[2], subtract_control=True)
        search = optimizer.search(inputs, verbose=0)
        assert not np.isnan(search.control[search.scored]).any()


def test_several_partners_are_averaged(model, data):
    inputs, targets = data[0][:12], data[1][:12]
    explainer = Saliency(model)
    options = {"sigmas": [2], "strategy": "exhaustive", "subtract_control": True}
    several = controls.OtherImage(nb_partners=3)
    search = SigmaOptimizer(explainer, control=several, **options).search(
        inputs, targets, verbose=0
    )
    batch = Batch(np.arange(12), inputs, targets)
    maps = several.maps(batch, np.asarray(explainer.explain(inputs, targets)))
    assert maps.shape == (3, 12, SIZE, SIZE, 1)
    each = [
        SigmaOptimizer(None, model=model, sigmas=[2], strategy="exhaustive")
        .search(inputs, targets, one, verbose=0)
        .scores
        for one in maps
    ]
    np.testing.assert_allclose(search.control, np.mean(each, axis=0), atol=1e-6)


def test_a_function_is_a_control(model, data):
    def mirrored(inputs, targets, explanations):
        assert inputs.shape[1:] == (SIZE, SIZE, 3)
        assert targets.shape == (len(inputs), 3)
        return explanations[:, ::-1]

    search = SigmaOptimizer(Saliency(model), sigmas=[2], control=mirrored).search(*data, verbose=0)
    assert search.settings["control"] == "mirrored"
    assert "gain of the control mirrored" in search.summary


def test_a_function_of_all_explanations_has_a_control(model, data):
    def flatness(explanations):
        return np.mean(explanations, axis=(1, 2, 3)) / np.max(explanations, axis=(1, 2, 3))

    explainer = Saliency(model)
    search = SigmaOptimizer(explainer, flatness, mode="max", sigmas=[2]).search(*data, verbose=0)
    assert not np.isnan(search.specific_gain.mean)
    with pytest.raises(ValueError, match="'edges' looks at the inputs"):
        SigmaOptimizer(explainer, flatness, mode="max", sigmas=[2], control="edges").search(
            *data, verbose=0
        )

    def one_number(explanations):
        return float(np.mean(explanations))

    search = SigmaOptimizer(explainer, one_number, mode="max", sigmas=[2]).search(*data, verbose=0)
    assert np.isnan(search.specific_gain.mean)


# ---------------------------------------------------------------- the controls


@given(number=st.integers(2, 64), nb_partners=st.integers(1, 5), seed=st.integers(0, 99))
def test_another_image_is_never_the_same(number, nb_partners, seed):
    if number <= nb_partners:
        return
    batch = Batch(np.arange(number) + seed, np.zeros((number, 1)), np.zeros((number, 1)))
    maps = controls.OtherImage(nb_partners, seed).maps(batch, np.arange(number)[:, None])[..., 0]
    for image, partners in enumerate(maps.T):
        assert image not in partners
        assert len(set(partners)) == nb_partners
    # each map serves alike
    assert np.all(np.bincount(maps.ravel(), minlength=number) == nb_partners)


@pytest.mark.parametrize("shape", [(12, 9, 8), (12, 9, 8, 1), (12, 8, 8, 3), (12, 30, 4)])
@pytest.mark.parametrize("kind", [controls.RandomPhases, controls.Noise])
def test_random_maps_depend_on_the_image_alone(rng, shape, kind):
    maps = rng.normal(size=shape)
    batch = Batch(np.arange(12), np.zeros((12, 1)), np.zeros((12, 1)))
    found = kind(seed=3).maps(batch, maps)
    assert found.shape == shape
    some = kind(seed=3).maps(Batch(*(values[4:7] for values in batch)), maps[4:7])
    np.testing.assert_array_equal(found[4:7], some)
    assert not np.allclose(found, kind(seed=4).maps(batch, maps))


@pytest.mark.parametrize(
    ("shape", "axes"), [((9, 8, 1), (1, 2)), ((8, 8), (1, 2)), ((30, 4), (1,))]
)
def test_random_phases_keep_the_amplitudes(rng, shape, axes):
    maps = rng.normal(size=(5, *shape)) ** 2
    batch = Batch(np.arange(5), np.zeros((5, 1)), np.zeros((5, 1)))
    found = controls.RandomPhases(axes).maps(batch, maps)
    amplitudes = [np.abs(np.fft.fftn(one, axes=axes)) for one in (found, maps)]
    np.testing.assert_allclose(*amplitudes, atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=axes), maps.mean(axis=axes), atol=1e-12)
    # the location is lost
    correlation = np.corrcoef(found.ravel(), maps.ravel())[0, 1]
    assert abs(correlation - np.corrcoef(maps[::-1].ravel(), maps.ravel())[0, 1]) < 0.5


def test_edges_are_those_of_the_image(rng):
    inputs = rng.uniform(size=(3, 12, 10, 3))
    batch = Batch(np.arange(3), inputs, np.zeros((3, 1)))
    found = controls.Edges().maps(batch, np.zeros((3, 12, 10, 1)))
    grey = inputs.mean(axis=-1)
    inner = np.s_[:, 2:-2, 2:-2]
    slopes = [
        np.stack([ndimage.sobel(one, axis=axis, mode="reflect") for one in grey]) for axis in (0, 1)
    ]
    expected = np.hypot(*slopes) / 4 / np.sqrt(2)
    np.testing.assert_allclose(found[..., 0][inner], expected[inner], atol=1e-12)
    series = rng.uniform(size=(3, 20, 4))
    along = controls.Edges((1,)).maps(Batch(np.arange(3), series, np.zeros((3, 1))), series)
    assert along.shape == series.shape
    inner = np.abs(series[:, 2:, :] - series[:, :-2, :]) / 2
    np.testing.assert_allclose(along[:, 1:-1], 2 * inner, atol=1e-12)


def test_the_centre_is_central(rng):
    batch = Batch(np.arange(2), np.zeros((2, 1)), np.zeros((2, 1)))
    for shape in ((11, 7), (10, 8, 1)):
        maps = controls.Centre().maps(batch, np.zeros((2, *shape)))
        np.testing.assert_allclose(maps, maps[:, ::-1, ::-1])
        weights = maps[0].reshape(shape[0], shape[1], -1).sum(axis=-1)
        assert ndimage.center_of_mass(weights) == pytest.approx(
            [(shape[0] - 1) / 2, (shape[1] - 1) / 2]
        )


@pytest.mark.parametrize(
    "make",
    [
        Saliency,
        GuidedBackprop,
        GradCAM,
        lambda model: SmoothGrad(model, nb_samples=4),
        lambda model: IntegratedGradients(model, steps=4),
        lambda model: FORGrad(GradCAM(model), 4),
    ],
)
def test_an_untrained_copy_explains_other_weights(make, model, batch):
    explainer = make(model)
    maps = np.asarray(explainer.explain(batch.inputs, batch.targets))
    control = controls.Untrained(explainer)
    found = control.maps(batch, maps)
    assert found.shape == maps.shape
    assert not np.allclose(found, maps)
    np.testing.assert_array_equal(found, control.maps(batch, maps))
    assert explainer.model is model or not isinstance(explainer, (Saliency, GradCAM, FORGrad))
    if not isinstance(explainer, SmoothGrad):
        again = explainer.explain(batch.inputs, batch.targets)
        np.testing.assert_allclose(maps, again, atol=1e-6)


def test_the_map_of_another_class(model, batch, maps):
    found = controls.OtherClass(Saliency(model)).maps(batch, maps)
    each = [
        np.asarray(Saliency(model).explain(batch.inputs, np.tile(row, (12, 1))))
        for row in np.eye(3, dtype=np.float32)
    ]
    labels = batch.targets.argmax(axis=1)
    for image, label in enumerate(labels):
        errors = [np.abs(found[image] - one[image]).max() for one in each]
        assert np.argmin(errors) != label
        assert min(errors) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_every_control_searches(name, model, data):
    optimizer = SigmaOptimizer(Saliency(model), sigmas=[2, 4], control=name)
    search = optimizer.search(data[0][:16], data[1][:16], verbose=0)
    assert not np.isnan(search.control_gain.mean)
    assert controls.LABELS[name] in str(search)


@pytest.mark.parametrize("name", ["other_image", "phase", "centre", "edges", "noise"])
def test_controls_of_time_series(name):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((24, 3)), keras.layers.Conv1D(4, 3), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(2)])
    inputs = np.random.default_rng(0).normal(size=(10, 24, 3)).astype(np.float32)
    search = SigmaOptimizer(Saliency(model), sigmas=[2], control=name).search(inputs, verbose=0)
    assert not np.isnan(search.control_gain.mean)


# ---------------------------------------------------------------- bad input


def test_one_image_has_no_other(model, data):
    with pytest.raises(ValueError, match="'other_image' takes 2 images or more, and there are 1"):
        SigmaOptimizer(Saliency(model)).search(data[0][:1], data[1][:1], verbose=0)
    SigmaOptimizer(Saliency(model), control=None).search(data[0][:1], data[1][:1], verbose=0)


@pytest.mark.parametrize(
    ("control", "error", "message"),
    [
        ("other", ValueError, "must be one of 'other_image', 'phase'"),
        (controls.OtherImage, TypeError, "is the class OtherImage; give an instance"),
        (3, TypeError, "`control` is a int; give a name such as 'other_image'"),
    ],
)
def test_what_is_no_control(model, control, error, message):
    with pytest.raises(error, match=message):
        SigmaOptimizer(Saliency(model), control=control)


def test_there_must_be_a_control_to_subtract(model):
    with pytest.raises(ValueError, match="give a control to subtract"):
        SigmaOptimizer(Saliency(model), control=None, subtract_control=True)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda i, t, e: e[:, ::2], ValueError, r"maps of shape \(\d+, 8, 16, 1\); the expl"),
        (lambda i, t, e: e[0], ValueError, "give one map of the same shape for each"),
        (lambda i, t, e: np.full_like(e, np.nan), ValueError, "gave NaN or infinite values for"),
        (lambda i, t, e: e.astype(str), TypeError, "give real numbers"),
    ],
)
def test_functions_that_are_no_controls(model, data, function, error, message):
    optimizer = SigmaOptimizer(Saliency(model), sigmas=[2], control=function)
    with pytest.raises(error, match=message):
        optimizer.search(data[0][:9], data[1][:9], verbose=0)


def test_a_control_of_ones_own_is_tried_before_anything_is_scored(model, data):
    class Scored(Exception):
        pass

    class Objective:
        name, higher_is_better = "never asked", True

        def score(self, batch, maps):
            raise Scored

    def wrong(inputs, targets, explanations):
        return explanations[:, :4]

    with pytest.raises(ValueError, match="The control 'wrong' gave maps of shape"):
        SigmaOptimizer(Saliency(model), Objective(), control=wrong).search(*data, verbose=0)


def test_the_title_says_what_was_searched_for(model, data):
    inputs, targets = data[0][:9], data[1][:9]
    for subtract in (False, True):
        optimizer = SigmaOptimizer(Saliency(model), sigmas=[2], subtract_control=subtract)
        search = optimizer.search(inputs, targets, verbose=0)
        assert ("less that of the control" in repr(search)) == subtract
        known = search.to_frame()["nb_control_images"]
        assert known["rectified"] == np.sum(~np.isnan(search.control[1]))


def test_maps_of_several_sizes(model, data):
    several = [np.ones((16, 16)), np.ones((8, 8))]
    with pytest.raises(ValueError, match="maps of several sizes"):
        SigmaOptimizer(None, model=model).search(data[0][:2], data[1][:2], several, verbose=0)


def test_copies_that_cannot_be_made(model, data):
    class Wrapped(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = small_model()

        def call(self, inputs):
            return self.inner(inputs)

    explainer = Saliency(model)
    explainer.model = Wrapped()
    with pytest.raises(ValueError, match="'untrained' cannot copy the model of Saliency"):
        SigmaOptimizer(explainer, control="untrained", model=model).search(
            data[0][:9], data[1][:9], verbose=0
        )
    explainer.model = lambda inputs: inputs
    with pytest.raises(ValueError, match="no Keras model"):
        controls.Untrained(explainer)

    class Deaf:
        """An explainer that does not look at its model."""

        def __init__(self):
            self.model = model

        def explain(self, inputs, targets):
            return inputs[..., :1]

    control = controls.Untrained(Deaf())
    with pytest.raises(ValueError, match="gives the very maps of the trained model"):
        control.maps(Batch(np.arange(9), data[0][:9], data[1][:9]), data[0][:9][..., :1])


@pytest.mark.parametrize("name", ["untrained", "other_class"])
def test_controls_that_take_an_explainer(name, model, data):
    explanations = np.ones((9, SIZE, SIZE))
    with pytest.raises(ValueError, match=f"'{name}' takes an explainer"):
        SigmaOptimizer(None, model=model, control=name).search(
            data[0][:9], data[1][:9], explanations, verbose=0
        )


def test_one_output_has_no_other_class(batch, maps):
    model = small_model()
    control = controls.OtherClass(Saliency(model))
    with pytest.raises(ValueError, match="names no other class"):
        control.maps(batch._replace(targets=np.ones((12, 1))), maps)


@pytest.mark.parametrize("nb_partners", [0, 1.5, True])
def test_numbers_of_partners(nb_partners):
    with pytest.raises(ValueError, match="`nb_partners` is"):
        controls.OtherImage(nb_partners)


def test_nan_of_a_control_is_told(rng):
    """The model gives NaN for the control's maps of some images: they are named, and left out."""
    evidence = blobs(rng.integers(2, 14, size=(40, 2)))
    maps = noisy(rng, 3 * evidence)

    class Fragile(Insertion):
        def score(self, batch, given):
            scores = super().score(batch, given)
            own = np.abs(given[0] - maps[batch.positions]).max(axis=(1, 2)) < 1e-6
            scores[:, ~own & (batch.positions < 5)] = np.nan
            return scores

    with pytest.warns(UserWarning, match="NaN for the maps of the control 'other_image' on 5 of"):
        search = search_planted(evidence, maps, Fragile(evidence))
    assert search.specific_gain.nb_images == 35
    assert isinstance(controls.OtherImage(), Control)


def test_the_command_line_knows_every_control():
    from xplique_forgrad.cli._commands import sigma_command

    (option,) = [one for one in sigma_command.params if one.name == "control"]
    assert set(option.type.choices) == {*NAMES, "none"}
