"""
What filtering gains as the patch grows: faithfulness of cells of pixels, beside another's map.

    python benchmarks/patches.py --images DIR --figures docs/assets

DIR holds photographs of ImageNet and a labels.csv. The weights come with the extra `imagenet`. Maps
explain the predicted class; Insertion and Deletion look at its softmax, in 10 steps, and set
removed cells to 0 after preprocessing, about the mean colour. The specific gain is what the map of
the photograph gains by the filter, less what that of another photograph gains by the same. Errors
are standard errors over photographs, those of differences paired. It takes 22 minutes of processor
time.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from demonstration import as_markdown
from imagenet import SCORING, compute_maps, read_photographs
from imagenet_paper import GAIN_SIGMAS
from paper import save, with_error

from xplique_forgrad import Faithfulness, forgrad_sweep
from xplique_forgrad._statistics import standard_error
from xplique_forgrad.networks import load_imagenet
from xplique_forgrad.plots._style import COLOURS

SIZE = 224
METHODS = ("Saliency", "SmoothGrad")
PATCH_SIZES = (1, 4, 8, 16, 32)


def score_maps(metric, maps):
    """Scores (1 + S, N) of the magnitude, and of the map filtered at each cutoff."""
    candidates = [np.abs(maps), *forgrad_sweep(maps, GAIN_SIGMAS).numpy()]
    return np.stack([metric.evaluate_per_image(one) for one in candidates])


def measure(folder, nb_photographs, seed):
    """Of each method, scores (P, 2, 1 + S, N): of P patch sizes, of own maps and of another's."""
    network = load_imagenet("squeezenet")
    pictures, inputs, targets = read_photographs(network, folder, nb_photographs, seed)
    maps = compute_maps(network.model, pictures, inputs, targets)
    found = {method: [] for method in METHODS}
    for size in PATCH_SIZES:
        metric = Faithfulness(network.model, inputs, targets, patch_size=size, **SCORING)
        for method, scores in found.items():
            own = maps[method]
            # files are in the order of their classes, so that neighbours are alike
            others = np.roll(own, len(own) // 2, axis=0)
            scores.append([score_maps(metric, one) for one in (own, others)])
    return {method: np.array(scores) for method, scores in found.items()}


def gains(scores):
    """Gains (..., S, N) of the filter over the magnitude."""
    return scores[..., 1:, :] - scores[..., :1, :]


def specific_gains(scores):
    """Gains (P, S, N) less those of another's map."""
    own, others = np.moveaxis(gains(scores), 1, 0)
    return own - others


def print_tables(method, scores):
    filtered = [f"sigma {sigma}" for sigma in GAIN_SIGMAS]
    raw, gained = ["magnitude", *filtered], gains(scores)
    tables = {
        "faithfulness": (scores[:, 0], raw),
        "faithfulness of another's map": (scores[:, 1], raw),
        "faithfulness less that of another's map": (scores[:, 0] - scores[:, 1], raw),
        "gain over the magnitude": (gained[:, 0], filtered),
        "gain of another's map": (gained[:, 1], filtered),
        "specific gain": (specific_gains(scores), filtered),
    }
    for title, (values, columns) in tables.items():
        print(f"\n### {method}, {title}, {values.shape[-1]} photographs\n")
        rows = {
            f"patches of {size}": [with_error(one, "+.3f") for one in of_size]
            for size, of_size in zip(PATCH_SIZES, values)
        }
        print(as_markdown(pd.DataFrame(rows, columns).T), flush=True)


def draw(found, path):
    figure, axes = plt.subplots(1, len(found), figsize=(9, 3.6), sharey=True, layout="constrained")
    for ax, (method, scores) in zip(axes, found.items()):
        styles = zip(GAIN_SIGMAS, np.moveaxis(specific_gains(scores), 1, 0), COLOURS, "os^D")
        for index, (sigma, gained, colour, marker) in enumerate(styles):
            # side by side, so that the error bars can be told apart
            places = np.array(PATCH_SIZES) * 1.05 ** (index - 1.5)
            ax.errorbar(
                places,
                gained.mean(axis=-1),
                standard_error(gained),
                color=colour,
                marker=marker,
                markersize=4,
                capsize=2,
                label=f"sigma = {sigma} ({SIZE / (2 * sigma):.0f} pixels)",
            )
        ax.axhline(0, color="0.6", lw=0.8)
        ax.set_xscale("log")
        ax.set_xticks(PATCH_SIZES, [str(size) for size in PATCH_SIZES])
        ax.set_xticks([], minor=True)
        ax.set_xlabel(f"side of the patches (pixels of {SIZE})")
        ax.set_title(method, fontsize=9)
    axes[0].set_ylabel("gain less that of another's map")
    axes[0].legend(fontsize=7)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=Path, required=True, help="folder with a labels.csv")
    parser.add_argument("--photographs", type=int, default=64, help="to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--figures", type=Path, help="folder to draw the figure into")
    given = parser.parse_args()
    found = measure(given.images, given.photographs, given.seed)
    for method, scores in found.items():
        print_tables(method, scores)
    if given.figures:
        draw(found, given.figures / "patches.png")


if __name__ == "__main__":
    main()
