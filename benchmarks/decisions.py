"""
Do the frequencies that a filter removes from a gradient decide anything? Asked of the model.

    python benchmarks/decisions.py --images DIR --scores SCORES --figures docs/assets

DIR holds photographs of ImageNet and a labels.csv. The weights come with the extra `imagenet`. For
each of four networks, and 100 images that no network was trained on:

1. steps of equal norm along bands of the margin's gradient (`decision_relevance`),
2. the smallest perturbations within a band that turn the decision (`band_attack`), and the maps of
   the inputs that they give,
3. what changes with the margin: sigma*, the share of high frequencies, and the answer to 1.

Beside these, what the network predicts of images that are low-passed themselves, and steps on a
copy with random weights.

The decision is the class that the network predicts. Norms are in units of the range of a pixel. The
control of every figure is a random direction: the same spectrum and norm, random phases.

Results go to files in SCORES as soon as they are there: a run that was killed goes on with what is
missing, and the tables are made from the files. Measuring takes 2 hours of processor time, the
tables a minute.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from controls import SIGMAS, Subject, explain, partners, save, score
from decisions_tables import draw, print_tables
from imagenet import predicted_targets, read_photographs

from xplique_forgrad import forgrad, forgrad_sweep, full_band_sigma
from xplique_forgrad.decisions import band_attack, decision_relevance
from xplique_forgrad.demo import load_classifier, load_images
from xplique_forgrad.layers import randomize
from xplique_forgrad.networks import load_imagenet
from xplique_forgrad.search import default_sigmas

# pooling of the bundled networks
BUNDLED = {"bundled-max": "max", "bundled-average": "average"}
NETWORKS = (*BUNDLED, "squeezenet", "efficientnet-lite0")
NB_IMAGES = 100
# by size: two per cent, a sixteenth (the paper's 15 of 224) and a quarter of it
CUTOFFS = {96: (2, 6, 24), 224: (5, 14, 56)}
NORMS = (0.1, 0.3, 1.0)
BANDS = ("all", "low", "high")
ATTACK = {"steps": 10, "nb_bisections": 8, "nb_random": 4, "batch_size": 20}
LARGEST = 30.0
# of random phases, in place of what an image has above a cutoff
NB_DRAWS = 4
# of the attacks that tell how much more steps would find
MANY_STEPS = 40


def open_subject(name, folder):
    """The network and its images, and the range of a pixel in units of its inputs."""
    if name in BUNDLED:
        model = load_classifier(BUNDLED[name])
        inputs, _, _ = load_images(NB_IMAGES)
        sigmas = tuple(default_sigmas(inputs.shape[1:3]))
        return Subject(model, inputs, predicted_targets(model, inputs), sigmas), 1.0
    network = load_imagenet(name)
    _, inputs, targets = read_photographs(network, folder, NB_IMAGES, seed=0)
    pictures = np.zeros((2, *inputs.shape[1:]), np.float32)
    pictures[1] = 255
    black, white = network.preprocessing(pictures)
    return Subject(network.model, inputs, targets, SIGMAS), float(np.max(white - black))


def cutoffs_of(subject):
    return CUTOFFS[subject.inputs.shape[1]]


def ends_of(subject, band):
    """Ends of a band, cut in two at a sixteenth of the size."""
    middle = cutoffs_of(subject)[1]
    return {"all": (0, None), "low": (0, middle), "high": (middle, None)}[band]


def octaves(maps):
    """Parts (K, N, H, W, C) of maps by octave, without their means."""
    full = full_band_sigma(maps.shape[1:3])
    edges = [*2.0 ** np.arange(np.ceil(np.log2(full))), full]
    kept = np.asarray(forgrad_sweep(maps.astype(np.float64), edges, rectify=None))
    means = np.broadcast_to(maps.mean(axis=(1, 2), keepdims=True), maps.shape)
    return np.diff(np.concatenate([means[np.newaxis], kept]), axis=0)


def inner(first, second):
    return np.sum(first * second, axis=(-3, -2, -1))


def correlations(maps, others):
    """Correlation (K, N) of two sets of maps in each octave."""
    first, second = octaves(maps), octaves(others)
    return inner(first, second) / np.sqrt(inner(first, first) * inner(second, second))


def step(subject, unit, norms=NORMS, nb_random=2):
    """Steps along bands of the gradient."""
    found = decision_relevance(
        subject.model,
        subject.inputs,
        subject.targets,
        sigmas=cutoffs_of(subject),
        norms=np.array(norms) * unit,
        nb_random=nb_random,
        batch_size=20,
    )
    return {
        "bands": [str(band) for band in found.bands],
        "kinds": [band.kind for band in found.bands],
        "highs": [band.high for band in found.bands],
        "margins": found.margins,
        "energy": found.energy,
        "change": found.change,
        "flipped": found.flipped,
        "control_change": found.control_change,
        "control_flipped": found.control_flipped,
    }


def remove(subject):
    """
    How often decisions (S, N) stand without what images have above a cutoff.

    The control moves the images as far, by the same frequencies with other phases.
    """

    def stands(moved):
        predicted = predicted_targets(subject.model, moved.astype(np.float32))
        return np.all(predicted == subject.targets, axis=1)

    standing, control = [], []
    for sigma in cutoffs_of(subject):
        kept = np.asarray(forgrad(subject.inputs, sigma, rectify=None))
        removed = subject.inputs - kept
        standing.append(stands(kept))
        draws = [
            stands(subject.inputs + with_random_phases(removed, seed)) for seed in range(NB_DRAWS)
        ]
        control.append(np.mean(draws, axis=0))
    return {"standing": standing, "control": control}


def untrained_step(subject, unit):
    """Steps along bands of a copy with random weights, which has learned nothing."""
    copy = subject._replace(model=randomize(subject.model, seed=0))
    targets = predicted_targets(copy.model, copy.inputs)
    return step(copy._replace(targets=targets), unit, norms=NORMS[1:2], nb_random=1)


def attack(subject, unit, band):
    low, high = ends_of(subject, band)
    settings = {"norm": LARGEST * unit, "low": low, "high": high, **ATTACK}
    found = band_attack(subject.model, subject.inputs, subject.targets, **settings)
    parts = octaves(found.perturbations)
    arrays = {
        "norms": found.norms / unit,
        "control_turned": found.control_turned,
        "own": norms_within(subject, found.low, found.high) / unit,
        "energy": inner(parts, parts),
        **maps_near(subject, found.perturbations),
    }
    if subject.inputs.shape[1] == 96:
        more = band_attack(
            subject.model, subject.inputs, subject.targets, **settings | {"steps": MANY_STEPS}
        )
        arrays["norms_of_more_steps"] = more.norms / unit
    return arrays


def with_random_phases(maps, seed):
    """Maps (N, H, W, C) of the same spectra, whose phases turn alike in all channels."""
    noise = np.random.default_rng(seed).standard_normal((*maps.shape[:3], 1))
    phases = np.exp(1j * np.angle(np.fft.fft2(noise, axes=(1, 2))))
    return np.fft.ifft2(np.fft.fft2(maps, axes=(1, 2)) * phases, axes=(1, 2)).real


def norms_within(subject, low, high):
    """Norms (N,) of the images' own parts in a band, without their means."""
    inputs = subject.inputs - subject.inputs.mean(axis=(1, 2), keepdims=True)
    part = forgrad(inputs, high, rectify=None) - (forgrad(inputs, low, rectify=None) if low else 0)
    return np.sqrt(inner(np.asarray(part), np.asarray(part)))


