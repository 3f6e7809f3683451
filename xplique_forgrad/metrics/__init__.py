"""
Faithfulness of explanations, image by image, and how much high frequency they hold.
"""

from ._causal import Deletion, Faithfulness, Insertion
from ._complexity import (
    CompressedSize,
    ExpectedFrequency,
    HighFrequencyPower,
    MeanAbsoluteLaplacian,
)
from ._mu_fidelity import MuFidelity

__all__ = [
    "CompressedSize",
    "Deletion",
    "ExpectedFrequency",
    "Faithfulness",
    "HighFrequencyPower",
    "Insertion",
    "MeanAbsoluteLaplacian",
    "MuFidelity",
]
