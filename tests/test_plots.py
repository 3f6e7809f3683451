import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from planted_benchmark import planted_benchmark

from xplique_forgrad import plots
from xplique_forgrad.layers import MeanGradient, diagnose
from xplique_forgrad.linearization import TaylorResidual
from xplique_forgrad.plots import plot_maps
from xplique_forgrad.spectrum import RingCorrelation, band_importance, fourier_signature


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_gallery_draws_each_image_and_map(rng):
    inputs = rng.random((2, 8, 9, 3))
    maps = {"a": rng.random((2, 8, 9, 2)), "b": rng.random((2, 8, 9)) < 0.5}
    axes = plot_maps(inputs, maps)
    assert axes.shape == (2, 3)
    assert [axis.get_title() for axis in axes[0]] == ["image", "a", "b"]
    for row in range(2):
        drawn = [axis.images[0].get_array() for axis in axes[row]]
        np.testing.assert_allclose(drawn[0], inputs[row])
        np.testing.assert_allclose(drawn[1], maps["a"][row].mean(-1))
        np.testing.assert_allclose(drawn[2], maps["b"][row])


def test_gallery_clips_each_map_at_its_own_percentiles(rng):
    maps = {"a": rng.random((2, 20, 20)) * np.array([1, 100])[:, None, None]}
    axes = plot_maps(rng.random((2, 20, 20, 3)), maps, clip_percentile=5)
    for row in range(2):
        expected = np.percentile(maps["a"][row], [5, 95])
        np.testing.assert_allclose(axes[row, 1].images[0].get_clim(), expected)


def test_gallery_draws_maps_over_their_images(rng):
    inputs, maps = rng.random((2, 8, 9, 3)), {"a": rng.random((2, 8, 9))}
    axes = plot_maps(inputs, maps, overlay=True, alpha=0.3)
    for row in range(2):
        assert len(axes[row, 0].images) == 1
        below, above = axes[row, 1].images
        np.testing.assert_allclose(below.get_array(), inputs[row])
        np.testing.assert_allclose(above.get_array(), maps["a"][row])
        assert below.get_alpha() is None
        # opaque where the map is high, and a fifth of that where it is low
        drawn, opacity = maps["a"][row], above.get_alpha()
        assert opacity[drawn == drawn.max()] == pytest.approx(0.3)
        assert opacity[drawn == drawn.min()] == pytest.approx(0.06)
        order = np.argsort(drawn, axis=None)
        assert np.all(np.diff(opacity.flat[order]) >= 0)
    for alpha in (0, 1.1):
        with pytest.raises(ValueError, match="alpha"):
            plot_maps(inputs, maps, overlay=True, alpha=alpha)


def test_gallery_overlays_the_columns_that_are_named(rng):
    inputs, maps = rng.random((1, 8, 9, 3)), rng.random((1, 8, 9))
    axes = plot_maps(inputs, {"map": maps, "over": maps}, overlay=["over"])
    assert [len(axis.images) for axis in axes[0]] == [1, 1, 2]
    assert axes[0, 1].images[0].get_alpha() is None
    with pytest.raises(ValueError, match="`overlay` names 'other'; the columns are 'map', 'over'"):
        plot_maps(inputs, {"map": maps, "over": maps}, overlay=["other"])


def test_gallery_needs_maps_of_its_images(rng):
    with pytest.raises(ValueError, match="both must begin with"):
        plot_maps(rng.random((2, 8, 8, 3)), {"a": rng.random((2, 8, 7))})
    for shape in ((8, 8, 3), (2, 8, 8, 2), (0, 8, 8, 3)):
        with pytest.raises(ValueError, match="at least one image of 1 or 3 channels"):
            plot_maps(rng.random(shape), {})
    for scale in (255, -1, np.nan):
        with pytest.raises(ValueError, match="before preprocessing"):
            plot_maps(scale * rng.random((2, 8, 8, 3)), {})
    with pytest.raises(TypeError, match="give a dict of title and maps"):
        plot_maps(rng.random((2, 8, 8, 3)), rng.random((2, 8, 8)))
    for percentile in (-1, 50):
        with pytest.raises(ValueError, match="clip_percentile"):
            plot_maps(rng.random((2, 8, 8, 3)), {}, clip_percentile=percentile)


