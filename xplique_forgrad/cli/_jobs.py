"""
The work of the commands: public functions, one after another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from .._samples import make_samples
from ..benchmark._methods import Method, parse_method
from ..filtering import forgrad
from ..layers import Diagnosis, diagnose
from ..optimizer import SigmaOptimizer
from ..report import (
    Section,
    check_report_path,
    diagnosis_sections,
    search_sections,
    write_report,
)
from ..search import SigmaSearch
from ._options import OF_MODEL, rectify_of, wrong_options
from ._output import as_json, shows_progress
from ._subject import SHOWN, Subject, accuracy_of, open_subject

_PAPERS_SIGMA, _PAPERS_SIZE = 15, 224


def run_filter(**options: Any) -> None:
    """The command `filter`."""
    sigma, search = options["sigma"], None
    with wrong_options():
        method = parse_method(options["method"])
        _check_outputs(options, (".npz",))
        if options["search"] is not None:
            _check_given_alone("search", ("sigma", "window", "rectify", "border"))
    if options["search"] is not None:
        search = SigmaSearch.load(options["search"])
        _check_explained_alike(search, method)
    subject = open_subject(options)
    size = max(subject.network.preprocessing.size)
    if sigma is None and search is None:
        sigma = float(_PAPERS_SIGMA)
        if size != _PAPERS_SIZE:
            click.echo(
                f"Note: sigma is 15, the paper's for {_PAPERS_SIZE} pixels, and these maps have "
                f"{size}; `xplique-forgrad sigma` finds theirs.",
                err=True,
            )
    explainer = method.build(subject.network.model, options["batch_size"])
    chosen = {name: options[name] for name in ("window", "border")}
    chosen["rectify"] = rectify_of(options)
    treat = search.filter if search else partial(forgrad, sigma=sigma, **chosen)
    raw, filtered, targets = _explained(subject, explainer, treat, options)
    title = str(search.best_candidate) if search else f"sigma = {sigma:g}"
    files = [str(path.relative_to(subject.images.folder)) for path in subject.images.files]
    np.savez_compressed(
        options["output"],
        files=files,
        targets=targets,
        explanations=raw,
        explanations_filtered=filtered,
    )
    picture = options["output"].with_suffix(".png")
    shown = subject.shown
    figure = subject.gallery(raw[shown], filtered[shown], (method.name, title))
    _save(figure, picture)
    result = {
        "method": str(method),
        "nb_images": len(files),
        "treatment": title,
        "output": str(options["output"]),
        "figure": str(picture),
    }
    section = Section(
        "Maps",
        f"{len(shown)} of {len(files)} images.",
        figure=figure,
        caption=f"Photograph, {method.name}, filtered ({title}), and the filtered map over the "
        "photograph.",
    )
    text = f"{len(files)} maps of {method}, {title}: {options['output']}\nFigure: {picture}"
    _finish(options, result, text, "Filtered explanations", [section], text.split("\n")[0])


def _explained(
    subject: Subject, explainer: Any, treat: Any, options: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw maps and filtered ones, (N, H, W, 1), and the classes that were explained, (N,)."""
    samples = make_samples(subject.images.dataset(), None, subject.network.model)
    tf.random.set_seed(options["seed"])
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    batches = samples.batches(options["batch_size"])
    with _progress_bar(options, len(subject.images)) as advance:
        for _, inputs, targets in batches:
            raw = np.asarray(explainer.explain(inputs, targets))
            parts.append((raw, np.asarray(treat(raw)), np.argmax(targets, axis=1)))
            advance(len(inputs))
    raw, filtered, targets = (np.concatenate(values) for values in zip(*parts))
    return raw, filtered, targets


