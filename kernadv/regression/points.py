"""Where a smoother is asked: design points or queries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv._typing import BoolArray, FloatArray, IntArray


class Points(NamedTuple):
    """Design points or queries.

    Attributes
    ----------
    x : (m, d) float64
        Continuous columns.
    levels : (m, c) int64
        Categorical columns, as ranks of their levels.
    series : (m,) int64, or None
        Series (group) of each point, -1 where it was not seen in fitting; None without groups.
    bandwidth : (m, 1) float64, or None
        That of each point, where it changes from query to query; None where all have the one of the smoother.
    """

    x: FloatArray
    levels: IntArray
    series: IntArray | None
    bandwidth: FloatArray | None = None

    @property
    def known(self) -> BoolArray:
        """Whether the series was seen in fitting.  # (m,)"""
        return np.ones(len(self.x), np.bool_) if self.series is None else np.asarray(self.series >= 0)

    def take(self, rows: IntArray | slice | BoolArray) -> Points:
        """Some of the points."""
        x = self.x[rows]
        levels = self.levels[rows] if self.levels.shape[1] else np.empty((len(x), 0), np.int64)
        series = None if self.series is None else self.series[rows]
        bandwidth = None if self.bandwidth is None else self.bandwidth[rows]
        return Points(x, levels, series, bandwidth)
