"""
Kinds of images, series and volumes, for a model of Keras' own layers.
"""

import functools

import keras
import numpy as np
from keras import layers
from kinds import Case, Kind, Refused, Works, samples
from xplique.attributions import Saliency

# by the number of axes that are convolved along
_CONVOLUTIONS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
_POOLINGS = {1: layers.MaxPooling1D, 2: layers.MaxPooling2D, 3: layers.MaxPooling3D}
_MEANS = {
    1: layers.GlobalAveragePooling1D,
    2: layers.GlobalAveragePooling2D,
    3: layers.GlobalAveragePooling3D,
}


def small_network(shape, nb_classes=3, seed=0, has_channels=True):
    """A convolutional classifier of images, series or volumes of any size, with logits out."""
    keras.utils.set_random_seed(seed)
    image = keras.Input(shape)
    x = image if has_channels else layers.Reshape((*shape, 1))(image)
    rank = len(x.shape) - 2
    x = _CONVOLUTIONS[rank](8, 3, padding="same", activation="relu")(x)
    x = _POOLINGS[rank](2)(x)
    x = _CONVOLUTIONS[rank](8, 3, padding="same", activation="relu")(x)
    x = _MEANS[rank]()(x)
    return keras.Model(image, layers.Dense(nb_classes)(x))


def of_images(*shape, has_channels=True, dtype=np.float32, scale=1, **options):
    model = small_network(shape, has_channels=has_channels)
    inputs, targets = samples(*shape)

    def score(inputs, targets):
        return np.sum(np.asarray(model(inputs)) * targets, axis=-1)

    inputs = (scale * inputs).astype(dtype)
    return Case(model, inputs, targets, Saliency, (2, 4), score, **options)


_NO_IMAGES = "layers are analysed for images (N, H, W, C)"
_BEYOND_SERIES = {
    **dict.fromkeys(
        ("filter", "explainer", "search"), Works("Give the axes, as in `axes=(1, 2, 3)`.")
    ),
    "metrics": Works("MuFidelity refuses them by name."),
    "diagnose": Refused(_NO_IMAGES),
    "benchmark": Works("With `axes=(1, 2, 3)`, without MuFidelity."),
}

KINDS = [
    *(
        Kind("Inputs", name, functools.partial(of_images, *shape))
        for name, shape in {
            "images `(N, H, W, 3)`": (16, 16, 3),
            "grey `(N, H, W, 1)`": (16, 16, 1),
            "several channels `(N, H, W, 6)`": (16, 16, 6),
            "odd sizes": (15, 15, 3),
            "not square": (12, 20, 3),
        }.items()
    ),
    Kind(
        "Inputs",
        "images without channels `(N, H, W)`",
        functools.partial(of_images, 16, 16, has_channels=False, axes=(1, 2)),
        {
            **dict.fromkeys(
                ("filter", "explainer", "search", "benchmark"),
                Works("Give `axes=(1, 2)`: by itself all but the filter takes them for series."),
            ),
            "diagnose": Refused(_NO_IMAGES),
        },
    ),
    Kind("Inputs", "of float64", functools.partial(of_images, 16, 16, 3, dtype=np.float64)),
    Kind("Inputs", "of uint8", functools.partial(of_images, 16, 16, 3, dtype=np.uint8, scale=255)),
    Kind(
        "Inputs",
        "time series `(N, T, C)`",
        functools.partial(of_images, 32, 2),
        {"filter": Works("Give `axes=(1,)`."), "diagnose": Refused(_NO_IMAGES)},
    ),
    Kind(
        "Inputs",
        "volumes `(N, D, H, W, C)`",
        functools.partial(of_images, 6, 8, 10, 1, axes=(1, 2, 3)),
        _BEYOND_SERIES,
    ),
    Kind(
        "Inputs",
        "videos `(N, T, H, W, C)`",
        functools.partial(of_images, 6, 8, 10, 3, axes=(1, 2, 3)),
        _BEYOND_SERIES,
    ),
]
