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

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> rng = np.random.default_rng(0)
    >>> x = rng.random(200)
    >>> model = LocalLinear("leave_one_out").fit(x, np.sin(6 * x) + 0.3 * rng.normal(size=200))
    >>> chosen = model.selection_
    >>> chosen.criterion, chosen.at_edge, chosen.flat
    ('leave-one-out CV', False, False)
    >>> len(chosen.grid), bool(chosen.value <= chosen.curve.min())
    (32, True)
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

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.bandwidth import Selection, Selector
    >>> class TenthOfTheRange(Selector):
    ...     name = "tenth"
    ...     def select(self, smoother, at=None):
    ...         h = np.ptp(smoother.x, axis=0) / 10
    ...         return Selection(h, h[None], np.full(1, np.nan), "a tenth of the range", False, False)
    >>> x = np.linspace(0.0, 2.0, 50)
    >>> LocalLinear(TenthOfTheRange()).fit(x, np.sin(x)).bandwidth_
    array([0.2])
    >>> TenthOfTheRange().select(LocalLinear(0.5).fit(x, x).as_fit()).criterion
    'a tenth of the range'
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
