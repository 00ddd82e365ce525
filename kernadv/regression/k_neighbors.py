"""Local polynomials whose bandwidth is the distance to the k-th neighbour."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kernadv import kernels
from kernadv._errors import ArgumentError, check_choice, check_count, check_positive
from kernadv.regression._base import HIGHEST_DEGREE, IN_MEMORY, JUDGED_ROWS, KernelRegressor
from kernadv.regression._told import told_by
from kernadv.regression.bandwidth import ALIASES, Selection, plain
from kernadv.regression.bandwidth._criterion import Errors
from kernadv.regression.bandwidth._ordered import FEWEST, Ordered, prepare
from kernadv.regression.bandwidth.criteria import left_out
from kernadv.regression.bandwidth.k_neighbors import KNeighbors
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.local_polynomial import LocalPolynomial
from kernadv.regression.neighbours import (
    EUCLIDEAN,
    InverseDistance,
    checked_metric,
    nearest_in,
    neighbour_distance,
    searchable,
)
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray

TIES = ("count", "distinct")
#: The k that `fit` chooses.
SELECTED = "leave_one_out"
#: Rows that are predicted to choose k, at most.
SCORED = 1000
#: The number is then found to this share of it.
PRECISION = 0.05
#: Numbers of neighbours with this many times the smallest error are not looked at again, nor larger ones.
TOO_WIDE = 1.25


@told_by(LocalPolynomial)
class KNeighborsSmoother(KernelRegressor):
    """Local polynomial regression with the bandwidth ``scale * (distance to the k-th nearest point)`` at each query.

    Parameters
    ----------
    k : int, float or "leave_one_out"
        Number of neighbours, or their share of the sample (of the smallest group), 0 < k < 1, rounded up.  Every row counts
        once, whatever its weight, or as often as its frequency says.  By default `fit` chooses the number that predicts rows
        best from the k nearest of the others, with these settings; in large samples it predicts 1000 rows, evenly spaced in
        the order of x.
    degree : int
        Total degree of the polynomial, 0 to 3.
    kernel : str or Kernel
        See `kernadv.kernels`; radial.  With degree 0 also "inverse_distance", 1 / distance: a point at the query itself then
        takes all the weight.  The estimate interpolates, and there are no `loo_predict` and no intervals.
    ties : {"count", "distinct"}
        Whether k counts points or distinct places.
    scale : float
        Factor of the distance.
    metric : str or callable
        Distance for the choice of neighbours and their weights: "euclidean", or another metric of
        `sklearn.metrics.pairwise_distances`, which does not work with groups.
    robust_steps
        As in `LocalPolynomial`.  With degree 1 and the tricube kernel, 3 steps are those of lowess, and of loess with
        ``family="symmetric"``.
    missing, empty
        As in `LocalPolynomial`.
    fall_back
        As in `LocalPolynomial`.  On by default, since neighbours are often in one place.  On a device it is not done.
    backend
        As in `LocalPolynomial`.

    Attributes
    ----------
    k_ : int
    selection_ : Selection or None
        How k was chosen; its bandwidth and grid are numbers of neighbours.
    groups_ : array or None
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
    **Ties.**  All points as far away as the k-th neighbour count, so the order of the rows does not matter.  Points at the
    same distance have the same weight.  If k points or more (with ``ties="distinct"`` and k = 1: any) lie at the query, the
    distance is 0 and only they count.

    Kernels that are 0 at their edge give the k-th neighbour no weight; the uniform kernel gives it full weight.  With it
    the estimate of degree 0 is that of `sklearn.neighbors.KNeighborsRegressor`, except where more than k points lie within
    the k-th distance: scikit-learn takes k of them, by the order of the rows.

    Where all points with weight lie at the query, the estimate is their mean, whatever the kernel and the degree: every
    polynomial that fits them best has this value there.  Derivatives do not exist there.

    `loo_predict` keeps the bandwidths, so each point has k - 1 other neighbours.

    References
    ----------
    Stone (1977), Consistent nonparametric regression, Annals of Statistics 5.
    Cleveland (1979), Robust locally weighted regression and smoothing scatterplots, JASA 74 (tricube, ties).

    Examples
    --------
    >>> from kernadv.regression import KNeighborsSmoother
    >>> KNeighborsSmoother(k=2, kernel="uniform").fit([[0], [1], [5]], [0, 2, 7]).predict([[0.4], [4.0]])
    array([1. , 4.5])
    """

    def __init__(
        self,
        k: int | float | str = SELECTED,
        *,
        degree: int = 0,
        kernel: Any = "tricube",
        ties: str = "count",
        scale: float = 1.0,
        metric: Any = "euclidean",
        robust_steps: int = 0,
        missing: str = "raise",
        empty: str = "nan",
        fall_back: bool = True,
        backend: str = "auto",
    ) -> None:
        self.k = k
        self.degree = degree
        self.kernel = kernel
        self.ties = ties
        self.scale = scale
        self.metric = metric
        self.robust_steps = robust_steps
        self.missing = missing
        self.empty = empty
        self.fall_back = fall_back
        self.backend = backend

    _falls_back_by_default = True

    @property
    def _usual_points(self) -> int:
        if isinstance(self.k, float) and 0.0 < self.k < 1.0:
            return int(self.k * JUDGED_ROWS)
        return int(self.k) if isinstance(self.k, (int, np.integer)) else JUDGED_ROWS

    def _spec(self) -> LocalPolynomialSpec:
        if not isinstance(self.kernel, str) or self.kernel != InverseDistance().name:
            degree = check_count(self.degree, "degree", 0, HIGHEST_DEGREE)
            return LocalPolynomialSpec(kernels.get(self.kernel), degree, radial=True)
        if self.degree != 0:
            raise ArgumentError(f"kernel='inverse_distance' interpolates: it needs degree=0, got {self.degree!r}")
        return LocalPolynomialSpec(InverseDistance(), 0, radial=True)

    def _with_bandwidth(self, smoother: LinearSmoother) -> LinearSmoother:
        check_choice(self.ties, "ties", TIES)
        scale = check_positive(self.scale, "scale", "it multiplies the distance to the k-th neighbour")
        x, series = smoother.x, smoother.series
        smoother = replace(smoother, metric=checked_metric(self.metric, smoother.points))
        self._distinct, self._factor, self.selection_ = self.ties == "distinct", scale, None
        if _selected(self.k):
            self.selection_ = _choose(smoother.filled("nan", self._instead[1]), self._distinct, scale)
            self.k_: int = int(self.selection_.bandwidth[0])
            return smoother
        design = x if series is None else np.column_stack([series, x])
        if self._distinct:
            design = np.unique(design, axis=0)
        sizes = np.array([len(design)]) if series is None else np.bincount(design[:, 0].astype(np.int64))
        self.k_ = _count(self.k, int(sizes.min()))
        return smoother

    def _with_bandwidth_on_device(self, smoother: Any) -> Any:
        distinct = check_choice(self.ties, "ties", TIES) == "distinct"
        scale = check_positive(self.scale, "scale", "it multiplies the distance to the k-th neighbour")
        if self.metric not in EUCLIDEAN:
            raise ArgumentError(f"on a device metric must be 'euclidean', got {self.metric!r}; {IN_MEMORY}")
        if isinstance(smoother.spec.kernel, InverseDistance):
            raise ArgumentError(f"kernel='inverse_distance' is for data in main memory; {IN_MEMORY}")
        places = smoother.x.unique(dim=1) if distinct else smoother.x
        self.selection_ = None
        if _selected(self.k):
            x, y, weights = (each.double().cpu().numpy() for each in (smoother.x.T, smoother.y, smoother.weights))
            self.selection_ = _choose(LinearSmoother(smoother.spec, x, y, weights), distinct, scale)
            self.k_ = int(self.selection_.bandwidth[0])
        else:
            self.k_ = _count(self.k, places.shape[1])
        return smoother.with_neighbours(places, self.k_, scale)

    def _bandwidth_at(self, at: Points) -> FloatArray:
        fit = self._smoother
        _, x, series = fit.ascending
        distance = neighbour_distance(x, series, at.x, at.series, self.k_, fit.metric, distinct=self._distinct)
        return self._factor * distance[:, None]

    def _located(self, at: Points) -> Points:
        """Queries with their bandwidths; for means of the k nearest in a few columns with the rows of these as well."""
        fit, kernel = self._smoother, self._smoother.spec.kernel
        mean = fit.spec.degree == 0 and kernel.support == 1.0 and not isinstance(kernel, InverseDistance)
        nearest = self._factor == 1.0 and not self._distinct and fit.metric == EUCLIDEAN[0] and fit.series is None
        if not (mean and nearest and searchable(fit.x, self.k_)):
            return super()._located(at)
        distance, near = nearest_in(fit.tree, at.x, self.k_)
        return at._replace(bandwidth=distance[:, None], near=near)

    def _window(self) -> str:
        factor = "" if self._factor == 1.0 else f"{self._factor:g} x "
        chosen = "" if self.selection_ is None else f" selected by {self.selection_.criterion}"
        return f"bandwidth {factor}distance to neighbour {self.k_}{chosen}"


@dataclass(frozen=True)
class _Neighbours(KNeighbors):
    """`KNeighbors` for the settings of a fit, which predicts some of its points.

    Attributes
    ----------
    fit : LinearSmoother
    distinct : bool
    factor : float
    """

    fit: Any = None
    distinct: bool = False
    factor: float = 1.0

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Leave-one-out errors of the points of the sample with ``bandwidth[0]`` neighbours."""
        fit, k = self.fit, int(bandwidth[0])
        at = fit.points.take(sample.row)
        distance = self._distance(at, k + 1)  # the point itself is the first
        if self.distinct:  # others may be in its place, which then stays one of the k
            shared = self._distance(at, 2, distinct=False) == 0.0
            distance = np.where(shared, self._distance(at, k), distance)
        own = fit.estimate(at.with_bandwidth(self.factor * distance[:, None]))
        return left_out(Errors(fit.y[sample.row] - own.value, own.centre * fit.weights[sample.row]))

    def _distance(self, at: Points, k: int, distinct: bool | None = None) -> FloatArray:
        distinct = self.distinct if distinct is None else distinct
        return neighbour_distance(self.fit.x, self.fit.series, at.x, at.series, k, self.fit.metric, distinct=distinct)


