"""Smoothing over features, time and prompts without a matrix of queries x points.

A program owns a block of queries and a share of the points.  The squared distances of a tile come from matrix products
on the tensor cores; kernels without an edge are kept as log2 weights under a running maximum, so that nothing
underflows far from the points.  The shares are merged afterwards.  The reference is `kernadv.regression.operators.flash`.
"""

import torch
import triton
import triton.language as tl
from torch.nn.functional import pad
from triton.tools.tensor_descriptor import TensorDescriptor

from kernadv._errors import check_choice
from kernadv.kernels import Kernel
from kernadv.moments.launch import INTERPRETED, OPTIONS, device_code, fused, here
from kernadv.regression.operators.flash import PRECISIONS, Points, Windows

#: log2 weight of "no point yet": finite, so that differences are not NaN.
NOTHING = -1e30


@triton.jit
def piece(part, row, k, size, D, ROWS: tl.constexpr, BD: tl.constexpr, DESCRIPTORS: tl.constexpr):
    """Features k to k + BD of ROWS rows, 0 beyond the last row."""
    if DESCRIPTORS:
        got = part.load([row, k])
    else:
        r = row + tl.arange(0, ROWS)
        cell = r[:, None].to(tl.int64) * D + (k + tl.arange(0, BD))[None, :]
        got = tl.load(part + cell, mask=(r < size)[:, None], other=0.0)
    return got


