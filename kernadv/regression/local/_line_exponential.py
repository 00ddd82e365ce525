"""Moving sums under an exponential kernel on a line in O(n + m): one recursion from each side.

Moving the query by d bandwidths multiplies every weight by the same factor and shifts the powers of the distance.  So the
sums at one place follow from those at the last.  All terms of a shift have one sign, so no digits are lost.
"""

from __future__ import annotations

import math
from math import comb

import numpy as np

from kernadv._jit import compiled
from kernadv.typing import FloatArray


def exponential_moments(
    x: FloatArray, channels: FloatArray, at: FloatArray, rho: float, order: int, past: bool
) -> FloatArray:
    """Sums over j of ``rho^|u| v_cj u^k`` with u = x_j - q, for all queries q; x is in units of the bandwidth.

    Parameters and result as in `kernadv.regression.local._line_power.power_moments`.
    """
    binomial = np.array([[comb(r, k) for k in range(order + 1)] for r in range(order + 1)], dtype=np.float64)
    rate = -math.log(rho)
    out = np.empty((len(at), len(channels), order + 1))
    _recursion(x, channels, at, rate, True, binomial, out)
    if not past:
        other = np.empty_like(out)
        _recursion(-x[::-1], channels[:, ::-1], -at[::-1], rate, False, binomial, other)
        signs = (-1.0) ** np.arange(order + 1)
        out += other[::-1] * signs
    return out


@compiled()
def _recursion(
    x: FloatArray,
    v: FloatArray,
    at: FloatArray,
    rate: float,
    closed: bool,
    binomial: FloatArray,
    out: FloatArray,
) -> None:
    """Sums over the points with x <= q, or x < q unless `closed`."""
    channels, size = v.shape[0], binomial.shape[0]
    state = np.zeros((channels, size))
    place = min(at[0], x[0])
    j = 0
    for m in range(len(at)):
        q = at[m]
        while j < len(x) and (x[j] < q or (closed and x[j] == q)):
            _move(state, x[j] - place, rate, binomial)
            place = x[j]
            for c in range(channels):
                state[c, 0] += v[c, j]
            j += 1
        _move(state, q - place, rate, binomial)
        place = q
        out[m] = state


@compiled()
def _move(state: FloatArray, by: float, rate: float, binomial: FloatArray) -> None:
    """Let the query move forward by `by` bandwidths."""
    decay = np.exp(-rate * by)
    for c in range(state.shape[0]):
        for k in range(state.shape[1] - 1, -1, -1):
            total, power = 0.0, 1.0
            for i in range(k, -1, -1):
                total += binomial[k, i] * power * state[c, i]
                power *= -by
            state[c, k] = decay * total