def maps_near(subject, perturbations):
    """
    Correlations (K, N) by octave of the Saliency of images with that of others nearby.

    At equal distance: the adversarial inputs, images that moved as far in a random direction of
    that spectrum, and two copies with white noise that are as far apart.
    """
    rng = np.random.default_rng(0)

    def maps(inputs):
        return explain("Saliency", subject, inputs.astype(np.float32), subject.targets)

    def scaled(noise, norms):
        return noise * (norms / np.sqrt(inner(noise, noise)))[:, np.newaxis, np.newaxis, np.newaxis]

    size = np.sqrt(inner(perturbations, perturbations))
    random = with_random_phases(perturbations, seed=1)
    copies = [
        subject.inputs + scaled(rng.standard_normal(perturbations.shape), size / np.sqrt(2))
        for _ in range(2)
    ]
    clean = maps(subject.inputs)
    return {
        "adversarial": correlations(clean, maps(subject.inputs + perturbations)),
        "random": correlations(clean, maps(subject.inputs + random)),
        "noisy": correlations(*map(maps, copies)),
    }


def search(subject):
    """Scores (2 + S, N) of raw Saliency, its magnitude and by cutoff; and of another image's."""
    maps = explain("Saliency", subject, subject.inputs, subject.targets)
    return {
        "sigmas": subject.sigmas,
        "own": score(subject, maps, "zero"),
        "other": score(subject, maps[partners(len(maps))], "zero"),
    }


def measure(name, folder, scores):
    """Write what is missing of a network."""
    parts = {
        "steps": step,
        **{f"attack-{band}": lambda *given, band=band: attack(*given, band) for band in BANDS},
        "search": lambda subject, _: search(subject),
        "removed": lambda subject, _: remove(subject),
        "untrained": untrained_step,
    }
    missing = [part for part in parts if not (scores / f"{name}-{part}.npz").exists()]
    if missing:
        subject = open_subject(name, folder)
        for part in missing:
            save(scores / f"{name}-{part}.npz", **parts[part](*subject))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=Path, help="folder with a labels.csv; none: only tables")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--scores", type=Path, default=Path("decisions"), help="folder of results")
    parser.add_argument("--figures", type=Path, help="folder to draw the figure into")
    given = parser.parse_args()
    if given.images:
        given.scores.mkdir(parents=True, exist_ok=True)
        for name in given.networks:
            measure(name, given.images, given.scores)
    found = print_tables(given.scores, given.networks, BANDS, NORMS)
    if given.figures and found:
        draw(found, NORMS, given.figures / "decisions.png")


if __name__ == "__main__":
    main()
