"""
Kinds of low-pass at equal bandwidth: is the Fourier disk better than a blur, or a median?

    python benchmarks/filters.py --images DIR --scores filters.npz --figures docs/assets
    python benchmarks/filters.py --from filters.npz --figures docs/assets   # computes nothing

DIR holds photographs of ImageNet and a labels.csv. The weights come with the extra `imagenet`; the
network "bundled" needs neither. Filters act on the magnitude of Saliency maps. Rivals are those of
SciPy and scikit-image, set to the half-power bandwidth of a disk on white noise. The score is
Insertion - Deletion of the softmax of the predicted class, in 10 steps; removed pixels take 0 after
preprocessing, about the mean colour, and the mean colour of the image on the bundled network. A
gain is specific as far as the map of another image, filtered alike, does not gain it too. It takes
35 minutes of processor time.
"""

import argparse
import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from demonstration import as_markdown
from imagenet import SCORING, predicted_targets, read_photographs
from paper import with_error
from scipy import ndimage, special
from search import seconds
from skimage.measure import block_reduce
from skimage.restoration import denoise_bilateral
from skimage.segmentation import slic
from sklearn.metrics import roc_auc_score
from xplique.attributions import Saliency

from xplique_forgrad import Faithfulness, forgrad
from xplique_forgrad.demo import load_classifier, load_images
from xplique_forgrad.demo._report import mean_colour
from xplique_forgrad.networks import load_imagenet
from xplique_forgrad.search._gains import paired_gain
from xplique_forgrad.spectrum import radial_spectrum

# and how many images of each
NETWORKS = {"squeezenet": 64, "efficientnet-lite0": 48, "bundled": 256}
# sigma of the disk, by the size of the maps
CUTOFFS = {224: (5, 12), 96: (3, 6)}
NB_NOISE_MAPS = 32
# of asking SLIC for a number of segments
NB_TRIES = 3
# of SmoothGrad and AdaptGrad
NB_SAMPLES, NOISE, CONFIDENCE = 20, 0.1, 0.95
UNFILTERED, DISK, SUPERPIXEL = "unfiltered", "disk", "superpixel mean"
SALIENCY, POOLED = "Saliency", "average backward"


# Filters of maps (N, H, W): linear or not, before and after which magnitudes are taken


def windowed(maps, sigma, window):
    return np.asarray(forgrad(maps, sigma, window=window, rectify=None))


def blur(maps, deviation):
    return ndimage.gaussian_filter(maps, (0, deviation, deviation))


def median(maps, size):
    return ndimage.median_filter(maps, (1, size, size))


def bilateral(maps, deviation):
    """Two deviations to each side: the default of three takes twice as long."""
    lows = maps.min(axis=(1, 2))
    window = 2 * int(2 * deviation) + 1
    options = {"sigma_spatial": deviation, "mode": "symmetric"}
    return np.stack(
        [low + denoise_bilateral(one - low, window, **options) for one, low in zip(maps, lows)]
    )


def block_mean(maps, size):
    """Each block is its mean; those at the lower and right borders are cut off by them."""
    sums, numbers = (
        block_reduce(values, (1, size, size), np.sum) for values in (maps, np.ones_like(maps[:1]))
    )
    means = (sums / numbers).repeat(size, axis=1).repeat(size, axis=2)
    return means[:, : maps.shape[1], : maps.shape[2]]


def superpixel_mean(maps, segments):
    """Each segment is its mean; segments (N, H, W) are labels from 0."""
    means = []
    for one, labels in zip(maps, segments):
        sums, numbers = np.bincount(labels.ravel(), one.ravel()), np.bincount(labels.ravel())
        means.append((sums / np.maximum(numbers, 1))[labels])
    return np.stack(means)


def find_segments(pictures, nb_segments):
    """Labels (N, H, W) of so many segments on average: SLIC finds fewer than it is asked for."""
    asked = nb_segments
    for _ in range(NB_TRIES):
        labels = np.stack([slic(picture, round(asked), start_label=0) for picture in pictures])
        asked *= nb_segments / mean_number(labels)
    return labels


def mean_number(labels):
    return np.mean([len(np.unique(one)) for one in labels])


class Kind(NamedTuple):
    """A filter of maps and a parameter, values of the parameter from narrow to wide, its text."""

    apply: Callable
    candidates: Sequence
    text: str


