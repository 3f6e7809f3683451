"""
Attribution maps in, filtered attribution maps out.
"""

from ._filters import forgrad, forgrad_sweep
from ._windows import frequency_radius, full_band_sigma, low_pass_mask

__all__ = ["forgrad", "forgrad_sweep", "frequency_radius", "full_band_sigma", "low_pass_mask"]
