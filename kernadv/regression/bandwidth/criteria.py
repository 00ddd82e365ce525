"""Selectors that minimise a prediction error or an information criterion; they differ in its formula."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from kernadv._errors import ArgumentError, check_count
from kernadv.regression._told import told_by
from kernadv.regression.bandwidth._constants import one_sided_ratio
from kernadv.regression.bandwidth._criterion import ROUNDING, CriterionSelector, Errors
from kernadv.regression.bandwidth._ordered import Ordered
from kernadv.regression.local.moments import exponents, local_moments
from kernadv.regression.local.polynomial import kernel_weights
from kernadv.regression.local.solve import SURE, solve_local
from kernadv.regression.series import apart
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray, IntArray

#: Below this weight of the others, 1 - l_i(x_i), their estimate has no digits left: it counts as undefined.
OTHERS = 1e-6


def left_out(residuals: Errors) -> Errors:
    """Errors of every point from all others: ``y_i - m_(-i)(x_i) = (y_i - m(x_i)) / (1 - l_i(x_i))``."""
    others = 1.0 - residuals.leverage
    others[~(others > OTHERS)] = np.nan
    return Errors(residuals.error / others[:, None], np.zeros(len(others)))


@told_by(CriterionSelector)
@dataclass(frozen=True)
class LeaveOneOut(CriterionSelector):
    """``CV(h) = sum_i omega_i (y_i - m_(-i)(x_i; h))^2 / sum_i omega_i``.

    Unbiased for the prediction error if the errors are independent.  Exact for every kernel, degree and dimension, at the
    cost of one smooth per bandwidth: leaving a point out of a least squares fit multiplies its residual by
    ``1 / (1 - l_i(x_i))``.

    Parameters
    ----------
    size, undefined, bounds
        As in `CriterionSelector`.

    References
    ----------
    Stone (1974), Cross-validatory choice and assessment of statistical predictions, JRSS B 36.
    Clark (1975), A calibration curve for radiocarbon dates, Antiquity 49.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.bandwidth import LeaveOneOut
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> y = np.sin(6 * x) + 0.1 * np.cos(1000 * x)
    >>> model = LocalLinear(LeaveOneOut(bounds=(0.05, 0.5))).fit(x, y)
    >>> errors = y - model.loo_predict()
    >>> bool(np.isclose(model.selection_.value, (errors**2).mean()))
    True
    """

    name = "leave_one_out"
    on_device: ClassVar[bool] = True
    criterion: ClassVar[str] = "leave-one-out CV"

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Leave-one-out errors."""
        return left_out(super().errors(sample, bandwidth))


@told_by(CriterionSelector)
@dataclass(frozen=True)
class GCV(CriterionSelector):
    """``GCV(h) = (sum_i omega_i r_i^2 / sum_i omega_i) / (1 - tr S / n)^2``; inf where ``tr S >= n``.

    Parameters
    ----------
    size, undefined, bounds
        As in `CriterionSelector`.

    References
    ----------
    Craven and Wahba (1979), Smoothing noisy data with spline functions, Numerische Mathematik 31.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> y = np.sin(6 * x) + 0.1 * np.cos(1000 * x)
    >>> model = LocalLinear("gcv").fit(x, y)
    >>> squares, edf = ((y - model.predict(x)) ** 2).sum(), np.trace(model.hat_matrix(x))
    >>> bool(np.isclose(model.selection_.value, 60 * squares / (60 - edf) ** 2))
    True
    """

    name = "gcv"
    on_device: ClassVar[bool] = True
    criterion: ClassVar[str] = "generalised CV"

    def scores(self, errors: Errors, weights: FloatArray, variance: FloatArray) -> FloatArray:
        """GCV of the scored points, of each response."""
        left = 1.0 - float(errors.leverage.mean())
        if left <= 1e-6:
            return np.full(len(variance), np.inf)
        return super().scores(errors, weights, variance) / left**2


@told_by(CriterionSelector)
@dataclass(frozen=True)
class AICc(CriterionSelector):
    """``AICc(h) = log sigma^2 + 1 + 2 (tr S + 1) / (n - tr S - 2)``, sigma^2 the mean square of the residuals.

    S is the hat matrix of the degree that is fitted.  inf where ``tr S >= n - 2``; summed over responses that are not
    constant.

    Parameters
    ----------
    size, undefined, bounds
        As in `CriterionSelector`.

    References
    ----------
    Hurvich, Simonoff and Tsai (1998), Smoothing parameter selection in nonparametric regression using an improved Akaike
    information criterion, JRSS B 60.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> y = np.sin(6 * x) + 0.1 * np.cos(1000 * x)
    >>> model = LocalLinear("aicc").fit(x, y)
    >>> squares, edf = ((y - model.predict(x)) ** 2).sum(), np.trace(model.hat_matrix(x))
    >>> bool(np.isclose(model.selection_.value, np.log(squares / 60) + 1 + 2 * (edf + 1) / (60 - edf - 2)))
    True
    """

    name = "aicc"
    on_device: ClassVar[bool] = True
    criterion: ClassVar[str] = "AICc"
    logarithmic: ClassVar[bool] = True

    def scores(self, errors: Errors, weights: FloatArray, variance: FloatArray) -> FloatArray:
        """AICc of the scored points, of each response; 0 for one that does not vary."""
        left = len(weights) - float(errors.leverage.sum()) - 2.0
        if left <= 1e-6:
            return np.full(len(variance), np.inf)
        square = np.maximum(super().scores(errors, weights, variance), ROUNDING * variance)
        penalty = 1.0 + 2.0 * (float(errors.leverage.sum()) + 1.0) / left
        return np.where(variance > 0.0, np.log(np.where(variance > 0.0, square, 1.0)) + penalty, 0.0)


