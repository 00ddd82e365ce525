"""Sums over the other rows of each row's group, in one launch.

A program owns 128 rows, which lie by groups: it reads the groups of its rows member by member, all columns at once.  The
reference is `kernadv.device.groups.sum_of_groupmates`.
"""

import torch
import triton
import triton.language as tl

from kernadv.moments.launch import OPTIONS, here

#: Rows of a program.
ROWS = 128


@triton.jit
def others_kernel(parts, begin, end, out, B, K, COLUMNS: tl.constexpr, ROWS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mine = place < B
    low = tl.load(begin + place, mask=mine, other=0)
    size = tl.load(end + place, mask=mine, other=0) - low
    column = tl.arange(0, COLUMNS)
    plane = column.to(tl.int64) * B
    total = tl.zeros((COLUMNS, ROWS), tl.float64)
    for k in range(0, tl.max(size, 0)):  # the others are added one by one: the own part never enters
        other = low + k
        there = mine & (k < size) & (other != place)
        total += tl.load(
            parts + plane[:, None] + other[None, :], mask=(column < K)[:, None] & there[None, :], other=0.0
        )
    tl.store(out + plane[:, None] + place[None, :], total, mask=(column < K)[:, None] & mine[None, :])


def sum_of_groupmates(parts: torch.Tensor, begin: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """As `kernadv.device.groups.sum_of_groupmates`."""
    columns, rows = parts.shape
    out = torch.empty_like(parts)
    with here(parts):
        others_kernel[(triton.cdiv(rows, ROWS),)](
            parts, begin, end, out, rows, columns, COLUMNS=triton.next_power_of_2(columns), ROWS=ROWS, num_warps=4,
            **OPTIONS,
        )  # fmt: skip
    return out
