"""The protocol of the bandwidth selectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import nan

from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray


@dataclass(frozen=True)
class Selection:
    """A selected bandwidth, and the curve that it minimises.

    Attributes
    ----------
    bandwidth : (d,) or (m, 1) float64
        One per dimension, or one per query (local selectors).  Finite and positive; `k_neighbors` gives 0 where k points or
        more lie at the query.
    grid : (H, d) float64
        Bandwidths of the first search, ascending; the minimum is then refined between them.  A plug-in has one row;
        `k_neighbors` has numbers of neighbours.
    curve : (H,) float64
        Criterion on the grid, inf where it is undefined; NaN for a plug-in, which minimises nothing.
    criterion : str
        What `curve` is, with its formula's name: "leave-one-out CV", "AICc", ...
    at_edge : bool
        True if the smallest value lies at an end of the grid: the optimum may lie beyond.
    flat : bool
        True if the criterion hardly changes over the grid: the choice then means little.
    value : float
        Criterion at the selected bandwidth; NaN for a plug-in.
    smoothing : (c,) float64, or None
        Lambda of each categorical column; the curve is then the minimum over lambda at each bandwidth.
    """

    bandwidth: FloatArray
    grid: FloatArray
    curve: FloatArray
    criterion: str
    at_edge: bool
    flat: bool
    value: float = nan
    smoothing: FloatArray | None = None


class Selector(ABC):
    """Chooses a bandwidth from the data; objects hold settings only.

    Attributes
    ----------
    name : str
        What `kernadv.regression.bandwidth.get` and the regressors call it.
    """

    name: str

    @abstractmethod
    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """Select a bandwidth.

        Parameters
        ----------
        smoother : LinearSmoother
            Settings and data; its bandwidth is not read.  With series, the criterion is pooled over them.
        at : (m, d), optional
            Queries, for selectors of local bandwidths.

        Raises
        ------
        ArgumentError
            If the data do not determine a bandwidth: fewer than 3 points, constant x, a number of dimensions that the
            selector does not handle, no bandwidth with a finite criterion.
        """
