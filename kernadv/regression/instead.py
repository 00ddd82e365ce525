"""What stands in for an estimate where a window does not determine it: a lower degree, the nearest place, a wider window.

Each is an estimate of the same points at other settings, so it is linear in the responses too.  `LinearSmoother.estimate`
and `LinearSmoother.hat` ask here, so that hat rows, errors and leave-one-out follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kernadv.regression._threads import blocks
from kernadv.regression.neighbours import distances
from kernadv.regression.series import Points
from kernadv.typing import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from kernadv.regression.smoother import LinearSmoother

#: What becomes of queries without an estimate.  For a smoother "raise" is "nan": the regressor raises.
EMPTY = ("nan", "nearest", "widen", "raise")
#: A window that holds all points is doubled this often more: their weights are then nearly the same.
SPARE = 4
#: A window that is wider by this share holds the points at its edge.
EDGE = 1e-9
#: Most doublings.
DOUBLINGS = 64
#: Numbers in the distances of a block of queries.
BLOCK = 4_000_000


def instead(
    smoother: LinearSmoother, at: Points, defined: BoolArray
) -> Iterator[tuple[IntArray, LinearSmoother, Points]]:
    """For queries without an estimate of their own: rows, and the smoother and queries whose estimates stand in for theirs.

    First, with `fall_back`, the highest lower degree that the points of the window determine; where queries have windows of
    their own that hold points at their edge only, the mean of these, since neighbours that are equally far away have equal
    weights.  Then, with `empty`,

    - ``"nearest"``: the estimate at the nearest design place of the query's series that has one, for the query's levels.
      Distances are Euclidean in bandwidths, or in the metric of the neighbours; of places as near, the first in the order
      of x counts.  One-sided fits take places at or before the query.
    - ``"widen"``: the estimate of the narrowest of the windows 2 h, 4 h, 8 h, ... that has one.

    Each has the bandwidth and the fall-back of the place where it is taken.  Queries of unseen series have none, and neither
    have those before all points of a one-sided fit.

    Parameters
    ----------
    smoother : LinearSmoother
    at : Points of m queries
    defined : (m,) bool
        Which have an estimate of their own.
    """
    if not smoother.fills or not len(at.x):
        return
    rest = np.flatnonzero(~defined & smoother.reached(at))
    for other, factor in _settings(smoother, at):
        if not len(rest):
            return
        q = at.take(rest)
        q = q if q.bandwidth is None else q.with_bandwidth(factor * q.bandwidth)
        found = other.estimate(q).defined
        if found.any():
            yield rest[found], other, q.take(found)
            rest = rest[~found]
    if smoother.empty == "nearest":
        yield from _nearest(smoother.filled("nan", smoother.fall_back), at, rest)


def _settings(smoother: LinearSmoother, at: Points) -> Iterator[tuple[LinearSmoother, float]]:
    """Smoothers to try in turn, and factors of the bandwidths of queries that have their own."""
    spec = smoother.spec
    degrees = range(spec.degree, -1 if smoother.fall_back else spec.degree - 1, -1)
    lower = [replace(smoother, spec=replace(spec, degree=d), empty="nan", fall_back=False) for d in degrees]
    for j in range(1 + (_doublings(smoother, at) if smoother.empty == "widen" else 0)):
        for other in lower if j else lower[1:]:
            wide = other if at.bandwidth is not None else other.with_bandwidth(2.0**j * smoother.bandwidth)
            yield wide, 2.0**j
        if not j and smoother.fall_back and at.bandwidth is not None:
            yield lower[-1], 1.0 + EDGE


def _doublings(smoother: LinearSmoother, at: Points) -> int:
    """How often a window is doubled at most: what its points do not determine then, no wider one does."""
    x = smoother.x
    if not x.shape[1] or smoother.metric != "euclidean":
        return DOUBLINGS if x.shape[1] else 0
    h = smoother.bandwidth if at.bandwidth is None else at.bandwidth[at.bandwidth > 0.0]
    span = np.maximum(x.max(0), at.x.max(0)) - np.minimum(x.min(0), at.x.min(0))
    share = float(np.max(span / (h if at.bandwidth is None else h.min(initial=np.inf)), initial=1.0))
    return min(int(np.ceil(np.log2(max(share, 1.0)))) + SPARE, DOUBLINGS)


def _nearest(smoother: LinearSmoother, at: Points, rest: IntArray) -> Iterator[tuple[IntArray, LinearSmoother, Points]]:
    """The nearest place with an estimate, for these queries."""
    every = smoother.points
    series = np.zeros(len(at.x), np.int64) if at.series is None else at.series
    for own in _alike(np.column_stack([series[rest], at.levels[rest]])):
        rows = rest[own]
        there = every if every.series is None else every.take(every.series == series[rows[0]])
        there = there.take(np.unique(there.x, axis=0, return_index=True)[1])
        there = there._replace(levels=np.repeat(at.levels[rows[:1]], len(there.x), axis=0))
        there = there.take(smoother.estimate(there).defined)
        q = at.x[rows]
        if smoother.spec.past:
            early = q[:, 0] >= there.x[:, 0].min(initial=np.inf)
            rows, q = rows[early], q[early]
        if len(there.x) and len(rows):
            yield rows, smoother, there.take(_closest(smoother, there.x, q))


def _alike(keys: IntArray) -> Iterator[IntArray]:
    """Rows that have the same keys."""
    if len(keys):
        kind = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
        order = np.argsort(kind, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)


def _closest(smoother: LinearSmoother, x: FloatArray, q: FloatArray) -> IntArray:
    """Index of the nearest of the places x, in ascending order, to each query; one-sided, of those before it.  # (m,)"""
    past = smoother.spec.past
    if x.shape[1] == 1 and smoother.metric == "euclidean":
        after = np.searchsorted(x[:, 0], q[:, 0], "right")
        left, right = np.maximum(after - 1, 0), np.minimum(after, len(x) - 1)
        nearer = (np.abs(x[right] - q) < np.abs(q - x[left]))[:, 0] & (not past)
        return np.where(nearer, right, left).astype(np.int64)
    scale = smoother.bandwidth if smoother.bandwidth.ndim == 1 else np.ones(x.shape[1])
    out = np.empty(len(q), np.int64)
    for block in blocks(len(q), BLOCK // len(x)):
        apart = distances(q[block] / scale, x / scale, smoother.metric)
        if past:
            apart[x[:, 0] > q[block, :1]] = np.inf
        out[block] = apart.argmin(axis=1)
    return out
