"""
Faithfulness of explanations, image by image, and how much high frequency they hold.
"""

from .complexity import (
    CompressedSize,
    ExpectedFrequency,
    HighFrequencyPower,
    MeanAbsoluteLaplacian,
)
from .faithfulness import Deletion, Faithfulness, Insertion
from .mu_fidelity import MuFidelity

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
