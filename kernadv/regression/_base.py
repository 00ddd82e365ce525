"""What all regressors share: checks, fitting, prediction, inference and display."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from kernadv._arrays import is_tensor
from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice
from kernadv._typing import AnyArray, BoolArray, FloatArray
from kernadv.moments import on_device
from kernadv.regression import _intervals
from kernadv.regression._display import plot, summary
from kernadv.regression._input import (
    back,
    find_groups,
    ordered_levels,
    read_frequency,
    read_names,
    read_points,
    read_response,
    read_weights,
    to_numpy,
)
from kernadv.regression._quality import Quality, quality
from kernadv.regression.columns import read_categories
from kernadv.regression.hat_rows import gradient
from kernadv.regression.inference import Interval
from kernadv.regression.inference._base import check_one_curve
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother, coefficients

if TYPE_CHECKING:
    from kernadv.regression.operators.series import DeviceSeries
    from kernadv.regression.operators.smoother import DeviceSmoother

#: Where fits are computed, see `KernelRegressor`.
BACKENDS = ("auto", "numba", "torch")
#: Highest degree of a local polynomial.
HIGHEST_DEGREE = 3
#: Size of the data on which scikit-learn tests scores.
JUDGED_ROWS, JUDGED_COLUMNS = 200, 10

#: What to do about it.
IN_MEMORY = "fit with backend='numba', or with X.cpu().numpy() and y.cpu().numpy()"

WHY_NO_INTERVAL = (
    "too few points in the window for an interval, so that its responses tell nothing about the noise, or all responses are "
    "the same; widen the bandwidth"
)


class EmptyWindowWarning(UserWarning):
    """Some queries have no estimate: their window is empty, or its points do not determine the local polynomial."""


class KernelRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Local polynomial regression; subclasses define the bandwidth of each query."""

    degree: int
    kernel: Any
    backend: str
    categorical: dict[Any, Any] | None = None
    groups_: Any

    @abstractmethod
    def _spec(self) -> LocalPolynomialSpec:
        """The settings, checked."""

    @abstractmethod
    def _with_bandwidth(self, smoother: LinearSmoother) -> LinearSmoother:
        """The smoother with its bandwidth, or with what the bandwidths of queries depend on."""

    @abstractmethod
    def _with_bandwidth_on_device(self, smoother: Any) -> Any:
        """The same for data on a device."""

    @abstractmethod
    def _bandwidth_at(self, at: Points) -> FloatArray | None:
        """Bandwidth of each query (m, 1), or None if all have that of the smoother."""

    @abstractmethod
    def _window(self) -> str:
        """The bandwidth in words, for messages and tables."""

    @property
    def _mixed(self) -> bool:
        return isinstance(self.categorical, dict) and bool(self.categorical)

    @property
    def _usual_points(self) -> int:
        """Points in a window of the data on which scikit-learn tests scores."""
        return JUDGED_ROWS

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, frequency: Any = None) -> Self:
        """Store the sample and choose the bandwidth.

        Parameters
        ----------
        X : (n, d) array, data frame or tensor
            Design points.  Tensors on a GPU stay there, see `backend`; the host waits while they are checked.
        y : (n,) or (n, C) array or tensor
            Responses.
        sample_weight : (n,) array-like, optional
            Observation weights >= 0, inversely proportional to the variance of each response: k for the mean of k
            responses.  Only their ratios matter, and whole numbers have no special meaning.
        groups : (n,) array-like of str or int, optional
            Series of each row: smoothing never crosses series.
        frequency : (n,) array-like of whole numbers >= 0, optional
            Number of times each row counts; everything is as if the rows were repeated.  With a selector of local
            bandwidths, `bandwidth_` has one row for each repetition.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the data cannot be used; an earlier fit is kept.
        """
        fresh = copy(self)  # a failed or interrupted fit changes nothing
        fresh._fit(X, y, sample_weight, groups, frequency)
        self.__dict__ = fresh.__dict__
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, frequency: Any) -> None:
        spec = self._spec()
        self._like = y.detach().new_empty(0) if is_tensor(y) else None
        self._there: DeviceSmoother | DeviceSeries | None = None
        if on_device(check_choice(self.backend, "backend", BACKENDS), X):
            self._fit_on_device(spec, X, y, sample_weight, groups, frequency=frequency)
            return
        x, y = to_numpy(X, "X"), to_numpy(y, "y")
        x, y = validate_data(self, x, y, dtype=None if self._mixed else np.float64, multi_output=True, y_numeric=True)
        response = read_response(y)
        weights = read_weights(sample_weight, x)
        names = None if groups is None else read_names(groups, x)
        self._given, repeated = len(x), None
        if frequency is not None:
            repeated = read_frequency(frequency, x)
            x, response, weights = x[repeated], response[repeated], weights[repeated]
            names = None if names is None else names[repeated]
        kept = np.flatnonzero(weights)
        if len(kept) <= spec.degree:
            raise ArgumentError(
                f"degree={spec.degree} needs at least {spec.degree + 1} rows of positive weight, got "
                f"n_samples={len(kept)}; lower the degree"
            )
        columns = getattr(self, "feature_names_in_", None)
        self.categories_ = read_categories(
            self.categorical, x, None if columns is None else columns.tolist(), ordered_levels(X)
        )
        if spec.past and len(self.categories_) == x.shape[1]:
            raise ArgumentError("side='past' needs a continuous column: the first one is the time")
        self.groups_, series = None, None
        if names is not None:
            self.groups_, series = np.unique(names, return_inverse=True)
        points = read_points(x, self.categories_, series)
        x, levels, series, _ = points.take(kept)
        smoother = LinearSmoother(
            spec, x, response[kept], weights[kept], series=series, levels=levels, categories=tuple(self.categories_)
        )
        self._rows, self._one_response = kept if repeated is None else repeated[kept], y.ndim == 1
        self._quality: Quality | None = None
        _ = smoother.ascending  # sorted once, for the choice of the bandwidth and all that follows
        self._smoother = self._with_bandwidth(smoother)

    def _fit_on_device(
        self, spec: LocalPolynomialSpec, X: Any, y: Any, sample_weight: Any, groups: Any, **others: Any
    ) -> None:
        from kernadv.regression.operators.series import read_series
        from kernadv.regression.operators.smoother import read

        others["categorical"] = self.categorical or None
        for name, given in others.items():
            if given is not None:
                raise ArgumentError(f"{name}= is for data in main memory, and X is a tensor on {X.device}; {IN_MEMORY}")
        if spec.degree > 1:
            raise ArgumentError(
                f"tensors on a device are smoothed at degree 0 or 1, got degree={spec.degree}; {IN_MEMORY}"
            )
        smoother: Any
        if groups is None:
            smoother, kept = read(spec, X, y, sample_weight)
            self.groups_ = None
        else:
            smoother, kept = read_series(spec, X, y, sample_weight, groups)
            self.groups_ = smoother.names
        self._given, self._kept, self._one_response = len(X), kept, y.ndim == 1
        self.n_features_in_, self.categories_ = X.shape[1], []
        for name in ("feature_names_in_", "_smoother", "_quality"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self._there = self._with_bandwidth_on_device(smoother)

    def predict(self, X: Any, return_std: bool = False, groups: Any = None) -> Any:
        """Estimate the regression function.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
            Queries.
        return_std : bool
            Also return the standard error of each estimate, assuming one error variance (in each group); NaN if there is no
            residual degree of freedom.
        groups : (m,) array-like, optional
            Series of each query; required if the fit had groups, and only then.

        Returns
        -------
        (m,) or (m, C) array or tensor, or two of them
            NaN, with one `EmptyWindowWarning`, where the window has too few points; on a GPU without the warning.
        """
        if there := self._device_fit():
            if return_std:
                raise self._only_in_memory("the standard error")
            at, restore = self._device_queries(X, groups)
            return restore(self._shaped(there.estimate(at)))
        at, restore = self._queries(X, groups)
        local = self._smoother.estimate(at, square=return_std)
        self._report(local.defined, at)
        value = restore(self._shaped(local.value))
        if local.square is None:
            return value
        scale = self._fit_quality().scale_at(at)
        return value, restore(self._shaped(np.sqrt(np.maximum(local.square, 0.0))[:, None] * scale))

    def score(self, X: Any, y: Any, sample_weight: Any = None, frequency: Any = None) -> float:
        """R^2 of the predictions: ``1 - sum w (y - predict(X))^2 / sum w (y - mean)^2``, where w = weight x frequency.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        y : (m,) or (m, C) array
        sample_weight : (m,) array-like, optional
        frequency : (m,) array-like of whole numbers >= 0, optional
            As in `fit`.
        """
        if frequency is not None:
            weights = 1.0 if sample_weight is None else np.asarray(to_numpy(sample_weight, "sample_weight"), np.float64)
            sample_weight = weights * np.bincount(read_frequency(frequency, y), minlength=len(y))
        given = to_numpy(y, "y"), to_numpy(self.predict(X), "predictions"), to_numpy(sample_weight, "sample_weight")
        return float(r2_score(given[0], given[1], sample_weight=given[2]))

    def derivative(self, X: Any, order: int | tuple[int, ...] = 1, groups: Any = None) -> Any:
        """Estimate a derivative of the regression function.

        This is a coefficient of the local polynomial; with degree 0, the derivative of the estimate itself.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        order : int or tuple of d ints
            Order in each continuous column.  The total is at most the degree, or 1 with degree 0.  With several columns the
            number 1 gives the gradient.
        groups : (m,) array-like, optional

        Returns
        -------
        (m,) or (m, C); the gradient (m, d) or (m, C, d)

        Raises
        ------
        ArgumentError
            If the order is higher than the degree; with degree 0, where the estimate jumps (one-sided, uniform kernel) or
            the bandwidth changes with the query.
        """
        at, restore = self._queries(X, groups)
        columns = at.x.shape[1]
        several = not isinstance(order, tuple) and columns > 1
        if several and order != 1:
            raise ArgumentError(
                f"with {columns} continuous columns order must be 1 (gradient) or a tuple of {columns}, got {order!r}"
            )
        if several:
            orders = [tuple(row) for row in np.eye(columns, dtype=int).tolist()]
        else:
            orders = [order if isinstance(order, tuple) else (order,)]
        orders = [self._checked_order(one, columns) for one in orders]
        if self._smoother.spec.degree == 0 and sum(orders[0]) == 1:
            each = [gradient(self._smoother, at, one.index(1)) for one in orders]
        else:
            each = [self._smoother.estimate(at, one).value for one in orders]
        self._report(np.asarray(~np.isnan(each[0]).any(axis=1)), at)
        values = [self._shaped(value) for value in each]
        return restore(np.stack(values, axis=-1) if several else values[0])

    def hat_matrix(self, X: Any, groups: Any = None) -> Any:
        """Hat matrix S at the queries: ``predict(X) = S @ y``.  # (m, n)"""
        if there := self._device_fit():
            at, restore = self._device_queries(X, groups)
            every = there.hat(at)
            return restore(every.new_zeros((len(every), self._given)).index_copy_(1, self._kept, every))
        at, restore = self._queries(X, groups)
        rows = self._smoother.hat(at)
        self._report(~np.isnan(rows[:, 0]), at)
        first = np.flatnonzero(np.diff(self._rows, prepend=-1))
        if len(first) < len(self._rows):  # repetitions of a row are summed
            rows = np.add.reduceat(rows, first, axis=1)
        if len(first) < self._given:
            rows, used = np.zeros((len(at.x), self._given)), rows
            rows[:, self._rows[first]] = used
        return restore(rows)

    def loo_predict(self) -> Any:
        """Estimate at each fitted row without its own response: exact, without refitting.  # (n,) or (n, C)

        The result has the type of y.  It is NaN for rows that are alone in their window and for rows of weight 0.  Of a
        repeated row only one repetition is left out.
        """
        check_is_fitted(self)
        if there := self._device_fit():
            every = there.left_out()
            every = every.new_full((self._given, every.shape[1]), np.nan).index_copy_(0, self._kept, every)
            return back(self._like)(self._shaped(every))
        out = np.full((self._given, self._smoother.y.shape[1]), np.nan)
        out[self._rows] = self._fit_quality().loo
        return back(self._like)(self._shaped(out))

    def interval(self, X: Any, level: float = 0.95, method: str = "auto", groups: Any = None) -> Interval:
        """Pointwise confidence intervals.

        Errors are assumed to be independent.  For other errors take ``fit = model.as_fit()`` and the functions of
        `kernadv.regression.inference`.  Clusters: `robust_bias_corrected` of ``dataclasses.replace(fit, cluster=...)`` with
        ``method="cluster"``.  Correlation along the first column: the same with ``method="hac"``, or a block bootstrap,
        `percentile_t` with ``scheme=MovingBlocks()``.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        level : float
        method : {"auto", "normal", "robust", "wilson", "jeffreys", "uniform"}
            See `kernadv.regression.inference.interval`.  "auto" uses limits for proportions where a response takes only two
            values, whatever these are.  Bias from other levels of categorical columns is not corrected.
        groups : (m,) array-like, optional

        Returns
        -------
        Interval
            `estimate`, `low` and `high`, each like the result of `predict`, and what the intervals cover.  NaN, with a
            warning, where the responses in the window are not enough.

        Raises
        ------
        ArgumentError
            If the method is unknown, or does not apply to this degree or these responses.
        """
        return self._region(_intervals.interval, X, groups, level, method)

    def band(
        self, X: Any, level: float = 0.95, method: str = "sup_t", groups: Any = None, *, bias_corrected: bool = False
    ) -> Interval:
        """Confidence bands: they cover at all queries simultaneously.

        Errors are assumed to be independent.  For correlation along a line pass ``model.as_fit()`` to
        `kernadv.regression.inference.multiplier_bootstrap` with ``scheme=MovingBlocks()``, a block bootstrap.  For clusters
        there are only intervals, see `interval`.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        level : float
        method : {"sup_t", "tube"}
            Bootstrap of the largest t, or the tube formula, which is for one continuous column and one bandwidth; see
            `multiplier_bootstrap` and `tube` of `kernadv.regression.inference`, and `band` there for columns of two values.
        groups : (m,) array-like, optional
            One band covers all queries; groups without a query do not matter.
        bias_corrected : bool
            Cover the regression function, with a band around a fit of a higher degree; default: cover the smoothed target,
            with a band around the estimate.

        Returns
        -------
        Interval
            `estimate`, `low` and `high`, each like the result of `predict`, and what the band covers.

        Raises
        ------
        ArgumentError
            If the method is unknown, or the tube formula does not hold.
        """
        return self._region(_intervals.band, X, groups, level, method, bias_corrected)

    def as_fit(self) -> LinearSmoother:
        """The fit for the functions of `kernadv.regression.inference`, e.g. ``standard_error(model.as_fit(), X, "hac")``.

        Raises
        ------
        ArgumentError
            With groups, categorical columns or bandwidths that change with the query: these functions do not support them,
            `interval` and `band` do.
        """
        check_is_fitted(self)
        if self._device_fit():
            raise self._only_in_memory("inference")
        fit = self._at_design_points()
        check_one_curve(fit)
        return fit

    def summary(self) -> str:
        """Table of the fit: the bandwidth and how it was chosen, degrees of freedom, errors."""
        check_is_fitted(self)
        if self._device_fit():
            raise self._only_in_memory("the table of a fit")
        return summary(self, self._smoother, self._fit_quality(), self._window())

    def plot(self, ax: Any = None, level: float = 0.95) -> Any:
        """Plot the data, the fit, its pointwise interval and its band, in one dimension.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; default: a new figure.
        level : float

        Returns
        -------
        matplotlib Axes
        """
        check_is_fitted(self)
        if self._device_fit():
            raise self._only_in_memory("the plot of a fit")
        return plot(self, self._smoother, ax, level)

    def _device_fit(self) -> Any:
        """The fit if its data are on a device."""
        check_is_fitted(self)
        return self._there

    def _only_in_memory(self, what: str) -> ArgumentError:
        assert self._there is not None
        return ArgumentError(f"{what} is computed in main memory, and this fit is on {self._there.device}; {IN_MEMORY}")

    def _device_queries(self, X: Any, groups: Any) -> tuple[Any, Any]:
        """The queries on the device of the fit, and a function that turns results into their type, or that of y."""
        self._check_groups(groups)
        there: Any = self._there
        if is_tensor(X):
            return there.read(X, groups), back(X if X.is_floating_point() else self._like)
        x = validate_data(self, X, reset=False, dtype=np.float64 if groups is None else None)
        return there.read(x, groups), back(X if hasattr(X, "dtype") else x)

    def _queries(self, X: Any, groups: Any) -> tuple[Points, Any]:
        """The checked queries, and a function that turns results into their type."""
        if self._device_fit():
            raise self._only_in_memory("what is not an estimate of the regression function")
        x = validate_data(self, to_numpy(X, "X"), reset=False, dtype=None if self.categories_ else np.float64)
        self._check_groups(groups)
        series = None if self.groups_ is None else find_groups(read_names(groups, x), self.groups_)
        kind = X if hasattr(X, "dtype") else x
        at = read_points(x, self.categories_, series)
        return at._replace(bandwidth=self._bandwidth_at(at)), back(kind)

    def _check_groups(self, groups: Any) -> None:
        if (groups is None) != (self.groups_ is None):
            raise ArgumentError(
                "the fit had groups: name the group of each query with groups="
                if groups is None
                else "the fit had no groups: pass groups= to fit as well"
            )

    def _checked_order(self, order: tuple[int, ...], columns: int) -> tuple[int, ...]:
        """The orders of a derivative; raises if there is no such derivative."""
        whole = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in order)
        if not whole or len(order) != columns:
            raise ArgumentTypeError(
                f"order must be a whole number >= 0 in each of {columns} continuous columns, got {order!r}"
            )
        degree = self._smoother.spec.degree
        if sum(order) > max(degree, 1):
            raise ArgumentError(f"a derivative of order {sum(order)} needs degree >= {sum(order)}, got degree={degree}")
        return order

    def _fit_quality(self) -> Quality:
        if self._quality is None:
            self._quality = quality(self._at_design_points())
        return self._quality

    def _at_design_points(self) -> LinearSmoother:
        """The smoother with a bandwidth for each design point, if it changes with the query."""
        own = None if self._smoother.bandwidth.ndim == 2 else self._bandwidth_at(self._smoother.points)
        return self._smoother if own is None else self._smoother.with_bandwidth(own)

    def _shaped(self, result: FloatArray) -> FloatArray:
        """(m,) where y was (n,)."""
        return result[:, 0] if self._one_response else result

    def _region(self, what: Any, X: Any, groups: Any, *options: Any) -> Interval:
        """An interval or a band in the shape and type of `predict`; warns about queries without one."""
        at, restore = self._queries(X, groups)
        result = what(self._at_design_points(), at, *options)
        undefined: BoolArray = np.asarray(np.isnan(result.low).any(axis=1))
        _warn_undefined(~undefined, WHY_NO_INTERVAL)
        estimate, low, high = (restore(self._shaped(part)) for part in result[:3])
        return Interval(estimate, low, high, result.covers)

    def _report(self, defined: AnyArray, at: Points) -> None:
        n, columns = self._smoother.x.shape
        degree = self._smoother.spec.degree
        needed = coefficients(columns, degree)
        if needed > n:
            why = f"degree={degree} in {columns} dimensions has {needed} coefficients, the fit has {n} points; lower it"
        elif not at.known.all():
            why = "its group may not be in the fit, or its window holds too few points; " + self._window()
        else:
            why = (
                f"fewer points with positive weight than degree={degree} needs, or all in one place, within "
                f"the {self._window()}; widen it, lower the degree, or stay inside the range of the data"
            )
        _warn_undefined(defined, why)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.string = tags.input_tags.categorical = self._mixed
        tags.regressor_tags.poor_score = coefficients(JUDGED_COLUMNS, int(self.degree)) > self._usual_points
        return tags


def _warn_undefined(defined: BoolArray, why: str) -> None:
    """Warn once if some queries have no estimate, with the reason and what to do."""
    missing = np.flatnonzero(~defined)
    if len(missing):
        warnings.warn(
            f"{len(missing)} of {len(defined)} queries have no estimate (NaN), the first in row {missing[0]}: {why}",
            EmptyWindowWarning,
            stacklevel=4,
        )
