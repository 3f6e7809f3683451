"""
Arrays and records into matplotlib Axes. No global style is touched and nothing is shown.
"""

from ._bars import plot_bands, plot_content, plot_diagnosis
from ._front import plot_front
from ._lines import (
    plot_layers,
    plot_relevance,
    plot_residuals,
    plot_ring_correlation,
    plot_search,
)
from ._pictures import plot_maps, plot_mean_gradient, plot_signatures

__all__ = [
    "plot_bands",
    "plot_content",
    "plot_diagnosis",
    "plot_front",
    "plot_layers",
    "plot_maps",
    "plot_mean_gradient",
    "plot_relevance",
    "plot_residuals",
    "plot_ring_correlation",
    "plot_search",
    "plot_signatures",
]
