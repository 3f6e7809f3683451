"""
Speed and memory of the layer analysis: python benchmarks/analysis.py

ResNet50 at 224 pixels on 32 images. `layerwise_high_frequency` meets all layers in one backward
pass; a plain loop with Keras differentiates layer by layer, and measures the same with the same
function. Both run in one process on the same layers: the stem, the pooling and the last layer of
each block. Their means differ a little, since the loop counts channels without gradient as 0. Peak
memory is that of a process that does one of them (of the loop, for the three first layers, which
need most).
"""

import argparse
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from filter import peak_resident

from xplique_forgrad.layers import layerwise_high_frequency
from xplique_forgrad.spectrum import high_frequency_power


def build():
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None, classifier_activation=None)
    names = [layer.name for layer in model.layers]
    chosen = ["conv1_conv", "pool1_pool", *(name for name in names if name.endswith("_out"))]
    return model, chosen


def one_pass(model, names, inputs, targets, batch_size):
    table = layerwise_high_frequency(model, inputs, targets, names, batch_size=batch_size)
    return table["mean"].to_numpy()[1:]


def layer_by_layer(model, names, inputs, targets, batch_size):
    """What one writes with Keras: a model cut at the layer, and its gradient there."""
    means = []
    for name in names:
        cut = keras.Model(model.inputs, [model.get_layer(name).output, model.output])

        @tf.function
        def gradient(x, y, cut=cut):
            with tf.GradientTape() as tape:
                tape.watch(x)
                inner, logits = cut(x, training=False)
                score = tf.reduce_sum(logits * y)
            return tape.gradient(score, inner)

        shares = []
        for start in range(0, len(inputs), batch_size):
            batch = slice(start, start + batch_size)
            found = gradient(tf.constant(inputs[batch]), tf.constant(targets[batch]))
            shares.append(high_frequency_power(found))
        means.append(np.concatenate(shares).mean())
    return np.array(means)


ROUTES = {"one pass": one_pass, "layer by layer": layer_by_layer}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--all-layers", action="store_true", help="of ours, for its time")
    parser.add_argument("--memory", choices=list(ROUTES), help="only the memory of this route")
    arguments = parser.parse_args()
    model, names = build()
    rng = np.random.default_rng(0)
    inputs = rng.random((arguments.images, 224, 224, 3), np.float32)
    targets = np.eye(1000, dtype=np.float32)[rng.integers(0, 1000, arguments.images)]
    data = inputs, targets, arguments.batch_size
    if arguments.memory:
        model(inputs[:1])
        before = peak_resident()
        route = ROUTES[arguments.memory]
        route(model, names[:3] if arguments.memory != "one pass" else names, *data)
        print(f"{arguments.memory:>15s}: {(peak_resident() - before) / 2**30:.2f} GiB")
        return

    print(f"ResNet50, 224 pixels, {arguments.images} images, {len(names)} layers")
    found = {}
    for name, route in ROUTES.items():
        route(model, names[:1], inputs[:1], targets[:1], 1)  # warm-up
        start = time.perf_counter()
        means = route(model, names, *data)
        found[name] = time.perf_counter() - start, means
        print(f"{name:>15s}: {found[name][0]:7.1f} s", flush=True)
    ratio = found["layer by layer"][0] / found["one pass"][0]
    worst = np.max(np.abs(found["one pass"][1] - found["layer by layer"][1]))
    print(f"          ratio: {ratio:7.1f}, largest difference of a layer's mean {worst:.0e}")
    if arguments.all_layers:
        start = time.perf_counter()
        table = layerwise_high_frequency(model, inputs, targets, batch_size=arguments.batch_size)
        seconds = time.perf_counter() - start
        print(f"one pass over all {len(table)} places: {seconds:.1f} s")
    if os.path.exists("/proc/self/status"):  # only Linux tells
        print("\nPeak memory above the model and the images")
        for name in ROUTES:
            subprocess.run([sys.executable, __file__, "--memory", name], check=True)


if __name__ == "__main__":
    main()
