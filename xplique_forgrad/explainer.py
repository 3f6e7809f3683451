"""
An explainer whose explanations are filtered.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from xplique.attributions.base import BlackBoxExplainer
from xplique.commons.callable_operations import predictions_one_hot_callable

from ._checks import check_choice
from ._explainers import check_explains, unwrapped
from ._models import predicted_targets
from ._ranges import check_range
from ._samples import check_batch, check_pairs, unbatched
from ._tasks import check_targets, check_values, task_of
from .filtering import forgrad
from .filtering._checks import (
    BORDERS,
    DEFAULT_AXES,
    RECTIFICATIONS,
    WINDOWS,
    checked_axes,
    checked_explanations,
    checked_sigma,
)

_OWN = ("explainer", "sigma", "window", "rectify", "axes", "border")


class FORGrad(BlackBoxExplainer):
    """
    Any attribution method of Xplique, followed by the low-pass filter of FORGrad.

    It wraps an explainer and is one: it goes wherever Xplique takes an explainer, its metrics of
    stability and randomization included. Besides its own parameters, whatever is read from it or
    set (`model`, `batch_size`, `nb_samples`, ...) is the wrapped explainer's; setting what that
    has not is an AttributeError.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591

    Parameters
    ----------
    explainer
        An explainer of Xplique, white-box or black-box, or any object with a method
        `explain(inputs, targets)`.
    sigma
        Cutoff in cycles along the longest filtered axis, see `forgrad`. Default to the paper's
        recommendation, 15 for images of 224 pixels: give it for any other size.
    window
        "disk", "box", "gaussian" or "butterworth", see `forgrad`.
    rectify
        "magnitude", "positive" or None, see `forgrad`.
    axes
        Axes to filter along. Default to what the inputs are: (1, 2) for images (N, H, W, C) and
        (1,), the time, for time series (N, T, W). Give (1, 2) for images without channels.
    border
        "periodic" or "reflect", see `forgrad`.

    Raises
    ------
    TypeError
        If `explainer` is no explainer.
    ValueError
        If `window`, `rectify` or `border` is unknown.

    Examples
    --------
    >>> from xplique.attributions import Saliency
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, _ = load_images(4)
    >>> FORGrad(Saliency(load_classifier()), sigma=6).explain(inputs, targets).shape
    TensorShape([4, 96, 96, 1])
    """

    def __init__(
        self,
        explainer: BlackBoxExplainer,
        sigma: tf.Tensor | ArrayLike = 15,
        *,
        window: str = "disk",
        rectify: str | None = "magnitude",
        axes: int | Sequence[int] | None = None,
        border: str = "periodic",
    ):
        # the base class would keep a model of its own, apart from the wrapped explainer's
        if isinstance(explainer, type) or not callable(getattr(explainer, "explain", None)):
            raise TypeError(
                f"FORGrad wraps an explainer with a method `explain`, and got {explainer!r}; "
                "give for instance FORGrad(Saliency(model), sigma=15)."
            )
        check_choice("window", window, WINDOWS)
        check_choice("rectify", rectify, RECTIFICATIONS)
        check_choice("border", border, BORDERS)
        self.explainer = explainer
        self.sigma = sigma
        self.window = window
        self.rectify = rectify
        self.axes = axes
        self.border = border

    def explain(
        self,
        inputs: tf.data.Dataset | tf.Tensor | np.ndarray,
        targets: tf.Tensor | np.ndarray | None = None,
    ) -> tf.Tensor:
        """
        Compute the explanations of the wrapped explainer and filter them.

        Parameters
        ----------
        inputs
            Dataset, Tensor or Array of images (N, H, W, C) or time series (N, T, W). A dataset
            gives pairs of inputs and targets, one by one or in batches.
        targets
            Tensor or Array, one-hot encoding of the output to explain, of shape (N, output_size),
            or what the operator of the explainer takes, such as masks (N, H, W, classes).
            None for the class that the model predicts, and with a dataset, which brings its own.

        Returns
        -------
        explanations :
            Filtered explanations, (N, H, W, 1) for images and (N, T, W) for time series.

        Raises
        ------
        ValueError
            If the inputs are tabular, inputs and targets do not go together, or there are no
            targets and no classes to predict, and as `forgrad` does.
        """
        model = getattr(self.explainer, "model", None)
        check_explains(self)
        is_stream = isinstance(inputs, tf.data.Dataset)
        if is_stream:
            inputs = unbatched(inputs, targets, model)
            shape = (None, *inputs.element_spec[0].shape)
        else:
            shape = tuple(np.shape(inputs))
            check_batch(shape, model)
        axes = self._axes_of(shape)
        # before the costly part; the explanations have the sizes of the inputs
        sizes = [shape[axis] for axis in axes]
        if None not in sizes:
            checked_sigma(self.sigma, sizes, nb_maps=shape[0])

        if shape[0] == 0:
            explanations = tf.zeros((*shape[:-1], 1) if len(shape) == 4 else shape)
        else:
            if targets is None and not is_stream:
                size = getattr(self.explainer, "batch_size", None)
                targets = predicted_targets(model, inputs, size)
            self._check_targets(shape, inputs, targets)
            check_range(model, lambda: _first_of(inputs))
            explanations = checked_explanations(self.explainer.explain(inputs, targets))
        if len(shape) == 4 and len(explanations.shape) == 3:
            explanations = explanations[..., tf.newaxis]
        return forgrad(
            explanations,
            self.sigma,
            window=self.window,
            rectify=self.rectify,
            axes=axes,
            border=self.border,
        )

    def __call__(
        self,
        inputs: tf.data.Dataset | tf.Tensor | np.ndarray,
        labels: tf.Tensor | np.ndarray | None = None,
    ) -> tf.Tensor:
        """Explain alias"""
        return self.explain(inputs, labels)

    def _check_targets(self, shape: tuple[int | None, ...], inputs: Any, targets: Any) -> None:
        """Raise a ValueError unless each input has a target, of the kind that is explained."""
        model = getattr(self.explainer, "model", None)
        # of a model that is no graph, Xplique has a function of its own
        operator = getattr(self.explainer, "inference_function", None)
        if operator is None:
            return
        if operator is predictions_one_hot_callable:
            operator = None
        if targets is None:
            found = inputs.element_spec[1].shape
            if found.rank is not None:
                check_targets(tuple(found), model, operator)
            return
        found = tuple(np.shape(targets))
        if task_of(operator) is not None:
            check_pairs(shape, found)
        check_targets(found[1:], model, operator)
        if not tf.is_symbolic_tensor(targets):
            check_values(targets, np.arange(len(targets)), operator)

    def _axes_of(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        rank = len(shape)
        if rank < 3:
            raise ValueError(
                f"The inputs have rank {rank}: the explanations of tabular inputs (N, W) have no "
                "order to filter along. FORGrad filters those of images (N, H, W, C) and time "
                "series (N, T, W)."
            )
        if self.axes is not None:
            return checked_axes(self.axes, tf.TensorShape(shape))
        if rank not in DEFAULT_AXES:
            raise ValueError(
                f"The inputs have rank {rank}; say along which axes to filter their explanations, "
                "for instance FORGrad(explainer, sigma, axes=(1, 2, 3))."
            )
        return DEFAULT_AXES[rank]

    @property
    def model(self) -> Callable:
        """The model of the wrapped explainer; setting it sets the wrapped explainer's."""
        return self.explainer.model

    @model.setter
    def model(self, model: Callable) -> None:
        self.explainer.model = model

    def __getattr__(self, name: str) -> Any:
        # only called for what the wrapper lacks; private names are never looked up, so that
        # copying and pickling see an ordinary object
        if name.startswith("_") or name in _OWN:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.explainer, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _OWN or isinstance(getattr(type(self), name, None), property):
            super().__setattr__(name, value)
        elif hasattr(self.explainer, name):
            setattr(self.explainer, name, value)
        else:
            raise AttributeError(self._why_not_set(name))

    def __dir__(self) -> list[str]:
        wrapped = vars(self).get("explainer")
        public = (name for name in dir(wrapped) if not name.startswith("_"))
        return sorted({*super().__dir__(), *public})

    def _why_not_set(self, name: str) -> str:
        public = [known for known in dir(self) if not known.startswith("_")]
        close = difflib.get_close_matches(name, public)
        question = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        wrapped = type(unwrapped(self)).__name__
        return (
            f"Neither FORGrad nor the {wrapped} in it has an attribute {name!r} to set{question} "
            f"Its own are {', '.join(_OWN)}; any other must be one that the "
            "wrapped explainer has already, such as model or batch_size."
        )

    def __repr__(self) -> str:
        wrapped = self.explainer if isinstance(self.explainer, FORGrad) else None
        name = repr(wrapped) if wrapped else type(self.explainer).__name__
        return (
            f"FORGrad({name}, sigma={self.sigma!r}, window={self.window!r}, "
            f"rectify={self.rectify!r}, axes={self.axes!r}, border={self.border!r})"
        )


def _first_of(inputs: Any) -> Any:
    """Inputs that tell the range of all."""
    if isinstance(inputs, tf.data.Dataset):
        return [read for read, _ in inputs.take(1)]
    return inputs[:32]
