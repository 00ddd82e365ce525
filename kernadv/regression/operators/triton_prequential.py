"""Prequential scores of bandwidths over whole histories, without temporaries.

A program owns one prompt, a few bandwidths and every SPLIT-th block of its visits; it predicts a block of visits from all
earlier ones and keeps only the two sums.  A lane is a visit to predict and keeps the earlier ones in registers, so no sum
crosses a lane before the end.  The reference is `kernadv.regression.operators.prequential`.
"""

import torch
import triton
import triton.language as tl

from kernadv.kernels import Kernel
from kernadv.moments import Histories
from kernadv.moments.launch import OPTIONS, device_code, fused, here, real_type

#: Programs that keep a GPU busy; fewer prompts are split over several programs each.
PROGRAMS = 4096


@triton.jit
def reach_of(width, SUPPORT: tl.constexpr, CLOSED: tl.constexpr, NARROW: tl.constexpr):
    """`Kernel.reach` as an unsigned number, 0 in place of -1."""
    edge = width * SUPPORT
    if NARROW:
        edge = tl.minimum(edge, 2147483648.0)
    else:
        edge = tl.minimum(edge, 9223372036854775808.0)
    whole = tl.floor(edge + 0.5)
    exact = tl.abs(edge - whole) <= 1e-9 * tl.maximum(whole, 1.0)
    if CLOSED:
        inner = whole
    else:
        inner = tl.maximum(whole - 1.0, 0.0)
    reach = tl.where(exact, inner, tl.floor(edge))
    if NARROW:
        reach = reach.to(tl.uint32)
    else:
        reach = reach.to(tl.uint64)
    return reach


@triton.jit
def weighted(
    now,
    inverse,
    reach,
    then,
    c,
    y,
    WEIGHT: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    EDGE: tl.constexpr,
    NARROW: tl.constexpr,
    REAL: tl.constexpr,
):
    """Weighted sums of earlier visits; bandwidths x visits to predict."""
    lag = now[None, None, :] - then[:, None, None]
    w = WEIGHT(lag.to(REAL) * inverse[None, :, :], A, B)
    if EDGE:  # a lag of 0 or less is beyond every edge as an unsigned number
        if NARROW:
            inside = (lag - 1).to(tl.uint32) < reach[None, :, :]
        else:
            inside = (lag - 1).to(tl.uint64) < reach[None, :, :]
    else:
        inside = lag > 0
    w = tl.where(inside, w, 0.0)
    return tl.sum(w * c[:, None, None], 0), tl.sum(w * y[:, None, None], 0)


@triton.jit
def prequential_kernel(
    start,
    length,
    step,
    n,
    s,
    ss,
    slope,
    floor,
    asked,
    loss,
    count,
    H,
    WEIGHT: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    SUPPORT: tl.constexpr,
    CLOSED: tl.constexpr,
    NARROW: tl.constexpr,
    REAL: tl.constexpr,
    ASKED: tl.constexpr,
    SPLIT: tl.constexpr,
    BH: tl.constexpr,
    BQ: tl.constexpr,
    BN: tl.constexpr,
):
    EDGE: tl.constexpr = float("inf") != SUPPORT
    p = tl.program_id(0).to(tl.int64)
    rh = tl.program_id(1).to(tl.int64) * BH + tl.arange(0, BH)
    part = tl.program_id(2)
    begin = tl.load(start + p).to(tl.int64)
    size = tl.load(length + p)
    grow = tl.load(slope + rh, mask=rh < H, other=0.0)
    least = tl.load(floor + rh, mask=rh < H, other=1.0)
    lost = tl.zeros((BH, BQ), REAL)
    seen = tl.zeros((BH, BQ), REAL)
    for first in range(part * BQ, size, SPLIT * BQ):
        rows = first + tl.arange(0, BQ)
        mq = rows < size
        now = tl.load(step + begin + rows, mask=mq, other=0)
        width = tl.maximum(now.to(tl.float64)[None, :] * grow[:, None], least[:, None])
        inverse = 1.0 / width.to(REAL)
        reach = inverse
        if EDGE:
            reach = reach_of(width, SUPPORT, CLOSED, NARROW)
        below = tl.zeros((BH, BQ), REAL)
        above = tl.zeros((BH, BQ), REAL)
        for j in range(0, first, BN):
            at = begin + j + tl.arange(0, BN)
            then, c, y = tl.load(step + at), tl.load(n + at).to(REAL), tl.load(s + at).to(REAL)
            b, a = weighted(now, inverse, reach, then, c, y, WEIGHT, A, B, EDGE, NARROW, REAL)
            below += b
            above += a
        for j in range(first, tl.minimum(size, first + BQ), BN):
            row = j + tl.arange(0, BN)
            mn = row < size
            then = tl.load(step + begin + row, mask=mn, other=0)
            c = tl.load(n + begin + row, mask=mn, other=0).to(REAL)
            y = tl.load(s + begin + row, mask=mn, other=0).to(REAL)
            b, a = weighted(now, inverse, reach, then, c, y, WEIGHT, A, B, EDGE, NARROW, REAL)
            below += b
            above += a
        wanted = mq
        if ASKED:
            wanted = tl.load(asked + begin + rows, mask=mq, other=0) != 0
        scored = wanted[None, :] & (below > 0.0)
        fit = above / tl.where(scored, below, 1.0)
        c = tl.load(n + begin + rows, mask=mq, other=0).to(REAL)[None, :]
        y = tl.load(s + begin + rows, mask=mq, other=0).to(REAL)[None, :]
        yy = tl.load(ss + begin + rows, mask=mq, other=0).to(REAL)[None, :]
        lost += tl.where(scored, yy - 2.0 * fit * y + c * fit * fit, 0.0)
        seen += tl.where(scored, c, 0.0)
    cell = (part * tl.num_programs(0).to(tl.int64) + p) * H + rh
    tl.store(loss + cell, tl.sum(lost, 1), mask=rh < H)
    tl.store(count + cell, tl.sum(seen, 1), mask=rh < H)


def prequential_cv(
    histories: Histories,
    slope: torch.Tensor,
    floor: torch.Tensor,
    kernel: Kernel,
    dtype: str = "float64",
    asked: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scores, (2, P, H); see `kernadv.regression.operators.prequential.prequential_cv`."""
    prompts, grid = len(histories.start), len(slope)
    bh, bq, bn = blocks(grid, dtype)
    programs = prompts * triton.cdiv(grid, bh)
    split = triton.next_power_of_2(min(max(PROGRAMS // max(programs, 1), 1), 16))
    out = torch.empty((2, split, prompts, grid), dtype=getattr(torch, dtype), device=histories.step.device)
    code = fused(kernel)
    if programs:
        with here(histories.step):
            prequential_kernel[(prompts, triton.cdiv(grid, bh), split)](
                *histories, slope, floor, histories.n if asked is None else asked, *out.unbind(), grid,
                WEIGHT=device_code(code.weight), A=code.a, B=code.b, SUPPORT=float(kernel.support),
                CLOSED=kernel.closed, NARROW=histories.step.dtype == torch.int32, REAL=real_type(dtype),
                ASKED=asked is not None, SPLIT=split, BH=bh, BQ=bq, BN=bn, num_warps=1, **OPTIONS,
            )  # fmt: skip
    return out.sum(1)


def blocks(grid: int, dtype: str) -> tuple[int, int, int]:
    """Bandwidths, visits to predict and earlier visits of a tile: one visit to predict a lane."""
    most, bn = (8, 8) if dtype == "float32" else (4, 4)
    return min(triton.next_power_of_2(grid), most), 32, bn
