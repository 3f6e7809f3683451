"""
Speed and memory of `forgrad` against `xplique.commons.forgrad`, and what reflected borders cost:
python benchmarks/filter.py

Both run in one process, turn by turn, so that whatever else the machine does hits both. A ratio is
the time of what a user would write with Xplique over ours: above 1 we are faster. Given are the
median over the turns and, in brackets, the middle half of them.
"""

import argparse
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import xplique.commons

from xplique_forgrad import forgrad, forgrad_sweep

CASES = ((1, 224), (32, 224), (128, 224), (8, 512))
SIGMAS = (5, 15, 60, 112)
SWEEPS = {
    "1 to full band": lambda size: np.unique(np.round(np.geomspace(1, size / 2**0.5, 26)))[:20],
    "evenly to half": lambda size: np.linspace(2, size // 2, 20),
    "2, 4, ..., 40": lambda size: np.arange(2, 42, 2),
}


def seconds(function):
    start = time.perf_counter()
    result = function()  # kept until the clock stops, as a user keeps it
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def turn_by_turn(theirs, ours, budget):
    """Times of both, measured alternately for about `budget` seconds after a warm-up."""
    for _ in range(3):
        theirs(), ours()
    nb_turns = max(7, min(200, int(budget / (seconds(theirs) + seconds(ours)))))
    return np.array([(seconds(theirs), seconds(ours)) for _ in range(nb_turns)]).T


def describe(theirs, ours, invert=False):
    ratios = ours / theirs if invert else theirs / ours
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return (
        f"{1e3 * np.median(theirs):9.2f} {1e3 * np.median(ours):9.2f}"
        f"   {middle:5.2f} ({low:.2f}-{high:.2f})"
    )


def print_borders(budget, rng):
    """Time of reflected borders in multiples of that of periodic ones."""
    print("\nBorders      maps  size  sigma     periodic   reflect   ratio")
    for nb_maps, size in ((1, 224), (64, 224), (8, 512)):
        maps = tf.constant(rng.standard_normal((nb_maps, size, size, 1)), tf.float32)
        for sigma in SIGMAS:
            for name, call in (("eager", forgrad), ("traced", tf.function(forgrad))):
                times = turn_by_turn(
                    lambda: call(maps, sigma), lambda: call(maps, sigma, border="reflect"), budget
                )
                print(f"{name:>10s} {nb_maps:6d} {size:5d} {sigma:6d} {describe(*times, True)}")


CALLS = {
    "Xplique, sigma 15": lambda maps: xplique.commons.forgrad(maps, 15),
    "ours, sigma 15": lambda maps: forgrad(maps, 15),
    "ours, sigma 112": lambda maps: forgrad(maps, 112),
    "sweep of 4 cutoffs": lambda maps: forgrad_sweep(maps, [5, 15, 60, 112]),
}


def print_peak_memory(name):
    """Memory that one call takes at its peak, in a process that took little before."""
    maps = tf.zeros((512, 224, 224, 1))
    nb_bytes = int(tf.size(maps)) * maps.dtype.size
    CALLS[name](maps[:1])
    before = peak_resident()
    result = CALLS[name](maps)
    taken = peak_resident() - before
    size = int(tf.size(result)) * result.dtype.size
    print(f"{name:>20s}: {taken / nb_bytes:.1f}, of which the result {size / nb_bytes:.1f}")


def peak_resident():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def main():
    parser = argparse.ArgumentParser(description=" ".join(__doc__.split("\n\n")[0].split()))
    parser.add_argument("--budget", type=float, default=3.0, help="seconds per row")
    parser.add_argument("--memory", choices=list(CALLS), help="only the memory of this call")
    arguments = parser.parse_args()
    if arguments.memory:
        print_peak_memory(arguments.memory)
        return
    budget = arguments.budget
    rng = np.random.default_rng(0)
    print(f"TensorFlow {tf.__version__}, Xplique {xplique.__version__}, {os.cpu_count()} cores")

    print("\nOne call     maps  size  sigma   Xplique ms  ours ms   ratio")
    for nb_maps, size in CASES:
        maps = tf.constant(rng.standard_normal((nb_maps, size, size, 1)), tf.float32)
        for sigma in SIGMAS:
            error = tf.reduce_max(
                tf.abs(forgrad(maps, sigma)[..., 0] - xplique.commons.forgrad(maps, sigma))
            )
            times = turn_by_turn(
                lambda: xplique.commons.forgrad(maps, sigma), lambda: forgrad(maps, sigma), budget
            )
            print(
                f"{nb_maps:17d} {size:5d} {sigma:6d} {describe(*times)}   error {float(error):.0e}"
            )

    print("\n20 cutoffs   maps  size             20 calls  one sweep   share of their time")
    for nb_maps, size in CASES:
        maps = tf.constant(rng.standard_normal((nb_maps, size, size, 1)), tf.float32)
        for name, make_sigmas in SWEEPS.items():
            sigmas = [float(sigma) for sigma in make_sigmas(size)]
            times = turn_by_turn(
                lambda: [forgrad(maps, sigma) for sigma in sigmas],
                lambda: forgrad_sweep(maps, sigmas),
                budget,
            )
            print(f"{nb_maps:17d} {size:5d} {name:>15s} {describe(*times, invert=True)}")

    print_borders(budget, rng)

    if not os.path.exists("/proc/self/status"):
        return  # only Linux tells
    print("\nPeak memory of a call in multiples of its input, 512 maps of 224 x 224")
    for name in CALLS:
        subprocess.run([sys.executable, __file__, "--memory", name], check=True)


if __name__ == "__main__":
    main()
