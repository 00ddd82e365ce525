"""The result of a smoother."""

from __future__ import annotations

from typing import Any, NamedTuple


class Estimate(NamedTuple):
    """An estimate at each query; arrays, or tensors where tensors came in.

    Attributes
    ----------
    value : (...,) float
        The estimate; NaN where `defined` is False.
    variance : (...,) float
        Estimated variance of `value` given the path of the true values: weighted residual variance times the squared norm
        of the hat vector.  NaN where n_eff is 1 (one visit), and 0 where all rewards of the window are equal, as is common
        with 0/1 rewards: an interval of two standard errors is then too short.
    n_eff : (...,) float
        Effective sample size, 1 / sum of the squared hat vector; (sum w)^2 / sum w^2 (Kish) for Nadaraya-Watson; 0 where
        undefined.
    defined : (...,) bool
        False where no observation has weight.
    """

    value: Any
    variance: Any
    n_eff: Any
    defined: Any
