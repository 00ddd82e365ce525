"""The variance of the policy gradient under a set of baselines: measured from scores, predicted from their norms.

With score s = grad log pi of a trace, the gradient of a group is ``g = mean_g (Z^(g) - V^(g)) s^(g)``.  All values free
of the trace's own reward give the same E g, so their variances differ as the second moments ``E |g|^2`` do.  The best
value of a prompt is not V = E Z but

    b* = E[|s|^2 Z] / E[|s|^2],

and a better value is a better gradient only so far as the two agree: hence these measurements.
"""

from kernadv.gradient._diagnosis import Diagnosis, diagnose
from kernadv.gradient._variance import BaselineVariance, Measured, gradient_variance, implied_ratio

__all__ = ["BaselineVariance", "Diagnosis", "Measured", "diagnose", "gradient_variance", "implied_ratio"]


def __dir__() -> list[str]:
    return __all__
