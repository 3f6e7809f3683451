"""
What the commands print.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


def as_json(result: Any) -> str:
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


def shows_progress(options: Mapping[str, Any]) -> bool:
    """Whether progress is shown: as it is typed, else where it can be seen."""
    given = options["progress"]
    return sys.stderr.isatty() if given is None else bool(given)
