"""
The demonstration: what filtering does to the faithfulness of several attribution methods.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure
from skimage import color, filters
from xplique.attributions import GradientInput, Saliency, SmoothGrad, VarGrad

from ..filtering import forgrad
from ..optimizer import SigmaOptimizer
from ..plots import plot_maps
from ._images import CLASS_NAMES, IMAGE_SIZE, load_images
from .classifier import load_classifier

SIGMAS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 18, 28, 48)
CONTROL = "Sobel edges"

_NOTE = """
`gain` is over the raw map, `over rectified` what the filter adds to the magnitude, and `specific`
how much of that the map of another image, filtered alike, does not gain too. Standard errors over
the images stand beside them. Another draw of images may gain 0.1 more or less. The last row
explains nothing of the model: edges of the image."""


def mean_colour(inputs: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Baseline of Deletion, Insertion and MuFidelity: the mean colour of each image."""
    inputs = tf.convert_to_tensor(inputs, tf.float32)
    means = tf.reduce_mean(inputs, axis=(-3, -2), keepdims=True)
    baseline = tf.broadcast_to(means, tf.shape(inputs))
    # MuFidelity calls it while tracing; the other two want an array
    return baseline.numpy() if tf.executing_eagerly() else baseline


BASELINES: dict[str, float | Callable] = {"mean": mean_colour, "zero": 0.0}