@triton.jit
def flash_kernel(
    q,
    x,
    q_low,
    x_low,
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
    SUPPORT: tl.constexpr,
    CLOSED: tl.constexpr,
    TIME: tl.constexpr,
    TIME_A: tl.constexpr,
    TIME_B: tl.constexpr,
    TIME_LOG: tl.constexpr,
    TIMED: tl.constexpr,
    LINE: tl.constexpr,
    SAME: tl.constexpr,
    OWN: tl.constexpr,
    LOW: tl.constexpr,
    WIDEN: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    BQ: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    row = tl.program_id(0) * BQ
    rq = row + tl.arange(0, BQ)
    share = tl.program_id(1)
    mq = rq < Q
    norm = tl.load(q_norm + rq, mask=mq, other=0.0)
    if TIMED:
        now = tl.load(q_step + rq, mask=mq, other=0)
        scale = 1.0 / tl.maximum(tl.load(width + rq, mask=mq, other=1.0), 1e-20)  # no log2 weight falls below NOTHING
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
    per = tl.cdiv(tl.cdiv(N, BN), SPLIT) * BN
    low = share * per
    high = tl.minimum(N, low + per)
    for first in range(low, high, BN):
        rn = first + tl.arange(0, BN)
        mn = rn < high
        dot = tl.zeros((BQ, BN), tl.float32)
        for k in range(0, D, BD):
            a = piece(q, row, k, Q, D, BQ, BD, DESCRIPTORS)
            b = piece(x, first, k, N, D, BN, BD, DESCRIPTORS)
            if LOW:
                c = piece(q_low, row, k, Q, D, BQ, BD, DESCRIPTORS)
                d = piece(x_low, first, k, N, D, BN, BD, DESCRIPTORS)
            if WIDEN:  # the interpreter multiplies the bit patterns of bfloat16
                a = a.to(tl.float32)
                b = b.to(tl.float32)
                if LOW:
                    c = c.to(tl.float32)
                    d = d.to(tl.float32)
            if LOW:
                dot = tl.dot(c, b.T, dot, input_precision="ieee")
                dot = tl.dot(a, d.T, dot, input_precision="ieee")
            dot = tl.dot(a, b.T, dot, input_precision="ieee")
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
        w = tl.full((BQ, BN), 1.0, tl.float32)
        log = tl.zeros((BQ, BN), tl.float32)
        if SAME:
            w = tl.where(prompt[:, None] == tl.load(x_prompt + rn, mask=mn, other=0)[None, :], w, other)
        if FAR_LOG:
            log += FAR(far, FAR_A, FAR_B)
        else:
            if float("inf") != SUPPORT:
                if CLOSED:
                    inside = inside & (far <= SUPPORT)
                else:
                    inside = inside & (far < SUPPORT)
            w = tl.where(inside, w * FAR(far, FAR_A, FAR_B), 0.0)
        if TIMED:
            if TIME_LOG:
                log += TIME(wide, TIME_A, TIME_B)
            else:
                w = w * TIME(wide, TIME_A, TIME_B)
        if FAR_LOG or (TIMED and TIME_LOG):
            log = tl.where(inside & (w > 0.0), log, float("-inf"))
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
        Arithmetic of the matrix product.  Features are centred first, and the norms are those of the features as they are
        multiplied, so that the rounding moves points but makes no distance wrong.
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
    far, time = fused(feature_kernel), fused(time_kernel)
    timed, own, same = points.step is not None, points.id is not None, points.prompt is not None
    with here(points.features):
        descriptors = precision != "ieee" and hopper()
    bq, bn, bd, warps, stages = (16, 32, 32, 4, 1) if INTERPRETED else tile(precision, timed, descriptors)
    columns = triton.cdiv(points.features.shape[1], bd) * bd
    wider = (0, columns - points.features.shape[1])
    exact = [pad(part.features.float() - centre, wider).contiguous() for part in (queries, points)]
    kind = torch.float32 if precision == "ieee" else torch.bfloat16
    high = [part.to(kind) for part in exact]
    low = high
    norms = [part.float().square().sum(1) for part in high]
    if precision == "bf16x3":
        low = [(whole - part.float()).to(kind) for whole, part in zip(exact, high, strict=True)]
        cross = [(part.float() * rest.float()).sum(1) for part, rest in zip(high, low, strict=True)]
        norms = [norm + 2.0 * both for norm, both in zip(norms, cross, strict=True)]  # as the kernel multiplies
    parts = high + low
    if descriptors:
        parts = [TensorDescriptor.from_tensor(p, [rows, bd]) for p, rows in zip(parts, 2 * [bq, bn], strict=True)]
    share = split or shares(many, total, bq, bn, device)

    def pair(field: str) -> list[torch.Tensor]:
        """A field of the queries and of the points in 32 bits; any tensor in place of None."""
        parts = [getattr(part, field) for part in (queries, points)]
        return [norms[0] if part is None else part.int() for part in parts]

    width = windows.width.float() if timed else norms[0]
    reach = windows.reach.clamp(max=2**31 - 1).int() if timed else norms[0]
    partial = torch.empty((share, 10, many), dtype=torch.float32, device=device)
    with here(points.features):
        flash_kernel[(triton.cdiv(many, bq), share)](
            *parts, *norms, *pair("step"), *pair("prompt"), *pair("id"), response.float().contiguous(), width, reach,
            partial, many, total, columns, min(1.0 / windows.bandwidth, 1e37), float(windows.other_prompt), share,
            FAR=device_code(far.log2 or far.weight), FAR_A=far.a, FAR_B=far.b, FAR_LOG=far.log2 is not None,
            SUPPORT=float(feature_kernel.support), CLOSED=feature_kernel.closed,
            TIME=device_code(time.log2 or time.weight), TIME_A=time.a, TIME_B=time.b, TIME_LOG=time.log2 is not None,
            TIMED=timed, LINE=timed and degree == 1, SAME=same and windows.other_prompt != 1.0, OWN=own,
            LOW=precision == "bf16x3", WIDEN=INTERPRETED and precision != "ieee",
            DESCRIPTORS=descriptors, BQ=bq, BN=bn, BD=bd, num_warps=warps, num_stages=stages, **OPTIONS,
        )  # fmt: skip
    return merge(partial)


def hopper() -> bool:
    """Whether tiles come by tensor descriptors: on a Hopper GPU; in the interpreter as well, so that they are tested."""
    if INTERPRETED:
        return True
    target = triton.runtime.driver.active.get_current_target()
    return target.backend == "cuda" and target.arch == 90


def tile(precision: str, timed: bool, descriptors: bool) -> tuple[int, int, int, int, int]:
    """Queries, points and features of a tile, warps and pipeline stages."""
    if precision == "ieee":
        return 16, 64, 16, 4, 2
    if descriptors:
        return 128, 64 if timed else 256, 64, 8, 2
    return {"bf16x3": (64, 64, 32, 4, 3), "bf16": (64, 64, 64, 8, 3)}[precision]


def shares(queries: int, points: int, bq: int, bn: int, device: torch.device) -> int:
    """Shares of the points: every multiprocessor gets several programs, and no last wave of a few."""
    wanted = 4 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8
    return max(min(wanted // triton.cdiv(queries, bq), triton.cdiv(points, bn), 64), 1)


def merge(partial: torch.Tensor) -> torch.Tensor:
    """Bring the shares to one unit and add them.  (share, 10, Q) -> (10, Q)"""
    top = partial[:, 9]
    unit = top.amax(0)
    factor = torch.exp2(top - unit)[:, None]
    square = torch.zeros(9, dtype=torch.bool, device=partial.device)
    square[5:8] = True
    sums = (partial[:, :9] * torch.where(square[:, None], factor * factor, factor)).sum(0)
    return torch.cat([sums, torch.where(unit > NOTHING, unit, -torch.inf)[None]])
