"""What is smoothed: design points with their categorical columns and series, responses and weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv._arrays import row_order
from kernadv._typing import BoolArray, FloatArray, IntArray


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
        All positive, the largest one 1: the variances of the responses are in inverse proportion.
    """

    points: Points
    y: FloatArray
    weights: FloatArray

    def order(self) -> IntArray:
        """Rows by series, x, levels, y and weight: what is drawn or searched so does not depend on how they came.  # (n,)"""
        x, levels, series = self.points
        return row_order(np.zeros(len(x)) if series is None else series, x, levels, self.y, self.weights)

    def take(self, rows: IntArray) -> Sample:
        """Some of the rows."""
        return Sample(self.points.take(rows), self.y[rows], self.weights[rows])
