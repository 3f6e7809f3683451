"""
SigmaOptimizer: the search for the best cutoff, alone or while a model trains.
"""

from __future__ import annotations

import inspect
import sys
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from xplique.metrics.base import ExplanationMetric

from ._samples import Samples, weights_checksum
from .filtering import full_band_sigma
from .filtering._checks import checked_axes
from .search import SigmaSearch
from .search.candidates import checked_options, checked_sigmas, make_candidates
from .search.checks import check_settings, is_whole
from .search.description import describe
from .search.engine import Engine, NothingToChooseError
from .search.objectives import Objectives, checked_objective
from .search.seeds import repeatable
from .search.whole import search_as_a_whole

_AXES = {3: (1,), 4: (1, 2)}


class SigmaOptimizer(keras.callbacks.Callback):
    """
    Finds the cutoff sigma* whose filtered explanations are most faithful, and how sure that is.

    sigma* = argmax over sigma of the mean over images of Insertion - Deletion, by default. The
    explainer's own map and its magnitude are always candidates, so that "do not filter" can win.

    Call `search`, or give it to `model.fit(callbacks=[SigmaOptimizer(...)])` with
    `validation_data`: then it searches with the current weights at the end of epochs, and writes
    `forgrad_sigma` and `forgrad_faithfulness` (or the name of the objective) to `logs`. Put it
    before the callbacks that are to see them (CSVLogger, TensorBoard, EarlyStopping). `history`
    holds each epoch's result.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591 (sec. 4).

    Parameters
    ----------
    explainer
        An explainer of Xplique, a class of explainers (built anew for each search on the model as
        it is then), or None to search on given explanations.
    objective
        "faithfulness" (Insertion - Deletion), "insertion", "deletion", "mu_fidelity", or a mapping
        of these to weights, higher being better: the paper's global score is {"insertion": 1,
        "mu_fidelity": 1, "deletion": -1}. Or an ExplanationMetric of Xplique, or a function of all
        explanations: they score a candidate as a whole, need `mode`, and are searched exhaustively.
    sigmas
        Cutoffs to try in cycles along the longest filtered axis; None for `default_sigmas`.
    strategy
        "racing" drops candidates on growing subsets of the images as paired comparisons rule them
        out, and judges the winner on a quarter of the images that is held out. "exhaustive" scores
        every candidate on every image, and cross-fits. With fewer than 48 images it is always
        exhaustive.
    report
        Other objectives to report beside it.
    window
        Window of the filter, or a tuple of windows to search over, see `forgrad`.
    rectify
        "magnitude", "positive", None, or a tuple of them to search over, see `forgrad`.
    axes
        Axes to filter along; default to (1, 2) for images and (1,) for time series.
    tolerance
        Candidates whose mean scores lie within it count as equal in a race.
    z
        Standard errors that a race asks for before it drops a candidate. With 2, less than 5 % of
        simulated races end further than `tolerance` from the best; 5 bounds it, see `Race`.
    refine
        Also try cutoffs around the best until the integers beside it are scored.
    model
        Model that is scored; default to the explainer's.
    mode
        "max" or "min", for an objective that is a metric or a function.
    batch_size
        Number of perturbed inputs to evaluate at once, or "auto", as for `Deletion`.
    baseline_mode
        What stands for removed features, as for `Deletion`: the answer depends on it, so search
        with the baseline that you report. A function gets inputs (B, ...) for every metric.
    steps
        Steps of Insertion and Deletion.
    max_percentage_perturbed
        Share of features that Insertion and Deletion perturb at the end.
    grid_size
        Super-pixels of MuFidelity along each side.
    subset_percent
        Probability of a super-pixel to be in a subset of MuFidelity.
    nb_samples
        Number of subsets of MuFidelity.
    operator
        Function g(model, inputs, targets) that gives the scores.
    activation
        "softmax" or "sigmoid" to put on the model's outputs, or None.
    seed
        Seed of the order of images, of masks, of the folds and the bootstrap, and, as the global
        seed of TensorFlow, of explainers that draw noise.
    validation_data
        In `model.fit`: pair (inputs, targets), or a dataset of such pairs.
    prefix
        In `model.fit`: what the names in `logs` begin with. Give each its own where there are two.
    every
        In `model.fit`: search after the first epoch, then every that many epochs, and after the
        last; None for the last only. In between, `logs` repeat the last search.
    verbose
        In `model.fit`: as in `keras.Model.fit`, for each search.

    Raises
    ------
    ValueError
        If an option is unknown or out of range.
    TypeError
        If the explainer is none.

    Examples
    --------
    >>> from xplique.attributions import Saliency
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> inputs, targets, _ = load_images(8)
    >>> optimizer = SigmaOptimizer(Saliency(load_classifier()), sigmas=[2, 6], activation="softmax")
    >>> search = optimizer.search(inputs, targets, verbose=0)
    >>> search.scores.shape
    (4, 8)
    """

    def __init__(
        self,
        explainer: Any,
        objective: str | Mapping[str, float] | ExplanationMetric | Callable = "faithfulness",
        sigmas: Sequence[float] | None = None,
        strategy: str = "racing",
        *,
        report: Sequence[str] = (),
        window: str | Sequence[str] = "disk",
        rectify: str | Sequence[str | None] | None = "magnitude",
        axes: int | Sequence[int] | None = None,
        tolerance: float = 0.01,
        z: float = 2.0,
        refine: bool = False,
        model: Any = None,
        mode: str | None = None,
        batch_size: int | str | None = 64,
        baseline_mode: float | Callable = 0.0,
        steps: int = 10,
        max_percentage_perturbed: float = 1.0,
        grid_size: int | None = 9,
        subset_percent: float = 0.2,
        nb_samples: int = 200,
        operator: Any = None,
        activation: str | None = None,
        seed: int = 0,
        validation_data: Any = None,
        prefix: str = "forgrad",
        every: int | None = 1,
        verbose: int = 0,
    ):
        super().__init__()
        self.as_a_whole = is_whole(objective)
        report = (report,) if isinstance(report, str) else tuple(report)
        check_settings(
            explainer=explainer,
            objective=objective,
            strategy=strategy,
            report=report,
            tolerance=tolerance,
            z=z,
            refine=refine,
            mode=mode,
            activation=activation,
            seed=seed,
            every=every,
            validation_data=validation_data,
        )
        self.explainer, self.objective, self.strategy = explainer, objective, strategy
        self.sigmas = checked_sigmas(sigmas)
        self.report = report
        self.windows = checked_options("window", window)
        self.rectifications = checked_options("rectify", rectify)
        self.axes, self.refine, self.scored_model = axes, refine, model
        self.race = {"tolerance": float(tolerance), "z": float(z), "seed": int(seed)}
        self.seed, self.mode = int(seed), mode
        self.causal = {"steps": steps, "max_percentage_perturbed": max_percentage_perturbed}
        self.fidelity = {
            "grid_size": grid_size,
            "subset_percent": subset_percent,
            "nb_samples": nb_samples,
            "seed": int(seed),
        }
        self.common = {
            "batch_size": batch_size,
            "baseline_mode": baseline_mode,
            "operator": operator,
            "activation": activation,
        }
        self.validation_data, self.prefix = validation_data, prefix
        self.every, self.verbose = every, verbose
        self.history: dict[str, list] = {"epoch": [], "search": []}

    def search(
        self,
        inputs: tf.data.Dataset | tf.Tensor | np.ndarray,
        targets: tf.Tensor | np.ndarray | None = None,
        explanations: tf.Tensor | np.ndarray | None = None,
        *,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        checkpoint: str | Path | None = None,
        verbose: int | str = "auto",
    ) -> SigmaSearch:
        """
        Search the best cutoff.

        Each round is an epoch to the callbacks of Keras, whose `logs` hold the objective, `sigma`
        (the full band where no filter leads), `nb_candidates` and `nb_images`; the images held out
        of a race are a last one. The search stops
        choosing when one sets `model.stop_training`, as EarlyStopping(monitor="faithfulness",
        mode="max") does, and still judges what it chose.

        Parameters
        ----------
        inputs
            Inputs of shape (N, H, W, C) or (N, T, W), or a dataset of pairs (inputs, targets),
            batched or not, that gives the same order at each pass. It is read as a stream: once to
            know its samples, then once per round.
        targets
            One-hot targets of shape (N, output_size); None with a dataset.
        explanations
            Explanations of the inputs, if you have them already. Otherwise the explainer is asked.
        callbacks
            Callbacks of Keras.
        checkpoint
            File that keeps the state after every group of at most 64 images. A search that is
            killed and called again with the same settings goes on and ends with the same scores.
            It is left where it is, so that calling again gives the result at once.
        verbose
            As in `keras.Model.fit`: 1 draws progress bars, 2 prints a line a round, 0 nothing.

        Returns
        -------
        search
            The best cutoff, its gains and their uncertainty.

        Raises
        ------
        ValueError
            If inputs, targets and explanations do not go together, a cutoff is out of range, an
            explanation holds NaN, the model gives NaN for every candidate, or the checkpoint is
            that of another search or no checkpoint.
        """
        samples, explainer, model, candidates, axes, given, objectives = self._prepared(
            inputs, targets, explanations
        )

        def explain(positions, inputs, targets):
            return given[positions] if given is not None else explainer.explain(inputs, targets)

        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        if verbose == "auto":
            verbose = 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2
        settings = self._settings(samples, axes, explainer)
        if self.as_a_whole:
            if checkpoint is not None or callbacks:
                raise ValueError(
                    "A metric or a function scores all images at once: leave out `checkpoint` and "
                    "`callbacks`."
                )
            return search_as_a_whole(
                explain,
                samples,
                candidates,
                self.objective,
                str(self.mode),
                axes,
                settings,
                int(verbose),
            )
        if samples.dataset is not None or checkpoint is not None:
            settings["data"] = zlib.crc32(samples.fingerprints().tobytes())
        if given is not None:
            settings["explanations"] = zlib.crc32(np.ascontiguousarray(given).tobytes())
        path = None if checkpoint is None else Path(checkpoint)
        if path is not None and not path.resolve().parent.is_dir():
            raise ValueError(f"`checkpoint` is {path}; there is no folder {path.resolve().parent}.")
        settings["weights"] = weights_checksum(model)
        if path is not None:
            # settings do not tell all: what functions and explainers do to the first input does
            with repeatable(self.seed):
                first = np.asarray(explain(*next(samples.batches(1, [0]))), np.float64)
            settings["first_explanation"] = f"{first.mean():.4g}, {first.std():.4g}"
            settings["first_scores"] = objectives.probe()
        engine = Engine(
            explain,
            samples,
            candidates,
            objectives,
            axes,
            {**self.race, "strategy": self.strategy, "refine": self.refine},
            callbacks,
            int(verbose),
            path,
            settings,
        )
        return engine.run()

    def _prepared(self, inputs: Any, targets: Any, explanations: Any) -> tuple:
        """What a search works on, checked before anything is computed."""
        explainer, model = self._current()
        if explanations is None and explainer is None:
            raise ValueError("There is no explainer; give `explanations`, or an explainer.")
        samples = Samples(inputs, targets, model)
        axes = self._axes_of(samples.shape)
        spatial = [samples.shape[axis - 1] for axis in axes]
        for sigma in self.sigmas or ():
            if sigma > max(spatial):
                raise ValueError(
                    f"`sigmas` holds {sigma:g}, beyond the longest filtered axis, {max(spatial)}; "
                    f"from {full_band_sigma(spatial):.4g} on nothing is removed."
                )
        candidates = make_candidates(spatial, self.sigmas, self.windows, self.rectifications)
        given = None if explanations is None else np.asarray(explanations)
        if given is not None and len(given) != len(samples):
            raise ValueError(
                f"There are {len(given)} explanations for {len(samples)} inputs; give one each."
            )
        options = self.causal, self.fidelity, self.common
        objectives = None
        if not self.as_a_whole:
            objectives = Objectives(self.objective, self.report, model, samples, *options)
        return samples, explainer, model, candidates, axes, given, objectives

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forget the history of an earlier training."""
        if self.validation_data is None:
            raise ValueError(
                "SigmaOptimizer in `model.fit` needs images to search on: give "
                "SigmaOptimizer(..., validation_data=(inputs, targets))."
            )
        # mistakes show before the first epoch
        self._prepared(*self._validation_pair, None)
        self.history = {"epoch": [], "search": []}
        self._last_epoch = self._searched_epoch = -1
        self._last_logs = float("nan"), float("nan")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Search if it is time, and write the cutoff and the objective to `logs`."""
        self._last_epoch = epoch
        is_last = epoch + 1 == self.params.get("epochs")
        if is_last or (self.every is not None and epoch % self.every == 0):
            try:
                search = self._search_now(epoch)
                sigma = search.best_sigma or search.settings["full_band"]
                self._last_logs = sigma, search.best_score
            except NothingToChooseError as error:
                warnings.warn(f"No cutoff after epoch {epoch}. {error}", stacklevel=2)
                self._last_logs = float("nan"), float("nan")
        sigma, score = self._last_logs
        if logs is not None:
            logs[f"{self.prefix}_sigma"] = sigma
            logs[f"{self.prefix}_{self._objective_name}"] = score

    def on_train_end(self, logs: dict | None = None) -> None:
        """Search if the training stopped early at an epoch without a search."""
        if self._last_epoch != self._searched_epoch:
            self._search_now(self._last_epoch)

    @property
    def result(self) -> SigmaSearch | None:
        """The last search in `model.fit`; None before the first."""
        return self.history["search"][-1] if self.history["search"] else None

    @property
    def _validation_pair(self) -> tuple[Any, Any]:
        data = self.validation_data
        return tuple(data) if isinstance(data, (tuple, list)) else (data, None)

    def _search_now(self, epoch: int) -> SigmaSearch:
        self._searched_epoch = epoch
        search = self.search(*self._validation_pair, verbose=self.verbose)
        self.history["epoch"].append(epoch)
        self.history["search"].append(search)
        return search

    @property
    def _objective_name(self) -> str:
        return "score" if self.as_a_whole else checked_objective(self.objective)[0]

    def _current(self) -> tuple[Any, Any]:
        """The explainer and the model to score, as they are now."""
        trained = getattr(self, "_model", None)
        explainer = self.explainer
        if inspect.isclass(explainer):
            model = self.scored_model if trained is None else trained
            if model is None:
                raise ValueError(
                    f"{explainer.__name__} is a class; give the model to explain by `model=`."
                )
            explainer = explainer(model)  # type: ignore[call-arg]
        model = self.scored_model
        if model is None:
            model = getattr(explainer, "model", None) if trained is None else trained
        if model is None and not self.as_a_whole:
            raise ValueError("There is no model to score; give it by `model=`.")
        followed = getattr(explainer, "model", None)
        is_given = explainer is self.explainer
        if trained is not None and is_given and isinstance(followed, keras.Model):
            own = {id(variable) for variable in followed.variables}
            if own.isdisjoint(id(variable) for variable in trained.variables):
                raise ValueError(
                    f"{type(explainer).__name__} explains another model, or a copy with weights of "
                    "its own, than the one that is trained. Give the class instead, such as "
                    "SigmaOptimizer(GuidedBackprop): it is then built for the current weights."
                )
        return explainer, model

    def _axes_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.axes is not None:
            return checked_axes(self.axes, tf.TensorShape((None, *shape)))
        if len(shape) + 1 not in _AXES:
            raise ValueError(
                f"The inputs have shape {('N', *shape)}; say along which axes to filter their "
                "explanations, for instance SigmaOptimizer(explainer, axes=(1, 2, 3)). Tabular "
                "inputs have no order to filter along."
            )
        return _AXES[len(shape) + 1]

    def _settings(self, samples: Samples, axes: tuple[int, ...], explainer: Any) -> dict[str, Any]:
        """All that the result depends on, in plain values."""
        objective = self.objective
        return {
            "objective": describe(objective),
            "report": list(self.report),
            "sigmas": None if self.sigmas is None else list(self.sigmas),
            "windows": list(self.windows),
            "rectifications": list(self.rectifications),
            "axes": list(axes),
            "strategy": self.strategy,
            "refine": self.refine,
            **self.race,
            **self.causal,
            **{key: value for key, value in self.fidelity.items() if key != "seed"},
            **{key: describe(value) for key, value in self.common.items()},
            "explainer": describe(explainer),
            "nb_images": len(samples),
            "input_shape": list(samples.shape),
            "versions": {
                name: version(name)
                for name in ("xplique-forgrad", "xplique", "tensorflow", "numpy")
            },
        }
