"""
The three tables that a benchmark holds: their columns, what is checked, and their folder.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .._files import replace_file, what_differs

TREATMENTS = ("as is", "rectified", "filtered")
KINDS = ("white", "grey", "black", "control")
STATUSES = ("done", "failed", "not reached")
# what is scored together: all methods of a setting have the same images
SETTING = ["model", "baseline", "patch_size"]
ROW = [*SETTING, "method", "treatment"]
# of each image and way of treating it; those after the fourth are made of the first four
SCORES = ("deletion", "insertion", "control", "mu_fidelity", "stability", "high_frequency")
MEASURES = (
    *("deletion", "insertion", "faithfulness", "specific", "mu_fidelity", "stability"),
    *("high_frequency", "agreement", "global_score"),
)
LOWER_IS_BETTER = ("deletion", "stability", "high_frequency")

_COLUMNS: dict[str, dict[str, str]] = {
    "records": {
        **{"model": "str", "method": "str", "treatment": "str", "baseline": "str"},
        **{"patch_size": "int64", "image": "int64"},
        **dict.fromkeys((*SCORES, "agreement"), "float64"),
    },
    "methods": {
        **{"model": "str", "method": "str", "kind": "str", "status": "str", "reason": "str"},
        **{"nb_images": "int64", "seconds": "float64", "forward": "float64", "backward": "float64"},
        "options": "str",
    },
    "choices": {
        **{
            "model": "str",
            "method": "str",
            "baseline": "str",
            "patch_size": "int64",
            "sigma": "float64",
        },
        **{"candidate": "str", "nb_images": "int64", "nb_evaluations": "int64"},
    },
}
_KEYS = {
    "records": [*ROW, "image"],
    "methods": ["model", "method"],
    "choices": [*SETTING, "method"],
}
_ALLOWED = {"treatment": TREATMENTS, "kind": KINDS, "status": STATUSES}
_FORMAT = "xplique-forgrad benchmark 1"
_MANIFEST = "manifest.json"


class Tables(NamedTuple):
    """Records, methods and choices."""

    records: pd.DataFrame
    methods: pd.DataFrame
    choices: pd.DataFrame


def checked(tables: Tables) -> Tables:
    """
    The tables with their columns in order, each of its own type.

    Raises
    ------
    TypeError
        If a table is no DataFrame.
    ValueError
        If a column lacks or is unknown, holds what it must not, a row comes twice, a record is of
        a method that is not done, or methods of a model were scored on different images.
    """
    tidy = Tables(*(_tidy(name, table) for name, table in tables._asdict().items()))
    done = tidy.methods[tidy.methods["status"] == "done"]
    done_methods = pd.MultiIndex.from_frame(done[["model", "method"]])
    for name in ("records", "choices"):
        table = getattr(tidy, name)
        found = pd.MultiIndex.from_frame(table[["model", "method"]]).unique()
        for model, method in found.difference(done_methods):
            raise ValueError(
                f"`{name}` has rows of {method!r} on {model!r}, which `methods` does not list as "
                "done; leave out the rows of methods that failed or were not reached."
            )
    _check_images(tidy.records)
    return tidy


def _tidy(name: str, table: Any) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"`{name}` is of type {type(table).__name__}; give a pandas DataFrame.")
    columns = _COLUMNS[name]
    if {*table.columns} != {*columns} or len(table.columns) != len(columns):
        raise ValueError(
            f"`{name}` has the columns {', '.join(map(str, table.columns))}; it needs "
            f"{', '.join(columns)}."
        )
    whole = [column for column, kind in columns.items() if kind != "float64"]
    for column in whole:
        if table[column].isna().any():
            raise ValueError(
                f"`{name}` lacks values of {column!r}; only scores and costs may be missing."
            )
    tidy = table[[*columns]].reset_index(drop=True)
    try:
        tidy = tidy.astype(columns)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` holds a value of the wrong type: {error}.") from error
    for column, allowed in _ALLOWED.items():
        if column in columns and (others := {*tidy[column]} - {*allowed}):
            raise ValueError(
                f"{column!r} of `{name}` holds {', '.join(map(repr, sorted(others)))}; it is one "
                f"of {', '.join(map(repr, allowed))}."
            )
    twice = tidy.duplicated(_KEYS[name])
    if twice.any():
        row = dict(tidy.loc[twice, _KEYS[name]].iloc[0])
        raise ValueError(
            f"`{name}` has two rows of {', '.join(f'{k} {v}' for k, v in row.items())}."
        )
    return tidy


def _check_images(records: pd.DataFrame) -> None:
    """Raise a ValueError unless all rows of a model are of the same images."""
    for model, rows in records.groupby("model", sort=False):
        images = rows["image"].unique()
        sizes = rows.groupby(ROW, sort=False).size()
        # no image comes twice in a row of these, so that their number tells
        for row, size in sizes[sizes < len(images)].items():
            raise ValueError(
                f"{', '.join(map(str, row))} is scored on {size} of the {len(images)} images of "
                f"{model!r}; all methods of a model need the same ones."
            )


def save_tables(folder: Path, tables: Tables, provenance: Mapping[str, Any]) -> None:
    """
    Write a folder of three tables, and its manifest last.

    Raises
    ------
    ValueError
        If the folder is a file or holds something else, or the provenance is no JSON.
    """
    try:
        # as a reader will find it
        plain = json.loads(json.dumps(dict(provenance), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The provenance cannot be written as JSON ({error}); give strings, finite numbers, "
            "lists and dicts."
        ) from error
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder to save the benchmark in.")
    _check_free(folder, plain)
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, table in tables._asdict().items():
        content = table.to_csv(index=False, lineterminator="\n").encode()
        replace_file(folder / f"{name}.csv", content)
        sums[f"{name}.csv"] = hashlib.sha256(content).hexdigest()
    manifest = {"format": _FORMAT, "files": sums, "provenance": plain}
    text = json.dumps(manifest, indent=1, allow_nan=False, ensure_ascii=False)
    replace_file(folder / _MANIFEST, text.encode())


def load_tables(folder: Path) -> tuple[Tables, dict[str, Any]]:
    """
    The tables and the provenance of a folder that `save_tables` wrote.

    Raises
    ------
    ValueError
        If the folder holds no benchmark, or a file lacks or is another than was saved.
    """
    if not (folder / _MANIFEST).is_file():
        raise ValueError(
            f"{folder} holds no benchmark: it has no {_MANIFEST}, which is written last. Give a "
            "folder that `save` finished."
        )
    manifest = _manifest_of(folder)
    return Tables(*(_read(folder, name, manifest["files"]) for name in _COLUMNS)), manifest[
        "provenance"
    ]


def _read(folder: Path, name: str, sums: Mapping[str, str]) -> pd.DataFrame:
    path, columns = folder / f"{name}.csv", _COLUMNS[name]
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sums.get(path.name):
        raise ValueError(
            f"{path} is missing, torn or changed: it is not the file that the manifest was "
            "written for. Save the benchmark again."
        )
    # a text may be empty, or say NA
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    # Python reads a number to the last bit, whatever the version of pandas
    for column in (column for column, kind in columns.items() if kind == "float64"):
        table[column] = [float(text or "nan") for text in table[column]]
    return table


def _manifest_of(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise KeyError("format")
        return {"files": dict(manifest["files"]), "provenance": dict(manifest["provenance"])}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not of a benchmark that `save` wrote ({error!r}).") from error


def _check_free(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Raise a ValueError if the folder holds something else than this benchmark."""
    another = "Give another folder, or remove this one."
    if (folder / _MANIFEST).exists():
        theirs, ours = (_identity(p) for p in (_manifest_of(folder)["provenance"], provenance))
        # one with more models holds all that is there
        data = ours.get("data") or {}
        ours["data"] = {name: data.get(name) for name in theirs.get("data") or {}}
        differing = what_differs(theirs, ours)
        if differing:
            raise ValueError(
                f"{folder} holds another benchmark. What differs: {differing}. {another}"
            )
        return
    for name, columns in _COLUMNS.items():
        path = folder / f"{name}.csv"
        if path.exists():
            # a save that was cut off may be done again
            with open(path, encoding="utf-8", errors="replace") as file:
                if file.readline().rstrip("\n") != ",".join(columns):
                    raise ValueError(f"{path} is a file of something else. {another}")


def _identity(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a benchmark another one: a later date or version may write over an earlier."""
    return {name: provenance.get(name) for name in ("settings", "data")}
