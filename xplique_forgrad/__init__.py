"""
FORGrad for Xplique: low-pass filter attribution maps, with controls for what it gains.
"""

from importlib.metadata import version as _version

from .explainer import FORGrad
from .filtering import forgrad, forgrad_sweep, frequency_radius, full_band_sigma, low_pass_mask
from .registration import register, unregister

__version__ = _version("xplique-forgrad")

__all__ = [
    "FORGrad",
    "forgrad",
    "forgrad_sweep",
    "frequency_radius",
    "full_band_sigma",
    "low_pass_mask",
    "register",
    "unregister",
]

register()
