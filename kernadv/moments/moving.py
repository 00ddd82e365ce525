"""Moments of the past of every visit of a log, for replays.

The windows of a prompt's consecutive visits overlap, so the sums of one follow from those of the last.  A cut divides the
window: the visits before it have suffix sums, all made at once, those from it on running sums; when the window has passed
the cut, it is cut anew, at its end.  This queue of two stacks keeps the sums over a moving window without subtractions.
What is summed are powers of the lags: as the query moves on, all lags grow, so that a binomial shift has terms of one sign
and loses no digits.  A kernel that is a polynomial combines the powers, at a cost that does not depend on the bandwidth.
"""

from __future__ import annotations

import numpy as np

from kernadv._jit import compiled
from kernadv.kernels import Kernel, Power
from kernadv.moments import Histories, Windows, select
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Polynomials of a higher degree lose too many digits where their terms cancel.
HIGHEST_POWER = 12
#: A window whose weights add up to less than this share of its rewards has its visits near the edge, where the terms of the
#: polynomial cancel: it is summed visit by visit.
THIN = 0.03


def moments_of_the_past(
    past: Histories, windows: Windows, kernel: Kernel, degree: int
) -> tuple[FloatArray, FloatArray]:
    """What of `kernadv.moments.Moments` a local polynomial takes, at every visit of a log.

    With a polynomial kernel this takes O(N), whatever the bandwidth, as long as the start of a prompt's window never moves
    back; the clocks of `kernadv.clock` see to that.  With another kernel it takes all visits of all windows.

    Parameters
    ----------
    past : Histories
        Of N queries over N entries: query q is the visit at entry q, and owns its prompt's entries before that.
    windows : Windows
        One bandwidth around each.
    kernel : Kernel
    degree : {0, 1}
        Of the local polynomial.

    Returns
    -------
    s : (2 degree + 1, N) float64
        s0, or s0, s1 and s2.
    t : (degree + 1, N) float64
        t0, or t0 and t1.
    """
    s, t = np.empty((2 * degree + 1, len(past.step))), np.empty((degree + 1, len(past.step)))
    if isinstance(kernel, Power) and kernel.degree + 2 * degree <= HIGHEST_POWER:
        scratch = np.empty((int(past.length.max(initial=0)), 2, kernel.degree + 2 * degree + 1))
        direct = np.zeros(len(past.step), np.bool_)
        _sweep(past.start, past.step, past.n, past.s, windows.width[:, 0], windows.reach[:, 0],
               kernel.coefficients, scratch, s, t, direct)  # fmt: skip
    else:
        direct = np.ones(len(past.step), np.bool_)
    if direct.any():
        own = past._replace(start=past.start[direct], length=past.length[direct])
        around = Windows(windows.at[direct], windows.width[direct], windows.reach[direct])
        m = select().backend.ragged_moments(own, around, kernel)
        for sums, parts in ((s, (m.s0, m.s1, m.s2)), (t, (m.t0, m.t1))):
            for own_sum, part in zip(sums, parts, strict=False):
                own_sum[direct] = np.asarray(part)[:, 0]
    return s, t


@compiled()
def _later(power_sums: FloatArray, by: float) -> None:
    """Sums of powers of the lags, (2, depth), after the query has moved on by so many steps."""
    depth = power_sums.shape[1]
    for c in range(2):
        for i in range(depth - 2, -1, -1):
            for k in range(i, depth - 1):
                power_sums[c, k + 1] += by * power_sums[c, k]


@compiled()
def _combined(coefficients: FloatArray, power_sums: FloatArray, inverse: float, k: int) -> float:
    """The moment of order k, from the sums of the powers from k on; inverse: 1 / bandwidth."""
    total = 0.0
    for r in range(len(coefficients) - 1, -1, -1):
        total = total * inverse + coefficients[r] * power_sums[r]
    return total if k % 2 == 0 else -total


@compiled()
def _sweep(
    start: IntArray,
    step: IntArray,
    n: FloatArray,
    s: FloatArray,
    width: FloatArray,
    reach: IntArray,
    coefficients: FloatArray,  # (R + 1,): of the kernel
    before: FloatArray,  # scratch: suffix sums about the cut of the entries from `base` to `cut`
    out_s: FloatArray,
    out_t: FloatArray,
    thin: BoolArray,
) -> None:
    depth = before.shape[2]
    after, window = np.zeros((2, depth)), np.zeros((2, depth))
    base = cut = low = 0
    for q in range(len(step)):
        if start[q] == q:
            base = cut = low = q
            after[:] = 0.0
        else:
            _later(after, float(step[q] - step[q - 1]))
        begin = low
        while begin < q and step[q] - step[begin] > reach[q]:
            begin += 1
        while begin > start[q] and step[q] - step[begin - 1] <= reach[q]:
            begin -= 1
        if begin >= cut or begin < low:
            base, cut = begin, q
            after[:] = 0.0
            for c in range(2):
                window[c] = 0.0
                for j in range(q - 1, base - 1, -1):
                    term = n[j] if c == 0 else s[j]
                    for k in range(depth):
                        window[c, k] += term
                        before[j - base, c, k] = window[c, k]
                        term *= float(step[q] - step[j])
        low = begin
        window[:] = 0.0
        if low < cut:
            window[:] = before[low - base]
            _later(window, float(step[q] - step[cut]))
        window += after
        after[0, 0] += n[q]
        after[1, 0] += s[q]
        inverse = 1.0 / width[q] if width[q] > 0.0 else 0.0  # at no width the window is empty
        for k in range(len(out_s)):
            out_s[k, q] = _combined(coefficients, window[0, k:], inverse, k)
            thin[q] |= abs(out_s[k, q]) < THIN * window[0, k]
        for k in range(len(out_t)):
            out_t[k, q] = _combined(coefficients, window[1, k:], inverse, k)
