"""Appending to the visits of a history on a device, in one launch.

A program owns one row of the batch and, where a visit is due, the places of its prompt, which no other program touches.  The
reference is `kernadv.device.visits`.
"""

import torch
import triton
import triton.language as tl

from kernadv.device.visits import Visits
from kernadv.moments.launch import OPTIONS, here


@triton.jit(do_not_specialize=["at"])
def put_kernel(step, n, first, second, size, newest, rows, now, sums, lost, B, at, room, BR: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    gone = tl.full((), 4611686018427387904, tl.int64)
    if tl.load(now + i):
        p = tl.load(rows + i)
        used = tl.load(size + p)
        r = tl.arange(0, BR)
        there = r < used
        held = tl.load(step + p * room + r, mask=there, other=4611686018427387904)
        place = tl.max(tl.where(there & (held == at), r, -1), 0)
        oldest = tl.min(held, 0)
        last = tl.min(tl.where(held == oldest, r, BR), 0)
        known = place >= 0
        full = used >= room
        slot = tl.where(known, place, tl.where(full, last, used))
        kept = known | (used < room) | (oldest <= at)
        cell = p * room + slot
        plane = tl.full((), 1, tl.int64) * B
        count = tl.load(sums + i).to(tl.int32)
        one = tl.load(sums + plane + i)
        two = tl.load(sums + 2 * plane + i)
        tl.store(n + cell, tl.load(n + cell, mask=known, other=0) + count, mask=kept)
        tl.store(first + cell, tl.load(first + cell, mask=known, other=0.0) + one, mask=kept)
        tl.store(second + cell, tl.load(second + cell, mask=known, other=0.0) + two, mask=kept)
        tl.store(step + cell, at, mask=kept)
        tl.store(size + p, tl.where(known | full, used, used + 1))
        tl.store(newest + p, tl.maximum(tl.load(newest + p), at))
        gone = tl.where(full & (place < 0), tl.minimum(oldest, at), gone)
    tl.store(lost + i, gone)


def put(
    visits: Visits, rows: torch.Tensor, now: torch.Tensor, sums: torch.Tensor, step: int, room: int
) -> torch.Tensor:
    """Add the visits, in place; see `kernadv.device.visits.put`."""
    lost = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    if len(rows):
        with here(rows):
            put_kernel[(len(rows),)](
                *visits, rows, now, sums, lost, len(rows), step, room,
                BR=triton.next_power_of_2(room), num_warps=1 if room <= 256 else 4, **OPTIONS,
            )  # fmt: skip
    return lost
