"""
A file of options, in YAML or TOML: checked as a whole by the options that it stands for.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ._options import OF_MODEL, Model, Typed

_SUFFIXES = (".yaml", ".yml", ".toml")
# of a model in a list of several
_OWN = (click.Option(["--name"]), click.Option(["--model"]))


class Configured(click.Command):
    """A command whose options may also stand in the file of its option --config."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Parse; where an option lacks, the file that lacks it is named."""
        try:
            return super().parse_args(context, arguments)
        except click.MissingParameter as error:
            path, missing = context.params.get("config"), error.param
            if path is None or missing is None:
                raise
            raise click.UsageError(
                f"{path} has no {missing.name!r}, and no {missing.opts[0]} is typed; give one.",
                context,
            ) from error


def configure(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """
    Make the file's values the defaults of the options: what is typed wins.

    Raises
    ------
    click.UsageError
        If the file cannot be read, or an option is unknown or of a wrong type or value. It names
        the file and the key.
    """
    if path is not None:
        values = read_configuration(path)
        known = [parameter for parameter in context.command.params if parameter.name != "config"]
        context.default_map = dict(_checked(values, known, context, str(path)))
    return path


def place_of(name: str) -> str:
    """Where an option of the current command comes from: the file and its key, or the option."""
    context = click.get_current_context()
    if context.get_parameter_source(name) == click.core.ParameterSource.DEFAULT_MAP:
        return f"{context.params['config']}: {name}"
    return next(p.opts[0] for p in context.command.params if p.name == name)


def read_configuration(path: Path) -> dict[str, Any]:
    """
    Options by name.

    Raises
    ------
    click.UsageError
        If the file is no YAML or TOML, or holds something else than names with values.
    """
    import yaml

    if path.suffix not in _SUFFIXES:
        raise click.UsageError(f"{path}: give a file in {', '.join(_SUFFIXES)}.")
    try:
        text = path.read_text(encoding="utf-8")
        found = _parsed_toml(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise click.UsageError(f"{path} cannot be read: {reason}") from error
    if not isinstance(found, dict):
        raise click.UsageError(
            f"{path} is {_words_of(found)}; write options by name, as in `images: photographs`."
        )
    return found


def _parsed_toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _checked(
    values: Mapping[Any, Any],
    parameters: Sequence[click.Parameter],
    context: click.Context,
    place: str,
) -> Iterator[tuple[str, Any]]:
    """Names of parameters and what they are given, each checked by its own type."""
    by_key = {_key(name): found for found in parameters for name in (*found.opts, found.name or "")}
    given: dict[str, str] = {}
    for key, value in values.items():
        parameter = by_key.get(_key(str(key)))
        if parameter is None or parameter.name is None:
            raise click.UsageError(f"{place} has an unknown option {_unknown(str(key), by_key)}")
        if parameter.name in given:
            raise click.UsageError(
                f"{place} has both {given[parameter.name]!r} and {str(key)!r}, which are the same "
                "option; give one."
            )
        given[parameter.name] = str(key)
        yield parameter.name, _value(value, parameter, context, f"{place}: {key}")


def _value(value: Any, parameter: click.Parameter, context: click.Context, place: str) -> Any:
    """The value, a list for options that may be given several times."""
    several = parameter.multiple
    parts = value if several and isinstance(value, list) else [value]
    if several and not parts:
        raise click.UsageError(f"{place} is an empty list; give a value, or leave it out.")
    for part in parts:
        _check_type(part, parameter.type, place)
    if isinstance(parameter.type, Model):
        parts = [_model(part, context, place) for part in parts]
    found = parts if several else value
    try:
        parameter.type_cast_value(context, found)
    except click.BadParameter as error:
        raise click.UsageError(f"{place}: {error.message}", context) from error
    return found


def _model(part: Any, context: click.Context, place: str) -> Any:
    """A model as text, or the options of one, under the names that `load_network` has for them."""
    if isinstance(part, str):
        return part
    if "model" not in part:
        raise click.UsageError(f"{place} has an entry without 'model': {part}.")
    shared = [found for found in context.command.params if found.name in OF_MODEL]
    return dict(_checked(part, [*_OWN, *shared], context, place))


def _check_type(value: Any, kind: click.ParamType, place: str) -> None:
    """Raise an error if a value of a file is of another type than the option's."""
    accepted, words = _accepted(kind)
    # True is no number here
    fits = type(value) in accepted or (not isinstance(value, bool) and isinstance(value, accepted))
    if not fits:
        raise click.UsageError(f"{place} is {_words_of(value)}; give {words}.")


def _accepted(kind: click.ParamType) -> tuple[tuple[type, ...], str]:
    """Types that a file may give for an option, and what they are called."""
    if isinstance(kind, Typed):
        return kind.accepted, kind.words
    if isinstance(kind, click.types.BoolParamType):
        return (bool,), "true or false"
    if isinstance(kind, click.types.FloatParamType):
        return (int, float), "a number"
    if isinstance(kind, click.types.IntParamType):
        return (int,), "an integer"
    return (str,), "text"


def _words_of(value: Any) -> str:
    if value is None:
        return "empty"
    kinds = {list: "the list", dict: "the mapping", str: "the text", bool: "the truth value"}
    name = kinds.get(type(value), f"the {type(value).__name__}")
    return f"{name} {value!r}"


def _unknown(key: str, by_key: Mapping[str, click.Parameter]) -> str:
    """The key, what it may have meant, and all that there are."""
    names = sorted({_key(found.opts[0]) for found in by_key.values()})
    close = difflib.get_close_matches(_key(key), by_key, 1)
    question = f" Did you mean {close[0]!r}?" if close else ""
    return f"{key!r}.{question} Options: {', '.join(names)}."


def _key(name: str) -> str:
    return name.lstrip("-").replace("-", "_")
