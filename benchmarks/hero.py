"""
The figure at the top of README.md: python benchmarks/hero.py --output docs/assets/hero.jpg

Photographs of scikit-image, Saliency maps of SqueezeNet 1.1 for the class that it predicts, the
maps filtered, and these over the photographs. The weights come with the extra `imagenet`.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from skimage import color, data
from xplique.attributions import Saliency

from xplique_forgrad import forgrad
from xplique_forgrad.networks import load_imagenet

PHOTOGRAPHS = (data.chelsea, data.coffee, lambda: data.stereo_motorcycle()[0])
# large enough at 390 pixels, the width of a phone
WIDTH, DPI, FONT = 7.8, 120, 18


def draw(network, sigma):
    pictures = network.preprocessing.pictures([photograph() for photograph in PHOTOGRAPHS])
    inputs = network.preprocessing(pictures)
    targets = np.eye(network.nb_classes)[network.model.predict(inputs, verbose=0).argmax(-1)]
    raw = np.asarray(Saliency(network.model).explain(inputs, targets))
    filtered = np.asarray(forgrad(raw, sigma))

    figure, axes = plt.subplots(
        *(len(pictures), 4), figsize=(WIDTH, 0.235 * WIDTH * len(pictures)), layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    names = [likeliest[0][0] for likeliest in network.predict(inputs)]
    for row, picture, name, *maps in zip(axes, pictures, names, raw, filtered):
        row[0].imshow(picture)
        row[0].set_ylabel(name, fontsize=FONT)
        row[3].imshow(color.rgb2gray(picture), cmap="gray")
        for axis, values in zip(row[1:], (*maps, maps[1])):
            low, high = np.percentile(values, [0.5, 99.5])
            # opaque where the map is high
            alpha = np.clip((values[..., 0] - low) / (high - low), 0.2, 1)
            axis.imshow(values, vmin=low, vmax=high, alpha=alpha if axis is row[3] else None)
    for axis, title in zip(axes[0], ("photograph", "Saliency", f"sigma = {sigma:g}", "overlay")):
        axis.set_title(title, fontsize=FONT)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--network", default="squeezenet")
    parser.add_argument("--sigma", type=float, default=15)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    figure = draw(load_imagenet(arguments.network), arguments.sigma)
    figure.savefig(arguments.output, dpi=DPI, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
