"""Prequential scores of bandwidths over whole histories, without temporaries.

A program owns one prompt, one bandwidth and every SPLIT-th block of its visits; it predicts a block of visits from all
earlier ones, 32 at a time, and keeps only the two sums.  The reference is `kernadv.regression.operators.prequential`.
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
def prequential_kernel(
    start,
    length,
    step,
    n,
    s,
    ss,
    slope,
    floor,
    loss,
    count,
    H,
    SUPPORT,
    WEIGHT: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    EDGE: tl.constexpr,
    CLOSED: tl.constexpr,
    NARROW: tl.constexpr,
    REAL: tl.constexpr,
    SPLIT: tl.constexpr,
    BQ: tl.constexpr,
    BN: tl.constexpr,
):
    p = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    begin = tl.load(start + p).to(tl.int64)
    size = tl.load(length + p).to(tl.int64)
    grow = tl.load(slope + h)
    least = tl.load(floor + h)
    lost = tl.zeros((BQ,), REAL)
    seen = tl.zeros((BQ,), REAL)
    for first in range(part * BQ, size, SPLIT * BQ):
        rq = first + tl.arange(0, BQ)
        mq = rq < size
        now = tl.load(step + begin + rq, mask=mq, other=0).to(tl.int64)
        width = tl.maximum(now.to(tl.float64) * grow, least)
        inverse = (1.0 / width).to(REAL)
        if EDGE:
            edge = width * SUPPORT
            bounded = edge < 4611686018427387904.0
            edge = tl.where(bounded, edge, 0.0)
            whole = tl.floor(edge + 0.5)
            exact = tl.abs(edge - whole) <= 1e-9 * tl.maximum(whole, 1.0)
            inner = whole
            if not CLOSED:
                inner = whole - 1.0
            reach = tl.where(exact, inner, tl.floor(edge)).to(tl.int64)
            reach = tl.where(bounded, reach, 4611686018427387904)
            if NARROW:
                reach = tl.minimum(reach, 2147483647).to(tl.int32)
        below = tl.zeros((BQ, BN), REAL)
        above = tl.zeros((BQ, BN), REAL)
        for j in range(0, tl.minimum(size, first + BQ), BN):
            rn = j + tl.arange(0, BN)
            mn = rn < size
            then = tl.load(step + begin + rn, mask=mn, other=0).to(tl.int64)
            c = tl.load(n + begin + rn, mask=mn, other=0).to(REAL)
            y = tl.load(s + begin + rn, mask=mn, other=0).to(REAL)
            if NARROW:
                lag = now.to(tl.int32)[:, None] - then.to(tl.int32)[None, :]
            else:
                lag = now[:, None] - then[None, :]
            inside = (lag > 0) & mn[None, :]
            if EDGE:
                inside = inside & (lag <= reach[:, None])
            u = tl.where(inside, lag, 0).to(REAL) * inverse[:, None]
            w = tl.where(inside, WEIGHT(u, A, B), 0.0)
            below += w * c[None, :]
            above += w * y[None, :]
        bottom = tl.sum(below, 1)
        scored = mq & (bottom > 0.0)
        fit = tl.sum(above, 1) / tl.where(scored, bottom, 1.0)
        c = tl.load(n + begin + rq, mask=mq, other=0).to(REAL)
        y = tl.load(s + begin + rq, mask=mq, other=0).to(REAL)
        yy = tl.load(ss + begin + rq, mask=mq, other=0).to(REAL)
        lost += tl.where(scored, yy - 2.0 * fit * y + c * fit * fit, 0.0)
        seen += tl.where(scored, c, 0.0)
    cell = (part * tl.num_programs(0).to(tl.int64) + p) * H + h
    tl.store(loss + cell, tl.sum(lost, 0))
    tl.store(count + cell, tl.sum(seen, 0))


def prequential_cv(
    histories: Histories, slope: torch.Tensor, floor: torch.Tensor, kernel: Kernel, dtype: str = "float64"
) -> torch.Tensor:
    """Scores, (2, P, H); see `kernadv.regression.operators.prequential.prequential_cv`."""
    prompts, grid = len(histories.start), len(slope)
    split = min(max(PROGRAMS // max(prompts * grid, 1), 1), 16)
    split = triton.next_power_of_2(split)
    out = torch.empty((2, split, prompts, grid), dtype=getattr(torch, dtype), device=histories.step.device)
    code = fused(kernel)
    if prompts * grid:
        with here(histories.step):
            prequential_kernel[(prompts, grid, split)](
                *histories, slope, floor, out[0], out[1], grid, min(kernel.support, 1e300),
                WEIGHT=device_code(code.weight), A=code.a, B=code.b,
                EDGE=kernel.support != float("inf"), CLOSED=kernel.closed, NARROW=histories.step.dtype == torch.int32,
                REAL=real_type(dtype), SPLIT=split, BQ=32, BN=32, num_warps=4, **OPTIONS,
            )  # fmt: skip
    return out.sum(1)
