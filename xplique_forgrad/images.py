"""
A folder of images as a dataset: class folders, a labels file, or no labels at all.
"""

from __future__ import annotations

import csv
import difflib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from unicodedata import normalize

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from ._checks import batch_shape, check_choice, check_count, check_seed
from ._notices import notify

_NO_IMAGE = "no image that Pillow can read"
# columns of a labels file, by preference
_FILE_COLUMNS = ("file", "filename", "path", "image")
_LABEL_COLUMNS = ("class", "label", "target", "index", "name")


@dataclass(frozen=True)
class Preprocessing:
    """
    What becomes of an image before a network sees it.

    The image is turned upright as its EXIF says, put on white where it is transparent, and made
    RGB with 8 bits. Of an animation the first frame counts; colour profiles are ignored. It is
    scaled, bicubic and antialiased, until it just covers `size / crop_fraction`, and the centre of
    `size` is kept. On square sizes these are the steps of torchvision: short side to
    `size / crop_fraction`, then a centre crop.

    Parameters
    ----------
    size
        Height and width of the network's inputs, in pixels; one number for both.
    function
        What becomes of the pixels, float32 of shape (N, H, W, channels) in [0, 255]: a function
        that treats each image alone and keeps the shape. The name of a module of
        `keras.applications`, such as "resnet50", stands for its `preprocess_input`. None leaves
        the pixels as they are.
    crop_fraction
        What the crop keeps of the scaled image's short side, in (0, 1]; 1 leaves no margin.
    channels
        3 for colour, 1 for grey.

    Raises
    ------
    ValueError
        If a number is out of range, or `keras.applications` has no module of that name.
    TypeError
        If the function is none.

    Examples
    --------
    >>> from PIL import Image
    >>> from xplique_forgrad.images import Preprocessing
    >>> preprocessing = Preprocessing(32, "mobilenet_v2")
    >>> pictures = preprocessing.pictures([Image.new("RGB", (80, 60), "orange")])
    >>> pictures.shape, pictures.dtype
    ((1, 32, 32, 3), dtype('uint8'))
    >>> inputs = preprocessing(pictures)
    >>> inputs.dtype, float(inputs.min()), float(inputs.max())
    (dtype('float32'), -1.0, 1.0)
    """

    size: tuple[int, int]
    function: Callable | str | None = None
    crop_fraction: float = 0.875
    channels: int = 3

    def __post_init__(self):
        size = self.size if isinstance(self.size, Sequence) else (self.size, self.size)
        if len(size) != 2:
            raise ValueError(f"`size` is {self.size!r}; give (height, width) in pixels.")
        for side in size:
            check_count("size", side)
        object.__setattr__(self, "size", (int(size[0]), int(size[1])))
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(
                f"`crop_fraction` is {self.crop_fraction!r}; give a number above 0, up to 1."
            )
        if self.channels not in (1, 3):
            raise ValueError(f"`channels` is {self.channels!r}; give 3 for colour, 1 for grey.")
        if isinstance(self.function, str):
            _preprocess_input(self.function)
        elif self.function is not None and not callable(self.function):
            raise TypeError(
                f"`function` is {self.function!r}; give a function, the name of a module of "
                "keras.applications, or None."
            )

    @classmethod
    def of(
        cls, model: Any, function: Callable | str | None = None, crop_fraction: float = 0.875
    ) -> Preprocessing:
        """
        The size and channels that a model takes.

        Parameters
        ----------
        model
            A Keras model of inputs (N, H, W, channels) with H and W fixed.
        function
            As of `Preprocessing`.
        crop_fraction
            As of `Preprocessing`.

        Returns
        -------
        preprocessing :
            For images of the model.

        Raises
        ------
        ValueError
            If the model's input shape names no fixed size, or other channels than 1 and 3.
        """
        shape: Any = getattr(model, "input_shape", None)
        is_images = isinstance(shape, tuple) and len(shape) == 4
        if not is_images or None in shape[1:] or shape[-1] not in (1, 3):
            raise ValueError(
                f"The model's input shape is {shape}; images need (None, height, width, 1 or 3) "
                "with a fixed size. Give the size: Preprocessing(size=(height, width))."
            )
        return cls(shape[1:3], function, crop_fraction, shape[3])

    def pictures(self, images: Iterable[Any]) -> np.ndarray:
        """
        Images, scaled and cropped: what a reader should see.

        Parameters
        ----------
        images
            Paths, Pillow images or uint8 arrays (H, W) or (H, W, 1, 3 or 4), of any sizes.

        Returns
        -------
        pictures :
            Of shape (N, height, width, channels), uint8.

        Raises
        ------
        ValueError
            If a file cannot be read, or an array is no image of 8 bits.
        """
        alone = isinstance(images, (str, os.PathLike, Image.Image))
        if alone or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise TypeError("`images` must be a list, or an array (N, H, W, C); give [image].")
        found = _in_threads(self._picture, images)
        return np.stack(found) if found else np.zeros((0, *self._shape), np.uint8)

    def __call__(self, pictures: Any) -> np.ndarray:
        """
        Inputs of the network.

        Parameters
        ----------
        pictures
            Of shape (N, height, width, channels), in [0, 255], as `pictures` gives them.

        Returns
        -------
        inputs :
            Of the same shape, float32.

        Raises
        ------
        ValueError
            If the pictures have another size, or the function changes the shape.
        """
        pixels = np.array(pictures, np.float32)
        if pixels.shape[1:] != self._shape:
            raise ValueError(
                f"Pictures have shape {pixels.shape} instead of {batch_shape(self._shape)}; "
                "make them with Preprocessing.pictures."
            )
        if self.function is None:
            return pixels
        function = self.function
        if isinstance(function, str):
            function = _preprocess_input(function)
        # shape first: the function may write into its argument
        shape, inputs = pixels.shape, np.asarray(function(pixels), np.float32)
        if inputs.shape != shape:
            raise ValueError(
                f"The preprocessing function made {inputs.shape} of {shape}; it must keep the "
                "shape. Scale and crop with `size` and `crop_fraction`."
            )
        return inputs

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (*self.size, self.channels)

    def _picture(self, image: Any) -> np.ndarray:
        """One image (height, width, channels), uint8."""
        if isinstance(image, (str, os.PathLike)):
            try:
                with Image.open(image) as opened:
                    return self._fitted(_upright(opened))
            except Exception as error:  # Pillow's readers raise whatever they meet
                raise ValueError(
                    f"{os.fspath(image)} cannot be read: {type(error).__name__}: {error}"
                ) from error
        if not isinstance(image, Image.Image):
            image = _image_of_array(image)
        return self._fitted(_upright(image))

    def _fitted(self, image: Image.Image) -> np.ndarray:
        image = _in_rgb(image)
        if self.channels == 1:
            image = image.convert("L")
        width, height = image.size
        box_height, box_width = (int(side / self.crop_fraction + 1e-6) for side in self.size)
        if box_height * width >= box_width * height:
            scaled_height, scaled_width = box_height, box_height * width // height
        else:
            scaled_height, scaled_width = box_width * height // width, box_width
        top = round((scaled_height - self.size[0]) / 2)
        left = round((scaled_width - self.size[1]) / 2)
        # the crop's place in the image: what it drops need not be computed
        box = (
            left * width / scaled_width,
            top * height / scaled_height,
            (left + self.size[1]) * width / scaled_width,
            (top + self.size[0]) * height / scaled_height,
        )
        fitted = image.resize(self.size[::-1], Image.Resampling.BICUBIC, box)
        return np.asarray(fitted).reshape(self._shape)


