"""
A network from what a user types: a file, a name, or a function.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .._models import call_model, check_input, input_shape, kind_of_outputs
from .._ranges import expected_range
from ..images import Preprocessing
from ._imagenet import imagenet_classes, load_imagenet
from ._logits import to_logits
from ._network import Network

_FORMS = (
    "a .keras or .h5 file, 'imagenet:squeezenet', 'keras:MobileNetV2' with a file of weights, or "
    "'module:function'"
)


def _unit(pictures: np.ndarray) -> np.ndarray:
    """x / 255"""
    return pictures / 255


def _signed(pictures: np.ndarray) -> np.ndarray:
    """x / 127.5 - 1"""
    return pictures / 127.5 - 1


# beside the modules of keras.applications and functions of the user
_SCALINGS: dict[str, Callable | None] = {"none": None, "unit": _unit, "signed": _signed}


def load_network(
    model: str | os.PathLike | keras.Model,
    *,
    weights: str | os.PathLike | None = None,
    preprocessing: str | Callable | Preprocessing | None = None,
    class_names: Sequence[str] | str | os.PathLike | None = None,
    nb_classes: int = 1000,
    crop_fraction: float | None = None,
) -> Network:
    """
    Make a network of a model of yours: its logits, its preprocessing and its class names.

    A model that ends in a softmax or a sigmoid is explained without it, where its layers can be
    seen; `Network.note` says what was done.

    Parameters
    ----------
    model
        A Keras model of images; a file that `model.save` wrote (.keras, .h5); "imagenet:" and a
        name of `load_imagenet`; "keras:" and the name of a model of keras.applications; or
        "module:function", a function without arguments that gives a Keras model or a `Network`. Its
        module is looked for in the working directory too, and is run.
    weights
        File of weights of a model of keras.applications: nothing is downloaded.
    preprocessing
        A `Preprocessing`, a function of RGB pictures (N, H, W, 3) in [0, 255], or a name: "none"
        (the model takes [0, 255]), "unit" ([0, 1]), "signed" ([-1, 1]), a module of
        keras.applications ("resnet50": its `preprocess_input`), or "module:function". None for what
        belongs to the model: it is known of "imagenet:" and "keras:", and of a model that begins
        with a layer `Rescaling`.
    class_names
        Names in the order of the outputs, or a text file of one a line.
    nb_classes
        Number of classes of a model of keras.applications.
    crop_fraction
        Share of the scaled short side that the centre crop keeps; None for 0.875 with "imagenet:"
        and "keras:", and for 1, the whole short side, with other models.

    Returns
    -------
    network :
        `Network`.

    Raises
    ------
    ValueError
        If the model, its preprocessing or its class names cannot be had of what was given.
    ImportError
        If the package with the weights is not installed.
    TypeError
        If a function gives something else than a Keras model or a `Network`.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier
    >>> network = load_network(load_classifier(), preprocessing="unit")
    >>> network.model.output_shape, network.activation
    ((None, 6), 'softmax')
    """
    network = _found(model, weights, nb_classes, preprocessing)
    if crop_fraction is not None:
        network = replace(
            network, preprocessing=replace(network.preprocessing, crop_fraction=crop_fraction)
        )
    if class_names is not None:
        network = replace(network, class_names=_names(class_names, network))
    return network


def _found(model: Any, weights: Any, nb_classes: int, preprocessing: Any) -> Network:
    """The network, of whichever form the model has."""
    text = os.fspath(model) if isinstance(model, (str, os.PathLike)) else ""
    kind, _, name = text.partition(":")
    if weights is not None and kind != "keras":
        raise ValueError(
            f"`weights` is {str(weights)!r}, and the model is {model!r}, which has its own; give "
            "weights with 'keras:' and the name of a model of keras.applications."
        )
    if isinstance(model, keras.Model):
        return _of_model(model, preprocessing)
    if kind == "imagenet":
        return _with_preprocessing(load_imagenet(name), preprocessing)
    if kind == "keras":
        return _of_applications(name, weights, nb_classes, preprocessing)
    if Path(text).suffix in (".keras", ".h5", ".hdf5"):
        return _of_model(_read(Path(text)), preprocessing)
    if text and name:
        made = _called(text)
        if isinstance(made, Network):
            return _with_preprocessing(made, preprocessing)
        if not isinstance(made, keras.Model):
            raise TypeError(
                f"{text} gives a {type(made).__name__}; it must give a Keras model or a Network."
            )
        return _of_model(made, preprocessing)
    raise ValueError(f"The model is {model!r}; give {_FORMS}.")


def _of_model(model: keras.Model, preprocessing: Any, crop_fraction: float = 1.0) -> Network:
    """A network of a Keras model, without its softmax if that can be had."""
    check_input(model)
    if preprocessing is None:
        if expected_range(model) != (0.0, 255.0):
            raise ValueError(
                f"The model {model.name!r} does not say what its inputs go through. Give a "
                "preprocessing: 'none' (it takes pixels in [0, 255]), 'unit' ([0, 1]), 'signed' "
                "([-1, 1]), a module of keras.applications such as 'resnet50', or "
                "'module:function'."
            )
        preprocessing = "none"
    if isinstance(preprocessing, Preprocessing):
        _check_size(model, preprocessing)
    else:
        preprocessing = replace(
            Preprocessing.of(model),
            function=_preprocess_function(preprocessing),
            crop_fraction=crop_fraction,
        )
    try:
        logits, removed = to_logits(model)
    except ValueError as error:
        return _as_it_is(model, preprocessing, str(error))
    if removed is not None:
        note = (
            f"The model ends in a {removed}: its logits are explained; scores are of the {removed}."
        )
        return Network(logits, preprocessing, activation=removed, note=note)
    return _as_it_is(model, preprocessing, "")


def _check_size(model: keras.Model, preprocessing: Preprocessing) -> None:
    """Raise a ValueError if the model takes images of another size."""
    wanted = (input_shape(model) or ())[1:3]
    if any(one not in (None, other) for one, other in zip(wanted, preprocessing.size)):
        raise ValueError(
            f"`preprocessing` makes images of {' x '.join(map(str, preprocessing.size))}, and the "
            f"model {model.name!r} takes {' x '.join(map(str, wanted))}. Give that size, or a name "
            "such as preprocessing='unit', which takes the size of the model."
        )


def _as_it_is(model: keras.Model, preprocessing: Preprocessing, why: str) -> Network:
    """A network of a model whose outputs stay what they are."""
    probe = preprocessing(np.zeros((1, *preprocessing.size, preprocessing.channels), np.uint8))
    kind = kind_of_outputs(model, np.asarray(call_model(model, probe)))
    if kind == "logits":
        return Network(model, preprocessing)
    note = (
        f"The model gives probabilities ({kind}), and these are explained: its logits cannot be "
        f"had. {why}"
    )
    return Network(model, preprocessing, activation=None, note=note.strip())


def _of_applications(name: str, weights: Any, nb_classes: int, preprocessing: Any) -> Network:
    """A model of keras.applications with a user's weights."""
    known = [
        found
        for found in dir(keras.applications)
        if inspect.isfunction(getattr(keras.applications, found))
    ]
    if name not in known:
        close = difflib.get_close_matches(name, known, 3, 0.5)
        question = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        raise ValueError(f"keras.applications has no model {name!r}{question}")
    if weights is None:
        raise ValueError(
            f"'keras:{name}' needs a file of weights, as `model.save_weights` writes it: nothing "
            "is downloaded, and random weights explain nothing. Where Keras may download, type "
            f"keras.applications.{name}(classifier_activation=None).save('model.keras'), and give "
            "that file."
        )
    if not Path(weights).is_file():
        raise ValueError(f"There is no file of weights {str(weights)!r}.")
    build = getattr(keras.applications, name)
    module = build.__module__.rpartition(".")[2]
    try:
        model = build(weights=None, classes=nb_classes, classifier_activation=None)
        model.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{str(weights)!r} holds no weights of {name} with {nb_classes} classes: "
            f"{str(error).splitlines()[0][:300]}"
        ) from error
    given = module if preprocessing is None else preprocessing
    network = _of_model(model, given, crop_fraction=0.875)
    if nb_classes == 1000:
        class_ids, class_names = imagenet_classes()
        network = replace(network, class_names=class_names, class_ids=class_ids)
    return network


