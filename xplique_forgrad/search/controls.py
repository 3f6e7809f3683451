"""
Controls: maps that explain nothing of an image, to subtract what any map gains by filtering.

Insertion and Deletion reward contiguous, central regions, so that a low-pass raises the score of
maps that do not explain the image. A control gives such maps; they are filtered by the very
candidates, and scored on the same images with the same perturbation steps. What the filter gains
beyond them is the specific gain.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
from skimage.filters import sobel
from xplique.attributions.base import BlackBoxExplainer

from .._checks import batch_shape, check_count, check_seed
from .._samples import Batch
from .._tasks import DETECTION, SEGMENTATION, task_of
from ._explaining import Explaining

# how a verdict calls the map of each control
LABELS = {
    "other_image": "the map of another image",
    "phase": "the same map with random phases",
    "centre": "a centred Gaussian",
    "edges": "the edges of the image",
    "untrained": "the map of an untrained copy",
    "noise": "white noise",
    "other_class": "the map of another class",
}


@runtime_checkable
class Control(Protocol):
    """
    Anything that gives maps which explain nothing: write a class with these two members.

    A function of inputs, targets and explanations is one too. An attribute `fewest` says how many
    images `maps` needs together, if more than one.

    Attributes
    ----------
    name
        What results call it.

    Examples
    --------
    >>> class Shifted:
    ...     name = "shifted"
    ...
    ...     def maps(self, batch, explanations):
    ...         return np.roll(explanations, explanations.shape[1] // 2, axis=(1, 2))
    >>> isinstance(Shifted(), Control)
    True
    """

    name: str

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        """
        Maps that do not explain these images.

        Parameters
        ----------
        batch
            B samples: `batch.positions` in the data, `batch.inputs` and `batch.targets`.
        explanations
            Their explanations, of shape (B, ...), not filtered.

        Returns
        -------
        maps :
            Of the shape of the explanations; or (P, B, ...) for several of each image, whose scores
            are averaged. The same for the same batch.
        """
        ...


class OtherImage:
    """
    The map of another image: what the method and the photographs make alike for all images.

    Images are paired at random among those that are explained together, up to 64; each map serves
    `nb_partners` times.

    Parameters
    ----------
    nb_partners
        Number of other images for each; their scores are averaged.
    seed
        Seed of the pairs.

    Raises
    ------
    ValueError
        If a number is no integer, or out of range; in `maps`, if there are too few images.

    Examples
    --------
    >>> batch = Batch(np.arange(4), np.zeros((4, 8, 8, 1)), np.zeros((4, 2)))
    >>> explanations = np.arange(4.0)[:, None, None] * np.ones((4, 8, 8))
    >>> partners = OtherImage().maps(batch, explanations)[0, :, 0, 0]
    >>> bool(np.all(partners != np.arange(4)))
    True
    """

    name = "other_image"

    def __init__(self, nb_partners: int = 1, seed: int = 0):
        check_count("nb_partners", nb_partners)
        check_seed(seed)
        self.nb_partners, self.seed = int(nb_partners), seed

    @property
    def fewest(self) -> int:
        """Number of images that are needed together."""
        return self.nb_partners + 1

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        """Maps of other images of the batch, of shape (nb_partners, B, ...)."""
        nb_images = len(batch.positions)
        if nb_images < self.fewest:
            raise ValueError(
                f"The control 'other_image' takes {self.fewest} images or more, and there are "
                f"{nb_images}: give more images, fewer partners, another control, or control=None."
            )
        rng = np.random.default_rng((self.seed, int(batch.positions[0])))
        # a random cycle: nobody is its own neighbour
        cycle = rng.permutation(nb_images)
        partners = np.empty((self.nb_partners, nb_images), int)
        for distance, row in enumerate(partners, start=1):
            row[cycle] = np.roll(cycle, -distance)
        return explanations[partners]


class RandomPhases:
    r"""
    The map with the same amplitudes of all frequencies, and random phases: as smooth, but nowhere.

    It is $F^{-1}(|F(m)| e^{i \varphi})$ of a map $m$, with $\varphi$ the phases of white noise. The
    mean is kept.

    Parameters
    ----------
    axes
        Axes of the Fourier transform F.
    seed
        Seed of the phases.

    Raises
    ------
    ValueError
        If the seed is no integer of 0 or more.

    Examples
    --------
    >>> batch = Batch(np.arange(1), np.zeros((1, 8, 8, 1)), np.zeros((1, 2)))
    >>> explanations = np.random.default_rng(0).normal(size=(1, 8, 8))
    >>> maps = RandomPhases().maps(batch, explanations)
    >>> bool(np.allclose(abs(np.fft.fft2(maps)), abs(np.fft.fft2(explanations))))
    True
    """

    name = "phase"

    def __init__(self, axes: Sequence[int] = (1, 2), seed: int = 0):
        check_seed(seed)
        self.axes, self.seed = tuple(axes), seed

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        """Maps of the shape of the explanations."""
        values = explanations.astype(np.float64)
        spectrum = np.fft.rfftn(values, axes=self.axes)
        noise = np.fft.rfftn(_noise(batch, explanations, self.seed), axes=self.axes)
        phases = noise / np.where(noise == 0, 1, np.abs(noise))
        zero = tuple(0 if axis in self.axes else slice(None) for axis in range(values.ndim))
        # the mean keeps its sign
        phases[zero] = np.where(spectrum[zero].real < 0, -1, 1)
        sizes = [values.shape[axis] for axis in self.axes]
        found = np.fft.irfftn(np.abs(spectrum) * phases, s=sizes, axes=self.axes)
        return found.astype(_floating(explanations))


class Centre:
    r"""
    A Gaussian at the centre, the same for all images: where photographs have their subject.

    $\exp(-(x - n / 2)^2 / (2 (n / 4)^2))$ along each axis of $n$ pixels, multiplied.

    Parameters
    ----------
    axes
        Axes of the maps that have a centre.

    Examples
    --------
    >>> batch = Batch(np.arange(1), np.zeros((1, 9, 9, 1)), np.zeros((1, 2)))
    >>> maps = Centre().maps(batch, np.zeros((1, 9, 9)))
    >>> int(np.argmax(maps)) == 4 * 9 + 4
    True
    """

    name = "centre"

    def __init__(self, axes: Sequence[int] = (1, 2)):
        self.axes = tuple(axes)

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        """Maps of the shape of the explanations."""
        exponent = np.zeros(explanations.shape)
        for axis in self.axes:
            size = explanations.shape[axis]
            places = (np.arange(size) - (size - 1) / 2) / (size / 4)
            shape = [1] * explanations.ndim
            shape[axis] = size
            exponent -= 0.5 * (places**2).reshape(shape)
        return np.exp(exponent).astype(_floating(explanations))


class Edges:
    """
    Edges of the image by the Sobel filter of scikit-image: what stands out without any model.

    Parameters
    ----------
    axes
        Axes of the image along which edges are looked for.

    Examples
    --------
    >>> inputs = np.zeros((1, 8, 8, 3))
    >>> inputs[:, :, 4:] = 1
    >>> maps = Edges().maps(Batch(np.arange(1), inputs, np.zeros((1, 2))), np.zeros((1, 8, 8, 1)))
    >>> maps.shape, bool(maps[0, 4, 4, 0] > maps[0, 4, 0, 0])
    ((1, 8, 8, 1), True)
    """

    name = "edges"

    def __init__(self, axes: Sequence[int] = (1, 2)):
        self.axes = tuple(axes)

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        """Maps of the shape of the explanations."""
        inputs = _inputs_of(batch, self.name).astype(np.float64)
        shape = explanations.shape
        if inputs.shape != shape:
            # channels of an image share a map
            inputs = inputs.mean(axis=-1, keepdims=len(shape) == inputs.ndim)
        others = [axis for axis in range(1, inputs.ndim) if axis not in self.axes]
        lines = np.moveaxis(inputs, [0, *others], range(1 + len(others)))
        flat = lines.reshape(-1, *(inputs.shape[axis] for axis in self.axes))
        # along one axis it has a sign
        edges = np.abs([sobel(one) for one in flat]).reshape(lines.shape)
        found = np.moveaxis(edges, range(1 + len(others)), [0, *others])
        return np.broadcast_to(found, shape).astype(_floating(explanations))


class Noise:
    """
    White noise of a normal distribution: a map without any content.

    Parameters
    ----------
    seed
        Seed of the noise.

    Raises
    ------
    ValueError
        If the seed is no integer of 0 or more.

    Examples
    --------
    >>> batch = Batch(np.arange(2), np.zeros((2, 8, 8, 1)), np.zeros((2, 2)))
    >>> Noise().maps(batch, np.zeros((2, 8, 8))).shape
    (2, 8, 8)
    """

    name = "noise"

    def __init__(self, seed: int = 0):
        check_seed(seed)
        self.seed = seed

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        """Maps of the shape of the explanations."""
        return _noise(batch, explanations, self.seed).astype(_floating(explanations))


class Untrained:
    """
    The map of the same method on a copy of the model with random weights: what the image and the
    architecture make without anything learnt.

    Ref. Adebayo & al., Sanity checks for saliency maps (2018), https://arxiv.org/abs/1810.03292

    Parameters
    ----------
    explainer
        Explainer of Xplique. It is left as it is.
    seed
        Seed of the weights, see `layers.randomize`.

    Raises
    ------
    ValueError
        If the model cannot be copied.

    Examples
    --------
    >>> from xplique.attributions import Saliency
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, _ = load_images(8)
    >>> explainer = Saliency(load_classifier())
    >>> batch, maps = Batch(np.arange(8), inputs, targets), explainer.explain(inputs, targets)
    >>> Untrained(explainer).maps(batch, np.asarray(maps)).shape
    (8, 96, 96, 1)
    """

    name = "untrained"

    def __init__(self, explainer: Any, seed: int = 0):
        check_seed(seed)
        self.seed = seed
        self._explain = _explaining(_untrained_copy(explainer, seed), seed)

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        """Maps of the shape of the explanations."""
        found = self._explain(Batch(batch.positions, _inputs_of(batch, self.name), batch.targets))
        if np.array_equal(found, explanations):
            raise ValueError(
                "The control 'untrained' gives the very maps of the trained model, so the explainer"
                " does not look at the weights of the copy. Build one on the copy and give its "
                "maps: control=lambda inputs, targets, maps: explainer.explain(inputs, targets)."
            )
        return found


class OtherClass:
    """
    The map for another class of the same image, drawn at random: what it shows of any class.

    The classes of boxes and masks are drawn alike; the boxes and the zones stay where they are.

    Parameters
    ----------
    explainer
        Explainer of Xplique.
    seed
        Seed of the classes.

    Raises
    ------
    ValueError
        If the seed is no integer of 0 or more, or there is no other class to explain.

    Examples
    --------
    >>> from xplique.attributions import Saliency
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, _ = load_images(8)
    >>> explainer = Saliency(load_classifier())
    >>> batch, maps = Batch(np.arange(8), inputs, targets), explainer.explain(inputs, targets)
    >>> OtherClass(explainer).maps(batch, np.asarray(maps)).shape
    (8, 96, 96, 1)
    """

    name = "other_class"

    def __init__(self, explainer: Any, seed: int = 0):
        check_seed(seed)
        self.seed = seed
        self._explain = _explaining(explainer, seed)
        self._task = task_of(getattr(explainer, "inference_function", None))

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        """Maps of the shape of the explanations."""
        inputs, others = _inputs_of(batch, self.name), np.array(batch.targets)
        # where a target names a class; a view of the targets
        classes = others[..., 5:] if self._task == DETECTION else others
        has_rows = others.ndim == 2 or self._task in (DETECTION, SEGMENTATION)
        if not has_rows or classes.shape[-1] < 2:
            raise ValueError(
                f"The targets have shape "
                f"{batch_shape(others.shape[1:])}, which names no other class; "
                "the control 'other_class' takes one-hot targets of 2 classes or more. Give "
                "another control."
            )
        for position, one in zip(batch.positions, classes):
            rng = np.random.default_rng((self.seed, int(position)))
            one[...] = np.roll(one, rng.integers(1, classes.shape[-1]), axis=-1)
        return self._explain(Batch(batch.positions, inputs, others))


class _Function:
    """A function of inputs, targets and explanations as a control."""

    def __init__(self, function: Callable):
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def maps(self, batch: Batch, explanations: np.ndarray) -> np.ndarray:
        inputs = _inputs_of(batch, self.name)
        return np.asarray(self.function(inputs, batch.targets, explanations))


def check_control(control: Any) -> None:
    """Raise an error unless this is a control, its name, a function or None."""
    if isinstance(control, str):
        if control not in LABELS:
            raise ValueError(
                f"`control` is {control!r}; it must be one of {', '.join(map(repr, LABELS))}, an "
                "object with `name` and `maps`, a function of inputs, targets and explanations, or "
                "None."
            )
    elif isinstance(control, type):
        raise TypeError(
            f"The control is the class {control.__name__}; give an instance of it, as in "
            f"control={control.__name__}(...)."
        )
    elif not (control is None or isinstance(control, Control) or callable(control)):
        raise TypeError(
            f"`control` is a {type(control).__name__}; give a name such as 'other_image', an "
            "object with `name` and `maps`, a function of inputs, targets and explanations, or "
            "None."
        )


def make_control(
    control: Any, explainer: Any, axes: tuple[int, ...], seed: int, nb_images: int
) -> Control | None:
    """
    The control that a search uses.

    Raises
    ------
    ValueError
        If there are too few images, or no explainer for a control that takes one.
    """
    if control is None:
        return None
    made = _named(control, explainer, axes, seed) if isinstance(control, str) else control
    if not isinstance(made, Control):
        made = _Function(made)
    fewest = fewest_images(made)
    if nb_images < fewest:
        raise ValueError(
            f"The control {made.name!r} takes {fewest} images or more, and there are {nb_images}: "
            "give more images, another control, or control=None."
        )
    return made


def fewest_images(control: Control | None) -> int:
    """Number of images that a control needs together."""
    return int(getattr(control, "fewest", 1))


def control_maps(control: Control, batch: Batch, explanations: np.ndarray) -> np.ndarray:
    """
    Maps of a control, of shape (P, B, ...), checked.

    Raises
    ------
    ValueError
        If they have another shape than the explanations, or hold NaN or infinite values.
    """
    found = np.asarray(control.maps(batch, explanations))
    if found.shape == explanations.shape:
        found = found[np.newaxis]
    if found.shape[1:] != explanations.shape or not len(found):
        raise ValueError(
            f"The control {control.name!r} gave maps of shape {found.shape}; the explanations have "
            f"shape {explanations.shape}: give one map of the same shape for each, or several, of "
            f"shape {('P', *explanations.shape)}."
        )
    if found.dtype.kind not in "fiub":
        raise TypeError(
            f"The control {control.name!r} gave maps of dtype {found.dtype}; give real numbers."
        )
    bad = ~np.isfinite(found).reshape(len(found), len(explanations), -1).all(axis=(0, 2))
    if bad.any():
        raise ValueError(
            f"The control {control.name!r} gave NaN or infinite values for image "
            f"{batch.positions[int(np.argmax(bad))]}. Mend it, give another control, or "
            "control=None."
        )
    return found


def _named(name: str, explainer: Any, axes: tuple[int, ...], seed: int) -> Control:
    if name in ("untrained", "other_class"):
        if explainer is None:
            raise ValueError(
                f"The control {name!r} takes an explainer, and the explanations were given "
                "without one; give SigmaOptimizer(explainer, ...), or another control such as "
                "'other_image'."
            )
        return (Untrained if name == "untrained" else OtherClass)(explainer, seed)
    if name == "phase":
        return RandomPhases(axes, seed)
    if name in ("centre", "edges"):
        return (Centre if name == "centre" else Edges)(axes)
    return OtherImage(seed=seed) if name == "other_image" else Noise(seed)


def _explaining(explainer: Any, seed: int) -> Explaining:
    if not callable(getattr(explainer, "explain", None)):
        raise TypeError(
            f"The explainer is {explainer!r}; give an explainer of Xplique such as Saliency(model)."
        )
    return Explaining(lambda batch: explainer.explain(batch.inputs, batch.targets), seed)


def _untrained_copy(explainer: Any, seed: int) -> Any:
    """The explainer on a copy of its model with random weights."""
    from ..layers import randomize

    model = getattr(explainer, "model", None)
    try:
        if not isinstance(model, keras.Model):
            raise TypeError(f"its model is a {type(model).__name__}, and no Keras model.")
        return _with_model(explainer, model, randomize(model, seed))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The control 'untrained' cannot copy the model of {type(explainer).__name__}: {error} "
            "Give a function instead, control=lambda inputs, targets, maps: "
            "untrained_explainer.explain(inputs, targets), or another control."
        ) from error


def _with_model(explainer: Any, old: keras.Model, new: keras.Model) -> Any:
    """A copy of an explainer, of those that it wraps, and of the layers that it looks at."""
    found = copy.copy(explainer)
    for name, value in vars(explainer).items():
        if value is old:
            vars(found)[name] = new
        elif isinstance(value, BlackBoxExplainer):
            vars(found)[name] = _with_model(value, old, new)
        elif isinstance(value, keras.layers.Layer):
            vars(found)[name] = new.get_layer(value.name)
    return found


def _noise(batch: Batch, explanations: np.ndarray, seed: int) -> np.ndarray:
    """White noise of the shape of the explanations, the same for the same image."""
    shape = explanations.shape[1:]
    return np.stack(
        [
            np.random.default_rng((seed, int(position))).standard_normal(shape)
            for position in batch.positions
        ]
    )


def _inputs_of(batch: Batch, name: str) -> np.ndarray:
    if not batch.inputs.size:
        raise ValueError(
            f"The control {name!r} looks at the inputs, and an objective that scores all "
            "explanations at once keeps none; give control='other_image', or None."
        )
    return np.asarray(batch.inputs)


def _floating(explanations: np.ndarray) -> np.dtype:
    is_floating = np.issubdtype(explanations.dtype, np.floating)
    return explanations.dtype if is_floating else np.dtype(np.float32)
