"""The fused kernels of a batch and a history on a device, each with its launcher.

Rows of a batch lie by groups.  The references, in torch, are in `kernadv.device.groups`, `table` and `visits`.
"""

import torch
import triton
import triton.language as tl

from kernadv.moments.launch import OPTIONS, here
from kernadv.smoothers import RANK, UNDERFLOW

#: Rows of a batch, or places of a table, that a program owns.
BLOCK = 128
#: Smoothers that `rows_kernel` knows, each with its degree.
DEGREES = {"nadaraya_watson": 0, "local_linear": 1}


@triton.jit
def others_kernel(parts, begin, end, out, B, K, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = place < B
    low = tl.load(begin + place, mask=mine, other=0)
    size = tl.load(end + place, mask=mine, other=0) - low
    column = tl.arange(0, COLUMNS)
    plane = column.to(tl.int64) * B
    total = tl.zeros((COLUMNS, BLOCK), tl.float64)
    for k in range(0, tl.max(size, 0)):  # the others are added one by one: the own part never enters
        other = low + k
        there = mine & (k < size) & (other != place)
        total += tl.load(
            parts + plane[:, None] + other[None, :], mask=(column < K)[:, None] & there[None, :], other=0.0
        )
    tl.store(out + plane[:, None] + place[None, :], total, mask=(column < K)[:, None] & mine[None, :])


def sum_of_groupmates(parts: torch.Tensor, begin: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """As `kernadv.device.groups.sum_by_doubling`.

    A program owns `BLOCK` rows: it reads the groups of its rows member by member, all columns at once.
    """
    columns, rows = parts.shape
    out = torch.empty_like(parts)
    with here(parts):
        others_kernel[(triton.cdiv(rows, BLOCK),)](
            parts, begin, end, out, rows, columns, COLUMNS=triton.next_power_of_2(columns), BLOCK=BLOCK, num_warps=4,
            **OPTIONS,
        )  # fmt: skip
    return out


@triton.jit
def rows_kernel(past, z, begin, end, out, B, LINE: tl.constexpr, RANK: tl.constexpr, TINY: tl.constexpr,
                  BLOCK: tl.constexpr):  # fmt: skip
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = place < B
    low = tl.load(begin + place, mask=mine, other=0)
    size = tl.load(end + place, mask=mine, other=0) - low
    count = tl.zeros((BLOCK,), tl.float64)
    total = tl.zeros((BLOCK,), tl.float64)
    square = tl.zeros((BLOCK,), tl.float64)
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


def smooth_rows(
    past: torch.Tensor, z: torch.Tensor, begin: torch.Tensor, end: torch.Tensor, smoother: str
) -> torch.Tensor:
    """As `kernadv.device.groups.estimates`.

    A program owns `BLOCK` rows: it reads the groups of its rows member by member, adds the others to the moments of the past
    at d = 0 and solves.
    """
    out = torch.empty((8, len(z)), dtype=torch.float64, device=z.device)
    with here(z):
        rows_kernel[(triton.cdiv(len(z), BLOCK),)](
            past, z, begin, end, out, len(z), LINE=DEGREES[smoother] == 1, RANK=RANK,
            TINY=UNDERFLOW, BLOCK=BLOCK, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return out


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
        tl.store(
            own + j, tl.where(there, tl.load(row + j, mask=mine, other=0), tl.minimum(held + before, C)), mask=mine
        )
        to = tl.load(place + j, mask=mine, other=0) + before
        adds = mine & (new != 0) & (to < C)
        tl.store(new_keys + to, tl.load(ids + j, mask=mine, other=0), mask=adds)
        tl.store(new_rows + to, held + before, mask=adds)


def enter_ids(
    keys: torch.Tensor, rows: torch.Tensor, used: torch.Tensor, ids: torch.Tensor,
    row: torch.Tensor, hit: torch.Tensor, place: torch.Tensor, wanted: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """As `kernadv.device.table.enter`, in place.

    A program owns `BLOCK` places of the table, which it moves up by the number of smaller new ids (a binary search), or
    `BLOCK` rows of the batch, whose new ids it puts between them.
    """
    fresh = wanted & ~hit
    rank = torch.cumsum(fresh, 0)
    own, new_keys, new_rows = torch.empty_like(ids), torch.empty_like(keys), torch.empty_like(rows)
    blocks = triton.cdiv(len(keys), BLOCK) + triton.cdiv(len(ids), BLOCK)
    with here(ids):
        merge_kernel[(blocks,)](
            keys, rows, used, ids, row, hit, place, fresh, rank, new_keys, new_rows, own, len(keys), len(ids),
            HALVINGS=len(ids).bit_length(), BLOCK=BLOCK, num_warps=4, **OPTIONS,
        )  # fmt: skip
    keys.copy_(new_keys)
    rows.copy_(new_rows)
    used.copy_((used + rank[-1]).clamp(max=len(keys)))
    return own


@triton.jit(do_not_specialize=["at"])
def put_kernel(step, n, first, second, size, newest, rows, now, sums, lost, B, P, at, room, BR: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    gone = tl.full((), 4611686018427387904, tl.int64)
    p = tl.load(rows + i)
    if tl.load(now + i) & (p >= 0) & (p < P):  # whatever the host believes of how full the table is
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


def put_visits(
    step: torch.Tensor, n: torch.Tensor, first: torch.Tensor, second: torch.Tensor, size: torch.Tensor,
    newest: torch.Tensor, rows: torch.Tensor, now: torch.Tensor, sums: torch.Tensor, at: int, room: int,
) -> torch.Tensor:  # fmt: skip
    """As `kernadv.device.visits.put`, in place.

    A program owns one row of the batch and, where a visit is due, the places of its prompt, which no other program touches.
    """
    lost = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    if len(rows):
        with here(rows):
            put_kernel[(len(rows),)](
                step, n, first, second, size, newest, rows, now, sums, lost, len(rows), len(size) - 1, at, room,
                BR=triton.next_power_of_2(room), num_warps=1 if room <= 256 else 4, **OPTIONS,
            )  # fmt: skip
    return lost
