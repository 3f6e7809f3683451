"""
FORGrad for Xplique: low-pass filter attribution maps, with controls for what it gains.
"""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

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

# the rooms that this module does not need are imported when they are asked for
_ROOMS = (
    "demo",
    "filtering",
    "layers",
    "linearization",
    "metrics",
    "plots",
    "search",
    "spectrum",
    "theory",
)

if TYPE_CHECKING:
    from . import demo as demo
    from . import filtering as filtering
    from . import layers as layers
    from . import linearization as linearization
    from . import metrics as metrics
    from . import plots as plots
    from . import search as search
    from . import spectrum as spectrum
    from . import theory as theory
else:

    def __getattr__(name):
        if name in _ROOMS:
            return _import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})


register()
