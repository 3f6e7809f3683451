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
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from .._ranges import check_range
from .._samples import make_samples
from ..filtering import forgrad
from ..images import ImageFolder, image_folder
from ..layers import Diagnosis, diagnose
from ..networks import Network, load_network
from ..optimizer import SigmaOptimizer
from ..plots import plot_maps
from ..report import (
    Section,
    check_report_path,
    diagnosis_sections,
    search_sections,
    write_report,
)
from ..search import SigmaSearch
from ._methods import Method, parse_method

# images of a figure
_SHOWN = 6
# inputs of this many bytes are kept, so that each pass does not decode them again
_KEPT = 2**30
_PAPERS_SIGMA, _PAPERS_SIZE = 15, 224
_OF_MODEL = ("model", "weights", "preprocessing", "class_names", "nb_classes", "crop_fraction")


@dataclass(frozen=True)
class _Subject:
    """What is explained: a network and the images of a folder."""

    network: Network
    images: ImageFolder

    @cached_property
    def dataset(self) -> tf.data.Dataset:
        """The images as inputs, with their targets where these are known."""
        found = self.images.dataset()
        nb_bytes = 4 * len(self.images) * int(np.prod(self.network.model.input_shape[1:]))
        return found.cache() if nb_bytes <= _KEPT else found

    @property
    def shown(self) -> np.ndarray:
        """Positions of some images, spread over the folder and so over its classes."""
        number = min(_SHOWN, len(self.images))
        return np.linspace(0, len(self.images) - 1, number).round().astype(int)

    def gallery(self, raw: np.ndarray, treated: np.ndarray, titles: Sequence[str]) -> Figure:
        """Photograph, raw map, treated map if it is another, and overlay of the images shown."""
        maps = {titles[0]: raw, titles[1]: treated, "overlay": treated}
        axes = plot_maps(self.images.pictures(self.shown), maps, overlay=["overlay"])
        return axes[0, 0].figure


def _open(options: Mapping[str, Any]) -> _Subject:
    """The network and the images; what was done about a softmax, and the accuracy, are told."""
    matplotlib.use("agg")
    network = load_network(
        **{name: options[name] for name in _OF_MODEL if options[name] is not None}
    )
    if network.note:
        click.echo(f"Note: {network.note}", err=True)
    targets = options["targets"]
    images = image_folder(
        options["images"],
        network.preprocessing,
        targets=None if targets == "predicted" else targets,
        class_names=network.classes or None,
        nb_classes=network.nb_classes,
        limit=options["limit"],
        seed=options["seed"],
        unreadable="skip" if options["skip_unreadable"] else "raise",
    )
    check_range(network.model, lambda: network.preprocessing(images.pictures([0])))
    click.echo(
        f"{len(images)} images, classes: {_where_classes_are_from(images, options)}", err=True
    )
    return _Subject(network, images)


def _where_classes_are_from(images: ImageFolder, options: Mapping[str, Any]) -> str:
    if images.labels is None:
        return "as the model predicts"
    given = options["targets"]
    if given == "auto":
        given = "labels.csv" if (images.folder / "labels.csv").is_file() else "folders"
    return f"from {given}"


def run_filter(**options: Any) -> None:
    """The command `filter`."""
    sigma, search = options["sigma"], None
    with _wrong_options():
        method = parse_method(options["method"])
        _check_outputs(options, (".npz",))
        if options["search"] is not None:
            _check_given_alone("search", ("sigma", "window", "rectify", "border"))
    if options["search"] is not None:
        search = SigmaSearch.load(options["search"])
        _check_explained_alike(search, method)
    subject = _open(options)
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
    chosen["rectify"] = _rectify(options)
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
    subject: _Subject, explainer: Any, treat: Any, options: Mapping[str, Any]
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
    with _wrong_options():
        methods = [parse_method(text) for text in options["methods"]]
        if options["checkpoint"] is not None and len(methods) > 1:
            raise ValueError("--checkpoint is of one method; leave it out, or give one --method.")
        if options["subtract_control"] and options["control"] == "none":
            raise ValueError(
                "--subtract-control needs a control; leave one of it and --control none out."
            )
        sigmas = _numbers(options["sigmas"])
        if options["report"] is not None:
            check_report_path(options["report"])
    subject = _open(options)
    accuracy = _accuracy(subject, options)
    options["output"].mkdir(parents=True, exist_ok=True)
    results, texts, sections = [], [], []
    for method in methods:
        explainer = method.build(subject.network.model, options["batch_size"])
        optimizer = SigmaOptimizer(
            explainer,
            options["objective"],
            sigmas,
            options["strategy"],
            window=options["window"],
            rectify=_rectify(options),
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
                subject.dataset, checkpoint=path, verbose=int(_shows_progress(options))
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


def _accuracy(subject: _Subject, options: Mapping[str, Any]) -> float | None:
    """Share of images whose class the model predicts, told, for a low one shows a mistake."""
    labels = subject.images.labels
    if labels is None:
        return None
    inputs = subject.dataset.map(lambda inputs, _: inputs).batch(options["batch_size"])
    outputs = subject.network.model.predict(inputs, verbose=0)
    accuracy = float(np.mean(np.argmax(outputs, axis=1) == labels))
    click.echo(f"The model predicts the class of {accuracy:.1%} of them.", err=True)
    return accuracy


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


def _gallery(subject: _Subject, explainer: Any, search: SigmaSearch, name: str) -> Section:
    """Some images before and after."""
    samples = make_samples(subject.dataset, None, subject.network.model)
    _, inputs, targets = next(samples.batches(_SHOWN, subject.shown))
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
    with _wrong_options():
        _check_outputs(options, (".png", ".pdf", ".svg"))
    subject = _open(options)
    with contextlib.redirect_stdout(sys.stderr):
        diagnosis = diagnose(
            subject.network.model,
            subject.images.dataset(),
            seed=options["seed"],
            batch_size=options["batch_size"],
            verbose=int(_shows_progress(options)),
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
    kept = (*_OF_MODEL, "images", "targets")
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
    click.echo(_as_json(result) if options["as_json"] else text)


def _as_json(result: Any) -> str:
    """JSON, in which what is no number is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(part) for part in value]
        if isinstance(value, np.generic):
            value = value.item()
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return json.dumps(plain(result), indent=2)


@contextlib.contextmanager
def _wrong_options() -> Iterator[None]:
    """Errors in what was typed, found before the work, end as those of the parser do."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


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


def _rectify(options: Mapping[str, Any]) -> str | None:
    return None if options["rectify"] == "none" else options["rectify"]


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--sigmas is {text!r}; give numbers separated by commas, such as 2,5,10."
        ) from None


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


def _shows_progress(options: Mapping[str, Any]) -> bool:
    given = options["progress"]
    return sys.stderr.isatty() if given is None else bool(given)


@contextlib.contextmanager
def _progress_bar(options: Mapping[str, Any], length: int) -> Iterator[Any]:
    """A bar on the standard error, if there is to be one; gives the function that advances it."""
    if not _shows_progress(options):
        yield lambda number: None
        return
    with click.progressbar(length=length, label="explaining", file=sys.stderr) as bar:
        yield bar.update
