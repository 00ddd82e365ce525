"""Taking new ids into the sorted table of a device's history, in one launch.

A program owns 128 places of the table, which it moves up by the number of smaller new ids (a binary search), or 128 rows of
the batch, whose new ids it puts between them.  The reference is `kernadv.device.table`.
"""

import torch
import triton
import triton.language as tl

from kernadv.device.table import Found
from kernadv.moments.launch import OPTIONS, here

#: Places or rows of a program.
BLOCK = 128


@triton.jit
def merge_kernel(
    keys,
    rows,
    used,
    ids,
    row,
    hit,
    place,
    fresh,
    rank,
    new_keys,
    new_rows,
    own,
    C,
    B,
    HALVINGS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    block = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(C, BLOCK)
    held = tl.load(used)
    if block < blocks:
        i = block * BLOCK + tl.arange(0, BLOCK)
        mine = i < C
        key = tl.load(keys + i, mask=mine, other=0)
        low = tl.zeros((BLOCK,), tl.int64)
        high = tl.zeros((BLOCK,), tl.int64) + B
        for _ in range(0, HALVINGS):
            middle = (low + high) // 2
            wide = low < high
            less = tl.load(ids + middle, mask=wide, other=0) < key
            low = tl.where(wide & less, middle + 1, low)
            high = tl.where(wide & (less == 0), middle, high)
        low = tl.where(i < held, low, B)  # free places move behind everything, also behind an id of their value
        to = i + tl.load(rank + low - 1, mask=mine & (low > 0), other=0)
        inside = mine & (to < C)
        tl.store(new_keys + to, key, mask=inside)
        tl.store(new_rows + to, tl.load(rows + i, mask=mine, other=0), mask=inside)
    else:
        j = (block - blocks) * BLOCK + tl.arange(0, BLOCK)
        mine = j < B
        new = tl.load(fresh + j, mask=mine, other=0).to(tl.int64)
        before = tl.load(rank + j, mask=mine, other=0) - new
        there = tl.load(hit + j, mask=mine, other=0)
        tl.store(own + j, tl.where(there, tl.load(row + j, mask=mine, other=0), held + before), mask=mine)
        to = tl.load(place + j, mask=mine, other=0) + before
        adds = mine & (new != 0)
        tl.store(new_keys + to, tl.load(ids + j, mask=mine, other=0), mask=adds)
        tl.store(new_rows + to, held + before, mask=adds)


def enter(
    keys: torch.Tensor, rows: torch.Tensor, used: torch.Tensor, ids: torch.Tensor, found: Found, wanted: torch.Tensor
) -> torch.Tensor:
    """Take in the new ids, in place; see `kernadv.device.table.enter`."""
    fresh = wanted & ~found.hit
    rank = torch.cumsum(fresh, 0)
    own, new_keys, new_rows = torch.empty_like(ids), torch.empty_like(keys), torch.empty_like(rows)
    blocks = triton.cdiv(len(keys), BLOCK) + triton.cdiv(len(ids), BLOCK)
    with here(ids):
        merge_kernel[(blocks,)](
            keys, rows, used, ids, *found, fresh, rank, new_keys, new_rows, own, len(keys), len(ids),
            HALVINGS=len(ids).bit_length(), BLOCK=BLOCK, num_warps=4, **OPTIONS,
        )  # fmt: skip
    keys.copy_(new_keys)
    rows.copy_(new_rows)
    used += rank[-1]
    return own
