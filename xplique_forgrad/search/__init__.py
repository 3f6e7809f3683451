"""
The search for the cutoff that is most faithful, and the answer with its uncertainty.
"""

from ._candidates import Candidate, default_sigmas
from ._gains import Gain
from ._result import SigmaSearch
from .controls import Control
from .objectives import Objective
from .racing import Race

__all__ = [
    "Candidate",
    "Control",
    "Gain",
    "Objective",
    "Race",
    "SigmaSearch",
    "default_sigmas",
]
