"""Folders of images, and what becomes of an image before a network sees it."""

import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from xplique.attributions import Saliency

from xplique_forgrad import SigmaOptimizer
from xplique_forgrad.images import Preprocessing, image_folder

PLAIN = Preprocessing(8, crop_fraction=1.0)
COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


def paint(path, colour="red", size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def damage(path):
    """A JPEG without its second half."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def read(path, preprocessing=PLAIN):
    return preprocessing.pictures([path])[0]


def stream(images, **options):
    return [np.asarray(part) for part in zip(*images.dataset(**options).as_numpy_iterator())]


@pytest.fixture
def folder(tmp_path):
    """Two images for each of three class folders."""
    for name in COLOURS:
        for i in (1, 2):
            paint(tmp_path / name / f"{i}.png", name)
    return tmp_path


# --- size and crop


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (90, 91), (40, 300)])
def test_square_sizes_scale_the_short_side_then_crop_the_centre(rng, shape):
    image = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    height, width = shape
    # 56 / 0.875 = 64
    scaled = (64 * width // height, 64) if width > height else (64, 64 * height // width)
    left, top = (round((side - 56) / 2) for side in scaled)
    expected = image.resize(scaled, Image.BICUBIC).crop((left, top, left + 56, top + 56))
    found = Preprocessing(56).pictures([image])[0]
    np.testing.assert_allclose(found.astype(int), np.asarray(expected, int), atol=1)


def test_other_sizes_are_covered_height_first():
    # 12 x 24 of an image that is 24 x 24: its middle rows
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[6:18] = 200
    found = Preprocessing((12, 24), crop_fraction=1.0).pictures([pixels])
    assert found.shape == (1, 12, 24, 3)
    assert (found == 200).all()


def test_quadrants_stay_where_they_are():
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[:40, :60], pixels[:40, 60:] = (255, 0, 0), (0, 255, 0)
    pixels[40:, :60], pixels[40:, 60:] = (0, 0, 255), (255, 255, 255)
    found = Preprocessing(32).pictures([pixels])[0]
    for rows, columns, colour in [
        (slice(0, 12), slice(0, 12), (255, 0, 0)),
        (slice(0, 12), slice(20, 32), (0, 255, 0)),
        (slice(20, 32), slice(0, 12), (0, 0, 255)),
        (slice(20, 32), slice(20, 32), (255, 255, 255)),
    ]:
        assert (found[rows, columns] == colour).all()


def test_fine_stripes_average_out():
    stripes = np.zeros((160, 160), np.uint8)
    stripes[:, ::2] = 255
    found = Preprocessing(16, crop_fraction=1.0).pictures([stripes])[0, 2:-2, 2:-2]
    np.testing.assert_allclose(found, 127.5, atol=2)


def test_an_extreme_shape_needs_no_memory():
    assert read(Image.new("RGB", (30_000, 1), "green"), Preprocessing(299)).shape == (299, 299, 3)


# --- kinds of files


def test_exif_turns_upright(tmp_path):
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the top comes to the right
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    found = read(tmp_path / "turned.png", Preprocessing(20, crop_fraction=1.0))
    assert (found[:, 10:] == 255).all()
    assert (found[:, :10] == 0).all()


def transparent(mode):
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 5, 10))
    if mode == "P":
        palette = Image.new("P", (10, 10), 1)
        palette.putpalette([255, 0, 0, 0, 0, 0])
        palette.paste(0, (0, 0, 5, 10))
        palette.info["transparency"] = 1
        return palette
    return image


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    transparent(mode).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", Preprocessing(10, crop_fraction=1.0))
    assert (found[:, :5] == (255, 0, 0)).all()
    assert (found[:, 5:] == 255).all()


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (lambda: Image.new("L", (9, 9), 70), "a.png", (70, 70, 70)),
        (lambda: Image.new("1", (9, 9), 1), "a.png", (255, 255, 255)),
        (lambda: Image.new("LA", (9, 9), (70, 255)), "a.png", (70, 70, 70)),
        (lambda: Image.new("RGB", (9, 9), (255, 0, 0)).convert("P"), "a.bmp", (255, 0, 0)),
        (lambda: Image.fromarray(np.full((9, 9), 257 * 90, np.uint16)), "a.png", (90, 90, 90)),
        (lambda: Image.fromarray(np.full((9, 9), 257 * 90, np.uint16)), "a.tiff", (90, 90, 90)),
        (lambda: Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "a.tiff", (255, 0, 0)),
        (lambda: Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "a.jpg", (255, 0, 0)),
        (lambda: Image.new("RGB", (9, 9), (0, 0, 255)), "without_suffix", (0, 0, 255)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, make, name, expected):
    make().save(tmp_path / name, format=None if "." in name else "PNG")
    images = image_folder(tmp_path, PLAIN)
    np.testing.assert_allclose(images.pictures()[0].astype(int) - expected, 0, atol=2)


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (9, 9), colour) for colour in COLOURS]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read(tmp_path / "a.gif") == COLOURS["red"]).all()


def test_grey_images_for_networks_of_one_channel():
    grey = Preprocessing(8, channels=1)
    found = grey.pictures([Image.new("RGB", (9, 9), "white"), np.full((5, 7, 1), 40, np.uint8)])
    assert found.shape == (2, 8, 8, 1)
    assert (found[0] == 255).all()
    assert (found[1] == 40).all()


def test_what_is_no_image_of_eight_bits_is_refused(tmp_path):
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            PLAIN.pictures([wrong])
    for alone in (tmp_path / "a.png", "a.png", np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(TypeError, match=r"give \[image\]"):
            PLAIN.pictures(alone)
    with pytest.raises(ValueError, match=r"nowhere\.png cannot be read"):
        PLAIN.pictures([tmp_path / "nowhere.png"])
    assert PLAIN.pictures([]).shape == (0, 8, 8, 3)


# --- the function of the pixels


@pytest.mark.parametrize("module", ["resnet50", "mobilenet_v2", "densenet", "efficientnet"])
def test_preprocessing_by_name_is_that_of_keras(rng, module):
    pictures = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    before = pictures.copy()
    theirs = getattr(keras.applications, module).preprocess_input(pictures.astype(np.float32))
    found = Preprocessing(8, module)(pictures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, theirs, rtol=1e-6)
    np.testing.assert_array_equal(pictures, before)


def test_a_function_gets_pixels_of_its_own(rng):
    pictures = rng.uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    before = pictures.copy()

    def halve(pixels):
        pixels /= 2
        return tf.constant(pixels)

    np.testing.assert_array_equal(Preprocessing(8, halve)(pictures), before / 2)
    np.testing.assert_array_equal(pictures, before)
    np.testing.assert_array_equal(Preprocessing(8)(pictures), before)


def test_a_function_must_keep_the_shape():
    with pytest.raises(ValueError, match="must keep the shape"):
        Preprocessing(8, lambda pixels: pixels[:, ::2])(np.zeros((1, 8, 8, 3)))
    for wrong in ((8, 8, 3), (1, 9, 8, 3)):
        with pytest.raises(ValueError, match="instead of"):
            PLAIN(np.zeros(wrong))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "`size`"),
        ({"size": (8, 8, 3)}, "height, width"),
        ({"crop_fraction": 0}, "`crop_fraction`"),
        ({"crop_fraction": 1.1}, "`crop_fraction`"),
        ({"channels": 4}, "`channels`"),
        ({"function": "ResNet50"}, "did you mean 'resnet50'.*mobilenet_v2"),
    ],
)
def test_preprocessing_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"size": 8, **options})


def test_a_function_is_no_number():
    with pytest.raises(TypeError, match="`function`"):
        Preprocessing(8, 255)


def test_a_model_says_its_size(classifier):
    found = Preprocessing.of(classifier, "resnet50", crop_fraction=0.9)
    assert found == Preprocessing((96, 96), "resnet50", 0.9, channels=3)
    for shape in ((None, None, None, 3), (None, 3, 8, 8), (None, 8), None):
        with pytest.raises(ValueError, match=r"Preprocessing\(size="):
            Preprocessing.of(SimpleNamespace(input_shape=shape))


# --- labels


def test_class_folders_count_in_the_order_of_keras(folder):
    images = image_folder(folder, PLAIN, targets="folders")
    theirs = keras.utils.image_dataset_from_directory(
        folder, image_size=(8, 8), shuffle=False, label_mode="categorical", verbose=False
    )
    inputs, targets = stream(images)
    for found, expected in zip((inputs, targets), next(theirs.as_numpy_iterator())):
        np.testing.assert_array_equal(found, expected)
    assert list(images.class_names) == theirs.class_names
    assert repr(images).endswith("6 images, 3 of 3 classes, 0 files skipped)")


def test_class_folders_follow_the_names_of_the_model(folder):
    names = ["blue", "black", "green", "red"]
    images = image_folder(folder, PLAIN, targets="folders", class_names=names)
    for file, label in zip(images.files, images.labels, strict=True):
        assert names[label] == file.parent.name
    by_alias = {"sky": 0, "blue": 0, "grass": 1, "green": 1, "blood": 2, "red": 2}
    images = image_folder(folder, PLAIN, class_names=by_alias)
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.class_names == ("sky", "grass", "blood")


def test_folders_may_be_indices(tmp_path):
    for index in (2, 10, 11):
        paint(tmp_path / str(index) / "deeper" / "1.png")
    images = image_folder(tmp_path, PLAIN, nb_classes=12)
    assert images.labels.tolist() == [10, 11, 2]
    assert images.class_names is None
    assert next(iter(images.dataset()))[1].shape == (12,)
    # a network whose classes have no names
    assert image_folder(tmp_path, PLAIN, nb_classes=12, class_names={}).labels.tolist() == [
        10,
        11,
        2,
    ]
    with pytest.raises(ValueError, match="nb_classes="):
        image_folder(tmp_path, PLAIN, targets="folders")
    with pytest.raises(ValueError, match="'11' of .* is unknown.*from 0 to 10"):
        image_folder(tmp_path, PLAIN, targets="folders", nb_classes=11)


def test_names_that_are_numbers_come_before_indices(tmp_path):
    for name in ("0", "1"):
        paint(tmp_path / name / "1.png")
    images = image_folder(tmp_path, PLAIN, targets="folders", class_names=["1", "0"])
    assert images.labels.tolist() == [1, 0]


def test_unknown_folders(folder):
    with pytest.raises(ValueError, match=r"'green' of .*1\.png is unknown; did you mean 'greens'"):
        image_folder(folder, PLAIN, targets="folders", class_names=["blue", "greens", "red"])
    with pytest.raises(ValueError, match=r"3 classes, blue, green, red, for nb_classes=5"):
        image_folder(folder, PLAIN, targets="folders", nb_classes=5)
    with pytest.raises(ValueError, match="'red' is the name of classes 1, 3"):
        image_folder(folder, PLAIN, targets="folders", class_names=["blue", "red", "green", "red"])
    with pytest.raises(ValueError, match="no class folders"):
        image_folder(folder / "red", PLAIN, targets="folders")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": "red"}, "`class_names`"),
        ({"class_names": []}, "`class_names`"),
        ({"class_names": ["a", "b"], "nb_classes": 3}, "2 names for nb_classes=3"),
        ({"class_names": {"a": 3}, "nb_classes": 3}, "from 0 to 2"),
        ({"nb_classes": 0}, "`nb_classes`"),
        ({"limit": 0}, "`limit`"),
        ({"seed": -1}, "`seed`"),
        ({"unreadable": "warn"}, "`unreadable`"),
        ({"targets": "folder"}, "`targets`"),
    ],
)
def test_options_that_cannot_be(folder, options, message):
    with pytest.raises(ValueError, match=message):
        image_folder(folder, PLAIN, **options)


def test_preprocessing_is_no_size(folder):
    with pytest.raises(TypeError, match="Preprocessing"):
        image_folder(folder, 224)


@pytest.mark.parametrize(
    "table",
    [
        "file,class\n{red},2\n{blue},0\n",
        "\ufeffname;Path\nred;./{red}\nblue;{blue}\n",
        'what\tLabel\n"{red}"\tred\n\n{blue}\t0\n',
        "id,file,class,name\nx,{red},red,cat\ny,{blue},blue,dog\n",
    ],
)
def test_a_table_of_labels(folder, table, tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "table.txt"
    path.write_text(table.format(red="red/1.png", blue="blue/2.png"), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"skipped 4 files .*not listed in table\.txt.*1 more"):
        images = image_folder(folder, PLAIN, targets=path, class_names=["blue", "green", "red"])
    assert [file.parent.name for file in images.files] == ["blue", "red"]
    assert images.labels.tolist() == [0, 2]
    assert len(images.skipped) == 4


def test_bare_names_and_unicode(tmp_path):
    paint(tmp_path / "été" / "naïve 猫.png")
    # the decomposed spelling, as some file systems keep it
    (tmp_path / "labels.csv").write_text(
        "file,class\nnai\u0308ve 猫.png,e\u0301te\u0301\n", "utf-8"
    )
    images = image_folder(tmp_path, PLAIN)
    assert images.class_names == ("été",)
    assert not images.skipped


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,class\nred/1.png,0\nred/7.png,0\nred/8.png,1", "lacks red/7.png, red/8.png"),
        ("file,class\n1.png,0", "'1.png' could be"),
        ("file,class\nred/1.png,0\nred/1.png,1", "two classes"),
        ("file,class\nred/1.png,red, dark", "line 2: 3 columns instead of 2"),
        ("red/1.png,0\nred/2.png,0", "file,class first"),
        ("file\nred/1.png", "no table"),
        ("", "no table"),
        ("file,class\nred/1.png,3", "'3' of .* is unknown.*from 0 to 2"),
        ("file,class\nred/1.png,", "'' of .* is unknown"),
        ("file,class\nred/1.png,-1", "'-1' of .* is unknown"),
    ],
)
def test_tables_that_do_not_fit(folder, table, message):
    (folder / "labels.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        image_folder(folder, PLAIN, class_names=list(COLOURS))


def test_indices_need_the_number_of_classes(folder):
    (folder / "labels.csv").write_text("file,class\nred/1.png,0")
    with pytest.raises(ValueError, match="nb_classes="):
        image_folder(folder, PLAIN)


def test_without_labels_there_are_inputs_alone(folder):
    images = image_folder(folder, PLAIN)
    assert images.labels is None
    assert images.dataset().element_spec == tf.TensorSpec((8, 8, 3), tf.float32)
    assert "no labels" in repr(images)
    known = image_folder(folder, PLAIN, targets=None, class_names=list(COLOURS))
    assert known.labels is None
    assert known.class_names == ("red", "green", "blue")


def test_auto_takes_what_it_knows(folder):
    with pytest.warns(UserWarning, match="class folders are not used, since blue is no known"):
        assert image_folder(folder, PLAIN, class_names=["red", "green"]).labels is None
    assert image_folder(folder, PLAIN, class_names=["one", "two"]).labels is None
    assert image_folder(folder, PLAIN, class_names=sorted(COLOURS)).labels is not None
    (folder / "labels.csv").write_text(
        "\n".join(["file,class", *(f"{name}/{i}.png,1" for name in COLOURS for i in (1, 2))])
    )
    assert set(image_folder(folder, PLAIN, class_names=sorted(COLOURS)).labels) == {1}


# --- files that are no images


def test_what_is_no_image_is_skipped_and_named(folder):
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.txt").write_text("nor this")
    (folder / "empty.png").touch()
    (folder / ".DS_Store").write_text("hidden")
    paint(folder / ".thumbnails" / "1.png")
    with pytest.warns(UserWarning, match="skipped 3 files .*empty.png: no image") as record:
        images = image_folder(folder, PLAIN)
    assert [warning.filename for warning in record] == [__file__]
    assert {file.name for file in images.skipped} == {"text.jpg", "notes.txt", "empty.png"}
    assert len(images) == 6
    assert "3 files skipped" in repr(images)


def test_images_outside_class_folders_are_skipped(folder):
    loose = paint(folder / "loose.png")
    with pytest.warns(UserWarning, match="in no class folder"):
        images = image_folder(folder, PLAIN, targets="folders")
    assert list(images.skipped) == [loose]


def test_damaged_images_are_an_error(folder):
    damaged = damage(folder / "red" / "3.jpg")
    with pytest.raises(ValueError, match=r'3\.jpg: .*truncated.*unreadable="skip"'):
        image_folder(folder, PLAIN)
    with pytest.warns(UserWarning, match="truncated"):
        images = image_folder(folder, PLAIN, unreadable="skip")
    assert list(images.skipped) == [damaged]
    assert len(images) == 6


def test_images_that_cannot_be_converted_are_damaged(folder):
    Image.new("F", (9, 9), 0.5).save(folder / "float.tiff")
    with pytest.raises(ValueError, match="floating-point"):
        image_folder(folder, PLAIN)


@pytest.mark.parametrize("opener", [(Image, "open"), (os, "scandir")])
def test_permission_denied_is_an_error(folder, monkeypatch, opener):
    theirs = getattr(*opener)

    def refuse(path, *args):
        if "red" in os.fspath(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return theirs(path, *args)

    monkeypatch.setattr(*opener, refuse)
    with pytest.raises(ValueError, match="red.*Permission denied"):
        image_folder(folder, PLAIN)


def test_links_are_followed_once(folder):
    try:
        (folder / "red" / "back").symlink_to(folder, target_is_directory=True)
        (folder / "red" / "lost.png").symlink_to(folder / "nowhere.png")
    except OSError:
        pytest.skip("no links here")
    with pytest.raises(ValueError, match=r"lost\.png: no file"):
        image_folder(folder, PLAIN)
    (folder / "red" / "lost.png").unlink()
    assert len(image_folder(folder, PLAIN)) == 6


def test_folders_without_images(tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        image_folder(tmp_path, PLAIN)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"no image to use: 1 file \(a\.txt"):
        image_folder(tmp_path, PLAIN)
    with pytest.raises(ValueError, match=r"a\.txt is no folder"):
        image_folder(tmp_path / "a.txt", PLAIN)
    with pytest.raises(ValueError, match="does not exist"):
        image_folder(tmp_path / "nowhere", PLAIN)


# --- a part of the folder


def test_a_limit_draws_at_random_and_sorts(tmp_path):
    files = [paint(tmp_path / f"{i:02}.png") for i in range(30)]
    drawn = image_folder(tmp_path, PLAIN, limit=10, seed=1).files
    assert len(drawn) == 10
    assert list(drawn) == sorted(drawn)
    assert drawn == image_folder(tmp_path, PLAIN, limit=10, seed=1).files
    assert drawn != image_folder(tmp_path, PLAIN, limit=10, seed=2).files
    assert image_folder(tmp_path, PLAIN, limit=99).files == tuple(files)


def test_a_limit_is_filled_up_with_images(tmp_path):
    for i in range(20):
        paint(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.json").write_text("{}")
    with pytest.warns(UserWarning, match="skipped"):
        images = image_folder(tmp_path, PLAIN, limit=18)
    assert len(images) == 18
    assert all(file.suffix == ".json" for file in images.skipped)


def test_a_limit_checks_no_more_than_it_uses(tmp_path):
    for i in range(40):
        damage(tmp_path / f"{i}.jpg")
    good = paint(tmp_path / "good.png")
    seed = next(
        s for s in range(999) if np.random.default_rng(s).permutation(41)[0] == 40
    )  # the last of the sorted files comes first
    assert image_folder(tmp_path, PLAIN, limit=1, seed=seed).files == (good,)


# --- the stream


def test_the_stream_is_the_same_at_each_pass(rng, tmp_path):
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text(
        "\n".join(["file,class", *(f"{i}.png,{i % 4}" for i in range(20))])
    )
    preprocessing = Preprocessing(8, "resnet50")
    images = image_folder(tmp_path, preprocessing, nb_classes=4)
    first, second, (batched, _) = stream(images), stream(images), stream(images, batch_size=10)
    inputs, targets = first
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(batched.reshape(inputs.shape), inputs)
    np.testing.assert_array_equal(inputs, preprocessing(images.pictures()))
    expected = [int(file.stem) % 4 for file in images.files]
    np.testing.assert_array_equal(targets, np.eye(4, dtype=np.float32)[expected])
    assert inputs.dtype == targets.dtype == np.float32
    assert int(images.dataset().cardinality()) == len(images) == 20
    assert int(images.dataset(8).cardinality()) == 3
    shapes = [spec.shape for spec in images.dataset().element_spec]
    assert shapes == [(8, 8, 3), (4,)]
    np.testing.assert_array_equal(images.pictures([3, 1]), images.pictures()[[3, 1]])
    with pytest.raises(ValueError, match="`batch_size`"):
        images.dataset(0)


def test_a_layer_of_keras_may_be_the_function(folder):
    scaled = image_folder(folder, Preprocessing(8, keras.layers.Rescaling(1 / 255)))
    inputs = np.stack(list(scaled.dataset().as_numpy_iterator()))
    np.testing.assert_allclose(inputs, scaled.pictures() / np.float32(255), rtol=1e-6)


def test_a_file_that_vanished_is_named(folder):
    images = image_folder(folder, PLAIN)
    images.files[3].unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"green/2\.png cannot be read"):
        list(images.dataset())


@pytest.mark.parametrize("labelled", [True, False])
def test_a_search_takes_a_folder(classifier, images, tmp_path, labelled):
    inputs, targets, _ = images
    names = [str(label) for label in range(targets.shape[1])]
    for i, (image, label) in enumerate(zip(np.asarray(inputs), np.argmax(targets, 1))):
        (tmp_path / names[label]).mkdir(exist_ok=True)
        Image.fromarray((image * 255).astype(np.uint8)).save(tmp_path / names[label] / f"{i}.png")
    preprocessing = Preprocessing.of(classifier, lambda pixels: pixels / 255, crop_fraction=1.0)
    given = {"class_names": names} if labelled else {"targets": None}
    found = image_folder(tmp_path, preprocessing, **given)
    optimizer = SigmaOptimizer(Saliency(classifier), sigmas=(2, 8), steps=2, strategy="exhaustive")
    search = optimizer.search(found.dataset())
    held = preprocessing(found.pictures())
    labels = found.labels if labelled else np.argmax(classifier.predict(held, verbose=0), 1)
    expected = optimizer.search(held, np.eye(len(names), dtype=np.float32)[labels])
    assert search.best_sigma == expected.best_sigma
    np.testing.assert_allclose(search.scores, expected.scores, rtol=1e-4, atol=1e-5)
