"""From the moments of the groups' pasts to the leave-one-out estimate of every row, in one launch.

A program owns 128 rows, which lie by groups: it reads the groups of its rows member by member, adds the others to the
moments of the past at d = 0 and solves.  The reference is `kernadv.device.rows`.
"""

import torch
import triton
import triton.language as tl

from kernadv.moments.launch import OPTIONS, here
from kernadv.smoothers.local_linear import RANK
from kernadv.smoothers.nadaraya_watson import UNDERFLOW

#: Rows of a program.
ROWS = 128
#: Smoothers that the kernel knows, each with its degree.
DEGREES = {"nadaraya_watson": 0, "local_linear": 1}


@triton.jit
def rows_kernel(past, z, begin, end, out, B, LINE: tl.constexpr, RANK: tl.constexpr, TINY: tl.constexpr,
                  ROWS: tl.constexpr):  # fmt: skip
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mine = place < B
    low = tl.load(begin + place, mask=mine, other=0)
    size = tl.load(end + place, mask=mine, other=0) - low
    count = tl.zeros((ROWS,), tl.float64)
    total = tl.zeros((ROWS,), tl.float64)
    square = tl.zeros((ROWS,), tl.float64)
    for k in range(0, tl.max(size, 0)):  # the others are added one by one: the own reward never enters
        other = low + k
        x = tl.load(z + other, mask=mine & (k < size), other=float("nan"))
        there = (other != place) & (x == x)
        x = tl.where(there, x, 0.0)
        count += tl.where(there, 1.0, 0.0)
        total += x
        square += x * x
    plane = tl.full((), 1, tl.int64) * B
    cell = past + low
    s0 = tl.load(cell, mask=mine, other=0.0) + count
    t0 = tl.load(cell + 3 * plane, mask=mine, other=0.0) + total
    q0 = tl.load(cell + 5 * plane, mask=mine, other=0.0) + count
    r0 = tl.load(cell + 8 * plane, mask=mine, other=0.0) + square
    some = s0 > TINY
    safe = tl.where(some, s0, 1.0)
    kish = tl.where(some, s0 * s0 / tl.where(some, q0, 1.0), 0.0)
    mean = t0 / safe
    several = kish > 1.0 + 1e-9
    spread = tl.maximum(r0 / safe - mean * mean, 0.0)
    residual = tl.where(several, spread * kish / tl.where(several, kish - 1.0, 1.0), float("nan"))
    value = tl.where(some, mean, float("nan"))
    n_eff = kish
    variance = residual / tl.where(some, kish, 1.0)
    if LINE:
        s1 = tl.load(cell + plane, mask=mine, other=0.0)
        s2 = tl.load(cell + 2 * plane, mask=mine, other=0.0)
        t1 = tl.load(cell + 4 * plane, mask=mine, other=0.0)
        q1 = tl.load(cell + 6 * plane, mask=mine, other=0.0)
        q2 = tl.load(cell + 7 * plane, mask=mine, other=0.0)
        det = s0 * s2 - s1 * s1
        line = det > RANK * s0 * s2
        det = tl.where(line, det, 1.0)
        norm = (s2 * s2 * q0 - 2.0 * s1 * s2 * q1 + s1 * s1 * q2) / (det * det)
        norm = tl.maximum(tl.where(line, norm, 1.0), 2.2250738585072014e-308)
        value = tl.where(line, (s2 * t0 - s1 * t1) / det, value)
        variance = tl.where(line, residual * norm, variance)
        n_eff = tl.where(line, 1.0 / norm, n_eff)
    own = tl.load(z + place, mask=mine, other=float("nan"))
    scored = own == own
    own = tl.where(scored, own, 0.0)
    one = tl.where(scored, 1.0, 0.0).to(tl.float64)
    cell = out + place
    tl.store(cell, value, mask=mine)
    tl.store(cell + plane, variance, mask=mine)
    tl.store(cell + 2 * plane, n_eff, mask=mine)
    tl.store(cell + 3 * plane, count + one, mask=mine)
    tl.store(cell + 4 * plane, total + own, mask=mine)
    tl.store(cell + 5 * plane, square + own * own, mask=mine)
    tl.store(cell + 6 * plane, one, mask=mine)
    tl.store(cell + 7 * plane, own, mask=mine)


def estimates(
    past: torch.Tensor, z: torch.Tensor, begin: torch.Tensor, end: torch.Tensor, smoother: str
) -> torch.Tensor:
    """Estimates, sums of the groups and own rewards, (8, B); see `kernadv.device.rows.estimates`."""
    out = torch.empty((8, len(z)), dtype=torch.float64, device=z.device)
    with here(z):
        rows_kernel[(triton.cdiv(len(z), ROWS),)](
            past, z, begin, end, out, len(z), LINE=DEGREES[smoother] == 1, RANK=RANK,
            TINY=UNDERFLOW, ROWS=ROWS, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return out
