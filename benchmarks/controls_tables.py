"""
The tables and the figure of controls.py, from its files of scores alone.

Candidates are the raw map, its magnitude ("none": no filter) and the cutoffs. Where cutoffs are
compared, no filter counts as the cutoff that keeps everything.
"""

import itertools
from typing import NamedTuple

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from demonstration import as_markdown
from matplotlib.ticker import NullFormatter, ScalarFormatter
from paper import with_error
from PIL import Image
from scipy import stats

from xplique_forgrad._statistics import standard_error
from xplique_forgrad.filtering import full_band_sigma
from xplique_forgrad.search._gains import cross_fitted, paired_gain

NB_SPLITS = 200
NB_RESAMPLES = 2000
RAW, MAGNITUDE = 0, 1
SHOWN = (
    ("squeezenet", "Saliency", "zero"),
    ("squeezenet", "SmoothGrad", "zero"),
    ("efficientnet-lite0", "Saliency", "zero"),
)
DRAWN = ("Saliency", "SmoothGrad")
SIZES = {"bundled": 96, "squeezenet": 224, "efficientnet-lite0": 224}


class Row(NamedTuple):
    """Scores (K, N) of a method's maps and of their control; the pixel AUC where it is known."""

    network: str
    method: str
    baseline: str
    sigmas: np.ndarray
    own: np.ndarray
    other: np.ndarray
    auc: np.ndarray | None

    @property
    def name(self):
        return f"{self.network}, {self.method}, {self.baseline}"

    @property
    def specific(self):
        return self.own - self.other

    @property
    def objectives(self):
        return {"plain": self.own, "specific": self.specific}

    @property
    def cutoffs(self):
        """Of each candidate, in cycles of the map."""
        everything = full_band_sigma([SIZES[self.network]] * 2)
        return np.array([everything, everything, *self.sigmas])

    def title(self, candidate):
        return {RAW: "none, raw", MAGNITUDE: "none"}.get(candidate, f"{self.cutoffs[candidate]:g}")

    def nearest(self, sigma):
        """The candidate of the scored cutoff nearest to this one, by their ratio."""
        if not sigma:
            return MAGNITUDE
        return 2 + int(np.argmin(np.abs(np.log(self.sigmas / sigma))))

    def loss(self, chosen):
        """Specific score (N,) lost against the best cutoff; chosen for all images, or for each."""
        best = self.specific[np.argmax(self.specific.mean(axis=1))]
        return best - self.specific[chosen, np.arange(best.size)]


def load_rows(folder, networks, methods, baselines):
    rows = []
    for parts in itertools.product(networks, methods, baselines):
        path = folder / f"{'-'.join(parts)}.npz"
        if path.exists():
            found = dict(np.load(path))
            rows.append(Row(*parts, auc=found.pop("auc", None), **found))
    return rows


def interval(differences):
    gain = paired_gain(differences)
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def best(scores):
    return int(np.argmax(scores.mean(axis=1)))


def gain_at(scores, chosen):
    """Gains (N,) over the magnitude, of the candidate that was chosen for each image."""
    return scores[chosen, np.arange(scores.shape[1])] - scores[MAGNITUDE]


def curve_table(row):
    """One row a candidate: scores, and gains over the magnitude."""
    rows = {}
    for candidate in range(len(row.own)):
        title = {RAW: "raw", MAGNITUDE: "magnitude"}.get(candidate, row.title(candidate))
        values = {"own": row.own, "other": row.other, "specific": row.specific}
        cells = {name: with_error(one[candidate], "+.3f") for name, one in values.items()}
        for name, one in (("gain of own", row.own), ("specific gain", row.specific)):
            gain = one[candidate] - one[MAGNITUDE]
            cells[name] = "" if candidate == MAGNITUDE else with_error(gain, "+.3f")
        rows[title] = cells
    table = pd.DataFrame(rows).T
    table.columns.name = "sigma"
    return table


