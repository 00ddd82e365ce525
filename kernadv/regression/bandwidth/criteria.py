"""Leave-one-out cross-validation, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._sample import Sample
from kernadv.regression.local.polynomial import LocalValues, leverage

#: Below this weight of the others, 1 - l_i(x_i), their estimate has no digits left: it counts as undefined.
OTHERS = 1e-6


def left_out(sample: Sample, fit: LocalValues) -> Errors:
    """Errors of every point from all others: ``y_i - m_(-i)(x_i) = (y_i - m(x_i)) / (1 - l_i(x_i))``.

    Parameters
    ----------
    sample : Sample
    fit : LocalValues
        At the design points.
    """
    others = 1.0 - leverage(fit, sample.weights)
    others[~(others > OTHERS)] = np.nan
    return Errors((sample.y - fit.value) / others[:, None], np.zeros(len(others)))


@dataclass(frozen=True)
class LeaveOneOut(CriterionSelector):
    """``CV(h) = sum_i omega_i (y_i - m_(-i)(x_i; h))^2 / sum_i omega_i``.

    Unbiased for the prediction error if the errors are independent.  Exact for every kernel, degree and dimension, at the
    cost of one smooth a bandwidth: leaving a point out of a least squares fit multiplies its residual by
    ``1 / (1 - l_i(x_i))``.

    References
    ----------
    Stone (1974), Cross-validatory choice and assessment of statistical predictions, JRSS B 36.
    Clark (1975), A calibration curve for radiocarbon dates, Antiquity 49.
    """

    name = "leave_one_out"
    criterion: ClassVar[str] = "leave-one-out CV"

    def errors(self, sample: Sample, bandwidth: FloatArray) -> Errors:
        """Leave-one-out errors."""
        return left_out(sample, sample.smooth(bandwidth))


SELECTORS = (LeaveOneOut(),)