@told_by(CriterionSelector)
@dataclass(frozen=True)
class KFold(CriterionSelector):
    """Mean squared error of each of k random folds predicted from the others.

    The folds are drawn over the sorted points, so they depend on the data and the seed only, not on the order of the rows.
    Estimates come from ``n (k - 1) / k`` points: the bandwidth is slightly too wide for n.  Costs k fits per bandwidth.

    Parameters
    ----------
    folds : int
        Number of folds, at most the number of points.
    seed : int
        Of the assignment to folds.
    size, undefined, bounds
        As in `CriterionSelector`.

    References
    ----------
    Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, section 7.10.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.bandwidth import KFold
    >>> np.bincount(KFold(folds=5, seed=1).assign(12)).tolist()  # points in each fold
    [3, 3, 2, 2, 2]
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> model = LocalLinear(KFold(folds=5)).fit(x, np.sin(6 * x) + 0.1 * np.cos(1000 * x))
    >>> model.selection_.criterion
    'k-fold CV'
    """

    folds: int = 10
    seed: int = 0

    name = "k_fold"
    criterion: ClassVar[str] = "k-fold CV"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.folds, "folds", 2)
        check_count(self.seed, "seed", 0)

    def assign(self, n: int) -> FloatArray:
        """Fold of each sorted point, sizes equal to one.  # (n,)"""
        return np.asarray(np.random.default_rng(self.seed).permutation(np.arange(n) % min(self.folds, n)))

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Errors of every point from the other folds."""
        error, fold = np.empty_like(sample.y), self.assign(len(sample.x))
        smoother, points = sample.with_bandwidth(bandwidth), sample.points
        for k in range(int(fold.max()) + 1):
            test = fold == k
            error[test] = sample.y[test] - smoother.take(~test).moments(points.take(test)).value
        return Errors(error, np.zeros(len(error)))


@told_by(CriterionSelector)
@dataclass(frozen=True)
class HBlock(CriterionSelector):
    """Mean squared error of every point predicted without the points within `block` places of it in its series.

    Places are the distinct values of the first dimension of x, in ascending order.  Points that share a place are left out
    together, as they are summed in the "hac" variance of `kernadv.regression.inference.standard_error`.  If errors further
    apart than `block` places are uncorrelated, the score is unbiased for the prediction error; leave-one-out would follow
    the noise.

    The moments of the ``2 block + 1`` places are subtracted from those of all points, and each local system is solved
    again: exact, and O(block n) per bandwidth on top of a smooth.  A point whose block holds all but 1e-6 of the weight
    counts as undefined.  The bandwidth is optimal for the sample without the blocks: keep them narrow.

    Parameters
    ----------
    block : int
        Places left out on each side; 0 leaves out each place, which is leave-one-out if no two points share one.
    size, undefined, bounds
        As in `CriterionSelector`.

    References
    ----------
    Chu and Marron (1991), Comparison of two bandwidth selectors with dependent errors, Annals of Statistics 19.
    Burman, Chow and Nolan (1994), A cross-validatory method for dependent data, Biometrika 81.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> rng = np.random.default_rng(0)
    >>> x, noise = np.arange(300.0), np.zeros(300)
    >>> for t in range(1, 300):  # each error is much like the one before
    ...     noise[t] = 0.8 * noise[t - 1] + 0.3 * rng.normal()
    >>> y = np.sin(x / 40) + noise
    >>> alone, blocks = (LocalLinear(name).fit(x, y).bandwidth_[0] for name in ("leave_one_out", "h_block"))
    >>> bool(blocks > 2 * alone)  # leave-one-out takes the errors for the curve
    True
    """

    block: int = 3

    name = "h_block"
    criterion: ClassVar[str] = "h-block CV"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.block, "block", 0)

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Errors of every point from the points outside its block."""
        spec, d = sample.spec, sample.x.shape[1]
        powers, all_powers = exponents(d, spec.degree), exponents(d, 2 * spec.degree)
        x, labels, spots = sample.x, sample.series, sample.spots
        block = min(self.block, len(x))
        place = sample.place + block * sample.label
        channels = np.concatenate([sample.weights[None], sample.weights * sample.y.T])
        ties = len(spots) < len(x)
        if ties:  # points in one spot are one in the moments
            x, place, channels = x[spots], place[spots], np.add.reduceat(channels, spots, axis=1)
            labels = None if labels is None else labels[spots]
        sums = np.zeros((len(x), len(channels), len(all_powers)))
        for points, queries, own, at, _ in apart(x, labels, x, labels, spec.kernel, bandwidth):
            part = np.ascontiguousarray(channels[:, points])
            sums[queries] = local_moments(
                own, part, at, bandwidth, spec.kernel, 2 * spec.degree, radial=spec.radial, past=spec.past
            )
        total = sums[:, 0, 0].copy()
        z, offset = x / bandwidth, 0

        def leave_out(query: IntArray, other: IntArray) -> None:
            """Subtract the moments of one other spot from those of each query."""
            u = z[other] - z[query]  # (q, d)
            weight = kernel_weights(spec, u)
            for k, power in enumerate(all_powers):
                sums[query, :, k] -= (weight * np.prod(u**power, axis=1) * channels[:, other]).T

        while len(near := np.flatnonzero(place[offset:] - place[: len(place) - offset] <= block)):
            leave_out(near, near + offset)
            if offset:
                leave_out(near + offset, near)
            offset += 1
        sums[~(sums[:, 0, 0] > OTHERS * total)] = 0.0
        solved = solve_local(sums, powers, all_powers)
        value = np.where(solved.pivot[:, None] > SURE, solved.coefficients[:, 0], np.nan)
        if ties:
            value = np.repeat(value, np.diff(spots, append=len(sample.x)), axis=0)
        return Errors(sample.y - value, np.zeros(len(value)))


