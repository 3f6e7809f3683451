"""
What is measured of a row: its best cutoffs, and the scores of its maps, treated in each way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._samples import ArraySamples, Batch, Samples
from ..metrics import Faithfulness, MuFidelity
from ..metrics._mu_fidelity import rank_correlation
from ..optimizer import SigmaOptimizer
from ..search import Candidate
from ..search._candidates import filtered_maps
from ..search.controls import OtherImage
from ..spectrum import high_frequency_power
from ._plan import Plan, Setting
from ._records import TREATMENTS
from ._rows import Row

# of the range of the inputs: radius of the noise of Stability
_RADIUS = 0.1
_RAW = Candidate()


class Subject(NamedTuple):
    """A model, and the images that it is explained on."""

    name: str
    model: Any
    samples: Samples
    activation: str | None
    axes: tuple[int, ...]
    # of the inputs
    spread: float


class Chunk(NamedTuple):
    """Images that are scored together, the first of them, and noisy copies of these."""

    batch: Batch
    few: Batch
    noisy: Batch


class Measure:
    """
    The measures of a model.

    Parameters
    ----------
    subject
        The model and its images.
    plan
        How methods are compared.
    """

    def __init__(self, subject: Subject, plan: Plan):
        self.subject, self.plan = subject, plan
        model, samples = subject.model, subject.samples
        self._faithfulness: dict[Setting, Faithfulness] = {}
        self._mu_fidelity: dict[str, MuFidelity] = {}
        for setting in plan.settings:
            scoring = vars(plan.scoring(setting.baseline, subject.activation))
            self._faithfulness[setting] = Faithfulness(
                model, samples, steps=plan.steps, patch_size=setting.patch_size, **scoring
            )
            if plan.mu_fidelity_samples and setting.baseline not in self._mu_fidelity:
                self._mu_fidelity[setting.baseline] = MuFidelity(
                    model,
                    samples,
                    nb_samples=plan.mu_fidelity_samples,
                    seed=plan.seed,
                    **scoring,
                )
        # looks at the model once, and warns of what is odd
        next(iter(self._faithfulness.values())).are_probabilities()

    def choose(self, maps: np.ndarray, images: ArraySamples) -> list[dict[str, Any]]:
        """The best cutoff in each setting, by the maps of images that are not scored."""
        search, found = self.plan.search, []
        for setting in self.plan.settings:
            scoring = vars(self.plan.scoring(setting.baseline, self.subject.activation))
            optimizer = SigmaOptimizer(
                None,
                sigmas=search.sigmas,
                window=search.windows,
                rectify=search.rectifications,
                border=search.border,
                control="other_image" if search.subtract_control else None,
                subtract_control=search.subtract_control,
                axes=self.subject.axes,
                model=self.subject.model,
                seed=search.seed,
                steps=self.plan.steps,
                patch_size=setting.patch_size,
                **scoring,
            )
            result = optimizer.search(images, explanations=maps, verbose=0)
            found.append(
                {
                    **setting._asdict(),
                    "sigma": result.best_sigma,
                    "candidate": list(result.best_candidate),
                    "nb_images": len(images),
                    "nb_evaluations": result.nb_evaluations,
                }
            )
        return found

    def chunk(self, batch: Batch) -> Chunk:
        """A batch, with the images whose maps are compared with those of noisy copies."""
        few = Batch(*(values[: self.plan.nb_stability] for values in batch))
        radius, noisy = _RADIUS * self.subject.spread, few.inputs.copy()
        for position, inputs in zip(few.positions, noisy):
            rng = np.random.default_rng((self.plan.seed, int(position)))
            inputs += rng.uniform(-radius, radius, inputs.shape).astype(np.float32)
        return Chunk(batch, few, few._replace(inputs=noisy))

    def score(
        self, row: Row, chunk: Chunk, choices: Sequence[Mapping[str, Any]]
    ) -> dict[str, np.ndarray]:
        """Columns of records: each setting, treatment and image."""
        maps = _floating(row.maps(chunk.batch))
        chosen = [Candidate(*choice["candidate"]) for choice in choices]
        rectified = Candidate(rectify=chosen[0].rectify or "magnitude")
        candidates = list(dict.fromkeys([_RAW, rectified, *chosen]))
        treated = self._treated(maps, candidates)
        places = _without_twins(treated)
        distinct, back = np.unique(places, return_inverse=True)
        others = OtherImage(seed=self.plan.seed).maps(chunk.batch, maps)[0]
        controls = self._treated(others, candidates)
        # of the same maps once
        measures = {
            "high_frequency": self._high_frequency(treated[distinct])[back],
            "agreement": _agreement(treated[distinct])[back],
            "stability": self._stability(row, chunk, maps, candidates),
        }
        nb_images = len(chunk.batch.positions)
        columns: dict[str, list[np.ndarray]] = {}
        for setting, choice in zip(self.plan.settings, chosen):
            wanted = [candidates.index(one) for one in (_RAW, rectified, choice)]
            wanted = [places[index] for index in wanted]
            scored = sorted(set(wanted))
            found = self._scores(setting, chunk.batch, treated[scored], controls[scored])
            for treatment, index in zip(TREATMENTS, wanted):
                values = {name: one[scored.index(index)] for name, one in found.items()}
                values |= {name: one[index] for name, one in measures.items()}
                values = {name: one.astype(np.float64) for name, one in values.items()}
                values |= {
                    "treatment": np.full(nb_images, treatment, object),
                    "baseline": np.full(nb_images, setting.baseline, object),
                    "patch_size": np.full(nb_images, setting.patch_size),
                    "image": chunk.batch.positions,
                }
                for name, one in values.items():
                    columns.setdefault(name, []).append(one)
        return {name: np.concatenate(several) for name, several in columns.items()}

    def forget(self) -> None:
        """Forget the predictions of images that are scored."""
        for metric in self._mu_fidelity.values():
            metric.forget()

    def _treated(self, maps: np.ndarray, candidates: Sequence[Candidate]) -> np.ndarray:
        return filtered_maps(maps, candidates, self.subject.axes, self.plan.search.border)

    def _scores(
        self, setting: Setting, batch: Batch, maps: np.ndarray, controls: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Scores (K, B) of maps and of their controls."""
        both = np.concatenate([maps, controls])
        parts = self._faithfulness[setting].parts(batch, both)
        found = {name: parts[name][0, : len(maps)] for name in ("deletion", "insertion")}
        found["control"] = parts["faithfulness"][0, len(maps) :]
        bad = np.isnan(np.stack([*found.values()])).any(axis=(0, 1))
        if bad.any():
            raise ValueError(
                f"The model gives NaN for image {batch.positions[int(np.argmax(bad))]}, perturbed "
                "or not. Look at its outputs, or leave the image out."
            )
        found["mu_fidelity"] = np.full(maps.shape[:2], np.nan)
        if setting.baseline in self._mu_fidelity:
            metric = self._mu_fidelity[setting.baseline]
            found["mu_fidelity"] = metric.parts(batch, maps)[metric.name][0]
        return found

    def _high_frequency(self, treated: np.ndarray) -> np.ndarray:
        """Share of power beyond a quarter of the size (K, B); NaN for what is no image."""
        if treated.ndim < 4 or self.subject.axes != (1, 2):
            return np.full(treated.shape[:2], np.nan)
        flat = treated.reshape(-1, *treated.shape[2:])
        return high_frequency_power(flat, rectify="magnitude").reshape(treated.shape[:2])

    def _stability(
        self, row: Row, chunk: Chunk, maps: np.ndarray, candidates: Sequence[Candidate]
    ) -> np.ndarray:
        """Distance (K, B) of the maps of noisy copies, of unit norm; NaN where not measured."""
        found = np.full((len(candidates), len(maps)), np.nan)
        number = len(chunk.few.positions)
        if number < 2:
            return found
        # controls look at images that are explained together
        own = _floating(row.maps(chunk.few)) if row.kind == "control" else maps[:number]
        units = [
            _of_unit_norm(self._treated(values, candidates))
            for values in (own, _floating(row.maps(chunk.noisy)))
        ]
        found[:, :number] = np.linalg.norm(units[0] - units[1], axis=-1)
        return found


def _agreement(treated: np.ndarray) -> np.ndarray:
    """Spearman's correlation (K, B) of maps (K, B, ...) with the first of them."""
    flat = treated.reshape(*treated.shape[:2], -1)
    # of a constant map there is no correlation, but it agrees with itself
    is_same = (flat == flat[0]).all(axis=-1)
    found = np.ones(is_same.shape)
    found[1:] = rank_correlation(flat[0], flat[1:])
    return np.where(is_same, 1.0, found)


def _of_unit_norm(maps: np.ndarray) -> np.ndarray:
    flat = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=-1, keepdims=True)
    return flat / np.where(norms == 0, 1, norms)


def _without_twins(treated: np.ndarray) -> list[int]:
    """For each treatment the first that gives the same maps."""
    return [
        next(j for j in range(i + 1) if np.array_equal(treated[j], treated[i]))
        for i in range(len(treated))
    ]


def _floating(maps: Any) -> np.ndarray:
    values = np.asarray(maps)
    return values if np.issubdtype(values.dtype, np.floating) else values.astype(np.float32)