@dataclass(frozen=True, eq=False, repr=False)
class ImageFolder:
    """
    Images of a folder, with what is known of their classes.

    Parameters
    ----------
    folder
        Where they are.
    files
        Their paths, sorted.
    labels
        Indices of their classes (N,); None: the model's predictions stand for them.
    class_names
        Names of all classes in the order of the model's outputs; None if unknown.
    nb_classes
        Number of the model's outputs; None if unknown.
    skipped
        Files that are not used, each with the reason.
    preprocessing
        What becomes of each image.
    """

    folder: Path
    files: tuple[Path, ...]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    nb_classes: int | None
    skipped: Mapping[Path, str]
    preprocessing: Preprocessing

    def dataset(self, batch_size: int | None = None) -> tf.data.Dataset:
        """
        The images as a stream, read anew at each pass, in the order of `files`.

        Parameters
        ----------
        batch_size
            Number of images in a batch; None gives them one by one.

        Returns
        -------
        dataset :
            Of pairs (inputs, one-hot targets), float32; of inputs alone where there are no
            labels. Its length is known.

        Raises
        ------
        ValueError
            If the batch size is no integer of 1 or more.
        """
        if batch_size is not None:
            check_count("batch_size", batch_size)
        shape = self.preprocessing._shape

        def read(position: np.ndarray) -> np.ndarray:
            return self.preprocessing(self.preprocessing._picture(self.files[position])[None])[0]

        dataset = tf.data.Dataset.range(len(self)).map(
            lambda position: tf.ensure_shape(
                tf.numpy_function(read, [position], tf.float32), shape
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        if self.labels is not None:
            nb_classes = self.nb_classes
            targets = tf.data.Dataset.from_tensor_slices(self.labels)
            targets = targets.map(lambda label: tf.one_hot(label, nb_classes))
            dataset = tf.data.Dataset.zip((dataset, targets))
        if batch_size is not None:
            dataset = dataset.batch(batch_size)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def pictures(self, positions: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """
        Images as a reader should see them, held in memory.

        Parameters
        ----------
        positions
            Which ones, as indices of `files`; None for all.

        Returns
        -------
        pictures :
            Of shape (N, height, width, channels), uint8. `preprocessing(pictures)` makes inputs
            of them.
        """
        chosen = range(len(self)) if positions is None else positions
        return self.preprocessing.pictures([self.files[position] for position in chosen])

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        classes = "no labels"
        if self.labels is not None:
            classes = f"{len(np.unique(self.labels))} of {self.nb_classes} classes"
        return (
            f"ImageFolder({str(self.folder)!r}: {len(self)} images, {classes}, "
            f"{len(self.skipped)} {'file' if len(self.skipped) == 1 else 'files'} skipped)"
        )


def image_folder(
    folder: str | os.PathLike,
    preprocessing: Preprocessing,
    *,
    targets: str | os.PathLike | None = "auto",
    class_names: Sequence[str] | Mapping[str, int] | None = None,
    nb_classes: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    unreadable: str = "raise",
) -> ImageFolder:
    """
    Open a folder of images; each image that is used is checked now, and read when it is needed.

    Images are found by their content, at any depth. A file that is none, or that has no label, is
    skipped: a warning counts such files, and `skipped` names them. Hidden files and folders are
    passed over.

    Parameters
    ----------
    folder
        Where the images are.
    preprocessing
        What becomes of each; `Preprocessing.of(model)` takes the size from a model.
    targets
        - "folders": the first folder on the way to an image names its class.
        - a path: a table with a header, separated by commas, semicolons or tabs. Its column
          "file", "filename", "path" or "image" (else its first) names files, relative to the
          folder, or by their bare name. Its column "class", "label", "target", "index" or "name"
          (else its second) is the class.
        - None: no labels. The class that the model predicts stands for them.
        - "auto": "labels.csv" of the folder if there is one; else "folders" if `class_names` or
          `nb_classes` is given and knows all folders in it; else None.
    class_names
        Names in the order of the model's outputs, or indices by name, where several names may
        have one index. A class may be given by its index, too. Without names, those found count
        in sorted order, as in `keras.utils.image_dataset_from_directory`; if they are all numbers
        and `nb_classes` is given, they are indices.
    nb_classes
        Number of the model's outputs.
    limit
        Use so many images, drawn at random; all if there are fewer.
    seed
        Seed of the draw.
    unreadable
        "raise": damaged images are an error. "skip": they are skipped like files that are none.

    Returns
    -------
    images :
        The images; `images.dataset()` goes to a search.

    Raises
    ------
    ValueError
        If there is no such folder or no image in it, if a class is unknown, a listed file missing
        or an image damaged.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from PIL import Image
    >>> from xplique_forgrad.images import Preprocessing, image_folder
    >>> folder = Path(mkdtemp())
    >>> for name, colour in [("carrot", "orange"), ("sky", "blue")]:
    ...     (folder / name).mkdir()
    ...     Image.new("RGB", (80, 60), colour).save(folder / name / "1.png")
    >>> images = image_folder(folder, Preprocessing(32, "mobilenet_v2"), targets="folders")
    >>> len(images), images.class_names
    (2, ('carrot', 'sky'))
    >>> inputs, targets = next(iter(images.dataset(batch_size=2)))
    >>> inputs.shape, targets.numpy().tolist()
    (TensorShape([2, 32, 32, 3]), [[1.0, 0.0], [0.0, 1.0]])
    """
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            f"`preprocessing` is {preprocessing!r}; give a Preprocessing, for instance "
            "Preprocessing(224), or Preprocessing.of(model)."
        )
    check_choice("unreadable", unreadable, ("raise", "skip"))
    check_seed(seed)
    if limit is not None:
        check_count("limit", limit)
    folder = Path(folder)
    found = _files_of(folder)
    classes = _known_classes(class_names, nb_classes)
    given = _given_labels(targets, folder, found, classes)
    labels: dict[Path, int] = {}
    skipped: dict[Path, str] = {}
    if given is not None:
        classes = _classes_among(given, classes)
        labels = {file: classes.index(label, given) for file, label in given.labels.items()}
        skipped.update(given.unlabelled)
    files, faults = _drawn(sorted(labels) if given else list(found), limit, seed)
    damaged = {file: fault for file, fault in faults.items() if fault != _NO_IMAGE}
    if damaged and unreadable == "raise":
        raise ValueError(
            f"{folder}: {_files_with_reasons(damaged, folder)} cannot be read. Mend or remove "
            'them, or give unreadable="skip".'
        )
    skipped.update(faults)
    if not files:
        raise ValueError(
            f"{folder} has no image to use: {_files_with_reasons(skipped, folder)}. Give a folder "
            "of images."
        )
    if skipped:
        notify(f"{folder}: skipped {_files_with_reasons(skipped, folder)}.")
    return ImageFolder(
        folder=folder,
        files=tuple(files),
        labels=np.array([labels[file] for file in files]) if given else None,
        class_names=classes.names if classes else None,
        nb_classes=classes.count if classes else None,
        skipped=skipped,
        preprocessing=preprocessing,
    )


class _Labels(NamedTuple):
    """Labels of files in words, files that have none, all classes that are named, the source."""

    labels: dict[Path, str]
    unlabelled: dict[Path, str]
    classes: list[str]
    source: str


@dataclass(frozen=True)
class _Classes:
    """Classes by name; classes may share a name. Without names there are indices alone."""

    indices: Mapping[str, Sequence[int]]
    names: tuple[str, ...] | None
    count: int

    def knows(self, label: str) -> bool:
        return label in self.indices if self.indices else self._is_index(label)

    def index(self, label: str, given: _Labels) -> int:
        """Index of the class that is meant by its name or its index."""
        found = self.indices.get(label, ())
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{given.source}: {label!r} is the name of classes {_joined(found)}; give the "
                "index instead."
            )
        if self._is_index(label):
            return int(label)
        close = difflib.get_close_matches(label, self.indices, 1)
        question = f"; did you mean {close[0]!r}?" if close else "."
        name = f"a name such as {next(iter(self.indices))!r}, or " if self.indices else ""
        place = next(str(file) for file, found in given.labels.items() if found == label)
        raise ValueError(
            f"{given.source}: the class {label!r} of {place} is unknown{question} Allowed are "
            f"{name}an index from 0 to {self.count - 1}."
        )

    def _is_index(self, label: str) -> bool:
        return label.isdecimal() and int(label) < self.count


def _known_classes(
    names: Sequence[str] | Mapping[str, int] | None, nb_classes: int | None
) -> _Classes | None:
    """What is said of the classes; None for nothing."""
    if nb_classes is not None:
        check_count("nb_classes", nb_classes)
    if names is None or (isinstance(names, Mapping) and not names):
        return None if nb_classes is None else _Classes({}, None, nb_classes)
    if isinstance(names, str) or not len(names) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"`class_names` is {names!r}; give the names in the order of the model's outputs, or "
            "a mapping of names to indices."
        )
    if isinstance(names, Mapping):
        pairs = [(name, int(index)) for name, index in names.items()]
    else:
        pairs = [(name, index) for index, name in enumerate(names)]
        if nb_classes not in (None, len(names)):
            raise ValueError(
                f"`class_names` holds {len(names)} names for nb_classes={nb_classes}; give as many."
            )
    lowest, highest = min(index for _, index in pairs), max(index for _, index in pairs)
    count = nb_classes or highest + 1
    if lowest < 0 or highest >= count:
        raise ValueError(
            f"`class_names` holds indices from {lowest} to {highest}; give them from 0 to "
            f"{count - 1}."
        )
    indices: dict[str, list[int]] = {}
    first: dict[int, str] = {}
    for name, index in pairs:
        indices.setdefault(normalize("NFC", name), []).append(index)
        first.setdefault(index, name)
    return _Classes(indices, tuple(first.get(i, str(i)) for i in range(count)), count)


