"""Linear functionals of the responses, ``sum_j l_j y_j``: their errors for independent, clustered or serial noise.

Values, derivatives, means of them and differences between them are such functionals; l are rows of the hat matrix, or sums
of them.  The noise of a fit shows in its residuals ``e = R y``, ``R = I - S``, which are smaller than the noise and
correlated in another way.  So each kind of errors has a working model with correlations Omega.  It is estimated so that the
residuals of such noise would have the correlations that are seen, and every variance is unbiased if the model is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import lfilter, lfiltic
from scipy.special import stdtrit

from kernadv._errors import ArgumentError, check_choice
from kernadv.regression.inference.bands import DRAWS, largest_t
from kernadv.regression.inference.intervals import ENOUGH
from kernadv.regression.inference.variance import LOST
from kernadv.regression.smoother import LinearSmoother, coefficients
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Kinds of errors; "auto" is "cluster" if the fit has clusters, else "independent".
ERRORS = ("auto", "independent", "cluster", "serial")
#: With more points, residuals are taken as those of leave-one-out: the exact corrections take n^3 steps.
EXACT = 2000
#: Share of the variance of a functional that the residuals must show on average.
SHOWN = 0.02
#: Directions of the residuals whose variance is below this share of the noise are rounding errors.
ROUNDING = 1e-6
#: Largest correlation of a working model, highest order of its autoregression, and to what it is fitted to the residuals.
STRONGEST, ORDERS, TOLERANCE = 0.97, 4, 1e-13
#: Draws of the bootstrap at once.
BATCH = 200
#: Change of the coefficients for the derivative of a variance in them.
STEP = 1e-4


@dataclass(frozen=True)
class Residuals:
    """Residuals of a fit, in units in which the noise has one variance, and how they come from the noise.

    Attributes
    ----------
    root : (n,) float64
        Square roots of the observation weights.
    value : (n, C) float64
        ``sqrt(omega) e``; 0 where nothing else is in the window.
    known : (n,) bool
        Where there is a residual.
    rest : (n,) float64
        Variance of each residual if the noise is independent, of variance 1.
    make : (n, n) float64, or None
        R; None for more than `EXACT` points, where it counts as diagonal.
    coefficients : int
        Of the local polynomial.
    """

    root: FloatArray
    value: FloatArray
    known: BoolArray
    rest: FloatArray
    make: FloatArray | None
    coefficients: int

    def means(self, rows: FloatArray, order: IntArray, first: IntArray) -> FloatArray:
        """Along the last axis, of the points at each place: `order` sorts them, and `first` is where each place begins."""
        root = np.sqrt(np.add.reduceat(self.root[order] ** 2, first))
        return np.asarray(np.add.reduceat(rows[..., order] * self.root[order], first, axis=-1) / root)

    def by_place(self, order: IntArray, first: IntArray) -> Residuals:
        """The residuals of the mean responses of places, of the same estimates."""
        make = self.make
        if make is not None:
            make = self.means(self.means(make, order, first).T, order, first).T
        known = self.known[order][first]
        leverage = np.add.reduceat(1.0 - self.rest[order], first)
        rest = np.maximum(1.0 - leverage, ROUNDING) if make is None else (make**2).sum(1)
        root = np.sqrt(np.add.reduceat(self.root[order] ** 2, first))
        value = self.means(self.value.T, order, first).T
        return Residuals(root, value, known, np.where(known, rest, 1.0), make, self.coefficients)


def residuals_of(fit: LinearSmoother) -> Residuals:
    """The residuals of a fit at its design points; raises if there are none."""
    root, points = np.sqrt(fit.weights / fit.weights.mean()), fit.points
    own = fit.estimate(points)
    left = 1.0 - own.centre * fit.weights
    known = own.defined & (left > LOST)
    if not known.any():
        raise ArgumentError(
            "no point has another one with weight in its window, so there are no residuals; widen the bandwidth, or use a "
            "kernel that does not interpolate"
        )
    value = np.where(known[:, None], root[:, None] * (fit.y - own.value), 0.0)
    make, rest = None, np.where(known, left, 1.0)
    if len(root) <= EXACT:
        make = np.where(known[:, None], np.eye(len(root)) - root[:, None] * fit.hat(points) / root, 0.0)
        rest = np.where(known, (make**2).sum(1), 1.0)
    return Residuals(root, value, known, rest, make, coefficients(fit.x.shape[1], fit.spec.degree))


class Errors(Protocol):
    """A kind of errors, fitted to the residuals of one response."""

    def variance(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Variance and its degrees of freedom, of functionals of the scaled responses.  # (m,), (m,)"""

    def draws(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """Noise like that of the fit.  # (n, draws)"""

    def of_draws(self, rows: FloatArray, left: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Variances of the functionals, estimated from the residuals (n, draws) of draws.  # (m, draws)"""


class Clustered:
    """Noise with correlation in its cluster; each point is a cluster of its own if errors are independent.

    The variance is ``sum_g (l_g' A_g e_g)^2`` with matrices A_g that make it unbiased for the working model, correlation r
    between any two points of a cluster (CR2; HC2 if each point is alone).  r is the one with which the residuals have the
    sums of squares that are seen.  The degrees of freedom are those of Satterthwaite in the same model.  Right for any
    correlation in clusters, when these are many; the working model serves for few.

    References
    ----------
    Bell and McCaffrey (2002), Bias reduction in standard errors for linear regression with multi-stage samples, Survey
    Methodology 28 (CR2, degrees of freedom).
    Imbens and Kolesar (2016), Robust standard errors in small samples, REStat 98 (the working model of random effects).
    Pustejovsky and Tipton (2018), Small-sample methods for cluster-robust variance estimation, JBES 36, equation 9.
    """

    def __init__(self, residuals: Residuals, column: int, cluster: IntArray) -> None:
        self._order = np.argsort(cluster, kind="stable")
        self._first = np.flatnonzero(np.diff(cluster[self._order], prepend=-1))
        self._ends = np.append(self._first[1:], len(cluster))
        self._alone = len(self._first) == len(cluster)
        self._residuals, self._e = residuals, residuals.value[self._order, column]
        make = residuals.make
        self._make = None if make is None else make[self._order][:, self._order]
        self._shared: FloatArray | None = None
        if self._make is not None:
            self._shared = np.add.reduceat(self._make, self._first, axis=1)  # (n, G)
        self.correlation = self._within()
        self._fit_model()

    def _within(self) -> float:
        """Correlation in clusters: the random effects whose residuals would have these two sums of squares."""
        if self._alone or self._make is None or self._shared is None:
            return 0.0
        seen = np.array([self._e @ self._e, (np.add.reduceat(self._e, self._first) ** 2).sum()])
        sums = np.add.reduceat(self._make, self._first, axis=0)
        both = np.add.reduceat(self._shared, self._first, axis=0)
        expected = np.array([[(each**2).sum() for each in pair] for pair in ((self._make, self._shared), (sums, both))])
        if np.linalg.cond(expected) > 1.0 / ROUNDING:
            return 0.0
        alone, together = np.linalg.solve(expected, seen)
        total = alone + together
        return float(np.clip(together / total, 0.0, STRONGEST)) if total > 0.0 else 0.0

    def _fit_model(self) -> None:
        r = self.correlation
        self._covariance = None
        if self._make is not None and self._shared is not None:
            self._covariance = (1.0 - r) * (self._make @ self._make.T) + r * (self._shared @ self._shared.T)
        rest = self._residuals.rest[self._order]
        if self._alone or self._covariance is None:
            self._adjust: list[FloatArray] | None = None
            self._each = np.where(self._residuals.known[self._order], 1.0 / np.sqrt(rest), 0.0)
            return
        self._adjust = []
        for low, high in zip(self._first, self._ends, strict=True):
            omega = np.full((high - low, high - low), r) + (1.0 - r) * np.eye(high - low)
            self._adjust.append(_power(omega, 0.5) @ _power(self._covariance[low:high, low:high], -0.5))

    def _adjusted(self, rows: FloatArray) -> FloatArray:
        """Each functional on the residuals: ``A_g' l_g`` of all clusters.  # (m, n)"""
        rows = rows[:, self._order]
        if self._adjust is None:
            return np.asarray(rows * self._each)
        parts = zip(self._first, self._ends, self._adjust, strict=True)
        return np.asarray(np.concatenate([rows[:, low:high] @ adjust for low, high, adjust in parts], axis=1))

    def variance(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        given, rows = rows, self._adjusted(rows)
        variance = (np.add.reduceat(rows * self._e, self._first, axis=1) ** 2).sum(1)
        if self._covariance is None:
            parts = np.add.reduceat(rows**2, self._first, axis=1)
            return variance, np.maximum(parts.sum(1) ** 2 / (parts**2).sum(1) - self._residuals.coefficients, 1.0)
        if self._alone:
            squares = rows**2
            mean = squares @ np.diag(self._covariance)
            freedom = mean**2 / ((squares @ self._covariance**2) * squares).sum(1)
        else:
            freedom = np.empty(len(rows))
            for q, row in enumerate(rows):
                both = row[:, None] * self._covariance * row
                both = np.add.reduceat(np.add.reduceat(both, self._first, axis=0), self._first, axis=1)
                freedom[q] = np.trace(both) ** 2 / (both**2).sum()
        return variance, np.where(self._seen(given) >= SHOWN, freedom, np.nan)

    def _seen(self, rows: FloatArray) -> FloatArray:
        """Share of the variance of each functional that the residuals themselves show, unadjusted.  # (m,)"""
        assert self._covariance is not None
        rows, r, seen, whole = rows[:, self._order], self.correlation, np.zeros(len(rows)), np.zeros(len(rows))
        if self._alone:
            return np.asarray((rows**2 @ np.diag(self._covariance)) / (rows**2).sum(1))
        for low, high in zip(self._first, self._ends, strict=True):
            part = rows[:, low:high]
            seen += ((part @ self._covariance[low:high, low:high]) * part).sum(1)
            whole += (1.0 - r) * (part**2).sum(1) + r * part.sum(1) ** 2
        return seen / whole

    def draws(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """The residuals, adjusted, with one random sign for each cluster."""
        signs = np.where(rng.random((len(self._first), draws)) < 0.5, -1.0, 1.0)
        noise: FloatArray = self._adjusted_residuals()[:, None] * np.repeat(signs, self._ends - self._first, axis=0)
        out: FloatArray = np.empty_like(noise)
        out[self._order] = noise
        return out

    def _adjusted_residuals(self) -> FloatArray:
        if self._adjust is None:
            return np.asarray(self._each * self._e)
        parts = zip(self._first, self._ends, self._adjust, strict=True)
        return np.asarray(np.concatenate([adjust @ self._e[low:high] for low, high, adjust in parts]))

    def of_draws(self, rows: FloatArray, left: FloatArray, rng: np.random.Generator) -> FloatArray:
        rows, left, out = self._adjusted(rows), left[self._order], np.zeros((len(rows), left.shape[1]))
        for low, high in zip(self._first, self._ends, strict=True):
            out += (rows[:, low:high] @ left[low:high]) ** 2
        return out


def _power(matrix: FloatArray, power: float) -> FloatArray:
    """Of a symmetric matrix, on the directions in which it is not 0."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > ROUNDING
    return np.asarray((vectors * np.where(kept, np.where(kept, values, 1.0) ** power, 0.0)) @ vectors.T)


class Serial:
    """Stationary noise along the first column: an autoregression, times a standard deviation that may change slowly.

    The variance is that of independent noise (HC2) times ``l' Omega l / l' l``.  Omega are the correlations of an
    autoregression whose residuals would have the autocovariances that are seen; AIC chooses its order, up to 4.  The
    residuals are divided by their variances under Omega.  The degrees of freedom are those of Satterthwaite under Omega,
    fewer, but at least 1, for the error of the coefficients (delta method).  Lags count the distinct values of the first
    column.

    References
    ----------
    Berk (1974), Consistent autoregressive spectral estimates, Annals of Statistics 2; den Haan and Levin (1997), A
    practitioner's guide to robust covariance matrix estimation, Handbook of Statistics 15 (the autoregression).
    Andrews and Monahan (1992), An improved heteroskedasticity and autocorrelation consistent covariance matrix estimator,
    Econometrica 60 (why not the sum of products of residuals itself).
    """

    def __init__(self, residuals: Residuals, column: int, curve: IntArray) -> None:
        self._residuals, self._e = residuals, residuals.value[:, column]
        self._starts = np.flatnonzero(np.diff(curve, prepend=-1))
        self._ends = np.append(self._starts[1:], len(curve))
        self._longest = int((self._ends - self._starts).max())
        self._size = float(residuals.rest[residuals.known].sum())
        self._lag: IntArray | None = None
        make = residuals.make
        if make is not None:
            self._lag = np.abs(np.subtract.outer(np.arange(len(curve)), np.arange(len(curve))))
            self._lag[curve[:, None] != curve] = self._longest
        self.autoregression = self._fitted()
        self._correlations = self._lagged(self.autoregression)
        self._variances = residuals.rest
        self._squares: FloatArray | None = None
        if make is not None and self._lag is not None:
            covariance = make @ np.append(self._correlations, 0.0)[self._lag] @ make.T
            self._variances = np.where(residuals.known, np.diag(covariance), 1.0)
            self._squares = covariance**2
        self._variances = np.maximum(self._variances, ROUNDING)

    def _fitted(self) -> FloatArray:
        """Coefficients of the autoregression, of the order that AIC chooses.  # (p,)"""
        highest = min(ORDERS, self._longest - 2)
        seen = np.array([self._products(self._e, k) for k in range(highest + 1)])
        if highest < 1 or seen[0] <= 0.0:
            return np.empty(0)
        expected = self._expected(highest)
        if expected[0, 0] <= 0.0:  # no residual, but for rounding errors
            return np.empty(0)
        partial = self._matched(seen, expected, highest)[1]
        gain = self._size * np.cumsum(np.log1p(-(partial**2))) + 2.0 * np.arange(1, highest + 1)
        order = int(gain.argmin()) + 1 if gain.min() < 0.0 else 0
        return self._matched(seen, expected, order)[0]

    def _products(self, e: FloatArray, lag: int) -> float:
        """``sum_t e_t e_(t + lag)``, within each curve."""
        spans = zip(self._starts, self._ends, strict=True)
        return float(sum(e[low : high - lag] @ e[low + lag : high] for low, high in spans if high - low > lag))

    def _expected(self, highest: int) -> FloatArray:
        """Mean of each of these sums for noise with correlation 1 at one lag and 0 at the others.  # (highest + 1, lags)"""
        make, out = self._residuals.make, np.zeros((highest + 1, self._longest))
        for k in range(highest + 1):
            if make is None or self._lag is None:
                pairs = sum(max(high - low - k, 0) for low, high in zip(self._starts, self._ends, strict=True))
                out[k, k] = pairs * self._size / len(self._e)
                continue
            spans = zip(self._starts, self._ends, strict=True)
            both = sum(make[low : high - k].T @ make[low + k : high] for low, high in spans if high - low > k)
            out[k] = np.bincount(self._lag.ravel(), np.asarray(both).ravel(), self._longest + 1)[:-1]
        return out

    def _matched(self, seen: FloatArray, expected: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
        """Coefficients and partial correlations of the autoregression whose residuals have these autocorrelations."""
        target, expected = seen[1 : order + 1] / seen[0], expected[: order + 1]

        def apart(partial: FloatArray) -> FloatArray:
            mean = expected @ self._lagged(_from_partial(partial))
            return np.asarray(mean[1:] / mean[0] - target)

        partial, exact = np.zeros(order), {"xtol": TOLERANCE, "ftol": TOLERANCE, "gtol": TOLERANCE}
        if order:
            partial = least_squares(apart, partial, "3-point", bounds=(-STRONGEST, STRONGEST), **exact).x
        return _from_partial(partial), partial

    def _lagged(self, model: FloatArray) -> FloatArray:
        """Autocorrelations at all lags.  # (lags,)"""
        return _autocorrelations(model, self._longest)

    def _along(self, rows: FloatArray) -> FloatArray:
        """``sum_t l_t l_(t + k)`` at each lag k, twice except at 0.  # (m, lags)"""
        out = np.zeros((len(rows), self._longest))
        for low, high in zip(self._starts, self._ends, strict=True):
            length = high - low
            spectrum = np.abs(np.fft.rfft(rows[:, low:high], 2 * length, axis=1)) ** 2
            out[:, :length] += np.fft.irfft(spectrum, axis=1)[:, :length]
        out[:, 1:] *= 2.0
        return out

    def _inflation(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``l' Omega l / l' l``, and the variance of its logarithm.  # (m,), (m,)"""
        along, model = self._along(rows), self.autoregression
        norm = along[:, 0]
        ratio = np.maximum(along @ self._correlations / norm, ROUNDING)
        if not len(model):
            return ratio, np.zeros(len(rows))
        moved = np.stack([self._lagged(model + STEP * unit) for unit in np.eye(len(model))])
        slope = (along @ (moved - self._correlations).T) / (STEP * norm * ratio)[:, None]
        r = self._correlations
        innovation = 1.0 - model @ r[1 : len(model) + 1]
        spread = np.linalg.inv(r[np.abs(np.subtract.outer(np.arange(len(model)), np.arange(len(model))))])
        return ratio, np.einsum("ma,ab,mb->m", slope, spread * innovation / self._size, slope)

    def variance(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        ratio, doubt = self._inflation(rows)
        weight = rows**2 * self._residuals.known / self._variances
        mean = (rows**2).sum(1)
        if self._squares is None:
            spread = (rows**4).sum(1) * (self._correlations[0] + 2.0 * (self._correlations[1:] ** 2).sum())
        else:
            spread = ((weight @ self._squares) * weight).sum(1)
        own = mean**2 / spread
        freedom = np.maximum(1.0 / (1.0 / own + 0.5 * doubt), np.minimum(own, 1.0))
        seen = rows**2 @ self._variances / mean
        return ratio * (weight @ self._e**2), np.where(seen >= SHOWN, freedom, np.nan)

    def draws(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """Normal noise of the autoregression."""
        burnt = self._longest
        out = np.empty((len(self._e), draws))
        for low, high in zip(self._starts, self._ends, strict=True):
            shocks = rng.standard_normal((burnt + high - low, draws))
            out[low:high] = lfilter([1.0], np.append(1.0, -self.autoregression), shocks, axis=0)[burnt:]
        return out

    def of_draws(self, rows: FloatArray, left: FloatArray, rng: np.random.Generator) -> FloatArray:
        """The error of the coefficients is drawn too: one for each draw."""
        ratio, doubt = self._inflation(rows)
        weight = rows**2 * self._residuals.known / self._variances
        doubtful = np.exp(np.sqrt(doubt)[:, None] * rng.standard_normal(left.shape[1]))
        return np.asarray(ratio[:, None] * doubtful * (weight @ left**2))


def _from_partial(partial: FloatArray) -> FloatArray:
    """Coefficients of the autoregression with these partial correlations, by Durbin's recursion."""
    model = np.empty(0)
    for each in partial.tolist():
        model = np.append(model - each * model[::-1], each)
    return model


def _autocorrelations(model: FloatArray, lags: int) -> FloatArray:
    """Of an autoregression, from lag 0 on.  # (lags,)"""
    p = len(model)
    equations, right = np.eye(p + 1), np.zeros(p + 1)
    for k in range(p + 1):
        for i, coefficient in enumerate(model.tolist(), start=1):
            equations[k, abs(k - i)] -= coefficient
    right[0] = 1.0  # the variance of the innovations
    first = np.linalg.solve(equations, right)
    start = first / first[0]
    if lags <= p + 1:
        return np.asarray(start[:lags])
    a = np.append(1.0, -model)
    rest, _ = (
        lfilter([1.0], a, np.zeros(lags - p - 1), zi=lfiltic([1.0], a, start[::-1][:p]))
        if p
        else (np.zeros(lags - 1), 0)
    )
    return np.concatenate([start, rest])


class Noise:
    """The noise of a fit, for one kind of errors.

    Parameters
    ----------
    fit : LinearSmoother
        The one whose hat rows the functionals are.
    errors : {"auto", "independent", "cluster", "serial"}

    Raises
    ------
    ArgumentError
        No clusters, or no order along the first column; no residuals.
    """

    def __init__(self, fit: LinearSmoother, errors: str) -> None:
        errors = kind_of_errors(fit, errors)
        self._own, self._places = residuals_of(fit), None
        self._residuals = self._own
        if errors == "serial":
            self._places, curve = _places(fit)
            self._residuals = self._own.by_place(*self._places)
            self._kinds: list[Errors] = [Serial(self._residuals, c, curve) for c in range(fit.y.shape[1])]
            return
        cluster = np.arange(len(fit.x)) if errors == "independent" else _clusters(fit)
        self._kinds = [Clustered(self._own, c, cluster) for c in range(fit.y.shape[1])]

    def half_width(self, rows: FloatArray, level: float) -> FloatArray:
        """Of the intervals of functionals: standard error times a quantile of Student's t.  # (m, C)

        NaN where a functional is undefined, rests on a point without a residual, has less than one degree of freedom, or the
        residuals show too little of its variance.
        """
        scaled, unknown = self._scaled(rows)
        out = np.full((len(rows), len(self._kinds)), np.nan)
        nothing = ~unknown & ~scaled.any(axis=1)  # the difference between a query and itself
        asked = ~unknown & ~nothing
        for c, kind in enumerate(self._kinds):
            variance, freedom = kind.variance(scaled[asked])
            freedom = np.where(freedom >= ENOUGH, freedom, np.nan)
            out[asked, c] = stdtrit(freedom, 0.5 + 0.5 * level) * np.sqrt(variance)
        out[nothing] = 0.0
        return out

    def simultaneous(self, rows: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
        """The same for all functionals at once, and the multiple of the standard error: by a bootstrap of the largest t.

        Returns
        -------
        half : (m, C)
        critical : (C,)
        """
        scaled, unknown = self._scaled(rows)
        out, critical = np.full((len(rows), len(self._kinds)), np.nan), np.empty(len(self._kinds))
        rows, make = scaled[~unknown], self._residuals.make
        for c, kind in enumerate(self._kinds):
            rng, drawn = np.random.default_rng(0), []
            for _ in range(DRAWS // BATCH):
                noise = kind.draws(BATCH, rng)
                left = noise if make is None else make @ noise
                error = np.sqrt(kind.of_draws(rows, left, rng))
                drawn.append(np.abs(rows @ noise) / np.where(error > 0.0, error, np.inf))
            critical[c], certain = largest_t(np.concatenate(drawn, axis=1), level)
            variance, freedom = kind.variance(rows)
            out[~unknown, c] = np.where(certain & (freedom >= ENOUGH), critical[c] * np.sqrt(variance), np.nan)
        return out, critical

    def _scaled(self, rows: FloatArray) -> tuple[FloatArray, BoolArray]:
        """The functionals of scaled responses, 0 where unknown, and which are unknown."""
        scaled = rows / self._own.root
        if self._places is not None:
            scaled = self._own.means(scaled, *self._places)
        unknown = np.isnan(scaled).any(axis=1)
        squares = scaled**2
        unknown |= squares @ ~self._residuals.known > LOST * squares.sum(1)
        return np.nan_to_num(scaled), np.asarray(unknown)


def kind_of_errors(fit: LinearSmoother, errors: str) -> str:
    """The kind of errors that is meant: "independent", "cluster" or "serial"; raises if the fit has no clusters."""
    check_choice(errors, "errors", ERRORS)
    if errors == "cluster" and fit.cluster is None:
        raise ArgumentError("errors='cluster' needs the cluster of each row: fit(X, y, clusters=...)")
    if errors == "auto":
        return "independent" if fit.cluster is None else "cluster"
    return errors


def _clusters(fit: LinearSmoother) -> IntArray:
    """Clusters of the points, numbered as they come along x: neither names nor the order of the rows matter.  # (n,)"""
    assert fit.cluster is not None
    order = fit.sorted_rows()
    first, code = np.unique(fit.cluster[order], return_index=True, return_inverse=True)[1:]
    out: IntArray = np.empty(len(order), np.int64)
    out[order] = np.argsort(np.argsort(first))[code]
    return out


def _places(fit: LinearSmoother) -> tuple[tuple[IntArray, IntArray], IntArray]:
    """Order of the points by series and first column, where each place begins, and the series of each place."""
    if not fit.x.shape[1]:
        raise ArgumentError("errors='serial' needs a continuous column, along which errors are correlated")
    series = np.zeros(len(fit.x), np.int64) if fit.series is None else fit.series
    others = (*fit.points.levels.T, *fit.x.T[:0:-1])
    keys = (*others, fit.x[:, 0], series)
    order = np.lexsort(keys)
    changed = np.any([np.diff(key[order], prepend=np.nan) != 0.0 for key in keys], axis=0)
    first = np.flatnonzero(changed)
    time = np.stack([series[order[first]].astype(np.float64), fit.x[order[first], 0]])
    again = np.flatnonzero((np.diff(time, axis=1) == 0.0).all(axis=0))
    if len(again):
        raise ArgumentError(
            f"errors='serial' needs an order along the first column, and at {time[1, again[0]]:g} there are rows that "
            "differ in other columns: give each series a group (fit(..., groups=)), or use errors='cluster'"
        )
    return (order, first), series[order[first]]
