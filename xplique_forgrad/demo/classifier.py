"""
The small networks that the demonstration explains, and how they were trained: a residual network,
its average-pooling twin, a vision transformer and a network of ConvNeXt's blocks.

The weights are shipped as float16. `python -m xplique_forgrad.demo.classifier` trains them anew.
"""

from __future__ import annotations

import argparse
import time
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ._architectures import NETWORKS, POOLINGS, build_convnext, build_residual, build_vit
from ._images import load_images


class _Recipe(NamedTuple):
    learning_rate: float
    warmup: float  # share of the steps
    batch_size: int


_RECIPES = {
    "residual": _Recipe(3e-3, 0.0, 64),
    "vit": _Recipe(1.5e-3, 0.15, 64),
    "convnext": _Recipe(2e-3, 0.1, 32),
}


def build_classifier(pooling: str | None = None, *, architecture: str = "residual") -> keras.Model:
    """
    Build an untrained network: inputs (N, 96, 96, 3) in [0, 1], outputs (N, 6) logits.

    Parameters
    ----------
    pooling
        Of the residual network alone. "max", the default, downsamples as ResNets do, by one max
        pooling and strided convolutions. "average" is the same network, weight for weight, that
        downsamples by average pooling alone.
    architecture
        "residual" is a residual network of 176,046 parameters with explicit ReLU layers. "vit" is
        a vision transformer of 193,030 parameters: patches of 8 x 8 pixels, learned positions, four
        blocks of attention. "convnext" is a network of 276,774 parameters with ConvNeXt's blocks.

    Returns
    -------
    model :
        A functional Keras model of Keras' own layers, logits out.

    Raises
    ------
    ValueError
        If `pooling` or `architecture` is unknown, or `pooling` is given with another architecture
        than "residual".

    Examples
    --------
    >>> build_classifier(architecture="vit").output_shape
    (None, 6)
    """
    name = _network_name(pooling, architecture)
    if name == "vit":
        return build_vit()
    if name == "convnext":
        return build_convnext()
    return build_residual(name)


def _network_name(pooling: str | None, architecture: str) -> str:
    """The name of the network among NETWORKS, which its file of weights bears."""
    if architecture not in _RECIPES:
        raise ValueError(
            f"`architecture` is {architecture!r}; it must be one of {tuple(_RECIPES)}."
        )
    if architecture != "residual":
        if pooling is not None:
            raise ValueError(
                f"`pooling` is {pooling!r} and `architecture` is {architecture!r}, but only the "
                "residual network has poolings to choose; leave out `pooling`, or ask for "
                "architecture='residual'."
            )
        return architecture
    pooling = "max" if pooling is None else pooling
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` is {pooling!r}; it must be one of {POOLINGS}.")
    return pooling


def load_classifier(pooling: str | None = None, *, architecture: str = "residual") -> keras.Model:
    """
    Load a trained network that is shipped with the package. Needs no internet.

    Parameters
    ----------
    pooling
        "max", the default, or "average", of the residual network; see `build_classifier`.
    architecture
        "residual", "vit" or "convnext", see `build_classifier`.

    Returns
    -------
    model :
        The network with its trained weights, not compiled.

    Raises
    ------
    ValueError
        If the network is unknown, see `build_classifier`.

    Examples
    --------
    >>> model = load_classifier()
    >>> model(load_images(2).inputs).shape
    TensorShape([2, 6])
    """
    model = build_classifier(pooling, architecture=architecture)
    name = _network_name(pooling, architecture)
    path = resources.files(__package__) / f"weights_{name}.npz"
    with path.open("rb") as file, np.load(file) as arrays:
        model.set_weights([arrays[weight.path].astype(np.float32) for weight in model.weights])
    return model


def train_classifier(
    pooling: str | None = None,
    nb_images: int = 10000,
    epochs: int = 16,
    seed: int = 0,
    verbose: int = 2,
    *,
    architecture: str = "residual",
) -> keras.Model:
    """
    Train a network from scratch: first on images filled by their texture, then on full ones.

    Parameters
    ----------
    pooling
        "max", the default, or "average", of the residual network; see `build_classifier`.
    nb_images
        Number of training images of each of the two parts.
    epochs
        Number of epochs, a quarter of them on the filled images.
    seed
        Seed of the weights, the images and their order.
    verbose
        As in `keras.Model.fit`.
    architecture
        "residual", "vit" or "convnext", see `build_classifier`.

    Returns
    -------
    model :
        The trained network.

    Raises
    ------
    ValueError
        If the network is unknown, see `build_classifier`.
    """
    keras.utils.set_random_seed(seed)
    model = build_classifier(pooling, architecture=architecture)
    recipe = _RECIPES[architecture]
    for zoom, nb_epochs in ((True, epochs // 4), (False, epochs - epochs // 4)):
        inputs, targets, _ = load_images(nb_images, seed=seed, split="train", zoom=zoom)
        steps = nb_epochs * (nb_images // recipe.batch_size)
        warmup_steps = int(recipe.warmup * steps)
        learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else recipe.learning_rate,
            steps - warmup_steps,
            warmup_target=recipe.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
        model.compile(
            keras.optimizers.AdamW(learning_rate, 1e-2),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.05),
            metrics=["accuracy"],
            jit_compile=False,
        )
        model.fit(
            _flipped_batches(inputs, targets, recipe.batch_size, seed),
            epochs=nb_epochs,
            shuffle=False,
            verbose=verbose,
        )
    return model


def _flipped_batches(
    inputs: np.ndarray, targets: np.ndarray, batch_size: int, seed: int
) -> tf.data.Dataset:
    flip = layers.RandomFlip("horizontal_and_vertical", seed=seed)
    return (
        tf.data.Dataset.from_tensor_slices((inputs, targets))
        .shuffle(len(inputs), seed=seed)
        .batch(batch_size, drop_remainder=True)
        .map(lambda images, labels: (flip(images, training=True), labels))
        .prefetch(2)
    )


def accuracy(model: keras.Model, seed: int, nb_images: int = 1000) -> float:
    r"""
    Share of held-out images that the model labels rightly.

    Parameters
    ----------
    model
        A model that gives logits for `load_images`.
    seed
        Seed of the held-out images.
    nb_images
        Number of images.

    Returns
    -------
    accuracy :
        Between 0 and 1. Its standard error is $\sqrt{a (1 - a) / n}$ for $n$ images.
    """
    inputs, targets, _ = load_images(nb_images, seed=seed, split="test")
    logits = model.predict(inputs, batch_size=64, verbose=0)
    return float(np.mean(np.argmax(logits, -1) == np.argmax(targets, -1)))


def main() -> None:
    """Train the networks and write their weights as float16."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=16)
    arguments = parser.parse_args()
    for name in arguments.network:
        start = time.perf_counter()
        network = {"pooling" if name in POOLINGS else "architecture": name}
        model = train_classifier(nb_images=arguments.images, epochs=arguments.epochs, **network)
        seconds = time.perf_counter() - start
        path = arguments.output / f"weights_{name}.npz"
        np.savez_compressed(
            path, **{weight.path: weight.numpy().astype(np.float16) for weight in model.weights}
        )
        print(
            f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {model.count_params()} parameters, "
            f"trained in {seconds:.0f} s, held-out accuracy {accuracy(model, seed=1):.3f}"
        )


if __name__ == "__main__":
    main()
