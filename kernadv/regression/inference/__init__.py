"""How certain an estimate is: variances, intervals, bands, bootstrap, diagnostics.

The functions take a `LinearSmoother`, such as ``model.as_fit()`` of a fitted regressor.  Every interval and band says what
it covers: the regression function m(x), or the smoothed target E mhat(x), which differs from it by the smoothing bias.
"""

from kernadv.regression.inference._base import NEW_RESPONSE, REGRESSION_FUNCTION, SMOOTHED_TARGET, Interval
from kernadv.regression.inference.bands import (
    Choice,
    band,
    kappa,
    multiplier_bootstrap,
    tube,
    tube_critical_value,
    tube_probability,
)
from kernadv.regression.inference.bootstrap import MovingBlocks, Wild, bootstrap_error, percentile_t
from kernadv.regression.inference.comparison import Comparison, compare
from kernadv.regression.inference.degrees_of_freedom import (
    DegreesOfFreedom,
    effective_degrees_of_freedom,
    effective_sample_size,
)
from kernadv.regression.inference.diagnostics import Autocorrelation, Portmanteau, autocorrelation, ljung_box
from kernadv.regression.inference.intervals import interval, normal, proportion, robust_bias_corrected
from kernadv.regression.inference.robust import RobustEstimate, robust_estimate
from kernadv.regression.inference.significance import Significance, significance
from kernadv.regression.inference.variance import residual_variance, response_variance, standard_error
from kernadv.regression.smoother import correction

__all__ = [
    "NEW_RESPONSE",
    "REGRESSION_FUNCTION",
    "SMOOTHED_TARGET",
    "Autocorrelation",
    "Choice",
    "Comparison",
    "DegreesOfFreedom",
    "Interval",
    "MovingBlocks",
    "Portmanteau",
    "RobustEstimate",
    "Significance",
    "Wild",
    "autocorrelation",
    "band",
    "bootstrap_error",
    "compare",
    "correction",
    "effective_degrees_of_freedom",
    "effective_sample_size",
    "interval",
    "kappa",
    "ljung_box",
    "multiplier_bootstrap",
    "normal",
    "percentile_t",
    "proportion",
    "residual_variance",
    "response_variance",
    "robust_bias_corrected",
    "robust_estimate",
    "significance",
    "standard_error",
    "tube",
    "tube_critical_value",
    "tube_probability",
]


def __dir__() -> list[str]:
    return __all__
