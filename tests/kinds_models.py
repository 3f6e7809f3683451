"""
Kinds of models of images, by how they are built and by the precision they compute in.
"""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from kinds import Case, Kind, NotTried, Refused, Works, samples
from xplique.attributions import GradCAM, GuidedBackprop, Saliency

SIZE = 16


def case_of(model, method=Saliency, maps=None, **options):
    """A model of images, with six of them; some maps where Xplique has none."""
    # a subclassed model has none
    known = getattr(model, "inputs", None)
    inputs, targets = samples(*(known[0].shape[1:] if known else (SIZE, SIZE, 3)))

    def score(inputs, targets):
        outputs = keras.tree.flatten(model(inputs))[-1]
        return np.sum(np.asarray(outputs, np.float64) * targets, axis=-1)

    methods = (getattr(method, "__name__", "Saliency"),)
    case = Case(model, inputs, targets, method, (2, 4), score, methods=methods, **options)
    if maps is not None:
        case.maps = maps
    return case


def some_maps():
    return samples(SIZE, SIZE, 1)[0]


def seeded(make):
    """What builds a case, from the same weights each time."""

    @functools.wraps(make)
    def build(*args, **kwargs):
        keras.utils.set_random_seed(0)
        return make(*args, **kwargs)

    return build


def convolutions(x, **options):
    x = layers.Conv2D(8, 3, padding="same", activation="relu", **options)(x)
    x = layers.MaxPooling2D(2, **options)(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", **options)(x)
    return layers.GlobalAveragePooling2D(**options)(x)


@seeded
def sequential():
    return case_of(
        keras.Sequential(
            [
                keras.Input((SIZE, SIZE, 3)),
                layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3),
            ]
        )
    )


@seeded
def functional(activation=None):
    image = keras.Input((SIZE, SIZE, 3))
    return case_of(keras.Model(image, layers.Dense(3, activation)(convolutions(image))))


def multi_label():
    case = functional("sigmoid")
    case.targets[:, 0] = 1
    return case


@seeded
def nested(method=Saliency, maps=None):
    image = keras.Input((SIZE, SIZE, 3))
    backbone = keras.Model(image, convolutions(image), name="backbone")
    image = keras.Input((SIZE, SIZE, 3))
    return case_of(keras.Model(image, layers.Dense(3)(backbone(image))), method, maps)


@seeded
def batch_norm():
    image = x = keras.Input((SIZE, SIZE, 3))
    for _ in range(2):
        x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return case_of(keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))


def perceptron(x):
    y = layers.Dense(2 * x.shape[-1], activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dense(x.shape[-1])(y)])


@seeded
def vit():
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 4, 4)(image))
    y = layers.LayerNormalization()(x)
    x = perceptron(layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)]))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return case_of(keras.Model(image, layers.Dense(3)(x)))


def windowed_attention(x, grid, window, shift, name):
    """Attention of tokens (N, T, C) within the windows of their grid, shifted by some tokens."""
    (height, width), channels = grid, x.shape[-1]
    rows, columns = height // window, width // window
    y = layers.LayerNormalization(name=f"{name}_norm")(x)
    y = keras.ops.reshape(y, (-1, height, width, channels))
    y = keras.ops.roll(y, (-shift, -shift), (1, 2))
    y = keras.ops.reshape(y, (-1, rows, window, columns, window, channels))
    y = keras.ops.transpose(y, (0, 1, 3, 2, 4, 5))
    y = keras.ops.reshape(y, (-1, window**2, channels))
    y = layers.MultiHeadAttention(1, channels, name=f"{name}_attention")(y, y)
    y = keras.ops.reshape(y, (-1, rows, columns, window, window, channels))
    y = keras.ops.transpose(y, (0, 1, 3, 2, 4, 5))
    y = keras.ops.reshape(y, (-1, height, width, channels))
    y = keras.ops.roll(y, (shift, shift), (1, 2))
    y = keras.ops.reshape(y, (-1, height * width, channels))
    return layers.Add(name=f"{name}_add")([x, y])


