"""The number of neighbours by leave-one-out: bandwidths that follow the density of the design."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from kernadv._errors import ArgumentError, check_count, check_range
from kernadv.regression._threads import in_parallel
from kernadv.regression._told import told_by
from kernadv.regression.bandwidth._base import Selection
from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._ordered import Ordered
from kernadv.regression.bandwidth._search import lowest
from kernadv.regression.bandwidth.criteria import left_out
from kernadv.regression.local.moments import exponents
from kernadv.regression.neighbours import neighbour_distance
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import BoolArray, FloatArray


@told_by(CriterionSelector)
@dataclass(frozen=True)
class KNeighbors(CriterionSelector):
    """Minimises the leave-one-out error over k, the bandwidth at x being the distance to its k-th nearest point.

    A point that is left out is predicted from the k nearest of the others, in closed form.  The distance is Euclidean for
    radial kernels and the largest coordinate difference for products.  Where k points or more lie at x it is 0, and their
    mean is the estimate.  Kernels that are 0 at their edge give the k-th point no weight.  The grid holds values of k; the
    bandwidths (m, 1) are those of the best k at the queries, by default the design points.  Costs O(n k) per value of k,
    in several dimensions O(n^2).

    Parameters
    ----------
    size : int
        Most values of k in the first search; it is then refined to the last neighbour.
    most : int, optional
        Largest k; default: half of the points of the largest series, but at least 50.
    precision : float
        Share of k to which the search goes on; 0: to the last neighbour.
    undefined
        As in `CriterionSelector`.
    bounds : None
        Not taken: give `most`.

    References
    ----------
    Stone (1977), Consistent nonparametric regression, Annals of Statistics 5.
    Li (1984), Consistency for cross-validated nearest neighbor estimates in nonparametric regression, Annals of
    Statistics 12.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.bandwidth import KNeighbors
    >>> x = np.linspace(0.0, 1.0, 60) ** 2  # dense at 0, sparse at 1
    >>> fit = LocalLinear(0.2).fit(x, np.sin(6 * x) + 0.1 * np.cos(1000 * x)).as_fit()
    >>> chosen = KNeighbors().select(fit)
    >>> bool(chosen.bandwidth[0, 0] < chosen.bandwidth[-1, 0])  # wide where the points are sparse
    True
    >>> sample = KNeighbors().prepare(fit)
    >>> KNeighbors().search(sample, KNeighbors().grid(sample)).criterion
    'leave-one-out CV of k neighbours'
    """

    most: int | None = None
    precision: float = 0.0

    name = "k_neighbors"
    criterion: ClassVar[str] = "leave-one-out CV of k neighbours"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bounds is not None:
            raise ArgumentError(f"k_neighbors takes no bounds but most, the largest k, got bounds={self.bounds!r}")
        check_range(self.precision, "precision", 0.0)
        if self.most is not None:
            check_count(self.most, "most")

    def grid(self, sample: Ordered) -> FloatArray:
        """Values of k of the first search.  # (H, 1)"""
        kernel = sample.spec.kernel
        least = max(len(exponents(sample.x.shape[1], sample.spec.degree)), 2)  # 1: a point alone is its own estimate
        if np.isfinite(kernel.support) and not kernel.closed:
            least += 1
        others = int(np.bincount(sample.label).max()) - 1
        most = min(others, max(others // 2, 50) if self.most is None else self.most)
        return np.unique(np.rint(np.geomspace(min(least, most), most, self.size)))[:, None]

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Leave-one-out errors with ``bandwidth[0]`` neighbours."""
        width = _distance(sample, sample.x, int(bandwidth[0]) + 1)  # the point itself is the first
        return left_out(super().errors(sample, width[:, None]))

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """Bandwidths (m, 1) of the best k; see `Selector.select`.

        Raises
        ------
        ArgumentError
            If there are several series and queries, or rows of weight 0: these belong to no series.
        """
        sample, x = self.prepare(smoother), smoother.x
        inside = at is None and len(sample.x) == len(x)
        if sample.n_series > 1 and not inside:
            raise ArgumentError("k_neighbors over series is for the design points: leave out `at` and rows of weight 0")
        found = self.search(sample, self.grid(sample))
        k = int(found.bandwidth[0])
        given = x[sample.row]  # no distance is rounded twice
        if inside:
            width = np.empty(len(x))
            width[sample.row] = _distance(sample, given, k)
        else:
            width = _distance(sample, given, k, x if at is None else at)
        return replace(found, bandwidth=width[:, None])

    def search(self, sample: Ordered, grid: FloatArray) -> Selection:
        """The best k, as `Selection.bandwidth` (1,), from a first search over a grid (H, 1)."""
        if not sample.variance.any():
            curve, flat = np.zeros(len(grid)), True
        else:
            curve, scored = self.curve(sample, grid)
            if not np.isfinite(curve).any():
                raise ArgumentError("no number of neighbours leaves every point an estimate; raise `most`")
            flat = self.flat(curve[np.isfinite(curve)], sample)
            grid, curve = self._refine(sample, grid, curve, scored)
        best = lowest(curve)
        edge = best in (int(np.argmax(np.isfinite(curve))), len(grid) - 1)
        return Selection(grid[best], grid, curve, self.criterion, edge, flat, float(curve[best]))

    def _refine(
        self, sample: Ordered, grid: FloatArray, curve: FloatArray, scored: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Enter more values of k around the best one, until its neighbours have been tried."""
        while True:
            best = lowest(curve)
            k = grid[:, 0]
            inside = np.rint(np.linspace(k[max(best - 1, 0)], k[min(best + 1, len(k) - 1)], 9))
            new = np.setdiff1d(inside, k)
            if not len(new) or inside[-1] - inside[0] <= self.precision * k[best]:
                return grid, curve
            values = in_parallel(lambda h: self.at(sample, h, scored), list(new[:, None]))
            order = np.argsort(np.concatenate([k, new]))
            grid, curve = np.concatenate([k, new])[order, None], np.concatenate([curve, values])[order]


def _distance(sample: Ordered, x: FloatArray, k: int, at: FloatArray | None = None) -> FloatArray:
    """Distance to the k-th nearest of the points x, in the order of the sample, of each query; default: of these.  # (m,)"""
    queries, label = (x, sample.label) if at is None else (at, np.zeros(len(at), np.int64))
    return neighbour_distance(x, sample.label, queries, label, k, "euclidean" if sample.spec.radial else "chebyshev")


SELECTORS = (KNeighbors(),)
