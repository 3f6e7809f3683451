"""
Speed and regret of the search against the loop that a user writes with Xplique.

    python benchmarks/search.py                # about 15 minutes on two cores
    python benchmarks/search.py --memory       # peak memory of scoring a streamed dataset

The loop: for each cutoff `xplique.commons.forgrad`, Insertion and Deletion (or MuFidelity). Each
ratio is the loop's time by ours, both run in this process with batches of 64, explanations given.
The forward pass is the model alone on as many inputs as the search evaluated.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf
import xplique.commons
import xplique.metrics
from xplique.attributions import GradientInput, Saliency, SquareGrad

from xplique_forgrad import Faithfulness, SigmaOptimizer
from xplique_forgrad.demo import load_classifier, load_images

BATCH = 64


def seconds(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def forward_seconds(model, shape, nb_evaluations):
    inputs = tf.random.uniform((BATCH, *shape))
    forward = tf.function(lambda inputs: tf.nn.softmax(model(inputs)))
    forward(inputs)
    return seconds(lambda: [forward(inputs) for _ in range(nb_evaluations // BATCH)])[0]


def their_loop(metrics, explanations, sigmas):
    return [
        [metric(xplique.commons.forgrad(explanations, sigma)) for metric in metrics]
        for sigma in sigmas
    ]


def compare(model, inputs, targets, methods, sigmas, nb_seeds):
    options = {"activation": "softmax", "batch_size": BATCH}
    theirs = [
        kind(model, inputs, targets, **options)
        for kind in (xplique.metrics.Insertion, xplique.metrics.Deletion)
    ]
    loop = None
    for name, explainer in methods.items():
        explanations = explainer.explain(inputs, targets)

        def search(strategy, nb_images=None, seed=0):
            optimizer = SigmaOptimizer(
                None,
                sigmas=sigmas,
                strategy=strategy,
                control=None,  # the loop has none
                model=model,
                seed=seed,
                **options,
            )
            part = slice(nb_images)
            return optimizer.search(inputs[part], targets[part], explanations[part], verbose=0)

        # warm up; each search still traces a graph of its own within its time
        search("exhaustive", nb_images=2)
        if loop is None:
            [metric(explanations) for metric in theirs]
            loop, _ = seconds(lambda: their_loop(theirs, explanations, sigmas))
            print(f"loop with Xplique: {loop:.1f} s (it takes as long for every method)")
        taken, full = seconds(lambda: search("exhaustive"))
        forward = forward_seconds(model, inputs.shape[1:], full.nb_evaluations)
        print(
            f"{name:>14s} exhaustive: {taken:5.1f} s, ratio {loop / taken:5.2f}, forward pass "
            f"{forward / taken:.2f} of it, {full.nb_evaluations} evaluations, "
            f"sigma {full.best_sigma}"
        )
        if not nb_seeds:
            continue
        times, shares, regrets = [], [], []
        for seed in range(nb_seeds):
            taken, raced = seconds(lambda: search("racing", seed=seed))
            times.append(taken)
            shares.append(raced.nb_evaluations / full.nb_evaluations)
            winner = full.candidates.index(raced.best_candidate)
            regrets.append(full.mean_scores.max() - full.mean_scores[winner])
        ratios = loop / np.array(times)
        print(
            f"{name:>14s} racing, {nb_seeds} seeds: ratio {np.median(ratios):5.2f} "
            f"({ratios.min():.2f} to {ratios.max():.2f}), {np.mean(shares):.2f} of the passes, "
            f"regret {np.mean(regrets):.4f} on average, {np.percentile(regrets, 95):.4f} at the "
            f"95th percentile, {max(regrets):.4f} at most"
        )


def compare_mu_fidelity(model, inputs, targets, sigmas):
    options = {"activation": "softmax", "batch_size": BATCH}
    explanations = Saliency(model).explain(inputs, targets)
    metric = xplique.metrics.MuFidelity(model, inputs, targets, **options)
    their_loop([metric], explanations, sigmas[:1])

    def search(nb_images):
        optimizer = SigmaOptimizer(
            None, "mu_fidelity", sigmas, "exhaustive", control=None, model=model, **options
        )
        part = slice(nb_images)
        return optimizer.search(inputs[part], targets[part], explanations[part], verbose=0)

    search(2)
    loop, _ = seconds(lambda: their_loop([metric], explanations, sigmas))
    taken, found = seconds(lambda: search(len(inputs)))
    forward = forward_seconds(model, inputs.shape[1:], found.nb_evaluations)
    print(
        f"MuFidelity, {len(inputs)} images: loop {loop:.1f} s, ours {taken:.1f} s, ratio "
        f"{loop / taken:.1f}, forward pass {forward / taken:.2f} of it"
    )


def peak_resident():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def print_memory(nb_images):
    layers = [keras.Input((224, 224, 3)), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*layers, keras.layers.Dense(10)])

    def samples():
        rng = np.random.default_rng(0)
        for index in range(nb_images):
            image = rng.random((224, 224, 3), dtype=np.float32)
            yield image, np.eye(10, dtype=np.float32)[index % 10]

    dataset = tf.data.Dataset.from_generator(
        samples, output_signature=(tf.TensorSpec((224, 224, 3)), tf.TensorSpec((10,)))
    )
    model(tf.zeros((BATCH, 224, 224, 3)))
    before = peak_resident()
    explanations = np.random.default_rng(1).random((nb_images, 224, 224), dtype=np.float32)
    score = Faithfulness(model, dataset, activation="softmax", steps=4)(explanations)
    taken = peak_resident() - before
    print(
        f"{nb_images} images of 224 x 224 x 3 from a dataset: {taken / 2**30:.2f} GiB above the "
        f"interpreter and the model, of which the explanations {explanations.nbytes / 2**30:.2f}; "
        f"the images are {3 * explanations.nbytes / 2**30:.2f} GiB (score {score:.3f})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--mu-images", type=int, default=64)
    parser.add_argument("--mobilenet-images", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    if options.memory:
        print_memory(2000)
        return
    sigmas = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 19, 23, 27, 32, 38, 46, 55]
    model = load_classifier()
    inputs, targets, _ = load_images(options.images, seed=1)
    print(f"Bundled classifier, {options.images} images of 96 x 96, {len(sigmas)} cutoffs")
    methods = {
        "Saliency": Saliency(model),
        "GradientInput": GradientInput(model),
        "SquareGrad": SquareGrad(model, nb_samples=30, noise=0.1),
    }
    compare(model, inputs, targets, methods, sigmas, options.seeds)
    part = slice(options.mu_images)
    compare_mu_fidelity(model, inputs[part], targets[part], sigmas)

    nb_images = options.mobilenet_images
    print(f"MobileNetV2, random weights, {nb_images} images of 224 x 224, same cutoffs")
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    inputs = np.random.default_rng(0).random((nb_images, 224, 224, 3), dtype=np.float32)
    targets = np.eye(1000, dtype=np.float32)[np.arange(nb_images)]
    compare(model, inputs, targets, {"Saliency": Saliency(model)}, sigmas, nb_seeds=0)


if __name__ == "__main__":
    main()