# deviations in pixels
WIDTHS = np.arange(300, 20, -1) / 20
SIGMAS = np.arange(10, 500) / 20
KINDS = {
    "box": Kind(partial(windowed, window="box"), range(1, 48), "sigma {:g}"),
    "gaussian": Kind(partial(windowed, window="gaussian"), SIGMAS, "sigma {:.1f}"),
    "butterworth": Kind(partial(windowed, window="butterworth"), SIGMAS, "sigma {:.1f}"),
    "blur (SciPy)": Kind(blur, WIDTHS, "{:.1f} px"),
    "median": Kind(median, range(29, 1, -2), "{:d} px"),
    "bilateral": Kind(bilateral, WIDTHS[::10], "{:.1f} px"),
    "block mean": Kind(block_mean, range(48, 1, -1), "{:d} px"),
}


def half_power_bandwidth(apply, noise):
    """
    Radius in cycles per map at which a filter halves the power of white noise (N, H, W).

    Relative to the lowest frequencies, of which a median, say, leaves more than a mean does: there
    the logarithm of the gain is a line in the radius squared, and its value at 0 counts as 1.
    """
    radius, power = radial_spectrum(noise)
    gain = (radial_spectrum(apply(noise)).power.sum(axis=0) / power.sum(axis=0))[1:]
    radius = radius[1:]
    # a wide ring holds more frequencies
    low = radius <= max(2, 0.6 * np.argmax(gain < gain[0] / 2))
    line = np.polyfit(radius[low] ** 2, np.log(gain[low]), 1, w=np.sqrt(radius[low]))
    gain = gain / np.exp(line[1])
    after = int(np.argmax(gain < 0.5))
    if not after:
        return float("nan")
    share = (gain[after - 1] - 0.5) / (gain[after - 1] - gain[after])
    return float(radius[after - 1] + share)


def white_noise(size):
    noise = np.random.default_rng(0).standard_normal((NB_NOISE_MAPS, size, size))
    return noise - noise.mean(axis=(1, 2), keepdims=True)


def matched(kind, target, noise):
    """The candidate whose bandwidth is nearest to the target, and that bandwidth."""
    measure = cache(lambda parameter: half_power_bandwidth(partial_of(kind, parameter), noise))
    index = bisect_left(kind.candidates, target, key=measure)
    nearest = kind.candidates[max(0, index - 1) : index + 1]
    best = min(nearest, key=lambda parameter: abs(measure(parameter) - target))
    return best, measure(best)


def partial_of(kind, parameter):
    return lambda maps: kind.apply(maps, parameter)


class Setting(NamedTuple):
    """A filter that is set: its name, the cutoff of the disk that it is matched with, and so on."""

    name: str
    cutoff: float
    text: str
    bandwidth: float
    apply: Callable


@cache
def make_settings(size):
    """Of each cutoff the disk and its rivals, and the size of the blocks."""
    noise, settings, blocks = white_noise(size), [], {}
    for cutoff in CUTOFFS[size]:
        disk = partial(windowed, sigma=cutoff, window=DISK)
        found = half_power_bandwidth(disk, noise)
        settings.append(Setting(DISK, cutoff, f"sigma {cutoff:g}", found, disk))
        for name, kind in KINDS.items():
            parameter, bandwidth = matched(kind, cutoff, noise)
            text = kind.text.format(parameter)
            settings.append(Setting(name, cutoff, text, bandwidth, partial_of(kind, parameter)))
            if name == "block mean":
                blocks[cutoff] = parameter
    return settings, blocks


# Networks, and gradients that are less noisy from the start


class Subject(NamedTuple):
    """A network, images, the one-hot class that it predicts, the range of inputs, true masks."""

    name: str
    model: keras.Model
    pictures: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray
    low: np.ndarray
    high: np.ndarray
    baseline: float | Callable
    masks: np.ndarray | None


def load_subject(name, folder, nb_images, seed):
    if name == "bundled":
        model = load_classifier()
        inputs, _, masks = load_images(nb_images, seed=seed)
        targets = predicted_targets(model, inputs)
        ends = np.zeros(3), np.ones(3)
        return Subject(name, model, inputs, inputs, targets, *ends, mean_colour, masks)
    network = load_imagenet(name)
    pictures, inputs, targets = read_photographs(network, folder, nb_images, seed)
    black, white = (np.full_like(pictures[:1], value) for value in (0, 255))
    ends = (network.preprocessing(extreme)[0, 0, 0] for extreme in (black, white))
    return Subject(name, network.model, pictures, inputs, targets, *ends, 0.0, None)


