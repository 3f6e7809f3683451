"""
Attribution methods by Xplique's names, with options.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import xplique.attributions
from xplique.attributions.base import BlackBoxExplainer

# given by the model, or of no use on a command line
_NOT_OPTIONS = ("model", "output_layer", "batch_size", "operator")


class Method(NamedTuple):
    """A method of Xplique and the options that were typed."""

    name: str
    kind: type
    options: dict[str, Any]

    def build(self, model: Any, batch_size: int) -> BlackBoxExplainer:
        """The explainer of a model."""
        try:
            return self.kind(model, batch_size=batch_size, **self.options)
        except StopIteration:
            raise ValueError(
                f"{self.name} finds no layer to look at in {model.name!r}; name one, for instance "
                f"{self.name}:conv_layer=NAME."
            ) from None

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


def parse_method(text: str) -> Method:
    """
    A method from "Name" or "Name:option=value,option=value".

    Raises
    ------
    ValueError
        If Xplique has no such method, or the method no such option.
    """
    name, _, rest = text.partition(":")
    known = _known_methods()
    if name not in known:
        by_lower = {other.lower(): other for other in known}
        close = difflib.get_close_matches(name.lower(), by_lower, 3, 0.5)
        question = (
            f" Did you mean {' or '.join(by_lower[other] for other in close)}?" if close else ""
        )
        raise ValueError(
            f"Xplique has no attribution method {name!r}.{question} Methods: {', '.join(known)}."
        )
    options = dict(_options(rest, text))
    allowed = [
        parameter
        for parameter in inspect.signature(known[name]).parameters
        if parameter not in _NOT_OPTIONS
    ]
    unknown = [option for option in options if option not in allowed]
    if unknown:
        close = difflib.get_close_matches(unknown[0], allowed, 1)
        question = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"{name} has no option {unknown[0]!r}.{question} Its options are "
            f"{', '.join(allowed) or 'none'}."
        )
    return Method(name, known[name], options)


def _known_methods() -> dict[str, type]:
    """Explainers of Xplique, by name."""
    return {
        name: kind
        for name, kind in sorted(vars(xplique.attributions).items())
        if inspect.isclass(kind) and issubclass(kind, BlackBoxExplainer) and name != "FORGrad"
    }


def _options(text: str, whole: str) -> Iterator[tuple[str, Any]]:
    """Pairs of a name and a value, which is a number, True, False, None, or else text."""
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ValueError(
                f"{whole!r}: after the method come options as name=value, separated by commas, for "
                "instance SmoothGrad:nb_samples=20,noise=0.1."
            )
        try:
            yield name.strip(), ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            yield name.strip(), value.strip()
