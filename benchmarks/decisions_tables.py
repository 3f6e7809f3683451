"""
Tables and the figure of `decisions.py`, made from its files.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from controls_tables import best, interval, rank_correlation, show
from paper import with_error
from scipy import stats

# share of the range of a pixel, of the tables by quartile and the figure
NORM = 0.3
TITLES = {
    "bundled-max": "bundled, max pooling",
    "bundled-average": "bundled, average pooling",
    "squeezenet": "SqueezeNet",
    "efficientnet-lite0": "EfficientNet-Lite0",
}
# of the size
CUTS = ("1/48", "1/16", "1/4")
NB_RESAMPLES = 2000
STYLES = dict(zip(TITLES, ("#4477aa", "#66ccee", "#cc6677", "#ddaa33")))


def load(folder, networks, bands):
    """Of each network that was measured, its parts."""
    found = {}
    for name in networks:
        parts = ("steps", *(f"attack-{band}" for band in bands), "search", "removed", "untrained")
        paths = [folder / f"{name}-{part}.npz" for part in parts]
        if all(path.exists() for path in paths):
            found[name] = {part: dict(np.load(path)) for part, path in zip(parts, paths)}
    return found


def bounds(statistic, *values):
    """A statistic of images (..., N), and 95 % of its values when they are drawn anew."""
    rng = np.random.default_rng(0)
    nb_images = values[0].shape[-1]
    draws = rng.integers(nb_images, size=(NB_RESAMPLES, nb_images))
    drawn = [statistic(*(one[..., draw] for one in values)) for draw in draws]
    # values that were drawn: between infinite ones there is nothing
    return statistic(*values), *np.quantile(drawn, [0.025, 0.975], method="nearest")


def with_bounds(statistic, *values, form=".2f"):
    middle, low, high = bounds(statistic, *values)
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"


def ratio_of_means(above, below):
    return above.mean() / below.mean()


def share(successes):
    """Per cent of images (N,) of 0 or 1, and its exact interval."""
    test = stats.binomtest(int(successes.sum()), len(successes))
    low, high = test.proportion_ci(method="exact")
    return f"{100 * test.statistic:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def pick(steps, title, norm, norms, name="change"):
    """Values (N,) of a band at a norm."""
    return steps[name][list(steps["bands"]).index(title), list(norms).index(norm)]


def step_table(steps, place):
    """One row a band, at one of the norms."""
    rows = {}
    for k, band in enumerate(steps["bands"]):
        rows[band] = {
            "energy": with_error(steps["energy"][k], ".4f"),
            "fall of the margin": with_error(-steps["change"][k, place], ".2f"),
            "random": with_error(-steps["control_change"][k, place], "+.2f"),
            "flipped (%)": share(steps["flipped"][k, place]),
            "random (%)": share(steps["control_flipped"][k, place] > 0),
        }
    return pd.DataFrame(rows).T


def summary_table(found, norms):
    """One row a network: energy, and falls of the margin beside that of the full step."""
    rows = {}
    for name, parts in found.items():
        steps, untrained = parts["steps"], parts["untrained"]
        # up to and above each cutoff, named by its share of the size
        halves = steps["bands"][np.isin(steps["kinds"], ("below", "above"))]
        titles = [f"{word} {cut}" for cut in CUTS for word in ("up to", "above")]
        whole = pick(steps, "all", NORM, norms)
        low = steps["energy"][list(steps["bands"]).index(halves[2])]
        cells = {"energy up to 1/16": with_error(low, ".4f")}
        for title, half in zip(titles, halves):
            cells[title] = with_bounds(ratio_of_means, pick(steps, half, NORM, norms), whole)
        for title, half in list(zip(titles, halves))[2:4]:
            control = pick(steps, half, NORM, norms, "control_change")
            cells[f"random, {title}"] = with_bounds(ratio_of_means, control, whole, form="+.3f")
            both = (pick(untrained, one, NORM, [NORM]) for one in (half, "all"))
            cells[f"untrained, {title}"] = with_bounds(ratio_of_means, *both)
        rows[TITLES[name]] = cells
    return pd.DataFrame(rows).T


def standing_table(found):
    rows = {}
    for name, parts in found.items():
        removed = parts["removed"]
        rows[TITLES[name]] = {
            **{f"removed above {cut}": share(part) for cut, part in zip(CUTS, removed["standing"])},
            **{
                f"random phases above {cut}": with_error(100 * part, ".0f")
                for cut, part in zip(CUTS, removed["control"])
            },
        }
    return pd.DataFrame(rows).T


def attack_table(found, bands, norms):
    rows = {}
    for name, parts in found.items():
        whole = parts["attack-all"]["norms"]
        for band in bands:
            attack = parts[f"attack-{band}"]
            needed = attack["norms"]
            cells = {f"within {norm:g} (%)": share(needed <= norm) for norm in norms}
            cells["median norm"] = with_bounds(np.median, needed, form=".3f")
            cells["over all"] = with_bounds(lambda a, b: np.median(a / b), needed, whole)
            cells["of the image's own (%)"] = with_bounds(np.median, 100 * needed / attack["own"])
            cells["random (%)"] = share(attack["control_turned"] > 0)
            rows[f"{TITLES[name]}, {band}"] = cells
    return pd.DataFrame(rows).T


def more_steps_table(found, bands):
    """Norms that 40 steps find over those of 10, median of the ratios."""
    rows = {}
    for name, parts in found.items():
        attacks = {band: parts[f"attack-{band}"] for band in bands}
        if "norms_of_more_steps" in attacks["all"]:
            rows[TITLES[name]] = {
                band: with_bounds(np.median, one["norms_of_more_steps"] / one["norms"])
                for band, one in attacks.items()
            }
    return pd.DataFrame(rows).T


def octave_names(parts):
    steps = parts["steps"]
    return [b for b, kind in zip(steps["bands"], steps["kinds"]) if kind == "octave"]


def spectrum_table(found):
    """Share of the energy by octave: of the gradient, and of what the attack found."""
    columns = {}
    for name, parts in found.items():
        steps = parts["steps"]
        gradient = steps["energy"][steps["kinds"] == "octave"]
        energy = parts["attack-all"]["energy"]
        pairs = {"gradient": gradient, "perturbation": energy / energy.sum(axis=0)}
        for title, values in pairs.items():
            cells = [with_error(one, ".3f") for one in values]
            columns[f"{TITLES[name]}: {title}"] = pd.Series(cells, octave_names(parts))
        noise = white_noise(parts)
        columns[f"white noise, {noise.name} pixels"] = noise
    return pd.DataFrame(columns).reindex(longest(found)).fillna("")


def white_noise(parts):
    """Share of the frequencies by octave, as text."""
    places = np.flatnonzero(parts["steps"]["kinds"] == "octave")
    size = round(float(np.sqrt(2) * parts["steps"]["highs"][0]))
    along = np.fft.fftfreq(size, 1 / size)
    radii = np.hypot(along[:, np.newaxis], along)
    shares = np.diff([np.mean(radii <= end) for end in parts["steps"]["highs"][places]], prepend=0)
    return pd.Series([f"{one:.3f}" for one in shares], octave_names(parts), name=size)


def longest(found):
    """Names of the octaves of all networks, in their order."""
    names = dict.fromkeys(name for parts in found.values() for name in octave_names(parts))
    return sorted(names, key=lambda name: (float(name.split()[0]), float(name.split()[-1])))


def correlation_table(parts, band):
    """One row an octave: of the maps of adversarial inputs, and of the controls."""
    attack = parts[f"attack-{band}"]
    rows = {}
    for k, octave in enumerate(octave_names(parts)):
        cells = {
            title: with_error(attack[title][k], ".3f")
            for title in ("adversarial", "random", "noisy")
        }
        cells["adversarial - noisy"] = interval(attack["adversarial"][k] - attack["noisy"][k])
        rows[octave] = cells
    return pd.DataFrame(rows).T


def quartiles(margins):
    return np.array_split(np.argsort(margins, kind="stable"), 4)


def best_sigma(scores, sigmas):
    """Cutoff of the best mean of scores (1 + S, N), the first of which are without a filter."""
    return (np.inf, *sigmas)[best(scores)]


def sigma_cell(scores, sigmas):
    middle, low, high = bounds(lambda one: best_sigma(one, sigmas), scores)
    middle, low, high = ("none" if np.isinf(one) else f"{one:g}" for one in (middle, low, high))
    return f"{middle} [{low}, {high}]"


def by_image(parts, norms):
    """What may change with the margin, values (N,) by their names."""
    steps, scores = parts["steps"], parts["search"]
    # up to a sixteenth, and above a quarter of the size
    below, above = np.array(steps["bands"])[[3, 6]]
    quarter = list(steps["bands"]).index(above)
    whole = pick(steps, "all", NORM, norms)
    own, specific = scores["own"][1:], scores["own"][1:] - scores["other"][1:]
    chosen = 1 + best(specific[1:])
    return {
        f"energy {above}": steps["energy"][quarter],
        f"fall {below}, of all": pick(steps, below, NORM, norms) / whole,
        f"fall {above}, of all": pick(steps, above, NORM, norms) / whole,
        "random, of all": pick(steps, "all", NORM, norms, "control_change") / whole,
        f"specific gain at {scores['sigmas'][chosen - 1]:g}": specific[chosen] - specific[0],
        "plain gain there": own[chosen] - own[0],
    }


def gain_table(parts):
    """Gains of Saliency over its magnitude, by cutoff."""
    scores = parts["search"]
    rows = {}
    for place, sigma in enumerate(scores["sigmas"]):
        own, other = (scores[key][2 + place] - scores[key][1] for key in ("own", "other"))
        gains = {"gain": own, "of another image's map": other, "specific": own - other}
        rows[f"{sigma:g}"] = {title: with_error(gain, "+.3f") for title, gain in gains.items()}
    return pd.DataFrame(rows).T


def quartile_table(parts, norms):
    steps, scores = parts["steps"], parts["search"]
    own, specific = scores["own"][1:], scores["own"][1:] - scores["other"][1:]
    by_name = by_image(parts, norms)
    rows = {}
    for group in (*quartiles(steps["margins"]), np.arange(len(steps["margins"]))):
        margins = steps["margins"][group]
        cells = {
            "sigma* plain": sigma_cell(own[:, group], scores["sigmas"]),
            "sigma* specific": sigma_cell(specific[:, group], scores["sigmas"]),
        }
        for title, values in by_name.items():
            cells[title] = with_error(values[group], ".3f")
        rows[f"{margins.min():.2f} to {margins.max():.2f} ({len(group)})"] = cells
    ranks = {"sigma* plain": "", "sigma* specific": ""}
    for title, values in by_name.items():
        ranks[title] = with_bounds(rank_correlation, steps["margins"], values, form="+.2f")
    rows["rank correlation"] = ranks
    return pd.DataFrame(rows).T


def print_tables(folder, networks, bands, norms):
    found = load(folder, networks, bands)
    for name, parts in found.items():
        for place, norm in enumerate(norms):
            show(f"Steps of norm {norm:g}, {TITLES[name]}", step_table(parts["steps"], place))
    if not found:
        print(f"There are no results of a whole network in {folder}.")
        return found
    show(
        f"Falls of the margin over that of the full step, norm {NORM:g}",
        summary_table(found, norms),
    )
    show("Decisions (%) that stand without what the image has above", standing_table(found))
    show("Attacks", attack_table(found, bands, norms))
    show("Norms that 40 steps find over those of 10", more_steps_table(found, bands))
    show("Energy by octave", spectrum_table(found))
    for name, parts in found.items():
        for band in bands:
            title = f"Correlation of maps, attack of the band {band}, {TITLES[name]}"
            show(title, correlation_table(parts, band))
    for name, parts in found.items():
        show(f"Gains of Saliency, {TITLES[name]}", gain_table(parts))
        show(f"By quartile of the margin, {TITLES[name]}", quartile_table(parts, norms))
    return found


def draw(found, norms, path):
    """Falls by octave, norms that turn decisions, and maps of adversarial inputs."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    draw_falls(found, norms, axes[0])
    draw_norms(found, axes[1])
    draw_correlations(found, axes[2])
    for ax in axes[::2]:
        ax.set_xscale("log", base=2)
        ax.axvline(1 / 16, color="0.6", lw=0.8)
        ax.set_xticks([1 / 64, 1 / 16, 1 / 4], ["size / 64", "size / 16", "size / 4"])
        ax.set_xlabel("octave, up to so many cycles")
    handles = [plt.Line2D([], [], color=STYLES[name], label=TITLES[name]) for name in found]
    handles.append(plt.Line2D([], [], color="black", ls="--", label="random directions"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def octaves_of(parts):
    """Places of the whole octaves among the bands, and their ends over the size."""
    steps = parts["steps"]
    places = np.flatnonzero(steps["kinds"] == "octave")[:-1]
    # all frequencies end in a corner, at the size over the root of 2
    return places, steps["highs"][places] / (np.sqrt(2) * steps["highs"][0])


def draw_falls(found, norms, ax):
    place = list(norms).index(NORM)
    for name, parts in found.items():
        places, ends = octaves_of(parts)
        whole = parts["steps"]["change"][0, place].mean()
        for key, style in (("change", "o-"), ("control_change", "--")):
            values = parts["steps"][key][places, place].mean(axis=1) / whole
            ax.plot(ends, values, style, color=STYLES[name], markersize=4)
    ax.set_ylabel("fall of the margin, of a full step's")
    ax.set_title(f"A step of norm {NORM:g} within an octave")


def draw_norms(found, ax):
    width = 0.8 / len(found)
    for place, (name, parts) in enumerate(found.items()):
        for column, band in enumerate(("all", "low", "high")):
            middle, low, high = bounds(np.median, parts[f"attack-{band}"]["norms"])
            at = column + (place - (len(found) - 1) / 2) * width
            ax.bar(at, middle, width, color=STYLES[name])
            ax.errorbar(at, middle, [[middle - low], [high - middle]], color="black", lw=1)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.set_xticks(range(3), ["all", "low: up to\nsize / 16", "high: above\nsize / 16"])
    ax.set_ylabel("median norm, in ranges of a pixel")
    ax.set_title("What turns a decision")


def draw_correlations(found, ax):
    for name, parts in found.items():
        places, ends = octaves_of(parts)
        for key, style in (("adversarial", "o-"), ("random", "--")):
            values = parts["attack-all"][key][: len(places)].mean(axis=1)
            ax.plot(ends, values, style, color=STYLES[name], markersize=4)
    ax.set_ylim(top=1.02)
    ax.set_ylabel("correlation with the clean map")
    ax.set_title("Saliency of an adversarial input")
