"""
What of the paper's sections 3.1 to 3.4 shows on the bundled classifiers: python benchmarks/paper.py

Prints the tables of docs/paper.md; with `--figures docs/assets` it draws its figures too. Errors
are standard errors over images. It takes about 20 minutes on two cores.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from demonstration import as_markdown
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

from xplique_forgrad import Faithfulness, plots, theory
from xplique_forgrad._statistics import standard_error
from xplique_forgrad.demo import load_classifier, load_images
from xplique_forgrad.demo._report import mean_colour
from xplique_forgrad.layers import (
    diagnose,
    layerwise_high_frequency,
    mean_gradient_after,
    randomize,
    replace_downsampling,
)
from xplique_forgrad.linearization import taylor_residual
from xplique_forgrad.spectrum import (
    band_importance,
    compressed_size,
    expected_frequency,
    fourier_signature,
    high_frequency_power,
    mean_absolute_laplacian,
)


def laplacian_over_range(maps, rectify):
    """The mean absolute Laplacian of maps scaled to [0, 1], as one would take it of pictures."""
    kept = np.abs(maps) if rectify else np.asarray(maps)
    return mean_absolute_laplacian(kept) * kept.std((1, 2)) / np.ptp(kept, axis=(1, 2))


WHITE_BOX, BLACK_BOX = "white-box", "black-box"
MEASURES = {
    "power beyond 24": (high_frequency_power, ".3f"),
    "expected frequency": (expected_frequency, ".1f"),
    "PNG (bytes)": (compressed_size, ".0f"),
    "Laplacian": (mean_absolute_laplacian, ".2f"),
    "Laplacian / range": (laplacian_over_range, ".3f"),
}
POOLINGS = ("max", "average")
SHOWN_LAYERS = ("input", "stem_relu", "pool", "block1_relu2", "block2_relu2", "block3_relu2")
BOARDS = (
    "stem",
    "pool",
    "block2_conv1",
    "block2_shortcut",
    "block3_conv1",
    "block3_shortcut",
)
# what replaces max pooling and strides
SURGERIES = (
    (None, None),
    ("average", None),
    (None, "average"),
    ("average", "average"),
    ("blur", "blur"),
)
SIGMAS = (3, 6, 12, 24, 48)
RADII = (0.1, 0.3, 1.0, 3.0, 10.0)


def white_noise_share(size, rectify):
    noise = np.random.default_rng(0).standard_normal((500, size, size))
    return high_frequency_power(noise, rectify=rectify).mean()


def with_error(values, form=".3f"):
    """Mean and standard error as text."""
    return f"{np.mean(values):{form}} ± {standard_error(values):{form.lstrip('+')}}"


def bundled_explainers(model):
    """Explainers by family."""
    noisy = {"nb_samples": 50, "noise": 0.2}
    return {
        WHITE_BOX: [
            Saliency(model),
            GradientInput(model),
            GuidedBackprop(model),
            IntegratedGradients(model, steps=50),
            SmoothGrad(model, **noisy),
            VarGrad(model, **noisy),
            SquareGrad(model, **noisy),
        ],
        BLACK_BOX: [
            Occlusion(model, batch_size=256),
            Occlusion(model, patch_size=12, patch_stride=6, batch_size=256),
            Rise(model, nb_samples=2000, batch_size=256),
            SobolAttributionMethod(model),
        ],
    }


def compute_explanations(explainers, inputs, targets):
    """Method, and its family and maps (N, H, W)."""
    found = {}
    for family, methods in explainers.items():
        for method in methods:
            name = type(method).__name__.removesuffix("AttributionMethod")
            if isinstance(method, Occlusion):
                name += f" by {method.patch_size}"
            tf.random.set_seed(0)
            maps = np.squeeze(np.asarray(method.explain(inputs, targets)))
            found[name] = (family, maps)
    return found


def content(explanations, rectify):
    """One row a method, one column a measure."""
    rows, orders = {}, {}
    for title, (measure, form) in MEASURES.items():
        values = {name: measure(maps, rectify=rectify) for name, (_, maps) in explanations.items()}
        for name, one in values.items():
            row = rows.setdefault(name, {"box": explanations[name][0].split("-")[0]})
            row[title] = with_error(one, form)
        means = {
            family: [np.mean(values[n]) for n, (kind, _) in explanations.items() if kind == family]
            for family in (WHITE_BOX, BLACK_BOX)
        }
        pairs = np.subtract.outer(means[WHITE_BOX], means[BLACK_BOX]) > 0
        orders[title] = f"{pairs.sum()} of {pairs.size}"
    rows["pairs, white above black"] = {"box": "", **orders}
    return pd.DataFrame(rows).T


def signatures_and_content(name, model, inputs, targets, figures):
    explanations = compute_explanations(bundled_explainers(model), inputs, targets)
    for title, rectify in (("maps as they are", None), ("magnitudes", "magnitude")):
        print(f"\n### High-frequency content, {name}, {title}\n")
        print(as_markdown(content(explanations, rectify)), flush=True)
    if figures and name.startswith("max"):
        grid = {n: fourier_signature(maps) for n, (_, maps) in explanations.items()}
        save(plots.plot_signatures(grid, nb_columns=5)[0].figure, figures / "signatures.jpg")
        figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
        families = {n: family for n, (family, _) in explanations.items()}
        for ax, (measure, label) in zip(
            axes,
            (
                (high_frequency_power, "share of power beyond 24 cycles, magnitudes"),
                (mean_absolute_laplacian, "Laplacian, magnitudes"),
            ),
        ):
            values = {n: measure(m, rectify="magnitude") for n, (_, m) in explanations.items()}
            plots.plot_content(values, families=families, label=label, ax=ax)
        save(figure, figures / "content.jpg")


def band_rows(table):
    """One row a band, each number with its error."""
    return pd.DataFrame(
        {
            column: [
                f"{mean:+.3f} ± {error:.3f}"
                for mean, error in zip(table[column], table[f"{column}_error"])
            ]
            for column in ("energy", "alone", "added")
        },
        index=["mean"] + [f"{r.low:g} to {r.high:.3g}" for r in table.iloc[1:].itertuples()],
    )


def bands(name, model, inputs, targets, figures):
    metric = Faithfulness(
        model, inputs, targets, 256, baseline_mode=mean_colour, activation="softmax"
    )
    for method in (Saliency(model), GradientInput(model)):
        table = band_importance(method.explain(inputs, targets), metric)
        title = f"{type(method).__name__}, {name}"
        print(f"\n### What each band adds to faithfulness, magnitude of {title}\n")
        print(as_markdown(band_rows(table)), flush=True)
        if figures and title.startswith("Saliency, max"):
            save(plots.plot_bands(table)[0].figure, figures / "bands.jpg")


def residual_rows(found, scale=1.0):
    """One row a cutoff, median over images and middle half; radii in units of the scale."""
    ratios = dict(zip([f"sigma {s:g}" for s in found.sigmas], found.ratio))
    ratios["no gradient"] = found.zero_order_ratio
    rows = {
        name: [
            f"{middle:.2f} ({low:.2f}-{high:.2f})"
            for low, middle, high in np.percentile(ratio, [25, 50, 75], axis=0).T
        ]
        for name, ratio in ratios.items()
    }
    return pd.DataFrame(rows, [f"radius {radius / scale:g}" for radius in found.radii]).T


def residuals(inputs, targets, figures):
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
    for pooling, ax in zip(POOLINGS, axes):
        model = load_classifier(pooling)
        found = taylor_residual(model, inputs, targets, sigmas=SIGMAS, radii=RADII, nb_samples=100)
        print(f"\n### Residual over that of the full gradient, {pooling} pooling\n")
        print(as_markdown(residual_rows(found)), flush=True)
        plots.plot_residuals(found, ax=ax).set_title(f"{pooling} pooling", fontsize=9)
    if figures:
        save(figure, figures / "residuals.jpg")


def layer_tables(networks, inputs, targets, layers=None):
    """Curves of each network, trained and random, the mean of three; deviation of these three."""
    tables, spreads = {}, []
    for name, trained in networks.items():
        models = {"trained": [trained], "random": [randomize(trained, seed) for seed in range(3)]}
        for rectify in (None, "magnitude"):
            for state, some in models.items():
                found = [
                    layerwise_high_frequency(model, inputs, targets, layers, rectify=rectify)
                    for model in some
                ]
                means = np.array([one["mean"] for one in found])
                spreads.append(means[:, 0].std(ddof=1) if len(found) > 1 else 0)
                table = found[0].assign(mean=means.mean(axis=0))
                table.attrs = found[0].attrs
                tables[f"{name}, {state}" + (", magnitudes" if rectify else "")] = table
    return tables, max(spreads)


def print_layers(tables, spread, shown):
    """Shares at the layers shown, beside those of white noise of their sizes."""
    rows = {}
    for key, table in tables.items():
        chosen = table.set_index("layer").loc[list(shown)]
        rows[key] = chosen["mean"].map("{:.2f}".format)
    sizes = chosen["height"]
    for rectify in (None, "magnitude"):
        name = "white noise" + (", magnitudes" if rectify else "")
        rows[name] = [f"{white_noise_share(size, rectify):.2f}" for size in sizes]
    print("\n### Share of the gradient's power beyond a quarter of the layer's size\n")
    print(as_markdown(pd.DataFrame(rows).T))
    error = max(table["standard_error"].max() for table in tables.values())
    print(f"\n### Largest standard error {error:.3f}, deviation at the input over random nets")
    print(f"{spread:.3f}", flush=True)


def layers(inputs, targets, figures):
    networks = {f"{pooling} pooling": load_classifier(pooling) for pooling in POOLINGS}
    tables, spread = layer_tables(networks, inputs, targets)
    print_layers(tables, spread, SHOWN_LAYERS)
    if figures:
        draw_layers(tables, figures)


def draw_layers(tables, figures):
    figure, axes = plt.subplots(2, 1, figsize=(8, 7.5), sharey=True, layout="constrained")
    for ax, pooling in zip(axes, POOLINGS):
        shown = {s: tables[f"{pooling} pooling, {s}"] for s in ("trained", "random")}
        plots.plot_layers(shown, ax=ax)
        ax.text(0.01, 0.04, f"{pooling} pooling", transform=ax.transAxes, weight="bold")
    save(figure, figures / "layers.jpg")


def checkerboards(inputs, figures):
    rows, pictures = {}, []
    for pooling, suffix in (("max", ""), ("average", "_pool")):
        model = load_classifier(pooling)
        for layer in BOARDS:
            name = layer if layer == "pool" else layer + suffix
            row = rows.setdefault(layer, {})
            for title, rectify in (("magnitude", "magnitude"), ("signed", None)):
                found = mean_gradient_after(model, inputs, layer=name, rectify=rectify)
                row[f"{pooling}, {title}"] = f"{found.checkerboard:.3f}"
                if rectify and layer in ("pool", "block2_shortcut"):
                    pictures.append(found)
            row["white noise"] = f"{found.expected_of_noise:.4f}"
    print(f"\n### Checkerboard score of the mean gradient of {len(inputs)} images\n")
    print(as_markdown(pd.DataFrame(rows).T), flush=True)
    if figures:
        figure, axes = plt.subplots(1, len(pictures), figsize=(12, 2.8), layout="constrained")
        for ax, found in zip(axes, pictures):
            plots.plot_mean_gradient(found, ax=ax)
        for ax, pooling in zip(axes, ("max", "max", "average", "average")):
            ax.set_title(f"{pooling} pooling\n{ax.get_title()}", fontsize=7)
        save(figure, figures / "checkerboards.jpg")


def print_surgery(model, inputs, targets, many, variants=SURGERIES):
    """Inputs to explain, and many pairs (inputs, targets) to predict."""
    rows = {}
    for max_pool, strides in variants:
        twin = replace_downsampling(model, max_pool=max_pool, strides=strides)
        change = twin.compare(*many)
        maps = Saliency(twin.model).explain(inputs, targets)
        curve = layerwise_high_frequency(twin.model, inputs, targets, [])
        rows[f"max pooling: {max_pool or 'kept'}, strides: {strides or 'kept'}"] = {
            "gradient at the input": f"{curve['mean'][0]:.2f}",
            "Saliency map": with_error(high_frequency_power(maps)),
            "same class": f"{change.agreement:.2f} ± {change.agreement_error:.2f}",
            "accuracy": f"{change.accuracy_after:.2f} ± {change.accuracy_after_error:.2f}",
        }
    print(as_markdown(pd.DataFrame(rows).T), flush=True)


def surgery(inputs, targets):
    print("\n### Surgery on the max-pooling network\n")
    print_surgery(load_classifier("max"), inputs, targets, load_images(256, seed=301)[:2])


def propositions():
    print("\n### Noise-norm ratio of 224 x 224, sigma = 10\n")
    rows = {}
    for title, law in (
        ("disk", theory.noise_norm_ratio((224, 224), 10)),
        ("box", theory.noise_norm_ratio((224, 224), 10, window="box")),
        ("as printed", theory.preprint_noise_norm_ratio((224, 224), 10)),
    ):
        low, high = law.ppf([0.025, 0.975])
        rows[title] = {
            "mean": f"{law.mean():.1f}",
            "95 % interval": f"{low:.1f} to {high:.1f}",
            "P(R > 70)": f"{law.sf(70):.6f}",
        }
    print(as_markdown(pd.DataFrame(rows).T))
    print("\n### Samples of SmoothGrad for t = L / 10 with probability 0.01, 224 x 224\n")
    rows = {}
    for formula in ("preprint", "bernstein"):
        rows[formula] = {
            title: theory.smoothgrad_nb_samples(0.1, 0.01, 1, v, (224, 224), formula=formula)
            for title, v in (("L = 1, variance 224", 224.0), ("L = 1, variance 1", 1.0))
        }
    print(as_markdown(pd.DataFrame(rows).T.astype(str)), flush=True)


def save(figure, path):
    figure.savefig(path, dpi=90, pil_kwargs={"quality": 80})
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--seed", type=int, default=300, help="of the images")
    parser.add_argument("--figures", type=Path, help="folder to draw the figures into")
    arguments = parser.parse_args()
    inputs, targets, _ = load_images(arguments.images, seed=arguments.seed)
    propositions()
    layers(inputs, targets, arguments.figures)
    checkerboards(load_images(128, seed=arguments.seed).inputs, arguments.figures)
    surgery(inputs, targets)
    residuals(inputs, targets, arguments.figures)
    for pooling in POOLINGS:
        model, name = load_classifier(pooling), f"{pooling} pooling"
        found = diagnose(model, inputs, targets, verbose=0)
        print(f"\n### Diagnosis, {name}\n\n```text\n{found}\n```", flush=True)
        if arguments.figures and pooling == "max":
            save(found.plot(), arguments.figures / "diagnosis.jpg")
        bands(name, model, inputs, targets, arguments.figures)
        signatures_and_content(name, model, inputs, targets, arguments.figures)


if __name__ == "__main__":
    main()
