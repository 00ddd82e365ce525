"""The fused kernels of a batch and a history on a device, each with its launcher.

Rows of a batch lie by groups.  The references, in torch, are in `kernadv.device.groups`, `table` and `visits`.
"""

import torch
import triton
import triton.language as tl

from kernadv._arrays import LARGEST_REWARD
from kernadv.moments.launch import OPTIONS, here
from kernadv.smoothers import RANK, UNDERFLOW

#: Rows of a batch, or places of a table, that a program owns.
BLOCK = 128
#: Rows that a program sums up.
SUMMED = 1024
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
def group_of(z, low, size, place, mine, BLOCK: tl.constexpr):
    """Count, sum and sum of squares of the other rewards of each row's group; minus the smallest of all, and the largest."""
    count = tl.zeros((BLOCK,), tl.float64)
    total = tl.zeros((BLOCK,), tl.float64)
    square = tl.zeros((BLOCK,), tl.float64)
    smallest = tl.zeros((BLOCK,), tl.float64) + float("-inf")
    largest = tl.zeros((BLOCK,), tl.float64) + float("-inf")
    for k in range(0, tl.max(size, 0)):  # the others are added one by one: the own reward never enters
        other = low + k
        x = tl.load(z + other, mask=mine & (k < size), other=float("nan"))
        some = x == x
        smallest = tl.maximum(smallest, tl.where(some, -x, float("-inf")))
        largest = tl.maximum(largest, tl.where(some, x, float("-inf")))
        there = (other != place) & some
        x = tl.where(there, x, 0.0)
        count += tl.where(there, 1.0, 0.0)
        total += x
        square += x * x
    return count, total, square, smallest, largest


