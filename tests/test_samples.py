"""Samples in memory and from datasets."""

import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from xplique.attributions import Saliency

from xplique_forgrad import Deletion, SigmaOptimizer
from xplique_forgrad._models import weights_checksum
from xplique_forgrad._samples import StreamSamples, make_samples
from xplique_forgrad.layers import diagnose


@pytest.fixture
def data(rng):
    return rng.normal(size=(11, 4, 5, 3)).astype(np.float32), np.eye(11, 7, dtype=np.float32)


def datasets(inputs, targets):
    single = tf.data.Dataset.from_tensor_slices((inputs, targets))
    return {
        "single": single,
        "batched": single.batch(4),
        "prefetched": single.batch(3).prefetch(1),
        "generated": tf.data.Dataset.from_generator(
            lambda: zip(inputs, targets),
            output_signature=(tf.TensorSpec((4, 5, 3)), tf.TensorSpec((7,))),
        ),
    }


def test_a_dataset_that_lost_samples_is_refused(data):
    inputs, targets = (np.asarray(values, "f") for values in data[:2])
    nb_kept = [len(inputs)]

    def read():
        yield from zip(inputs[: nb_kept[0]], targets[: nb_kept[0]])

    spec = tuple(tf.TensorSpec(values.shape[1:], tf.float32) for values in (inputs, targets))
    samples = make_samples(tf.data.Dataset.from_generator(read, output_signature=spec))
    assert len(samples) == len(inputs)
    nb_kept[0] = 1
    with pytest.raises(ValueError, match=rf"has {len(inputs)} samples, and gave 1.*cache"):
        samples.fingerprints()


@pytest.mark.parametrize("kind", ["single", "batched", "prefetched", "generated"])
def test_a_dataset_gives_what_arrays_give(data, kind):
    streamed, held = make_samples(datasets(*data)[kind]), make_samples(*data)
    assert len(streamed) == len(held) == 11
    assert streamed.shape == held.shape == (4, 5, 3)
    np.testing.assert_array_equal(streamed.fingerprints(), held.fingerprints())
    for positions in (None, [2, 3, 9]):
        for ours, theirs in zip(streamed.batches(4, positions), held.batches(4, positions)):
            for part, expected in zip(ours, theirs):
                np.testing.assert_array_equal(part, expected)


def test_positions_of_arrays_keep_their_order(data):
    ((positions, inputs, _),) = make_samples(*data).batches(4, [9, 0, 5])
    np.testing.assert_array_equal(positions, [9, 0, 5])
    np.testing.assert_array_equal(inputs, data[0][[9, 0, 5]])


def test_integers_become_float32_batch_by_batch(data):
    samples = make_samples((data[0] * 50).astype(np.int16), data[1])
    assert samples.inputs.dtype == np.int16
    assert next(samples.batches(2))[1].dtype == np.float32


def test_a_dataset_of_another_order_is_refused(data):
    samples = make_samples(tf.data.Dataset.from_tensor_slices(data).shuffle(11, seed=0))
    samples.fingerprints()
    with pytest.raises(ValueError, match="reshuffle_each_iteration=False"):
        [list(samples.batches(4)) for _ in range(5)]


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.zeros((3, 4)), None, "`targets` is None"),
        (np.zeros((3, 4)), np.zeros((2, 5)), "same N"),
        (np.zeros((0, 4)), np.zeros((0, 5)), "at least one"),
        (np.zeros(3), np.zeros(3), "shape"),
    ],
)
def test_arrays_that_do_not_go_together(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        make_samples(inputs, targets)


def test_a_generator_is_no_input(data):
    with pytest.raises(TypeError, match=r"generator, which can be read once.*from_generator"):
        make_samples((image for image in data[0]), data[1])


def test_a_single_input_is_no_batch(data):
    model = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match=r"inputs\[None\], and its target as targets\[None\]"):
        make_samples(data[0][0], data[1][0], model)
    # of grey images the channel may lack
    grey = keras.Sequential([keras.Input((4, 5, 1)), keras.layers.Flatten()])
    assert make_samples(data[0][..., 0], data[1], grey).shape == (4, 5)
    with pytest.raises(ValueError, match=r"inputs\[None\]"):
        make_samples(data[0][0, ..., :1], data[1][0], grey)


def test_a_sequential_model_without_inputs_is_refused(data):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(7)])
    for ask in (
        lambda: make_samples(*data, model),
        lambda: Deletion(model, *data),
        lambda: SigmaOptimizer(Saliency, model=model, sigmas=[2]).search(*data),
        lambda: diagnose(model, *data),
    ):
        with pytest.raises(ValueError, match=r"Type model\.build\(\(None, H, W, C\)\)"):
            ask()
    model.build((None, 4, 5, 3))
    assert Deletion(model, *data).samples.shape == (4, 5, 3)


def test_datasets_that_cannot_be_used(data):
    dataset = tf.data.Dataset.from_tensor_slices(data)
    with pytest.raises(ValueError, match="brings its own targets"):
        make_samples(dataset, data[1])
    with pytest.raises(ValueError, match="never ends"):
        make_samples(dataset.repeat())
    with pytest.raises(ValueError, match="empty"):
        make_samples(dataset.take(0))
    with pytest.raises(ValueError, match="pairs"):
        make_samples(tf.data.Dataset.from_tensor_slices(data[0]))


def test_the_checksum_follows_the_weights(classifier):
    before = weights_checksum(classifier)
    weight = classifier.trainable_variables[0]
    value = weight.numpy()
    weight.assign(value + 1e-3)
    changed = weights_checksum(classifier)
    weight.assign(value)
    assert changed != before == weights_checksum(classifier)
    assert weights_checksum(lambda x: x) is None


@pytest.mark.parametrize("is_batched", [False, True])
def test_videos_for_a_model_of_unknown_inputs_are_told_from_batches_of_images(rng, is_batched):
    videos, targets = rng.normal(size=(5, 4, 6, 7, 3)), np.eye(5, 2)
    dataset = tf.data.Dataset.from_tensor_slices((videos, targets))
    dataset = dataset.batch(2).prefetch(1) if is_batched else dataset
    samples = make_samples(dataset, None, lambda inputs: inputs)
    assert len(samples) == 5
    assert samples.shape == (4, 6, 7, 3)


def test_a_search_holds_no_more_than_some_batches(rng, monkeypatch):
    inputs = rng.normal(size=(400, 6, 6, 3)).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[rng.integers(2, size=400)]
    layers = [keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    nb_alive, read = [], StreamSamples.batches

    def watched(self, *arguments):
        seen = []
        for batch in read(self, *arguments):
            seen.append(weakref.ref(batch.inputs))
            nb_alive.append(sum(one() is not None for one in seen))
            yield batch

    monkeypatch.setattr(StreamSamples, "batches", watched)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(32)
    model = keras.Sequential(layers)
    optimizer = SigmaOptimizer(
        Saliency(model), sigmas=[1], strategy="exhaustive", steps=2, activation="softmax"
    )
    assert optimizer.search(dataset, verbose=0).scores.shape[1] == len(inputs)
    # to know the samples, to score them, and for the control: each in several batches
    assert len(nb_alive) > 12
    assert max(nb_alive) <= 2
