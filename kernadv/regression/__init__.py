"""Kernel regression with the conventions of scikit-learn."""

from kernadv.regressors._warnings import BandwidthWarning, EmptyWindowWarning
from kernadv.regressors.k_neighbors import KNeighborsSmoother
from kernadv.regressors.local_polynomial import LocalLinear, LocalPolynomial, NadarayaWatson

__all__ = [
    "BandwidthWarning",
    "EmptyWindowWarning",
    "KNeighborsSmoother",
    "LocalLinear",
    "LocalPolynomial",
    "NadarayaWatson",
]
