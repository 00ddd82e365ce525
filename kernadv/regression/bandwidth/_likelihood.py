"""Bandwidths of local likelihood: cross-validation of the deviance, and Akaike's criterion.

References
----------
Loader (1999), Local Regression and Likelihood, sections 4.3.2 and 4.3.4.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._ordered import Ordered
from kernadv.regression.families import Family
from kernadv.regression.local.likelihood import maximise
from kernadv.typing import FloatArray

#: Stands for the deviance of a response whose chance was estimated as 0.
IMPOSSIBLE = 1e6


@dataclass(frozen=True, kw_only=True)
class LikelihoodSelector(CriterionSelector):
    """Minimises a criterion of the deviance; its "errors" are deviances, its "leverages" degrees of freedom.

    Parameters
    ----------
    family : Family
    response : (n,)
        As given; those of the sample are centred.
    unit : float
        Mean observation weight; that of the sample is 1.
    """

    family: Family
    response: FloatArray = field(repr=False)
    unit: float = 1.0

    @abstractmethod
    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Deviance and degrees of freedom of each point."""

    def _errors(self, sample: Ordered, bandwidth: FloatArray, left_out: bool) -> Errors:
        y = self.response[sample.row]
        leave = np.arange(len(y)) if left_out else None
        x, weights, spec = sample.x, sample.weights, sample.spec
        fit = maximise(spec, x, y, weights, x, bandwidth, self.family.counts, leave)
        deviance = np.minimum(self.family.deviance(y, fit.link), IMPOSSIBLE)
        return Errors(deviance[:, None], weights * fit.centre)

    def scores(self, errors: Errors, weights: FloatArray, variance: FloatArray) -> FloatArray:
        """Weighted mean of the deviances, of the only response."""
        return np.asarray(weights @ errors.error / weights.sum())


@dataclass(frozen=True, kw_only=True)
class LikelihoodCV(LikelihoodSelector):
    """``sum_i omega_i D(y_i, eta_(-i)(x_i; h)) / sum_i omega_i`` with exact refits without each point.

    A response that is impossible under its prediction has the deviance `IMPOSSIBLE` instead of infinity.
    """

    name = "leave_one_out"
    criterion: ClassVar[str] = "likelihood CV"

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Deviance of each point from the others."""
        return self._errors(sample, bandwidth, True)


@dataclass(frozen=True, kw_only=True)
class LikelihoodAIC(LikelihoodSelector):
    """``sum_i omega_i D(y_i, eta(x_i; h)) + 2 df``, df the sum of the leverages of the linearised fits."""

    name = "aic"
    criterion: ClassVar[str] = "AIC"

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Deviance and degrees of freedom of each point."""
        return self._errors(sample, bandwidth, False)

    def scores(self, errors: Errors, weights: FloatArray, variance: FloatArray) -> FloatArray:
        """AIC of the scored points, up to a constant of the data."""
        return np.asarray(self.unit * (weights @ errors.error) + 2.0 * errors.leverage.sum())


SELECTORS: dict[str, type[LikelihoodSelector]] = {one.name: one for one in (LikelihoodCV, LikelihoodAIC)}
