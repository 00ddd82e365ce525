"""Hat vectors of ragged histories: the normalised weights themselves, in one launch.

A program owns one query and up to 16 bandwidths and reads the visits for the sums (twice for local linear) and
once more to write the weights.  The reference is `kernadv.regression.operators.weights`.
"""

import torch
import triton
import triton.language as tl

from kernadv.kernels import Kernel
from kernadv.moments import Histories, Windows
from kernadv.moments.launch import OPTIONS, device_code, fused, here, real_type
from kernadv.moments.triton_ragged import LEAST, blocks
from kernadv.regression.operators.weights import RANK, UNDERFLOW


@triton.jit
def _weights(
    step, n, begin, row, size, now, inverse, edge,
    WEIGHT: tl.constexpr, A: tl.constexpr, B: tl.constexpr, EDGE: tl.constexpr, REAL: tl.constexpr
):  # fmt: skip
    """Weights of a tile of visits, and minus their lags."""
    m = row < size
    lag = now - tl.load(step + begin + row, mask=m, other=0).to(tl.int64)
    m = m & (lag >= 0)
    lag = tl.where(m, lag, 0)
    c = tl.load(n + begin + row, mask=m, other=0).to(REAL)
    past = lag.to(REAL)
    w = WEIGHT(past[None, :] * inverse[:, None], A, B) * c[None, :]
    if EDGE:
        w = tl.where(lag[None, :] <= edge[:, None], w, 0.0)
    return w, -past


@triton.jit
def weights_kernel(
    start,
    length,
    step,
    n,
    at,
    width,
    reach,
    first,
    out,
    H,
    total,
    width_q,
    width_h,
    reach_q,
    reach_h,
    WEIGHT: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    EDGE: tl.constexpr,
    REAL: tl.constexpr,
    LINE: tl.constexpr,
    RANK: tl.constexpr,
    TINY: tl.constexpr,
    LEAST: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
):
    q = tl.program_id(0).to(tl.int64)
    rh = tl.program_id(1).to(tl.int64) * BH + tl.arange(0, BH)
    mh = rh < H
    begin = tl.load(start + q).to(tl.int64)
    size = tl.load(length + q).to(tl.int64)
    now = tl.load(at + q).to(tl.int64)
    to = tl.load(first + q).to(tl.int64)
    bandwidth = tl.load(width + q * width_q + rh * width_h, mask=mh, other=1.0)
    inverse = 1.0 / tl.maximum(bandwidth.to(REAL), LEAST)
    edge = tl.load(reach + q * reach_q + rh * reach_h, mask=mh, other=0).to(tl.int64)
    s0 = tl.zeros((BH, BN), REAL)
    s1 = tl.zeros((BH, BN), REAL)
    for j in range(0, size, BN):
        w, d = _weights(step, n, begin, j + tl.arange(0, BN), size, now, inverse, edge, WEIGHT, A, B, EDGE, REAL)
        s0 += w
        if LINE:
            s1 += w * d[None, :]
    bottom = tl.sum(s0, 1)
    some = (bottom > TINY) & (bandwidth > 0.0)
    scale = tl.where(some, 1.0 / tl.where(some, bottom, 1.0), float("nan"))
    centre = tl.zeros((BH,), REAL)
    tilt = tl.zeros((BH,), REAL)
    if LINE:  # about the mean, in a pass of its own: nothing cancels
        centre = tl.sum(s1, 1) * scale
        s2 = tl.zeros((BH, BN), REAL)
        for j in range(0, size, BN):
            w, d = _weights(step, n, begin, j + tl.arange(0, BN), size, now, inverse, edge, WEIGHT, A, B, EDGE, REAL)
            e = d[None, :] - centre[:, None]
            s2 += w * e * e
        sxx = tl.sum(s2, 1)
        line = sxx > RANK * (sxx + centre * centre * bottom)
        tilt = tl.where(line, centre / tl.where(line, sxx, 1.0), 0.0)
    for j in range(0, size, BN):
        row = j + tl.arange(0, BN)
        w, d = _weights(step, n, begin, row, size, now, inverse, edge, WEIGHT, A, B, EDGE, REAL)
        hat = w * scale[:, None]
        if LINE:
            hat = w * (scale[:, None] - tilt[:, None] * (d[None, :] - centre[:, None]))
        cell = rh[:, None] * total + to + row[None, :]
        tl.store(out + cell, hat, mask=mh[:, None] & (row < size)[None, :])


def kernel_weights(
    histories: Histories, windows: Windows, kernel: Kernel, degree: int, total: int, dtype: str = "float64"
) -> torch.Tensor:
    """Normalised weights, (H, total); see `kernadv.regression.operators.weights.kernel_weights`."""
    queries, grid = windows.width.shape
    out = torch.empty((grid, total), dtype=getattr(torch, dtype), device=histories.step.device)
    code = fused(kernel)
    first = torch.cumsum(histories.length, 0) - histories.length
    bh, bn, warps = blocks(grid)
    if queries * grid * total:
        with here(histories.step):
            weights_kernel[(queries, triton.cdiv(grid, bh))](
                *histories[:4], *windows, first, out, grid, total, *windows.width.stride(), *windows.reach.stride(),
                WEIGHT=device_code(code.weight), A=code.a, B=code.b, EDGE=kernel.support != float("inf"),
                REAL=real_type(dtype), LINE=degree == 1, RANK=RANK[dtype], TINY=UNDERFLOW[dtype], LEAST=LEAST[dtype],
                BH=bh, BN=bn, num_warps=warps, **OPTIONS,
            )  # fmt: skip
    return out
