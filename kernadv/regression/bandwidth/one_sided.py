"""One-sided cross-validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray, IntArray
from kernadv.regression.bandwidth._constants import one_sided_ratio
from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._sample import Sample, check_shapes
from kernadv.regression.bandwidth.criteria import left_out
from kernadv.regression.local.polynomial import LocalPolynomialSpec


@dataclass(frozen=True)
class OneSided(CriterionSelector):
    """Leave-one-out CV of a one-sided local linear fit, its bandwidth times a constant of the kernel.

    The one-sided fit needs a wider window, where leave-one-out varies much less; the ratio of the optimal bandwidths of
    the two fits, `one_sided_ratio`, depends on the kernel only.  For two-sided fits of degree 0 or 1 on a line; with degree
    0 the design bias is neglected.  The grid and the curve are those of the two-sided bandwidth; the bounds too.

    References
    ----------
    Hart and Yi (1998), One-sided cross-validation, Journal of the American Statistical Association 93.
    """

    name = "one_sided"
    criterion: ClassVar[str] = "one-sided CV"

    def sample(
        self, spec: LocalPolynomialSpec, x: FloatArray, y: FloatArray, weights: FloatArray, series: IntArray | None
    ) -> Sample:
        """Checked data, with the one-sided fit."""
        check_shapes(x, y, weights, series)
        if x.shape[1] > 1 or spec.past or spec.degree > 1:
            raise ArgumentError(
                f"one_sided is for two-sided fits of degree 0 or 1 on a line, got degree {spec.degree} in {x.shape[1]} "
                f"dimension{'s' if x.shape[1] > 1 else ''}{', one-sided' if spec.past else ''}; use leave_one_out"
            )
        return super().sample(replace(spec, degree=1, past=True), x, y, weights, series)

    def errors(self, sample: Sample, bandwidth: FloatArray) -> Errors:
        """Leave-one-out errors of the one-sided fit with the equivalent bandwidth."""
        return left_out(sample, sample.smooth(bandwidth / one_sided_ratio(sample.spec.kernel)))


SELECTORS = (OneSided(),)
