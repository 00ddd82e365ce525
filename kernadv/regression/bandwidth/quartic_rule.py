"""The rule of thumb of Fan and Gijbels, from one quartic over the whole design."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernadv._errors import ArgumentError, check_range
from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._constants import canonical
from kernadv.regression.bandwidth._formula import formula_data, formula_selection
from kernadv.regression.smoother import LinearSmoother


@dataclass(frozen=True)
class QuarticRule(Selector):
    """``h = delta_0(K) (sigma^2 int w_0 / sum_i m''(x_i)^2 w_0(x_i))^(1/5)``, m and sigma^2 from a global quartic.

    w_0 is 1 except near the ends of the design.  For local linear fits on a line; for degree 0 the design bias is
    neglected.  Too wide for curves that a quartic cannot follow.

    Parameters
    ----------
    boundary : float
        Share of the range at each end where w_0 is 0.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications, section 4.2.
    """

    name = "quartic_rule"
    boundary: float = 0.05

    def __post_init__(self) -> None:
        check_range(self.boundary, "boundary", 0.0, 0.49)

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """One bandwidth; see `Selector.select`.  If the quartic has no curvature, the widest one."""
        sample = formula_data(self.name, smoother)
        half = float(sample.span[0]) / 2.0
        u, root = sample.x[:, 0] / half - 1.0, np.sqrt(sample.weights)[:, None]
        if len(np.unique(u)) < 6:
            raise ArgumentError(f"{self.name} needs at least 6 distinct x, got {len(np.unique(u))}; use leave_one_out")
        design = np.polynomial.legendre.legvander(u, 4)
        c = np.linalg.lstsq(root * design, root * sample.y, rcond=None)[0]  # (5, C)
        variance = float((sample.weights @ (sample.y - design @ c) ** 2).sum()) / (len(u) - 5)
        inner = np.abs(u) <= 1.0 - 2.0 * self.boundary
        second = np.polynomial.legendre.legval(u[inner], np.polynomial.legendre.legder(c, 2)) / half**2  # (C, n)
        curvature = float((second**2 @ sample.weights[inner]).sum())
        width = 2.0 * half * (1.0 - 2.0 * self.boundary)
        straight = curvature * half**4 <= 1e-20 * float(sample.variance.sum()) * len(u)
        bandwidth = np.inf if straight else canonical(sample.spec.kernel) * (variance * width / curvature) ** 0.2
        return formula_selection(sample, float(bandwidth), "quartic rule of thumb")


SELECTORS = (QuarticRule(),)
