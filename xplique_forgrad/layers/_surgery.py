"""
Copies of a model to compare it with: of fresh weights, or of other downsampling.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

from .._checks import batch_shape, check_choice, check_count, check_seed
from .._gradients import Inputs, Targets, checked_samples
from .._notices import notify
from ._blur import BlurPooling2D
from ._copying import carry_weights, copy_model, new_layer, sublayers

POOLINGS = ("average", "blur", None)
_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


class Replacement(NamedTuple):
    """
    One layer of which the downsampling was replaced.

    Attributes
    ----------
    layer
        Path of the layer, names of nested models first: "backbone/pool1_pool".
    was
        The layer in the original: "MaxPooling2D(3, strides 2)".
    becomes
        What stands for it in the copy: "AveragePooling2D(3, strides 2)".
    """

    layer: str
    was: str
    becomes: str


class PredictionChange(NamedTuple):
    r"""
    What a change of the model does to its predicted classes.

    The `*_error` are standard errors, $\sqrt{p (1 - p) / n}$ for $n$ images, which is 0 for a share
    $p$ of 0 or 1: there, few images do not tell the share of all.

    Attributes
    ----------
    agreement
        Share of images to which both models give the same class.
    accuracy_before, accuracy_after
        Share of images that the original, and the copy, label rightly; None without targets.
    nb_images
        Number of images.
    """

    agreement: float
    accuracy_before: float | None
    accuracy_after: float | None
    nb_images: int

    @property
    def agreement_error(self) -> float:
        """Standard error of the agreement."""
        return float(np.sqrt(self.agreement * (1.0 - self.agreement) / self.nb_images))

    @property
    def accuracy_before_error(self) -> float | None:
        """Standard error of the original's accuracy; None without targets."""
        share = self.accuracy_before
        return None if share is None else self._replace(agreement=share).agreement_error

    @property
    def accuracy_after_error(self) -> float | None:
        """Standard error of the copy's accuracy; None without targets."""
        share = self.accuracy_after
        return None if share is None else self._replace(agreement=share).agreement_error

    def __str__(self) -> str:
        text = (
            f"{self.agreement:.1%} ± {self.agreement_error:.1%} of {self.nb_images} images keep "
            "their predicted class"
        )
        if self.accuracy_before is None:
            return text
        return (
            f"{text}; accuracy {self.accuracy_before:.1%} ± {self.accuracy_before_error:.1%} "
            f"before, {self.accuracy_after:.1%} ± {self.accuracy_after_error:.1%} after"
        )


