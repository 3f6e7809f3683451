"""
The search for the cutoff that is most faithful, and the answer with its uncertainty.
"""

from .candidates import Candidate, default_sigmas
from .result import SigmaSearch
from .statistics import Gain

__all__ = ["Candidate", "Gain", "SigmaSearch", "default_sigmas"]
