"""What all regressors share: checks, fitting, prediction, inference and display."""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from kernadv._arrays import is_tensor
from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice, check_count, check_flag, warn
from kernadv.moments import on_device
from kernadv.regression import _intervals
from kernadv.regression._design import (
    MISSING,
    as_columns,
    check_times,
    complete_rows,
    missing_rows,
    query_columns,
    response_names,
    take_rows,
    without_times,
)
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
from kernadv.regression._prediction import prediction_interval
from kernadv.regression._quality import Quality, quality
from kernadv.regression.bisquare import robust_steps
from kernadv.regression.columns import read_categories
from kernadv.regression.inference import Choice, Interval
from kernadv.regression.inference._base import check_one_curve
from kernadv.regression.instead import EMPTY
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother, coefficients
from kernadv.typing import AnyArray, BoolArray, FloatArray, Table

if TYPE_CHECKING:
    from torch import Tensor

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
    """Some queries have no estimate: their window is empty, or its points do not determine the local polynomial.

    Examples
    --------
    >>> import warnings
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression import EmptyWindowWarning
    >>> model = LocalLinear(0.5).fit([0.0, 0.2, 0.4, 0.6], [0.0, 1.0, 0.0, 1.0])
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", EmptyWindowWarning)
    ...     model.predict([0.3, 9.0]).round(2)
    array([0.5, nan])
    """


class KernelRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Local polynomial regression; subclasses define the bandwidth of each query."""

    degree: int
    kernel: Any
    backend: str
    categorical: dict[Any, Any] | None = None
    robust_steps: int = 0
    missing: str = "raise"
    empty: str = "nan"
    fall_back: bool = False
    _falls_back_by_default = False
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

    def _located(self, at: Points) -> Points:
        """Queries with their bandwidths."""
        return at.with_bandwidth(self._bandwidth_at(at))

    @abstractmethod
    def _window(self) -> str:
        """The bandwidth in words, for messages and tables."""

    def _choice(self) -> Choice | None:
        """How the bandwidth was chosen, where other responses on the design can choose theirs in the same way."""
        return None

    @property
    def _mixed(self) -> bool:
        return isinstance(self.categorical, dict) and bool(self.categorical)

    @property
    def _usual_points(self) -> int:
        """Points in a window of the data on which scikit-learn tests scores."""
        return JUDGED_ROWS

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        frequency: Any = None,
        clusters: Any = None,
    ) -> Self:
        """Store the sample and choose the bandwidth.

        Parameters
        ----------
        X : (n, d) array, data frame or tensor; (n,) array, list, Series or tensor
            Design points; one-dimensional ones are one column, as they are for queries.  Times (numpy, pandas, polars; with
            a zone those of UTC) count in days since 1970-01-01, durations in days, and so do bandwidths of such columns.
            Tensors on a GPU stay there, see `backend`; the host waits while they are checked.
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
        clusters : (n,) array-like of str or int, optional
            Cluster of each row, within which errors may be correlated.  They change no estimate; intervals and bands then
            allow for them, see `errors` in `interval`.  Repetitions of a row are in its cluster.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the data cannot be used; an earlier fit is kept.
        """
        fresh = copy(self)  # a failed or interrupted fit changes nothing
        fresh._fit(X, y, sample_weight, groups, frequency, clusters)
        self.__dict__ = fresh.__dict__
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, frequency: Any, clusters: Any) -> None:
        spec = self._spec()
        self._like = y.detach().new_empty(0) if is_tensor(y) else None
        self._there: DeviceSmoother | DeviceSeries | None = None
        if on_device(check_choice(self.backend, "backend", BACKENDS), X):
            self._fit_on_device(spec, X, y, sample_weight, groups, frequency=frequency, clusters=clusters)
            return
        named = y
        X, y = as_columns(to_numpy(X, "X")), to_numpy(y, "y")
        self._given, complete = len(y) if hasattr(y, "__len__") else 0, None
        if self._drops:
            beside = {"sample_weight": sample_weight, "groups": groups, "frequency": frequency, "clusters": clusters}
            others = [to_numpy(each, name) for name, each in beside.items()]
            complete = complete_rows(X, y, *others)
            X, y, sample_weight, groups, frequency, clusters = (take_rows(each, complete) for each in (X, y, *others))
        self.n_missing_ = 0 if complete is None else self._given - len(complete)
        x, self.times_ = without_times(X)
        steps = self._checked_steps(y)
        x, y = validate_data(
            self, x, y, dtype=None if self._mixed else np.float64, multi_output=not steps, y_numeric=True
        )
        response = read_response(y)
        self.response_names_ = response_names(named, response.shape[1])
        weights = read_weights(sample_weight, x)
        names = None if groups is None else read_names(groups, x)
        cluster = None if clusters is None else np.unique(read_names(clusters, x, "clusters"), return_inverse=True)[1]
        repeated = None
        if frequency is not None:
            repeated = read_frequency(frequency, x)
            x, response, weights = x[repeated], response[repeated], weights[repeated]
            names = None if names is None else names[repeated]
            cluster = None if cluster is None else cluster[repeated]
        kept = np.flatnonzero(weights)
        if len(kept) <= spec.degree:
            raise ArgumentError(
                f"degree={spec.degree} needs at least {spec.degree + 1} rows of positive weight, got "
                f"n_samples={len(kept)}; lower the degree"
            )
        if cluster is not None and len(np.unique(cluster[kept])) < 2:
            raise ArgumentError("clusters must name at least 2 clusters with rows of positive weight, got 1")
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
        x, levels, series = points.take(kept)[:3]
        smoother = LinearSmoother(
            spec,
            x,
            response[kept],
            weights[kept],
            cluster=None if cluster is None else cluster[kept],
            series=series,
            levels=levels,
            categories=tuple(self.categories_),
        )
        rows = kept if repeated is None else repeated[kept]
        self._rows, self._one_response = rows if complete is None else complete[rows], y.ndim == 1
        self._quality: Quality | None = None
        self._instead = check_choice(self.empty, "empty", EMPTY), check_flag(self.fall_back, "fall_back")
        _ = smoother.ascending  # sorted once, for the choice of the bandwidth and all that follows
        # Estimates are those of `_smoother`, errors those of `_linear`; without robust steps the two are one.
        self._smoother = self._linear = self._with_bandwidth(smoother)
        if steps:
            self._take_robust_steps(steps)

    def _checked_steps(self, y: Any) -> int:
        """Number of robust steps."""
        steps = check_count(self.robust_steps, "robust_steps", 0)
        shape = np.asarray(y).shape if steps else ()
        if len(shape) == 2 and shape[1] > 1:
            raise ArgumentError(
                f"robust_steps are for one response, each has weights of its own; got {shape[1]}: fit one model for each "
                "column of y"
            )
        return steps

    def _take_robust_steps(self, steps: int) -> None:
        if self._smoother.bandwidth.ndim == 2:
            raise ArgumentError("robust_steps need one bandwidth for all queries, or neighbours; name another selector")
        plain = self._smoother
        weights, pseudovalues = robust_steps(self._at_design_points(), steps)
        self._smoother = replace(plain, weights=plain.weights * weights)
        self._linear = replace(plain, y=pseudovalues[:, None])

    def _fit_on_device(
        self, spec: LocalPolynomialSpec, X: Any, y: Any, sample_weight: Any, groups: Any, **others: Any
    ) -> None:
        from kernadv.regression.operators.series import read_series
        from kernadv.regression.operators.smoother import read

        others["categorical"], others["robust_steps"] = self.categorical or None, self.robust_steps or None
        others["missing"] = "drop" if self._drops else None
        others["empty"] = None if check_choice(self.empty, "empty", EMPTY) == "nan" else self.empty
        if check_flag(self.fall_back, "fall_back") and not self._falls_back_by_default:
            others["fall_back"] = True
        for name, given in others.items():
            if given is not None:
                raise ArgumentError(f"{name}= is for data in main memory, and X is a tensor on {X.device}; {IN_MEMORY}")
        if spec.degree > 1:
            raise ArgumentError(
                f"tensors on a device are smoothed at degree 0 or 1, got degree={spec.degree}; {IN_MEMORY}"
            )
        X = as_columns(X)
        smoother: Any
        if groups is None:
            smoother, kept = read(spec, X, y, sample_weight)
            self.groups_ = None
        else:
            smoother, kept = read_series(spec, X, y, sample_weight, groups)
            self.groups_ = smoother.names
        self._given, self._kept, self._one_response, self.n_missing_ = len(X), kept, y.ndim == 1, 0
        self.n_features_in_, self.categories_, self.times_ = X.shape[1], [], {}
        for name in ("feature_names_in_", "response_names_", "_smoother", "_linear", "_quality"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self._there = self._with_bandwidth_on_device(smoother)

    @overload
    def predict(self, X: Table, return_std: Literal[False] = False, groups: Any = None) -> AnyArray: ...

    @overload
    def predict(self, X: Table, return_std: Literal[True], groups: Any = None) -> tuple[AnyArray, AnyArray]: ...

    @overload
    def predict(self, X: Tensor, return_std: Literal[False] = False, groups: Any = None) -> Tensor: ...

    @overload
    def predict(self, X: Tensor, return_std: Literal[True], groups: Any = None) -> tuple[Tensor, Tensor]: ...

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
            NaN, with one `EmptyWindowWarning`, where the window has too few points, unless `empty` or `fall_back` say what
            stands in; on a GPU without the warning.
        """
        if there := self._device_fit():
            if return_std:
                raise self._only_in_memory("the standard error")
            at, restore = self._device_queries(X, groups)
            return restore(self._shaped(there.estimate(at)))
        at, restore = self._queries(X, groups)
        robust = self._smoother is not self._linear
        local = self._filled().estimate(at, square=return_std and not robust)
        self._report(local.defined, at)
        value = restore(self._shaped(local.value))
        if not return_std:
            return value
        square = self._linear.estimate(at, square=True).square if robust else local.square
        assert square is not None
        scale = self._fit_quality().scale_at(at)
        return value, restore(self._shaped(np.sqrt(np.maximum(square, 0.0))[:, None] * scale))

    def score(self, X: Any, y: Any, sample_weight: Any = None, frequency: Any = None, groups: Any = None) -> float:
        """R^2 of the predictions: ``1 - sum w (y - predict(X))^2 / sum w (y - mean)^2``, where w = weight x frequency.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        y : (m,) or (m, C) array
        sample_weight : (m,) array-like, optional
        frequency : (m,) array-like of whole numbers >= 0, optional
        groups : (m,) array-like, optional
            As in `fit`.  Rows with missing values are left out if they were in fitting.
        """
        if self._drops and not self._device_fit():
            X, y = as_columns(to_numpy(X, "X")), to_numpy(y, "y")
            rows = complete_rows(X, y, sample_weight, frequency, groups)
            X, y, sample_weight, frequency, groups = (
                take_rows(each, rows) for each in (X, y, sample_weight, frequency, groups)
            )
        if frequency is not None:
            weights = 1.0 if sample_weight is None else np.asarray(to_numpy(sample_weight, "sample_weight"), np.float64)
            sample_weight = weights * np.bincount(read_frequency(frequency, y), minlength=len(y))
        given = (
            to_numpy(y, "y"),
            to_numpy(self.predict(X, groups=groups), "predictions"),
            to_numpy(sample_weight, "sample_weight"),
        )
        return float(r2_score(given[0], given[1], sample_weight=given[2]))

    def derivative(
        self,
        X: Any,
        order: int | tuple[int, ...] = 1,
        groups: Any = None,
        *,
        interval: bool = False,
        level: float = 0.95,
        errors: str = "auto",
    ) -> Any:
        """Estimate a derivative of the regression function.

        This is a coefficient of the local polynomial; with degree 0, the derivative of the estimate itself.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        order : int or tuple of d ints
            Order in each continuous column.  The total is at most the degree, or 1 with degree 0.  With several columns the
            number 1 gives the gradient.
        groups : (m,) array-like, optional
        interval : bool
            Return confidence intervals of the derivative of the regression function instead.
        level : float
        errors : {"auto", "independent", "cluster", "serial"}
            As in `interval`.

        Returns
        -------
        (m,) or (m, C); the gradient (m, d) or (m, C, d)
            With `interval` an `Interval` of these.  Its `estimate` is corrected for bias: the derivative of a fit with the
            same bandwidth and a higher degree, 3 for the slope of a local line.

        Raises
        ------
        ArgumentError
            If the order is higher than the degree; with degree 0, where the estimate jumps (one-sided, uniform kernel) or
            the bandwidth changes with the query; if errors are unknown, or do not apply to this fit.

        References
        ----------
        Calonico, Cattaneo and Farrell (2018), JASA 113 (the intervals).

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> x = np.linspace(0.0, 1.0, 101)[:, None]
        >>> model = LocalLinear(0.3).fit(x, x[:, 0] ** 2 + 0.1 * (-1.0) ** np.arange(101))
        >>> slope = model.derivative([[0.5]], interval=True)
        >>> bool(slope.low[0] < 1.0 < slope.high[0]), slope.covers
        (True, 'regression function')
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

        def shaped(values: list[FloatArray]) -> Any:
            own = [self._shaped(value) for value in values]
            return restore(np.stack(own, axis=-1) if several else own[0])

        if interval:
            smoother = self._at_design_points()
            results = [_intervals.derivative(smoother, at, level, one, errors) for one in orders]
            undefined = np.isnan(np.hstack([result.low for result in results])).any(axis=1)
            _warn_undefined(np.asarray(~undefined), WHY_NO_INTERVAL)
            estimate, low, high = (shaped([result[:3][part] for result in results]) for part in range(3))
            return Interval(estimate, low, high, results[0].covers)
        values = [self._smoother.estimate(at, one).value for one in orders]
        self._report(np.asarray(~np.isnan(values[0]).any(axis=1)), at)
        return shaped(values)

    def average_derivative(
        self, X: Any = None, column: Any = None, groups: Any = None, *, level: float = 0.95, errors: str = "auto"
    ) -> Interval:
        """The mean slope in one continuous column, over the queries, with its confidence interval.

        The mean of first derivatives of the fit of a higher degree, as in `derivative` with an interval.  It **covers** the
        mean derivative of the regression function at these queries: they count as given, not as a sample.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor, optional
            Queries; default: the rows of the fit with positive weight, each as often as it was repeated.
        column : int or str, optional
            Number or name of a continuous column; needed if there are several.
        groups : (m,) array-like, optional
        level : float
        errors : {"auto", "independent", "cluster", "serial"}
            As in `interval`.

        Returns
        -------
        Interval
            `estimate`, `low` and `high` are numbers, or (C,).  Queries without an estimate are left out, with a warning.

        Raises
        ------
        ArgumentError
            If the column is unknown or categorical; as in `derivative`.

        References
        ----------
        Stoker (1986), Consistent estimation of scaled coefficients, Econometrica 54; Li, Lu and Ullah (2003), Multivariate
        local polynomial regression for estimating average derivatives, Journal of Nonparametric Statistics 15.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> x = np.linspace(0.0, 1.0, 101)[:, None]
        >>> model = LocalLinear(0.3).fit(x, x[:, 0] ** 2 + 0.1 * (-1.0) ** np.arange(101))
        >>> slope = model.average_derivative()
        >>> bool(slope.low < 1.0 < slope.high)
        True
        """
        if X is None:
            self._queries_in_memory()
            if groups is not None:
                raise ArgumentError("groups= names the groups of queries: give X as well")
            at, restore = self._at_design_points().points, back(self._like)
        else:
            at, restore = self._queries(X, groups)
        order = tuple(int(i == self._continuous(column)) for i in range(at.x.shape[1]))
        self._checked_order(order, at.x.shape[1])
        result, defined = _intervals.average_derivative(self._at_design_points(), at, level, order, errors)
        if not defined.all():
            left = int((~defined).sum())
            warn(
                f"{left} of {len(defined)} queries have no derivative and are left out of the mean, the first in row "
                f"{int(defined.argmin())}: too few points in the {self._window()}",
                EmptyWindowWarning,
            )
        if defined.any():
            _warn_undefined(np.asarray(~np.isnan(result.low).any(axis=1)), WHY_NO_INTERVAL)
        estimate, low, high = (restore(self._shaped(part)[0]) for part in result[:3])
        return Interval(estimate, low, high, result.covers)

    def contrast(
        self,
        A: Any,
        B: Any,
        groups: Any = None,
        *,
        level: float = 0.95,
        errors: str = "auto",
    ) -> Interval:
        """Differences ``m(A_i) - m(B_i)`` of the regression function between pairs of queries, with confidence intervals.

        Between two places, or two levels of a categorical column at the same place.  Both values are those of the fit of a
        higher degree, as in `interval`; their correlation is allowed for.  Each interval **covers** the difference of the
        regression function for its own pair.

        Parameters
        ----------
        A, B : (m, d) arrays, data frames or tensors
            Pairs of queries, row by row; one of them may have a single row, which is paired with each of the other.
        groups : pair of (m,) array-likes, optional
            Groups of A and of B, if the fit had groups.
        level : float
        errors : {"auto", "independent", "cluster", "serial"}
            As in `interval`.

        Returns
        -------
        Interval
            `estimate`, `low` and `high`, each like the result of `predict`; NaN, with a warning, without an estimate,
            or where the interval would be 100 times as wide as the range of the responses.

        Raises
        ------
        ArgumentError
            If A and B have different numbers of rows, a level or the errors are unknown.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> x = np.linspace(0.0, 1.0, 101)[:, None]
        >>> model = LocalLinear(0.3).fit(x, x[:, 0] ** 2 + 0.1 * (-1.0) ** np.arange(101))
        >>> rise = model.contrast([[1.0]], [[0.0]])
        >>> bool(rise.low[0] < 1.0 < rise.high[0])
        True
        """
        if groups is not None and (not isinstance(groups, (tuple, list)) or len(groups) != 2):
            raise ArgumentTypeError(f"groups must be a pair, the groups of A and those of B, got {groups!r:.80}")
        of_a, of_b = (None, None) if groups is None else groups
        (at, restore), (other, _) = self._queries(A, of_a), self._queries(B, of_b)
        sizes = len(at.x), len(other.x)
        if sizes[0] != sizes[1] and 1 not in sizes:
            raise ArgumentError(
                f"A and B must have as many rows, or one of them a single one, got {sizes[0]} and {sizes[1]}"
            )
        pairs = max(sizes) if min(sizes) else 0
        at, other = (one if len(one.x) == pairs else one.take(np.zeros(pairs, np.int64)) for one in (at, other))
        return self._restored(_intervals.contrast(self._at_design_points(), at, other, level, errors), restore)

    @overload
    def hat_matrix(self, X: Table, groups: Any = None) -> AnyArray: ...

    @overload
    def hat_matrix(self, X: Tensor, groups: Any = None) -> Tensor: ...

    def hat_matrix(self, X: Any, groups: Any = None) -> Any:
        """Hat matrix S at the queries: ``predict(X) = S @ y``; 0 for rows that were left out.  # (m, n)

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> x = np.linspace(0.0, 1.0, 30)
        >>> model = LocalLinear(0.2).fit(x, x**2)
        >>> rows = model.hat_matrix([0.1, 0.5])
        >>> rows.shape, np.allclose(rows @ x**2, model.predict([0.1, 0.5]))
        ((2, 30), True)
        """
        if there := self._device_fit():
            at, restore = self._device_queries(X, groups)
            every = there.hat(at)
            return restore(every.new_zeros((len(every), self._given)).index_copy_(1, self._kept, every))
        at, restore = self._queries(X, groups)
        rows = self._filled().hat(at)
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
        repeated row only one repetition is left out.  With robust steps it is approximate: the fit of the pseudovalues.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> x = np.linspace(0.0, 1.0, 30)
        >>> y = np.sin(6 * x)
        >>> refit = LocalLinear(0.2).fit(np.delete(x, 7), np.delete(y, 7)).predict(x[[7]])
        >>> bool(np.isclose(LocalLinear(0.2).fit(x, y).loo_predict()[7], refit[0]))
        True
        """
        check_is_fitted(self)
        if there := self._device_fit():
            every = there.left_out()
            every = every.new_full((self._given, every.shape[1]), np.nan).index_copy_(0, self._kept, every)
            return back(self._like)(self._shaped(every))
        out = np.full((self._given, self._smoother.y.shape[1]), np.nan)
        out[self._rows] = self._fit_quality().loo
        return back(self._like)(self._shaped(out))

    @overload
    def interval(
        self, X: Table, level: float = 0.95, method: str = "auto", groups: Any = None, *, errors: str = "auto"
    ) -> Interval[AnyArray]: ...

    @overload
    def interval(
        self, X: Tensor, level: float = 0.95, method: str = "auto", groups: Any = None, *, errors: str = "auto"
    ) -> Interval[Tensor]: ...

    def interval(
        self, X: Any, level: float = 0.95, method: str = "auto", groups: Any = None, *, errors: str = "auto"
    ) -> Interval:
        """Pointwise confidence intervals.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        level : float
        method : {"auto", "normal", "robust", "wilson", "jeffreys", "uniform"}
            See `kernadv.regression.inference.interval`.  "auto" uses limits for proportions where a response takes only two
            values, whatever these are.  Bias from other levels of categorical columns is not corrected.
        groups : (m,) array-like, optional
        errors : {"auto", "independent", "cluster", "serial"}
            How the errors of the responses are correlated: not at all; within the `clusters` of `fit`; or along the first
            column, fading with distance (within each group, if there are groups).  "auto" is "cluster" if `fit` had
            clusters, else "independent".  With "cluster" and "serial" the methods are "auto" and "robust", which are the
            same, and "normal", which leaves out the bias correction; both have quantiles of Student's t.  See
            `kernadv.regression.inference.functionals`.

        Returns
        -------
        Interval
            `estimate`, `low` and `high`, each like the result of `predict`, and what the intervals cover.  NaN, with a
            warning, where the responses in the window are not enough.

        Raises
        ------
        ArgumentError
            If the method is unknown, or does not apply to this degree or these responses.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> rng = np.random.default_rng(0)
        >>> x = rng.random(200)
        >>> model = LocalLinear().fit(x, np.sin(6 * x) + 0.3 * rng.normal(size=200))
        >>> inside = model.interval([0.25, 0.5, 0.75])
        >>> (inside.low < np.sin([1.5, 3.0, 4.5])) & (np.sin([1.5, 3.0, 4.5]) < inside.high)
        array([ True,  True,  True])
        """
        return self._region(_intervals.interval, X, groups, level, method, errors)

    @overload
    def band(
        self,
        X: Table,
        level: float = 0.95,
        method: str = "sup_t",
        groups: Any = None,
        *,
        bias_corrected: bool = True,
        errors: str = "auto",
    ) -> Interval[AnyArray]: ...

    @overload
    def band(
        self,
        X: Tensor,
        level: float = 0.95,
        method: str = "sup_t",
        groups: Any = None,
        *,
        bias_corrected: bool = True,
        errors: str = "auto",
    ) -> Interval[Tensor]: ...

    def band(
        self,
        X: Any,
        level: float = 0.95,
        method: str = "sup_t",
        groups: Any = None,
        *,
        bias_corrected: bool = True,
        errors: str = "auto",
    ) -> Interval:
        """Confidence bands: they cover at all queries simultaneously.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        level : float
        method : {"sup_t", "tube"}
            Bootstrap of the largest t, or the tube formula, which is for one continuous column and one bandwidth; see
            `multiplier_bootstrap` and `tube` of `kernadv.regression.inference`, and `band` there for columns of two values.
            With up to 200 rows, without groups, robust steps and dependent errors, "sup_t" allows for a bandwidth that a
            criterion has chosen for the one column: draws choose theirs.
        groups : (m,) array-like, optional
            One band covers all queries; groups without a query do not matter.
        bias_corrected : bool
            Cover the regression function, as `interval` does, with a band around a fit of a higher degree; False: cover the
            smoothed target, with a band around the estimate.
        errors : {"auto", "independent", "cluster", "serial"}
            As in `interval`.  The draws are residuals with a random sign for each cluster, or noise of the autoregression.

        Returns
        -------
        Interval
            `estimate`, `low` and `high`, each like the result of `predict`, and what the band covers.

        Raises
        ------
        ArgumentError
            If the method is unknown, or the tube formula does not hold.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> rng = np.random.default_rng(0)
        >>> x, grid = rng.random(200), np.linspace(0.05, 0.95, 19)
        >>> model = LocalLinear().fit(x, np.sin(6 * x) + 0.3 * rng.normal(size=200))
        >>> everywhere, each = model.band(grid), model.interval(grid)
        >>> bool((everywhere.high - everywhere.low > each.high - each.low).all())
        True
        """
        return self._region(_intervals.band, X, groups, level, method, bias_corrected, errors, self._choice())

    @overload
    def prediction_interval(
        self, X: Table, level: float = 0.95, method: str = "local", groups: Any = None
    ) -> Interval[AnyArray]: ...

    @overload
    def prediction_interval(
        self, X: Tensor, level: float = 0.95, method: str = "local", groups: Any = None
    ) -> Interval[Tensor]: ...

    def prediction_interval(self, X: Any, level: float = 0.95, method: str = "local", groups: Any = None) -> Interval:
        """Intervals for one new response at each query: the jackknife, with errors in units of a local scale.

        They are ``predict(X) -+ q s(X)``, where s is the local mean of the errors ``|y - loo_predict()|`` and q a quantile
        of the errors over s, each from the other rows; no refits.  The level holds on average over queries like the rows,
        for independent rows and errors of any law, approximately: the fit should hardly depend on any single row.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        level : float
            Needs ``level / (1 - level)`` rows, 19 for 0.95.
        method : {"local", "constant"}
            Width that follows the size of the errors along x, or one width for all queries.
        groups : (m,) array-like, optional

        Returns
        -------
        Interval
            `estimate`, `low` and `high`, each like the result of `predict`.  A response of another weight than the mean one
            is not foreseen.

        Raises
        ------
        ArgumentError
            If the method is unknown, or there are too few rows for the level.

        References
        ----------
        Lei, G'Sell, Rinaldo, Tibshirani and Wasserman (2018), Distribution-free predictive inference for regression, JASA
        113.
        Barber, Candes, Ramdas and Tibshirani (2021), Predictive inference with the jackknife+, Annals of Statistics 49.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> rng = np.random.default_rng(0)
        >>> x = rng.random(300)
        >>> model = LocalLinear().fit(x, np.sin(6 * x) + 0.3 * rng.normal(size=300))
        >>> new = rng.random(1000)
        >>> found = model.prediction_interval(new)
        >>> y = np.sin(6 * new) + 0.3 * rng.normal(size=1000)
        >>> bool(0.92 < ((found.low < y) & (y < found.high)).mean() < 0.98)
        True
        """
        return self._region(partial(prediction_interval, self._smoother), X, groups, level, method)

    def as_fit(self) -> LinearSmoother:
        """The fit for the functions of `kernadv.regression.inference`, e.g. ``standard_error(model.as_fit(), X, "hac")``.

        Raises
        ------
        ArgumentError
            With groups, categorical columns or bandwidths that change with the query: these functions do not support them,
            `interval` and `band` do.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> from kernadv.regression.inference import standard_error
        >>> x = np.linspace(0.0, 1.0, 60)
        >>> model = LocalLinear(0.3).fit(x, np.sin(6 * x) + 0.1 * np.cos(1000 * x))
        >>> standard_error(model.as_fit(), np.array([[0.5]]), "hac").shape
        (1, 1)
        """
        check_is_fitted(self)
        if self._device_fit():
            raise self._only_in_memory("inference")
        fit = self._at_design_points()
        check_one_curve(fit)
        return fit

    def summary(self) -> str:
        """Table of the fit: the bandwidth and how it was chosen, degrees of freedom, errors.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> x = np.linspace(0.0, 1.0, 60)
        >>> print(LocalLinear(0.25).fit(x, np.sin(6 * x)).summary())
                                         LocalLinear
        ==============================================================================
        No. observations:                   60  Edf (tr S):                       4.52
        Dimensions:                          1  Residual std. error:            0.1416
        Kernel:                   epanechnikov  R-squared:                      0.9643
        Degree:                              1  LOO RMSE:                       0.1435
        ------------------------------------------------------------------------------
        Bandwidth 0.25
        ==============================================================================
        """
        check_is_fitted(self)
        if self._device_fit():
            raise self._only_in_memory("the table of a fit")
        return summary(self, self._linear, self._fit_quality(), self._window())

    def plot(self, ax: Any = None, level: float = 0.95) -> Any:
        """Plot the data and the fit: over one column with its pointwise interval and its band, over two as shades.

        Labels are the names of the columns and of the response, in a data frame or a Series.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; default: a new figure.
        level : float

        Returns
        -------
        matplotlib Axes

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLinear
        >>> x = np.linspace(0.0, 1.0, 60)
        >>> ax = LocalLinear(0.2).fit(x, np.sin(6 * x) + 0.1 * np.cos(1000 * x)).plot()
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['data', '95% band', '95% interval', 'LocalLinear']
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
        X = query_columns(X, self.n_features_in_)
        if is_tensor(X):
            return there.read(X, groups), back(X if X.is_floating_point() else self._like)
        x = validate_data(self, X, reset=False, dtype=np.float64 if groups is None else None)
        return there.read(x, groups), back(X if hasattr(X, "dtype") else x)

    def _queries_in_memory(self) -> None:
        """Raise if the fit is on a device."""
        if self._device_fit():
            raise self._only_in_memory("what is not an estimate of the regression function")

    def _continuous(self, column: Any) -> int:
        """Place of a column, by number or name, among the continuous ones; raises if it is none of them."""
        categorical = [category.column for category in self.categories_]
        rest = [i for i in range(self.n_features_in_) if i not in categorical]
        names = list(getattr(self, "feature_names_in_", []))
        if column is None and len(rest) == 1:
            return 0
        known = [*rest, *(names[i] for i in rest if names)]
        if isinstance(column, bool) or column not in known:
            raise ArgumentError(f"column must be one of the continuous columns {known}, got {column!r}")
        return rest.index(names.index(column) if isinstance(column, str) else column)

    def _queries(self, X: Any, groups: Any) -> tuple[Points, Any]:
        """The checked queries, and a function that turns results into their type."""
        self._queries_in_memory()
        self._check_groups(groups)
        kind, X, absent = X, query_columns(to_numpy(X, "X"), self.n_features_in_), None
        if self._drops:
            groups = to_numpy(groups, "groups")
            absent = missing_rows(X) if groups is None else missing_rows(X) | missing_rows(groups)
            if absent.any() and not absent.all():  # a complete query stands in: it changes no other result
                rows = np.where(absent, absent.argmin(), np.arange(len(absent)))
                X, groups = take_rows(X, rows), take_rows(groups, rows)
        if absent is not None and len(absent) and absent.all():
            validate_data(self, X, reset=False, skip_check_array=True)
            at = self._smoother.points.take(np.zeros(len(absent), np.int64))
        else:
            X, times = without_times(X)
            check_times(times, self.times_)
            x = validate_data(self, X, reset=False, dtype=None if self.categories_ else np.float64)
            series = None if self.groups_ is None else find_groups(read_names(groups, x), self.groups_)
            kind, at = kind if hasattr(kind, "dtype") else x, read_points(x, self.categories_, series)
        restore = back(kind)
        if absent is None or not absent.any():
            return self._located(at), restore

        def restored(result: FloatArray) -> Any:
            result = result.copy()
            result[absent] = np.nan
            return restore(result)

        return self._located(at), restored

    @property
    def _drops(self) -> bool:
        return check_choice(self.missing, "missing", MISSING) == "drop"

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
            self._quality = quality(self._filled(everywhere=True))
        return self._quality

    def _filled(self, everywhere: bool = False) -> LinearSmoother:
        """The smoother with what stands in for estimates that do not exist; `everywhere`: as `_at_design_points`.

        Derivatives, intervals and bands do without: they are those of `_smoother`.
        """
        empty, fall_back = self._instead
        fit = self._linear if everywhere else self._smoother
        if everywhere or empty == "nearest":
            fit = self._at_design_points(fit)
        return fit.filled("nan" if empty == "raise" else empty, fall_back)

    def _at_design_points(self, fit: LinearSmoother | None = None) -> LinearSmoother:
        """The smoother, with a bandwidth for each design point if it changes with the query; default: that of the errors."""
        fit = self._linear if fit is None else fit
        own = None if fit.bandwidth.ndim == 2 else self._bandwidth_at(fit.points)
        return fit if own is None else fit.with_bandwidth(own)

    def _for_tests(self) -> LinearSmoother:
        """The smoother of the tests of `kernadv.regression.inference`, of any kind."""
        if self._device_fit():
            raise self._only_in_memory("a test")
        return self._at_design_points()

    def _shaped(self, result: FloatArray) -> FloatArray:
        """(m,) where y was (n,)."""
        return result[:, 0] if self._one_response else result

    def _region(self, what: Any, X: Any, groups: Any, *options: Any) -> Interval:
        """An interval or a band in the shape and type of `predict`; warns about queries without one."""
        at, restore = self._queries(X, groups)
        return self._restored(what(self._at_design_points(), at, *options), restore)

    def _restored(self, result: Interval, restore: Any) -> Interval:
        """The same with a result that is there."""
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
        absent = int((~defined).sum())
        if absent and self._instead[0] == "raise":
            raise ArgumentError(f"{absent} of {len(defined)} queries have no estimate: {why}")
        _warn_undefined(defined, why)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = not self.robust_steps
        tags.input_tags.allow_nan = self.missing == "drop"
        tags.input_tags.string = tags.input_tags.categorical = self._mixed
        tags.regressor_tags.poor_score = coefficients(JUDGED_COLUMNS, int(self.degree)) > self._usual_points
        return tags


def _warn_undefined(defined: BoolArray, why: str) -> None:
    """Warn once if some queries have no estimate, with the reason and what to do."""
    missing = np.flatnonzero(~defined)
    if len(missing):
        warn(
            f"{len(missing)} of {len(defined)} queries have no estimate (NaN), the first in row {missing[0]}: {why}",
            EmptyWindowWarning,
        )