def choice_cells(row):
    """Sigma* by each objective, and what maps gain that others' images chose it for."""
    cells = {}
    for name, scores in row.objectives.items():
        chosen = cross_fitted(scores)
        cells[f"{name}: sigma*"] = row.title(best(scores))
        cells[f"{name}: gain"] = with_error(gain_at(row.own, chosen), "+.3f")
        cells[f"{name}: specific gain"] = interval(gain_at(row.specific, chosen))
    return cells


class Splits(NamedTuple):
    """Choices on halves of the images, judged on the other halves; by objective."""

    agreeing: dict
    loss: dict
    # (N,): specific score of the choice by "specific" less that of the choice by "plain"
    difference: np.ndarray


def split(row, seed=0):
    """
    Random halves choose, and the other halves judge.

    Each image is judged in about one half of all choices; its mean difference over these is one
    value of the paired difference.
    """
    rng = np.random.default_rng(seed)
    nb_images = row.own.shape[1]
    agreeing = {name: [] for name in row.objectives}
    losses = {name: [] for name in row.objectives}
    total, number = np.zeros(nb_images), np.zeros(nb_images)
    for _ in range(NB_SPLITS):
        order = rng.permutation(nb_images)
        halves = order[: nb_images // 2], order[nb_images // 2 :]
        chosen = {
            name: [best(scores[:, half]) for half in halves]
            for name, scores in row.objectives.items()
        }
        for name, both in chosen.items():
            agreeing[name].append(abs(np.log2(np.divide(*row.cutoffs[both]))) <= 1 + 1e-9)
        for part, judging in enumerate(reversed(halves)):
            scores = row.specific[:, judging]
            for name, both in chosen.items():
                losses[name].append(scores.mean(axis=1).max() - scores[both[part]].mean())
            total[judging] += scores[chosen["specific"][part]] - scores[chosen["plain"][part]]
            number[judging] += 1
    means = [{name: float(np.mean(v)) for name, v in found.items()} for found in (agreeing, losses)]
    return Splits(*means, total / number)


def split_cells(row, found):
    cells = {}
    for name in row.objectives:
        cells[f"{name}: within 2"] = f"{found.agreeing[name]:.2f}"
        cells[f"{name}: loss"] = f"{found.loss[name]:.3f}"
    cells["specific - plain"] = interval(found.difference)
    for name, scores in row.objectives.items():
        if row.auc is not None:
            lost = row.auc[best(row.auc)] - row.auc[best(scores)]
            cells[f"{name}: AUC loss"] = with_error(lost)
        else:
            cells[f"{name}: AUC loss"] = ""
    return cells


def summary_table(rows, splits):
    """One row an objective."""
    summary = {}
    for name in ("plain", "specific"):
        gains = [paired_gain(gain_at(r.specific, cross_fitted(r.objectives[name]))) for r in rows]
        of_224 = [224 / SIZES[r.network] * r.cutoffs[best(r.objectives[name])] for r in rows]
        losses = [
            r.auc[best(r.auc)].mean() - r.auc[best(r.objectives[name])].mean()
            for r in rows
            if r.auc is not None
        ]
        summary[name] = {
            "rows": str(len(rows)),
            "specific gain not significant": str(sum(gain.low <= 0 <= gain.high for gain in gains)),
            "significant specific loss": str(sum(gain.high < 0 for gain in gains)),
            "mean specific gain": f"{np.mean([gain.mean for gain in gains]):+.3f}",
            "median sigma* of 224": f"{np.median(of_224):.3g}",
            "halves agree": f"{np.mean([found.agreeing[name] for found in splits]):.2f}",
            "baselines agree": baselines_agreeing(rows, name),
            "loss on other half": f"{np.mean([found.loss[name] for found in splits]):.3f}",
            "AUC loss": f"{np.mean(losses):.3f}" if losses else "",
        }
    return pd.DataFrame(summary).T


def baselines_agreeing(rows, objective):
    """In how many pairs of network and method both baselines' sigma* are within a factor of 2."""
    pairs = {}
    for row in rows:
        sigma = row.cutoffs[best(row.objectives[objective])]
        pairs.setdefault((row.network, row.method), []).append(sigma)
    whole = [both for both in pairs.values() if len(both) == 2]
    return f"{sum(max(both) <= 2 * min(both) for both in whole)} of {len(whole)}"


def load_guesses(folder, rows):
    found = {}
    for network in dict.fromkeys(row.network for row in rows):
        path = folder / f"{network}-guesses.npz"
        if path.exists():
            found[network] = {name: float(value) for name, value in np.load(path).items()}
    return found


def guess_table(rows, guesses):
    """One row a network and method: what is guessed, beside sigma* by the specific objective."""
    table = {}
    for row in rows:
        if row.network not in guesses:
            continue
        found = guesses[row.network]
        cells = table.setdefault(f"{row.network}, {row.method}", {})
        cells["diagnose"] = f"{found['diagnose']:g}" if found["diagnose"] else "none"
        cells["maps agree up to"] = f"{found[row.method]:g}"
        cells[f"sigma*, {row.baseline}"] = row.title(best(row.specific))
    return pd.DataFrame(table).T.fillna("")


def rules(rows, guesses):
    """Name of each rule, and the candidates that it chooses: for all images, or for each."""

    def constant(sigma):
        return [row.nearest(sigma * SIZES[row.network] / 224) for row in rows]

    of_224 = [224 / SIZES[row.network] * row.cutoffs[best(row.specific)] for row in rows]
    median = float(np.median(of_224))
    return {
        "search by specific, cross-fitted": [cross_fitted(row.specific) for row in rows],
        "search by plain, cross-fitted": [cross_fitted(row.own) for row in rows],
        "`diagnose`": [row.nearest(guesses[row.network]["diagnose"]) for row in rows],
        "where the method's maps agree": [
            row.nearest(guesses[row.network][row.method]) for row in rows
        ],
        f"median sigma*, {median:.3g} of 224": constant(median),
        **{f"sigma {sigma} of 224": constant(sigma) for sigma in (5, 8, 10, 12, 15)},
        "sigma 1": [row.nearest(1) for row in rows],
        "magnitude": [MAGNITUDE] * len(rows),
    }


def resampled(rows, statistic, seed=0):
    """Statistic of positions of rows, and 95 % by a bootstrap over pairs of network and method."""
    pairs = list(dict.fromkeys((row.network, row.method) for row in rows))
    members = [[i for i, r in enumerate(rows) if (r.network, r.method) == pair] for pair in pairs]
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([members[i] for i in rng.integers(len(pairs), size=len(pairs))]))
        for _ in range(NB_RESAMPLES)
    ]
    known = np.array(drawn)[~np.isnan(drawn)]
    bounds = np.quantile(known, [0.025, 0.975]) if len(known) else [np.nan] * 2
    return statistic(np.arange(len(rows))), *bounds


