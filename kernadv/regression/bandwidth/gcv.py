"""Generalised cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._sample import Sample
from kernadv.regression.local.polynomial import leverage


def residuals(sample: Sample, bandwidth: FloatArray) -> Errors:
    """Residuals of the fit to all points, with the diagonal of its hat matrix."""
    fit = sample.smooth(bandwidth)
    return Errors(sample.y - fit.value, leverage(fit, sample.weights))


@dataclass(frozen=True)
class GCV(CriterionSelector):
    """``GCV(h) = (sum_i omega_i r_i^2 / sum_i omega_i) / (1 - tr S / n)^2``; inf where ``tr S >= n``.

    References
    ----------
    Craven and Wahba (1979), Smoothing noisy data with spline functions, Numerische Mathematik 31.
    """

    name = "gcv"
    criterion: ClassVar[str] = "generalised CV"

    def errors(self, sample: Sample, bandwidth: FloatArray) -> Errors:
        """Residuals and leverages."""
        return residuals(sample, bandwidth)

    def score(self, errors: Errors, weights: FloatArray, variance: FloatArray) -> float:
        """GCV of the scored points."""
        left = 1.0 - float(errors.leverage.mean())
        if left <= 1e-6:
            return float("inf")
        return super().score(errors, weights, variance) / left**2


SELECTORS = (GCV(),)
