"""
Kinds of tasks: detection, segmentation, regression and tabular inputs, by Xplique's operators.
"""

import functools

import keras
import numpy as np
from keras import layers
from kinds import Case, Kind, NotTried, Refused, one_hot, samples
from xplique.attributions import Saliency

DETECTION, SEGMENTATION = "object detection", "semantic segmentation"


def body(image, filters=8):
    """Features of a quarter of the size."""
    x = image
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    return x


class GridBoxes(layers.Layer):
    """Boxes (B, cells, 4 + 1 + classes) of a grid of raw outputs (B, h, w, 4 + 1 + classes)."""

    def __init__(self, stride, **options):
        super().__init__(**options)
        self.stride = stride

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}

    def call(self, raw):
        ops = keras.ops
        height, width, size = raw.shape[1:]
        places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
        centres = self.stride * (places + ops.sigmoid(raw[..., :2]))
        halves = self.stride * (0.5 + ops.sigmoid(raw[..., 2:4]))
        parts = [centres - halves, centres + halves]
        parts += [ops.sigmoid(raw[..., 4:5]), ops.softmax(raw[..., 5:])]
        return ops.reshape(ops.concatenate(parts, axis=-1), (-1, height * width, size))


def small_detector(shape=(16, 16, 3), nb_classes=3):
    """A detector of one box for each cell of 4 x 4 pixels."""
    keras.utils.set_random_seed(0)
    image = keras.Input(shape)
    x = body(image)
    # each box depends on all pixels
    x = layers.Add()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)])
    raw = layers.Conv2D(4 + 1 + nb_classes, 1)(x)
    return keras.Model(image, GridBoxes(4)(raw))


def best_boxes(outputs, number=2):
    """The boxes (B, number, 4 + 1 + classes) that are surest, their classes one-hot."""
    outputs = np.asarray(outputs)
    order = np.argsort(-outputs[..., 4] * outputs[..., 5:].max(axis=-1), axis=1)[:, :number]
    boxes = np.take_along_axis(outputs, order[..., None], axis=1)
    classes = one_hot(boxes[..., 5:].argmax(axis=-1), outputs.shape[-1] - 5)
    return np.concatenate([boxes[..., :5], classes], axis=-1)


def overlap(box, others):
    """Intersection over union of a box (4,) with others (M, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    area = np.prod(others[:, 2:] - others[:, :2], axis=-1)
    return shared / (np.prod(box[2:] - box[:2]) + area - shared)


def detection_score(model, inputs, targets):
    """D-RISE's similarity of the best prediction with each box, averaged over the boxes."""
    scores = []
    for found, wanted in zip(np.asarray(model(inputs), np.float64), targets):
        units = found[:, 5:] / np.linalg.norm(found[:, 5:], axis=-1, keepdims=True)
        similarities = [
            overlap(box[:4], found[:, :4]) * found[:, 4] * (units @ box[5:]) for box in wanted
        ]
        scores.append(np.max(similarities, axis=1).mean())
    return np.array(scores)


def of_detector(model, inputs):
    targets = best_boxes(model(inputs))
    return with_operator(model, inputs, targets, DETECTION, detection_score)


def with_operator(model, inputs, targets, operator, score, **options):
    return Case(
        model,
        inputs,
        targets,
        lambda model: Saliency(model, operator=operator),
        (2, 4),
        functools.partial(score, model),
        scoring={"operator": operator},
        operator=operator,
        **options,
    )


def eight(*shape):
    """As many inputs as a search explains at once: an explainer is traced for each number."""
    return samples(*shape, number=8)[0]


def plain_detector():
    return of_detector(small_detector(), eight(16, 16, 3))


def small_segmenter(shape=(16, 16, 3), nb_classes=3):
    """A segmenter with probabilities out."""
    keras.utils.set_random_seed(0)
    image = keras.Input(shape)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Conv2D(nb_classes, 1, activation="softmax")(x))


def segmentation_score(model, inputs, targets):
    """The mean output over the zone and class that each mask names."""
    outputs = np.asarray(model(inputs), np.float64)
    return np.array([one[mask != 0].mean() for one, mask in zip(outputs, targets)])


