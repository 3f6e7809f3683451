"""
The one standard error of the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def standard_error(values: Any, axis: int = -1) -> Any:
    """
    Standard error of the mean along an axis, with n - 1 degrees of freedom.

    NaN values are left out; NaN where fewer than two values are left: one value tells nothing of
    its error.
    """
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    number = np.maximum(known.sum(axis=axis, keepdims=True), 1)
    mean = np.sum(values, axis=axis, keepdims=True, where=known) / number
    squares = np.sum((values - mean) ** 2, axis=axis, keepdims=True, where=known)
    error = np.sqrt(squares / np.maximum(number - 1, 1) / number)
    return np.squeeze(np.where(number > 1, error, np.nan), axis=axis)[()]
