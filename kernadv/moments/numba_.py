"""The fast CPU path: compiled loops over the window only, in parallel over the queries.

The clock is whole steps, so a kernel is evaluated once per lag and bandwidth into a table (or once per visit, where the
lags are more than the visits); the loops read the table, know no kernel's formula and are compiled once for all kernels.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from numba import prange

from kernadv._jit import compiled
from kernadv.kernels import Kernel
from kernadv.moments import Histories, Moments, Windows
from kernadv.typing import FloatArray, IntArray

#: Weight table entries that are worth making at once (32 MB); larger jobs are split over the queries.
TABLE = 2**22
#: Visits times bandwidths below which one thread is as fast, and steadier on a shared machine, than several.
SERIAL = 500_000


def unavailable() -> str | None:
    """Why numba cannot run here, or None."""
    return None if importlib.util.find_spec("numba") else "numba is not installed: pip install numba"


def ragged_moments(histories: Histories, windows: Windows, kernel: Kernel, dtype: str = "float64") -> Moments:
    """Moments of every query and bandwidth; see `Moments`.  The sums run in float64 whatever the result's dtype."""
    out = np.empty((9, *windows.width.shape))
    _fill(out, histories, windows, kernel, np.arange(len(windows.at)))
    return Moments(*out.astype(dtype, copy=False))


def _fill(out: FloatArray, histories: Histories, windows: Windows, kernel: Kernel, rows: IntArray) -> None:
    """Write the moments of the queries `rows`, splitting them until their weight table is small."""
    if not len(rows) or not windows.width.shape[1]:
        return
    width = windows.width[rows]
    length = histories.length[rows]
    longest = int(length.max())
    some = length > 0
    age = windows.at[rows[some]] - histories.step[histories.start[rows[some]]]
    lags = int(min(age.max(initial=0), max(windows.reach[rows].max(), 0))) + 1
    distinct, code = np.unique(width, return_inverse=True)
    by_lag = len(distinct) * lags <= max(width.size * longest, TABLE)
    if (len(distinct) * lags if by_lag else width.size * longest) > TABLE and len(rows) > 1:
        rows = rows[np.argsort(windows.at[rows], kind="stable")]
        for half in np.array_split(rows, 2):
            _fill(out, histories, windows, kernel, half)
        return
    if by_lag:
        table = kernel.profile(np.arange(lags) / distinct[:, None])
    else:  # a clock of very many steps: fewer visits than lags
        entry = histories.start[rows][:, None] + np.arange(longest)
        lag = windows.at[rows][:, None] - histories.step[np.minimum(entry, len(histories.step) - 1)]  # (R, longest)
        table = kernel.profile(lag[:, None, :] / width[:, :, None]).reshape(width.size, longest)
        code = np.arange(width.size)
    loop = _loop_parallel if int(length.sum()) * width.shape[1] > SERIAL else _loop
    loop(out, rows, histories.start, histories.length, histories.step, histories.n, histories.s, histories.ss,
         windows.at, windows.reach, code.reshape(width.shape), table, by_lag)  # fmt: skip


def _moments_loop(
    out: FloatArray,
    rows: IntArray,
    start: IntArray,
    length: IntArray,
    step: IntArray,
    n: FloatArray,
    s: FloatArray,
    ss: FloatArray,
    at: IntArray,
    reach: IntArray,
    code: IntArray,
    table: FloatArray,
    by_lag: bool,
) -> None:
    for r in prange(len(rows)):
        q = rows[r]
        begin = start[q]
        end = begin + np.searchsorted(step[begin : begin + length[q]], at[q] + 1)
        for h in range(code.shape[1]):
            weight = table[code[r, h]]
            low = begin + np.searchsorted(step[begin:end], at[q] - reach[q, h])
            steps, counts, sums, squares = step[low:end], n[low:end], s[low:end], ss[low:end]
            s0 = s1 = s2 = t0 = t1 = q0 = q1 = q2 = r0 = 0.0
            for j in range(len(steps)):  # from 0 on: the compiler need not look for indices below 0
                lag = at[q] - steps[j]
                d = -float(lag)
                w = weight[np.uint64(lag)] if by_lag else weight[low - begin + j]
                wn = w * counts[j]
                ws = w * sums[j]
                wwn = w * wn
                s0 += wn
                s1 += wn * d
                s2 += wn * d * d
                t0 += ws
                t1 += ws * d
                q0 += wwn
                q1 += wwn * d
                q2 += wwn * d * d
                r0 += w * squares[j]
            out[0, q, h] = s0
            out[1, q, h] = s1
            out[2, q, h] = s2
            out[3, q, h] = t0
            out[4, q, h] = t1
            out[5, q, h] = q0
            out[6, q, h] = q1
            out[7, q, h] = q2
            out[8, q, h] = r0


_loop = compiled()(_moments_loop)
_loop_parallel = compiled(parallel=True)(_moments_loop)
