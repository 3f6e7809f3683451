"""
Models of other libraries: PyTorch, scikit-learn, and functions.
"""

import numpy as np
from kinds import Case, Kind, Refused, samples

_SHAPE = (16, 16, 3)


def ported(model):
    """
    The same network in PyTorch: a Sequential model of Keras, of what is known below.

    Of images (N, C, H, W), in mode of evaluation.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch is absent; pip install 'xplique-forgrad[torch]'") from error
    nn, layers = torch.nn, []
    for layer in model.layers:
        weights = [torch.tensor(part) for part in layer.get_weights()]
        kind = type(layer).__name__
        if kind == "Conv2D":
            kernel = weights[0].permute(3, 2, 0, 1)
            one = nn.Conv2d(*kernel.shape[1::-1], kernel.shape[2], padding=layer.padding)
        elif kind == "Dense":
            kernel = weights[0].T
            one = nn.Linear(*kernel.shape[::-1])
        else:
            one = {
                "MaxPooling2D": lambda: nn.MaxPool2d(2),
                "AveragePooling2D": lambda: nn.AvgPool2d(2),
                "GlobalAveragePooling2D": lambda: nn.Sequential(
                    nn.AdaptiveAvgPool2d(1), nn.Flatten()
                ),
            }[kind]()
        layers.append(one)
        if weights:
            with torch.no_grad():
                one.weight.copy_(kernel)
                one.bias.copy_(weights[1])
            if layer.activation.__name__ == "relu":
                layers.append(nn.ReLU())
    return nn.Sequential(*layers).eval()


def keras_network(seed=0):
    """Convolutions, ReLU, pooling, dense; logits out."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(_SHAPE),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(8, 3, activation="relu"),
            layers.AveragePooling2D(2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(6, activation="relu"),
            layers.Dense(3),
        ]
    )
    # biases of a trained network are not zero
    rng = np.random.default_rng(seed)
    model.set_weights(
        [w + 0.1 * rng.standard_normal(w.shape).astype(np.float32) for w in model.get_weights()]
    )
    return model


def of_pytorch():
    network = ported(keras_network())
    import torch
    from xplique.attributions import Saliency
    from xplique.wrappers import TorchWrapper

    def score(inputs, targets):
        with torch.no_grad():
            outputs = network(torch.tensor(np.moveaxis(inputs, -1, 1).copy())).numpy()
        return (outputs * targets).sum(axis=1)

    model = TorchWrapper(network, device="cpu")
    return Case(model, *samples(*_SHAPE), Saliency, (2, 4), score)


def occlusion(model):
    from xplique.attributions import Occlusion

    return Occlusion(model, patch_size=4, patch_stride=4)


def of_a_black_box(model, predict):
    def score(inputs, targets):
        return (predict(inputs) * targets).sum(axis=1)

    inputs, targets = samples(*_SHAPE)
    return Case(
        model, inputs, targets, occlusion, (2, 4), score, methods=("Occlusion", "Rise:nb_samples=8")
    )


def of_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    inputs, targets = samples(*_SHAPE, number=24)
    # weights that follow the pixels
    labels = (3 * inputs[:, :8, :8, 0].mean(axis=(1, 2)) + targets[:, 1]).round()
    model = make_pipeline(
        FunctionTransformer(lambda images: np.asarray(images).reshape(len(images), -1)),
        LogisticRegression(tol=0.1),
    )
    model.fit(inputs, np.where(np.isin(labels, (1, 2)), labels, 3))
    return of_a_black_box(model, model.predict_proba)


def of_a_function():
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((np.prod(_SHAPE), 3)).astype(np.float32)

    def predict(images):
        return np.tanh(np.reshape(images, (len(images), -1)) @ weights / 10)

    return of_a_black_box(predict, predict)


KINDS = [
    Kind(
        "Other libraries",
        "PyTorch, in Xplique's `TorchWrapper`",
        of_pytorch,
        {
            "diagnose": Refused(
                "its layers are those of PyTorch, and only layers of Keras can be looked at",
                "What needs gradients alone works.",
            )
        },
    ),
    Kind(
        "Other libraries",
        "scikit-learn, by `predict_proba`, with black-box methods",
        of_scikit_learn,
        {"diagnose": Refused("give a keras.Model. The gradients of a plain callable")},
    ),
    Kind(
        "Other libraries",
        "a function of inputs, with black-box methods",
        of_a_function,
        {"diagnose": Refused("give a keras.Model. The gradients of a plain callable")},
    ),
]
