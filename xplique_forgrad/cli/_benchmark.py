"""
The work of the command `benchmark`.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .. import benchmark
from .._files import check_file_name, replace_file
from ..benchmark._methods import parse_method
from ..report import check_report_path
from ._configuration import place_of
from ._options import OF_MODEL, rectify_of, split_methods, wrong_options
from ._output import as_json, shows_progress
from ._subject import Subject, accuracy_of, open_subject

# options that go to the function by their own names
_SAME = (
    *("controls", "baselines", "patch_sizes", "sigmas", "window", "border", "steps"),
    "subtract_control",
    *("mu_fidelity_samples", "max_time", "batch_size", "seed"),
)
_EACH_ONCE = ("methods", "controls", "baselines", "patch_sizes")


def run_benchmark(**options: Any) -> None:
    """The command `benchmark`."""
    specifications = _specifications(options)
    methods = _methods(options["methods"])
    for name, values in {**options, "methods": methods}.items():
        if name in _EACH_ONCE:
            _check_each_once(name, values or ())
    _check_outputs(options)
    subjects = _open(specifications, options)
    for name, subject in subjects.items():
        accuracy_of(subject, options, name)
    with contextlib.redirect_stdout(sys.stderr):
        result = benchmark.run_benchmark(
            {name: subject.network.model for name, subject in subjects.items()},
            {name: subject.dataset for name, subject in subjects.items()},
            methods=methods,
            rectify=rectify_of(options),
            nb_choosing=options["choosing"],
            nb_stability=options["stability"],
            activation={name: subject.network.activation for name, subject in subjects.items()},
            folder=options["output"],
            verbose=int(shows_progress(options)),
            **{name: options[name] for name in _SAME},
        )
    _show(result, options)


def _specifications(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of each model, by the name that the tables give it."""
    entries = options["models"]
    typed = {name: options[name] for name in OF_MODEL[1:] if options[name] is not None}
    if typed and len(entries) > 1:
        raise click.UsageError(
            f"{place_of(next(iter(typed)))} is of one model, and there are {len(entries)}. Give "
            "each model its own options, in the list `models` of a --config file."
        )
    names = [entry.get("name") or _short(entry["model"]) for entry in entries]
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise click.UsageError(
            f"{place_of('models')}: several models are called {twice[0]!r}. Give each a `name`, in "
            "the list `models` of a --config file."
        )
    return {
        name: {**dict.fromkeys(OF_MODEL), **entry, **typed} for name, entry in zip(names, entries)
    }


def _short(model: str) -> str:
    """squeezenet of "imagenet:squeezenet", model of "folder/model.keras"."""
    path = Path(model)
    return path.stem if path.suffix in (".keras", ".h5", ".hdf5") else model.rpartition(":")[2]


def _methods(texts: Sequence[str]) -> list[str] | None:
    """Methods with their options, as text; None if none are given."""
    found = [part for text in texts for part in split_methods(text)]
    with wrong_options(place_of("methods")):
        if texts and not found:
            raise ValueError("there is no method in it; give one, or leave it out.")
        return [str(parse_method(part)) for part in found] or None


def _check_each_once(name: str, values: Sequence[Any]) -> None:
    twice = [value for value, number in Counter(values).items() if number > 1]
    if twice:
        raise click.UsageError(f"{place_of(name)}: {twice[0]} is given twice; give it once.")


def _check_outputs(options: Mapping[str, Any]) -> None:
    """Mistakes in names of files show before the work."""
    for name, check in (("report", check_report_path), ("latex", check_file_name)):
        if options[name] is not None:
            with wrong_options(place_of(name)):
                check(options[name])


def _open(
    specifications: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]
) -> dict[str, Subject]:
    """The networks, each with the same images."""
    subjects = {}
    for name, own in specifications.items():
        if len(specifications) > 1:
            click.echo(f"{name}:", err=True)
        subjects[name] = open_subject({**options, **own})
    (first, one), *others = subjects.items()
    for name, other in others:
        if other.images.files != one.images.files:
            raise ValueError(
                f"{name} would be shown other images than {first}, for it does not know the same "
                "classes. Give --targets predicted, or a benchmark of its own."
            )
    return subjects


def _show(result: Any, options: Mapping[str, Any]) -> None:
    """Print the result, and write the files that are asked for."""
    text = f"{result.to_markdown()}\n\n{result.verdict}"
    text += f"\n\nWritten: {options['output']}"
    if options["latex"] is not None:
        replace_file(options["latex"], result.to_latex().encode())
        text += f"\nLaTeX: {options['latex']}"
    if options["report"] is not None:
        result.report(options["report"])
        text += f"\nReport: {options['report']}"
    click.echo(as_json(result.to_frame().to_dict("records")) if options["as_json"] else text)
