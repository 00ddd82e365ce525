"""Moments of ragged histories, and the leave-one-out fits they make, in one pass over the history.

A program owns one query and up to 16 of its bandwidths.  It reads the visits of the query once, 32 to 256 at a time,
and keeps its sums in registers; nothing of size queries x visits x bandwidths exists in memory.  Every program writes
its own cells, so results are the same from run to run.  The references are `kernadv.moments.torch_` and
`kernadv.moments.torch_ragged`.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from kernadv.kernels import Kernel
from kernadv.moments._base import Sample, Windows
from kernadv.moments._launch import OPTIONS, device_code, fused, here, real_type
from kernadv.moments.torch_ragged import RANK, UNDERFLOW


@triton.jit
def ragged_kernel(
    start,
    length,
    step,
    n,
    s,
    ss,
    at,
    width,
    reach,
    rewards,
    moments,
    value,
    n_eff,
    gradient,
    Q,
    H,
    G,
    width_q,
    width_h,
    reach_q,
    reach_h,
    WEIGHT: tl.constexpr,
    SLOPE: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    EDGE: tl.constexpr,
    NARROW: tl.constexpr,
    REAL: tl.constexpr,
    MOMENTS: tl.constexpr,
    FITS: tl.constexpr,
    LINE: tl.constexpr,
    GRADIENT: tl.constexpr,
    RANK: tl.constexpr,
    TINY: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    BG: tl.constexpr,
):
    q = tl.program_id(0).to(tl.int64)
    rh = tl.program_id(1).to(tl.int64) * BH + tl.arange(0, BH)
    mh = rh < H
    begin = tl.load(start + q).to(tl.int64)
    size = tl.load(length + q)
    now = tl.load(at + q)
    bandwidth = tl.load(width + q * width_q + rh * width_h, mask=mh, other=1.0).to(REAL)
    inverse = 1.0 / bandwidth
    if EDGE:
        edge = tl.load(reach + q * reach_q + rh * reach_h, mask=mh, other=0).to(tl.int64)
        if NARROW:
            edge = tl.minimum(edge, 2147483647).to(tl.uint32)
        else:
            edge = edge.to(tl.uint64)
    s0 = tl.zeros((BH, BN), REAL)
    s1 = tl.zeros((BH, BN), REAL)
    s2 = tl.zeros((BH, BN), REAL)
    t0 = tl.zeros((BH, BN), REAL)
    t1 = tl.zeros((BH, BN), REAL)
    q0 = tl.zeros((BH, BN), REAL)
    q1 = tl.zeros((BH, BN), REAL)
    q2 = tl.zeros((BH, BN), REAL)
    r0 = tl.zeros((BH, BN), REAL)
    s0h = tl.zeros((BH, BN), REAL)  # derivatives with respect to the log bandwidth
    s1h = tl.zeros((BH, BN), REAL)
    s2h = tl.zeros((BH, BN), REAL)
    t0h = tl.zeros((BH, BN), REAL)
    t1h = tl.zeros((BH, BN), REAL)
    for j in range(0, size, BN):
        row = j + tl.arange(0, BN)
        m = row < size
        lag = now - tl.load(step + begin + row, mask=m, other=0)
        c = tl.load(n + begin + row, mask=m, other=0).to(REAL)
        y = tl.load(s + begin + row, mask=m, other=0).to(REAL)
        yy = tl.zeros((BN,), REAL)
        if MOMENTS:
            yy = tl.load(ss + begin + row, mask=m, other=0).to(REAL)
        if not EDGE:  # later entries never count
            c = tl.where(lag >= 0, c, 0.0)
            y = tl.where(lag >= 0, y, 0.0)
            yy = tl.where(lag >= 0, yy, 0.0)
            lag = tl.maximum(lag, 0)
        past = lag.to(REAL)
        u = past[None, :] * inverse[:, None]
        w = WEIGHT(u, A, B)
        if EDGE:  # a negative lag is beyond every edge as an unsigned number
            if NARROW:
                inside = lag.to(tl.uint32)[None, :] <= edge[:, None]
            else:
                inside = lag.to(tl.uint64)[None, :] <= edge[:, None]
            w = tl.where(inside, w, 0.0)
        ww = w * w
        s0 += w * c[None, :]
        t0 += w * y[None, :]
        q0 += ww * c[None, :]
        if LINE:
            d = -past
            cd = c * d
            cdd = cd * d
            yd = y * d
            s1 += w * cd[None, :]
            s2 += w * cdd[None, :]
            t1 += w * yd[None, :]
            q1 += ww * cd[None, :]
            q2 += ww * cdd[None, :]
        if MOMENTS:
            r0 += w * yy[None, :]
        if GRADIENT:
            g = -u * SLOPE(u, A, B)
            if EDGE:
                g = tl.where(inside, g, 0.0)
            s0h += g * c[None, :]
            t0h += g * y[None, :]
            if LINE:
                s1h += g * cd[None, :]
                s2h += g * cdd[None, :]
                t1h += g * yd[None, :]
    good = tl.where(bandwidth > 0.0, 0.0, float("nan")).to(REAL)  # a bandwidth of 0 gives NaN, never a silent 0
    a0 = tl.sum(s0, 1) + good
    b0 = tl.sum(t0, 1) + good
    c0 = tl.sum(q0, 1) + good
    a1 = tl.sum(s1, 1)
    a2 = tl.sum(s2, 1)
    b1 = tl.sum(t1, 1)
    c1 = tl.sum(q1, 1)
    c2 = tl.sum(q2, 1)
    if MOMENTS:
        cell = moments + q * H + rh
        plane = tl.full((), 1, tl.int64) * Q * H
        tl.store(cell, a0, mask=mh)
        tl.store(cell + plane, a1 + good, mask=mh)
        tl.store(cell + 2 * plane, a2 + good, mask=mh)
        tl.store(cell + 3 * plane, b0, mask=mh)
        tl.store(cell + 4 * plane, b1 + good, mask=mh)
        tl.store(cell + 5 * plane, c0, mask=mh)
        tl.store(cell + 6 * plane, c1 + good, mask=mh)
        tl.store(cell + 7 * plane, c2 + good, mask=mh)
        tl.store(cell + 8 * plane, tl.sum(r0, 1) + good, mask=mh)
    if FITS:
        rg = tl.arange(0, BG)
        count = tl.zeros((BG,), REAL)
        total = tl.zeros((BG,), REAL)
        for k in range(0, G):  # the others are added one by one: the own reward never enters
            z = tl.load(rewards + q * G + k + 0 * rg).to(REAL)
            other = (rg != k) & (z == z)
            count += tl.where(other, 1.0, 0.0)
            total += tl.where(other, z, 0.0)
        w0 = a0[:, None] + count[None, :]
        k0 = c0[:, None] + count[None, :]
        some = w0 > TINY
        safe = tl.where(some, w0, 1.0)
        fit = (b0[:, None] + total[None, :]) / safe
        norm = k0 / (safe * safe)
        centre = tl.zeros((BH, BG), REAL)
        beta = tl.zeros((BH, BG), REAL)
        spread = tl.full((BH, BG), 1.0, REAL)
        if LINE:
            middle = a1[:, None] / safe
            sxx = a2[:, None] - middle * a1[:, None]
            line = sxx > RANK * a2[:, None]
            centre = tl.where(line, middle, 0.0)
            spread = tl.where(line, sxx, 1.0)
            beta = tl.where(line, (b1[:, None] - middle * (b0[:, None] + total[None, :])) / spread, 0.0)
            fit = fit - centre * beta
            tilt = centre / spread
            norm = (
                norm
                - 2.0 * tilt / safe * (c1[:, None] - centre * k0)
                + tilt * tilt * (c2[:, None] - 2.0 * centre * c1[:, None] + centre * centre * k0)
            )
        rows = q * H + rh[:, None]
        cells = rows * G + rg[None, :]
        mg = mh[:, None] & (rg < G)[None, :]
        bad = (good != good)[:, None]
        tl.store(value + cells, tl.where(some & (bad == 0), fit, float("nan")), mask=mg)
        many = some & (norm > 0.0)
        tl.store(n_eff + cells, tl.where(many, 1.0 / tl.where(many, norm, 1.0), 0.0), mask=mg)
        if GRADIENT:
            d0 = tl.sum(t0h, 1)[:, None] - fit * tl.sum(s0h, 1)[:, None]
            change = d0 / safe
            if LINE:
                # residuals of the line a + beta d
                e0 = d0 - beta * tl.sum(s1h, 1)[:, None]
                e1 = tl.sum(t1h, 1)[:, None] - fit * tl.sum(s1h, 1)[:, None] - beta * tl.sum(s2h, 1)[:, None]
                change = e0 / safe - centre / spread * (e1 - centre * e0)
            tl.store(gradient + cells, tl.where(some & (bad == 0), change, float("nan")), mask=mg)


def ragged_moments(sample: Sample, windows: Windows, kernel: Kernel, dtype: str) -> torch.Tensor:
    """The nine moments, (9, Q, H), in the order of `Moments`."""
    out = torch.empty((9, *windows.width.shape), dtype=getattr(torch, dtype), device=sample.step.device)
    _launch(sample, windows, kernel, dtype, moments=out, line=True)
    return out


def ragged_fits(
    sample: Sample, windows: Windows, rewards: torch.Tensor, kernel: Kernel, degree: int, gradient: bool, dtype: str
) -> torch.Tensor:
    """Leave-one-out fits, (2 or 3, Q, H, G), in the order of `kernadv.moments.torch_ragged.Fits`."""
    shape = (2 + gradient, *windows.width.shape, rewards.shape[1])
    out = torch.empty(shape, dtype=getattr(torch, dtype), device=sample.step.device)
    _launch(sample, windows, kernel, dtype, fits=(rewards.contiguous(), *out), line=degree == 1, gradient=gradient)
    return out


def _launch(
    sample: Sample,
    windows: Windows,
    kernel: Kernel,
    dtype: str,
    *,
    moments: Any = None,
    fits: Any = None,
    line: bool,
    gradient: bool = False,
) -> None:
    queries, grid = windows.width.shape
    members = fits[0].shape[1] if fits else 1
    if not queries * grid * members:
        return
    code = fused(kernel)
    none = sample.step
    bh, bn, warps = blocks(grid, per_thread=8 if line else 16)
    with here(sample.step):
        ragged_kernel[(queries, triton.cdiv(grid, bh))](
            *sample, *windows, fits[0] if fits else none, none if moments is None else moments,
            *(fits[1:] if fits else (none, none)), *(() if gradient else (none,)),
            queries, grid, members, *windows.width.stride(), *windows.reach.stride(),
            WEIGHT=device_code(code.weight), SLOPE=device_code(code.slope if gradient else code.weight),
            A=code.a, B=code.b, EDGE=kernel.support != float("inf"),
            NARROW=sample.step.dtype == windows.at.dtype == torch.int32, REAL=real_type(dtype),
            MOMENTS=moments is not None, FITS=fits is not None, LINE=line, GRADIENT=gradient,
            RANK=RANK[dtype], TINY=UNDERFLOW[dtype],
            BH=bh, BN=bn, BG=triton.next_power_of_2(members), num_warps=warps, **OPTIONS,
        )  # fmt: skip


def blocks(grid: int, per_thread: int = 8) -> tuple[int, int, int]:
    """Bandwidths and visits of a tile, and warps: so many weights a thread, each with its sums in registers."""
    bh = min(triton.next_power_of_2(grid), 16)
    bn = max(32, min(256, 32 * per_thread // bh))
    return bh, bn, max(bh * bn // (32 * per_thread), 1)