@triton.jit
def sums_kernel(z, begin, end, others, whole, once, ends, stored, B, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = place < B
    low = tl.load(begin + place, mask=mine, other=0)
    size = tl.load(end + place, mask=mine, other=0) - low
    count, total, square, smallest, largest = group_of(z, low, size, place, mine, BLOCK)
    own = tl.load(z + place, mask=mine, other=float("nan"))
    scored = own == own
    own = tl.where(scored, own, 0.0)
    plane = tl.full((), 1, tl.int64) * B
    tl.store(others + place, count, mask=mine)
    tl.store(others + plane + place, total, mask=mine)
    tl.store(others + 2 * plane + place, square, mask=mine)
    count += tl.where(scored, 1.0, 0.0)
    total += own
    square += own * own
    tl.store(whole + place, count, mask=mine)
    tl.store(whole + plane + place, total, mask=mine)
    tl.store(whole + 2 * plane + place, square, mask=mine)
    first = low == place
    tl.store(once + place, tl.where(first, count, 0.0), mask=mine)
    tl.store(once + plane + place, tl.where(first, total, 0.0), mask=mine)
    tl.store(once + 2 * plane + place, tl.where(first, square, 0.0), mask=mine)
    tl.store(ends + place, tl.where(first, -smallest, float("inf")), mask=mine)
    tl.store(ends + plane + place, tl.where(first, largest, float("-inf")), mask=mine)
    tl.store(stored + place, first & (count > 0.0), mask=mine)


def sum_groups(
    z: torch.Tensor, begin: torch.Tensor, end: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `kernadv.device.groups.sums_of_groups`.

    A program owns `BLOCK` rows: it reads the groups of its rows member by member.
    """
    others, whole, once, ends = (z.new_empty((many, len(z))) for many in (3, 3, 3, 2))
    stored = torch.empty_like(z, dtype=torch.bool)
    with here(z):
        sums_kernel[(triton.cdiv(len(z), BLOCK),)](
            z, begin, end, others, whole, once, ends, stored, len(z), BLOCK=BLOCK, num_warps=4, **OPTIONS
        )
    return others, whole, once, ends, stored


@triton.jit
def rows_kernel(past, z, begin, end, out, defined, stored, B, LINE: tl.constexpr, RANK: tl.constexpr, TINY: tl.constexpr,
                  BLOCK: tl.constexpr):  # fmt: skip
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = place < B
    low = tl.load(begin + place, mask=mine, other=0)
    size = tl.load(end + place, mask=mine, other=0) - low
    count, total, square, _, _ = group_of(z, low, size, place, mine, BLOCK)
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
    tl.store(defined + place, n_eff > 0.0, mask=mine)
    tl.store(stored + place, (low == place) & (count + one > 0.0), mask=mine)


def smooth_rows(
    past: torch.Tensor, z: torch.Tensor, begin: torch.Tensor, end: torch.Tensor, smoother: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `kernadv.device.groups.estimates`.

    A program owns `BLOCK` rows: it reads the groups of its rows member by member, adds the others to the moments of the past
    at d = 0 and solves.
    """
    out = torch.empty((6, len(z)), dtype=torch.float64, device=z.device)
    defined, stored = (torch.empty_like(z, dtype=torch.bool) for _ in range(2))
    with here(z):
        rows_kernel[(triton.cdiv(len(z), BLOCK),)](
            past, z, begin, end, out, defined, stored, len(z), LINE=DEGREES[smoother] == 1, RANK=RANK,
            TINY=UNDERFLOW, BLOCK=BLOCK, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return out, defined, stored


@triton.jit
def first_not_below(numbers, size, key, HALVINGS: tl.constexpr, BLOCK: tl.constexpr, ABOVE: tl.constexpr = False):
    """Of ascending numbers, the first place of one that is at least `key`, or above it."""
    low = tl.zeros((BLOCK,), tl.int64)
    high = tl.zeros((BLOCK,), tl.int64) + size
    for _ in range(0, HALVINGS):
        middle = (low + high) // 2
        wide = low < high
        number = tl.load(numbers + middle, mask=wide, other=0)
        less = number <= key if ABOVE else number < key
        low = tl.where(wide & less, middle + 1, low)
        high = tl.where(wide & (less == 0), middle, high)
    return low


@triton.jit
def look_up(keys, rows, used, C, key, mine, HALVINGS: tl.constexpr, BLOCK: tl.constexpr):
    """Row of each key in the table (C: it is not there), whether it is there, and where it is or would be."""
    low = first_not_below(keys, C, key, HALVINGS, BLOCK)
    inside = mine & (low < tl.load(used)) & (low < C)
    there = inside & (tl.load(keys + low, mask=inside, other=0) == key)
    return tl.load(rows + low, mask=there, other=C), there, low


@triton.jit
def find_kernel(keys, rows, used, ids, row, hit, place, C, B, HALVINGS: tl.constexpr, BLOCK: tl.constexpr):
    j = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = j < B
    found, there, low = look_up(keys, rows, used, C, tl.load(ids + j, mask=mine, other=0), mine, HALVINGS, BLOCK)
    tl.store(row + j, found, mask=mine)
    tl.store(hit + j, there, mask=mine)
    tl.store(place + j, low, mask=mine)


def find_ids(
    keys: torch.Tensor, rows: torch.Tensor, used: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `kernadv.device.table.find`: a program owns `BLOCK` ids, each by a binary search."""
    ids = ids.contiguous()
    row, hit, place = torch.empty_like(ids), torch.empty_like(ids, dtype=torch.bool), torch.empty_like(ids)
    with here(ids):
        find_kernel[(triton.cdiv(len(ids), BLOCK),)](
            keys, rows, used, ids, row, hit, place, len(keys), len(ids),
            HALVINGS=len(keys).bit_length(), BLOCK=BLOCK, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return row, hit, place


@triton.jit(do_not_specialize=["at"])
def arrange_kernel(
    keys, order, rewards, tick, held, rows, used, newest_of, size_of,
    z, refused, begin, end, first, row, hit, place, newest, start, length, step, from_, to, B, P, room, at,
    SEVERAL: tl.constexpr, LARGEST: tl.constexpr, HALVINGS: tl.constexpr, OWN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = i < B
    key = tl.load(keys + i, mask=mine, other=0)
    low = first_not_below(keys, B, key, OWN, BLOCK)
    high = first_not_below(keys, B, key, OWN, BLOCK, ABOVE=True)
    if SEVERAL:  # those of a prompt lie by steps
        tl.store(from_ + i, low, mask=mine)
        tl.store(to + i, high, mask=mine)
        now = tl.load(tick + i, mask=mine, other=0)
        many = tl.where(mine, high - low, 0)
        high = low + first_not_below(tick + low, many, now, OWN, BLOCK, ABOVE=True)
        low += first_not_below(tick + low, many, now, OWN, BLOCK)
    else:
        tl.store(step + i, at, mask=mine)
    tl.store(begin + i, low, mask=mine)
    tl.store(end + i, high, mask=mine)
    leads = low == i
    tl.store(first + i, leads, mask=mine)
    x = tl.load(rewards + tl.load(order + i, mask=mine, other=0), mask=mine, other=0).to(tl.float64)
    wrong = tl.abs(x) > LARGEST
    tl.store(refused + i, wrong, mask=mine)
    tl.store(z + i, tl.where(wrong, float("nan"), x), mask=mine)
    p, there, near = look_up(held, rows, used, P, key, mine, HALVINGS, BLOCK)
    tl.store(row + i, p, mask=mine)
    tl.store(hit + i, there, mask=mine)
    tl.store(place + i, near, mask=mine)
    tl.store(newest + i, tl.load(newest_of + p, mask=there, other=0), mask=mine)
    tl.store(start + i, p * room, mask=mine)
    tl.store(length + i, tl.load(size_of + p, mask=there & leads, other=0), mask=mine)


def arrange_rows(
    keys: torch.Tensor, order: torch.Tensor, rewards: torch.Tensor, tick: torch.Tensor | None, held: torch.Tensor,
    rows: torch.Tensor, used: torch.Tensor, size: torch.Tensor, newest: torch.Tensor, room: int, at: int,
) -> list[torch.Tensor]:  # fmt: skip
    """As `kernadv.device.places.arrange`: a program owns `BLOCK` places, each by binary searches."""
    rewards = (rewards if rewards.dtype in (torch.float32, torch.float64) else rewards.double()).contiguous()
    whole, truth = torch.int64, torch.bool
    kinds = [torch.float64, truth, whole, whole, truth, whole, truth, *(5 if tick is None else 6) * [whole]]
    made = [torch.empty_like(keys, dtype=kind) for kind in kinds]
    steps = (made[-1], made[-1], made[-1]) if tick is None else (made[-1], *made[-2:])
    with here(keys):
        arrange_kernel[(triton.cdiv(len(keys), BLOCK),)](
            keys, order, rewards, keys if tick is None else tick, held, rows, used, newest, size,
            *made[:11], *steps, len(keys), len(held), room, at,
            SEVERAL=tick is not None, LARGEST=LARGEST_REWARD, HALVINGS=len(held).bit_length(),
            OWN=len(keys).bit_length(), BLOCK=BLOCK, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return made


@triton.jit
def advantages_kernel(z, baseline, refused, order, out, B, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = i < B
    x = tl.load(z + i, mask=mine, other=0.0)
    known = (x == x) | tl.load(refused + i, mask=mine, other=0)
    made = tl.where(known, x - tl.load(baseline + i, mask=mine, other=0.0), 0.0)
    tl.store(out + tl.load(order + i, mask=mine, other=0), made, mask=mine)


def advantages_of_rows(
    z: torch.Tensor, baseline: torch.Tensor, refused: torch.Tensor, order: torch.Tensor, kind: torch.dtype
) -> torch.Tensor:
    """As `kernadv.device.places.advantages`: a program owns `BLOCK` places."""
    out = torch.empty_like(z, dtype=kind if kind == torch.float32 else torch.float64)
    with here(z):
        advantages_kernel[(triton.cdiv(len(z), BLOCK),)](
            z, baseline.contiguous(), refused, order, out, len(z), BLOCK=BLOCK, num_warps=4, **OPTIONS
        )
    return out.to(kind)


@triton.jit
def rank_kernel(wanted, hit, rank, blocks, B, BLOCK: tl.constexpr):
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    mine = i < B
    fresh = tl.load(wanted + i, mask=mine, other=0) & (tl.load(hit + i, mask=mine, other=0) == 0)
    fresh = tl.where(fresh, 1, 0).to(tl.int64)
    tl.store(rank + i, tl.cumsum(fresh, 0), mask=mine)
    tl.store(blocks + block, tl.sum(fresh, 0))


@triton.jit
def fresh_before(rank, blocks, place, B, SUMMED: tl.constexpr, BLOCK: tl.constexpr):
    """Number of new ids before each place of the batch."""
    some = place > 0
    own = (place - 1) // SUMMED
    count = tl.load(rank + (place - 1), mask=some, other=0)
    for block in range(0, tl.cdiv(B, SUMMED)):
        count += tl.where(some & (block < own), tl.load(blocks + block), 0)
    return count


@triton.jit
def merge_kernel(
    keys, rows, used, ids, row, hit, place, wanted, rank, blocks, new_keys, new_rows, own, C, B,
    HALVINGS: tl.constexpr, SUMMED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    places = tl.cdiv(C, BLOCK)
    held = tl.load(used)
    if block < places:
        i = block * BLOCK + tl.arange(0, BLOCK)
        mine = i < C
        key = tl.load(keys + i, mask=mine, other=0)
        low = first_not_below(ids, B, key, HALVINGS, BLOCK)
        low = tl.where(i < held, low, B)  # free places move behind everything, also behind an id of their value
        to = i + fresh_before(rank, blocks, low, B, SUMMED, BLOCK)
        inside = mine & (to < C)
        tl.store(new_keys + to, key, mask=inside)
        tl.store(new_rows + to, tl.load(rows + i, mask=mine, other=0), mask=inside)
    else:
        j = (block - places) * BLOCK + tl.arange(0, BLOCK)
        mine = j < B
        there = tl.load(hit + j, mask=mine, other=0)
        fresh = tl.load(wanted + j, mask=mine, other=0) & (there == 0)
        before = fresh_before(rank, blocks, tl.where(mine, j, 0), B, SUMMED, BLOCK)
        tl.store(
            own + j, tl.where(there, tl.load(row + j, mask=mine, other=0), tl.minimum(held + before, C)), mask=mine
        )
        to = tl.load(place + j, mask=mine, other=0) + before
        adds = mine & fresh & (to < C)
        tl.store(new_keys + to, tl.load(ids + j, mask=mine, other=0), mask=adds)
        tl.store(new_rows + to, held + before, mask=adds)


@triton.jit
def settle_kernel(keys, rows, used, new_keys, new_rows, blocks, C, BLOCKS, BLOCK: tl.constexpr):
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    mine = i < C
    tl.store(keys + i, tl.load(new_keys + i, mask=mine, other=0), mask=mine)
    tl.store(rows + i, tl.load(new_rows + i, mask=mine, other=0), mask=mine)
    if block == 0:
        count = tl.load(used)
        for summed in range(0, BLOCKS):
            count += tl.load(blocks + summed)
        tl.store(used, tl.minimum(count, C))


def enter_ids(
    keys: torch.Tensor, rows: torch.Tensor, used: torch.Tensor, ids: torch.Tensor,
    row: torch.Tensor, hit: torch.Tensor, place: torch.Tensor, wanted: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """As `kernadv.device.table.enter`, in place.

    A first launch counts the new ids.  Then a program owns `BLOCK` places of the table, which it moves up by the number of
    smaller new ids (a binary search), or `BLOCK` rows of the batch, whose new ids it puts between them.  A third launch
    takes the merged table over.
    """
    summed = triton.cdiv(len(ids), SUMMED)
    rank, blocks = torch.empty_like(ids), ids.new_empty(summed)
    own, new_keys, new_rows = torch.empty_like(ids), torch.empty_like(keys), torch.empty_like(rows)
    programs = triton.cdiv(len(keys), BLOCK) + triton.cdiv(len(ids), BLOCK)
    with here(ids):
        rank_kernel[(summed,)](wanted, hit, rank, blocks, len(ids), BLOCK=SUMMED, num_warps=4, **OPTIONS)
        merge_kernel[(programs,)](
            keys, rows, used, ids, row, hit, place, wanted, rank, blocks, new_keys, new_rows, own, len(keys), len(ids),
            HALVINGS=len(ids).bit_length(), SUMMED=SUMMED, BLOCK=BLOCK, num_warps=4, **OPTIONS,
        )  # fmt: skip
        settle_kernel[(triton.cdiv(len(keys), BLOCK),)](
            keys, rows, used, new_keys, new_rows, blocks, len(keys), summed, BLOCK=BLOCK, num_warps=4, **OPTIONS
        )
    return own


@triton.jit(do_not_specialize=["at"])
def put_kernel(
    step, n, first, second, size, newest, notes, rows, now, sums, noted, lost, B, P, at, room,
    NOTED: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
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
        if NOTED > 0:
            k = tl.arange(0, BN)
            tl.store(notes + p * NOTED + k, tl.load(noted + i * NOTED + k, mask=k < NOTED, other=0.0), mask=k < NOTED)
    tl.store(lost + i, gone)


def put_visits(
    step: torch.Tensor, n: torch.Tensor, first: torch.Tensor, second: torch.Tensor, size: torch.Tensor,
    newest: torch.Tensor, notes: torch.Tensor, rows: torch.Tensor, now: torch.Tensor, sums: torch.Tensor,
    noted: torch.Tensor | None, at: int, room: int,
) -> torch.Tensor:  # fmt: skip
    """As `kernadv.device.visits.put`, in place.

    A program owns one row of the batch and, where a visit is due, the places of its prompt, which no other program touches.
    """
    lost = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    many = 0 if noted is None else notes.shape[1]
    if len(rows):
        with here(rows):
            put_kernel[(len(rows),)](
                step, n, first, second, size, newest, notes, rows, now, sums,
                notes if noted is None else noted.contiguous(), lost, len(rows), len(size) - 1, at, room,
                NOTED=many, BR=triton.next_power_of_2(room), BN=triton.next_power_of_2(max(many, 1)),
                num_warps=1 if room <= 256 else 4, **OPTIONS,
            )  # fmt: skip
    return lost


@triton.jit
def scan(x, sums, blocks, i, mine, back):
    """Running sums of a program's rows from the front and, `back` further on, from the back; and the sum of all."""
    tl.store(sums + i, tl.cumsum(x, 0), mask=mine)
    tl.store(sums + back + i, tl.cumsum(x, 0, reverse=True), mask=mine)
    tl.store(blocks, tl.sum(x, 0))


@triton.jit
def around(low, high, mine, B, BLOCKS, BLOCK: tl.constexpr):
    """Whether there are rows before `low` and from `high` on; the programs that scanned the last and the first of these."""
    front, behind = mine & (low > 0), mine & (high < B)
    return front, behind, tl.where(front, (low - 1) // BLOCK, 0), tl.where(behind, high // BLOCK, BLOCKS)


@triton.jit
def scan_kernel(parts, sums, blocks, B, BLOCKS, K, BLOCK: tl.constexpr):
    block = (tl.program_id(0) % BLOCKS).to(tl.int64)
    k = (tl.program_id(0) // BLOCKS).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    mine = i < B
    plane = k * B
    x = tl.load(parts + plane + i, mask=mine, other=0.0)
    scan(x, sums + plane, blocks + k * BLOCKS + block, i, mine, tl.full((), 1, tl.int64) * K * B)


@triton.jit
def elsewhere_kernel(sums, blocks, begin, end, out, B, BLOCKS, K, BLOCK: tl.constexpr):
    block = (tl.program_id(0) % BLOCKS).to(tl.int64)
    k = (tl.program_id(0) // BLOCKS).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    mine = i < B
    low = tl.load(begin + i, mask=mine, other=0)
    high = tl.load(end + i, mask=mine, other=0)
    front, behind, first, last = around(low, high, mine, B, BLOCKS, BLOCK)
    plane = k * B
    back = plane + tl.full((), 1, tl.int64) * K * B
    total = tl.load(sums + plane + low - 1, mask=front, other=0.0) + tl.load(sums + back + high, mask=behind, other=0.0)
    for other in range(0, BLOCKS):  # those without a row in between, and not scanned above
        outside = (other < first) | (other > last)
        total += tl.where(outside, tl.load(blocks + k * BLOCKS + other), 0.0)
    tl.store(out + plane + i, total, mask=mine)


def sum_elsewhere(parts: torch.Tensor, begin: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """As `kernadv.device.groups.sums_elsewhere`.

    A program owns `SUMMED` rows of a part.  A first launch sums them up from the front and from the back, a second adds what
    lies before and behind.
    """
    (columns, rows), blocks = parts.shape, triton.cdiv(parts.shape[1], SUMMED)
    out, sums, whole = torch.empty_like(parts), parts.new_empty((2, columns, rows)), parts.new_empty((columns, blocks))
    options = {"BLOCK": SUMMED, "num_warps": 4, **OPTIONS}
    with here(parts):
        scan_kernel[(blocks * columns,)](parts, sums, whole, rows, blocks, columns, **options)
        elsewhere_kernel[(blocks * columns,)](sums, whole, begin, end, out, rows, blocks, columns, **options)
    return out


@triton.jit
def scored_kernel(z, sums, blocks, B, BLOCKS, BLOCK: tl.constexpr):
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    mine = i < B
    x = tl.load(z + i, mask=mine, other=float("nan"))
    some = x == x
    plane = tl.full((), 1, tl.int64) * B
    scan(tl.where(some, 1.0, 0.0).to(tl.float64), sums, blocks + block, i, mine, 2 * plane)
    scan(tl.where(some, x, 0.0), sums + plane, blocks + BLOCKS + block, i, mine, 2 * plane)


@triton.jit
def mean_kernel(value, defined, sums, blocks, begin, end, seen, out, B, BLOCKS, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = i < B
    low = tl.load(begin + i, mask=mine, other=0)
    high = tl.load(end + i, mask=mine, other=0)
    plane = tl.full((), 1, tl.int64) * B
    front, behind, first, last = around(low, high, mine, B, BLOCKS, BLOCK)
    count = tl.load(sums + low - 1, mask=front, other=0.0)
    total = tl.load(sums + plane + low - 1, mask=front, other=0.0)
    count += tl.load(sums + 2 * plane + high, mask=behind, other=0.0)
    total += tl.load(sums + 3 * plane + high, mask=behind, other=0.0)
    for block in range(0, BLOCKS):
        outside = (block < first) | (block > last)
        count += tl.where(outside, tl.load(blocks + block), 0.0)
        total += tl.where(outside, tl.load(blocks + BLOCKS + block), 0.0)
    some = count > 0
    mean = tl.where(some, total / tl.where(some, count, 1.0), tl.load(seen + 1) / tl.maximum(tl.load(seen), 1.0))
    known = tl.load(defined + i, mask=mine, other=0)
    tl.store(out + i, tl.where(known, tl.load(value + i, mask=mine, other=0.0), mean), mask=mine)


def fill_from_elsewhere(
    value: torch.Tensor, defined: torch.Tensor, z: torch.Tensor, begin: torch.Tensor, end: torch.Tensor,
    seen: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """As `kernadv.device.groups.filled_from_elsewhere`.

    A program owns `SUMMED` rows.  A first launch sums them up from the front and from the back, a second adds what lies
    before and behind each row's prompt.
    """
    blocks = triton.cdiv(len(z), SUMMED)
    out, sums, whole = torch.empty_like(z), z.new_empty((4, len(z))), z.new_empty((2, blocks))
    with here(z):
        scored_kernel[(blocks,)](z, sums, whole, len(z), blocks, BLOCK=SUMMED, num_warps=4, **OPTIONS)
        mean_kernel[(blocks,)](
            value.contiguous(), defined.contiguous(), sums, whole, begin, end, seen, out, len(z), blocks,
            BLOCK=SUMMED, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return out


@triton.jit
def reach_kernel(z, refusals, blocks, B, BLOCK: tl.constexpr):
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(z + i, mask=i < B, other=float("nan"))
    some = x == x
    cell = blocks + 5 * block
    tl.store(cell, tl.sum(tl.where(some, 1.0, 0.0).to(tl.float64), 0))
    tl.store(cell + 1, tl.sum(tl.where(some, x, 0.0), 0))
    tl.store(cell + 2, tl.max(tl.where(some, -x, float("-inf")), 0))
    tl.store(cell + 3, tl.max(tl.where(some, x, float("-inf")), 0))
    tl.store(cell + 4, tl.sum(tl.load(refusals + i, mask=i < B, other=0).to(tl.float64), 0))


@triton.jit
def whole_batch(blocks, seen, ends, BLOCKS, WIDE: tl.constexpr):
    """Count and sum of the batch; minus the smallest reward so far, and the largest; the same two before the batch."""
    told = tl.load(seen) > 0
    old_low = tl.where(told, -tl.load(ends), float("-inf"))
    old_high = tl.where(told, tl.load(ends + 1), float("-inf"))
    count = tl.zeros((WIDE,), tl.float64)
    total = tl.zeros((WIDE,), tl.float64)
    low = tl.zeros((WIDE,), tl.float64) + old_low
    high = tl.zeros((WIDE,), tl.float64) + old_high
    for first in range(0, BLOCKS, WIDE):
        block = first + tl.arange(0, WIDE)
        there = block < BLOCKS
        cell = blocks + 5 * block
        count += tl.load(cell, mask=there, other=0.0)
        total += tl.load(cell + 1, mask=there, other=0.0)
        low = tl.maximum(low, tl.load(cell + 2, mask=there, other=float("-inf")))
        high = tl.maximum(high, tl.load(cell + 3, mask=there, other=float("-inf")))
    return tl.sum(count, 0), tl.sum(total, 0), tl.max(low, 0), tl.max(high, 0), old_low, old_high


@triton.jit
def errors_kernel(z, begin, end, size, sums, value, seen, ends, blocks, out, B, BLOCKS, VALUED: tl.constexpr,
                  BLOCK: tl.constexpr, WIDE: tl.constexpr):  # fmt: skip
    count, total, low, high, _, _ = whole_batch(blocks, seen, ends, BLOCKS, WIDE)
    block = tl.program_id(0).to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    mine = i < B
    x = tl.load(z + i, mask=mine, other=float("nan"))
    some = x == x
    cell = out + 16 * block
    tl.store(cell + 12, tl.sum(tl.where(some & (-x < low) & (x < high), 1.0, 0.0).to(tl.float64), 0))
    if VALUED:
        n = tl.load(size + i, mask=mine, other=0.0)
        first = tl.load(begin + i, mask=mine, other=0)
        many = tl.load(end + i, mask=mine, other=0) - first
        smallest = tl.zeros((BLOCK,), tl.float64) + float("-inf")
        largest = tl.zeros((BLOCK,), tl.float64) + float("-inf")
        for k in range(0, tl.max(many, 0)):
            y = tl.load(z + first + k, mask=mine & (k < many), other=float("nan"))
            there = y == y
            smallest = tl.maximum(smallest, tl.where(there, -y, float("-inf")))
            largest = tl.maximum(largest, tl.where(there, y, float("-inf")))
        each = 1.0 / tl.maximum(n - 1.0, 1.0)
        share = 1.0 / tl.maximum(n, 1.0)
        own = tl.load(value + i, mask=mine, other=0.0) - x
        own = own * own
        spread = count / tl.maximum(count - 1.0, 1.0)
        other = spread * (total / tl.maximum(count, 1.0) - x)
        other = other * other
        noise = x - tl.load(sums + i, mask=mine, other=0.0) * share
        noise = noise * noise * (1.0 + each)
        several = some & (n > 1)
        lone = some & (n == 1) & (n * count > 1)
        dead = several & (smallest == -largest)
        tl.store(cell, tl.sum(tl.where(several, 1.0, 0.0).to(tl.float64), 0))
        tl.store(cell + 1, tl.sum(tl.where(several, own, 0.0), 0))
        tl.store(cell + 2, tl.sum(tl.where(several, other, 0.0), 0))
        tl.store(cell + 3, tl.sum(tl.where(several, noise, 0.0), 0))
        tl.store(cell + 4, tl.sum(tl.where(several, noise * each, 0.0), 0))
        tl.store(cell + 5, tl.sum(tl.where(lone, 1.0, 0.0).to(tl.float64), 0))
        tl.store(cell + 6, tl.sum(tl.where(lone, own, 0.0), 0))
        tl.store(cell + 7, tl.sum(tl.where(lone, other, 0.0), 0))
        tl.store(cell + 8, tl.sum(tl.where(several, share, 0.0), 0))
        tl.store(cell + 9, tl.sum(tl.where(dead, share, 0.0), 0))
        tl.store(cell + 10, tl.sum(tl.where(dead & (smallest == low), share, 0.0), 0))
        tl.store(cell + 11, tl.sum(tl.where(dead & (largest == high), share, 0.0), 0))


@triton.jit
def totals_kernel(seen, ends, errors, refused, blocks, sums, BLOCKS, KEEP: tl.constexpr, VALUED: tl.constexpr,
                  WIDE: tl.constexpr):  # fmt: skip
    count, total, low, high, old_low, old_high = whole_batch(blocks, seen, ends, BLOCKS, WIDE)
    column = tl.arange(0, 16)
    summed = column < 13 if VALUED else column == 12
    added = tl.zeros((16,), tl.float64)
    refusals = tl.load(refused)
    for block in range(0, BLOCKS):
        added += tl.load(sums + 16 * block + column, mask=summed, other=0.0)
        refusals += tl.load(blocks + 5 * block + 4).to(tl.int64)
    tl.store(refused, refusals)
    flat = tl.zeros((16,), tl.float64)
    low, high, old_low, old_high = flat + low, flat + high, flat + old_low, flat + old_high
    told = flat + tl.load(seen) > 0
    between = flat + tl.load(ends + 2) + tl.sum(tl.where(column == 12, added, 0.0), 0) > 0
    between = between | (told & (old_low < low) & (-old_low < high)) | (told & (old_high < high) & (-old_high < low))
    stays = (column < 10) | (told == 0) | ((column == 10) & (old_low >= low)) | ((column == 11) & (old_high >= high))
    kept = tl.where(stays, tl.load(errors + column, mask=column < 12, other=0.0) * KEEP, 0.0)
    reached = tl.where(column == 0, -low, tl.where(column == 1, high, tl.where(between, 1.0, 0.0)))
    heard = tl.load(seen + column, mask=column < 2, other=0.0) + tl.where(column == 0, flat + count, flat + total)
    tl.store(errors + column, kept + added, mask=column < 12)
    tl.store(ends + column, tl.where(high > float("-inf"), reached, 0.0), mask=column < 3)
    tl.store(seen + column, heard, mask=column < 2)


def add_totals(
    seen: torch.Tensor, ends: torch.Tensor, errors: torch.Tensor, refused: torch.Tensor, z: torch.Tensor,
    begin: torch.Tensor, end: torch.Tensor, n: torch.Tensor, s: torch.Tensor, value: torch.Tensor | None,
    refusals: torch.Tensor, keep: float,
) -> None:  # fmt: skip
    """As `kernadv.device.totals.add`, in place.

    A program owns `SUMMED` rows: one launch for the count and the ends of the batch, one for the errors, which need them,
    and one of a single warp, which reads the old totals before it writes the new ones.
    """
    blocks = triton.cdiv(len(z), SUMMED)
    ranges, sums = z.new_empty((blocks, 5)), z.new_empty((blocks, 16))
    wide = {"VALUED": value is not None, "WIDE": 128, **OPTIONS}
    with here(z):
        reach_kernel[(blocks,)](z, refusals, ranges, len(z), BLOCK=SUMMED, num_warps=4, **OPTIONS)
        errors_kernel[(blocks,)](
            z, begin, end, n, s, z if value is None else value, seen, ends, ranges, sums, len(z), blocks,
            BLOCK=SUMMED, num_warps=4, **wide,
        )  # fmt: skip
        totals_kernel[(1,)](seen, ends, errors, refused, ranges, sums, blocks, KEEP=keep, num_warps=1, **wide)
