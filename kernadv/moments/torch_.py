"""Moments on any torch device, in float32 or float64: every visit of every query at once, summed by segments."""

from __future__ import annotations

import importlib.util

import numpy as np

from kernadv.kernels import Kernel
from kernadv.moments import Histories, Moments, Windows

#: Entries worked on at once; bounds the memory.
CHUNK = 2**24


def unavailable() -> str | None:
    """Why torch cannot run here, or None."""
    return None if importlib.util.find_spec("torch") else 'torch is not installed: pip install "kernadv[torch]"'


def ragged_moments(histories: Histories, windows: Windows, kernel: Kernel, dtype: str = "float64") -> Moments:
    """Moments of every query and bandwidth; see `Moments`.

    Parameters
    ----------
    histories, windows : of numpy arrays or of tensors
    kernel : Kernel
    dtype : {"float64", "float32"}
        Type of the arithmetic and of the result.

    Returns
    -------
    Moments of (Q, H) tensors, or of arrays where the histories are of arrays
    """
    import torch

    real = getattr(torch, dtype)
    start, length, step, n, s, ss = map(torch.as_tensor, histories)
    at, width, reach = map(torch.as_tensor, windows)
    queries, grid = width.shape
    out = torch.zeros((9, queries, grid), dtype=real, device=start.device)
    begin = 0
    total = torch.cumsum(length, 0)
    while begin < queries:
        before = total[begin - 1] if begin else 0
        end = max(begin + 1, int(torch.searchsorted(total, before + CHUNK)))
        own = slice(begin, end)
        query = torch.repeat_interleave(torch.arange(begin, min(end, queries), device=start.device), length[own])
        offset = torch.arange(len(query), device=start.device) - (total - length - before)[query]
        entry = start[query] + offset
        lag = at[query] - step[entry]
        d, past = -lag.to(real), lag.to(width.dtype)
        for h in range(grid):
            inside = (lag >= 0) & (lag <= reach[query, h])
            u = past / width[query, h]  # in the width's float64: in float32 the edge may be missed, and 1e-300 is 0
            w = torch.where(inside, kernel.profile(u, torch), 0.0).to(real)
            wn, ws = w * n[entry].to(real), w * s[entry].to(real)
            wwn = w * wn
            terms = (wn, wn * d, wn * d * d, ws, ws * d, wwn, wwn * d, wwn * d * d, w * ss[entry].to(real))
            stacked = torch.stack(terms, 1)
            out[:, own, h] = torch.segment_reduce(stacked, "sum", lengths=length[own], axis=0).T
        begin = end
    return Moments(*(out.numpy() if isinstance(histories.step, np.ndarray) else out))