def test_grey_images_are_not_stretched():
    for white, dtype in ((1, float), (255, np.uint8)):
        axes = plot_maps(np.ones((1, 8, 8, 1), dtype), {})
        assert axes[0, 0].images[0].get_clim() == (0, white)


def test_signatures_are_drawn_in_decibels_below_their_peak(rng):
    signatures = {name: fourier_signature(rng.standard_normal((2, 12, 17))) for name in "abc"}
    axes = plots.plot_signatures(signatures, nb_columns=2)
    assert [axis.get_title() for axis in axes] == ["a", "b", "c"]
    for axis, signature in zip(axes, signatures.values()):
        drawn = axis.images[0].get_array()
        np.testing.assert_allclose(10 ** (drawn / 20), signature / signature.max())
        # the middle of the pixel of zero frequency is at (0, 0): cycles
        left, right, bottom, top = axis.images[0].get_extent()
        assert (left + 17 // 2 + 0.5, top + 12 // 2 + 0.5) == (0, 0)
        assert (right - left, bottom - top) == (17, 12)


def test_bars_are_means_with_standard_errors():
    values = {"Saliency": [0.5, 0.7, 0.6], "Rise": [0.1, 0.1, 0.4], "Sobol": [0.2]}
    families = {"Saliency": "white-box", "Rise": "black-box", "Sobol": "black-box"}
    ax = plots.plot_content(values, families=families, label="share")
    bars = [patch for patch in ax.patches if hasattr(patch, "get_width")]
    np.testing.assert_allclose([bar.get_width() for bar in bars], [0.6, 0.2, 0.2])
    assert bars[1].get_hatch() == bars[2].get_hatch() != bars[0].get_hatch()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["white-box", "black-box"]
    low, high = ax.collections[0].get_segments()[0][:, 0]
    assert (high - low) / 2 == pytest.approx(0.1 / 3**0.5)
    assert "share" in ax.get_xlabel()


def test_residual_curves_are_medians_of_the_ratio(rng):
    found = TaylorResidual(
        sigmas=np.array([3.0, 6.0]),
        radii=np.array([0.1, 1.0, 10.0]),
        unfiltered=np.full((5, 3), 2.0),
        filtered=2 * rng.random((2, 5, 3)),
        zero_order=2 * rng.random((5, 3)),
    )
    ax = plots.plot_residuals(found)
    for line, expected in zip(ax.lines, [*found.filtered / 2, found.zero_order / 2]):
        np.testing.assert_allclose(line.get_xdata(), found.radii)
        np.testing.assert_allclose(line.get_ydata(), np.median(expected, axis=0))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["sigma = 3", "sigma = 6", "no gradient"]


def layer_table(layers, strides, means):
    return pd.DataFrame({"layer": layers, "stride": strides, "mean": means, "standard_error": 0.01})


def test_layer_curves_share_the_places_of_the_first_table():
    first = layer_table(["input", "conv", "block/down", "out"], [1, 1, 2, 1], [4, 3, 2, 1])
    # the layer that the twin adds stands behind the one that it follows, whatever its row
    twin = layer_table(
        ["input", "conv", "block/down", "down_pool", "out"], [1, 1, 1, 2, 1], [5, 4, 3, 2, 1]
    )
    ax = plots.plot_layers({"max": first, "average": twin})
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 4], [1, 3], [2, 2], [3, 1]])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [0, 1, 2, 2.5, 3])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [5, 4, 3, 2, 1])
    assert [list(line.get_xdata()) for line in ax.lines[2:]] == [[2, 2]]
    assert [text.get_text() for text in ax.texts] == ["down"]


