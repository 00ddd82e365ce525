"""Local polynomial regressors: Nadaraya-Watson, local linear and beyond."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from kernadv import kernels
from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice, check_count, check_flag, warn
from kernadv.regression._base import HIGHEST_DEGREE, IN_MEMORY, KernelRegressor
from kernadv.regression._design import in_days
from kernadv.regression._told import told_by
from kernadv.regression.bandwidth import CriterionSelector, Selection, Selector, get
from kernadv.regression.bandwidth._mixed import select_mixed
from kernadv.regression.inference import Choice
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother, coefficients
from kernadv.typing import FloatArray

if TYPE_CHECKING:
    from kernadv.regression.operators.series import DeviceSeries
    from kernadv.regression.operators.smoother import DeviceSmoother

SIDES = ("both", "past")
#: A bandwidth is selected from at least this many rows.
FEWEST = 3


class BandwidthWarning(UserWarning):
    """No bandwidth could be selected, or the selected one should not be trusted.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression import BandwidthWarning
    >>> x = np.linspace(0.0, 1.0, 30)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     model = LocalLinear().fit(np.column_stack([x, 2 * x]), x)  # the second column says nothing new
    >>> [warning.category is BandwidthWarning for warning in caught]
    [True]
    """


class LocalPolynomial(KernelRegressor):
    """Local polynomial regression: at each query, a polynomial in ``x - query`` by weighted least squares.

    Parameters
    ----------
    degree : int
        Total degree of the polynomial, 0 (Nadaraya-Watson) to 3.
    bandwidth : float, sequence of d floats, str or Selector
        **Half-width of a compact kernel's support, scale of other kernels**: a number for all columns, one a column (lambda
        for categorical columns), or how `fit` selects it, see `kernadv.regression.bandwidth`.  With categorical columns
        "leave_one_out", "gcv" and "aicc" select all bandwidths together.  Of columns of times: in days, or a timedelta.
    kernel : str or Kernel
        See `kernadv.kernels`.
    radial : bool
        ``K(|u|)`` instead of the product of ``K(u_i)`` over the columns, ``u = (x - query) / bandwidth``.
    side : {"both", "past"}
        "past" uses only points at or before the query in the first continuous column.
    categorical : dict, optional
        Categorical columns (index or name) and their kernel: "ordered" (Wang-van Ryzin), "unordered" (Aitchison-Aitken),
        or "wang_van_ryzin", "li_racine_ordered", "aitchison_aitken", "li_racine".  The order of levels that are text comes
        from a data frame (ordered categories of pandas, polars' Enum) or from here: ``{"size": ("ordered", ["S", "L"])}``.
    robust_steps : int
        Number of refits with Cleveland's bisquare weights, so that responses far from the fit count little or nothing; for
        one response in main memory.  The bandwidth is chosen before them, by a criterion that outliers do move; see the
        notes of `LocalPolynomial`.
    missing : {"raise", "drop"}
        "drop" leaves out rows in which X, y, weights, groups or frequencies are missing (NaN, None, NaT, masked).  They are
        NaN in `loo_predict` and 0 in `hat_matrix`.  Queries with missing values get NaN.
    empty : {"nan", "nearest", "widen", "raise"}
        What becomes of queries without an estimate, since their window is empty or its points do not determine the
        polynomial: NaN and a warning; the estimate at the nearest place that has one; that of the first of the windows 2 h,
        4 h, 8 h, ... that has one, for each query alone; an error that counts them.  See `kernadv.regression.instead`.
    fall_back : bool
        Before that, whether to take a lower degree, the highest one that the points of the window determine.
    backend : {"auto", "numba", "torch"}
        With "auto" tensors on a GPU are smoothed there, at degree 0 or 1, and everything else in main memory (documentation,
        "Regressors on a GPU"); with "numba" everything in main memory; "torch" does with all tensors as with those on a GPU.

    Attributes
    ----------
    bandwidth_ : (d,) float64
        One for each column of X; (n, 1) from a selector of local bandwidths.
    selection_ : Selection or None
        How the bandwidth was selected.
    groups_ : array or None
        Groups seen in fitting.
    categories_ : list of Category
    n_features_in_ : int
    n_missing_ : int
        Rows that were left out because of missing values.
    times_ : dict of int to str
        Columns that held times ("M") or durations ("m").
    response_names_ : list of str
    feature_names_in_ : array of str
        Only if X had names.

    Notes
    -----
    If columns are linear combinations of others, or there are more coefficients than points, the polynomial is not
    determined, but its value may be: estimates exist at queries where all least squares fits agree, and are NaN elsewhere.

    With robust steps the estimate is no longer linear in the responses.  `predict`, `derivative` and `hat_matrix` are those
    of the last fit, given its weights.  Standard errors, `interval`, `band`, `summary`, `loo_predict` and `as_fit` are those
    of the pseudovalues of Cleveland and Grosse (1991), which allow for the weights if errors are independent, symmetric and
    of one variance.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications.
    Cleveland (1979), Robust locally weighted regression and smoothing scatterplots, JASA 74.
    Cleveland and Grosse (1991), Computational methods for local regression, Statistics and Computing 1.
    Racine and Li (2004), Nonparametric estimation of regression functions with both categorical and continuous data,
    Journal of Econometrics 119.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression import LocalPolynomial
    >>> x = np.linspace(0, 1, 21)[:, None]
    >>> fit = LocalPolynomial(degree=2, bandwidth=0.3).fit(x, x[:, 0] ** 2)
    >>> float(fit.predict([[0.5]])[0].round(10)), float(fit.derivative([[0.5]])[0].round(10))
    (0.25, 1.0)
    """

    def __init__(
        self,
        degree: int = 1,
        *,
        bandwidth: Any = "leave_one_out",
        kernel: Any = "epanechnikov",
        radial: bool = False,
        side: str = "both",
        categorical: dict[Any, Any] | None = None,
        robust_steps: int = 0,
        missing: str = "raise",
        empty: str = "nan",
        fall_back: bool = False,
        backend: str = "auto",
    ) -> None:
        self.degree = degree
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.radial = radial
        self.side = side
        self.categorical = categorical
        self.robust_steps = robust_steps
        self.missing = missing
        self.empty = empty
        self.fall_back = fall_back
        self.backend = backend

    def _spec(self) -> LocalPolynomialSpec:
        degree = check_count(self.degree, "degree", 0, HIGHEST_DEGREE)
        past = check_choice(self.side, "side", SIDES) == "past"
        return LocalPolynomialSpec(kernels.get(self.kernel), degree, check_flag(self.radial, "radial"), past)

    def _with_bandwidth(self, smoother: LinearSmoother) -> LinearSmoother:
        given = in_days(self.bandwidth, self.times_, self.n_features_in_)
        smoother, self.selection_ = choose(given, smoother)
        empty, fall_back = self._instead
        if self.selection_ is not None and empty != "widen" and not fall_back:
            _warn_alone(smoother, get(self.bandwidth))
        self._selector = self.bandwidth
        self.bandwidth_ = smoother.bandwidth
        for category, smoothing in zip(self.categories_, smoother.smoothing.tolist(), strict=True):
            self.bandwidth_ = np.insert(self.bandwidth_, category.column, smoothing)
        return smoother

    def _with_bandwidth_on_device(self, smoother: Any) -> Any:
        smoother, self.selection_ = _choose_on_device(self.bandwidth, smoother)
        self.bandwidth_ = smoother.bandwidth
        return smoother

    def _bandwidth_at(self, at: Points) -> FloatArray | None:
        local = self._smoother.bandwidth.ndim == 2
        return get(self._selector).select(self._smoother, at.x).bandwidth if local else None

    def _choice(self) -> Choice | None:
        selector = None if self.selection_ is None else get(self._selector)
        if not isinstance(selector, CriterionSelector) or self._smoother is not self._linear or self.categories_:
            return None
        if type(selector).score is not CriterionSelector.score:  # a criterion of all responses together
            return None
        assert self.selection_ is not None
        grid = self.selection_.grid[np.isfinite(self.selection_.curve)]
        return Choice(self._smoother.spec.degree, lambda drawn: selector.best_each(drawn, grid))

    def _window(self) -> str:
        if self.bandwidth_.ndim == 2:
            h = f"{self.bandwidth_.min():.4g} to {self.bandwidth_.max():.4g}{' days' if self.times_ else ''}"
        else:
            unit = [" days" if j in self.times_ else "" for j in range(len(self.bandwidth_))]
            h = ", ".join(f"{value:.4g}{days}" for value, days in zip(self.bandwidth_, unit, strict=True))
        chosen = "" if self.selection_ is None else f" selected by {self.selection_.criterion}"
        return f"bandwidth {h}{chosen}"


class _FixedDegree(LocalPolynomial):
    """A local polynomial of the degree in its name."""

    def __init__(
        self,
        bandwidth: Any = "leave_one_out",
        *,
        kernel: Any = "epanechnikov",
        radial: bool = False,
        side: str = "both",
        categorical: dict[Any, Any] | None = None,
        robust_steps: int = 0,
        missing: str = "raise",
        empty: str = "nan",
        fall_back: bool = False,
        backend: str = "auto",
    ) -> None:
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.radial = radial
        self.side = side
        self.categorical = categorical
        self.robust_steps = robust_steps
        self.missing = missing
        self.empty = empty
        self.fall_back = fall_back
        self.backend = backend


@told_by(LocalPolynomial)
class NadarayaWatson(_FixedDegree):
    """Nadaraya-Watson regression: the locally weighted mean ``sum w_j y_j / sum w_j``, ``w_j = K((x_j - x) / h)``.

    Parameters
    ----------
    bandwidth, kernel, radial, side, categorical, robust_steps, missing, empty, fall_back, backend
        As in `LocalPolynomial`.

    Attributes
    ----------
    bandwidth_, selection_, groups_, categories_, n_features_in_, n_missing_, times_, response_names_, feature_names_in_
        As in `LocalPolynomial`.

    References
    ----------
    Nadaraya (1964), On estimating regression; Watson (1964), Smooth regression analysis.

    Examples
    --------
    >>> from kernadv.regression import NadarayaWatson
    >>> NadarayaWatson(bandwidth=1.5, kernel="uniform").fit([[0], [1], [2], [3]], [0, 1, 5, 7]).predict([[0], [2]])
    array([0.5       , 4.33333333])
    """

    degree = 0


@told_by(LocalPolynomial)
class LocalLinear(_FixedDegree):
    """Local linear regression: a slope causes no bias, neither inside the data nor at the ends.

    Parameters
    ----------
    bandwidth, kernel, radial, side, categorical, robust_steps, missing, empty, fall_back, backend
        As in `LocalPolynomial`.

    Attributes
    ----------
    bandwidth_, selection_, groups_, categories_, n_features_in_, n_missing_, times_, response_names_, feature_names_in_
        As in `LocalPolynomial`.

    References
    ----------
    Fan (1992), Design-adaptive nonparametric regression, JASA 87.

    Examples
    --------
    >>> from kernadv.regression import LocalLinear
    >>> LocalLinear(bandwidth=2.5).fit([[0], [1], [2], [3]], [1, 3, 5, 7]).predict([[0.0], [3.0]])
    array([1., 7.])
    """

    degree = 1


def choose(bandwidth: Any, smoother: LinearSmoother) -> tuple[LinearSmoother, Selection | None]:
    """The smoother with a bandwidth for each column, given or selected, and how it was selected.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the numbers cannot be bandwidths, the selector's name is unknown, or the data do not determine a bandwidth.
    """
    (n, dimensions), categories = smoother.x.shape, smoother.categories
    if not isinstance(bandwidth, (str, Selector)):
        h = _numbers(bandwidth, dimensions + len(categories), bool(categories))
        categorical = np.zeros(len(h), np.bool_)
        categorical[[category.column for category in categories]] = True
        continuous, smoothing = h[~categorical], h[categorical]
        _check_positive(continuous, bandwidth)
        for category, value in zip(categories, smoothing.tolist(), strict=True):
            if not 0.0 <= value <= category.largest:
                raise ArgumentError(
                    f"the bandwidth (lambda) of categorical column {category.name} must lie between 0 and "
                    f"{category.largest:g}, got {value!r}"
                )
        return smoother.with_bandwidth(continuous, smoothing), None
    selector = get(bandwidth)
    check_rows(bandwidth, n)
    if categories:
        selection = select_mixed(selector, smoother)
        return smoother.with_bandwidth(selection.bandwidth, selection.smoothing), selection
    degree = smoother.spec.degree
    span, needed = np.ptp(smoother.x, axis=0), coefficients(dimensions, degree)
    few = dimensions > 1 and len(np.unique(smoother.x, axis=0)) <= needed
    if span.all() and (smoother.deficient or few):
        warn(
            f"no bandwidth can be selected: the {n} points, or all but one, do not determine the {needed} "
            f"coefficients of degree {degree} in {dimensions} dimensions, or columns are linear combinations of "
            "others; the range of each column is taken. Lower the degree, or leave columns out",
            BandwidthWarning,
        )
        return smoother.with_bandwidth(span), None
    selection = selector.select(smoother)
    return smoother.with_bandwidth(selection.bandwidth), selection


def _warn_alone(smoother: LinearSmoother, selector: Selector) -> None:
    """Warn if no window around a design place holds the places that the polynomial needs.

    Criteria never choose such a bandwidth, rules of thumb may; windows of their own then hold a mean at least.
    """
    spec, x, h = smoother.spec, smoother.x, smoother.bandwidth
    if isinstance(selector, CriterionSelector) or h.ndim == 2 or not np.isfinite(spec.kernel.support):
        return
    columns = [np.unique(column) for column in x.T]
    if len(columns) > 1:
        held = 1 if all((np.diff(places) >= own).all() for places, own in zip(columns, h, strict=True)) else len(x)
    else:
        places, width = columns[0], spec.kernel.support * h[0]
        before = np.searchsorted(places, places - width, "left" if spec.kernel.closed else "right")
        after = np.searchsorted(places, places if spec.past else places + width, "right" if spec.past else "left")
        held = int((after - before).max())
    if held <= spec.degree:
        warn(
            f"the selected bandwidth {h.max():.4g} is no wider than the gaps between the values of X: no window "
            f"around one of them holds the {spec.degree + 1} places that degree {spec.degree} needs: estimates there are "
            "NaN. Give a wider bandwidth, degree 0, fall_back=True or empty='widen', or make the column categorical",
            BandwidthWarning,
        )


def _choose_on_device(
    bandwidth: Any, smoother: DeviceSmoother | DeviceSeries
) -> tuple[DeviceSmoother | DeviceSeries, Selection | None]:
    """The same for data on a device."""
    if not isinstance(bandwidth, (str, Selector)):
        h = _numbers(bandwidth, smoother.dimensions, False)
        _check_positive(h, bandwidth)
        return smoother.with_bandwidth(h), None
    selector = get(bandwidth)
    if not isinstance(selector, CriterionSelector):
        raise ArgumentError(f"bandwidth={bandwidth!r} is selected in main memory; {IN_MEMORY}, or give a number")
    check_rows(bandwidth, smoother.size)
    selection = smoother.select(selector)
    return smoother.with_bandwidth(selection.bandwidth), selection


def _check_positive(h: FloatArray, bandwidth: Any) -> None:
    if not (h > 0).all() or not np.isfinite(h).all():
        raise ArgumentError(
            f"bandwidth must be positive and finite, got {bandwidth!r}; it is the half-width of a compact kernel's "
            "support and the scale of the others"
        )


def check_rows(bandwidth: Any, n: int) -> None:
    if n < FEWEST:
        raise ArgumentError(
            f"bandwidth={bandwidth!r} needs at least {FEWEST} rows of positive weight, got n_samples={n}; "
            "give a number instead"
        )


def _numbers(bandwidth: Any, columns: int, mixed: bool) -> FloatArray:
    """One number a column."""
    given = bandwidth
    if isinstance(bandwidth, Real) and not isinstance(bandwidth, bool):
        if mixed:
            raise ArgumentError(
                f"with categorical columns give one bandwidth a column ({columns}), got the number {bandwidth!r}"
            )
        given = [bandwidth] * columns
    try:
        h = np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        h = np.empty((0, 0))
    if h.ndim != 1 or isinstance(bandwidth, bool):
        raise ArgumentTypeError(
            f"bandwidth must be a number, one number a column, a selector's name or a Selector, got {bandwidth!r:.80}"
        )
    if len(h) != columns:
        raise ArgumentError(f"bandwidth must have one number a column, {columns}, got {len(h)}: {bandwidth!r}")
    return h
