"""
Images with a known answer, made from photographs that scikit-image and scikit-learn ship.

Each image is a crop of one photograph with a random blob filled by one of six natural textures.
The texture is the label, and the blob is where the evidence is: a ground truth that photographs
with human labels lack. Nothing is downloaded and nothing is stored; a seed gives the images.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage import color, data, draw, transform
from sklearn.datasets import load_sample_image

IMAGE_SIZE = 96
BLOB_SHARE = 0.18
TRAIN_SHARE = 0.65

CLASS_NAMES = ("brick", "grass", "gravel", "stars", "text", "coins")
"""Names of the classes of `load_images`, in the order of the targets."""

_TEXTURES = {
    "brick": data.brick,
    "grass": data.grass,
    "gravel": data.gravel,
    "stars": data.hubble_deep_field,
    "text": data.text,
    "coins": data.coins,
}
_BACKGROUNDS = {
    "astronaut": data.astronaut,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
    "motorcycle": lambda: data.stereo_motorcycle()[0],
    "camera": data.camera,
    "china": lambda: load_sample_image("china.jpg"),
    "flower": lambda: load_sample_image("flower.jpg"),
}


class LabelledImages(NamedTuple):
    """
    Images, their labels and where the evidence for the label lies.

    Attributes
    ----------
    inputs
        Images of shape (N, 96, 96, 3), float32 in [0, 1].
    targets
        One-hot labels of shape (N, 6), float32, in the order of `CLASS_NAMES`.
    masks
        Where the labelled texture is, of shape (N, 96, 96), bool. A share of 0.18 of each image.
    """

    inputs: np.ndarray
    targets: np.ndarray
    masks: np.ndarray


def load_images(
    nb_images: int, seed: int = 0, split: str = "test", zoom: bool = False
) -> LabelledImages:
    """
    Make images whose label is the texture inside a blob.

    Training and testing images share no pixel of their sources: they come from the left 65 % and
    the right 35 % of each photograph.

    Parameters
    ----------
    nb_images
        Number of images, at least 1. Labels are balanced up to one image per class.
    seed
        Seed of the generator. The same seed gives the same images, and the first images do not
        depend on how many follow.
    split
        "train" or "test": which part of the source photographs to draw from.
    zoom
        Fill about three quarters of the image with the blob (used for the first part of the
        training) rather than 18 %.

    Returns
    -------
    labelled_images :
        `LabelledImages(inputs, targets, masks)`.

    Raises
    ------
    ValueError
        If `nb_images` is below 1, `seed` is negative or `split` is unknown.

    Examples
    --------
    >>> inputs, targets, masks = load_images(4, seed=1)
    >>> inputs.shape, targets.shape, masks.shape
    ((4, 96, 96, 3), (4, 6), (4, 96, 96))
    """
    if nb_images < 1:
        raise ValueError(f"`nb_images` is {nb_images}; ask for at least 1 image.")
    if seed < 0:
        raise ValueError(f"`seed` is {seed}; it must be 0 or more.")
    if split not in ("train", "test"):
        raise ValueError(f"`split` is {split!r}; it must be 'train' or 'test'.")

    inputs = np.empty((nb_images, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    masks = np.empty((nb_images, IMAGE_SIZE, IMAGE_SIZE), bool)
    labels = np.empty(nb_images, int)
    for i in range(nb_images):
        # one generator per image: image i is the same whatever the number of images
        rng = np.random.default_rng([seed, split == "test", i])
        shuffled_classes = np.random.default_rng([seed, i // len(CLASS_NAMES)]).permutation(
            len(CLASS_NAMES)
        )
        labels[i] = shuffled_classes[i % len(CLASS_NAMES)]
        inputs[i], masks[i] = _make_image(rng, labels[i], split, 0.75 if zoom else BLOB_SHARE)

    targets = np.eye(len(CLASS_NAMES), dtype=np.float32)[labels]
    return LabelledImages(inputs, targets, masks)


@cache
def _source(name: str, split: str) -> np.ndarray:
    """One split of a source photograph: grey in [0, 1] for a texture, RGB for a background."""
    if name in _TEXTURES:
        photograph = _TEXTURES[name]()
        photograph = color.rgb2gray(photograph) if photograph.ndim == 3 else photograph / 255.0
    else:
        photograph = _BACKGROUNDS[name]() / 255.0
        if photograph.ndim == 2:
            photograph = color.gray2rgb(photograph)
    border = int(photograph.shape[1] * TRAIN_SHARE)
    part = photograph[:, :border] if split == "train" else photograph[:, border:]
    return part.astype(np.float32)


def _random_crop(
    rng: np.random.Generator, source: np.ndarray, scales: tuple[float, float]
) -> np.ndarray:
    """A random square of the source, its side `scales` times the image size, resized to it."""
    side = min(int(IMAGE_SIZE * rng.uniform(*scales)), *source.shape[:2])
    top, left = (int(rng.integers(0, length - side + 1)) for length in source.shape[:2])
    crop = source[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return transform.resize(crop, (IMAGE_SIZE, IMAGE_SIZE), order=1, anti_aliasing=False)


def _random_blob(rng: np.random.Generator, share: float) -> np.ndarray:
    """A smooth random region that covers `share` of the image."""
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] / IMAGE_SIZE
    center_row, center_column = rng.uniform(0.1, 0.9, size=2)
    angle, stretch = rng.uniform(0.0, np.pi), rng.uniform(1.0, 1.6)
    along = np.cos(angle) * (rows - center_row) + np.sin(angle) * (columns - center_column)
    across = np.cos(angle) * (columns - center_column) - np.sin(angle) * (rows - center_row)
    distance = np.hypot(along / stretch, across * stretch)
    field = ndimage.gaussian_filter(rng.standard_normal(rows.shape), sigma=9.0)
    height = 0.12 * field / np.std(field) - distance
    return height >= np.quantile(height, 1.0 - share)


def _make_image(
    rng: np.random.Generator, label: int, split: str, share: float
) -> tuple[np.ndarray, np.ndarray]:
    background = _random_crop(
        rng, _source(rng.choice(list(_BACKGROUNDS)), split), scales=(0.8, 1.3)
    )
    background = background * rng.uniform(0.7, 1.2, size=3) + rng.uniform(-0.1, 0.1)

    # the same distribution of brightness, contrast and tint in every class, so that only the
    # pattern tells the textures apart
    texture = _random_crop(rng, _source(CLASS_NAMES[label], split), scales=(1.2, 1.7))
    texture = (texture - np.mean(texture)) / (np.std(texture) + 1e-3)
    texture = rng.uniform(0.3, 0.7) + rng.uniform(0.12, 0.24) * texture
    texture = texture[..., None] * rng.uniform(0.7, 1.2, size=3)

    mask = _random_blob(rng, share)
    image = np.where(mask[..., None], texture, background)

    for _ in range(rng.integers(2, 6)):
        (row, column), (end_row, end_column) = rng.integers(0, IMAGE_SIZE, size=(2, 2))
        rows, columns = draw.line(row, column, end_row, end_column)
        image[rows, columns] = rng.uniform(0.0, 1.0, size=3)

    image += rng.normal(0.0, rng.uniform(0.0, 0.04), size=image.shape)
    return np.clip(image, 0.0, 1.0).astype(np.float32), mask
