"""
FORGrad for Xplique: low-pass filter attribution maps, with controls for what it gains.
"""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from ._startup import IS_COMMAND as _IS_COMMAND

# the command line answers --help before TensorFlow is imported
if TYPE_CHECKING or not _IS_COMMAND:
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
    "benchmark",
    "decisions",
    "demo",
    "filtering",
    "images",
    "layers",
    "linearization",
    "metrics",
    "networks",
    "plots",
    "report",
    "search",
    "spectrum",
    "theory",
)
_HOMES = ("filtering", "metrics", "explainer", "search", "optimizer", "registration")

if TYPE_CHECKING:
    from . import benchmark as benchmark
    from . import decisions as decisions
    from . import demo as demo
    from . import filtering as filtering
    from . import images as images
    from . import layers as layers
    from . import linearization as linearization
    from . import metrics as metrics
    from . import networks as networks
    from . import plots as plots
    from . import report as report
    from . import search as search
    from . import spectrum as spectrum
    from . import theory as theory
else:

    def __getattr__(name):
        if name in _ROOMS:
            return _import_module(f".{name}", __name__)
        if name in __all__:
            # only in the command line, for the modules that it is given
            modules = (_import_module(f".{room}", __name__) for room in _HOMES)
            return next(getattr(module, name) for module in modules if hasattr(module, name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})


if not _IS_COMMAND:
    register()
