"""
Explainers of Xplique: built on a model, and refused where they would fail or explain another thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from xplique.attributions import DeconvNet, GuidedBackprop
from xplique.attributions.base import BlackBoxExplainer
from xplique.commons import model_override
from xplique.commons.operators_operations import get_inference_function

from ._models import check_input, check_one_output, other_precision, torch_module
from ._notices import notify


def unwrapped(explainer: Any) -> Any:
    """What a wrapper such as `FORGrad` explains by."""
    while hasattr(explainer, "explainer"):
        explainer = explainer.explainer
    return explainer


def build_explainer(kind: Callable[..., Any], model: Any, **options: Any) -> Any:
    """
    An explainer of a model, by its class.

    Raises
    ------
    ValueError
        If the model is not built, is subclassed, has several inputs or its channels first, or the
        explainer finds no layer to look at.
    """
    check_input(model)
    name = getattr(model, "name", "the model")
    is_keras = isinstance(model, keras.Model) and torch_module(model) is None
    if is_keras and getattr(model, "inputs", None) is None:
        raise ValueError(
            f"The model {name!r} is subclassed ({type(model).__name__}), which Xplique's explainers"
            " do not take. Wrap it: x = keras.Input((H, W, C)); keras.Model(x, model(x))."
        )
    try:
        return kind(model, **options)
    except StopIteration:
        raise ValueError(
            f"{kind.__name__} finds no layer to look at among those of {name!r} itself; those of a "
            "model inside it do not count. Name one (conv_layer=NAME), or build the model of its "
            "layers alone."
        ) from None


def check_explains(explainer: Any) -> None:
    """
    Refuse what would end in an error of Xplique's, and warn of maps that are plain gradients.

    Raises
    ------
    ValueError
        If the model has several inputs, its channels first, several outputs without an operator,
        or layers or outputs of a precision that the explainer does not compute in.
    """
    explainer = unwrapped(explainer)
    model = getattr(explainer, "model", None)
    check_input(model)
    if not (isinstance(explainer, BlackBoxExplainer) and isinstance(model, keras.Model)):
        return
    name = type(explainer).__name__
    if _explains_outputs(explainer):
        check_one_output(model)
    if isinstance(explainer, (GuidedBackprop, DeconvNet)):
        changed = [layer for layer in model.layers if _is_changed(layer)]
        _check_float32(name, changed)
        if not changed:
            notify(
                f"{name} changes ReLUs among the layers of the model itself, and {model.name!r} "
                "has none: its maps are plain gradients."
            )
    # GradCAM, GradCAM++, FEM
    if hasattr(explainer, "conv_layer"):
        _check_float32(name, [explainer.conv_layer])
    dtype = other_precision(model)
    score: Any = getattr(explainer, "inference_function", None)
    if dtype and _is_of_xplique(getattr(score, "python_function", score)):
        raise ValueError(
            f"{name} does not multiply outputs in {dtype} with targets. Give them in float32: "
            "keras.Model(model.input, keras.layers.Activation('linear', dtype='float32')"
            "(model.output))."
        )


def _explains_outputs(explainer: Any) -> bool:
    """Whether an explainer of Xplique was built without an operator."""
    score = getattr(explainer, "inference_function", None)
    model = getattr(explainer, "model", None)
    return score is not None and score is get_inference_function(model)[0]


def _check_float32(name: str, layers: list[keras.Layer]) -> None:
    for layer in layers:
        dtype = keras.backend.standardize_dtype(layer.compute_dtype)
        if dtype != "float32":
            raise ValueError(
                f"{name} works in float32, and the layer {layer.name!r} in {dtype}. Build the model"
                " anew after keras.config.set_dtype_policy('float32'), with the same weights: "
                "new.set_weights(model.get_weights())."
            )


def _is_changed(layer: keras.Layer) -> bool:
    """Whether Xplique put a ReLU of its own there."""
    functions = getattr(layer, "activation", None), vars(layer).get("call")
    return any(getattr(one, "__module__", "") == model_override.__name__ for one in functions)


def _is_of_xplique(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("xplique.")
