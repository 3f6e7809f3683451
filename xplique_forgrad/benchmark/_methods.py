"""
Attribution methods by Xplique's names, with options, and what a benchmark makes of them.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import xplique.attributions
from xplique.attributions import DeconvNet, GuidedBackprop
from xplique.attributions.base import BlackBoxExplainer, WhiteBoxExplainer
from xplique.commons.model_override import has_relu_activation, is_relu

from .._checks import batch_shape
from .._explainers import build_explainer
from .._models import torch_module
from ..search._description import describe_with_data

# given by the model, or of no use on a command line
_NOT_OPTIONS = ("model", "output_layer", "batch_size", "operator")
# they look at an inner layer
_GREY = ("GradCAM", "GradCAMPP", "FEM")
# they resize maps to images
_OF_IMAGES = (*_GREY, "SobolAttributionMethod", "HsicAttributionMethod")
# of the range of the inputs: Xplique's default is an absolute number
_NOISE = 0.1
# of the shorter side: Xplique's default of 3 pixels takes 5,600 passes for 224
_PATCH, _STRIDE = 8, 16


class Method(NamedTuple):
    """A method of Xplique and the options that were typed."""

    name: str
    kind: type
    options: dict[str, Any]

    def build(self, model: Any, batch_size: int, operator: Any = None) -> BlackBoxExplainer:
        """The explainer of a model."""
        options = dict(self.options)
        if operator is not None and "operator" in inspect.signature(self.kind).parameters:
            options["operator"] = operator
        return build_explainer(self.kind, model, batch_size=batch_size, **options)

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


def parse_method(text: str) -> Method:
    """
    A method from "Name" or "Name:option=value,option=value".

    Raises
    ------
    ValueError
        If Xplique has no such method, or the method no such option.
    """
    name, _, rest = text.partition(":")
    known = _known_methods()
    if name not in known:
        by_lower = {other.lower(): other for other in known}
        close = difflib.get_close_matches(name.lower(), by_lower, 3, 0.5)
        question = (
            f" Did you mean {' or '.join(by_lower[other] for other in close)}?" if close else ""
        )
        raise ValueError(
            f"Xplique has no attribution method {name!r}.{question} Methods: {', '.join(known)}."
        )
    options = dict(_options(rest, text))
    allowed = [
        parameter
        for parameter in inspect.signature(known[name]).parameters
        if parameter not in _NOT_OPTIONS
    ]
    unknown = [option for option in options if option not in allowed]
    if unknown:
        close = difflib.get_close_matches(unknown[0], allowed, 1)
        question = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"{name} has no option {unknown[0]!r}.{question} Its options are "
            f"{', '.join(allowed) or 'none'}."
        )
    return Method(name, known[name], options)


def _known_methods() -> dict[str, type]:
    """Explainers of Xplique, by name."""
    return {
        name: kind
        for name, kind in sorted(vars(xplique.attributions).items())
        if inspect.isclass(kind) and issubclass(kind, BlackBoxExplainer) and name != "FORGrad"
    }


def _options(text: str, whole: str) -> Iterator[tuple[str, Any]]:
    """Pairs of a name and a value, which is a number, True, False, None, or else text."""
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ValueError(
                f"{whole!r}: after the method come options as name=value, separated by commas, for "
                "instance SmoothGrad:nb_samples=20,noise=0.1."
            )
        try:
            yield name.strip(), ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            yield name.strip(), value.strip()


# an explainer of a model, for what is not of Xplique
Factory = Callable[[Any], Any]


class Inputs(NamedTuple):
    """What explainers are built for, beside a model."""

    shape: tuple[int, ...]
    # between the lowest and the highest value
    spread: float
    batch_size: int
    operator: Any


class Wanted(NamedTuple):
    """A method of a benchmark: the name of its rows, and the function that builds its explainer."""

    name: str
    options: str
    # empty if that is only known of its explainer
    kind: str
    # what tells it apart from others of its name, in plain values
    identity: Any
    build: Callable[[Any, Inputs], Any]


def wanted_methods(methods: Any) -> list[Wanted]:
    """
    The methods that a benchmark is asked for.

    Raises
    ------
    ValueError
        If Xplique has no such method, a name comes twice, or there is none.
    TypeError
        If one is neither a name nor a function.
    """
    if methods is None:
        methods = list(_known_methods())
    if isinstance(methods, str):
        methods = [methods]
    if isinstance(methods, Mapping):
        found = [_own(name, factory) for name, factory in methods.items()]
    elif isinstance(methods, Sequence):
        found = [_of_xplique(method) for method in methods]
        names = [method.name for method in found]
        # options tell apart what has one name
        found = [
            m._replace(name=f"{m.name}:{m.options}") if names.count(m.name) > 1 and m.options else m
            for m in found
        ]
    else:
        raise TypeError(
            f"`methods` is a {type(methods).__name__}; give names such as "
            "['Saliency', 'SmoothGrad:nb_samples=20'], a mapping from names to functions of a "
            "model that give explainers, or None for all of Xplique."
        )
    names = [method.name for method in found]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`methods` names {names}; give each once, and at least one.")
    return found


def kind_of(method: type) -> str:
    """ "white", "grey" (of an inner layer) or "black"; other classes may say it as `kind`."""
    if getattr(method, "kind", None) in ("white", "grey", "black"):
        return str(method.kind)  # type: ignore[attr-defined]
    if any(kind.__name__ in _GREY for kind in method.__mro__):
        return "grey"
    return "white" if issubclass(method, WhiteBoxExplainer) else "black"


def _own(name: str, factory: Any) -> Wanted:
    if isinstance(factory, BlackBoxExplainer) or not callable(factory):
        raise TypeError(
            f"The method {name!r} is {factory!r}; give a function of a model that gives an "
            "explainer, such as lambda model: SmoothGrad(model, nb_samples=20)."
        )
    return Wanted(str(name), "", "", _identity_of(factory), lambda model, _: factory(model))


def _identity_of(factory: Any) -> Any:
    """A function by its name, the data that it sees, and its code."""
    code = getattr(factory, "__code__", None)
    text = "" if code is None else f"{code.co_code!r}{code.co_consts}{code.co_names}"
    # code in code is shown with its address
    text = re.sub(r"<code object .*?>", "", text)
    return [describe_with_data(factory), zlib.crc32(text.encode())]


def _of_xplique(text: Any) -> Wanted:
    if inspect.isclass(text) and issubclass(text, BlackBoxExplainer):
        text = text.__name__
    if not isinstance(text, str):
        raise TypeError(
            f"`methods` holds {text!r}; give names such as 'SmoothGrad:nb_samples=20'. An explainer"
            " belongs to one model: give a mapping from its name to a function that builds it, "
            "such as {'SmoothGrad': lambda model: SmoothGrad(model)}."
        )
    method = parse_method(text)

    def build(model: Any, inputs: Inputs) -> Any:
        _check_can_explain(method, model, inputs.shape)
        if method.kind in (GuidedBackprop, DeconvNet):
            _check_has_relu(method.name, model)
        scaled = {**_scaled_options(method.name, inputs), **method.options}
        return method._replace(options=scaled).build(model, inputs.batch_size, inputs.operator)

    options = str(method).partition(":")[2]
    return Wanted(method.name, options, kind_of(method.kind), options, build)


def _scaled_options(name: str, inputs: Inputs) -> dict[str, Any]:
    """Options whose right value depends on the inputs."""
    if name in ("SmoothGrad", "SquareGrad", "VarGrad"):
        return {"noise": _NOISE * inputs.spread}
    if name == "Occlusion" and len(inputs.shape) == 3:
        side = min(inputs.shape[:2])
        return {"patch_size": max(1, side // _PATCH), "patch_stride": max(1, side // _STRIDE)}
    if name == "Occlusion" and len(inputs.shape) == 2:
        time, width = inputs.shape
        # all series of an input together
        sizes = ((max(1, time // share), width) for share in (_PATCH, _STRIDE))
        return dict(zip(("patch_size", "patch_stride"), sizes))
    return {}


def _check_can_explain(method: Method, model: Any, shape: tuple[int, ...]) -> None:
    """Raise a ValueError if the method makes no maps of such a model, or inputs of the shape."""
    kind = kind_of(method.kind)
    looks_at_layers = kind == "grey" or method.kind in (GuidedBackprop, DeconvNet)
    if torch_module(model) is not None and looks_at_layers:
        raise ValueError(
            f"{method.name} looks at layers of Keras, and those of a TorchWrapper are PyTorch's."
        )
    is_of_images = method.name in _OF_IMAGES
    if (is_of_images and len(shape) != 3) or (kind == "black" and len(shape) > 3):
        raise ValueError(f"{method.name} of Xplique makes no maps of inputs {batch_shape(shape)}.")


def _check_has_relu(name: str, model: Any) -> None:
    layers = getattr(model, "layers", ())
    if not any(has_relu_activation(layer) or is_relu(layer) for layer in layers):
        raise ValueError(
            f"{name} changes ReLUs among the layers of the model itself, and "
            f"{getattr(model, 'name', 'it')!r} has none: its maps would be plain gradients."
        )
