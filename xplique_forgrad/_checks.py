"""
Checks of options that every part of the package shares.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise a ValueError unless the option is one of those allowed."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        raise ValueError(
            f"`{name}` is {value!r}; it must be one of {', '.join(map(repr, allowed))}."
        )


def check_seed(seed: object) -> None:
    """Raise a ValueError unless the seed is an integer of 0 or more."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(f"`seed` is {seed!r}; give an integer of 0 or more.")


def check_count(name: str, value: object) -> None:
    """Raise a ValueError unless the value is an integer of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}` is {value!r}; give an integer of 1 or more.")


def batch_shape(sizes: Sequence[object]) -> str:
    """The shape of a batch of such samples, in words: (N, 24, 40)."""
    return f"({', '.join(map(str, ('N', *sizes)))}{'' if sizes else ','})"