def test_band_bars_are_energies_and_what_bands_add(rng):
    class Metric:
        def evaluate_per_image(self, maps):
            return np.asarray(maps)[:, 0, 0]

    table = band_importance(rng.random((3, 16, 16)), Metric())
    axes = plots.plot_bands(table)
    energies = [bar.get_height() for bar in axes[0].patches]
    added = [bar.get_height() for bar in axes[1].patches]
    np.testing.assert_allclose(energies, table["energy"])
    np.testing.assert_allclose(added, table["added"][1:])


def test_pictures_and_correlations(rng):
    found = MeanGradient(rng.random((8, 8)), "pool", 2, 0.25, 0.05, 3)
    ax = plots.plot_mean_gradient(found)
    np.testing.assert_allclose(ax.images[0].get_array(), found.picture)
    assert "pool" in ax.get_title()
    assert "0.25" in ax.get_title()
    signed = found._replace(picture=found.picture - 0.7)
    low, high = plots.plot_mean_gradient(signed).images[0].get_clim()
    assert low == -high  # zero in the middle
    curve = RingCorrelation(np.arange(5.0), rng.random(5))
    ax = plots.plot_ring_correlation({"copies": curve}, threshold=0.3)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), curve.correlation[1:])
    assert set(ax.lines[1].get_ydata()) == {0.3}


def test_diagnoses_are_drawn(classifier, images):
    found = diagnose(classifier, *images[:2])
    figure = found.plot()
    curves, grid, bars, correlation = (figure.axes[i] for i in (0, 1, 2, 3))
    np.testing.assert_allclose(curves.lines[0].get_ydata(), found.curve["mean"])
    widths = sorted(bar.get_width() for bar in bars.patches)
    np.testing.assert_allclose(widths, sorted(found.to_frame()["injected"][:12]))
    assert grid.images
    assert found.sigma in correlation.lines[-1].get_xdata()


def test_values_that_cannot_be_drawn(rng):
    for values in ([], [1, np.nan], [[1, 2]]):
        with pytest.raises(ValueError, match="one finite number an image"):
            plots.plot_content({"a": values})
    _, axes = plt.subplots(1, 3)
    table = band_importance(rng.random((2, 8, 8)))
    with pytest.raises(ValueError, match="3 axes; give 1"):
        plots.plot_bands(table, axes=axes)


@pytest.mark.filterwarnings("error")
def test_one_image_has_no_error_bar(rng):
    ax = plots.plot_content({"a": [0.5], "b": [0.2, 0.4]})
    alone, pair = (part.get_segments()[0] for part in ax.collections)
    assert not len(alone)
    assert np.ptp(pair[:, 0]) == pytest.approx(0.2)
    ax.figure.canvas.draw()
    table = band_importance(rng.random((1, 8, 8))).assign(energy_error=np.nan)
    plots.plot_bands(table)[0].figure.canvas.draw()
    of_one_image = layer_table(["input", "conv"], [1, 2], [2, 1]).assign(standard_error=np.nan)
    plots.plot_layers(of_one_image).figure.canvas.draw()


@pytest.mark.filterwarnings("error")
def test_the_diagnosis_of_one_image_is_drawn():
    falling = np.linspace(1, 0, 4)
    layers = layer_table(["input", "conv"], [1, 2], [2, 1]).assign(standard_error=np.nan)

    class OfOneImage:
        model_name, nb_images, sigma, grid_frequency = "model", 1, None, None
        curve, twin_curve = layers, None
        grid = MeanGradient(np.outer(falling, falling), "input", 2, 0.25, 0.05, 1)
        correlation = RingCorrelation(np.arange(4.0), falling)

        def to_frame(self):
            return layers.assign(injected=0.1)

    plots.plot_diagnosis(OfOneImage()).canvas.draw()


def test_long_and_crowded_names_of_layers():
    names = [f"a_model/a_block_with_a_long_name_{number}" for number in range(100)]
    ax = plots.plot_layers(layer_table(names, [2] * 100, np.arange(100)))
    labels = [text.get_text() for text in ax.texts]
    assert max(map(len, labels)) <= 22
    places = [text.xy[0] for text in ax.texts]
    assert min(np.diff(places)) >= 3


