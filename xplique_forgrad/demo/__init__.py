"""
A classifier and images that come with the package, so that everything can be tried offline.
"""

from ._images import CLASS_NAMES, LabelledImages, load_images
from .classifier import build_classifier, load_classifier, train_classifier

__all__ = [
    "CLASS_NAMES",
    "LabelledImages",
    "build_classifier",
    "load_classifier",
    "load_images",
    "train_classifier",
]