def _choose(fit: LinearSmoother, distinct: bool, factor: float) -> Selection:
    """The number of neighbours by leave-one-out.

    Raises
    ------
    ArgumentError
        If there are too few points, x is constant, or no number leaves the points an estimate.
    """
    if len(fit.y) < FEWEST:
        raise ArgumentError(
            f"k={SELECTED!r} needs at least {FEWEST} rows of positive weight, got n_samples={len(fit.y)}; give a number"
        )
    if isinstance(fit.spec.kernel, InverseDistance):
        raise ArgumentError("kernel='inverse_distance' interpolates, so that no number of neighbours is chosen; give k")
    every = prepare(fit)
    selector = _Neighbours(fit=fit, distinct=distinct, factor=factor)
    grid = selector.grid(every)
    if distinct:
        grid = np.unique(np.minimum(grid, max(len(np.unique(np.column_stack([every.label, every.x]), axis=0)) - 1, 1)))
        grid = grid[:, None]
    if len(every.x) <= SCORED:
        return selector.search(every, grid)
    few = _spaced(every, SCORED // 10)  # they show which windows are far too wide, and these take longest
    curve = selector.curve(few, grid)[0]
    wide = np.flatnonzero(curve > TOO_WIDE * curve.min())
    wide = wide[wide > curve.argmin()]
    selector = replace(selector, precision=PRECISION)
    return selector.search(_spaced(every, SCORED), grid[: wide[0]] if len(wide) else grid)


def _spaced(sample: Ordered, size: int) -> Ordered:
    """Some points of an ordered sample, evenly spaced."""
    rows = np.linspace(0, len(sample.x) - 1, size).astype(np.int64)
    return replace(sample.take(rows), row=sample.row[rows])


def _selected(k: Any) -> bool:
    """Whether k is a name of leave-one-out, or of the selector of neighbours."""
    if not isinstance(k, str):
        return False
    name = ALIASES.get(plain(k), plain(k))
    if name not in (SELECTED, KNeighbors.name):
        raise ArgumentError(f"k must be a whole number >= 1, or a share between 0 and 1, or {SELECTED!r}, got {k!r}")
    return True


def _count(k: Any, smallest: int) -> int:
    """Number of neighbours; raises if k is neither a count nor a share, or larger than the smallest group."""
    whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
    if whole and k >= 1:
        if k > smallest:
            raise ArgumentError(
                f"k={k} neighbours are more than the points (n_samples={smallest} in the smallest group, or in all); "
                "lower k, or give a share such as 0.3"
            )
        return int(k)
    if isinstance(k, float) and 0.0 < k < 1.0:
        return int(np.ceil(k * smallest))
    raise ArgumentError(f"k must be a whole number >= 1, or a share between 0 and 1, or {SELECTED!r}, got {k!r}")
