"""
Gains of filtering beside those of a control: which cutoff to choose, and what predicts it.

    python benchmarks/controls.py --images DIR --scores SCORES --figures docs/assets

DIR holds photographs of ImageNet and a labels.csv. The weights come with the extra `imagenet`. The
control of an image is the map of another image, filtered alike and scored on the first: it explains
nothing of it. The specific score of a map is its faithfulness less that of its control.

Maps explain the predicted class; Insertion and Deletion look at its softmax, in 10 steps. Scores go
to files in SCORES, one for each network, method and baseline, as soon as they are there: a run that
was killed goes on with what is missing, and the tables are made from the files. Scoring takes 1
hour of processor time, the tables 1 minute.
"""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from controls_tables import draw_curves, print_tables
from imagenet import SCORING, predicted_targets, read_photographs
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from xplique.attributions import GradientInput, IntegratedGradients, Saliency, SmoothGrad

from xplique_forgrad import SigmaOptimizer, forgrad
from xplique_forgrad.demo import load_classifier, load_images
from xplique_forgrad.layers import diagnose
from xplique_forgrad.networks import load_imagenet
from xplique_forgrad.search import default_sigmas
from xplique_forgrad.spectrum import fourier_ring_correlation

BUNDLED = "bundled"
# network, and its number of images
NETWORKS = {BUNDLED: 192, "squeezenet": 48, "efficientnet-lite0": 24}
METHODS = ("Saliency", "GradientInput", "SmoothGrad", "IntegratedGradients")
SIGMAS = (1, 2, 3, 5, 8, 12, 20, 30)
# images, and deviation of the noise over the range of the inputs, as of `diagnose`
DIAGNOSED, NOISE = 32, 0.2


class Subject(NamedTuple):
    """A network, and images to explain; the masks of their evidence where they are known."""

    model: object
    inputs: np.ndarray
    targets: np.ndarray
    sigmas: tuple
    masks: np.ndarray | None = None


def open_subject(name, folder):
    if name == BUNDLED:
        model = load_classifier()
        inputs, _, masks = load_images(NETWORKS[name])
        sigmas = tuple(default_sigmas(inputs.shape[1:3]))
        return Subject(model, inputs, predicted_targets(model, inputs), sigmas, masks)
    network = load_imagenet(name)
    _, inputs, targets = read_photographs(network, folder, NETWORKS[name], seed=0)
    return Subject(network.model, inputs, targets, SIGMAS)


def blurred(inputs):
    """Inputs without what is finer than some 10 pixels of 224."""
    inputs = np.asarray(inputs)
    return ndimage.gaussian_filter(inputs, 10 / 224 * inputs.shape[1], axes=(1, 2))


BASELINES = {"zero": 0.0, "blur": blurred}


def explain(method, subject, inputs, targets):
    """Maps (N, H, W, 1)."""
    tf.random.set_seed(0)
    noise = 0.1 * float(np.ptp(subject.inputs))
    makers = {
        "Saliency": Saliency,
        "GradientInput": GradientInput,
        "SmoothGrad": lambda model: SmoothGrad(model, nb_samples=20, noise=noise),
        "IntegratedGradients": lambda model: IntegratedGradients(model, steps=30),
    }
    return np.asarray(makers[method](subject.model).explain(inputs, targets))


def partners(nb_images, seed=0):
    """For each image another one, in a random ring: none is its own."""
    ring = np.random.default_rng(seed).permutation(nb_images)
    others = np.empty(nb_images, int)
    others[ring] = np.roll(ring, 1)
    return others


def score(subject, explanations, baseline):
    """Faithfulness (2 + S, N) of raw maps, their magnitudes, and by cutoff."""
    optimizer = SigmaOptimizer(
        None,
        sigmas=subject.sigmas,
        strategy="exhaustive",
        control=None,
        model=subject.model,
        baseline_mode=BASELINES[baseline],
        **SCORING,
    )
    return optimizer.search(subject.inputs, subject.targets, explanations, verbose=0).scores


def pixel_auc(subject, explanations):
    """Area under the ROC curve (2 + S, N) of maps as detectors of the pixels of the masks."""
    filtered = [np.asarray(forgrad(explanations, sigma)) for sigma in subject.sigmas]
    return np.array(
        [
            [roc_auc_score(mask.ravel(), one.ravel()) for mask, one in zip(subject.masks, maps)]
            for maps in (explanations, np.abs(explanations), *filtered)
        ]
    )


def guesses(subject):
    """The cutoff of `diagnose` (0 for none), and up to where each method's magnitudes agree."""
    part = subject._replace(inputs=subject.inputs[:DIAGNOSED], targets=subject.targets[:DIAGNOSED])
    diagnosis = diagnose(part.model, part.inputs, part.targets, noise=NOISE, verbose=0)
    found = {
        "diagnose": diagnosis.sigma or 0,
        "resolution": diagnosis.resolution,
        "grid": diagnosis.grid_frequency or 0,
    }
    generator = np.random.default_rng(0)
    deviation = NOISE * float(np.ptp(part.inputs))
    copies = [
        part.inputs + deviation * generator.standard_normal(part.inputs.shape, np.float32)
        for _ in range(2)
    ]
    for method in METHODS:
        maps = [explain(method, subject, copy, part.targets) for copy in copies]
        found[method] = fourier_ring_correlation(*maps, rectify="magnitude").resolution()
    return found


def save(path, **arrays):
    unfinished = path.with_suffix(".unfinished.npz")
    np.savez(unfinished, **arrays)
    unfinished.replace(path)
    print(f"{path.name} is there", flush=True)


def score_all(folder, scores):
    """Write what is missing."""
    scores.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        wanted = {
            baseline: [
                method
                for method in METHODS
                if not (scores / f"{name}-{method}-{baseline}.npz").exists()
            ]
            for baseline in BASELINES
        }
        is_guessed = (scores / f"{name}-guesses.npz").exists()
        if is_guessed and not any(wanted.values()):
            continue
        subject = open_subject(name, folder)
        others = partners(len(subject.inputs))
        for baseline, methods in wanted.items():
            for method in methods:
                own = explain(method, subject, subject.inputs, subject.targets)
                arrays = {
                    "sigmas": subject.sigmas,
                    "own": score(subject, own, baseline),
                    "other": score(subject, own[others], baseline),
                }
                if subject.masks is not None:
                    arrays["auc"] = pixel_auc(subject, own)
                save(scores / f"{name}-{method}-{baseline}.npz", **arrays)
        if not is_guessed:
            save(scores / f"{name}-guesses.npz", **guesses(subject))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=Path, help="folder with a labels.csv; none: only tables")
    parser.add_argument("--scores", type=Path, default=Path("controls"), help="folder of scores")
    parser.add_argument("--figures", type=Path, help="folder to draw the figure into")
    given = parser.parse_args()
    if given.images:
        score_all(given.images, given.scores)
    print_tables(given.scores, NETWORKS, METHODS, BASELINES)
    if given.figures:
        draw_curves(given.scores, given.figures, NETWORKS)


if __name__ == "__main__":
    main()
