"""
The compact tables of a benchmark as Markdown and LaTeX.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from ._records import SETTING

_MISSING = "\u2013"


class _Column(NamedTuple):
    """A title, a format, and whether the standard error stands beside the mean."""

    title: str
    form: str
    has_error: bool = False


_COLUMNS = {
    "deletion": _Column("Del. ↓", ".3f"),
    "insertion": _Column("Ins. ↑", ".3f"),
    "faithfulness": _Column("Faith. ↑", ".3f", True),
    "specific": _Column("Specific ↑", ".3f", True),
    "mu_fidelity": _Column("MuFid. ↑", ".3f"),
    "stability": _Column("Stab. ↓", ".3f"),
    "high_frequency": _Column("HF ↓", ".3f"),
    "agreement": _Column("Agr. ↑", ".3f"),
    "global_score": _Column("Global ↑", ".3f", True),
    "sigma": _Column("Sigma", "g"),
    "seconds": _Column("s/100", ".3g"),
    "passes": _Column("Passes", "g"),
    "rank": _Column("Global rank", "g"),
    "nb_images": _Column("Images", "d"),
}
_SHOWN = tuple(name for name in _COLUMNS if name not in ("global_score", "nb_images"))


def setting_in_words(baseline: str, patch_size: int) -> str:
    """How a text calls a baseline and a patch size."""
    return f"baseline {baseline}, patches of {patch_size} pixel{'s' if patch_size != 1 else ''}"


def compact_tables(
    frame: pd.DataFrame, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """
    Of each model and setting: the model, the setting in words, and the cells of its table as text.

    Raises
    ------
    ValueError
        If a column is unknown.
    """
    names = _checked_columns(columns)
    frame = frame.assign(passes=frame["forward"] + frame["backward"])
    for (model, baseline, patch_size), rows in frame[~frame["is_copy"]].groupby(
        SETTING, sort=False
    ):
        shown = [name for name in names if columns is not None or rows[name].notna().any()]
        cells = {
            "Method": rows["method"] + (rows["kind"] == "control").map({True: " *", False: ""}),
            "Map": rows["treatment"],
            **{_COLUMNS[name].title: _cells(rows, name) for name in shown},
        }
        yield (
            model,
            f"{setting_in_words(baseline, patch_size)}, {rows['nb_images'].max()} images",
            pd.DataFrame(cells).reset_index(drop=True),
        )


def markdown_of(
    frame: pd.DataFrame,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
    columns: Sequence[str] | None = None,
) -> str:
    """The text of `Benchmark.to_markdown`."""
    parts = []
    for model, setting, table in compact_tables(frame, columns):
        lines = [list(table.columns), ["---", "---", *["---:"] * (table.shape[1] - 2)]]
        lines += table.to_numpy().tolist()
        escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        text = "\n".join(f"| {' | '.join(line)} |" for line in escaped)
        parts.append(f"**{model}, {setting}**\n\n{text}")
    return "\n\n".join([*parts, *notes, *_made_with(provenance)]) + "\n"


def latex_of(
    frame: pd.DataFrame,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
    columns: Sequence[str] | None = None,
) -> str:
    """The text of `Benchmark.to_latex`."""
    parts = []
    for model, setting, table in compact_tables(frame, columns):
        style = table.style.hide(axis="index").format(escape="latex")
        text = style.format_index(escape="latex", axis=1).to_latex(
            hrules=True, column_format="ll" + "r" * (table.shape[1] - 2)
        )
        parts.append(f"% {model}, {setting}\n{_as_maths(text)}")
    lines = [*notes, *_made_with(provenance)]
    return "\n".join([*parts, *(rf"\par\noindent {_escaped(line)}" for line in lines)]) + "\n"


def html_of(text: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """What a notebook shows: a title, the paragraphs of the verdict, and folded tables."""
    title, verdict = text.split("\n", 1)
    paragraphs = "".join(
        f"<p>{html.escape(part)}</p>".replace("\n", "<br>") for part in verdict.split("\n\n")
    )
    folded = "".join(
        f"<details><summary>{html.escape(name)}</summary>{table.to_html(index=False)}</details>"
        for name, table in tables.items()
    )
    return f"<b>{html.escape(title)}</b>{paragraphs}{folded}"


def notes_of(frame: pd.DataFrame, methods: pd.DataFrame) -> list[str]:
    """Lines below the tables: what is marked, and which methods are not in them."""
    notes = []
    if (frame["kind"] == "control").any():
        notes.append(
            "Methods with * are controls: they show nothing that the model has learnt of the image."
        )
    if frame["rank"].notna().any():
        notes.append(
            "Global rank: by Ins. + MuFid. - Del., among the methods whose maps are treated alike."
        )
    return notes + [f"Not in the tables: {text}." for text in skipped_in_words(methods)]


def _made_with(provenance: Mapping[str, Any]) -> list[str]:
    return [f"Made with: {in_words(provenance)}."] if provenance else []


def skipped_in_words(methods: pd.DataFrame) -> list[str]:
    """Of each model with methods without scores: these, with their reasons."""
    skipped = methods[methods["status"] != "done"]
    return [
        f"{model}: "
        + "; ".join(
            f"{row.method} ({row.status}{': ' if row.reason else ''}{row.reason.rstrip('. ')})"
            for row in rows.itertuples()
        )
        for model, rows in skipped.groupby("model", sort=False)
    ]


def in_words(value: Any) -> str:
    """A part of the provenance on one line."""
    if isinstance(value, Mapping):
        return "; ".join(
            f"{name} ({in_words(part)})"
            if isinstance(part, Mapping)
            else f"{name} {in_words(part)}"
            for name, part in value.items()
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(map(in_words, value))
    return " ".join(str(value).split())


def _checked_columns(columns: Sequence[str] | None) -> Sequence[str]:
    if columns is None:
        return _SHOWN
    names = [columns] if isinstance(columns, str) else list(columns)
    if unknown := [name for name in names if name not in _COLUMNS]:
        raise ValueError(
            f"`columns` has {', '.join(map(repr, unknown))}; the tables can show "
            f"{', '.join(_COLUMNS)}."
        )
    return names


def _cells(rows: pd.DataFrame, name: str) -> list[str]:
    column = _COLUMNS[name]
    texts = [_MISSING if pd.isna(value) else format(value, column.form) for value in rows[name]]
    if not column.has_error:
        return texts
    return [
        text if pd.isna(error) else f"{text} ± {error:{column.form}}"
        for text, error in zip(texts, rows[f"{name}_error"])
    ]


def _as_maths(text: str) -> str:
    """Signs that LaTeX sets in its maths alone."""
    signs = {"±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", _MISSING: "--"}
    for sign, command in signs.items():
        text = text.replace(sign, command)
    return text


def _escaped(text: str) -> str:
    special = {**{sign: f"\\{sign}" for sign in "&%$#_{}"}, "\\": r"\textbackslash{}"}
    special.update({"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})
    return _as_maths("".join(special.get(sign, sign) for sign in text))