def _classes_among(given: _Labels, known: _Classes | None) -> _Classes:
    """The classes: those that are known by name, else those that the labels name."""
    names = sorted(set(given.classes))
    if known is not None and (known.indices or all(name.isdecimal() for name in names)):
        return known
    if all(name.isdecimal() for name in names):
        raise ValueError(
            f"{given.source}: the classes are numbers, {_joined(names)}; give nb_classes= if they "
            "are indices of the model's outputs, else class_names= in the order of its outputs."
        )
    if known is not None and known.count != len(names):
        raise ValueError(
            f"{given.source}: {len(names)} classes, {_joined(names)}, for "
            f"nb_classes={known.count}; give class_names= in the order of the model's outputs."
        )
    return _Classes({name: [i] for i, name in enumerate(names)}, tuple(names), len(names))


def _given_labels(
    targets: str | os.PathLike | None,
    folder: Path,
    found: Mapping[Path, str],
    known: _Classes | None,
) -> _Labels | None:
    """Labels as `targets` says; None where the model's predictions stand for them."""
    if targets == "auto":
        table, subfolders = folder / "labels.csv", _subfolders(folder)
        if table.is_file():
            targets = table
        else:
            targets = "folders" if _are_classes(subfolders, folder, known) else None
    if targets is None:
        return None
    if targets == "folders":
        return _labels_of_folders(folder, found)
    if not isinstance(targets, (str, os.PathLike)) or not Path(targets).is_file():
        missing = (
            "" if not isinstance(targets, (str, os.PathLike)) else ", and there is no such file"
        )
        raise ValueError(
            f"`targets` is {str(targets)!r}{missing}; give 'auto', 'folders', None, or the path "
            "of a labels file."
        )
    return _labels_of_table(Path(targets), folder, found)


