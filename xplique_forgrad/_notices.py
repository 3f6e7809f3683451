"""
Warnings that point at the user's own line.
"""

from __future__ import annotations

import sys
import warnings

_PACKAGE = __name__.split(".")[0]


def notify(message: str) -> None:
    """Warn, as from the first line on the stack that is not of this package."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__", "")).split(".")[0] == _PACKAGE:
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, stacklevel=depth + 1)
