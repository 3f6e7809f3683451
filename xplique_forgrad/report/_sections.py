"""
Sections of a report from the results of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from ._page import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Search(Protocol):
    """What a report shows of a search: `SigmaSearch`."""

    @property
    def objective(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def summary(self) -> dict[str, str]: ...
    def plot(self) -> Any: ...
    def to_frame(self) -> pd.DataFrame: ...


class Diagnosis(Protocol):
    """What a report shows of a diagnosis: `layers.Diagnosis`."""

    def plot(self) -> Any: ...
    def to_frame(self) -> pd.DataFrame: ...
    def by_type(self) -> pd.DataFrame: ...


class Benchmark(Protocol):
    """What a report shows of a benchmark: `benchmark.Benchmark`."""

    @property
    def methods(self) -> pd.DataFrame: ...
    @property
    def verdict(self) -> str: ...
    @property
    def skipped(self) -> pd.DataFrame: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def measure(self) -> str: ...
    def plot(self, model: str | None = None) -> Any: ...
    def compact(self) -> dict[str, pd.DataFrame]: ...
    def comparisons(self) -> pd.DataFrame: ...
    def ranking(self, measure: str) -> pd.DataFrame: ...
    def robustness(self, measure: str) -> pd.DataFrame: ...


def search_sections(search: Search, name: str) -> list[Section]:
    """
    Sections of a search: its verdict and the line to paste, its curve, and all candidates.

    Parameters
    ----------
    search
        A `SigmaSearch`.
    name
        What was searched, such as the name of the explainer; it begins the titles.

    Returns
    -------
    sections :
        For `write_report`.

    Examples
    --------
    >>> from xplique.attributions import Saliency
    >>> from xplique_forgrad import SigmaOptimizer
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> optimizer = SigmaOptimizer(Saliency(load_classifier()), sigmas=[4], activation="softmax")
    >>> search = optimizer.search(*load_images(2)[:2], verbose=0)
    >>> [section.title for section in search_sections(search, "Saliency")]
    ['Saliency', 'Saliency: score by sigma', 'Saliency: all candidates']
    """
    # the code stands alone, to be copied
    others = {title: text for title, text in search.summary.items() if text != search.code}
    return [
        Section(
            name,
            text=f"{search.verdict}\n\nThe best candidate in code, whatever the verdict:",
            code=search.code,
            table=pd.DataFrame({"": others}),
        ),
        Section(
            f"{name}: score by sigma",
            figure=_released(search.plot().figure),
            caption=(
                f"The {search.objective} of each cutoff sigma. A star is the best cutoff, if one "
                "is best, and a diamond its score on images that did not choose it. The others lie "
                "apart from the best by their paired differences; the band is one standard error "
                "of that difference. Horizontal lines are maps without a filter. Grey is the "
                "control: maps that explain nothing, treated alike."
            ),
        ),
        Section(
            f"{name}: all candidates",
            text=(
                "Means with their standard errors, and the difference of each candidate from the "
                "best on the images that both were scored on, with its standard error and the "
                "one-sided p value of a paired t-test."
            ),
            # their names say these
            table=search.to_frame().drop(columns=["sigma", "window", "rectify"]),
        ),
    ]


def diagnosis_sections(diagnosis: Diagnosis) -> list[Section]:
    """
    Sections of a diagnosis: its drawing, its words, and its tables.

    Parameters
    ----------
    diagnosis
        A `layers.Diagnosis`.

    Returns
    -------
    sections :
        For `write_report`.

    Examples
    --------
    >>> from xplique_forgrad.demo import load_classifier, load_images
    >>> from xplique_forgrad.layers import diagnose
    >>> diagnosis = diagnose(load_classifier(), *load_images(2)[:2], verbose=0)
    >>> [section.title for section in diagnosis_sections(diagnosis)][:2]
    ['Where the noise comes from', 'The diagnosis in words']
    """
    return [
        Section(
            "Where the noise comes from",
            figure=_released(diagnosis.plot()),
            caption=(
                "High frequency of the gradients layer by layer, the layers that inject most of "
                "it, the grid that maps share, and up to which frequency the maps of noisy copies "
                "of the images agree."
            ),
        ),
        Section("The diagnosis in words", code=str(diagnosis)),
        Section(
            "Types of layers",
            text="Mean share of high frequency that layers of each type inject, the most first.",
            table=_rounded(diagnosis.by_type()),
        ),
        Section(
            "Layers",
            text="What each layer injects, the most first.",
            table=_rounded(diagnosis.to_frame()),
        ),
    ]


def benchmark_sections(benchmark: Benchmark) -> list[Section]:
    """
    Sections of a benchmark: its verdict, a figure a model, and its tables.

    Parameters
    ----------
    benchmark
        A `benchmark.Benchmark`.

    Returns
    -------
    sections :
        For `write_report`, with `settings=benchmark.provenance`.

    Examples
    --------
    >>> from xplique_forgrad.benchmark import Benchmark
    >>> benchmark = Benchmark.load("my-benchmark")  # doctest: +SKIP
    >>> page = write_report(
    ...     "report.html", "My models", benchmark_sections(benchmark)
    ... )  # doctest: +SKIP
    """
    measured = benchmark.methods.loc[benchmark.methods["status"] == "done", "model"].unique()
    sections = [Section("Verdict", text=benchmark.verdict)]
    sections += [
        Section(
            f"{model}: faithfulness and cost",
            figure=_released(benchmark.plot(model=model)[0].figure),
            caption=(
                "Faithfulness of each method over the passes of the model that a map costs; its "
                "specific part is what it exceeds that of another image's map by. A hollow marker "
                "is a map as it is, the filled one is filtered; bars are standard errors. Grey is "
                "what controls reach, which explain nothing. The step line is the front: no other "
                "map scores more at as few passes."
            ),
        )
        for model in measured
    ]
    sections.append(Section("Tables", text="\n\n".join(benchmark.notes)))
    compact = benchmark.compact()
    sections += [
        Section(title, table=table, is_open=len(compact) == 1) for title, table in compact.items()
    ]
    if len(measured):
        sections += [
            Section(
                "Ranking",
                text=(
                    f"By {benchmark.measure} score, each model and setting on its own. The low "
                    "and the high rank hold 95 % of resamples of the images."
                ),
                table=benchmark.ranking(benchmark.measure),
            ),
            Section(
                "What the filter gains",
                text=(
                    "Mean gain of the filtered maps over those as they are and over the rectified "
                    "ones, its standard error, the p value of a paired t-test, and that value "
                    "after Holm's correction for the number of methods, which leaves controls out."
                ),
                table=benchmark.comparisons(),
            ),
        ]
    robustness = benchmark.robustness(benchmark.measure)
    if len(robustness):
        text = (
            "Kendall's tau of the ranking in two settings: 1 where they agree, 0 where they have "
            "nothing to do with each other. The bounds hold 95 % of resamples of the images."
        )
        sections.append(Section("Do settings agree?", text=text, table=robustness))
    sections.append(Section("Methods", text="Seconds are of 100 images.", table=benchmark.methods))
    if len(benchmark.skipped):
        sections.append(Section("Not in the tables", table=benchmark.skipped))
    return sections


def _released(figure: Figure) -> Figure:
    """The figure, out of pyplot's hands: no notebook shows it and no window keeps it."""
    from matplotlib import pyplot

    pyplot.close(figure)
    return figure


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Without what is noise of rounding in float32; no zero has a sign."""
    numbers = table.select_dtypes("floating").columns
    return table.assign(**{name: table[name].round(4) + 0.0 for name in numbers})
