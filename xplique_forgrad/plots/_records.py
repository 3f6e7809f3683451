"""
What the drawings read of the records that they are given, whatever class these are of.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd


class Search(Protocol):
    """Mean scores over the cutoffs, and the best of them: `SigmaSearch`."""

    @property
    def best_sigma(self) -> float | None: ...
    @property
    def best_score(self) -> float: ...
    @property
    def held_out_score(self) -> float: ...
    @property
    def objective(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def curves(self) -> pd.DataFrame: ...
    def to_frame(self) -> pd.DataFrame: ...


class Residual(Protocol):
    """Ratios of residuals by cutoff, image and radius: `linearization.TaylorResidual`."""

    @property
    def sigmas(self) -> np.ndarray: ...
    @property
    def radii(self) -> np.ndarray: ...
    @property
    def ratio(self) -> np.ndarray: ...
    @property
    def zero_order_ratio(self) -> np.ndarray: ...


class Relevance(Protocol):
    """Changes of the margin by band and norm: `decisions.DecisionRelevance`."""

    def to_frame(self) -> pd.DataFrame: ...


class RingCorrelation(Protocol):
    """Correlation by radius: `spectrum.RingCorrelation`."""

    @property
    def radius(self) -> np.ndarray: ...
    @property
    def correlation(self) -> np.ndarray: ...


class MeanGradient(Protocol):
    """A picture (H, W) behind a layer, and its checkerboard score: `layers.MeanGradient`."""

    @property
    def picture(self) -> np.ndarray: ...
    @property
    def layer(self) -> str: ...
    @property
    def stride(self) -> int: ...
    @property
    def checkerboard(self) -> float: ...


class Diagnosis(Protocol):
    """Where the noise of a model comes from: `layers.Diagnosis`."""

    @property
    def model_name(self) -> str: ...
    @property
    def nb_images(self) -> int: ...
    @property
    def curve(self) -> pd.DataFrame: ...
    @property
    def twin_curve(self) -> pd.DataFrame | None: ...
    @property
    def grid(self) -> MeanGradient: ...
    @property
    def correlation(self) -> RingCorrelation: ...
    @property
    def grid_frequency(self) -> float | None: ...
    @property
    def sigma(self) -> float | None: ...
    def to_frame(self) -> pd.DataFrame: ...
