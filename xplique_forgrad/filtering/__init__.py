"""
Attribution maps in, filtered attribution maps out.
"""

from .filters import forgrad, forgrad_sweep
from .windows import frequency_radius, full_band_sigma, low_pass_mask

__all__ = ["forgrad", "forgrad_sweep", "frequency_radius", "full_band_sigma", "low_pass_mask"]
