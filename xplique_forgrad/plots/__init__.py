"""
Arrays and records into matplotlib Axes. No global style is touched and nothing is shown.
"""

from ._bars import band_bars, content_bars, diagnosis
from ._lines import layer_curves, residual_curves, ring_correlation, sigma_curve
from ._pictures import map_gallery, mean_gradient, signature_grid

__all__ = [
    "band_bars",
    "content_bars",
    "diagnosis",
    "layer_curves",
    "map_gallery",
    "mean_gradient",
    "residual_curves",
    "ring_correlation",
    "sigma_curve",
    "signature_grid",
]