def test_axes_of_the_caller_are_drawn_on():
    _, ax = plt.subplots()
    table = layer_table(["input", "conv"], [1, 2], [1, 2])
    assert plots.plot_layers(table, ax=ax) is ax
    assert plots.plot_content({"a": [1, 2]}, ax=ax) is ax
    curve = RingCorrelation(np.arange(3.0), np.ones(3))
    assert plots.plot_ring_correlation({"a": curve}, ax=ax) is ax


def test_no_style_is_touched_and_nothing_shown(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("shown"))
    before = dict(plt.rcParams)
    plots.plot_signatures({"a": np.ones((4, 4))})
    plots.plot_content({"a": [1, 2]})
    assert dict(plt.rcParams) == before


def test_plots_want_mappings():
    for function in (plots.plot_signatures, plots.plot_content, plots.plot_layers):
        with pytest.raises(TypeError, match="dict"):
            function([1, 2])
        with pytest.raises(ValueError, match="empty"):
            function({})
    with pytest.raises(TypeError, match="dict"):
        plots.plot_ring_correlation([1])
    with pytest.raises(ValueError, match="shape"):
        plots.plot_signatures({"a": np.ones(4)})


def front_table(methods, **columns):
    """Rows of a benchmark: (name, kind, passes, value as is, value filtered)."""
    rows = [
        {"method": name, "kind": kind, "treatment": treatment, "specific": value}
        | {"specific_error": 0.01, "forward": passes / 2, "backward": passes / 2}
        for name, kind, passes, *values in methods
        for treatment, value in zip(("as is", "filtered"), values)
    ]
    return pd.DataFrame(rows).assign(**columns)


CROWD = (
    *[(f"White{index}", "white", 2, 0.05, 0.10 + 0.01 * index) for index in range(5)],
    *[(f"Averaged{index}", "white", 100, 0.06, 0.15 + 0.001 * index) for index in range(4)],
    *[(f"Grey{index}", "grey", 2, 0.2, 0.201 + 0.001 * index) for index in range(2)],
    *[(f"Black{index}", "black", 500 * 2**index, 0.18, 0.19) for index in range(4)],
    *[(f"Control {index}", "control", 1, 0.0, 0.001 * index) for index in range(6)],
)


def markers_of(ax):
    """Places of hollow and of filled markers, by the colour of their edge."""
    found = {True: [], False: []}
    for container in ax.containers:
        line = container.lines[0]
        is_hollow = line.get_markerfacecolor() == "white"
        found[is_hollow].append(tuple(line.get_xydata()[0]))
    return found[True], found[False]


def test_a_front_has_each_method_as_it_is_and_filtered():
    table = front_table([("A", "white", 2, 0.1, 0.3), ("B", "black", 50, 0.2, 0.25)])
    (ax,) = plots.plot_front(table)
    hollow, filled = markers_of(ax)
    assert {*hollow} == {(2, 0.1), (50, 0.2)}
    assert {*filled} == {(2, 0.3), (50, 0.25)}
    joined = [line.get_xydata().tolist() for line in ax.lines]
    assert [[2, 0.1], [2, 0.3]] in joined
    low, high = ax.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(0.01)
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.texts] == ["A", "B"]
    assert len({container.lines[0].get_marker() for container in ax.containers}) == 2


def test_the_front_rises_with_the_passes():
    methods = [("A", "white", 2, 0.1, 0.2), ("Dominated", "grey", 10, 0.05, 0.15)]
    methods += [("B", "black", 50, 0.3, 0.25), ("Noise", "control", 1, 0.9, 0.9)]
    (ax,) = plots.plot_front(front_table(methods))
    (front,) = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
    # a control is on no front
    assert front.get_xydata()[:2].tolist() == [[2, 0.2], [50, 0.3]]
    assert front.get_ydata()[-1] == 0.3