def _with_preprocessing(network: Network, preprocessing: Any) -> Network:
    if preprocessing is None:
        return network
    if not isinstance(preprocessing, Preprocessing):
        function = _preprocess_function(preprocessing)
        preprocessing = replace(network.preprocessing, function=function)
    return replace(network, preprocessing=preprocessing)


def _preprocess_function(given: Any) -> Callable | str | None:
    """The function that a name stands for; a module of keras.applications keeps its name."""
    if not isinstance(given, str):
        if not callable(given):
            raise TypeError(
                f"`preprocessing` is a {type(given).__name__}; give a Preprocessing, a function of "
                "pictures, or a name."
            )
        return given
    if given in _SCALINGS:
        return _SCALINGS[given]
    return _function(given) if ":" in given else given


def _function(text: str) -> Callable:
    """The function of "module:function"; its module may be a file in the working directory."""
    module, _, name = text.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{text!r} cannot be had: {error}.") from error
    if not callable(found):
        raise ValueError(f"{text!r} is a {type(found).__name__}; give a function.")
    return found


def _called(text: str) -> Any:
    """What the user's function gives; an error in it is told with its place."""
    function = _function(text)
    try:
        return function()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"{text} raised {type(error).__name__}: {error} (line {place.lineno} of "
            f"{place.filename})"
        ) from error


def _read(path: Path) -> keras.Model:
    if not path.exists():
        raise ValueError(f"There is no file {str(path)!r}.")
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise ValueError(
            f"{str(path)!r} is there, but Keras cannot read a model from it: "
            f"{str(error).splitlines()[0][:300]}\nIf it has layers of your own, give "
            "'module:function', a function that builds or loads it."
        ) from error


def _names(given: Any, network: Network) -> tuple[str, ...]:
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        if not path.is_file():
            raise ValueError(f"There is no file of class names {str(path)!r}.")
        given = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        given = [line for line in given if line]
    names = tuple(map(str, given))
    if len(names) != network.nb_classes:
        raise ValueError(
            f"There are {len(names)} class names, and the model has {network.nb_classes} outputs; "
            "give one a class, in the order of the outputs."
        )
    return names
