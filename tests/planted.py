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
    root = neighbourly(len(means), smoothness)
    shared = rng.normal(0, spread, nb_images)
    own = root @ rng.standard_normal((len(means), nb_images))
    return np.asarray(means)[:, None] + shared + noise * own


def neighbourly(number, smoothness=2.0):
    """What makes independent noise of candidates into noise that neighbours share."""
    index = np.arange(number)
    covariance = np.exp(-0.5 * ((index[:, None] - index) / smoothness) ** 2)
    return np.linalg.cholesky(covariance + 1e-9 * np.eye(number))


def planted_steps(rng, means, nb_images, nb_steps=9, step_noise=0.15, **options):
    """
    Terms (K, N, S) whose means over the steps are scores of known means, as of curves.

    With 2 of 9 steps the standard deviation of paired differences is 1.4 times that with all, as
    on the bundled classifier (1.25 to 1.5).
    """
    scores = planted_scores(rng, means, nb_images, **options)
    noise = step_noise * rng.standard_normal((*scores.shape, nb_steps))
    noise = np.tensordot(neighbourly(len(means)), noise, axes=1)
    height = np.linspace(0.3, -0.3, nb_steps)
    return scores[..., None] + height + noise - noise.mean(axis=-1, keepdims=True)


def bump(nb_candidates=22, peak=5, height=0.12, width=4.0):
    """Means that rise to a peak and fall again."""
    index = np.arange(nb_candidates)
    return 0.4 + height * np.exp(-0.5 * ((index - peak) / width) ** 2)