def test_names_of_a_crowd_cover_neither_each_other_nor_markers():
    (ax,) = plots.plot_front(front_table(CROWD))
    figure = ax.figure
    assert figure.get_size_inches().tolist() == [8, 5]
    figure.draw_without_rendering()
    names = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert len(ax.texts) == len(names) == len(CROWD)
    boxes = [*names.values()]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
    spots = ax.transData.transform([*markers_of(ax)[0], *markers_of(ax)[1]])
    for name, box in names.items():
        assert not any(box.contains(*spot) for spot in spots), name
    # no marker lies on that of another method
    filled = ax.transData.transform(markers_of(ax)[1])
    distances = np.hypot(*(filled[:, None] - filled).T)
    assert distances[~np.eye(len(filled), dtype=bool)].min() > 6


def test_methods_of_equal_passes_stay_near_them():
    (ax,) = plots.plot_front(front_table(CROWD))
    places = np.array([x for x, y in markers_of(ax)[1] if x < 20])
    assert len(places) == 7
    assert np.all(np.abs(np.log10(places / 2)) < 0.3)


def test_controls_and_unknown_costs_are_at_the_edge():
    methods = [("A", "white", 2, 0.1, 0.2), ("Dear", "black", np.nan, 0.1, 0.3)]
    (ax,) = plots.plot_front(front_table([*methods, ("Noise", "control", 2, 0.0, 0.05)]))
    assert len(ax.containers) == 2
    names = {text.get_text(): text for text in ax.texts}
    assert {*names} == {"A", "Dear (passes not known)", "Noise"}
    assert names["Noise"].get_position()[1] == pytest.approx(0.05)
    levels = {line.get_ydata()[0] for line in ax.lines if line.get_xdata()[0] == 0.965}
    assert levels == {0.0, 0.05, 0.1, 0.3}


@pytest.mark.filterwarnings("error")
def test_fronts_of_little():
    """One image, no passes known, one treatment, one point."""
    tables = {
        "one image": front_table(CROWD[:2], specific_error=np.nan),
        "no passes": front_table(CROWD[:2], forward=np.nan),
        "as is alone": front_table([("A", "white", 2, 0.1)]),
        "a new kind": front_table([("A", "other", 2, 0.1, 0.1)]),
    }
    axes = plots.plot_front(tables)
    assert [ax.get_title(loc="left") for ax in axes] == list(tables)
    axes[0].figure.canvas.draw()


def test_fronts_that_cannot_be_drawn():
    table = front_table(CROWD[:2])
    with pytest.raises(ValueError, match="lacks mu_fidelity, mu_fidelity_error; give rows of"):
        plots.plot_front(table, measure="mu_fidelity")
    with pytest.raises(ValueError, match="two rows of a method and treatment"):
        plots.plot_front(pd.concat([table, table]))
    with pytest.raises(ValueError, match="'specific' was not measured"):
        plots.plot_front(table.assign(specific=np.nan))
    with pytest.raises(ValueError, match="`axes` has 1 Axes for 2 tables"):
        plots.plot_front({"a": table, "b": table}, axes=plt.subplots()[1])
    with pytest.raises(TypeError, match="dict"):
        plots.plot_front([table])


def test_benchmarks_draw_a_panel_for_each_model_and_setting():
    benchmark = planted_benchmark(models=("net", "other"), settings=(("zero", 1), ("mean", 8)))
    axes = benchmark.plot()
    assert axes.shape == (4,)
    assert axes[1].get_title(loc="left") == "net, mean, patch 8"
    _, ax = plt.subplots()
    (drawn,) = benchmark.plot("other", "mean", 8, axes=ax)
    assert drawn is ax
    frame = benchmark.to_frame()
    filtered = frame[(frame["treatment"] == "filtered") & (frame["model"] == "other")]
    expected = filtered.loc[(filtered["patch_size"] == 8) & (filtered["kind"] != "control")]
    found = sorted(y for _, y in markers_of(ax)[1])
    np.testing.assert_allclose(found, sorted(expected["specific"]))
