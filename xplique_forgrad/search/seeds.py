"""
Randomness that a search can repeat.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def seed_all(seed: int) -> None:
    """Seed the global generators that explainers draw from."""
    tf.random.set_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
