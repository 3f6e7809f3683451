"""
What devices are used for: share of the model's passes, ratios to what Xplique takes, replicas.

    python benchmarks/devices.py                   # two GPUs, or processors where there is none
    python benchmarks/devices.py --images 256 --turns 9

On one device: the share of an exhaustive search that the model's forward pass takes; `forgrad`
against Xplique's on maps that lie on the device; the search against the loop that a user writes
with Xplique; a metric with `jit_compile=True` against one without. On two: the time of metric and
search by that on one. Each ratio is the median of turns that alternate in this process, with the
middle half of them in brackets. Without GPUs two logical devices share the processor: two replicas
cannot be faster there, and what is printed is what sharing costs. The bundled classifier, 96 x 96
pixels; GPUs also run MobileNetV2 with random weights, 224 x 224.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import xplique.commons
import xplique.metrics
from xplique.attributions import Saliency

from xplique_forgrad import Faithfulness, SigmaOptimizer, forgrad
from xplique_forgrad.demo import load_classifier, load_images

SIGMAS = (2, 4, 8, 16)


def two_devices():
    """Names of two devices: GPUs, or two logical ones of the processor."""
    if tf.config.list_physical_devices("GPU"):
        return [
            device.name.split("device:")[-1] for device in tf.config.list_logical_devices("GPU")
        ]
    return ["CPU:0", "CPU:1"]


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratios(first, second, nb_turns):
    """Times of the first by those of the second, turn by turn, after a warm-up."""
    first(), second()
    return [seconds(first) / seconds(second) for _ in range(nb_turns)]


def in_words(values):
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def searching(model, inputs, targets, strategy, batch_size, explanations=None):
    explainer = Saliency(model) if explanations is None else None
    optimizer = SigmaOptimizer(
        explainer,
        sigmas=SIGMAS,
        strategy=strategy,
        control=None,
        model=model,
        activation="softmax",
        batch_size=batch_size,
    )
    return lambda: optimizer.search(inputs, targets, explanations, verbose=0)


def on_one_device(build, inputs, targets, batch_size, nb_turns):
    model = build()
    explanations = Saliency(model).explain(inputs, targets)
    search = searching(model, inputs, targets, "exhaustive", batch_size, explanations)
    nb_passes = search().nb_evaluations
    batch = tf.constant(inputs[:batch_size])
    forward = tf.function(lambda inputs: tf.nn.softmax(model(inputs)))

    def passes():
        for _ in range(nb_passes // len(batch)):
            found = forward(batch)
        return found.numpy()

    print(f"  forward pass, of a search:     {in_words(ratios(passes, search, nb_turns))}")

    def sync(maps):
        return tf.reduce_sum(maps).numpy()

    theirs = ratios(
        lambda: sync(xplique.commons.forgrad(explanations, 8)),
        lambda: sync(forgrad(explanations, 8)),
        10 * nb_turns,
    )
    print(f"  Xplique's forgrad, by ours:    {in_words(theirs)}")
    metrics = [
        kind(model, inputs, targets, activation="softmax", batch_size=batch_size)
        for kind in (xplique.metrics.Insertion, xplique.metrics.Deletion)
    ]

    def loop():
        for sigma in SIGMAS:
            for metric in metrics:
                metric(xplique.commons.forgrad(explanations, sigma))

    print(
        f"  the loop, by the search:       {in_words(ratios(loop, search, max(1, nb_turns // 3)))}"
    )

    # a map without ties
    maps = np.random.default_rng(0).random(inputs.shape[:3])

    def scoring(jit_compile):
        metric = Faithfulness(
            *(model, inputs, targets),
            activation="softmax",
            batch_size=batch_size,
            jit_compile=jit_compile,
        )
        return lambda: metric.evaluate(maps)

    with_xla = ratios(scoring(True), scoring(False), nb_turns)
    print(f"  a metric with XLA, by without: {in_words(with_xla)}")


def on_two_devices(build, inputs, targets, batch_size, nb_turns, strategy=None):
    """Gives ratios of metric and search: time of all replicas by that of one."""
    strategy = strategy or tf.distribute.MirroredStrategy(two_devices())
    alone = build()
    with strategy.scope():
        shared = keras.models.clone_model(alone)
    shared.set_weights(alone.get_weights())
    # a map without ties
    maps = np.random.default_rng(0).random(inputs.shape[:3])

    def scoring(model, **how):
        metric = Faithfulness(
            model, inputs, targets, activation="softmax", batch_size=batch_size, **how
        )
        return lambda: metric.evaluate(maps)

    found = {}
    found["Faithfulness"] = ratios(scoring(shared, strategy=strategy), scoring(alone), nb_turns)
    both = ("exhaustive", strategy)
    found["search"] = ratios(
        searching(shared, inputs, targets, both, batch_size),
        searching(alone, inputs, targets, "exhaustive", batch_size),
        nb_turns,
    )
    for name, values in found.items():
        number = strategy.num_replicas_in_sync
        print(f"  {number} replicas by one, {name + ':':13s} {in_words(values)}")
    return found


def mobile_net():
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNetV2(weights=None, classifier_activation=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    names = [tf.config.experimental.get_device_details(one).get("device_name") for one in gpus]
    print(", ".join(map(str, names)) or f"no GPU; a processor with {os.cpu_count()} cores")
    inputs, targets, _ = load_images(options.images)
    several = {"bundled classifier": (load_classifier, inputs, targets)}
    if gpus:
        large = np.random.default_rng(0).random((options.images, 224, 224, 3), dtype=np.float32)
        labels = np.eye(1000, dtype=np.float32)[np.arange(options.images)]
        several["MobileNetV2"] = (mobile_net, large, labels)
    for name, case in several.items():
        print(f"{name}, {options.images} images, batches of {options.batch_size}")
        on_one_device(*case, options.batch_size, options.turns)
        if len(two_devices()) > 1:
            on_two_devices(*case, options.batch_size, options.turns)


if __name__ == "__main__":
    main()