@dataclass(frozen=True, eq=False)
class Surgery:
    """
    A model of which the downsampling was replaced, and what was replaced.

    The copy has the weights of the original and is another function: nothing trained it for the
    new downsampling. `compare` tells how many predictions survive.

    Attributes
    ----------
    model
        The copy: a functional or Sequential Keras model, not compiled.
    replaced
        A `Replacement` for each replaced layer, in the order of the original; empty if the model
        had nothing to replace.
    original
        The model as it was given.
    """

    model: keras.Model = field(repr=False)
    replaced: tuple[Replacement, ...]
    original: keras.Model = field(repr=False)

    def compare(
        self, inputs: Inputs, targets: Targets = None, batch_size: int = 64
    ) -> PredictionChange:
        """
        Compare the predicted classes of the copy with those of the original.

        Parameters
        ----------
        inputs
            Array or Tensor of shape (N, ...), or a tf.data.Dataset of pairs (inputs, targets).
        targets
            One-hot labels of shape (N, nb_classes); a dataset of pairs brings its own.
            None for the class that the model predicts: then the agreement says all, and the
            accuracies are None.
        batch_size
            Number of images that are predicted at once.

        Returns
        -------
        change :
            Agreement and accuracies, with their standard errors.

        Raises
        ------
        ValueError
            If inputs or targets do not fit the model, the model gives no scores of two classes or
            more, or an output is NaN.

        Examples
        --------
        >>> from xplique_forgrad.demo import load_classifier, load_images
        >>> surgery = replace_downsampling(load_classifier("max"))
        >>> images = load_images(8)
        >>> surgery.compare(images.inputs, images.targets).nb_images
        8
        """
        check_count("batch_size", batch_size)
        samples = checked_samples(self.original, inputs, targets)
        nb_same = nb_right_before = nb_right_after = nb_images = 0
        for _, batch, labels in samples.batches(batch_size):
            before = _predicted_classes(self.original, batch)
            after = _predicted_classes(self.model, batch)
            truth = np.argmax(labels, axis=-1)
            nb_same += int(np.sum(before == after))
            nb_right_before += int(np.sum(before == truth))
            nb_right_after += int(np.sum(after == truth))
            nb_images += len(batch)
        is_labelled = samples.has_labels
        return PredictionChange(
            nb_same / nb_images,
            nb_right_before / nb_images if is_labelled else None,
            nb_right_after / nb_images if is_labelled else None,
            nb_images,
        )

    def to_frame(self) -> pd.DataFrame:
        """
        The replaced layers as a table.

        Returns
        -------
        frame :
            One row per replaced layer, with columns layer, was, becomes.

        Examples
        --------
        >>> from xplique_forgrad.demo import load_classifier
        >>> replace_downsampling(load_classifier("max")).to_frame().shape
        (6, 3)
        """
        return pd.DataFrame(self.replaced, columns=list(Replacement._fields))

    def __str__(self) -> str:
        if not self.replaced:
            return f"Nothing to replace in the model {self.original.name!r}."
        lines = [f"  {part.layer}: {part.was} -> {part.becomes}" for part in self.replaced]
        head = f"{len(lines)} layers of the model {self.original.name!r} replaced:"
        return "\n".join([head, *lines])


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """
    Copy a model with freshly initialised weights: the untrained network beside the trained one.

    Each weight is drawn by its layer's own initialiser; where the model's author gave that one a
    seed, by the same with another seed. Moving statistics of BatchNormalization start anew, the
    adapted ones of `keras.layers.Normalization` are kept: they describe the data. Any other layer
    starts as when it was made, so tables that were written into its weights later are lost.

    The random generators of Python and NumPy are put back afterwards, those of TensorFlow and Keras
    are not used. A custom layer that draws its weights from one of the latter without a seed is
    fresh, but differs at each call.

    Ref. Muzellec & al., Saliency strikes back (2024), https://arxiv.org/abs/2307.09591 (sec. 3.3);
    Adebayo & al., Sanity checks for saliency maps (2018), https://arxiv.org/abs/1810.03292.

    Parameters
    ----------
    model
        A functional or Sequential Keras model, also with such models inside. Left as it is.
    seed
        Seed of the weights, an integer of 0 or more.

    Returns
    -------
    model :
        A functional or Sequential model of the same layers, names, dtypes and trainable flags, not
        compiled. A subclass of these becomes a plain functional or Sequential model.

    Raises
    ------
    TypeError
        If the model is none of Keras.
    ValueError
        If the model is subclassed or not built, a layer cannot be copied, or `seed` is no integer
        of 0 or more.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier
    >>> trained = load_classifier()
    >>> untrained = randomize(trained, seed=1)
    >>> untrained.count_params() == trained.count_params()
    True
    """
    check_seed(seed)
    adapted = keras.layers.Normalization

    def copy_layer(layer, path, names):
        return (new_layer(layer, _with_other_seeds(layer.get_config())),)

    copy, layers = copy_model(model, copy_layer, seed)
    for path, old, new in layers:
        pairs = sublayers(old, new)
        carry_weights(path, [pair for pair in pairs if isinstance(pair[0], adapted)])
    return copy


def replace_downsampling(
    model: keras.Model,
    *,
    max_pool: str | None = "average",
    strides: str | None = "average",
) -> Surgery:
    """
    Copy a model with other downsampling: no max pooling, no strided convolution.

    The gradient of a strided layer skips pixels, that of max pooling takes one per window: both
    write checkerboards into gradients. Each such layer is replaced by one of the same output shape:

    - `strides="average"`: a convolution of strides s becomes the same of stride 1, then average
      pooling of size s, strides s and padding "same". "blur": then a `BlurPooling2D` of strides s,
      at the pixels that the strided convolution kept.
    - `max_pool="average"`: max pooling becomes average pooling of the same size, strides and
      padding; where its strides exceed its size it would still skip pixels, so there average
      pooling of stride 1 comes first, then one of size s. "blur": max pooling of stride 1, then a
      `BlurPooling2D` of strides s (MaxBlurPool).
    - None leaves these layers as they are.

    What follows the layer "x" is named "x_pool". An activation inside the convolution comes before
    the pooling. All weights are carried over, but the copy is another function than the original,
    less accurate unless it is trained again: `Surgery.compare` measures that. It also costs more: a
    convolution takes $s^2$ times its operations and memory, 256 times for a patch embedding of
    strides 16.

    Replaced are MaxPooling2D, Conv2D, DepthwiseConv2D and SeparableConv2D of strides above 1, also
    in nested functional and Sequential models. Layers in one or three dimensions, global pooling,
    slicing, space to depth and functions of `keras.ops` stay; so does what a custom layer holds,
    with a warning if that downsamples.

    Ref. Muzellec & al., Saliency strikes back (2024), https://arxiv.org/abs/2307.09591 (sec. 3.3);
    Zhang, Making convolutional networks shift-invariant again (2019),
    https://arxiv.org/abs/1904.11486.

    Parameters
    ----------
    model
        A functional or Sequential Keras model, also with such models inside. Left as it is.
    max_pool
        What replaces max pooling: "average", "blur" or None.
    strides
        What replaces the strides of convolutions: "average", "blur" or None.

    Returns
    -------
    surgery :
        The copy (`surgery.model`), and the replaced layers (`surgery.replaced`).

    Raises
    ------
    TypeError
        If the model is none of Keras.
    ValueError
        If the model is subclassed or not built, a layer cannot be copied, or an option is unknown.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier
    >>> surgery = replace_downsampling(load_classifier("max"))
    >>> surgery.replaced[0].becomes
    'Conv2D(5, strides 1) + AveragePooling2D(2, strides 2)'
    """
    check_choice("max_pool", max_pool, POOLINGS)
    check_choice("strides", strides, POOLINGS)
    replaced: list[Replacement] = []
    hidden: list[str] = []

    def choice(layer):
        is_pool = isinstance(layer, keras.layers.MaxPooling2D)
        if not (is_pool or isinstance(layer, _CONVOLUTIONS)) or max(layer.strides) == 1:
            return None
        return max_pool if is_pool else strides

    def copy_layer(layer, path, names):
        chosen = choice(layer)
        if chosen is None:
            pairs = sublayers(layer, layer)
            hidden.extend(f"{path}/{part.name}" for part, _ in pairs[1:] if choice(part))
            return (new_layer(layer, layer.get_config()),)
        parts = _replacing(layer, chosen, names)
        becomes = " + ".join(map(_description, parts))
        replaced.append(Replacement(path, _description(layer), becomes))
        return parts

    copy, layers = copy_model(model, copy_layer)
    for path, old, new in layers:
        carry_weights(path, sublayers(old, new))
    if hidden:
        notify(
            f"{len(hidden)} downsampling layers inside custom layers are not replaced: "
            f"{', '.join(hidden[:5])}{', ...' if len(hidden) > 5 else ''}. Only those of "
            "functional and Sequential models are."
        )
    return Surgery(copy, tuple(replaced), model)


