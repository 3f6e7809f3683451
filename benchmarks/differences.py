"""
Where Xplique's `forgrad` and ours differ, each with a figure: python benchmarks/differences.py

The tables of README.md and docs/coming-from-xplique.md are what this prints.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import xplique
from xplique.commons import forgrad as theirs

from xplique_forgrad import forgrad as ours


def outcome(function):
    """What a call gives: the shape and dtype of its result, or its error."""
    try:
        result = function()
    except Exception as error:
        # the kind of error is the finding
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        last_line = lines[-1] if lines and lines[0].startswith("in user code") else " ".join(lines)
        return f"{type(error).__name__}: {last_line[:60]}".replace("|", "/")
    nb_nan = int(np.sum(np.isnan(result)))
    return f"{tuple(result.shape)} {result.dtype.name}" + (f", {nb_nan} NaN" if nb_nan else "")


def rows():
    rng = np.random.default_rng(0)

    def maps(*shape, dtype=np.float32):
        return rng.standard_normal(shape).astype(dtype)

    even = maps(4, 224, 224, 1)
    error = np.max(np.abs(ours(even, 15)[..., 0] - theirs(even, 15))) / np.max(np.abs(even))
    yield "224 x 224, same values", f"relative error {error:.0e}", "the same map"

    impulse = np.zeros((1, 15, 15, 1), np.float32)
    impulse[0, 7, 7] = 1
    errors = [
        float(np.max(np.abs(f(impulse, 15).numpy().squeeze() - impulse.squeeze())))
        for f in (theirs, ours)
    ]
    yield "15 x 15 impulse, cutoff that keeps everything", *(f"error {e:.2g}" for e in errors)

    odd = maps(4, 225, 225, 1)
    difference = np.abs(theirs(odd, 15).numpy() - ours(odd, 15).numpy())
    yield (
        "225 x 225, sigma 15",
        f"off by up to {100 * np.max(difference) / np.max(ours(odd, 15)):.0f} % of the peak",
        "right for odd sizes",
    )
    for size in (14, 15):
        x = maps(2, size, size, 1)
        yield f"(2, {size}, {size}, 1)", outcome(lambda: theirs(x, 4)), outcome(lambda: ours(x, 4))
    channels = maps(2, 14, 14, 1)
    channels = np.concatenate([channels, -channels], -1)
    yield (
        "two opposite channels, largest value",
        *(f"{np.max(f(channels, 4)):.2g}" for f in (theirs, ours)),
    )
    cases = {
        "12 x 17 pixels": maps(2, 12, 17, 1),
        "float64": maps(2, 14, 14, dtype=np.float64),
        "float16": maps(2, 14, 14, dtype=np.float16),
        "integers": np.ones((2, 14, 14), np.int32),
        "a single map (14, 14)": maps(14, 14),
    }
    for name, x in cases.items():
        yield name, outcome(lambda: theirs(x, 4)), outcome(lambda: ours(x, 4))
    x = maps(2, 14, 14)
    yield "sigma=tf.constant(4)", *(outcome(lambda: f(x, tf.constant(4))) for f in (theirs, ours))

    def traced_then_eager(function):
        tf.function(lambda m: function(m, 7))(x)
        return function(x, 7)

    yield (
        "eager call after a traced one",
        *(outcome(lambda: traced_then_eager(f)) for f in (theirs, ours)),
    )
    signature = [tf.TensorSpec([None, None, None, 1])]
    yield (
        "unknown sizes while tracing",
        *(
            outcome(lambda: tf.function(lambda m: f(m, 4), input_signature=signature)(x[..., None]))
            for f in (theirs, ours)
        ),
    )
    bad = maps(2, 14, 14)
    bad[1, 0, 0] = np.nan
    yield "one NaN in a map", *(outcome(lambda: f(bad, 4)) for f in (theirs, ours))
    yield "sigma=300 on 14 x 14", *(outcome(lambda: f(x, 300)) for f in (theirs, ours))


def main():
    print(f"| Input | Xplique {xplique.__version__} | xplique-forgrad |\n|---|---|---|")
    for row in rows():
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
