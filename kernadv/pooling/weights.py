"""The weights of the filters, by how well each has predicted so far, over all prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernadv.pooling._base import PoolPiece
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace
from kernadv.pooling._words import exp, get, least, over, put, read, where, word
from kernadv.typing import FloatArray

#: Share of the losses that is kept from one step to the next.
KEEP = 0.98
#: Prior for the loss: so many traces, with that loss each.
TRUST, VARIANCE = 2.0, 0.2
#: The rate of the weights times the variance of a reward; 1/2 would give the posterior for normal rewards.
RATE = 0.25

#: Weights below this share are 0: numbers near the smallest of all make arithmetic slow.
FAINT = 1e-100


class PrequentialWeights(PoolPiece):
    """Weights of M predictors, ``w_m ~ o_m exp(-L_m / (4 v))``, the same for all prompts.

    L_m is the discounted sum of the squared errors of predictor m, whose predictions come from the past and the other traces
    of the group; v is the smallest L_m, divided by the number of traces.

    Parameters
    ----------
    odds : sequence of float
        Prior weights o, of any sum.
    xp : ArrayNamespace

    References
    ----------
    Dawid (1984), the prequential approach; Vovk (1990), aggregating strategies; Raftery, Karny and Ettler (2010), dynamic
    model averaging, for the discount.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.pooling import PrequentialWeights
    >>> weights = PrequentialWeights([1.0, 1.0])
    >>> for _ in range(20):
    ...     weights.learn(np.array([1.0, 3.0]), 16.0, new=1)  # the first one predicts better
    >>> weights.weights().round(2)
    array([1., 0.])
    """

    loss: Array  # (M,)
    traces: Array  # (1,)

    positive = ("loss", "traces")

    def __init__(self, odds: Sequence[float] | FloatArray, xp: ArrayNamespace = NUMPY) -> None:
        super().__init__(xp, loss=len(odds), traces=1)
        self._odds = xp.array(odds)

    def weights(self) -> Array:
        """They sum to 1.  # (M,)"""
        out = self.xp.empty(len(self.loss))
        self.xp.rows(weighed, (len(self.loss),), (self._state, self._odds), (out,))
        return out

    def learn(self, loss: Array, traces: Any, *, new: Any) -> None:
        """Add the losses of a batch, in shares of the range; new: 1 at a later step, else 0.  loss: (M,)"""
        self.xp.rows(charged, (len(self._state),), (loss, traces, new), (self._state,))

    def carry(self, lower: Any, upper: Any) -> None:
        """After the range grew: the old one is the part from lower to upper, so that shares are smaller."""
        self.xp.rows(shrunk, (len(self._state),), (lower, upper), (self._state,))


@word
def weight_of(i, mine, N, state, odds):
    """As of `PrequentialWeights.weights`, of predictor i; the state: the losses, and the traces."""
    best = read(state, 0)
    for m in range(1, N):
        best = least(best, read(state, m))
    rate = RATE * (read(state, N) + TRUST) / (best + TRUST * VARIANCE)
    total = 0.0 * best
    for m in range(N):
        raw = read(odds, m) * exp(rate * (best - read(state, m)))
        total = total + where(raw > FAINT, raw, 0.0)
    raw = get(odds, i, mine) * exp(rate * (best - get(state, i, mine)))
    return where(raw > FAINT, raw, 0.0) / total


@word
def weighed(i, mine, N, state, odds, out):
    """As of `PrequentialWeights.weights`, of predictor i."""
    put(out, i, weight_of(i, mine, N, state, odds), mine)


@word
def charged(i, mine, N, loss, traces, new, state):
    """Place i of the state after a batch, in place."""
    keep = where(read(new, 0) > 0.0, KEEP, 1.0)
    more = where(i < N - 1, get(loss, i, mine & (i < N - 1)), read(traces, 0))
    put(state, i, keep * get(state, i, mine) + more, mine)


@word
def shrunk(i, mine, N, lower, upper, state):
    """Place i of the state in a larger range, in place."""
    share = read(upper, 0) - read(lower, 0)
    put(state, i, get(state, i, mine) * where(i < N - 1, share * share, where(share > 0.0, 1.0, 0.0)), mine)


@over(weighed)
def _weighed(N, state, odds, out):
    for i in range(N):
        weighed(i, True, N, state, odds, out)


@over(charged)
def _charged(N, loss, traces, new, state):
    for i in range(N):
        charged(i, True, N, loss, traces, new, state)


@over(shrunk)
def _shrunk(N, lower, upper, state):
    for i in range(N):
        shrunk(i, True, N, lower, upper, state)
