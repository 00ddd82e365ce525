"""Prequential selection: each point is predicted from its past, as it will be in use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._sample import Sample
from kernadv.regression.local.polynomial import smooth


@dataclass(frozen=True)
class Prequential(CriterionSelector):
    """Mean squared error of every point predicted from strictly earlier points of its series.

    Earlier means smaller in the first dimension; ties are not used.  The fit is one-sided whatever `spec.past` says.  If
    the errors are martingale differences given the past, the expected score is the noise plus the risk of the estimate,
    for any kernel and with feedback from the responses to the design.

    References
    ----------
    Dawid (1984), Statistical theory: the prequential approach, JRSS A 147.
    Hart (1994), Automated kernel smoothing of dependent data by using time series cross-validation, JRSS B 56.
    Gijbels, Pope and Wand (1999), Understanding exponential smoothing via kernel regression, JRSS B 61.
    """

    name = "prequential"
    criterion: ClassVar[str] = "prequential error"

    def errors(self, sample: Sample, bandwidth: FloatArray) -> Errors:
        """Errors of every point from the past: queries lie one rounding step before their points."""
        spec, error = replace(sample.spec, past=True), np.full_like(sample.y, np.nan)
        for points, _, x, _, _ in sample.parts(bandwidth):
            z, y = x / bandwidth, sample.y[points]
            before = z.copy()
            before[:, 0] = np.nextafter(before[:, 0], -np.inf)
            fit = smooth(spec, z, y, sample.weights[points], before, np.ones(z.shape[1]))
            error[points] = y - fit.value
        return Errors(error, np.zeros(len(error)))


SELECTORS = (Prequential(),)