def of_segmenter(model, inputs):
    """The predicted class of the left upper quarter of the images, one after the other."""
    outputs = np.asarray(model(inputs))
    masks = one_hot(outputs.argmax(axis=-1), outputs.shape[-1])
    masks[:, outputs.shape[1] // 2 :] = 0
    # a class that some pixel is predicted to have
    classes = masks.sum(axis=(1, 2)).argmax(axis=-1)
    masks *= one_hot(classes, outputs.shape[-1])[:, None, None]
    return with_operator(model, inputs, masks, SEGMENTATION, segmentation_score)


def plain_segmenter():
    return of_segmenter(small_segmenter(), samples(16, 16, 3)[0])


def keras_cv_models():
    try:
        import keras_cv
    except ImportError as error:
        raise ImportError(
            "There is no keras-cv: pip install 'xplique-forgrad[keras-cv]'"
        ) from error
    return keras_cv.models


class DecodeYolo(layers.Layer):
    """Boxes (B, boxes, 4 + 1 + classes) of what a YOLOV8Detector gives."""

    def __init__(self, image_shape, **options):
        super().__init__(**options)
        self.image_shape = image_shape

    def get_config(self):
        return {**super().get_config(), "image_shape": self.image_shape}

    def call(self, raw):
        ops = keras.ops
        parts = []
        for stride in (8, 16, 32):
            places = [np.arange(stride / 2, size, stride) for size in self.image_shape[::-1]]
            centres = np.stack(np.meshgrid(*places), axis=-1).reshape(-1, 2)
            parts.append(np.concatenate([centres, np.full((len(centres), 2), stride)], axis=-1))
        centres, strides = np.split(np.concatenate(parts).astype(np.float32), 2, axis=-1)
        # each distance to a side is the mean of a distribution over 0 to 15 strides
        bins = ops.softmax(ops.reshape(raw["boxes"], (-1, len(centres), 4, 16)))
        distances = ops.sum(bins * np.arange(16, dtype=np.float32), axis=-1)
        corners = [
            centres - strides * distances[..., :2],
            centres + strides * distances[..., 2:],
        ]
        # it has no objectness of its own
        scores = raw["classes"]
        return ops.concatenate([*corners, ops.max(scores, axis=-1, keepdims=True), scores], axis=-1)


def yolo():
    """A YOLOv8 of keras-cv, whose outputs are decoded."""
    models = keras_cv_models()
    keras.utils.set_random_seed(0)
    backbone = models.YOLOV8Backbone(
        stackwise_channels=[4, 8, 8, 8],
        stackwise_depth=[1, 1, 1, 1],
        input_shape=(32, 32, 3),
        include_rescaling=False,
    )
    detector = models.YOLOV8Detector(
        num_classes=3, bounding_box_format="xyxy", backbone=backbone, fpn_depth=1
    )
    return keras.Model(detector.inputs[0], DecodeYolo((32, 32))(detector.output))


def deeplab():
    models = keras_cv_models()
    keras.utils.set_random_seed(0)
    backbone = models.ResNetBackbone(
        stackwise_filters=[4, 4, 8, 8],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 2],
        block_type="block",
        include_rescaling=False,
        input_shape=(32, 32, 3),
    )
    return models.DeepLabV3Plus(num_classes=3, backbone=backbone, projection_filters=8)


def regressor(nb_outputs):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(body(image))
    return keras.Model(image, layers.Dense(nb_outputs)(x))


def output_score(model, inputs, targets):
    return np.sum(np.asarray(model(inputs), np.float64) * targets, axis=-1)


def of_regressor(nb_outputs):
    """Of one output its value is explained, of several one after the other."""
    inputs = samples(16, 16, 3)[0]
    targets = one_hot(np.arange(len(inputs)), nb_outputs)
    return with_operator(regressor(nb_outputs), inputs, targets, "regression", output_score)


def of_tables():
    keras.utils.set_random_seed(0)
    row = keras.Input((10,))
    x = layers.Dense(8, activation="gelu")(row)
    model = keras.Model(row, layers.Dense(3)(x))
    inputs, targets = samples(10)
    return with_operator(model, inputs, targets, "classification", output_score)


# a trace of its gradient takes longer than all other kinds together
SLOW = NotTried(
    "It works as for the detector of Keras layers, but takes a minute: no test runs it."
)
REFUSED = {
    "filter": Refused("Tabular explanations (N, W) have no order to filter along"),
    "explainer": Refused("tabular inputs (N, W) have no order to filter along"),
    "search": Refused("Tabular inputs have no order to filter along"),
    "diagnose": Refused("layers are analysed for images (N, H, W, C)"),
    "benchmark": Refused("Tabular inputs have no order to filter along"),
}

KINDS = [
    Kind("Tasks", "detection, Keras layers", plain_detector),
    Kind(
        "Tasks",
        "detection, `YOLOV8Detector` of keras-cv",
        lambda: of_detector(yolo(), eight(32, 32, 3)),
        {"diagnose": SLOW, "benchmark": SLOW},
    ),
    Kind("Tasks", "segmentation, Keras layers", plain_segmenter),
    Kind(
        "Tasks",
        "segmentation, `DeepLabV3Plus` of keras-cv",
        lambda: of_segmenter(deeplab(), eight(32, 32, 3)),
    ),
    Kind("Tasks", "regression, one output", functools.partial(of_regressor, 1)),
    Kind("Tasks", "regression, several outputs", functools.partial(of_regressor, 4)),
    Kind("Tasks", "tabular `(N, W)`", of_tables, REFUSED),
]
