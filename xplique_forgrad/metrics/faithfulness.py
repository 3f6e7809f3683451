"""
Deletion, Insertion, and their difference.
"""

from __future__ import annotations

import numpy as np
import xplique.metrics

from .causal import CausalMetric


class Deletion(CausalMetric, xplique.metrics.Deletion):
    """
    Xplique's Deletion, image by image: the model's score while the most important pixels go.

    A sharp drop, a small area under the curve, speaks for the explanation: lower is better. Equal
    to `xplique.metrics.Deletion`, whose parameters it takes; ties in a map are ordered as there.
    New are `evaluate_per_image`, `curves`, `batch_size="auto"` (halved where memory is exhausted),
    any callable as a baseline, and datasets that are read as a stream: memory follows the
    batch size.

    Ref. Petsiuk & al., RISE: Randomized Input Sampling for Explanation of Black-box Models (2018),
    https://arxiv.org/abs/1806.07421

    Parameters
    ----------
    model
        Model that is scored: a Keras model, or any callable that takes arrays.
    inputs
        Inputs of shape (N, H, W, C), (N, T, W) or (N, W), or a dataset of pairs
        (inputs, targets), batched or not, that gives the same order at each pass (no reshuffling).
    targets
        One-hot targets of shape (N, output_size), or what the operator takes.
    batch_size
        Number of perturbed inputs to evaluate at once; None for the number of inputs, "auto" to
        start at 256 and halve it where memory is exhausted.
    baseline_mode
        What stands for removed features: a number, an array that goes with the inputs, or a
        function of the inputs, which gets all inputs of an array, or each batch of a dataset.
    steps
        Number of steps between the start and the end; -1 for one step per feature.
    max_percentage_perturbed
        Share of the features that is perturbed at the end, in ]0, 1].
    operator
        Function g(model, inputs, targets) that gives the scores; default to model(inputs)[target].
        It is traced once into a graph if it can be, and called for each batch otherwise.
    activation
        "softmax" or "sigmoid" to put on the model's outputs, or None.

    Raises
    ------
    ValueError
        If inputs and targets do not go together, or an option is out of range.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, masks = load_images(4)
    >>> metric = Deletion(load_classifier(), inputs, targets, activation="softmax")
    >>> metric.evaluate_per_image(masks).shape
    (4,)
    """

    modes = ("deletion",)
    higher_is_better = False


class Insertion(CausalMetric, xplique.metrics.Insertion):
    """
    Xplique's Insertion, image by image: the model's score while the most important pixels come.

    A fast rise, a large area under the curve, speaks for the explanation: higher is better. Equal
    to `xplique.metrics.Insertion`; see `Deletion` for the parameters and for what is new.

    Ref. Petsiuk & al., RISE: Randomized Input Sampling for Explanation of Black-box Models (2018),
    https://arxiv.org/abs/1806.07421

    Parameters
    ----------
    model
        As for `Deletion`, and so are the others.
    inputs
        Inputs or a dataset.
    targets
        One-hot targets of shape (N, output_size).
    batch_size
        Number of perturbed inputs to evaluate at once, None, or "auto".
    baseline_mode
        What stands for features not inserted yet.
    steps
        Number of steps between the start and the end; -1 for one step per feature.
    max_percentage_perturbed
        Share of the features that is inserted at the end.
    operator
        Function g(model, inputs, targets) that gives the scores.
    activation
        "softmax", "sigmoid" or None.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, masks = load_images(4)
    >>> metric = Insertion(load_classifier(), inputs, targets, activation="softmax", steps=5)
    >>> metric.curves(masks).shape
    (4, 6)
    """

    modes = ("insertion",)
    higher_is_better = True


class Faithfulness(CausalMetric):
    """
    Insertion - Deletion in one pass: higher is better.

    Both curves come from the same perturbation masks, and the model's scores of the input and of
    the baseline, where both begin and end, are computed once.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591. (The preprint prints
    Deletion - Insertion: a slip, since the best explanations would then score lowest.)

    Parameters
    ----------
    model
        As for `Deletion`, and so are the others.
    inputs
        Inputs or a dataset.
    targets
        One-hot targets of shape (N, output_size).
    batch_size
        Number of perturbed inputs to evaluate at once, None, or "auto".
    baseline_mode
        What stands for removed features.
    steps
        Number of steps between the start and the end; -1 for one step per feature.
    max_percentage_perturbed
        Share of the features that is perturbed at the end.
    operator
        Function g(model, inputs, targets) that gives the scores.
    activation
        "softmax", "sigmoid" or None.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, masks = load_images(4)
    >>> metric = Faithfulness(load_classifier(), inputs, targets, activation="softmax")
    >>> bool(metric(masks) > metric(1 - masks))
    True
    """

    modes = ("deletion", "insertion")
    higher_is_better = True

    def _combined(self, curves: dict[str, np.ndarray]) -> np.ndarray:
        return curves["insertion"] - curves["deletion"]
