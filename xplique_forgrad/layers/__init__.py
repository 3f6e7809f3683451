"""
Where in a model the high frequencies of its gradients come from.
"""

from ._diagnosis import Diagnosis, diagnose
from ._layerwise import (
    MeanGradient,
    checkerboard_score,
    layerwise_high_frequency,
    mean_gradient_after,
)
from ._surgery import (
    BlurPooling2D,
    PredictionChange,
    Replacement,
    Surgery,
    randomize,
    replace_downsampling,
)

__all__ = [
    "BlurPooling2D",
    "Diagnosis",
    "MeanGradient",
    "PredictionChange",
    "Replacement",
    "Surgery",
    "checkerboard_score",
    "diagnose",
    "layerwise_high_frequency",
    "mean_gradient_after",
    "randomize",
    "replace_downsampling",
]
