"""
Whether bands of frequencies decide anything: what the model does when its input moves along them.
"""

from ._attacks import BandAttack, band_attack
from ._relevance import Band, DecisionRelevance, decision_relevance

__all__ = ["Band", "BandAttack", "DecisionRelevance", "band_attack", "decision_relevance"]