def run_sigma(**options: Any) -> None:
    """The command `sigma`."""
    with wrong_options():
        methods = [parse_method(text) for text in options["methods"]]
        if options["checkpoint"] is not None and len(methods) > 1:
            raise ValueError("--checkpoint is of one method; leave it out, or give one --method.")
        if options["subtract_control"] and options["control"] == "none":
            raise ValueError(
                "--subtract-control needs a control; leave one of it and --control none out."
            )
        if options["report"] is not None:
            check_report_path(options["report"])
    subject = open_subject(options)
    accuracy = accuracy_of(subject, options)
    options["output"].mkdir(parents=True, exist_ok=True)
    results, texts, sections = [], [], []
    for method in methods:
        explainer = method.build(subject.network.model, options["batch_size"])
        optimizer = SigmaOptimizer(
            explainer,
            options["objective"],
            options["sigmas"],
            options["strategy"],
            window=options["window"],
            rectify=rectify_of(options),
            border=options["border"],
            control=None if options["control"] == "none" else options["control"],
            subtract_control=options["subtract_control"],
            seed=options["seed"],
            batch_size=options["batch_size"],
            activation=subject.network.activation,
            baseline_mode=options["baseline"],
            patch_size=options["patch_size"],
        )
        path = options["checkpoint"] or _checkpoint(options, method)
        if path.exists():
            click.echo(f"Going on from {path}.", err=True)
        with contextlib.redirect_stdout(sys.stderr):
            search = optimizer.search(
                subject.dataset, checkpoint=path, verbose=int(shows_progress(options))
            )
        stem = _stem(options, method, search)
        search.save(f"{stem}.json")
        _save(search.plot().figure, f"{stem}.png")
        results.append({**_of_search(search, method, stem), "accuracy": accuracy})
        texts.append(f"{method}: {search}\n  written: {stem}.json, {stem}.png")
        if options["report"] is not None:
            sections += search_sections(search, str(method))
            sections.append(_gallery(subject, explainer, search, str(method)))
    summary = " ".join(f"{found['method']}: {found['verdict']}" for found in results)
    _finish(options, results, "\n\n".join(texts), "The best cutoff", sections, summary)


def _of_search(search: SigmaSearch, method: Method, stem: str) -> dict[str, Any]:
    gains = {
        "gain_over_raw": search.gain_over_raw,
        "gain_over_rectified": search.gain_over_rectified,
    }
    if search.control is not None:
        gains |= {"control_gain": search.control_gain, "specific_gain": search.specific_gain}
    return {
        "method": str(method),
        "objective": search.objective,
        "verdict": search.verdict,
        "sigma": search.best_sigma,
        "score": search.best_score,
        "control": search.settings.control,
        "held_out_score": search.held_out_score,
        **{
            name: {
                "mean": gain.mean,
                "low": gain.low,
                "high": gain.high,
                "standard_error": gain.standard_error,
            }
            for name, gain in gains.items()
        },
        "code": search.code,
        "nb_images": search.settings.nb_images,
        "nb_evaluations": search.nb_evaluations,
        "search": f"{stem}.json",
        "figure": f"{stem}.png",
    }


def _gallery(subject: Subject, explainer: Any, search: SigmaSearch, name: str) -> Section:
    """Some images before and after."""
    samples = make_samples(subject.dataset, None, subject.network.model)
    _, inputs, targets = next(samples.batches(SHOWN, subject.shown))
    raw = np.asarray(explainer.explain(inputs, targets))
    best = search.best_candidate
    title = str(best) if best.is_filter else f"best: {best}"
    classes = [subject.network.name_of(int(target)) for target in np.argmax(targets, axis=1)]
    figure = subject.gallery(raw, search.filter(raw).numpy(), ("raw", title))
    plt.close(figure)
    return Section(
        f"{name}: maps",
        figure=figure,
        caption=f"Images explained for {', '.join(classes)}: raw maps, maps as the best candidate "
        "has them, and these over the images.",
    )


def _stem(options: Mapping[str, Any], method: Method, search: SigmaSearch) -> str:
    """Where the result goes; another search's, under the same name, is not overwritten."""
    path = options["output"] / f"{_file_name(str(method))}.json"
    is_free = not path.exists()
    if not is_free:
        with contextlib.suppress(ValueError):
            is_free = SigmaSearch.load(path).settings == search.settings
    return str(path.with_name(path.name.removesuffix(".json"))) + (
        "" if is_free else f"-{_digest(options)}"
    )


