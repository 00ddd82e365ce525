"""The reference: the definition of the moments, one query and one bandwidth at a time, in float64."""

from __future__ import annotations

import numpy as np

from kernadv.kernels import Kernel
from kernadv.moments import Histories, Moments, Windows


def unavailable() -> str | None:
    """Numpy is always there."""
    return None


def ragged_moments(histories: Histories, windows: Windows, kernel: Kernel, dtype: str = "float64") -> Moments:
    """Moments of every query and bandwidth; see `Moments`.

    Parameters
    ----------
    histories : Histories
    windows : Windows, Q queries x H bandwidths
    kernel : Kernel
    dtype : {"float64", "float32"}
        Type of the result; the sums run in float64.

    Returns
    -------
    Moments of (Q, H) arrays
    """
    out = np.zeros((9, *windows.width.shape))
    for q, (start, length) in enumerate(zip(histories.start, histories.length, strict=True)):
        own = slice(start, start + length)
        lag = windows.at[q] - histories.step[own]
        for h, (width, reach) in enumerate(zip(windows.width[q], windows.reach[q], strict=True)):
            inside = (lag >= 0) & (lag <= reach)
            d = -lag[inside].astype(np.float64)
            n, s, ss = histories.n[own][inside], histories.s[own][inside], histories.ss[own][inside]
            w = kernel.profile(d / width)
            out[:3, q, h] = (w * n).sum(), (w * n * d).sum(), (w * n * d * d).sum()
            out[3:5, q, h] = (w * s).sum(), (w * s * d).sum()
            out[5:8, q, h] = (w * w * n).sum(), (w * w * n * d).sum(), (w * w * n * d * d).sum()
            out[8, q, h] = (w * ss).sum()
    return Moments(*out.astype(dtype))
