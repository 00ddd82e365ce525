"""Smoothing over features, time and prompts without a matrix of queries x points.

A program owns a block of queries and a share of the points.  The squared distances of a tile come from one matrix
product on the tensor cores; kernels without an edge are kept as log2 weights under a running maximum, so that nothing
underflows far from the points.  The shares are merged afterwards.  The reference is `kernadv.regression.operators.flash`.
"""

import torch
import triton
import triton.language as tl

from kernadv._errors import check_choice
from kernadv.kernels import Kernel
from kernadv.moments.launch import INTERPRETED, OPTIONS, device_code, fused, here
from kernadv.regression.operators.flash import PRECISIONS, Points, Windows

#: log2 weight of "no point yet": finite, so that differences are not NaN.
NOTHING = -1e30


@triton.jit
def flash_kernel(
    q,
    x,
    q_norm,
    x_norm,
    q_step,
    x_step,
    q_prompt,
    x_prompt,
    q_id,
    x_id,
    y,
    width,
    reach,
    out,
    Q,
    N,
    D,
    inverse,
    other,
    SPLIT,
    FAR: tl.constexpr,
    FAR_A: tl.constexpr,
    FAR_B: tl.constexpr,
    FAR_LOG: tl.constexpr,
    FAR_EDGE: tl.constexpr,
    FAR_CLOSED: tl.constexpr,
    TIME: tl.constexpr,
    TIME_A: tl.constexpr,
    TIME_B: tl.constexpr,
    TIME_LOG: tl.constexpr,
    TIMED: tl.constexpr,
    LINE: tl.constexpr,
    SAME: tl.constexpr,
    OWN: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    EVEN: tl.constexpr,
    BQ: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    rq = tl.program_id(0) * BQ + tl.arange(0, BQ)
    share = tl.program_id(1)
    mq = rq < Q
    norm = tl.load(q_norm + rq, mask=mq, other=0.0)
    if TIMED:
        now = tl.load(q_step + rq, mask=mq, other=0)
        scale = 1.0 / tl.load(width + rq, mask=mq, other=1.0)
        edge = tl.load(reach + rq, mask=mq, other=-1)
    if OWN:
        own = tl.load(q_id + rq, mask=mq, other=-1)
    if SAME:
        prompt = tl.load(q_prompt + rq, mask=mq, other=0)
    top = tl.full((BQ,), -1e30, tl.float32)
    s0 = tl.zeros((BQ,), tl.float32)
    s1 = tl.zeros((BQ,), tl.float32)
    s2 = tl.zeros((BQ,), tl.float32)
    t0 = tl.zeros((BQ,), tl.float32)
    t1 = tl.zeros((BQ,), tl.float32)
    q0 = tl.zeros((BQ,), tl.float32)
    q1 = tl.zeros((BQ,), tl.float32)
    q2 = tl.zeros((BQ,), tl.float32)
    r0 = tl.zeros((BQ,), tl.float32)
    rd = tl.arange(0, BD)
    q_row = q + rq[:, None].to(tl.int64) * D
    per = tl.cdiv(tl.cdiv(N, BN), SPLIT) * BN
    low = share * per
    high = tl.minimum(N, low + per)
    for first in range(low, high, BN):
        rn = first + tl.arange(0, BN)
        mn = rn < high
        x_row = x + rn[None, :].to(tl.int64) * D
        dot = tl.zeros((BQ, BN), tl.float32)
        for k in range(0, D, BD):
            if EVEN:
                a = tl.load(q_row + (k + rd)[None, :], mask=mq[:, None], other=0.0)
                b = tl.load(x_row + (k + rd)[:, None], mask=mn[None, :], other=0.0)
            else:
                a = tl.load(q_row + (k + rd)[None, :], mask=mq[:, None] & ((k + rd) < D)[None, :], other=0.0)
                b = tl.load(x_row + (k + rd)[:, None], mask=mn[None, :] & ((k + rd) < D)[:, None], other=0.0)
            if WIDEN:  # the interpreter multiplies the bit patterns of bfloat16
                a = a.to(tl.float32)
                b = b.to(tl.float32)
            dot = tl.dot(a, b, dot, input_precision=PRECISION)
        square = norm[:, None] + tl.load(x_norm + rn, mask=mn, other=0.0)[None, :] - 2.0 * dot
        far = tl.sqrt(tl.maximum(square, 0.0)) * inverse
        inside = mn[None, :]
        if TIMED:
            lag = now[:, None] - tl.load(x_step + rn, mask=mn, other=0)[None, :]
            inside = inside & (lag >= 0) & (lag <= edge[:, None])
            past = tl.where(inside, lag, 0).to(tl.float32)
            wide = past * scale[:, None]
        if OWN:
            others = own[:, None] != tl.load(x_id + rn, mask=mn, other=-1)[None, :]
            inside = inside & (others | (own < 0)[:, None])
        w = tl.where(inside, 1.0, 0.0) + tl.zeros((BQ, BN), tl.float32)
        log = tl.zeros((BQ, BN), tl.float32)
        if SAME:
            w = w * tl.where(prompt[:, None] == tl.load(x_prompt + rn, mask=mn, other=0)[None, :], 1.0, other)
        if FAR_LOG:
            log += FAR(far, FAR_A, FAR_B)
        else:
            w = w * FAR(far, FAR_A, FAR_B)
            if FAR_EDGE:
                if FAR_CLOSED:
                    w = tl.where(far <= 1.0, w, 0.0)
                else:
                    w = tl.where(far < 1.0, w, 0.0)
        if TIMED:
            if TIME_LOG:
                log += TIME(wide, TIME_A, TIME_B)
            else:
                w = w * tl.where(inside, TIME(wide, TIME_A, TIME_B), 0.0)
        if FAR_LOG or (TIMED and TIME_LOG):
            log = tl.where(w > 0.0, log, -1e30)
            higher = tl.maximum(top, tl.max(log, 1))
            shrink = tl.exp2(top - higher)
            top = higher
            w = w * tl.exp2(log - higher[:, None])
            s0 = s0 * shrink
            s1 = s1 * shrink
            s2 = s2 * shrink
            t0 = t0 * shrink
            t1 = t1 * shrink
            q0 = q0 * shrink * shrink
            q1 = q1 * shrink * shrink
            q2 = q2 * shrink * shrink
            r0 = r0 * shrink
        z = tl.load(y + rn, mask=mn, other=0.0)
        wz = w * z[None, :]
        s0 += tl.sum(w, 1)
        t0 += tl.sum(wz, 1)
        q0 += tl.sum(w * w, 1)
        r0 += tl.sum(wz * z[None, :], 1)
        if LINE:
            wd = w * past
            s1 -= tl.sum(wd, 1)
            s2 += tl.sum(wd * past, 1)
            t1 -= tl.sum(wz * past, 1)
            q1 -= tl.sum(w * wd, 1)
            q2 += tl.sum(wd * wd, 1)
    if not (FAR_LOG or (TIMED and TIME_LOG)):
        top = tl.where(s0 > 0.0, 0.0, top)
    cell = out + share.to(tl.int64) * 10 * Q + rq
    plane = tl.full((), 1, tl.int64) * Q
    tl.store(cell, s0, mask=mq)
    tl.store(cell + plane, s1, mask=mq)
    tl.store(cell + 2 * plane, s2, mask=mq)
    tl.store(cell + 3 * plane, t0, mask=mq)
    tl.store(cell + 4 * plane, t1, mask=mq)
    tl.store(cell + 5 * plane, q0, mask=mq)
    tl.store(cell + 6 * plane, q1, mask=mq)
    tl.store(cell + 7 * plane, q2, mask=mq)
    tl.store(cell + 8 * plane, r0, mask=mq)
    tl.store(cell + 9 * plane, top, mask=mq)


def flash_moments(
    queries: Points,
    points: Points,
    response: torch.Tensor,
    windows: Windows,
    feature_kernel: Kernel,
    time_kernel: Kernel,
    precision: str = "bf16x3",
    degree: int = 1,
    split: int | None = None,
) -> torch.Tensor:
    """Moments, (10, Q) float32; see `kernadv.regression.operators.flash.flash_moments`.

    Parameters
    ----------
    precision : {"ieee", "bf16x3", "bf16"}
        Arithmetic of the matrix product.  Features are centred first, and the norms are those of the rounded features, so
        that the rounding moves points but makes no distance wrong.
    degree : {0, 1}
        0 leaves the moments that only a line needs (s1, s2, t1, q1, q2) at 0.
    split : int, optional
        Shares of the points; default: enough to fill the device.
    """
    check_choice(precision, "precision", PRECISIONS)
    many, total = len(queries.features), len(points.features)
    device = points.features.device
    if not many or not total:
        out = torch.zeros((10, many), device=device)
        out[9] = -torch.inf
        return out
    centre = points.features.float().mean(0)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    q, x = ((part.features.float() - centre).to(kind).contiguous() for part in (queries, points))
    far, time = fused(feature_kernel), fused(time_kernel)
    bq, bn, bd, warps, stages = tile(precision)
    share = split or shares(many, total, bq, bn, device)
    norms = q.float().square().sum(1), x.float().square().sum(1)
    timed, own, same = points.step is not None, points.id is not None, points.prompt is not None

    def pair(field: str) -> list[torch.Tensor]:
        """A field of the queries and of the points in 32 bits; any tensor in place of None."""
        parts = [getattr(part, field) for part in (queries, points)]
        return [norms[0] if part is None else part.int() for part in parts]

    width = windows.width.float() if timed else norms[0]
    reach = windows.reach.clamp(max=2**31 - 1).int() if timed else norms[0]
    partial = torch.empty((share, 10, many), dtype=torch.float32, device=device)
    with here(x):
        flash_kernel[(triton.cdiv(many, bq), share)](
            q, x, *norms, *pair("step"), *pair("prompt"), *pair("id"), response.float().contiguous(), width, reach,
            partial, many, total, q.shape[1], 1.0 / windows.bandwidth, float(windows.other_prompt), share,
            FAR=device_code(far.log2 or far.weight), FAR_A=far.a, FAR_B=far.b, FAR_LOG=far.log2 is not None,
            FAR_EDGE=feature_kernel.support != float("inf"), FAR_CLOSED=feature_kernel.closed,
            TIME=device_code(time.log2 or time.weight), TIME_A=time.a, TIME_B=time.b, TIME_LOG=time.log2 is not None,
            TIMED=timed, LINE=timed and degree == 1, SAME=same and windows.other_prompt != 1.0, OWN=own,
            PRECISION="bf16x3" if precision == "bf16x3" and not INTERPRETED else "ieee",
            WIDEN=INTERPRETED and kind == torch.bfloat16, EVEN=q.shape[1] % bd == 0,
            BQ=bq, BN=bn, BD=bd, num_warps=warps, num_stages=stages, **OPTIONS,
        )  # fmt: skip
    return merge(partial)


def tile(precision: str) -> tuple[int, int, int, int, int]:
    """Queries, points and features of a tile, warps and pipeline stages."""
    if INTERPRETED:
        return 16, 32, 32, 4, 1
    return {"ieee": (16, 64, 16, 4, 2), "bf16x3": (64, 64, 32, 4, 2), "bf16": (64, 64, 64, 8, 3)}[precision]


def shares(queries: int, points: int, bq: int, bn: int, device: torch.device) -> int:
    """Shares of the points, so that every multiprocessor has several programs."""
    wanted = 4 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8
    return max(min(triton.cdiv(wanted, triton.cdiv(queries, bq)), triton.cdiv(points, bn), 64), 1)


def merge(partial: torch.Tensor) -> torch.Tensor:
    """Bring the shares to one unit and add them.  (share, 10, Q) -> (10, Q)"""
    top = partial[:, 9]
    unit = top.amax(0)
    factor = torch.exp2(top - unit)[:, None]
    square = torch.zeros(9, dtype=torch.bool, device=partial.device)
    square[5:8] = True
    sums = (partial[:, :9] * torch.where(square[:, None], factor * factor, factor)).sum(0)
    return torch.cat([sums, torch.where(unit > NOTHING, unit, -torch.inf)[None]])
