"""Explanations that metrics read as a stream: of a dataset, asked of an explainer, from a file."""

import numpy as np
import pytest
import tensorflow as tf
from test_metrics import case
from xplique.attributions import Saliency

from xplique_forgrad import FORGrad
from xplique_forgrad.metrics import Deletion, Faithfulness, MuFidelity

KINDS = [Deletion, Faithfulness, MuFidelity]


class FromInputs:
    """An explainer whose maps are a sum of the inputs, and which knows what it was asked."""

    def __init__(self, nb_missing=0):
        self.sizes, self.nb_missing = [], nb_missing

    def explain(self, inputs, targets):
        assert len(inputs) == len(targets)
        self.sizes.append(len(inputs))
        return maps_of(inputs)[self.nb_missing :]


def maps_of(inputs):
    return np.asarray(inputs).sum(axis=-1, keepdims=True)


def dataset_of(*values):
    return tf.data.Dataset.from_tensor_slices(values if len(values) > 1 else values[0])


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_explainer_is_asked_for_batches_of_one_size(kind, is_stream):
    model, inputs, targets, _ = case((5, 6, 3))
    data = (dataset_of(inputs, targets),) if is_stream else (inputs, targets)
    explainer = FromInputs()
    scores = kind(model, *data, batch_size=3).evaluate_per_image(explainer)
    expected = kind(model, inputs, targets, batch_size=3).evaluate_per_image(maps_of(inputs))
    np.testing.assert_array_equal(scores, expected)
    assert explainer.sizes == [3, 3, 3]


def test_an_explainer_of_few_images_is_asked_for_no_more():
    model, inputs, targets, _ = case((5, 6, 3), nb=2)
    explainer = FromInputs()
    assert Deletion(model, inputs, targets).evaluate_per_image(explainer).shape == (2,)
    assert explainer.sizes == [2]


def test_an_explainer_of_xplique_gives_the_scores_of_its_maps():
    model, inputs, targets, _ = case((8, 9, 3))
    explainer = FORGrad(Saliency(model), sigma=2)
    metric = Faithfulness(model, inputs, targets, batch_size=4)
    maps = explainer.explain(inputs, targets)
    np.testing.assert_allclose(metric.curves(explainer), metric.curves(maps), atol=1e-6)
    assert metric.evaluate(explainer) == pytest.approx(metric.evaluate(maps), abs=1e-6)
    ours, theirs = (metric.detailed_evaluate(given) for given in (explainer, maps))
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "map_shape"),
    [
        ((5, 6, 3), (5, 6, 1)),
        ((5, 6, 3), (5, 6)),
        ((5, 5, 3), (5, 5)),
        ((6, 7), (6, 7)),
        ((9,), (9,)),
    ],
)
@pytest.mark.parametrize("nb_at_once", [0, 2, 5, 7])
def test_a_dataset_of_maps_gives_the_scores_of_the_array(shape, map_shape, nb_at_once):
    model, inputs, targets, explanations = case(shape, map_shape)
    maps = dataset_of(explanations)
    maps = maps.batch(nb_at_once) if nb_at_once else maps
    metric = Deletion(model, inputs, targets, batch_size=3)
    expected = metric.evaluate_per_image(explanations)
    np.testing.assert_array_equal(metric.evaluate_per_image(maps), expected)
    streamed = Deletion(model, dataset_of(inputs, targets), batch_size=3)
    np.testing.assert_array_equal(streamed.evaluate_per_image(maps), expected)


def test_maps_in_a_file_are_read_as_they_are(tmp_path):
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    np.save(tmp_path / "maps.npy", explanations)
    mapped = np.load(tmp_path / "maps.npy", mmap_mode="r")
    metric = Deletion(model, inputs, targets, batch_size=3)
    expected = metric.evaluate_per_image(explanations)
    np.testing.assert_array_equal(metric.evaluate_per_image(mapped), expected)


def test_inputs_and_maps_are_read_in_step():
    """No more than some batches of each are read before they are scored."""
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1), nb=60)
    nb_read = {"inputs": 0, "maps": 0}
    ahead = []

    def counted(name, rows):
        for row in rows:
            nb_read[name] += 1
            yield row

    def generated(name, *values):
        spec = tuple(tf.TensorSpec(v.shape[1:], v.dtype) for v in values)
        return tf.data.Dataset.from_generator(
            lambda: counted(name, zip(*values) if len(values) > 1 else values[0]),
            output_signature=spec if len(values) > 1 else spec[0],
        )

    metric = Deletion(model, generated("inputs", inputs, targets), batch_size=4)
    score = metric.parts

    def scored(batch, maps, steps=None):
        nb_scored = batch.positions[-1] + 1
        ahead.append({name: number - nb_scored for name, number in nb_read.items()})
        return score(batch, maps, steps)

    metric.are_probabilities()
    metric.parts = scored
    nb_read.update(inputs=0, maps=0)
    # the first map is looked at before: it is read twice
    metric.evaluate_per_image(generated("maps", explanations))
    assert len(ahead) == 15
    assert max(one["inputs"] for one in ahead) <= 3 * 4
    assert max(one["maps"] for one in ahead) <= 3 * 4


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("kind", [Deletion, MuFidelity])
def test_bad_streams_of_maps(kind, is_stream):
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    data = (dataset_of(inputs, targets).batch(2),) if is_stream else (inputs, targets)
    metric = kind(model, *data, batch_size=3)
    with pytest.raises(ValueError, match="There are 5 explanations for 7 inputs"):
        metric(dataset_of(explanations[:5]))
    with pytest.raises(ValueError, match="more than 7 explanations for 7 inputs"):
        metric(dataset_of(np.repeat(explanations, 2, axis=0)))
    with pytest.raises(ValueError, match="more than 7 explanations for 7 inputs"):
        metric(dataset_of(np.concatenate([explanations, explanations[:1]])))
    with pytest.raises(ValueError, match=r"elements of shape \(5, 4, 1\).*same height and width"):
        metric(dataset_of(explanations[:, :, :4]))
    with pytest.raises(TypeError, match="dataset of explanations gives .* explanations alone"):
        metric(dataset_of(inputs, explanations))
    with pytest.raises(ValueError, match="FromInputs gave 2 explanations for 3 inputs"):
        metric(FromInputs(nb_missing=1))
    with pytest.raises(TypeError, match=r"Saliency is a class; give .* Saliency\(model\)"):
        metric(Saliency)
    with pytest.raises(TypeError, match=r"FORGrad is a class; give .*FORGrad\(Saliency\(model\)\)"):
        metric(FORGrad)
    bad = explanations.copy()
    bad[4, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Explanation 4 holds NaN"):
        metric(dataset_of(bad))
    with pytest.raises(TypeError, match="an explainer"):
        metric(lambda inputs: inputs)


def test_a_dataset_that_is_shuffled_anew_is_an_error_at_the_second_pass():
    model, inputs, targets, explanations = case((5, 6, 3), (5, 6, 1))
    metric = Deletion(model, dataset_of(inputs, targets).shuffle(7, seed=0), batch_size=3)
    metric(explanations)
    with pytest.raises(ValueError, match="reshuffle_each_iteration=False"):
        metric(explanations)
