"""
SigmaOptimizer: the search for the best cutoff, alone or while a model trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from xplique.metrics.base import ExplanationMetric

from ._notices import notify
from ._progress import checked_verbose
from .search import SigmaSearch
from .search._explaining import NothingToChooseError
from .search._panel import ScoringSettings
from .search._run import run
from .search._settings import SearchOptions
from .search._setup import Asked, Setup, check_operators, find_subject, prepare
from .search.controls import Control, check_control
from .search.objectives import Objective, check_objective, is_whole, objective_name


class SigmaOptimizer(keras.callbacks.Callback):
    """
    Finds the cutoff sigma* whose filtered explanations are most faithful, and how sure that is.

    It has the highest mean over images of Insertion - Deletion, or of another objective. The
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
        "mu_fidelity": 1, "deletion": -1}. Or a metric of ours or of Xplique, or any `Objective`:
        what scores each image is searched as the named ones are. Or a function of all explanations
        that gives one number, or one for each: it is given them all at once, so it is searched
        exhaustively.
    sigmas
        Cutoffs to try in cycles along the longest filtered axis; None for `default_sigmas`.
    strategy
        "racing" looks at growing subsets of the images with two of the perturbation steps of each,
        drops candidates as paired comparisons rule them out, and judges the winner with all steps
        on a quarter of the images that is held out, see `Race`. "exhaustive" scores every candidate
        on every image, and cross-fits. With fewer than 48 images it is always exhaustive.
        Or a `tf.distribute.Strategy` such as `MirroredStrategy()`, whose replicas share the passes
        of a race, see `Deletion`; or both, as ("exhaustive", MirroredStrategy()). The result is
        that of one device, up to rounding. Explainers that draw noise run on one device.
    report
        Other objectives to report beside it.
    control
        What gives maps that explain nothing of an image; they are treated and scored alike, so that
        the result says how much of a gain they make too. "other_image" (the map of another image),
        "phase" (random phases), "centre", "edges", "untrained" (a copy of the model), "noise",
        "other_class", an object such as `OtherImage(nb_partners=3)`, or a function of inputs (B,
        ...), targets and explanations (B, ...) that gives maps of their shape. See
        `search.controls`. It scores the choice and the unfiltered maps, on images that did not
        choose: on as many as a quarter of the passes allows, and on 8 at least. None for none.
    subtract_control
        Search for the cutoff whose scores exceed the control's most, instead of the highest scores;
        the control is then scored for all candidates, which takes twice the passes.
    window
        Window of the filter, or a tuple of windows to search over, see `forgrad`.
    rectify
        "magnitude", "positive", None, or a tuple of them to search over, see `forgrad`.
    border
        "periodic" or "reflect": how maps go on beyond their borders, see `forgrad`.
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
        "max" or "min", for an objective that does not say which way is better: a function, or a
        metric that Xplique does not come with.
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
    **metric_options
        Options of the named objectives, as the metrics take them. All: `batch_size` (64, or
        "auto"), `baseline_mode` (0.0; the answer depends on it, so search with the baseline that
        you report; it is in the units of the inputs as the model gets them, after preprocessing: 0
        is black for inputs in [0, 1], mid-grey for [-1, 1], the mean colour where the mean was
        subtracted), `operator`, `activation` ("softmax" or "sigmoid" to put on the outputs).
        Insertion and Deletion: `steps` (10), `max_percentage_perturbed` (1.0), `patch_size` (1).
        MuFidelity: `grid_size` (9), `subset_percent` (0.2), `nb_samples` (200). See `Deletion` and
        `MuFidelity`. A metric as the objective has its own: there they are refused.

    Raises
    ------
    ValueError
        If an option is unknown or out of range.
    TypeError
        If the explainer is none, or an option is unknown.

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
        objective: str | Mapping[str, float] | Objective | ExplanationMetric | Callable = (
            "faithfulness"
        ),
        sigmas: Sequence[float] | None = None,
        strategy: str | tf.distribute.Strategy | tuple = "racing",
        *,
        report: str | Sequence[str] = (),
        control: str | Control | Callable | None = "other_image",
        subtract_control: bool = False,
        window: str | Sequence[str] = "disk",
        rectify: str | Sequence[str | None] | None = "magnitude",
        border: str = "periodic",
        axes: int | Sequence[int] | None = None,
        tolerance: float = 0.01,
        z: float = 2.0,
        refine: bool = False,
        model: Any = None,
        mode: str | None = None,
        seed: int = 0,
        validation_data: Any = None,
        prefix: str = "forgrad",
        every: int | None = 1,
        verbose: int = 0,
        **metric_options: Any,
    ):
        super().__init__()
        if explainer is not None and not callable(getattr(explainer, "explain", None)):
            raise TypeError(
                f"The explainer is {explainer!r}; give an explainer of Xplique such as "
                "Saliency(model), a class of explainers, or None with given explanations."
            )
        compared, devices = _two_strategies(strategy)
        report = (report,) if isinstance(report, str) else tuple(report)
        check_objective(objective, mode, report)
        check_control(control)
        if subtract_control and control is None:
            raise ValueError(
                "`subtract_control` is True and `control` is None; give a control to subtract, "
                "such as control='other_image'."
            )
        if metric_options and isinstance(objective, ExplanationMetric):
            raise ValueError(
                f"{', '.join(map(repr, metric_options))}: the metric {type(objective).__name__} "
                "was built with options of its own; leave these out, or give the name of the "
                "objective instead."
            )
        if metric_options and not report and not isinstance(objective, (str, Mapping)):
            notify(
                f"{', '.join(map(repr, metric_options))}: these are options of the named "
                f"objectives, and {objective_name(objective)} scores by itself; they are not used."
            )
        if every is not None and every < 1:
            raise ValueError(f"`every` is {every!r}; give a number of epochs, or None.")
        _check_validation_data(validation_data)
        self.explainer, self.scored_model = explainer, model
        self.asked = Asked(
            objective,
            mode,
            report,
            control,
            axes,
            SearchOptions.checked(
                sigmas,
                window,
                rectify,
                strategy=compared,
                tolerance=float(tolerance),
                z=float(z),
                refine=bool(refine),
                seed=seed,
                subtract_control=bool(subtract_control),
                border=border,
            ),
            ScoringSettings.checked({**metric_options, "strategy": devices}, seed),
        )
        self.validation_data, self.prefix = validation_data, prefix
        self.every, self.verbose = every, verbose
        self.history: dict[str, list] = {"epoch": [], "search": []}

    def search(
        self,
        inputs: tf.data.Dataset | tf.Tensor | np.ndarray,
        targets: tf.Tensor | np.ndarray | None = None,
        explanations: tf.Tensor | np.ndarray | None = None,
        *,
        callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] = (),
        checkpoint: str | Path | None = None,
        verbose: int | str = "auto",
    ) -> SigmaSearch:
        """
        Search the best cutoff.

        Each round is an epoch to the callbacks of Keras, whose `logs` hold the objective, `sigma`
        (the full band where no filter leads), `nb_candidates` and `nb_images`, and with
        `subtract_control` also `specific`, what the objective exceeds the control's score by. The
        images held out of a race are a last one; the control has a progress bar alone. The search
        stops choosing when one sets `model.stop_training`, as EarlyStopping(monitor="faithfulness",
        mode="max") does, and still judges what it chose.

        Parameters
        ----------
        inputs
            Inputs of shape (N, H, W, C) or (N, T, W), or a dataset of pairs (inputs, targets),
            batched or not, that gives the same order at each pass. It is read as a stream: once to
            know its samples, then once per round.
        targets
            One-hot targets of shape (N, output_size); None for the class that the model predicts. A
            dataset brings its own, or is one of inputs alone.
        explanations
            Explanations of the inputs, if you have them already. Otherwise the explainer is asked.
        callbacks
            Callbacks of Keras.
        checkpoint
            File that keeps each score, written every two seconds. A search that is killed and
            called again with the same settings goes on and ends with the same scores. It is left
            where it is, so that calling again gives the result at once.
        verbose
            As in `keras.Model.fit`: 1 draws progress bars, 2 prints a line a round, 0 nothing.

        Returns
        -------
        search :
            The best cutoff, its gains and their uncertainty.

        Raises
        ------
        ValueError
            If inputs, targets and explanations do not go together, a cutoff is out of range, an
            explanation holds NaN, the model gives NaN for every candidate, a metric was built on
            another model or other inputs, or the checkpoint is that of another search or none.
        """
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        verbose = checked_verbose(verbose)
        path = None if checkpoint is None else Path(checkpoint)
        setup = self._prepared(inputs, targets, explanations)
        return run(setup, callbacks, path, verbose)

    def _prepared(
        self, inputs: Any, targets: Any, explanations: Any, trained: keras.Model | None = None
    ) -> Setup:
        asked = self.asked
        subject = find_subject(
            self.explainer,
            self.scored_model,
            trained,
            asked.objective,
            asked.scoring.scoring.operator,
        )
        setup = prepare(self.asked, subject, inputs, targets, explanations)
        if explanations is None:
            check_operators(setup, subject)
        return setup

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forget the history of an earlier training."""
        if self.validation_data is None:
            raise ValueError(
                "SigmaOptimizer in `model.fit` needs images to search on: give "
                "SigmaOptimizer(..., validation_data=(inputs, targets))."
            )
        # mistakes show before the first epoch
        self._prepared(*self._validation_pair, None, trained=self.model)
        self.history = {"epoch": [], "search": []}
        self._last_epoch = self._searched_epoch = -1
        self._last_logs = float("nan"), float("nan")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Search if it is time, and write the cutoff and the objective to `logs`."""
        self._last_epoch = epoch
        is_last = epoch + 1 == self.params.get("epochs")
        if is_last or (self.every is not None and epoch % self.every == 0):
            self._last_logs = self._search_now(epoch)
        sigma, score = self._last_logs
        if logs is not None:
            logs[f"{self.prefix}_sigma"] = sigma
            objective = self.asked.objective
            name = "score" if is_whole(objective) else objective_name(objective)
            logs[f"{self.prefix}_{name}"] = score

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

    def _search_now(self, epoch: int) -> tuple[float, float]:
        """The cutoff and the score by the weights of now; NaN where a model has diverged."""
        self._searched_epoch = epoch
        setup = self._prepared(*self._validation_pair, None, trained=self.model)
        try:
            search = run(setup, (), None, self.verbose)
        except NothingToChooseError as error:
            notify(f"No cutoff after epoch {epoch}. {error}")
            return float("nan"), float("nan")
        self.history["epoch"].append(epoch)
        self.history["search"].append(search)
        return search.best_sigma or search.settings.full_band, search.best_score


def _two_strategies(given: Any) -> tuple[Any, tf.distribute.Strategy | None]:
    """How to compare candidates, and on which devices, of one of them or a pair of both."""
    several = given if isinstance(given, (tuple, list)) else (given,)
    devices = [one for one in several if isinstance(one, tf.distribute.Strategy)]
    names = [one for one in several if one is not None and one not in devices]
    if len(devices) > 1 or len(names) > 1 or not all(isinstance(one, str) for one in names):
        raise ValueError(
            f"`strategy` is {given!r}; give 'racing' or 'exhaustive', a tf.distribute.Strategy, or "
            "a pair of one each, such as ('exhaustive', tf.distribute.MirroredStrategy())."
        )
    return (*names, "racing")[0], (*devices, None)[0]


def _check_validation_data(data: Any) -> None:
    is_pair = isinstance(data, (tuple, list)) and len(data) == 2
    if not (data is None or is_pair or isinstance(data, tf.data.Dataset)):
        raise ValueError(
            f"`validation_data` is a {type(data).__name__}; give a pair "
            "(inputs, targets), or a dataset of such pairs."
        )