def _are_classes(subfolders: list[str], folder: Path, known: _Classes | None) -> bool:
    """Whether all folders are known classes; a warning names those that are not among some."""
    if known is None or not subfolders:
        return False
    unknown = [name for name in subfolders if not known.knows(name)]
    if unknown and len(unknown) < len(subfolders):
        notify(
            f"{folder}: class folders are not used, since {_joined(unknown)} is no known class; "
            "the model's predictions stand for them. Rename or remove it, or give targets=None."
        )
    return not unknown


def _labels_of_folders(folder: Path, found: Mapping[Path, str]) -> _Labels:
    parts = {file: PurePosixPath(key).parts for file, key in found.items()}
    labels = {file: names[0] for file, names in parts.items() if len(names) > 1}
    if not labels:
        raise ValueError(
            f"{folder} has no class folders with images; give targets=None, or the path of a "
            "labels file."
        )
    outside = dict.fromkeys((file for file in found if file not in labels), "in no class folder")
    return _Labels(labels, outside, _subfolders(folder), "folders")


def _labels_of_table(table: Path, folder: Path, found: Mapping[Path, str]) -> _Labels:
    by_path, by_name = {}, defaultdict(list)
    for file, key in found.items():
        if not (file.name == table.name and file.samefile(table)):
            by_path[key] = file
            by_name[PurePosixPath(key).name].append(file)
    labels: dict[Path, str] = {}
    missing = []
    for listed, label in _rows(table, by_path):
        files = [by_path[listed]] if listed in by_path else by_name[listed]
        if len(files) > 1:
            raise ValueError(
                f"{table}: {listed!r} could be {_joined(files)}; give the path relative to "
                f"{folder}."
            )
        if not files:
            missing.append(listed)
        elif labels.setdefault(files[0], label) != label:
            raise ValueError(
                f"{table}: {listed!r} has two classes, {labels[files[0]]!r} and {label!r}; keep "
                "one line of it."
            )
    if missing:
        raise ValueError(
            f"{table}: {folder} lacks {_joined(missing)}; paths must be relative to it."
        )
    why = f"not listed in {table.name}"
    unlabelled = {file: why for file in by_path.values() if file not in labels}
    return _Labels(labels, unlabelled, list(labels.values()), table.name)