def rule_table(rows, guesses):
    """Mean specific score that each rule loses against sigma*, over rows."""
    losses = {
        name: np.array([row.loss(chosen).mean() for row, chosen in zip(rows, choices)])
        for name, choices in rules(rows, guesses).items()
    }
    reference = losses["sigma 10 of 224"]
    table = {}
    for name, lost in losses.items():
        mean, low, high = resampled(rows, lambda i, d=lost - reference: d[i].mean())
        table[name] = {
            "mean loss": f"{lost.mean():.3f}",
            "largest": f"{lost.max():.3f}",
            "less that of sigma 10": f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]",
        }
        for network in dict.fromkeys(row.network for row in rows):
            chosen = [row.network == network for row in rows]
            table[name][network] = f"{lost[chosen].mean():.3f}"
    return pd.DataFrame(table).T


def correlation_lines(rows, guesses):
    """Spearman's rank correlation with sigma*, undefined where all guesses are one number."""
    for title, some in (
        ("all rows, per pixel", rows),
        ("224 pixels alone", [row for row in rows if SIZES[row.network] == 224]),
    ):
        if not some:
            continue
        truth = np.array([row.cutoffs[best(row.specific)] / SIZES[row.network] for row in some])
        for guess in ("diagnose", "maps agree up to"):
            guessed = [
                guesses[r.network][guess if guess == "diagnose" else r.method] / SIZES[r.network]
                for r in some
            ]
            both = np.array([guessed, truth])
            rho, low, high = resampled(some, lambda i, both=both: rank_correlation(*both[:, i]))
            found = f"{rho:+.2f} [{low:+.2f}, {high:+.2f}]"
            yield f"{guess}, {title} ({len(some)}): {'undefined' if np.isnan(rho) else found}"


