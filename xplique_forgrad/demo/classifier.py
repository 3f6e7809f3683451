"""
The small residual network that the demonstration explains, its average-pooling twin, and how
both were trained.

The weights are shipped as float16. `python -m xplique_forgrad.demo.classifier` trains them anew.
"""

from __future__ import annotations

import argparse
import time
from importlib import resources
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ._images import CLASS_NAMES, IMAGE_SIZE, load_images

POOLINGS = ("max", "average")


def build_classifier(pooling: str = "max") -> keras.Model:
    """
    Build the untrained network: inputs (N, 96, 96, 3) in [0, 1], outputs (N, 6) logits.

    Parameters
    ----------
    pooling
        "max" downsamples as ResNets do, by one max pooling and strided convolutions. "average"
        is the same network, weight for weight, that downsamples by average pooling alone.

    Returns
    -------
    model
        A functional Keras model of 176,046 parameters with explicit ReLU layers and logits out.

    Raises
    ------
    ValueError
        If `pooling` is unknown.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` is {pooling!r}; it must be one of {POOLINGS}.")

    def conv(x, filters, size, strides, name):
        averaged = strides > 1 and pooling == "average"
        x = layers.Conv2D(
            filters, size, 1 if averaged else strides, "same", use_bias=False, name=name
        )(x)
        if averaged:
            x = layers.AveragePooling2D(strides, padding="same", name=f"{name}_pool")(x)
        return layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)

    def block(x, filters, strides, name):
        shortcut = x
        x = layers.ReLU(name=f"{name}_relu1")(conv(x, filters, 3, strides, f"{name}_conv1"))
        x = conv(x, filters, 3, 1, f"{name}_conv2")
        if strides > 1:
            shortcut = conv(shortcut, filters, 1, strides, f"{name}_shortcut")
        return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, shortcut]))

    pool = layers.MaxPooling2D if pooling == "max" else layers.AveragePooling2D
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
    x = layers.ReLU(name="stem_relu")(conv(inputs, 24, 5, 2, "stem"))
    x = pool(3, 2, "same", name="pool")(x)
    x = block(x, 24, 1, "block1")
    x = block(x, 48, 2, "block2")
    x = block(x, 96, 2, "block3")
    x = layers.GlobalAveragePooling2D(name="features")(x)
    outputs = layers.Dense(len(CLASS_NAMES), name="logits")(x)
    return keras.Model(inputs, outputs, name=f"{pooling}_pooling_classifier")


def load_classifier(pooling: str = "max") -> keras.Model:
    """
    Load the trained network that is shipped with the package. Needs no network.

    Parameters
    ----------
    pooling
        "max" or "average", see `build_classifier`.

    Returns
    -------
    model
        The network with its trained weights, not compiled.

    Raises
    ------
    ValueError
        If `pooling` is unknown.

    Examples
    --------
    >>> model = load_classifier()
    >>> model(load_images(2).inputs).shape
    TensorShape([2, 6])
    """
    model = build_classifier(pooling)
    path = resources.files(__package__) / f"weights_{pooling}.npz"
    with path.open("rb") as file, np.load(file) as arrays:
        model.set_weights([arrays[weight.path].astype(np.float32) for weight in model.weights])
    return model


def train_classifier(
    pooling: str = "max", nb_images: int = 10000, epochs: int = 16, seed: int = 0, verbose: int = 2
) -> keras.Model:
    """
    Train the network from scratch: first on images filled by their texture, then on full ones.

    Parameters
    ----------
    pooling
        "max" or "average", see `build_classifier`.
    nb_images
        Number of training images of each of the two parts.
    epochs
        Number of epochs, a quarter of them on the filled images.
    seed
        Seed of the weights, the images and their order.
    verbose
        As in `keras.Model.fit`.

    Returns
    -------
    model
        The trained network.
    """
    keras.utils.set_random_seed(seed)
    model = build_classifier(pooling)
    batch_size = 64
    for zoom, nb_epochs in ((True, epochs // 4), (False, epochs - epochs // 4)):
        inputs, targets, _ = load_images(nb_images, seed=seed, split="train", zoom=zoom)
        steps = nb_epochs * (nb_images // batch_size)
        model.compile(
            keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(3e-3, steps), 1e-2),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.05),
            metrics=["accuracy"],
            jit_compile=False,
        )
        model.fit(
            _flipped_batches(inputs, targets, batch_size, seed),
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
    """
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
    accuracy
        Between 0 and 1. Its standard error is sqrt(a (1 - a) / nb_images).
    """
    inputs, targets, _ = load_images(nb_images, seed=seed, split="test")
    logits = model.predict(inputs, batch_size=64, verbose=0)
    return float(np.mean(np.argmax(logits, -1) == np.argmax(targets, -1)))


def main() -> None:
    """Train both networks and write their weights as float16."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--pooling", nargs="+", choices=POOLINGS, default=list(POOLINGS))
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=16)
    arguments = parser.parse_args()
    for pooling in arguments.pooling:
        start = time.perf_counter()
        model = train_classifier(pooling, arguments.images, arguments.epochs)
        seconds = time.perf_counter() - start
        path = arguments.output / f"weights_{pooling}.npz"
        np.savez_compressed(
            path, **{weight.path: weight.numpy().astype(np.float16) for weight in model.weights}
        )
        print(
            f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {model.count_params()} parameters, "
            f"trained in {seconds:.0f} s, held-out accuracy {accuracy(model, seed=1):.3f}"
        )


if __name__ == "__main__":
    main()
