"""
Randomness that a search can repeat.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf


@contextmanager
def repeatable(seed: int, eagerly: bool = True) -> Iterator[None]:
    """
    Explainers that draw noise draw the same in it each time, in any process.

    A `tf.function` keeps the seed that was set when it was first called, so functions run eagerly
    here. Where all calls are made with one seed, graphs may do it too, in half the time:
    `eagerly=False`. The generator of NumPy is put back afterwards; that of TensorFlow cannot be,
    and goes on from a number that was drawn from it before, so that what the caller draws does not
    repeat.
    """
    seed_after = int(tf.random.uniform((), maxval=2**31 - 1, dtype=tf.int32))
    state, is_eager = np.random.get_state(), tf.config.functions_run_eagerly()  # noqa: NPY002
    if eagerly:
        tf.config.run_functions_eagerly(True)
    tf.random.set_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(is_eager)
        np.random.set_state(state)  # noqa: NPY002
        tf.random.set_seed(seed_after)