def run_diagnose(**options: Any) -> None:
    """The command `diagnose`."""
    with wrong_options():
        _check_outputs(options, (".png", ".pdf", ".svg"))
    subject = open_subject(options)
    with contextlib.redirect_stdout(sys.stderr):
        diagnosis = diagnose(
            subject.network.model,
            subject.images.dataset(),
            seed=options["seed"],
            batch_size=options["batch_size"],
            verbose=int(shows_progress(options)),
        )
    _save(diagnosis.plot(), options["output"])
    result = {
        "model": diagnosis.model_name,
        "nb_images": diagnosis.nb_images,
        "sigma": diagnosis.sigma,
        "has_grid": diagnosis.has_grid,
        "share_of_high_frequency_in_maps": float(np.mean(diagnosis.map_share)),
        "layers": json.loads(diagnosis.to_frame().to_json(orient="records")),
        "figure": str(options["output"]),
    }
    search = _command_of_search(options, diagnosis)
    text = f"{diagnosis}\n\nBy the command line:\n{search}\n\nFigure: {options['output']}"
    sections = diagnosis_sections(diagnosis)
    known = diagnosis.sigma is not None
    start = f"start from sigma = {diagnosis.sigma:g}" if known else "no cutoff to start from"
    summary = (
        f"{np.mean(diagnosis.map_share):.3f} of the power of the saliency maps lies beyond a "
        f"quarter of the size; {start}."
    )
    _finish(options, result, text, f"Diagnosis of {diagnosis.model_name}", sections, summary)


def _command_of_search(options: Mapping[str, Any], diagnosis: Diagnosis) -> str:
    """The command that searches as the diagnosis says."""
    names = {"crop_fraction": "crop"}
    kept = (*OF_MODEL, "images", "targets")
    arguments = ["xplique-forgrad", "sigma"]
    for name in kept:
        if options[name] is not None and (name, options[name]) != ("targets", "auto"):
            arguments += [f"--{names.get(name, name).replace('_', '-')}", str(options[name])]
    scoring = diagnosis.scoring
    arguments += ["--baseline", f"{scoring.baseline_mode:g}"]
    return shlex.join(arguments)


def _save(figure: Figure, path: Path | str) -> None:
    """Write a figure, and let pyplot forget it; a page can still show it."""
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _finish(
    options: Mapping[str, Any],
    result: Any,
    text: str,
    title: str,
    sections: Sequence[Section],
    summary: str,
) -> None:
    """Print the result, and write the page if it is asked for."""
    if options["report"] is not None:
        settings = {
            name.replace("_", "-"): value
            for name, value in options.items()
            if value is not None and value != () and value is not False
        }
        write_report(options["report"], title, sections, summary=summary, settings=settings)
        text += f"\nReport: {options['report']}"
    click.echo(as_json(result) if options["as_json"] else text)


def _check_given_alone(name: str, others: Sequence[str]) -> None:
    """Raise an error if options were typed that another one decides."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    for other in others:
        if context.get_parameter_source(other) == typed:
            raise ValueError(f"--{name} says what --{other} would; give one of them.")


def _check_explained_alike(search: SigmaSearch, method: Method) -> None:
    """Note where a cutoff was found on maps of another method."""
    explainer = search.settings.explainer
    if explainer is not None and method.name not in str(explainer):
        click.echo(
            f"Note: the search is of another method than {method.name}; a cutoff belongs to its "
            "method.",
            err=True,
        )


def _check_outputs(options: Mapping[str, Any], suffixes: Sequence[str]) -> None:
    """Mistakes in names of files show before the work."""
    path = options["output"]
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--output is {path}: there is no folder {path.parent}.")
    if path.suffix not in suffixes:
        raise ValueError(f"--output is {path}: give a name in {' or '.join(suffixes)}.")
    if options["report"] is not None:
        check_report_path(options["report"])


def _checkpoint(options: Mapping[str, Any], method: Method) -> Path:
    """A file of its own for each question: another one starts anew."""
    return options["output"] / f"{_file_name(str(method))}-{_digest(options)}.checkpoint"


def _digest(options: Mapping[str, Any]) -> str:
    """Tells questions apart."""
    asked = {
        name: str(value)
        for name, value in sorted(options.items())
        if name not in ("output", "report", "as_json", "progress", "methods", "checkpoint")
    }
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]


def _file_name(method: str) -> str:
    return "".join(c if c.isalnum() or c in "-_=.," else "_" for c in method)


@contextlib.contextmanager
def _progress_bar(options: Mapping[str, Any], length: int) -> Iterator[Any]:
    """A bar on the standard error, if there is to be one; gives the function that advances it."""
    if not shows_progress(options):
        yield lambda number: None
        return
    with click.progressbar(length=length, label="explaining", file=sys.stderr) as bar:
        yield bar.update