def merged_patches(x, grid, name):
    """Tokens (N, T, C), two by two of them put together, as (N, T / 4, 2 C)."""
    (height, width), channels = grid, x.shape[-1]
    x = keras.ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels))
    x = keras.ops.transpose(x, (0, 1, 3, 2, 4, 5))
    x = keras.ops.reshape(x, (-1, height * width // 4, 4 * channels))
    return layers.Dense(2 * channels, use_bias=False, name=name)(x)


def swin_like(height=SIZE, width=SIZE, window=4):
    """Patches of 2 x 2 pixels, shifted windows, merged patches, windows on the grid."""
    image = keras.Input((height, width, 3))
    x = layers.Conv2D(4, 2, 2, name="patches")(image)
    grid = x.shape[1:3]
    x = layers.Reshape((-1, 4), name="tokens")(x)
    x = windowed_attention(x, grid, window, window // 2, "shifted")
    x = merged_patches(perceptron(x), grid, "merging")
    x = windowed_attention(x, [size // 2 for size in grid], window, 0, "windows")
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(name="norm")(x))
    return keras.Model(image, layers.Dense(3)(x))


@seeded
def swin():
    return case_of(swin_like())


@seeded
def convnext():
    image = keras.Input((32, 32, 3))
    x = layers.LayerNormalization()(layers.Conv2D(8, 4, 4)(image))
    y = layers.LayerNormalization()(layers.DepthwiseConv2D(7, padding="same")(x))
    x = layers.Add()([x, layers.Dense(8)(layers.Dense(32, activation="gelu")(y))])
    x = layers.Conv2D(16, 2, 2)(layers.LayerNormalization()(x))
    x = layers.LayerNormalization()(layers.GlobalAveragePooling2D()(x))
    return case_of(keras.Model(image, layers.Dense(3)(x)))


def keras_hub():
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            "keras-hub is not installed: pip install 'xplique-forgrad[keras-hub]'"
        ) from error
    return keras_hub.models


@seeded
def hub_vit():
    models = keras_hub()
    backbone = models.ViTBackbone((SIZE, SIZE, 3), 4, 1, 2, 8, 16)
    return case_of(models.ViTImageClassifier(backbone, 3, preprocessor=None, activation=None))


@seeded
def hub_swin():
    models = keras_hub()
    backbone = models.SwinTransformerBackbone((SIZE, SIZE, 3), 4, (1, 1), (1, 1), 4, patch_size=2)
    return case_of(models.SwinTransformerImageClassifier(backbone, 3, preprocessor=None))


@seeded
def hub_dino():
    shape = SIZE, SIZE, 3
    backbone = keras_hub().DINOV2Backbone(
        *(4, 1, 8, 2, 16),
        use_mask_token=False,
        num_register_tokens=4,
        image_shape=shape,
        position_embedding_shape=shape,
    )
    image = keras.Input(shape)
    tokens = backbone({"images": image})
    return case_of(keras.Model(image, layers.Dense(3)(tokens[:, 0])))


@keras.saving.register_keras_serializable("kinds")
class Subclassed(keras.Model):
    """A network whose layers are known to its `call` alone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")
        self.pooling = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(3)

    def call(self, images):
        return self.head(self.pooling(self.convolution(images)))


@seeded
def subclassed():
    model = Subclassed()
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return case_of(model, maps=some_maps())


@seeded
def subclassed_wrapped():
    x = keras.Input((SIZE, SIZE, 3))
    return case_of(keras.Model(x, Subclassed()(x)))


@seeded
def channels_first():
    image = keras.Input((3, SIZE, SIZE))
    x = convolutions(image, data_format="channels_first")
    return case_of(keras.Model(image, layers.Dense(3)(x)), maps=some_maps())


def channels_first_permuted():
    model = channels_first().model
    image = keras.Input((SIZE, SIZE, 3))
    return case_of(keras.Model(image, model(layers.Permute((3, 1, 2))(image))))


@seeded
def several_inputs():
    image, age = keras.Input((SIZE, SIZE, 3)), keras.Input((2,))
    x = layers.Concatenate()([convolutions(image), age])
    return case_of(keras.Model([image, age], layers.Dense(3)(x)), maps=some_maps())


def several_inputs_held():
    model = several_inputs().model
    image, constant = model.inputs[0], np.array([1, -1], np.float32)
    held = keras.ops.zeros_like(image[:, 0, 0, :1]) + constant
    return case_of(keras.Model(image, model([image, held])))


@seeded
def several_outputs(**options):
    image = keras.Input((SIZE, SIZE, 3))
    x = convolutions(image)
    return case_of(keras.Model(image, [layers.Dense(2)(x), layers.Dense(3)(x)]), **options)


def last_output(model, inputs, targets):
    return tf.reduce_sum(model(inputs)[1] * targets, axis=-1)


def several_outputs_chosen():
    return several_outputs(
        method=functools.partial(Saliency, operator=last_output),
        operator=last_output,
        scoring={"operator": last_output},
    )


@seeded
def of_precision(policy, head=None, method=Saliency, maps=None):
    image = keras.Input((SIZE, SIZE, 3))
    x = convolutions(image, dtype=policy)
    model = keras.Model(image, layers.Dense(3, dtype=head or policy)(x))
    return case_of(model, method, maps)


def float32_appended(policy):
    model = of_precision(policy).model
    output = layers.Activation("linear", dtype="float32")(model.output)
    return case_of(keras.Model(model.input, output))


def of_head(policy):
    return of_precision(policy, maps=some_maps())


def of_method(method):
    return of_precision("mixed_float16", "float32", method, some_maps())


def refused(message, *parts):
    return dict.fromkeys(parts, Refused(message))


# parts that look at the model
ON_MODEL = "explainer", "metrics", "search", "diagnose", "benchmark"
ON_EXPLAINER = "explainer", "search", "benchmark"
PLAIN = Works("A warning says that its maps are plain gradients.")
NO_LAYER = NotTried(
    "Xplique's GradCAM ends in a StopIteration when it is built, before `FORGrad` is given it."
)
NO_INPUTS = NotTried(
    "Xplique's explainers end in an AttributeError when they are built, before `FORGrad` is given "
    "one. Wrap the model: `x = keras.Input((H, W, C)); keras.Model(x, model(x))`."
)
CHANNELS = "takes its channels first"
IN_LAYERS = "has its channels first; layers are analysed with channels last"
NOT_MULTIPLIED = (
    "does not multiply outputs in {} with targets. Give them in float32: keras.Model(model.input"
)
CAST = Works("Its counter of passes gives outputs in float32.")

MODELS = [
    ("Sequential", sequential),
    ("functional", functional),
    ("a model inside a model", nested),
    (
        "a model inside a model, GuidedBackprop",
        functools.partial(nested, GuidedBackprop),
        {
            "explainer": PLAIN,
            "search": PLAIN,
            "benchmark": Refused("changes ReLUs among the layers of the model itself"),
        },
    ),
    (
        "a model inside a model, GradCAM",
        lambda: nested(GradCAM, some_maps()),
        {
            "explainer": NO_LAYER,
            **refused("GradCAM finds no layer to look at", "search", "benchmark"),
        },
    ),
    ("a softmax head", functools.partial(functional, "softmax")),
    ("a sigmoid head, several labels", multi_label),
    ("untrained `BatchNormalization`", batch_norm),
    ("ViT", vit),
    ("Swin-like: shifted windows, merged patches", swin),
    ("ConvNeXt-like", convnext),
    ("keras-hub's ViT", hub_vit),
    ("keras-hub's Swin", hub_swin),
    ("keras-hub's DINOv2, with registers", hub_dino),
    (
        "subclassed",
        subclassed,
        {"explainer": NO_INPUTS, **refused("is subclassed (Subclassed)", "search", "benchmark")},
    ),
    ("subclassed, in `keras.Model(x, model(x))`", subclassed_wrapped),
    ("channels first", channels_first, refused(CHANNELS, *ON_MODEL)),
    (
        "channels first, behind a `Permute`",
        channels_first_permuted,
        refused(IN_LAYERS, "diagnose"),
    ),
    ("two inputs", several_inputs, refused("has 2 inputs; give a model of images", *ON_MODEL)),
    ("two inputs, one held constant", several_inputs_held),
    (
        "two outputs",
        lambda: several_outputs(maps=some_maps()),
        {
            **refused("has 2 outputs; say what to explain", "explainer", "search", "diagnose"),
            **refused("gives 2 outputs instead of (N, classes)", "metrics", "benchmark"),
        },
    ),
    ("two outputs, with an `operator`", several_outputs_chosen),
]

PRECISIONS = [
    *(
        (f"`{policy}`, a float32 head", functools.partial(of_precision, policy, "float32"))
        for policy in ("mixed_float16", "mixed_bfloat16")
    ),
    *(
        (
            f"`{policy}` to the end",
            functools.partial(of_head, policy),
            {
                **refused(NOT_MULTIPLIED.format(dtype), "explainer", "search"),
                "benchmark": CAST,
            },
        )
        for policy, dtype in (
            ("mixed_float16", "float16"),
            ("mixed_bfloat16", "bfloat16"),
            ("float64", "float64"),
        )
    ),
    (
        "`mixed_float16` to the end, float32 appended",
        functools.partial(float32_appended, "mixed_float16"),
    ),
    *(
        (
            f"`mixed_float16`, a float32 head, {method.__name__}",
            functools.partial(of_method, method),
            refused(f"{method.__name__} works in float32, and the layer", *ON_EXPLAINER),
        )
        for method in (GuidedBackprop, GradCAM)
    ),
]

KINDS = [
    *(Kind("Models", *row) for row in MODELS),
    *(Kind("Precision", *row) for row in PRECISIONS),
]