@told_by(CriterionSelector)
@dataclass(frozen=True)
class OneSided(CriterionSelector):
    """Leave-one-out CV of a one-sided local linear fit, its bandwidth times a constant of the kernel.

    The one-sided fit needs a wider window, where leave-one-out varies much less; the ratio of the optimal bandwidths of
    the two fits, `one_sided_ratio`, depends on the kernel only.  For two-sided fits of degree 0 or 1 on a line; with degree
    0 the design bias is neglected.  Bounds, grid and curve are in terms of the two-sided bandwidth.

    Parameters
    ----------
    size, undefined, bounds
        As in `CriterionSelector`.

    References
    ----------
    Hart and Yi (1998), One-sided cross-validation, Journal of the American Statistical Association 93.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> model = LocalLinear("one_sided").fit(x, np.sin(6 * x) + 0.1 * np.cos(1000 * x))
    >>> model.selection_.criterion
    'one-sided CV'
    """

    name = "one_sided"
    criterion: ClassVar[str] = "one-sided CV"

    def prepare(self, smoother: LinearSmoother) -> Ordered:
        """Checked data, with the one-sided fit."""
        sample = super().prepare(replace(smoother, spec=replace(smoother.spec, degree=1, past=True)))
        spec, d = smoother.spec, sample.x.shape[1]
        if d > 1 or spec.past or spec.degree > 1:
            raise ArgumentError(
                f"one_sided is for two-sided fits of degree 0 or 1 on a line, got degree {spec.degree} in {d} "
                f"dimension{'s' if d > 1 else ''}{', one-sided' if spec.past else ''}; use leave_one_out"
            )
        return sample

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Leave-one-out errors of the one-sided fit with the equivalent bandwidth."""
        return left_out(super().errors(sample, bandwidth / one_sided_ratio(sample.spec.kernel)))


@told_by(CriterionSelector)
@dataclass(frozen=True)
class Prequential(CriterionSelector):
    """Mean squared error of every point predicted from strictly earlier points of its series.

    Earlier means smaller in the first dimension; ties are not used.  The fit is one-sided, whatever `spec.past` is.  If the
    errors are martingale differences given the past, the expected score is the noise plus the risk of the estimate,
    for any kernel and with feedback from the responses to the design.

    Parameters
    ----------
    size, undefined, bounds
        As in `CriterionSelector`.

    References
    ----------
    Dawid (1984), Statistical theory: the prequential approach, JRSS A 147.
    Hart (1994), Automated kernel smoothing of dependent data by using time series cross-validation, JRSS B 56.
    Gijbels, Pope and Wand (1999), Understanding exponential smoothing via kernel regression, JRSS B 61.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> model = LocalLinear("prequential", side="past").fit(x, np.sin(6 * x) + 0.1 * np.cos(1000 * x))
    >>> model.selection_.criterion
    'prequential error'
    """

    name = "prequential"
    on_device: ClassVar[bool] = True
    criterion: ClassVar[str] = "prequential error"

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Errors of every point from the past."""
        return Errors(sample.y - sample.from_past(bandwidth), np.zeros(len(sample.y)))


SELECTORS = (LeaveOneOut(), GCV(), AICc(), KFold(), HBlock(), OneSided(), Prequential())
