"""Kernel regression with the conventions of scikit-learn: estimators, bandwidth selectors and inference.

It needs the extra ``regression``: ``pip install "kernadv[regression]"``.
"""

# ruff: noqa: E402  # without scikit-learn nothing below can be imported
from kernadv._errors import import_extra

import_extra("sklearn", "kernel regression", "regression")

from kernadv.regression._base import EmptyWindowWarning
from kernadv.regression.k_neighbors import KNeighborsSmoother
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.local_likelihood import LocalLikelihood
from kernadv.regression.local_polynomial import BandwidthWarning, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.smoother import LinearSmoother

__all__ = [
    "BandwidthWarning",
    "EmptyWindowWarning",
    "KNeighborsSmoother",
    "LinearSmoother",
    "LocalLikelihood",
    "LocalLinear",
    "LocalPolynomial",
    "LocalPolynomialSpec",
    "NadarayaWatson",
]


def __dir__() -> list[str]:
    return [*__all__, "bandwidth", "inference"]