class AverageBackward(keras.layers.MaxPooling2D):
    """Max pooling whose gradient is that of average pooling."""

    def call(self, inputs):
        average = keras.ops.average_pool(
            inputs, self.pool_size, self.strides, self.padding, self.data_format
        )
        return average + keras.ops.stop_gradient(super().call(inputs) - average)


def with_average_backward(model):
    """The same function with another gradient; None for a model without max pooling."""

    def copy(layer):
        is_pool = isinstance(layer, keras.layers.MaxPooling2D)
        return (AverageBackward if is_pool else type(layer)).from_config(layer.get_config())

    if not any(isinstance(layer, keras.layers.MaxPooling2D) for layer in model.layers):
        return None
    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    return twin


def mean_gradient(subject, deviation):
    """
    Gradients of noisy copies of the inputs, averaged: their largest magnitude over the channels.

    The deviation of the noise is one number, or one for each value of the inputs.
    """
    explainer, rng = Saliency(subject.model, reducer=None), np.random.default_rng(0)
    total = np.zeros_like(subject.inputs)
    for _ in range(NB_SAMPLES):
        noise = rng.standard_normal(subject.inputs.shape, np.float32)
        noisy = (subject.inputs + deviation * noise).astype(np.float32)
        total += explainer.batch_gradient(explainer.model, noisy, subject.targets, 32)
    return np.abs(total).max(axis=-1) / NB_SAMPLES


def adaptive_deviation(subject):
    """
    Noise that stays within the range of the inputs with the given probability, value by value.

    Ref. Zhou & al., AdaptGrad: adaptive sampling to reduce noise (2024),
    https://arxiv.org/abs/2410.07711.
    """
    to_ends = np.minimum(subject.inputs - subject.low, subject.high - subject.inputs)
    return np.maximum(to_ends, 0) / (np.sqrt(2) * special.erfinv(CONFIDENCE))


def compute_maps(subject):
    """Maps (N, H, W) of Saliency, and of gradients that are denoised at their source."""

    def explain(model):
        return np.asarray(Saliency(model).explain(subject.inputs, subject.targets))[..., 0]

    maps = {SALIENCY: explain(subject.model)}
    twin = with_average_backward(subject.model)
    if twin is not None:
        maps[POOLED] = explain(twin)
    maps["SmoothGrad"] = mean_gradient(subject, NOISE * float(np.mean(subject.high - subject.low)))
    maps["AdaptGrad"] = mean_gradient(subject, adaptive_deviation(subject))
    return maps


# Scores


class Row(NamedTuple):
    """Maps (N, H, W) of a method as a filter leaves them, and those of another image alike."""

    method: str
    setting: Setting
    milliseconds: float
    own: np.ndarray
    control: np.ndarray


def filtered_rows(subject, others):
    """Rows of maps: Saliency by each filter, the other methods unfiltered and by the disk."""
    settings, blocks = make_settings(subject.inputs.shape[1])
    nothing = Setting(UNFILTERED, 0, "", np.nan, lambda maps: maps)
    rows = []
    for method, maps in compute_maps(subject).items():
        chosen = [one for one in settings if method == SALIENCY or one.name == DISK]
        for setting in (nothing, *chosen):
            setting.apply(np.abs(maps[:1]))  # traced before it is timed
            taken, own = seconds(lambda: np.abs(setting.apply(np.abs(maps))))
            rows.append(Row(method, setting, 1e3 * taken / len(maps), own, own[others]))
        if method == SALIENCY:
            rows += [superpixel_row(subject, maps, others, *pair) for pair in blocks.items()]
    return rows


def superpixel_row(subject, maps, others, cutoff, block):
    """Segments are those of the image that is scored, whosever the map is."""
    nb_segments = round(maps[0].size / block**2)
    finding, segments = seconds(lambda: find_segments(subject.pictures, nb_segments))
    taken, own = seconds(lambda: superpixel_mean(maps, segments))
    noise = white_noise(maps.shape[1])
    bandwidth = half_power_bandwidth(lambda noise: superpixel_mean(noise, segments), noise)
    text = f"{mean_number(segments):.0f} segments"
    setting = Setting(SUPERPIXEL, cutoff, text, bandwidth, superpixel_mean)
    control = superpixel_mean(maps[others], segments)
    milliseconds = 1e3 * (finding / NB_TRIES + taken) / len(maps)
    return Row(SALIENCY, setting, milliseconds, own, control)


