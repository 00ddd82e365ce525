"""The compiled loops of `History`: chains of blocks of visits, one chain a prompt.

A block holds `BLOCK` visits in ascending order of step; `older[block]` is the block before it, -1 at the end.  `tail` is
a prompt's newest block, `size` its number of live visits and `skip` the number of dead ones at the start of its oldest
block, so the fill of the tail is ``(skip + size - 1) % BLOCK + 1``.
"""

from __future__ import annotations

from kernadv._jit import compiled
from kernadv._typing import AnyArray, FloatArray, IntArray

BLOCK = 8


@compiled()
def append(
    tail: AnyArray,  # (P,) int32
    size: AnyArray,  # (P,) int32
    skip: AnyArray,  # (P,) int8
    older: AnyArray,  # (blocks,) int32
    step: IntArray,  # (blocks * BLOCK,)
    n: AnyArray,  # (blocks * BLOCK,) int32
    s: FloatArray,  # (blocks * BLOCK,)
    ss: FloatArray,  # (blocks * BLOCK,)
    free: AnyArray,  # (blocks,) int32, a stack
    n_free: int,
    rows: IntArray,  # (M,) prompt of each new visit
    new_step: IntArray,
    new_n: IntArray,
    new_s: FloatArray,
    new_ss: FloatArray,
) -> tuple[int, int]:
    """Add visits, merging those whose (prompt, step) exists; returns the free blocks left and the visits added."""
    added = 0
    for m in range(len(rows)):
        p = rows[m]
        block = tail[p]
        fill = (skip[p] + size[p] - 1) % BLOCK + 1 if block >= 0 else BLOCK
        left = size[p]
        # walk from the newest visit towards the first one that is not later than the new step
        b, o = block, fill - 1
        later = 0
        while left > 0 and step[b * BLOCK + o] > new_step[m]:
            later += 1
            left -= 1
            o -= 1
            if o < 0 and left > 0:
                b, o = older[b], BLOCK - 1
        if left > 0 and step[b * BLOCK + o] == new_step[m]:
            j = b * BLOCK + o
            n[j] += new_n[m]
            s[j] += new_s[m]
            ss[j] += new_ss[m]
            continue
        if fill == BLOCK:
            n_free -= 1
            fresh = free[n_free]
            older[fresh] = block
            tail[p] = fresh
            block, fill = fresh, 0
        # open a slot at the end and move the later visits one slot towards it
        b, o = block, fill
        for _ in range(later):
            to = b * BLOCK + o
            o -= 1
            if o < 0:
                b, o = older[b], BLOCK - 1
            j = b * BLOCK + o
            step[to], n[to], s[to], ss[to] = step[j], n[j], s[j], ss[j]
        j = b * BLOCK + o
        step[j], n[j], s[j], ss[j] = new_step[m], new_n[m], new_s[m], new_ss[m]
        size[p] += 1
        added += 1
    return n_free, added


@compiled()
def drop_oldest(
    tail: AnyArray,
    size: AnyArray,
    skip: AnyArray,
    older: AnyArray,
    free: AnyArray,
    n_free: int,
    rows: IntArray,  # (M,) prompts
    count: IntArray,  # (M,) how many of each prompt's oldest visits go
) -> int:
    """Forget each prompt's oldest visits and recycle the blocks they leave; returns the free blocks."""
    for m in range(len(rows)):
        p = rows[m]
        if count[m] <= 0:
            continue
        dead = skip[p] + count[m]
        live = size[p] - count[m]
        keep = (skip[p] + size[p] + BLOCK - 1) // BLOCK - dead // BLOCK if live > 0 else 0
        size[p] = max(live, 0)
        skip[p] = dead % BLOCK if live > 0 else 0
        b = tail[p]
        if keep == 0:
            tail[p] = -1
        for i in range(keep):
            nxt = older[b]
            if i == keep - 1:
                older[b] = -1
            b = nxt
        while b >= 0:
            free[n_free] = b
            n_free += 1
            b = older[b]
    return n_free


@compiled()
def count_expired(
    tail: AnyArray,
    size: AnyArray,
    skip: AnyArray,
    older: AnyArray,
    step: IntArray,
    oldest: int,
    span: int,
    visits: int,
    out: IntArray,  # (P,)
) -> None:
    """Count the visits of each prompt that are neither among the latest `visits` nor at or after its cut."""
    for p in range(len(out)):
        out[p] = 0
        left = size[p]
        if left == 0:
            continue
        b = tail[p]
        o = (skip[p] + left - 1) % BLOCK
        cut = max(oldest, step[b * BLOCK + o] - span)
        seen = 0
        while left > 0 and (seen < visits or step[b * BLOCK + o] >= cut):
            seen += 1
            left -= 1
            o -= 1
            if o < 0 and left > 0:
                b, o = older[b], BLOCK - 1
        out[p] = left


@compiled()
def gather(
    tail: AnyArray,
    size: AnyArray,
    skip: AnyArray,
    older: AnyArray,
    step: IntArray,
    n: AnyArray,
    s: FloatArray,
    ss: FloatArray,
    rows: IntArray,  # (Q,) prompts, -1: unknown
    start: IntArray,  # (Q,) where each prompt's visits go
    out_step: IntArray,
    out_n: FloatArray,
    out_s: FloatArray,
    out_ss: FloatArray,
) -> None:
    """Copy the visits of the prompts, in ascending order of step, to flat arrays."""
    for q in range(len(rows)):
        p = rows[q]
        if p < 0:
            continue
        left = size[p]
        b = tail[p]
        fill = (skip[p] + left - 1) % BLOCK + 1
        while left > 0:
            take = min(fill, left)
            source = b * BLOCK + fill - take
            target = start[q] + left - take
            for i in range(take):
                out_step[target + i] = step[source + i]
                out_n[target + i] = n[source + i]
                out_s[target + i] = s[source + i]
                out_ss[target + i] = ss[source + i]
            left -= take
            b = older[b]
            fill = BLOCK
