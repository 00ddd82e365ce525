"""The compiled loops of `History`: chains of blocks of visits, one chain a prompt.

A block holds `BLOCK` visits in ascending order of step, all of a visit's numbers near each other in memory: its count and
two sums s and ss, as in `Groups`.  ``older`` is the block before it, and means nothing in the
oldest one.  `tail` is a prompt's newest block, `size` its number of live visits and `skip` the number of dead ones at the
start of its oldest block, so the fill of the tail is ``(skip + size - 1) % BLOCK + 1``.
"""

from __future__ import annotations

import numpy as np

from kernadv._jit import compiled
from kernadv.typing import AnyArray, FloatArray, IntArray

BLOCK = 8

#: Rollouts that a visit counts at most.
MOST = 2**31 - 1

_FIELDS = np.dtype(
    [
        ("step", np.int64, (BLOCK,)),
        ("first", np.float64, (BLOCK,)),
        ("second", np.float64, (BLOCK,)),
        ("n", np.int32, (BLOCK,)),
        ("older", np.int32),
    ],
    align=True,
)
#: 232 bytes for eight visits; a record, so that ``block.step`` also works where the loops are not compiled.
BLOCK_TYPE = np.dtype((np.record, _FIELDS))


@compiled()
def append(
    tail: AnyArray,  # (P,) int32
    size: AnyArray,  # (P,) int32
    skip: AnyArray,  # (P,) int8
    blocks: AnyArray,  # (blocks,) BLOCK_TYPE
    fresh: AnyArray,  # (F,) blocks that nothing uses
    left: AnyArray,  # (F,) int32, for the blocks that copies stand for afterwards
    prompt: IntArray,  # (M,) index into the first three
    new_step: IntArray,
    new_n: IntArray,
    new_first: FloatArray,
    new_second: FloatArray,
) -> tuple[int, int, int]:
    """Add visits, merging those whose (prompt, step) exists.

    Of what the chains held before nothing changes: it writes to free slots and fresh blocks, and what an earlier visit
    changes is copied first.  Returns the fresh blocks used, visits added and blocks left; -1 if there are too few.
    """
    added = used = gone = 0
    for m in range(len(prompt)):
        p = prompt[m]
        before = size[p]
        fill = (skip[p] + before - 1) % BLOCK + 1 if before > 0 else BLOCK
        # walk from the newest visit towards the first one that is not later than the new step
        b, o = tail[p], fill - 1
        later = 0
        depth = 1
        while later < before and blocks[b].step[o] > new_step[m]:
            later += 1
            o -= 1
            if o < 0 and later < before:
                b, o = blocks[b].older, BLOCK - 1
                depth += 1
        merged = later < before and blocks[b].step[o] == new_step[m]
        copied = depth if merged or later > 0 else 0
        if used + copied + (fill == BLOCK and not merged) > len(fresh):
            return -1, added, gone
        if copied > 0:
            c, above = tail[p], -1
            for _ in range(copied):
                copy = fresh[used]
                used += 1
                blocks[copy] = blocks[c]
                if above < 0:
                    tail[p] = copy
                else:
                    blocks[above].older = copy
                left[gone] = c
                gone += 1
                c, above = blocks[c].older, copy
            b = above
        if merged:
            count = np.int64(blocks[b].n[o]) + new_n[m]
            share = min(MOST / count, 1.0)  # beyond `MOST` the means stay
            blocks[b].n[o] = min(count, MOST)
            blocks[b].first[o] = (blocks[b].first[o] + new_first[m]) * share
            blocks[b].second[o] = (blocks[b].second[o] + new_second[m]) * share
            continue
        if fill == BLOCK:
            top = fresh[used]
            used += 1
            blocks[top].older = tail[p]
            tail[p] = top
            fill = 0
        # open a slot at the end and move the later visits one slot towards it
        b, o = tail[p], fill
        for _ in range(later):
            to, at = b, o
            o -= 1
            if o < 0:
                b, o = blocks[b].older, BLOCK - 1
            blocks[to].step[at] = blocks[b].step[o]
            blocks[to].n[at] = blocks[b].n[o]
            blocks[to].first[at] = blocks[b].first[o]
            blocks[to].second[at] = blocks[b].second[o]
        blocks[b].step[o] = new_step[m]
        blocks[b].n[o] = new_n[m]
        blocks[b].first[o] = new_first[m]
        blocks[b].second[o] = new_second[m]
        size[p] += 1
        added += 1
    return used, added, gone


