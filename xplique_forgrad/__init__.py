"""
FORGrad for Xplique: low-pass filter attribution maps, with controls for what it gains.
"""

from importlib.metadata import version as _version

from .explainer import FORGrad
from .filtering import forgrad, forgrad_sweep, frequency_radius, full_band_sigma, low_pass_mask
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
from .optimizer import SigmaOptimizer
from .registration import register, unregister
from .search import SigmaSearch

__version__ = _version("xplique-forgrad")

__all__ = [
    "CompressedSize",
    "Deletion",
    "ExpectedFrequency",
    "FORGrad",
    "Faithfulness",
    "HighFrequencyPower",
    "Insertion",
    "MeanAbsoluteLaplacian",
    "MuFidelity",
    "SigmaOptimizer",
    "SigmaSearch",
    "forgrad",
    "forgrad_sweep",
    "frequency_radius",
    "full_band_sigma",
    "low_pass_mask",
    "register",
    "unregister",
]

register()