def rank_correlation(first, second):
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return stats.spearmanr(first, second).statistic


def show(title, table):
    print(f"\n### {title}\n\n{as_markdown(table)}", flush=True)


def print_tables(folder, networks, methods, baselines):
    rows = load_rows(folder, networks, methods, baselines)
    for row in rows:
        if row[:3] in SHOWN:
            show(f"{row.name}, {row.own.shape[1]} images", curve_table(row))
    show(
        "Choice by either objective (gains over the magnitude, cross-fitted)",
        pd.DataFrame({row.name: choice_cells(row) for row in rows}).T,
    )
    splits = [split(row) for row in rows]
    show(
        f"Stability over {NB_SPLITS} splits into halves, and pixel AUC",
        pd.DataFrame({r.name: split_cells(r, found) for r, found in zip(rows, splits)}).T,
    )
    for network in [None, *networks]:
        chosen = [i for i, row in enumerate(rows) if network in (None, row.network)]
        if chosen:
            show(
                f"Summary, {network or 'all'}",
                summary_table([rows[i] for i in chosen], [splits[i] for i in chosen]),
            )
    guesses = load_guesses(folder, rows)
    guessed = [row for row in rows if row.network in guesses]
    if guessed:
        show("Guesses beside sigma* by the specific objective", guess_table(rows, guesses))
        print("\nSpearman's rank correlation with sigma*, 95 % over networks and methods:\n")
        print("\n".join(f"- {line}" for line in correlation_lines(guessed, guesses)))
        show("Specific score lost by simple rules", rule_table(guessed, guesses))


def draw_curves(folder, figures, networks):
    """Own, other and specific scores over the cutoff, a network a column, a method a row."""
    rows = load_rows(folder, networks, DRAWN, ("zero",))
    figure, axes = plt.subplots(
        2, len(networks), figsize=(10, 5.2), sharex="col", sharey="col", layout="constrained"
    )
    for row in rows:
        ax = axes[DRAWN.index(row.method), list(networks).index(row.network)]
        # the magnitude is the map of the cutoff that keeps everything
        order = np.append(np.arange(2, len(row.own)), MAGNITUDE)
        sigmas = row.cutoffs[order]
        for name, scores, colour in (
            ("own", row.own, "C0"),
            ("other image's", row.other, "C7"),
            ("specific: own - other", row.specific, "C3"),
        ):
            mean, error = scores[order].mean(axis=1), standard_error(scores[order])
            ax.plot(sigmas, mean, color=colour, label=name, marker=".", markersize=3)
            ax.fill_between(sigmas, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
            if name != "other image's":
                top = np.argmax(mean)
                ax.plot(sigmas[top], mean[top], "o", color=colour, markerfacecolor="white")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xticks([s for s in (1, 2, 5, 10, 20, 50, 150) if s <= sigmas[-1]])
        ax.axhline(0, color="black", lw=0.5)
        ax.set_title(f"{row.network}, {row.method}", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("sigma (rightmost: no filter)")
    for ax in axes[:, 0]:
        ax.set_ylabel("Insertion - Deletion")
    axes[0, 0].legend(fontsize=8)
    path = figures / "controls.png"
    figure.savefig(path, dpi=100)
    plt.close(figure)
    # few colours, a third of the bytes
    Image.open(path).convert("RGB").quantize(48).save(path, optimize=True)