def _rows(table: Path, files: Mapping[str, Any]) -> list[tuple[str, str]]:
    """File and class of each row of a labels file."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as opened:
            first = opened.readline()
            opened.seek(0)
            reader = csv.reader(opened, delimiter=max(",;\t", key=first.count))
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{table} cannot be read as a table: {error}") from error
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if len(header) < 2 or len(rows) < 2:
        raise ValueError(
            f"{table} is no table of files and classes; give a header such as file,class and a "
            "row for each image."
        )
    file_column = next((header.index(name) for name in _FILE_COLUMNS if name in header), 0)
    default = 0 if file_column == 1 else 1
    label_column = next((header.index(name) for name in _LABEL_COLUMNS if name in header), default)
    found = []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{table}, line {line}: {len(row)} columns instead of {len(header)}; put values "
                "that hold a separator in quotes."
            )
        name = PurePosixPath(row[file_column].strip().replace("\\", "/"))
        found.append((normalize("NFC", str(name)), normalize("NFC", row[label_column].strip())))
    if found[0][0] in files:
        raise ValueError(f"{table} starts with a file; put a header such as file,class first.")
    return found[1:]


def _files_of(folder: Path) -> dict[Path, str]:
    """Files at any depth, sorted, with their path in the folder; hidden ones are left out."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {what}; give a folder of images.")

    def refuse(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}.") from error

    found, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # links may lead back
        place = os.path.realpath(parent)
        folders[:] = [] if place in seen else [name for name in folders if name[0] != "."]
        if place not in seen:
            found += [Path(parent, name) for name in names if name[0] != "."]
        seen.add(place)
    if not found:
        raise ValueError(f"{folder} is empty; give a folder of images.")
    return {file: normalize("NFC", file.relative_to(folder).as_posix()) for file in sorted(found)}


