"""Moments of ragged histories in one pass over the history.

A program owns one query and up to 16 of its bandwidths.  It reads the visits of the query once, 32 to 256 at a time,
and keeps its sums in registers; nothing of size queries x visits x bandwidths exists in memory.  Every program writes
its own cells, so results are the same from run to run.  The reference is `kernadv.moments.torch_`.
"""

import torch
import triton
import triton.language as tl

from kernadv.kernels import Kernel
from kernadv.moments import Histories, Windows
from kernadv.moments.launch import OPTIONS, device_code, fused, here, real_type


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
    moments,
    Q,
    H,
    width_q,
    width_h,
    reach_q,
    reach_h,
    WEIGHT: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    EDGE: tl.constexpr,
    NARROW: tl.constexpr,
    REAL: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
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
    for j in range(0, size, BN):
        row = j + tl.arange(0, BN)
        m = row < size
        lag = now - tl.load(step + begin + row, mask=m, other=0)
        c = tl.load(n + begin + row, mask=m, other=0).to(REAL)
        y = tl.load(s + begin + row, mask=m, other=0).to(REAL)
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
        d = -past
        cd = c * d
        cdd = cd * d
        yd = y * d
        s1 += w * cd[None, :]
        s2 += w * cdd[None, :]
        t1 += w * yd[None, :]
        q1 += ww * cd[None, :]
        q2 += ww * cdd[None, :]
        r0 += w * yy[None, :]
    good = tl.where(bandwidth > 0.0, 0.0, float("nan")).to(REAL)  # a bandwidth of 0 gives NaN, never a silent 0
    cell = moments + q * H + rh
    plane = tl.full((), 1, tl.int64) * Q * H
    tl.store(cell, tl.sum(s0, 1) + good, mask=mh)
    tl.store(cell + plane, tl.sum(s1, 1) + good, mask=mh)
    tl.store(cell + 2 * plane, tl.sum(s2, 1) + good, mask=mh)
    tl.store(cell + 3 * plane, tl.sum(t0, 1) + good, mask=mh)
    tl.store(cell + 4 * plane, tl.sum(t1, 1) + good, mask=mh)
    tl.store(cell + 5 * plane, tl.sum(q0, 1) + good, mask=mh)
    tl.store(cell + 6 * plane, tl.sum(q1, 1) + good, mask=mh)
    tl.store(cell + 7 * plane, tl.sum(q2, 1) + good, mask=mh)
    tl.store(cell + 8 * plane, tl.sum(r0, 1) + good, mask=mh)


def ragged_moments(histories: Histories, windows: Windows, kernel: Kernel, dtype: str) -> torch.Tensor:
    """The nine moments, (9, Q, H), in the order of `Moments`."""
    queries, grid = windows.width.shape
    out = torch.empty((9, queries, grid), dtype=getattr(torch, dtype), device=histories.step.device)
    if not queries * grid:
        return out
    code = fused(kernel)
    bh, bn, warps = blocks(grid)
    with here(histories.step):
        ragged_kernel[(queries, triton.cdiv(grid, bh))](
            *histories, *windows, out, queries, grid, *windows.width.stride(), *windows.reach.stride(),
            WEIGHT=device_code(code.weight), A=code.a, B=code.b, EDGE=kernel.support != float("inf"),
            NARROW=histories.step.dtype == windows.at.dtype == torch.int32, REAL=real_type(dtype), BH=bh, BN=bn,
            num_warps=warps, **OPTIONS,
        )  # fmt: skip
    return out


def blocks(grid: int) -> tuple[int, int, int]:
    """Bandwidths and visits of a tile, and warps: 8 weights a thread, each with its sums in registers."""
    bh = min(triton.next_power_of_2(grid), 16)
    bn = max(32, 256 // bh)
    return bh, bn, max(bh * bn // 256, 1)
