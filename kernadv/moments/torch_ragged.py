"""Leave-one-out fits over ragged histories in plain torch: the reference of the fused kernel, on any device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from kernadv.kernels import Kernel
from kernadv.moments._base import Sample, Windows

#: Visits worked on at once; bounds the memory.
CHUNK = 2**22
#: A line is fitted only where its spread sxx exceeds this share of s2, and with it the rounding.
RANK = {"float64": 1e-10, "float32": 1e-5}
#: Windows whose weights add up to less are empty: squares of such weights underflow.
UNDERFLOW = {"float64": 1e-140, "float32": 1e-18}


class Fits(NamedTuple):
    """Leave-one-out fits of the members of a group.

    Attributes
    ----------
    value : (Q, H, G)
        NaN where neither the window nor the group holds another trace.
    n_eff : (Q, H, G)
        1 / sum of the squared hat vector; 0 where undefined.
    gradient : (Q, H, G), or (0,) if it was not asked for
        Derivative of the value with respect to the log bandwidth.
    """

    value: Any
    n_eff: Any
    gradient: Any


def ragged_fits(
    sample: Sample,
    windows: Windows,
    rewards: torch.Tensor,
    kernel: Kernel,
    degree: int,
    gradient: bool = False,
    dtype: str = "float64",
) -> Fits:
    """Fits at the query from its past and the other traces of its group, which lie at d = 0 with weight K(0) = 1.

    Parameters
    ----------
    sample, windows : of tensors, Q queries x H bandwidths
    rewards : (Q, G) tensor
        Rewards of the query's group; NaN: no trace.  A missing trace gets the fit to all others.
    kernel : Kernel
    degree : {0, 1}
        Nadaraya-Watson or local linear; the mean where all visits lie at one step.
    gradient : bool
        Also the derivative with respect to the log bandwidth.
    dtype : {"float64", "float32"}
    """
    real = getattr(torch, dtype)
    queries, grid = windows.width.shape
    longest = int(sample.length.max()) if queries else 0
    rows = max(CHUNK // max(longest, 1), 1)
    parts = []
    for begin in range(0, queries, rows):
        own = slice(begin, begin + rows)
        few = sample._replace(start=sample.start[own], length=sample.length[own])
        here = Windows(*(part[own] for part in windows))
        parts.append(_fits(few, here, rewards[own].to(real), kernel, degree, gradient, longest, dtype))
    shape = (0, grid, rewards.shape[1])
    empty = Fits(*(torch.empty(shape, dtype=real, device=rewards.device) for _ in range(3)))
    value, n_eff, change = (torch.cat(column) for column in zip(empty, *parts, strict=True))
    return Fits(value, n_eff, change if gradient else change.new_empty(0))


def _fits(
    sample: Sample,
    windows: Windows,
    z: torch.Tensor,
    kernel: Kernel,
    degree: int,
    gradient: bool,
    longest: int,
    dtype: str,
) -> Fits:
    slot = torch.arange(longest, device=z.device)
    there = slot < sample.length[:, None]  # (Q, L)
    entry = torch.where(there, sample.start[:, None] + slot, 0)
    step, n, s = (part[entry] if longest else part.new_zeros(entry.shape) for part in (sample.step, sample.n, sample.s))
    lag = torch.where(there, windows.at[:, None] - step, -1)
    d, n, s = -lag.to(z.dtype), n.to(z.dtype), s.to(z.dtype)
    scored = ~torch.isnan(z)
    others = ~torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    count = (scored[:, None, :] & others).to(z.dtype).sum(2)  # (Q, G)
    total = torch.where(scored[:, None, :] & others, torch.nan_to_num(z)[:, None, :], 0.0).sum(2)
    columns = []
    for h in range(windows.width.shape[1]):
        width = windows.width[:, h, None].to(z.dtype)
        inside = (lag >= 0) & (lag <= windows.reach[:, h, None])
        u = torch.where(inside, -d, 0.0) / width
        w = torch.where(inside, kernel.formula(u, torch), 0.0)
        dw = torch.zeros_like(d)
        if gradient:  # dK(d / h) / d log h = -u K'(u)
            slope = torch.from_numpy(kernel.slope(u.cpu().numpy())).to(d)
            dw = torch.where(inside, -u * slope, 0.0)
        s0, s1, s2 = ((w * n * d**k).sum(1)[:, None] for k in range(3))
        t0, t1 = ((w * s * d**k).sum(1)[:, None] for k in range(2))
        q0, q1, q2 = ((w * w * n * d**k).sum(1)[:, None] for k in range(3))
        s0, t0, q0 = s0 + count, t0 + total, q0 + count
        sxx = s2 - s1 * s1 / s0
        line = (sxx > RANK[dtype] * s2) & (degree == 1)
        beta = torch.where(line, (t1 - s1 / s0 * t0) / torch.where(line, sxx, 1.0), 0.0)
        value = t0 / s0 - s1 / s0 * beta
        # the hat vector is w (p + r d)
        r = torch.where(line, -s1 / s0 / torch.where(line, sxx, 1.0), 0.0)
        p = 1.0 / s0 - s1 / s0 * r
        norm = p * p * q0 + 2.0 * p * r * q1 + r * r * q2
        some = s0 > UNDERFLOW[dtype]
        residual = s - n * (value[:, :, None] + beta[:, :, None] * d[:, None, :]).transpose(0, 1)  # (G, Q, L)
        change = ((p[:, :, None] + r[:, :, None] * d[:, None, :]).transpose(0, 1) * dw * residual).sum(2).T
        nan = torch.full_like(value, torch.nan)
        columns.append(
            Fits(torch.where(some, value, nan), torch.where(some, 1.0 / norm, 0.0), torch.where(some, change, nan))
        )
    if not columns:
        return Fits(*(z.new_empty((len(z), 0, z.shape[1])) for _ in range(3)))
    return Fits(*(torch.stack(column, 1) for column in zip(*columns, strict=True)))