def _subfolders(folder: Path) -> list[str]:
    return [
        normalize("NFC", path.name)
        for path in folder.iterdir()
        if path.is_dir() and path.name[0] != "."
    ]


def _drawn(
    candidates: Sequence[Path], limit: int | None, seed: int
) -> tuple[list[Path], dict[Path, str]]:
    """Up to `limit` images without fault, sorted, and the faults of files that were drawn."""
    waiting = list(candidates)
    if limit is not None and limit < len(candidates):
        order = np.random.default_rng(seed).permutation(len(candidates))
        waiting = [candidates[position] for position in order]
    kept: list[Path] = []
    faults: dict[Path, str] = {}
    while waiting and (limit is None or len(kept) < limit):
        size = len(waiting) if limit is None else limit - len(kept)
        drawn, waiting = waiting[:size], waiting[size:]
        for file, fault in zip(drawn, _in_threads(_fault, drawn)):
            if fault is None:
                kept.append(file)
            else:
                faults[file] = fault
    return sorted(kept), dict(sorted(faults.items()))


def _fault(file: Path) -> str | None:
    """Why a file cannot be used, if so."""
    try:
        if not file.is_file():
            return "no file that can be opened"
        with Image.open(file) as image:
            # a JPEG is read whole, but decoded at an eighth of its size
            image.draft("L", (1, 1))
            _in_rgb(_upright(image))
    except UnidentifiedImageError:
        return _NO_IMAGE
    except Exception as error:  # Pillow's readers raise whatever they meet
        return f"{type(error).__name__}: {error}"
    return None


