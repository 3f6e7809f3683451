"""
The answer of a benchmark: its records, and what follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ._markup import compact_tables, html_of, latex_of, markdown_of, notes_of
from ._records import SETTING, Tables, checked, load_tables, save_tables
from ._tables import comparisons_of, frame_of, ranking_of, robustness_of, scores_of, selected
from ._verdict import verdict_of


@dataclass(frozen=True, eq=False, repr=False)
class Benchmark:
    """
    What a benchmark measured: scores by image, and tables that are made of them alone.

    *Faithfulness* is Insertion - Deletion. *Specific* faithfulness is what it exceeds that of
    another image's map by, treated alike: a map that says nothing of the image has none. A control
    is a method that explains nothing, such as noise or the centre; it stands in every table, and in
    no family of tests.

    Parameters
    ----------
    records
        One row per model, method, treatment ("as is", "rectified", "filtered"), baseline,
        patch_size and image: deletion, insertion, control (the faithfulness of another image's
        map), mu_fidelity, stability, high_frequency and agreement (Spearman correlation with the
        map as is). NaN where a measure was not taken.
    methods
        One row per model and method: kind ("white", "grey", "black", "control"), status ("done",
        "failed", "not reached"), reason, nb_images, seconds per 100 images, forward and backward
        passes of the model per image, options. Methods that are not done have no records.
    choices
        One row per model, method, baseline and patch_size: the cutoff sigma (NaN where no filter
        was best), the candidate, and the number of images and of evaluations that chose it.
    provenance
        How it was made, as JSON holds it: versions, device, date, seed, settings, data.

    Raises
    ------
    TypeError
        If a table is no DataFrame.
    ValueError
        If a table has other columns or values, or methods of a model were not scored on the same
        images.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [
    ...     ("net", "Saliency", treatment, "zero", 1, image, 0.2, 0.4 + gain + 0.01 * image, 0.1)
    ...     for treatment, gain in (("as is", 0), ("rectified", 0), ("filtered", 0.1))
    ...     for image in range(3)
    ... ]
    >>> names = "model method treatment baseline patch_size image deletion insertion control"
    >>> records = pd.DataFrame(rows, columns=names.split()).assign(
    ...     mu_fidelity=0.3, stability=0.5, high_frequency=0.1, agreement=1.0
    ... )
    >>> method = {"model": "net", "method": "Saliency", "kind": "white", "status": "done"}
    >>> cost = {"nb_images": 3, "seconds": 2.0, "forward": 1.0, "backward": 1.0}
    >>> methods = pd.DataFrame([{**method, **cost, "reason": "", "options": ""}])
    >>> choice = {"model": "net", "method": "Saliency", "baseline": "zero", "patch_size": 1}
    >>> how = {"candidate": "sigma=6", "nb_images": 9, "nb_evaluations": 500}
    >>> choices = pd.DataFrame([{**choice, "sigma": 6.0, **how}])
    >>> benchmark = Benchmark(records, methods, choices)
    >>> benchmark.to_frame()[["treatment", "specific", "sigma"]].round(2).values.tolist()
    [['as is', 0.11, nan], ['rectified', 0.11, nan], ['filtered', 0.21, 6.0]]
    >>> benchmark.ranking()[["treatment", "rank"]].values.tolist()
    [['filtered', 1], ['as is', 2]]
    """

    records: pd.DataFrame
    methods: pd.DataFrame
    choices: pd.DataFrame
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, table in checked(self._tables)._asdict().items():
            object.__setattr__(self, name, table)

    def to_frame(self) -> pd.DataFrame:
        """
        Means of all measures with their standard errors over images.

        Returns
        -------
        table :
            One row per model, baseline, patch_size, method and treatment: kind, sigma (of the
            filtered maps), nb_images, each measure with its `_error`, and the costs. Lower is
            better for deletion, stability and high_frequency. `global_score` is insertion +
            mu_fidelity - deletion, as in the paper, sec. 4. `rank` is by it, among the methods of
            the same model, setting and treatment, without controls; NaN without mu_fidelity.
        """
        return self._frame.drop(columns="is_copy")

    def comparisons(self) -> pd.DataFrame:
        """
        Paired gains of the filtered maps over those as they are and over the rectified ones.

        Returns
        -------
        table :
            One row per model, baseline, patch_size, method, measure ("faithfulness" or "specific")
            and reference ("as is" or "rectified"): the mean `gain` with its standard_error,
            nb_images, the p_value of a two-sided paired t-test, and p_holm, corrected for the
            methods of the same model, setting, measure and reference. Controls have no p_holm.
        """
        return self._comparisons.copy()

    def ranking(
        self,
        measure: str = "specific",
        model: str | None = None,
        baseline: str | None = None,
        patch_size: int | None = None,
    ) -> pd.DataFrame:
        """
        Methods and treatments from best to worst, with intervals of their ranks.

        Parameters
        ----------
        measure
            A measure of `to_frame`, such as "specific", "faithfulness" or "deletion".
        model, baseline, patch_size
            What to rank in; each model and setting on its own if None.

        Returns
        -------
        table :
            By model, baseline and patch_size: method, treatment, kind, nb_images, mean, error, and
            rank within rank_low and rank_high, which hold it in 95 % of 1000 resamples of the
            images (bootstrap, the same images for all). Controls are ranked too. Rectified maps
            that are those as is are left out, and so are images that lack the measure.

        Raises
        ------
        ValueError
            If the measure is unknown or was not taken, or there is no such model or setting.
        """
        return ranking_of(selected(self._scores, model, baseline, patch_size), measure)

    def robustness(self, measure: str = "specific") -> pd.DataFrame:
        """
        How far rankings and cutoffs of one setting hold in another of the same model.

        Parameters
        ----------
        measure
            As in `ranking`.

        Returns
        -------
        table :
            One row per model, pair of settings (baseline and patch_size, other_baseline and
            other_patch_size) and what is `compared`: the methods' means "as is" or "filtered", or
            the cutoffs, "sigma". Kendall's tau with low and high at 95 % (bootstrap over images;
            NaN for cutoffs), nb_methods and nb_images. Controls are left out. No rows for a model
            of one setting.
        """
        return robustness_of(self._scores, self.choices, measure)

    @property
    def measure(self) -> str:
        """What verdict and drawing go by: "specific", or "faithfulness" where that is not known."""
        return "specific" if self._scores["specific"].notna().any() else "faithfulness"

    @property
    def skipped(self) -> pd.DataFrame:
        """Methods that failed or were not reached: model, method, kind, status and reason."""
        skipped = self.methods[self.methods["status"] != "done"]
        return skipped[["model", "method", "kind", "status", "reason"]].reset_index(drop=True)

    @cached_property
    def verdict(self) -> str:
        """
        What the tables say: a paragraph a model, a sentence a line.

        Where controls gain as much as methods, where the filter gains significantly, where
        rectification alone does it, how far settings agree, which methods may be first and at how
        many passes, and which were not scored.
        """
        measure = self.measure
        ranking = self.ranking(measure) if len(self.records) else pd.DataFrame(columns=SETTING)
        robustness = self.robustness(measure)
        return verdict_of(self.methods, self._comparisons, ranking, robustness, measure)

    def to_markdown(self, columns: Sequence[str] | None = None) -> str:
        """
        Compact tables, one a model and setting, as Markdown.

        Parameters
        ----------
        columns
            Names of columns: measures of `to_frame`, sigma, seconds, passes, rank, nb_images. By
            default all that were measured, without global_score and nb_images.

        Returns
        -------
        text :
            The tables. Below them: the methods that are not in them, with their reasons, and the
            provenance.

        Raises
        ------
        ValueError
            If a column is unknown.
        """
        return markdown_of(self._frame, self.notes, self.provenance, columns)

    def to_latex(self, columns: Sequence[str] | None = None) -> str:
        """
        As `to_markdown`, in LaTeX; it needs the package booktabs.

        Parameters
        ----------
        columns
            As in `to_markdown`.

        Returns
        -------
        text :
            One `tabular` a model and setting, and the lines below them.
        """
        return latex_of(self._frame, self.notes, self.provenance, columns)

    def plot(
        self,
        model: str | None = None,
        baseline: str | None = None,
        patch_size: int | None = None,
        axes: Any = None,
    ) -> np.ndarray:
        """
        Draw the specific faithfulness of the methods over their passes, one panel a setting.

        Parameters
        ----------
        model, baseline, patch_size
            What to draw; a panel for each model and setting if None.
        axes
            Axes of matplotlib to draw on, as many as panels; new ones if None.

        Returns
        -------
        axes :
            Array of the Axes: `plots.plot_front`.
        """
        from ..plots import plot_front

        chosen = selected(self.to_frame(), model, baseline, patch_size)
        panels = {
            f"{name}, {base}, patch {patch}": rows
            for (name, base, patch), rows in chosen.groupby(SETTING, sort=False)
        }
        return plot_front(panels, measure=self.measure, axes=axes)

    def report(self, path: str | PathLike[str]) -> Path:
        """
        Write all of it as one page of HTML.

        Parameters
        ----------
        path
            File to write, .html, in a folder that there is.

        Returns
        -------
        path :
            The file: `report.write_report`.
        """
        from ..report import benchmark_sections, write_report

        return write_report(
            path,
            "Benchmark of attribution methods",
            benchmark_sections(self),
            # the page says versions and date itself
            settings={k: v for k, v in self.provenance.items() if k not in ("versions", "date")},
        )

    def save(self, folder: str | PathLike[str]) -> None:
        """
        Write the three tables as CSV and, last, a manifest.

        Parameters
        ----------
        folder
            It is made if there is none. An earlier save of the same settings and data is replaced.

        Raises
        ------
        ValueError
            If the folder holds another benchmark or files of something else.
        """
        save_tables(Path(folder), self._tables, self.provenance)

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Benchmark:
        """
        Read a benchmark that `save` wrote.

        Parameters
        ----------
        folder
            Folder to read.

        Returns
        -------
        benchmark :
            The benchmark, with the same scores to the last bit.

        Raises
        ------
        ValueError
            If the folder holds none, or a file of it is missing, torn or changed.
        """
        tables, provenance = load_tables(Path(folder))
        return cls(*tables, provenance)

    def compact(self, columns: Sequence[str] | None = None) -> dict[str, pd.DataFrame]:
        """
        The tables of `to_markdown`: cells as text, by the model and setting.

        Parameters
        ----------
        columns
            As in `to_markdown`.

        Returns
        -------
        tables :
            Title and table.
        """
        return {
            f"{model}, {setting}": table
            for model, setting, table in compact_tables(self._frame, columns)
        }

    @property
    def notes(self) -> list[str]:
        """The lines below the tables of `to_markdown`, but the provenance."""
        return notes_of(self._frame, self.methods)

    def __repr__(self) -> str:
        done = self.methods[self.methods["status"] == "done"]
        nb_models = self.methods["model"].nunique()
        title = (
            f"Benchmark of {done['method'].nunique()} methods, controls included, on "
            f"{nb_models} model{'s' if nb_models != 1 else ''}"
        )
        return f"{title}\n{self.verdict}"

    def _repr_html_(self) -> str:
        return html_of(repr(self), self.compact())

    @property
    def _tables(self) -> Tables:
        return Tables(self.records, self.methods, self.choices)

    @cached_property
    def _scores(self) -> pd.DataFrame:
        return scores_of(self._tables)

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return frame_of(self._scores, self._tables)

    @cached_property
    def _comparisons(self) -> pd.DataFrame:
        return comparisons_of(self._scores)
