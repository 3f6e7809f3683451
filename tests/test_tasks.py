"""Tasks of Xplique by name, constant and function: what they take, and what they refuse."""

import functools
import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from kinds_tasks import (
    best_boxes,
    detection_score,
    segmentation_score,
    small_detector,
    small_segmenter,
)
from xplique.attributions import Saliency
from xplique.commons.operators import object_detection_operator
from xplique.commons.operators_operations import Tasks

from xplique_forgrad import Deletion, Faithfulness, FORGrad, SigmaOptimizer
from xplique_forgrad._samples import Batch
from xplique_forgrad._tasks import task_of
from xplique_forgrad.layers import diagnose
from xplique_forgrad.search.controls import OtherClass

SEGMENTATION, DETECTION = "semantic segmentation", "object detection"
INPUTS = np.random.default_rng(0).random((4, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


@pytest.fixture(scope="module")
def detector():
    return small_detector()


@pytest.fixture(scope="module")
def boxes(detector):
    return best_boxes(detector(INPUTS))


@pytest.fixture(scope="module")
def masks():
    zones = np.zeros((4, 16, 16, 3), np.float32)
    zones[:, 2:9, 3:12, 1] = 1
    return zones


@pytest.fixture(scope="module")
def regressor():
    layers = [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
    return keras.Sequential(layers)


def messages(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(one.message) for one in caught]


def of_task(model, x, y):
    return model(x)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (None, "classification"),
        ("classification", "classification"),
        (Tasks.CLASSIFICATION, "classification"),
        ("regression", "regression"),
        (SEGMENTATION, SEGMENTATION),
        (Tasks.SEMANTIC_SEGMENTATION, SEGMENTATION),
        (DETECTION, DETECTION),
        (Tasks.OBJECT_DETECTION, DETECTION),
        ("object detection box position", DETECTION),
        (Tasks.OBJECT_DETECTION_BOX_PROBA, DETECTION),
        (
            functools.partial(object_detection_operator, include_detection_probability=False),
            DETECTION,
        ),
        (of_task, None),
    ],
)
def test_tasks_are_known_by_name_constant_and_function(operator, expected):
    assert task_of(operator) == expected


@pytest.mark.parametrize(
    ("operator", "error", "message"),
    [
        ("detection", ValueError, "must be one of 'classification', .*'object detection'"),
        (3, TypeError, "give the name of a task"),
        (lambda model, inputs: 0, TypeError, "function of model, inputs and targets"),
    ],
)
def test_what_is_no_operator_is_refused(regressor, operator, error, message):
    targets = np.eye(4, dtype=np.float32)
    for run in (
        lambda: Deletion(regressor, INPUTS, targets, operator=operator),
        lambda: SigmaOptimizer(Saliency(regressor), operator=operator),
        lambda: diagnose(regressor, INPUTS, targets, operator=operator, verbose=0),
    ):
        with pytest.raises(error, match=message):
            run()


@pytest.mark.parametrize("how", [SEGMENTATION, Tasks.SEMANTIC_SEGMENTATION])
def test_names_and_functions_score_alike(segmenter, masks, how):
    maps = np.random.default_rng(1).random((4, 16, 16, 1))
    metric = Deletion(segmenter, INPUTS, masks, steps=1, operator=how)
    # of one step, the mean of the untouched image and the baseline
    expected = segmentation_score(segmenter, INPUTS, masks)
    expected = (expected + segmentation_score(segmenter, 0 * INPUTS, masks)) / 2
    np.testing.assert_allclose(metric.evaluate_per_image(maps), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 16, 16, 1), (4, 8, 8, 3), (4, 3)])
def test_masks_have_the_shape_of_the_outputs(segmenter, shape):
    targets = np.ones(shape, np.float32)
    message = r"model's outputs \(N, 16, 16, 3\).*takes masks of the same shape"
    with pytest.raises(ValueError, match=message):
        Faithfulness(segmenter, INPUTS, targets, operator=SEGMENTATION)
    with pytest.raises(ValueError, match=message):
        FORGrad(Saliency(segmenter, operator=SEGMENTATION), 3).explain(INPUTS, targets)


@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 1, 4), (4, 1, 1, 8)])
def test_boxes_have_the_length_of_the_outputs(detector, shape):
    targets = np.ones(shape, np.float32)
    with pytest.raises(ValueError, match=r"\(N, 16, 8\).*corners x1, y1, x2, y2"):
        Faithfulness(detector, INPUTS, targets, operator=DETECTION)