def _upright(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    return image if upright is None else upright


def _in_rgb(image: Image.Image) -> Image.Image:
    """On white where it is transparent, 16 bits scaled to 8."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # Pillow would clip them
        image = Image.fromarray(np.clip(np.asarray(image) / 257 + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _image_of_array(image: Any) -> Image.Image:
    pixels = np.asarray(image)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not is_image or not pixels.size or pixels.dtype != np.uint8:
        raise ValueError(
            f"An image is {type(image).__name__} of shape {pixels.shape} and dtype {pixels.dtype}; "
            "give a path, a Pillow image, or uint8 (H, W) or (H, W, 1, 3 or 4)."
        )
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _preprocess_input(name: str) -> Callable:
    """The function of a module of keras.applications."""
    modules = [
        module
        for module, found in vars(keras.applications).items()
        if hasattr(found, "preprocess_input") and module != "imagenet_utils"
    ]
    if name not in modules:
        close = difflib.get_close_matches(name.lower(), modules, 1)
        question = f"did you mean {close[0]!r}? Its" if close else "its"
        raise ValueError(
            f"`function` is {name!r}, which is no module of keras.applications; {question} modules "
            f"are {', '.join(sorted(modules))}. 'none', 'unit' and 'signed' go to load_network: "
            "load_network(model, preprocessing='unit')."
        )
    module = getattr(keras.applications, name)
    return partial(module.preprocess_input, data_format="channels_last")


def _in_threads(function: Callable, items: Iterable[Any]) -> list:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(function, items))


def _files_with_reasons(reasons: Mapping[Path, str], folder: Path) -> str:
    count = f"{len(reasons)} file{'s' * (len(reasons) != 1)}"
    return f"{count} ({_joined(f'{f.relative_to(folder)}: {why}' for f, why in reasons.items())})"


def _joined(items: Iterable[object]) -> str:
    """The first three, and how many more."""
    first = list(items)
    more = f" and {len(first) - 3} more" if len(first) > 3 else ""
    return ", ".join(map(str, first[:3])) + more
