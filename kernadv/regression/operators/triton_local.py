"""Weighted moments around any queries, without a matrix of queries x points.

A program owns a block of queries, a few bandwidths, a few sums and a share of the points.  A lane is a query and keeps the
weights of a tile of points in registers, so no sum crosses a lane; the sums are in float64.  The shares are added
afterwards.  The reference is `kernadv.regression.operators.local`.
"""

import torch
import triton
import triton.language as tl

from kernadv.kernels import Kernel
from kernadv.moments.launch import OPTIONS, device_code, fused, here, real_type
from kernadv.regression.operators.local import SIDES, Columns, edge

#: Programs that keep a GPU busy; fewer blocks of queries share the points.
PROGRAMS = 4096


@triton.jit
def local_kernel(
    x,
    at,
    channels,
    inverse,
    channel,
    first,
    second,
    out,
    N,
    M,
    D,
    H,
    K,
    OWN,
    SPLIT,
    inverse_h,
    inverse_d,
    inverse_q,
    WEIGHT: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    EDGE: tl.constexpr,
    RADIAL: tl.constexpr,
    SIDE: tl.constexpr,
    LEAVE: tl.constexpr,
    LINE: tl.constexpr,
    REAL: tl.constexpr,
    BK: tl.constexpr,
    BH: tl.constexpr,
    BQ: tl.constexpr,
    BN: tl.constexpr,
):
    one = tl.full((), 1, tl.int64)  # offsets have 64 bits, those within a tile 32
    row = tl.arange(0, BN)
    row_q = tl.arange(0, BQ)
    row_sums = tl.broadcast_to(row[:, None], (BN, BK))
    row_sums_q = tl.broadcast_to(row_q[None, :], (BK, BQ))
    row_all = tl.broadcast_to(row_q[None, None, :], (BK, BH, BQ))
    begin = one * tl.program_id(0) * BQ
    blocks = tl.cdiv(K, BK)
    rh = (tl.program_id(1) // blocks * BH + tl.arange(0, BH)).to(tl.int64)
    rk = tl.program_id(1) % blocks * BK + tl.arange(0, BK)
    share = tl.program_id(2)
    mq, mh, mk = begin + row_q < M, rh < H, rk < K
    v = channels + tl.load(channel + one * rk, mask=mk, other=0) * N
    a = tl.load(first + one * rk, mask=mk, other=0)
    b = tl.load(second + one * rk, mask=mk, other=0)
    scale = inverse + (rh[:, None] * inverse_h + (begin + row_q)[None, :] * inverse_q)
    cells = mh[:, None] & mq[None, :]
    total = tl.zeros((BK, BH, BQ), tl.float64)
    per = tl.cdiv(tl.cdiv(N, BN), SPLIT) * BN
    high = tl.minimum(N, (share + 1) * per)
    for j in range(share * per, high, BN):
        mn = j + row < high
        w = tl.full((BN, BH, BQ), 0.0 if RADIAL else 1.0, REAL)
        for d in range(D):
            then = tl.load(x + (one * d * N + j) + row, mask=mn, other=0.0)
            now = tl.load(at + (one * d * M + begin) + row_q, mask=mq, other=0.0)
            u = tl.abs(then[:, None] - now[None, :])[:, None, :]
            u = u * tl.load(scale + one * d * inverse_d, mask=cells, other=0.0).to(REAL)[None, :, :]
            if RADIAL:
                w += u * u
            else:
                w = w * tl.where(u <= EDGE, WEIGHT(u, A, B), 0.0)
        if RADIAL:
            u = tl.sqrt(w)
            w = tl.where(u <= EDGE, WEIGHT(u, A, B), 0.0)
        if LEAVE:
            w = tl.where(((one * j + row)[:, None] != (begin + OWN + row_q)[None, :])[:, None, :], w, 0.0)
        if SIDE > 0:
            then = tl.load(x + one * j + row, mask=mn, other=0.0)
            now = tl.load(at + begin + row_q, mask=mq, other=0.0)
            lag = then[:, None] - now[None, :]
            if SIDE == 1:
                seen = lag <= 0.0
            else:
                seen = lag < 0.0
            w = tl.where(seen[:, None, :], w, 0.0)
        cell = mn[:, None] & mk[None, :]
        value = tl.load((v + one * j)[None, :] + row_sums, mask=cell, other=0.0)[:, :, None]
        if LINE:
            mine = mk[:, None] & mq[None, :]
            then = tl.load((x + (a * N + j))[None, :] + row_sums, mask=cell, other=0.0)
            value = value * (
                then[:, :, None]
                - tl.load((at + (a * M + begin))[:, None] + row_sums_q, mask=mine, other=0.0)[None, :, :]
            )
            then = tl.load((x + (b * N + j))[None, :] + row_sums, mask=cell, other=0.0)
            value = value * (
                then[:, :, None]
                - tl.load((at + (b * M + begin))[:, None] + row_sums_q, mask=mine, other=0.0)[None, :, :]
            )
        total += tl.sum(w[:, None, :, :] * value[:, :, None, :], 0).to(tl.float64)
    plane = ((one * share * K + rk)[:, None, None] * H + rh[None, :, None]) * M
    tl.store(out + (plane + begin) + row_all, total, mask=mk[:, None, None] & cells[None, :, :])


def local_moments(
    x: torch.Tensor,
    channels: torch.Tensor,
    at: torch.Tensor,
    inverse: torch.Tensor,
    kernel: Kernel,
    which: Columns,
    *,
    radial: bool = False,
    side: str = "both",
    first: int = -1,
) -> torch.Tensor:
    """Sums, (K, H, M) float64; see `kernadv.regression.operators.local.local_moments`."""
    (dimensions, total), many, grid, sums = x.shape, at.shape[1], len(inverse), len(which.channel)
    if not total * many * grid:
        return torch.zeros((sums, grid, many), dtype=torch.float64, device=x.device)
    code, dtype = fused(kernel), str(x.dtype)[6:]
    line = sums > len(channels)
    bk, bh, bq, bn = tile(sums, grid, dtype)
    programs = triton.cdiv(many, bq) * triton.cdiv(grid, bh) * triton.cdiv(sums, bk)
    split = max(min(PROGRAMS // programs, triton.cdiv(total, 8 * bn), 64), 1)
    out = torch.empty((split, sums, grid, many), dtype=torch.float64, device=x.device)
    if line:  # a factor of 1 is a lag in one more dimension
        x, at = torch.cat([x, torch.ones_like(x[:1])]), torch.cat([at, torch.zeros_like(at[:1])])
    with here(x):
        local_kernel[(triton.cdiv(many, bq), triton.cdiv(grid, bh) * triton.cdiv(sums, bk), split)](
            x, at, channels, inverse, *which, out, total, many, dimensions, grid, sums, first, split,
            inverse.stride(0), inverse.stride(1), inverse.stride(2) if inverse.shape[2] > 1 else 0,
            WEIGHT=device_code(code.weight), A=code.a, B=code.b, EDGE=edge(kernel, x.dtype), RADIAL=radial,
            SIDE=SIDES.index(side), LEAVE=first >= 0, LINE=line, REAL=real_type(dtype), BK=bk, BH=bh, BQ=bq, BN=bn,
            num_warps=1, **OPTIONS,
        )  # fmt: skip
    return out.sum(0)


def tile(sums: int, grid: int, dtype: str) -> tuple[int, int, int, int]:
    """Sums, bandwidths, queries and points of a tile: a query a lane, whose weights and sums are in its registers."""
    most = 8 if dtype == "float32" else 4
    return min(triton.next_power_of_2(sums), 4), min(triton.next_power_of_2(grid), most), 32, 4
