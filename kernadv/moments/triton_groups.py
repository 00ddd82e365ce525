"""Sums over the other rows of each row's group, in one launch.

A program owns 128 rows, which lie by groups; it reads the groups of its rows member by member.  The reference is
`kernadv.moments.torch_groups`.
"""

import torch
import triton
import triton.language as tl

from kernadv.moments._launch import OPTIONS, here

#: Rows of a program.
ROWS = 128


@triton.jit
def others_kernel(z, begin, end, out, B, ROWS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mine = place < B
    low = tl.load(begin + place, mask=mine, other=0)
    size = tl.load(end + place, mask=mine, other=0) - low
    count = tl.zeros((ROWS,), tl.float64)
    total = tl.zeros((ROWS,), tl.float64)
    square = tl.zeros((ROWS,), tl.float64)
    for k in range(0, tl.max(size, 0)):
        other = low + k
        x = tl.load(z + other, mask=mine & (k < size), other=float("nan"))
        there = (other != place) & (x == x)
        x = tl.where(there, x, 0.0)
        count += tl.where(there, 1.0, 0.0)
        total += x
        square += x * x
    plane = tl.full((), 1, tl.int64) * B
    tl.store(out + place, count, mask=mine)
    tl.store(out + plane + place, total, mask=mine)
    tl.store(out + 2 * plane + place, square, mask=mine)


def sum_of_others(z: torch.Tensor, begin: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Count, sum and sum of squares, (3, B); see `kernadv.moments.torch_groups.sum_of_others`."""
    out = torch.empty((3, len(z)), dtype=torch.float64, device=z.device)
    if len(z):
        with here(z):
            others_kernel[(triton.cdiv(len(z), ROWS),)](z, begin, end, out, len(z), ROWS=ROWS, num_warps=4, **OPTIONS)
    return out
