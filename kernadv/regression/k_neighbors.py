"""Local polynomials whose bandwidth is the distance to the k-th neighbour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kernadv import kernels
from kernadv._errors import ArgumentError, check_choice, check_count, check_positive
from kernadv._typing import FloatArray
from kernadv.regression._base import HIGHEST_DEGREE, IN_MEMORY, JUDGED_ROWS, KernelRegressor
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.neighbours import EUCLIDEAN, InverseDistance, checked_metric, neighbour_distance
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother

TIES = ("count", "distinct")


class KNeighborsSmoother(KernelRegressor):
    """Local polynomial regression with the bandwidth ``scale * (distance to the k-th nearest point)`` at each query.

    Parameters
    ----------
    k : int or float
        Number of neighbours, or their share of the sample (of the smallest group), 0 < k < 1, rounded up.  Every row counts
        once, whatever its weight, or as often as its frequency says.
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
    backend : {"auto", "numba", "torch"}
        As in `LocalPolynomial`.

    Attributes
    ----------
    k_ : int
    groups_ : array or None
    n_features_in_ : int
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
        k: int | float = 5,
        *,
        degree: int = 0,
        kernel: Any = "tricube",
        ties: str = "count",
        scale: float = 1.0,
        metric: Any = "euclidean",
        backend: str = "auto",
    ) -> None:
        self.k = k
        self.degree = degree
        self.kernel = kernel
        self.ties = ties
        self.scale = scale
        self.metric = metric
        self.backend = backend

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
        self._distinct, self._factor = self.ties == "distinct", scale
        design = x if series is None else np.column_stack([series, x])
        if self._distinct:
            design = np.unique(design, axis=0)
        sizes = np.array([len(design)]) if series is None else np.bincount(design[:, 0].astype(np.int64))
        self.k_: int = _count(self.k, int(sizes.min()))
        return smoother

    def _with_bandwidth_on_device(self, smoother: Any) -> Any:
        distinct = check_choice(self.ties, "ties", TIES) == "distinct"
        scale = check_positive(self.scale, "scale", "it multiplies the distance to the k-th neighbour")
        if self.metric not in EUCLIDEAN:
            raise ArgumentError(f"on a device metric must be 'euclidean', got {self.metric!r}; {IN_MEMORY}")
        if isinstance(smoother.spec.kernel, InverseDistance):
            raise ArgumentError(f"kernel='inverse_distance' is for data in main memory; {IN_MEMORY}")
        places = smoother.x.unique(dim=1) if distinct else smoother.x
        self.k_ = _count(self.k, places.shape[1])
        return smoother.with_neighbours(places, self.k_, scale)

    def _bandwidth_at(self, at: Points) -> FloatArray:
        fit = self._smoother
        _, x, series = fit.ascending
        distance = neighbour_distance(x, series, at.x, at.series, self.k_, fit.metric, distinct=self._distinct)
        return self._factor * distance[:, None]

    def _window(self) -> str:
        factor = "" if self._factor == 1.0 else f"{self._factor:g} x "
        return f"bandwidth {factor}distance to neighbour {self.k_}"


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
    raise ArgumentError(f"k must be a whole number >= 1, or a share between 0 and 1, got {k!r}")
