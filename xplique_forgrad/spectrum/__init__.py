"""
Spectra of attribution maps, how much high frequency they hold, and what each band is worth.
"""

from ._bands import band_importance
from ._content import (
    compressed_size,
    expected_frequency,
    high_frequency_power,
    mean_absolute_laplacian,
    share_outside,
)
from ._spectra import (
    RadialSpectrum,
    RingCorrelation,
    fourier_ring_correlation,
    fourier_signature,
    radial_spectrum,
)

__all__ = [
    "RadialSpectrum",
    "RingCorrelation",
    "band_importance",
    "compressed_size",
    "expected_frequency",
    "fourier_ring_correlation",
    "fourier_signature",
    "high_frequency_power",
    "mean_absolute_laplacian",
    "radial_spectrum",
    "share_outside",
]
