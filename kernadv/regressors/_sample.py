"""What is smoothed: design points with their categorical columns and series, responses and weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv._typing import BoolArray, FloatArray, IntArray

#: Whole-number weights are spelled out up to this many rows.
ROWS = 10_000_000


class Points(NamedTuple):
    """Design points or queries.

    Attributes
    ----------
    x : (n, d) float64
        Continuous columns.
    levels : (n, c) int64
        Categorical columns, as ranks of their levels.
    series : (n,) int64, or None
        Series (group) of each point, -1 where it was not seen in fitting; None without groups.
    """

    x: FloatArray
    levels: IntArray
    series: IntArray | None

    @property
    def known(self) -> BoolArray:
        """Whether the series was seen in fitting.  # (n,)"""
        return np.ones(len(self.x), np.bool_) if self.series is None else np.asarray(self.series >= 0)

    def take(self, rows: IntArray | slice | BoolArray) -> Points:
        """Some of the points."""
        return Points(self.x[rows], self.levels[rows], None if self.series is None else self.series[rows])


class Sample(NamedTuple):
    """A sample without the rows of weight 0.

    Attributes
    ----------
    points : Points
    y : (n, C) float64
    weights : (n,) float64
        All positive.
    """

    points: Points
    y: FloatArray
    weights: FloatArray

    def spelled_out(self) -> Sample:
        """Rows repeated as often as their weights say, if these are whole numbers; else the sample as it is.

        In scikit-learn a weight of 2 means that the row is there twice; what counts points has to know it.
        """
        times = np.rint(self.weights).astype(np.int64)
        if (self.weights != times).any() or times.max() == 1 or times.sum() > ROWS:
            return self
        rows = np.repeat(np.arange(len(times)), times)
        return Sample(self.points.take(rows), self.y[rows], np.ones(len(rows)))
