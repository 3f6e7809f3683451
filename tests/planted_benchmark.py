"""
Records of a benchmark with a known truth: no model is run.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from xplique_forgrad.benchmark import Benchmark

GAINS = {"as is": (0, 0), "rectified": (1, 0), "filtered": (1, 1)}


class Planted(NamedTuple):
    """A method: its mean specific faithfulness as is, and what the two steps add to it."""

    name: str
    kind: str
    as_is: float
    by_rectifying: float = 0.0
    by_filtering: float = 0.0
    # of the other image's map by the filter: it is no specific gain
    by_control: float = 0.0
    sigma: float = 6.0
    passes: tuple = (1.0, 1.0)

    def specific(self, treatment):
        rectified, filtered = GAINS[treatment]
        return self.as_is + rectified * self.by_rectifying + filtered * self.by_filtering


METHODS = (
    Planted("Best", "white", 0.10, by_filtering=0.20),
    Planted("Signed", "white", 0.05, by_rectifying=0.15, passes=(50, 50)),
    Planted("Plain", "black", 0.12, passes=(400, 0), sigma=np.nan),
    Planted("Harmed", "grey", 0.20, by_filtering=-0.10, sigma=20.0),
    Planted("Noise", "control", 0.0, by_control=0.05, passes=(0, 0)),
)
FAILED = {"model": "net", "method": "Broken", "kind": "grey", "status": "failed"}
COLUMNS = ["deletion", "insertion", "control", "mu_fidelity", "stability", "high_frequency"]


def planted_tables(
    methods=METHODS,
    models=("net",),
    settings=(("zero", 1),),
    nb_images=20,
    spread=0.01,
    seed=0,
    failures=(FAILED,),
):
    """Records, methods and choices; images are unlike, and methods differ in them by the spread."""
    rng = np.random.default_rng(seed)
    records, done, choices = [], [], []
    for model in models:
        of_images = rng.random((3, nb_images))
        for method in methods:
            cost = {"nb_images": nb_images, "seconds": 2.5, "options": ""}
            passes = dict(zip(("forward", "backward"), map(float, method.passes)))
            named = {"model": model, "method": method.name}
            done.append(
                {**named, "kind": method.kind, "status": "done", "reason": "", **cost, **passes}
            )
            for baseline, patch_size in settings:
                setting = {**named, "baseline": baseline, "patch_size": patch_size}
                candidate = "raw" if np.isnan(method.sigma) else f"sigma={method.sigma:g}"
                how = {"nb_images": 10, "nb_evaluations": 1000, "candidate": candidate}
                choices.append({**setting, "sigma": method.sigma, **how})
                noise = spread * rng.standard_normal((2, nb_images))
                for treatment, (rectified, filtered) in GAINS.items():
                    signed = method.by_rectifying != 0 and rectified
                    own = method.specific(treatment) + noise[0] + filtered * noise[1]
                    own = own + (spread * rng.standard_normal(nb_images) if signed else 0)
                    deletion = 0.2 + 0.1 * of_images[0]
                    control = 0.1 + 0.1 * of_images[1] + filtered * method.by_control
                    values = np.stack(
                        [
                            *(deletion, deletion + control + own, control, 0.3 * of_images[2]),
                            np.where(np.arange(nb_images) < nb_images // 2, 0.5, np.nan),
                            np.full(nb_images, 0.4 - 0.3 * filtered),
                        ]
                    )
                    records += [
                        {
                            **setting,
                            "treatment": treatment,
                            "image": image,
                            **dict(zip(COLUMNS, values[:, image])),
                            "agreement": 1.0 - 0.2 * filtered,
                        }
                        for image in range(nb_images)
                    ]
    for failure in failures:
        empty = {"nb_images": 0, "seconds": np.nan, "forward": np.nan, "backward": np.nan}
        done.append({"reason": "no convolution, said it", **failure, **empty, "options": ""})
    return tuple(map(pd.DataFrame, (records, done, choices)))


PROVENANCE = {
    "versions": {"xplique-forgrad": "0.1.0"},
    "device": "CPU",
    "date": "2026-01-02",
    "seed": 0,
    "settings": {"steps": 10, "baselines": ["zero"]},
    "data": {"net": {"nb_images": 20, "fingerprint": "abc"}},
}


def planted_benchmark(provenance=PROVENANCE, **options):
    return Benchmark(*planted_tables(**options), provenance)
