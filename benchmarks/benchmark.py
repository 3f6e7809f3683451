"""
Attribution methods on five networks, as they are, rectified and filtered, beside controls.

    python benchmarks/benchmark.py --images DIR --folder RUNS --docs docs

DIR holds photographs of ImageNet; the weights come with the extra `imagenet`. Maps explain the
predicted class; Insertion and Deletion look at its softmax. Each run has a folder in RUNS that
keeps each part as soon as it is there: a run that was killed goes on with what is missing. The
tables in DOCS/benchmark.md and the figures in DOCS/assets are made from these folders; without
--images, from what there is in them. All takes about 2 hours of processor time.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmark_tables import fill_page

from xplique_forgrad.benchmark import run_benchmark
from xplique_forgrad.demo import load_classifier, load_images
from xplique_forgrad.images import image_folder
from xplique_forgrad.networks import load_imagenet

WHITE_BOX = (
    "Saliency",
    "GradientInput",
    "IntegratedGradients:steps=20",
    "SmoothGrad:nb_samples=20",
    "SquareGrad:nb_samples=20",
    "VarGrad:nb_samples=20",
    "GuidedBackprop",
    "DeconvNet",
)
GREY_BOX = ("GradCAM", "GradCAMPP")
BLACK_BOX = (
    "Occlusion",
    "Rise:nb_samples=400",
    "KernelShap:nb_samples=150",
    "SobolAttributionMethod:nb_design=4",
    "HsicAttributionMethod:nb_design=150",
)
METHODS = (*WHITE_BOX, *GREY_BOX, *BLACK_BOX)
FEW = (
    *("Saliency", "GradientInput", "SmoothGrad:nb_samples=20", "GuidedBackprop"),
    *("GradCAM", "Occlusion"),
)
FEW_CONTROLS = ("centre", "edges", "other_image")
SETTINGS = {"baselines": ("zero", "mean", "blur"), "patch_sizes": (1, 6)}
SIGMAS = (1, 2, 3, 5, 8, 12, 20, 30)
COMMON = {"sigmas": SIGMAS, "nb_choosing": 20, "mu_fidelity_samples": 100, "activation": "softmax"}
# 20 of them choose sigma
NB_PHOTOGRAPHS, NB_IMAGES = 124, 84
# those left out cost most for what they add
TWELVE = (*WHITE_BOX[:4], *WHITE_BOX[5:7], *GREY_BOX, *BLACK_BOX[:2], *BLACK_BOX[3:])
TEN = (*TWELVE[:9], TWELVE[-1])
# of each run: a network of ImageNet or of the demonstration, and what is special there
RUNS = {
    "squeezenet": ("squeezenet", {"methods": TWELVE}),
    "efficientnet-lite0": (
        "efficientnet-lite0",
        {"methods": (*FEW[:3], *FEW[4:]), "controls": FEW_CONTROLS, "steps": 5},
    ),
    "max": ("max", {}),
    "vit": ("vit", {"methods": TEN}),
    "convnext": ("convnext", {"methods": TEN}),
    "settings": ("max", {"methods": FEW, "controls": "edges", **SETTINGS}),
}


def open_network(name, images):
    """Model and inputs; targets are what it predicts."""
    if name in ("squeezenet", "efficientnet-lite0"):
        network = load_imagenet(name)
        folder = image_folder(images, network.preprocessing, targets=None, limit=NB_PHOTOGRAPHS)
        return network.model, folder.dataset()
    options = {} if name == "max" else {"architecture": name}
    return load_classifier(**options), load_images(NB_IMAGES).inputs


def run(name, images, folder):
    network, options = RUNS[name]
    model, inputs = open_network(network, images)
    options = {"methods": METHODS, **COMMON, **options}
    return run_benchmark({name: model}, {name: inputs}, folder=folder / name, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--folder", type=Path, default=Path("benchmark"), help="folder of results")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--docs", type=Path, help="folder of the page benchmark.md and of assets")
    given = parser.parse_args()
    if given.images:
        for name in given.only:
            run(name, given.images, given.folder)
    if given.docs:
        fill_page(given.docs / "benchmark.md", given.folder, given.only, given.docs / "assets")


if __name__ == "__main__":
    main()
