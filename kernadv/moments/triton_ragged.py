"""Moments of ragged histories in one pass over the history.

A program owns one query and up to 16 of its bandwidths.  It reads the visits of the query once, 8 to 256 at a time, the
next tiles while it works on one, and keeps its sums in registers; nothing of size queries x visits x bandwidths exists in
memory.  Every program writes its own cells, so results are the same from run to run.  The reference is
`kernadv.moments.torch_`.
"""

import torch
import triton
import triton.language as tl

from kernadv.kernels import Kernel
from kernadv.moments import Histories, Windows
from kernadv.moments.launch import OPTIONS, device_code, fused, here, real_type

#: Least bandwidth, in steps, of which there is an inverse; at a smaller one, too, a lag of 0 counts and others do not.
LEAST = {"float32": 1e-30, "float64": 1e-300}


@triton.jit
def over_visits(x, HALVINGS: tl.constexpr):
    """Sums over the visits.  Halved, a row takes half of the lanes, and other rows the rest: fewer values change lanes."""
    for _ in tl.static_range(HALVINGS):
        even, odd = tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)))
        x = even + odd
    return tl.sum(x, 1)


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
    LEAST: tl.constexpr,
    LINE: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    HALVINGS: tl.constexpr,
):
    blocks = tl.cdiv(H, BH)  # those of a query run side by side: all but the first find its visits in the cache
    q = (tl.program_id(0) // blocks).to(tl.int64)
    rh = (tl.program_id(0) % blocks).to(tl.int64) * BH + tl.arange(0, BH)
    mh = rh < H
    begin = tl.load(start + q).to(tl.int64)
    size = tl.load(length + q)
    now = tl.load(at + q)
    bandwidth = tl.load(width + q * width_q + rh * width_h, mask=mh, other=1.0)
    good = tl.where(bandwidth > 0.0, 0.0, float("nan")).to(REAL)  # a bandwidth of 0 gives NaN, never a silent 0
    cell = moments + q * H + rh
    plane = tl.full((), 1, tl.int64) * Q * H
    if size == 0:
        for k in tl.static_range(9):
            tl.store(cell + k * plane, good, mask=mh)
        return
    inverse = 1.0 / tl.maximum(bandwidth.to(REAL), LEAST)
    if EDGE:  # the first lag outside, unsigned: 0 where not even the lag 0 is inside
        edge = tl.load(reach + q * reach_q + rh * reach_h, mask=mh, other=0).to(tl.int64)
        if NARROW:
            edge = (tl.maximum(tl.minimum(edge, 2147483647).to(tl.int32), -1) + 1).to(tl.uint32)
        else:
            edge = (tl.maximum(edge, -1) + 1).to(tl.uint64)
    s0 = tl.zeros((BH, BN), REAL)
    t0 = tl.zeros((BH, BN), REAL)
    q0 = tl.zeros((BH, BN), REAL)
    r0 = tl.zeros((BH, BN), REAL)
    if LINE:
        s1 = tl.zeros((BH, BN), REAL)
        s2 = tl.zeros((BH, BN), REAL)
        t1 = tl.zeros((BH, BN), REAL)
        q1 = tl.zeros((BH, BN), REAL)
        q2 = tl.zeros((BH, BN), REAL)
    for j in tl.range(0, size, BN, num_stages=3):
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
                inside = lag.to(tl.uint32)[None, :] < edge[:, None]
            else:
                inside = lag.to(tl.uint64)[None, :] < edge[:, None]
            w = tl.where(inside, w, 0.0)
        ww = w * w
        s0 += w * c[None, :]
        t0 += w * y[None, :]
        q0 += ww * c[None, :]
        r0 += w * yy[None, :]
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
    tl.store(cell, over_visits(s0, HALVINGS) + good, mask=mh)
    tl.store(cell + 3 * plane, over_visits(t0, HALVINGS) + good, mask=mh)
    tl.store(cell + 5 * plane, over_visits(q0, HALVINGS) + good, mask=mh)
    tl.store(cell + 8 * plane, over_visits(r0, HALVINGS) + good, mask=mh)
    if LINE:
        tl.store(cell + plane, over_visits(s1, HALVINGS) + good, mask=mh)
        tl.store(cell + 2 * plane, over_visits(s2, HALVINGS) + good, mask=mh)
        tl.store(cell + 4 * plane, over_visits(t1, HALVINGS) + good, mask=mh)
        tl.store(cell + 6 * plane, over_visits(q1, HALVINGS) + good, mask=mh)
        tl.store(cell + 7 * plane, over_visits(q2, HALVINGS) + good, mask=mh)
    else:
        tl.store(cell + plane, good, mask=mh)
        tl.store(cell + 2 * plane, good, mask=mh)
        tl.store(cell + 4 * plane, good, mask=mh)
        tl.store(cell + 6 * plane, good, mask=mh)
        tl.store(cell + 7 * plane, good, mask=mh)


def ragged_moments(histories: Histories, windows: Windows, kernel: Kernel, dtype: str, degree: int = 1) -> torch.Tensor:
    """The nine moments, (9, Q, H), in the order of `Moments`.

    At degree 0 those that only a line needs (s1, s2, t1, q1, q2) are 0: half of the work.
    """
    queries, grid = windows.width.shape
    out = torch.empty((9, queries, grid), dtype=getattr(torch, dtype), device=histories.step.device)
    if not queries * grid:
        return out
    code = fused(kernel)
    bh, bn = tile(grid, dtype, degree)
    with here(histories.step):
        ragged_kernel[(queries * triton.cdiv(grid, bh),)](
            *histories, *windows, out, queries, grid, *windows.width.stride(), *windows.reach.stride(),
            WEIGHT=device_code(code.weight), A=code.a, B=code.b, EDGE=kernel.support != float("inf"),
            NARROW=histories.step.dtype == windows.at.dtype == torch.int32, REAL=real_type(dtype),
            LEAST=LEAST[dtype], LINE=degree > 0, BH=bh, BN=bn,
            HALVINGS=halvings(bh, bn), num_warps=1, **OPTIONS,
        )  # fmt: skip
    return out


def tile(grid: int, dtype: str, degree: int) -> tuple[int, int]:
    """Bandwidths and visits of a tile, which one warp works on.

    A thread has as many weights, each with its sums, as fit its registers: 8 with 9 sums, 16 with 4, 2 or 4 in float64.
    """
    wide = degree == 0 and dtype == "float32"
    bh = min(triton.next_power_of_2(grid), 16 if wide else 8)
    return bh, max(32, 256 // bh) if dtype == "float32" else max(8, 64 // bh)


def halvings(bh: int, bn: int) -> int:
    """So many that no two lanes hold sums of the same row at the end, if possible."""
    return min(bh, bn).bit_length() - 1


def blocks(grid: int) -> tuple[int, int, int]:
    """Bandwidths and visits of a tile, and warps: 8 weights a thread, each with its sums in registers."""
    bh = min(triton.next_power_of_2(grid), 16)
    bn = max(32, 256 // bh)
    return bh, bn, max(bh * bn // 256, 1)
