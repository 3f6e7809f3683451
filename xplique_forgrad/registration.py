"""
Our names beside Xplique's, which has no plugin mechanism of its own.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from .explainer import FORGrad
from .filtering import forgrad
from .metrics import (
    CompressedSize,
    Deletion,
    ExpectedFrequency,
    Faithfulness,
    HighFrequencyPower,
    Insertion,
    MeanAbsoluteLaplacian,
    MuFidelity,
)

# module of Xplique, name there, our object
_ADDED: tuple[tuple[str, str, object], ...] = (
    ("xplique.attributions", "FORGrad", FORGrad),
    *(
        ("xplique.metrics", metric.__name__, metric)
        for metric in (
            Faithfulness,
            CompressedSize,
            ExpectedFrequency,
            HighFrequencyPower,
            MeanAbsoluteLaplacian,
        )
    ),
)
_REPLACED: tuple[tuple[str, str, object], ...] = (
    ("xplique.commons", "forgrad", forgrad),
    ("xplique.commons.forgrad", "forgrad", forgrad),
    *(
        (module, metric.__name__, metric)
        for module in ("xplique.metrics", "xplique.metrics.fidelity")
        for metric in (Deletion, Insertion, MuFidelity)
    ),
)

_MISSING = object()
# module, name, what was there before, what we put
_undo: list[tuple[ModuleType, str, object, object]] = []


def register(replace: bool = False) -> None:
    """
    Add our names to Xplique's modules: `from xplique.attributions import FORGrad` then works.

    Importing `xplique_forgrad` calls it. A name that Xplique has already is left alone, and calling
    it again changes nothing.

    Parameters
    ----------
    replace
        Also put our `forgrad`, `Deletion`, `Insertion` and `MuFidelity` in the place of Xplique's,
        for code that calls them there. Names imported from there before keep what they were.
    """
    for module_name, name, value in _ADDED:
        module = importlib.import_module(module_name)
        if not hasattr(module, name):
            _put(module, name, value)
        if getattr(module, name) is value and name not in module.__all__:
            module.__all__.append(name)
    if replace:
        for module_name, name, value in _REPLACED:
            module = importlib.import_module(module_name)
            if getattr(module, name) is not value:
                _put(module, name, value)


def unregister() -> None:
    """
    Undo all that `register` did: Xplique's modules are as they were before.

    A name that somebody else has set since is theirs, and is left alone.
    """
    while _undo:
        module, name, previous, ours = _undo.pop()
        is_ours = getattr(module, name, None) is ours
        if previous is not _MISSING:
            if is_ours:
                setattr(module, name, previous)
            continue
        if is_ours:
            delattr(module, name)
        if not hasattr(module, name) and name in module.__all__:
            module.__all__.remove(name)


def _put(module: ModuleType, name: str, value: object) -> None:
    _undo.append((module, name, getattr(module, name, _MISSING), value))
    setattr(module, name, value)
