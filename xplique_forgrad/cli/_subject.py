"""
What the commands explain: a model and the images of a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click
import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from .._ranges import check_range
from ..images import ImageFolder, image_folder
from ..networks import Network, load_network
from ..plots import plot_maps
from ._options import OF_MODEL

# images of a figure
SHOWN = 6
# inputs of this many bytes are kept, so that each pass does not decode them again
_KEPT = 2**30


@dataclass(frozen=True)
class Subject:
    """What is explained: a network and the images of a folder."""

    network: Network
    images: ImageFolder

    @cached_property
    def dataset(self) -> tf.data.Dataset:
        """The images as inputs, with their targets where these are known."""
        found = self.images.dataset()
        nb_bytes = 4 * len(self.images) * int(np.prod(self.network.model.input_shape[1:]))
        if nb_bytes > _KEPT:
            return found
        # not dataset.cache(): one that is not read to its end may keep only what was read
        parts = [part if isinstance(part, tuple) else (part,) for part in found.batch(32)]
        whole = tuple(np.concatenate(columns) for columns in zip(*parts))
        return tf.data.Dataset.from_tensor_slices(whole if len(whole) > 1 else whole[0])

    @property
    def shown(self) -> np.ndarray:
        """Positions of some images, spread over the folder and so over its classes."""
        number = min(SHOWN, len(self.images))
        return np.linspace(0, len(self.images) - 1, number).round().astype(int)

    def gallery(self, raw: np.ndarray, treated: np.ndarray, titles: Sequence[str]) -> Figure:
        """Photograph, raw map, treated map if it is another, and overlay of the images shown."""
        maps = {titles[0]: raw, titles[1]: treated, "overlay": treated}
        axes = plot_maps(self.images.pictures(self.shown), maps, overlay=["overlay"])
        return axes[0, 0].figure


def open_subject(options: Mapping[str, Any]) -> Subject:
    """The network and the images; what was done about a softmax, and the accuracy, are told."""
    matplotlib.use("agg")
    network = load_network(
        **{name: options[name] for name in OF_MODEL if options[name] is not None}
    )
    if network.note:
        click.echo(f"Note: {network.note}", err=True)
    targets = options["targets"]
    images = image_folder(
        options["images"],
        network.preprocessing,
        targets=None if targets == "predicted" else targets,
        class_names=network.classes or None,
        nb_classes=network.nb_classes,
        limit=options["limit"],
        seed=options["seed"],
        unreadable="skip" if options["skip_unreadable"] else "raise",
    )
    check_range(network.model, lambda: network.preprocessing(images.pictures([0])))
    click.echo(
        f"{len(images)} images, classes: {_where_classes_are_from(images, options)}", err=True
    )
    return Subject(network, images)


def _where_classes_are_from(images: ImageFolder, options: Mapping[str, Any]) -> str:
    if images.labels is None:
        return "as the model predicts"
    given = options["targets"]
    if given == "auto":
        given = "labels.csv" if (images.folder / "labels.csv").is_file() else "folders"
    return f"from {given}"


def accuracy_of(
    subject: Subject, options: Mapping[str, Any], name: str = "The model"
) -> float | None:
    """Share of images whose class the model predicts, told, for a low one shows a mistake."""
    labels = subject.images.labels
    if labels is None:
        return None
    inputs = subject.dataset.map(lambda inputs, _: inputs).batch(options["batch_size"])
    outputs = subject.network.model.predict(inputs, verbose=0)
    accuracy = float(np.mean(np.argmax(outputs, axis=1) == labels))
    click.echo(f"{name} predicts the class of {accuracy:.1%} of them.", err=True)
    return accuracy