def test_one_box_needs_no_axis_of_its_own(detector):
    one = best_boxes(detector(INPUTS), 1)
    for targets in (one, one[:, 0]):
        metric = Deletion(detector, INPUTS, targets, operator=DETECTION, steps=1)
        np.testing.assert_allclose(
            metric.evaluate_per_image(np.ones((4, 16, 16))),
            sum(detection_score(detector, x, one) for x in (INPUTS, 0 * INPUTS)) / 2,
            rtol=1e-3,
        )


def test_targets_that_name_nothing_are_refused_by_number(segmenter, masks, detector, boxes):
    empty = masks * (np.arange(4) != 2)[:, None, None, None]
    swapped = boxes[..., [2, 3, 0, 1, 4, 5, 6, 7]]
    cases = [
        (segmenter, empty, SEGMENTATION, "image 2 is 0 everywhere"),
        (
            detector,
            boxes * (np.arange(4) != 1)[:, None, None],
            DETECTION,
            "image 1 is 0 everywhere",
        ),
        (detector, swapped, DETECTION, "image 0 has a box.*x1 < x2"),
    ]
    for model, targets, operator, message in cases:
        pairs = tf.data.Dataset.from_tensor_slices((INPUTS, targets)).batch(2)
        for data in ((INPUTS, targets), (pairs,)):
            with pytest.raises(ValueError, match=message):
                Faithfulness(model, *data, operator=operator)
        with pytest.raises(ValueError, match=message):
            FORGrad(Saliency(model, operator=operator), 3).explain(INPUTS, targets)


def test_rows_of_zeros_fill_up_boxes(detector, boxes):
    filled = np.concatenate([boxes, 0 * boxes], axis=1)
    maps = np.random.default_rng(1).random((4, 16, 16))
    one, other = (
        Deletion(detector, INPUTS, targets, operator=DETECTION).evaluate_per_image(maps)
        for targets in (boxes, filled)
    )
    np.testing.assert_allclose(one, other, atol=1e-6)
    lists = [list(boxes[0]), *(list(one[:1]) for one in boxes[1:])]
    with pytest.raises(ValueError, match="fill up with rows of zeros"):
        Deletion(detector, INPUTS, lists, operator=DETECTION)


def test_boxes_that_match_no_prediction_score_zero_and_are_warned_of(detector, boxes):
    elsewhere = boxes + np.array([500, 500, 500, 500, 0, 0, 0, 0], np.float32)
    metric = Faithfulness(detector, INPUTS, elsewhere, operator=DETECTION)
    maps = np.random.default_rng(1).random((4, 16, 16))
    (message,) = messages(lambda: metric.evaluate_per_image(maps))
    assert "match no prediction of the first 4 images" in message
    # a number, and the same for each step
    np.testing.assert_array_equal(metric.evaluate_per_image(maps), 0)
    explainer = FORGrad(Saliency(detector, operator=DETECTION), 3)
    np.testing.assert_array_equal(explainer.explain(INPUTS, elsewhere), 0)
    assert not messages(
        lambda: Faithfulness(detector, INPUTS, boxes, operator=DETECTION).evaluate_per_image(maps)
    )


def test_models_that_give_something_else_are_refused(segmenter, detector, masks, boxes):
    image = keras.Input((16, 16, 3))
    parts = {"boxes": detector(image)[..., :4], "classes": detector(image)[..., 4:]}
    for model in (keras.Model(image, parts), segmenter):
        with pytest.raises(ValueError, match="objectness and class scores.*decodes its outputs"):
            Faithfulness(model, INPUTS, boxes, operator=DETECTION)
    with pytest.raises(ValueError, match=r"takes one of shape \(N, H, W, classes\)"):
        Faithfulness(detector, INPUTS, masks, operator=SEGMENTATION)
    for targets in (boxes, boxes[:, 0]):
        with pytest.raises(ValueError, match="by `operator=`, for instance 'object detection'"):
            FORGrad(Saliency(detector), 3).explain(INPUTS, targets)


