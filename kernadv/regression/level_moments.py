"""Mixed designs by moments: one set for each combination of levels, weighted afterwards, so that lambda can change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kernadv.regression.local.moments import exponents, local_moments
from kernadv.regression.local.solve import Solution, solve_local, squared_rows
from kernadv.regression.series import Points, apart
from kernadv.typing import FloatArray

if TYPE_CHECKING:
    from kernadv.regression.smoother import LinearSmoother

#: Largest number of moments in memory, 400 MB.
KEPT = 50_000_000


def few_levels(smoother: LinearSmoother, at: Points) -> bool:
    """Whether the moments of all combinations of levels fit into memory and are fewer, per query, than the points."""
    combinations = len(np.unique(smoother.levels, axis=0))
    size = len(exponents(smoother.x.shape[1], 2 * smoother.spec.degree))
    moments = combinations * (1 + smoother.y.shape[1]) * size
    return bool(moments <= len(smoother.y) and moments * len(at.x) <= KEPT)


class LevelMoments:
    """Local moments of each combination of levels around each query.

    Parameters
    ----------
    smoother : LinearSmoother
        Its bandwidths are not read.
    at : Points of m queries
    """

    def __init__(self, smoother: LinearSmoother, at: Points) -> None:
        flat = smoother.x.shape[1] == 0  # only categories: all points are in one place
        self.spec = replace(smoother.spec, degree=0) if flat else smoother.spec
        self.smoother = smoother
        self.x = np.zeros((len(smoother.x), 1)) if flat else smoother.x
        self.at = at._replace(x=np.zeros((len(at.x), 1))) if flat else at
        self.levels, own = np.unique(smoother.levels, axis=0, return_inverse=True)
        self.asked, self.code = np.unique(at.levels, axis=0, return_inverse=True)
        self.own = own.ravel() == np.arange(len(self.levels))[:, None]  # (L, n)
        self.known: tuple[bytes | None, FloatArray] = (None, np.empty(0))

    def solve(self, bandwidth: FloatArray, smoothing: FloatArray, row: int = 0) -> Solution:
        """Local systems at one bandwidth (d,) and lambda (c,); see `kernadv.regression.local.solve.solve_local`."""
        if self.known[0] != bandwidth.tobytes():
            weights, y = self.smoother.weights, self.smoother.y
            self.known = bandwidth.tobytes(), self._each(bandwidth, [weights, *(weights * y.T)], squared=False)
        sums = np.einsum("mcle,ml->mce", self.known[1], self._weight(smoothing))
        dimensions, degree = self.x.shape[1], self.spec.degree
        return solve_local(
            np.ascontiguousarray(sums), exponents(dimensions, degree), exponents(dimensions, 2 * degree), row
        )

    def squared_norm(self, bandwidth: FloatArray, smoothing: FloatArray, rows: FloatArray) -> FloatArray:
        """``sum_j l_j^2 / omega_j`` of the hat vectors with these rows of the inverse systems (m, E).  # (m,)"""
        sums = self._each(bandwidth, [self.smoother.weights], squared=True)[:, 0]
        total = np.einsum("mle,ml->me", sums, self._weight(smoothing) ** 2)
        dimensions, degree = self.x.shape[1], self.spec.degree
        return squared_rows(rows, total, exponents(dimensions, degree), exponents(dimensions, 2 * degree))

    def _weight(self, smoothing: FloatArray) -> FloatArray:
        """Product of the kernels of the categorical columns.  # (m, L)"""
        weight = np.ones((len(self.asked), len(self.levels)))
        pairs = zip(self.smoother.categories, self.asked.T, self.levels.T, smoothing.tolist(), strict=True)
        for category, asked, level, value in pairs:
            weight *= category.weight(np.abs(asked[:, None] - level), value)
        return np.asarray(weight[self.code.ravel()])

    def _each(self, bandwidth: FloatArray, columns: list[FloatArray], *, squared: bool) -> FloatArray:
        """Moments of each combination; a first channel for all of them shows where digits are lost.  # (m, C, L, E)"""
        width = bandwidth if len(bandwidth) else np.ones(1)
        channels = np.concatenate([columns[0][None], *(self.own * column for column in columns)])
        order, past, radial = 2 * self.spec.degree, self.spec.past, self.spec.radial
        sums = np.zeros((len(self.at.x), len(channels), len(exponents(self.x.shape[1], order))))
        at, kernel = self.at, self.spec.kernel
        for own, queries, x, q, _ in apart(self.x, self.smoother.series, at.x, at.series, kernel, width):
            sums[queries] = local_moments(
                x, channels[:, own], q, width, kernel, order, radial=radial, past=past, squared=squared
            )
        return np.asarray(sums[:, 1:].reshape(len(sums), len(columns), len(self.levels), -1))