@compiled()
def drop_oldest(
    tail: AnyArray,
    size: AnyArray,
    skip: AnyArray,
    blocks: AnyArray,
    rows: IntArray,  # (M,) prompts
    count: IntArray,  # (M,) how many of each prompt's oldest visits go
    left: AnyArray,  # int32, as long as there are blocks that go
) -> None:
    """Forget each prompt's oldest visits; the blocks stay as they are, and those left by all visits are listed."""
    gone = 0
    for m in range(len(rows)):
        p = rows[m]
        if count[m] <= 0:
            continue
        dead = skip[p] + count[m]
        live = size[p] - count[m]
        blocks_before = (skip[p] + size[p] + BLOCK - 1) // BLOCK
        keep = blocks_before - dead // BLOCK if live > 0 else 0
        size[p] = live
        skip[p] = dead % BLOCK if live > 0 else 0
        b = tail[p]
        if keep == 0:
            tail[p] = -1
        for i in range(blocks_before):
            if i >= keep:
                left[gone] = b
                gone += 1
            b = blocks[b].older


@compiled()
def count_expired(
    tail: AnyArray,
    size: AnyArray,
    skip: AnyArray,
    blocks: AnyArray,
    oldest: int,
    span: int,
    visits: int,
    out: IntArray,  # (P,)
) -> None:
    """Count the visits of each prompt that are neither among the latest `visits` nor at or after its cut."""
    for p in range(len(out)):
        left = size[p]
        b = tail[p]
        o = (skip[p] + left - 1) % BLOCK
        cut = max(oldest, blocks[b].step[o] - span) if left > 0 else 0
        seen = 0
        while left > 0 and (seen < visits or blocks[b].step[o] >= cut):
            seen += 1
            left -= 1
            o -= 1
            if o < 0 and left > 0:
                b, o = blocks[b].older, BLOCK - 1
        out[p] = left


@compiled()
def newest_step(
    tail: AnyArray,
    size: AnyArray,
    skip: AnyArray,
    blocks: AnyArray,
    rows: IntArray,  # (Q,) prompts, -1: unknown
    out: IntArray,  # (Q,)
) -> None:
    """Step of each prompt's newest visit, 0 where it has none."""
    for q in range(len(rows)):
        p = rows[q]
        some = p >= 0 and size[p] > 0
        out[q] = blocks[tail[p]].step[(skip[p] + size[p] - 1) % BLOCK] if some else 0


@compiled()
def gather(
    tail: AnyArray,
    size: AnyArray,
    skip: AnyArray,
    blocks: AnyArray,
    rows: IntArray,  # (Q,) prompts, -1: unknown
    start: IntArray,  # (Q,) where each prompt's visits go
    out_step: IntArray,
    out_n: FloatArray,
    out_first: FloatArray,
    out_second: FloatArray,
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
            target = start[q] + left - take
            block = blocks[b]
            if take == BLOCK:  # the usual case, with a trip count that is known when it is compiled
                for o in range(BLOCK):
                    out_step[target + o] = block.step[o]
                    out_n[target + o] = block.n[o]
                    out_first[target + o] = block.first[o]
                    out_second[target + o] = block.second[o]
            else:
                for i in range(take):
                    o = fill - take + i
                    out_step[target + i] = block.step[o]
                    out_n[target + i] = block.n[o]
                    out_first[target + i] = block.first[o]
                    out_second[target + i] = block.second[o]
            left -= take
            b = block.older
            fill = BLOCK
