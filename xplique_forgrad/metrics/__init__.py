"""
Faithfulness of explanations, image by image: scores and curves on the device.
"""

from .faithfulness import Deletion, Faithfulness, Insertion
from .mu_fidelity import MuFidelity

__all__ = ["Deletion", "Faithfulness", "Insertion", "MuFidelity"]