def test_no_targets_name_the_ones_to_give(segmenter, detector):
    for model, operator, what in (
        (segmenter, SEGMENTATION, "masks (N, H, W, classes)"),
        (detector, DETECTION, "(N, boxes, 4 + 1 + classes)"),
    ):
        explainer = Saliency(model, operator=operator)
        for run in (
            lambda explainer=explainer: FORGrad(explainer, 3).explain(INPUTS),
            lambda model=model, operator=operator: Deletion(model, INPUTS, operator=operator),
            lambda explainer=explainer, operator=operator: SigmaOptimizer(
                explainer, operator=operator
            ).search(INPUTS, verbose=0),
        ):
            with pytest.raises(ValueError, match=re.escape(what)):
                run()


def test_activations_that_make_no_sense_are_refused(detector, regressor):
    for operator, values in ((DETECTION, "the corners of boxes"), ("regression", "real values")):
        for activation in ("softmax", "sigmoid"):
            with pytest.raises(ValueError, match=f"would squash {values}"):
                SigmaOptimizer(None, model=detector, operator=operator, activation=activation)


def test_segmenters_are_warned_of_as_classifiers(segmenter, masks):
    maps = np.ones((4, 16, 16))
    logits = keras.Model(segmenter.inputs[0], segmenter.layers[-2].output)
    logits = keras.Model(logits.inputs[0], keras.layers.Conv2D(3, 1)(logits.output))

    def scored(model, activation):
        options = {"operator": SEGMENTATION, "activation": activation}
        return lambda: Deletion(model, INPUTS, masks, **options)(maps)

    (message,) = messages(scored(segmenter, "softmax"))
    assert "squashes them again" in message
    (message,) = messages(scored(logits, None))
    assert "Give activation='softmax'" in message
    assert not messages(scored(segmenter, None)) + messages(scored(logits, "softmax"))


def test_regression_takes_a_target_for_each_output(regressor):
    for operator in ("regression", "classification"):
        with pytest.raises(ValueError, match="hold one number per input"):
            # these would be multiplied with those of all other inputs
            Deletion(regressor, INPUTS, np.ones(4), operator=operator)
    with pytest.raises(ValueError, match="regression of 4 outputs predicts no class"):
        Deletion(regressor, INPUTS, operator="regression")
    maps = np.ones((4, 16, 16))
    assert not messages(lambda: Deletion(regressor, INPUTS, np.eye(4), operator="regression")(maps))


def test_other_class_leaves_boxes_and_zones(detector, boxes, segmenter, masks):
    class Recorded:
        def __init__(self, explainer):
            self.inference_function = explainer.inference_function

        def explain(self, inputs, targets):
            self.targets = targets
            return np.zeros((len(inputs), 16, 16, 1))

    for model, targets, operator in (
        (detector, boxes, DETECTION),
        (detector, boxes[:, 0], DETECTION),
        (segmenter, masks, SEGMENTATION),
    ):
        explainer = Recorded(Saliency(model, operator=operator))
        batch = Batch(np.arange(4), INPUTS, targets.copy())
        OtherClass(explainer).maps(batch, np.zeros((4, 16, 16, 1)))
        # the last ones that it was asked, padded to 8
        found = explainer.targets[:4]
        np.testing.assert_array_equal(batch.targets, targets)
        start = 5 if operator == DETECTION else 0
        np.testing.assert_array_equal(found[..., :start], targets[..., :start])
        np.testing.assert_array_equal(
            found[..., start:].sum(axis=-1), targets[..., start:].sum(axis=-1)
        )
        # no box or pixel keeps its class
        assert not (found[..., start:] * targets[..., start:]).any()


def test_a_search_goes_on_with_masks_of_a_dataset(segmenter, masks, tmp_path):
    pairs = tf.data.Dataset.from_tensor_slices((INPUTS, masks)).batch(3)
    results = []
    for data in ((INPUTS, masks), (pairs,), (pairs,)):
        optimizer = SigmaOptimizer(
            # a class is built for the same operator
            Saliency,
            model=segmenter,
            sigmas=[2, 4],
            control="other_class",
            operator=SEGMENTATION,
            steps=3,
        )
        path = tmp_path / f"{len(data)}.bin"
        found = []
        assert not [
            message
            for message in messages(
                lambda optimizer=optimizer, data=data, path=path, found=found: found.append(
                    optimizer.search(*data, checkpoint=path, verbose=0)
                )
            )
            if "operator" in message
        ]
        results.append(found[0].scores)
    np.testing.assert_allclose(results[1], results[0], atol=1e-6)
    np.testing.assert_array_equal(results[2], results[1])
    with pytest.raises(ValueError, match="data"):
        optimizer.search(INPUTS, masks[..., [0, 2, 1]], checkpoint=path, verbose=0)