def compute_explanations(
    model: keras.Model, inputs: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """
    Explanations of every method of the demonstration, and edges of the images.

    Parameters
    ----------
    model
        Classifier with logits out.
    inputs
        Images of shape (N, H, W, 3).
    targets
        One-hot labels of shape (N, nb_classes).

    Returns
    -------
    explanations :
        Name of the method and its maps, of shape (N, H, W, 1).
    """
    tf.random.set_seed(0)
    explainers = (
        Saliency(model),
        GradientInput(model),
        SmoothGrad(model, nb_samples=30, noise=0.1),
        VarGrad(model, nb_samples=30, noise=0.1),
    )
    explanations = {type(e).__name__: e.explain(inputs, targets).numpy() for e in explainers}
    edges = [filters.sobel(color.rgb2gray(image)) for image in inputs]
    return {**explanations, CONTROL: np.stack(edges)[..., None]}


def compare(
    model: keras.Model,
    inputs: np.ndarray,
    targets: np.ndarray,
    explanations: dict[str, np.ndarray],
    baseline: str = "mean",
    mu_fidelity: bool = False,
    verbose: int = 1,
) -> pd.DataFrame:
    """
    Faithfulness of explanations as they are, rectified, and filtered at the best cutoff.

    `SigmaOptimizer` searches the cutoff of each method; the scores of filtered maps are
    cross-fitted, so that choosing does not flatter them.

    Parameters
    ----------
    model
        Classifier with logits out; its softmax is scored.
    inputs
        Images of shape (N, H, W, 3), at least two.
    targets
        One-hot labels of shape (N, nb_classes).
    explanations
        Name of the method and its maps, of shape (N, H, W, 1).
    baseline
        What stands for a removed pixel: "mean", the image's mean colour, or "zero".
    mu_fidelity
        Also give MuFidelity, raw and filtered at the same cutoffs. Takes longer.
    verbose
        As in `keras.Model.fit`: 1 draws a progress bar, 2 prints a line at the end, 0 nothing.

    Returns
    -------
    table :
        One row a method; columns raw, rectified, filtered, their two differences ("gain" and
        "over rectified") and what another image's map does not gain of the latter ("specific"),
        each with its standard error over the images ("±", "± ", " ±"), sigma* (None where no
        filter is best), and with `mu_fidelity` two more.
    """
    progress = keras.utils.Progbar(len(explanations), verbose=verbose)
    rows = []
    for method, maps in explanations.items():
        optimizer = SigmaOptimizer(
            None,
            sigmas=SIGMAS,
            strategy="exhaustive",
            report=["mu_fidelity"] if mu_fidelity else [],
            model=model,
            batch_size=256,
            baseline_mode=BASELINES[baseline],
            activation="softmax",
            grid_size=12,
        )
        search = optimizer.search(inputs, targets, maps, verbose=0)
        raw, over_rectified = search.gain_over_raw, search.gain_over_rectified
        specific = search.specific_gain
        row = {
            "method": method,
            "raw": search.mean_scores[0],
            "rectified": search.mean_scores[1],
            "filtered": search.held_out_score,
            "gain": raw.mean,
            "±": raw.standard_error,
            "over rectified": over_rectified.mean,
            "± ": over_rectified.standard_error,
            "specific": specific.mean,
            " ±": specific.standard_error,
            "sigma*": search.best_sigma,
        }
        if mu_fidelity:
            scores = search.others["mu_fidelity"]
            row["MuFidelity raw"] = scores[0].mean()
            row["MuFidelity filtered"] = scores[search.held_out, np.arange(len(inputs))].mean()
        rows.append(row)
        progress.add(1)
    return pd.DataFrame(rows).set_index("method")


def draw(
    inputs: np.ndarray,
    targets: np.ndarray,
    explanations: dict[str, np.ndarray],
    table: pd.DataFrame,
    nb_images: int = 4,
) -> Figure:
    """
    Gallery of images and their maps before and after filtering at the table's cutoffs.

    Returns
    -------
    figure :
        The matplotlib figure.
    """
    maps = {}
    for method in explanations:
        if method == CONTROL:
            continue
        raw = explanations[method][-nb_images:]
        sigma = table.loc[method, "sigma*"]
        maps[f"|{method}|" if np.any(raw < 0) else method] = np.abs(raw)
        if not pd.isna(sigma):
            maps[f"{method}\nsigma = {sigma:g}"] = forgrad(raw, sigma)
    axes = plot_maps(inputs[-nb_images:], maps)
    for axis, target in zip(axes[:, 0], targets[-nb_images:]):
        axis.set_ylabel(CLASS_NAMES[int(np.argmax(target))], fontsize=8)
    return axes[0, 0].figure


def run_demo(
    nb_images: int,
    output: Path,
    baseline: str,
    pooling: str,
    mu_fidelity: bool,
    seed: int,
    as_json: bool = False,
) -> None:
    """
    Run the demonstration: print its table and write its figure.

    Parameters
    ----------
    nb_images
        Number of images, at least 2: others choose sigma for each.
    output
        Figure to write, in .png, .pdf, .svg or .jpg.
    baseline
        "mean" or "zero", see `compare`.
    pooling
        Of the classifier, "max" or "average".
    mu_fidelity
        Also give MuFidelity.
    seed
        Seed of the images.
    as_json
        Print the table alone, as JSON.

    Raises
    ------
    ValueError
        If the figure has another format, or no folder.
    """
    if output.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg"):
        raise ValueError(f"--output is {output}: give a file name in .png, .pdf, .svg or .jpg")
    if not output.resolve().parent.is_dir():
        raise ValueError(f"--output is {output}: there is no folder {output.parent}")
    matplotlib.use("agg")
    model = load_classifier(pooling)
    inputs, targets, _ = load_images(nb_images, seed=seed)
    logits = model.predict(inputs, batch_size=64, verbose=0)
    accuracy = np.mean(np.argmax(logits, -1) == np.argmax(targets, -1))
    title = (
        f"{nb_images} held-out images of {IMAGE_SIZE} x {IMAGE_SIZE}, {pooling}-pooling "
        f"classifier, accuracy {accuracy:.2f}, removed pixels set to {baseline}"
    )
    if not as_json:
        print(title)
    explanations = compute_explanations(model, inputs, targets)
    verbose = int(sys.stdout.isatty() and not as_json)
    table = compare(model, inputs, targets, explanations, baseline, mu_fidelity, verbose)
    draw(inputs, targets, explanations, table).savefig(output, dpi=150)
    if as_json:
        errors = {"±": "gain_error", "± ": "over_rectified_error", " ±": "specific_error"}
        names = {**errors, "sigma*": "sigma"}
        plain = table.reset_index().rename(columns=names)
        plain.columns = plain.columns.str.replace(" ", "_").str.lower()
        print(plain.to_json(orient="records", indent=2))
        return
    print("\nFaithfulness (Insertion - Deletion)")
    sigmas = ["none" if pd.isna(sigma) else f"{sigma:g}" for sigma in table["sigma*"]]
    printed = table.assign(**{"sigma*": sigmas})
    formats = dict.fromkeys(("±", "± ", " ±"), "{:.3f}".format)
    print(printed.to_string(float_format="{:+.3f}".format, index_names=False, formatters=formats))
    print(f"{_NOTE}\n\nFigure: {output}")