def cycle(nb_images, seed):
    """For each image another one."""
    order = np.random.default_rng(seed).permutation(nb_images)
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return others


class Result(NamedTuple):
    """R rows of N images; scores (R, 2, N) of own maps and of others', areas (R, N) or (R, 0)."""

    methods: np.ndarray
    filters: np.ndarray
    cutoffs: np.ndarray
    settings: np.ndarray
    bandwidths: np.ndarray
    milliseconds: np.ndarray
    scores: np.ndarray
    areas: np.ndarray

    @property
    def specific(self):
        """What own maps score beyond those of other images, (R, N)."""
        return self.scores[:, 0] - self.scores[:, 1]

    def index(self, method, name=UNFILTERED, cutoff=0):
        is_it = (self.methods == method) & (self.filters == name) & (self.cutoffs == cutoff)
        return int(np.flatnonzero(is_it)[0])


def measure(subject, seed):
    rows = filtered_rows(subject, cycle(len(subject.inputs), seed))
    metric = Faithfulness(
        subject.model, subject.inputs, subject.targets, baseline_mode=subject.baseline, **SCORING
    )
    scores = np.empty((len(rows), 2, len(subject.inputs)))
    for batch in metric.samples.batches(16):
        maps = [part[batch.positions] for row in rows for part in (row.own, row.control)]
        found = metric.score(batch, np.stack(maps).astype(np.float32))
        scores[..., batch.positions] = found.reshape(len(rows), 2, -1)
    areas = np.empty((len(rows), 0))
    if subject.masks is not None:
        areas = [
            [roc_auc_score(mask.ravel(), one.ravel()) for mask, one in zip(subject.masks, row.own)]
            for row in rows
        ]
    return Result(
        np.array([row.method for row in rows]),
        np.array([row.setting.name for row in rows]),
        np.array([row.setting.cutoff for row in rows], float),
        np.array([row.setting.text for row in rows]),
        np.array([row.setting.bandwidth for row in rows]),
        np.array([row.milliseconds for row in rows]),
        scores,
        np.array(areas),
    )


def write_results(path, results):
    arrays = {
        f"{name}/{field}": values
        for name, result in results.items()
        for field, values in result._asdict().items()
    }
    np.savez_compressed(path, **arrays)


def read_results(path):
    with np.load(path) as arrays:
        names = dict.fromkeys(key.split("/")[0] for key in arrays)
        return {
            name: Result(*(arrays[f"{name}/{field}"] for field in Result._fields)) for name in names
        }


# Tables and the figure


def with_interval(differences):
    gain = paired_gain(differences)
    return f"{gain.mean:+.3f} ± {gain.standard_error:.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def print_filters(name, result, cutoff):
    """Gains of Saliency over its magnitude, unfiltered."""
    start, disk = result.index(SALIENCY), result.index(SALIENCY, DISK, cutoff)
    gains, specific = result.scores - result.scores[start], result.specific
    rows = {}
    for i in np.flatnonzero((result.methods == SALIENCY) & (result.cutoffs == cutoff)):
        row = rows[result.filters[i]] = {
            "set to": result.settings[i],
            "bandwidth": f"{result.bandwidths[i]:.1f}",
            "ms per map": f"{result.milliseconds[i]:.1f}",
            "own gain": with_error(gains[i, 0], "+.3f"),
            "another image's": with_error(gains[i, 1], "+.3f"),
            "specific gain": with_interval(specific[i] - specific[start]),
            "specific, less the disk's": "",
        }
        if i != disk:
            row["specific, less the disk's"] = with_interval(specific[i] - specific[disk])
        if result.areas.size:
            row["pixel AUC"] = with_error(result.areas[i])
            row["AUC, less the disk's"] = (
                "" if i == disk else with_error(result.areas[i] - result.areas[disk], "+.3f")
            )
    own, control = result.scores[start]
    print(
        f"\n### {name}, bandwidth of a disk of sigma {cutoff:g}, {len(own)} images\n\n"
        f"Unfiltered: own {with_error(own)}, another image's {with_error(control)}, specific "
        f"{with_error(specific[start])}"
        + (f", pixel AUC {with_error(result.areas[start])}" if result.areas.size else "")
        + ".\n"
    )
    print(as_markdown(pd.DataFrame(rows).T), flush=True)


