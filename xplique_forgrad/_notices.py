"""
Warnings that point at the user's own line.
"""

from __future__ import annotations

import sys
import warnings

# what a user's line may call through
_PASSED = (__name__.split(".")[0], "xplique", "keras", "tensorflow")


class ForgradWarning(UserWarning):
    """A warning of this package."""


def notify(message: str) -> None:
    """Warn, as from the first line on the stack that is the user's."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__", "")).split(".")[0] in _PASSED:
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, ForgradWarning, stacklevel=depth + 1)