def _replacing(layer: keras.Layer, chosen: str, names: set[str]) -> list[keras.Layer]:
    """The layers of the same output shape that stand for a downsampling one."""
    shared = {"data_format": layer.data_format, "dtype": layer.dtype_policy}
    if isinstance(layer, keras.layers.MaxPooling2D) and chosen == "average":
        skips = any(size < stride for size, stride in zip(layer.pool_size, layer.strides))
        strides = 1 if skips else layer.strides
        first = keras.layers.AveragePooling2D(
            layer.pool_size, strides, layer.padding, name=layer.name, **shared
        )
        if not skips:
            return [first]
    else:
        first = new_layer(layer, {**layer.get_config(), "strides": (1, 1)})
    name = _free_name(f"{layer.name}_pool", names)
    if chosen == "blur":  # at the pixels that the layer kept
        window = getattr(layer, "kernel_size", None) or layer.pool_size
        window = window if layer.padding == "same" else 1
        return [first, BlurPooling2D(layer.strides, window, name=name, **shared)]
    # of n outputs of stride 1, "same" pooling of strides s leaves ceil(n / s), as strides s did
    pool = keras.layers.AveragePooling2D(layer.strides, layer.strides, "same", name=name, **shared)
    return [first, pool]


def _free_name(wanted: str, names: set[str]) -> str:
    """The wanted name, or with the first number that makes it new; taken from now on."""
    name, number = wanted, 0
    while name in names:
        number += 1
        name = f"{wanted}_{number}"
    names.add(name)
    return name


def _description(layer: keras.Layer) -> str:
    """A layer as "Conv2D(3, strides 2)"."""
    size = getattr(layer, "kernel_size", getattr(layer, "pool_size", None))
    parts = [str(pair[0] if pair[0] == pair[1] else pair) for pair in (size, layer.strides) if pair]
    return f"{type(layer).__name__}({', strides '.join(parts) if size else f'strides {parts[0]}'})"


def _with_other_seeds(config: Any, is_initializer: bool = False) -> Any:
    """A config in which initialisers that have a seed have another one."""
    if isinstance(config, list):
        return [_with_other_seeds(value, is_initializer) for value in config]
    if not isinstance(config, dict):
        return config
    return {
        key: random.randint(1, 10**9)
        if is_initializer and key == "seed" and isinstance(value, int)
        else _with_other_seeds(value, is_initializer or str(key).endswith("initializer"))
        for key, value in config.items()
    }


def _predicted_classes(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    outputs = np.asarray(model(inputs, training=False), np.float32)
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"The model {model.name!r} gives outputs of shape "
            f"{batch_shape(outputs.shape[1:])}, which "
            "name no predicted class; compare models of outputs (N, nb_classes)."
        )
    if np.isnan(outputs).any():
        raise ValueError(
            f"The model {model.name!r} gives NaN, which names no predicted class. Look at its "
            "weights, and at the inputs for NaN and infinite values."
        )
    return np.argmax(outputs, axis=-1)