def print_sources(name, result):
    """Methods whose gradients are denoised at their source, beside Saliency with the low disk."""
    specific, saliency = result.specific, result.index(SALIENCY)
    low = result.cutoffs[result.cutoffs > 0].min()
    best = result.index(SALIENCY, DISK, low)
    rows = {}
    for i in np.flatnonzero(np.isin(result.filters, (UNFILTERED, DISK))):
        method = result.methods[i]
        pairs = {
            "less unfiltered Saliency's": saliency,
            "gained by the disk": result.index(method),
            f"less Saliency's at sigma {low:g}": best,
        }
        rows[f"{method}, {result.settings[i] or UNFILTERED}"] = {
            "own": with_error(result.scores[i, 0]),
            "another image's": with_error(result.scores[i, 1]),
            "specific": with_error(specific[i]),
            **{
                title: "" if i == other else with_interval(specific[i] - specific[other])
                for title, other in pairs.items()
            },
        }
    print(f"\n### {name}, denoised at the source\n")
    print(as_markdown(pd.DataFrame(rows).T), flush=True)


def draw(results, path):
    """Specific gains over unfiltered Saliency, one row a filter, one panel a network."""
    filters = [DISK, *KINDS, SUPERPIXEL]
    sources = [POOLED, "SmoothGrad", "AdaptGrad"]
    labels = [*filters, *sources]
    figure, axes = plt.subplots(
        *(1, len(results)), figsize=(8.6, 5), sharey=True, layout="constrained", squeeze=False
    )
    for ax, (name, result) in zip(axes[0], results.items()):
        cutoffs = sorted(set(result.cutoffs) - {0})
        start = result.specific[result.index(SALIENCY)]
        for i, cutoff in enumerate(result.cutoffs):
            is_source = result.methods[i] != SALIENCY
            if not cutoff and not is_source:
                continue
            label = result.methods[i] if is_source else result.filters[i]
            # the low cutoff above, what is unfiltered between
            side = (cutoffs.index(cutoff) * 2 - 1) if cutoff else 0
            gain = paired_gain(result.specific[i] - start)
            ax.errorbar(
                *(gain.mean, labels.index(label) + 0.25 * side),
                xerr=[[gain.mean - gain.low], [gain.high - gain.mean]],
                fmt={-1: "o", 0: "D", 1: "s"}[side],
                color={-1: "C0", 0: "0.4", 1: "C1"}[side],
                **{"markersize": 4, "elinewidth": 1.2},
            )
        ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        ax.axhline(len(filters) - 0.5, color="0.6", linewidth=0.8, linestyle=":")
        first, second = (f"{cutoff:g}" for cutoff in cutoffs)
        nb_images = result.scores.shape[-1]
        ax.set_title(f"{name}, {nb_images} images\nsigma {first} and {second}", fontsize=10)
        ax.xaxis.set_major_locator(plt.MaxNLocator(4))
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("specific gain over unfiltered Saliency, 95 % interval", fontsize=10)
    marks = {"lower sigma": "oC0", "higher sigma": "sC1", "unfiltered": "D0.4"}
    handles = [
        plt.Line2D([], [], linestyle="", marker=mark[0], color=mark[1:], markersize=4, label=text)
        for text, mark in marks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=10, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=Path, help="folder with a labels.csv")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--number", type=int, help="of images, instead of the network's own")
    parser.add_argument("--seed", type=int, default=0, help="of the images and their pairs")
    parser.add_argument("--scores", type=Path, help="file .npz to write the scores to")
    parser.add_argument("--from", dest="given", type=Path, help="scores to read, not to compute")
    parser.add_argument("--figures", type=Path, help="folder to draw the figure into")
    options = parser.parse_args()
    results = {}
    if options.given:
        found = read_results(options.given)
        results = {name: found[name] for name in options.networks if name in found}
    elif options.images is None and set(options.networks) != {"bundled"}:
        parser.error("--images DIR is missing: the ImageNet networks explain its photographs")
    else:
        for name in options.networks:
            nb_images = options.number or NETWORKS[name]
            subject = load_subject(name, options.images, nb_images, options.seed)
            taken, results[name] = seconds(lambda: measure(subject, options.seed))
            print(f"{name}: {taken:.0f} s", flush=True)
            if options.scores:
                write_results(options.scores, results)
    for name, result in results.items():
        for cutoff in sorted(set(result.cutoffs) - {0}):
            print_filters(name, result, cutoff)
        print_sources(name, result)
    if options.figures:
        draw(results, options.figures / "filters.png")


if __name__ == "__main__":
    main()
