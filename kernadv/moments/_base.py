"""The primitive's inputs and output: ragged histories, the windows around the queries, their weighted moments."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from kernadv._typing import FloatArray, IntArray
from kernadv.clock import Bandwidth
from kernadv.kernels import Kernel


class Histories(NamedTuple):
    """Ragged histories: query q owns the entries ``start[q] : start[q] + length[q]``.

    An entry is one visit: the step and the count, sum and sum of squares of its rewards.  Within a query the steps
    ascend.  Queries may share entries.

    Attributes
    ----------
    start, length : (Q,) int64
    step : (N,) int64
    n, s, ss : (N,) float64
    """

    start: IntArray
    length: IntArray
    step: IntArray
    n: FloatArray
    s: FloatArray
    ss: FloatArray

    def visit_lag(self, at: IntArray, k: int) -> FloatArray:
        """Lag of the k-th latest visit at or before step `at`; one step beyond the first where there are fewer. (Q,)

        Queries without any visit get 1.
        """
        seen = self.length.copy()
        while True:  # entries later than the query exist only where late rows are allowed
            late = seen > 0
            late[late] = self.step[(self.start + seen - 1)[late]] > at[late]
            if not late.any():
                break
            seen -= late
        position = np.maximum(seen - k, 0)
        index = np.where(seen > 0, self.start + position, 0)
        lag = at - self.step[index] if len(self.step) else np.zeros(len(at), np.int64)
        return np.where(seen > 0, lag + (seen < k), 1).astype(np.float64)


class Windows(NamedTuple):
    """Windows of H bandwidths around Q queries.

    Attributes
    ----------
    at : (Q,) int64
        Step of the query; later entries never count.
    width : (Q, H) float64
        Bandwidth in steps.
    reach : (Q, H) int64
        Largest lag inside the support, decided on integers.
    """

    at: IntArray
    width: FloatArray
    reach: IntArray

    @staticmethod
    def of(bandwidths: list[Bandwidth], kernel: Kernel, histories: Histories, at: IntArray) -> Windows:
        """Windows of a list of bandwidths at the steps `at`."""
        width = np.empty((len(at), len(bandwidths)))
        for column, bandwidth in enumerate(bandwidths):
            width[:, column] = bandwidth.half_width(at, lambda k: histories.visit_lag(at, k))
        return Windows(at, width, kernel.reach(width))


class Moments(NamedTuple):
    """Weighted moments of histories around queries; d = x_j - x is minus the lag.

    ``s_k = sum w d^k``, ``t_k = sum w d^k z``, ``q_k = sum w^2 d^k``, ``r0 = sum w z^2``, each (Q, H), the sums running
    over the traces.  They hold the value and the squared norm of the hat vector of the Nadaraya-Watson and the
    local-linear estimate.
    """

    s0: Any
    s1: Any
    s2: Any
    t0: Any
    t1: Any
    q0: Any
    q1: Any
    q2: Any
    r0: Any

    def add_at_query(self, n: Any, s: Any, ss: Any) -> Moments:
        """Moments after n more traces at d = 0, where K(0) = 1: the other traces of the query's own group.

        Adding the others keeps the leave-one-out sums exact; subtracting the own trace would not.
        """
        return self._replace(s0=self.s0 + n, t0=self.t0 + s, q0=self.q0 + n, r0=self.r0 + ss)


class Backend(Protocol):
    """A module that computes the moments."""

    def unavailable(self) -> str | None:
        """Why the backend cannot run here, or None."""

    def ragged_moments(self, histories: Histories, windows: Windows, kernel: Kernel, dtype: str = "float64") -> Moments:
        """Moments of every query and bandwidth, in the asked dtype ("float64" or "float32")."""
