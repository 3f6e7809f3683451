"""
Per-image scores with a known truth, to test searches and statistics on.
"""

import numpy as np


def planted_scores(rng, means, nb_images, spread=0.2, noise=0.1, smoothness=2.0):
    """
    Scores (K, N) of known means: an effect of each image, and noise that neighbours share.

    Like curves of a classifier over the cutoff: differences of neighbours vary less over the
    images than those of far candidates.
    """
    index = np.arange(len(means))
    covariance = np.exp(-0.5 * ((index[:, None] - index) / smoothness) ** 2)
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(means)))
    shared = rng.normal(0, spread, nb_images)
    own = root @ rng.standard_normal((len(means), nb_images))
    return np.asarray(means)[:, None] + shared + noise * own


def bump(nb_candidates=22, peak=5, height=0.12, width=4.0):
    """Means that rise to a peak and fall again."""
    index = np.arange(nb_candidates)
    return 0.4 + height * np.exp(-0.5 * ((index - peak) / width) ** 2)
