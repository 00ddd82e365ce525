"""Akaike's information criterion, corrected for small samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._criterion import ROUNDING, CriterionSelector, Errors
from kernadv.regression.bandwidth._sample import Sample
from kernadv.regression.bandwidth.gcv import residuals


@dataclass(frozen=True)
class AICc(CriterionSelector):
    """``AICc(h) = log sigma^2 + 1 + 2 (tr S + 1) / (n - tr S - 2)``, sigma^2 the mean square of the residuals.

    S is the hat matrix of the degree that is fitted.  inf where ``tr S >= n - 2``; summed over responses that are not
    constant.

    References
    ----------
    Hurvich, Simonoff and Tsai (1998), Smoothing parameter selection in nonparametric regression using an improved Akaike
    information criterion, JRSS B 60.
    """

    name = "aicc"
    criterion: ClassVar[str] = "AICc"
    logarithmic: ClassVar[bool] = True

    def errors(self, sample: Sample, bandwidth: FloatArray) -> Errors:
        """Residuals and leverages."""
        return residuals(sample, bandwidth)

    def score(self, errors: Errors, weights: FloatArray, variance: FloatArray) -> float:
        """AICc of the scored points."""
        left = len(weights) - float(errors.leverage.sum()) - 2.0
        if left <= 1e-6:
            return float("inf")
        varies = variance > 0.0
        error = errors.error[:, varies]
        square = np.einsum("i,ic,ic->c", weights, error, error) / weights.sum()
        penalty = 1.0 + 2.0 * (float(errors.leverage.sum()) + 1.0) / left
        return float((np.log(np.maximum(square, ROUNDING * variance[varies])) + penalty).sum())


SELECTORS = (AICc(),)
