"""
The demonstration's table over several draws of images: python benchmarks/demonstration.py

Each draw makes its own 64 images and searches sigma*; the scores of filtered maps are cross-fitted.
Given are the mean over the draws and its standard error. The tables of README.md and
docs/demonstration.md are what this prints, with `--mu-fidelity`, and with `--pooling average
--baselines mean`. The first takes about 10 minutes on two cores, the second 3.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pandas as pd

from xplique_forgrad.demo import load_classifier, load_images
from xplique_forgrad.demo._report import BASELINES, compare, compute_explanations
from xplique_forgrad.demo.classifier import POOLINGS


def summarise(tables):
    """Mean and standard error of each figure; the median and range of sigma*."""
    figures = pd.concat(tables).drop(columns=["±", "± ", " ±"])
    sigmas = figures.pop("sigma*")
    by_method = figures.groupby(level=0, sort=False)
    mean, error = by_method.mean(), by_method.sem()
    summary = mean.map("{:+.2f}".format) + " ± " + error.map("{:.2f}".format)
    described = {}
    for method, values in sigmas.groupby(level=0):
        chosen = values.dropna().sort_values()
        described[method] = f"{chosen.min():g} to {chosen.max():g}" if len(chosen) else "none"
    return summary.assign(**{"sigma*": pd.Series(described)})


def as_markdown(summary):
    lines = ["| | " + " | ".join(summary.columns) + " |", "|---" * (1 + len(summary.columns)) + "|"]
    lines += [f"| {name} | " + " | ".join(row) + " |" for name, row in summary.iterrows()]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--images", type=int, default=64, help="of each draw")
    parser.add_argument("--pooling", choices=POOLINGS, default="max")
    parser.add_argument("--baselines", nargs="+", choices=BASELINES, default=list(BASELINES))
    parser.add_argument("--mu-fidelity", action="store_true", help="with the baseline mean")
    arguments = parser.parse_args()
    model = load_classifier(arguments.pooling)
    tables = {baseline: [] for baseline in arguments.baselines}
    for draw in range(arguments.draws):
        inputs, targets, _ = load_images(arguments.images, seed=100 + draw)
        explanations = compute_explanations(model, inputs, targets)
        for baseline, drawn in tables.items():
            with_mu = arguments.mu_fidelity and baseline == "mean"
            drawn.append(
                compare(model, inputs, targets, explanations, baseline, with_mu, verbose=0)
            )
    for baseline, drawn in tables.items():
        print(
            f"\n{arguments.pooling} pooling, baseline {baseline}, "
            f"{arguments.draws} draws of {arguments.images} images\n"
        )
        print(as_markdown(summarise(drawn)), flush=True)


if __name__ == "__main__":
    main()
