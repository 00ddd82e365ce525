"""The visits of a history on a device: how they are appended to, and forgotten.

What goes is decided there, by operators whose shapes depend on no number.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kernadv.clock import Retention
from kernadv.device.table import FREE, Table
from kernadv.moments.dispatch import fused_operator

#: A step beyond every other.
NONE = 2**62


class Visits(NamedTuple):
    """Visits of P prompts, R places each, in no order.

    Attributes
    ----------
    step, n, first, second : (P R + 1,)
        int64, int32, float64 and float64: step, count and two sums, s and ss of `Groups`;
        the last place takes what must not be stored.
    size, newest : (P + 1,) int64
        Visits and newest step of each prompt; the last belongs to no prompt and stays 0.
    """

    step: Tensor
    n: Tensor
    first: Tensor
    second: Tensor
    size: Tensor
    newest: Tensor

    def steps(self, rows: Tensor, room: int) -> Tensor:
        """Steps of the places of each of the rows.  # (B, R)"""
        cells = rows[:, None] * room + torch.arange(room, device=rows.device)
        return self.step[cells.clamp(max=len(self.step) - 1)]


def put(
    step: Tensor, n: Tensor, first: Tensor, second: Tensor, size: Tensor, newest: Tensor, notes: Tensor,
    rows: Tensor, now: Tensor, sums: Tensor, noted: Tensor | None, at: int, room: int,
) -> Tensor:  # fmt: skip
    """Add a visit at a step to the prompts in `rows` where it is due, and note what is given; in place.

    A visit at a step that is there is merged with it.

    A prompt without room loses its oldest visit, which may be the new one.

    Parameters
    ----------
    step, n, first, second, size, newest
        Of `Visits`.
    notes : (P + 1, noted) float64
    rows : (B,) int64
        At most once due for one row.
    now : (B,) bool
        Where a visit is due; one of no prompt (a row that is not one of the P) is not stored.
    sums : (3, B) float64
        Its count and the two sums.
    noted : (B, noted) float64, optional
        What is noted of the prompts from now on; None: what was.
    at, room : int
        The step, and R.

    Returns
    -------
    (B,) int64
        Step of the visit that was lost, `NONE` where none was.
    """
    visits = Visits(step, n, first, second, size, newest)
    none = len(size) - 1
    now = now & (rows >= 0) & (rows < none)
    rows = torch.where(now, rows, none)
    steps, count = visits.steps(rows, room), size[rows]
    used = torch.arange(room, device=rows.device) < count[:, None]
    same = used & (steps == at)
    known, full = same.any(1), count >= room
    oldest, last = torch.where(used, steps, NONE).min(1)
    slot = torch.where(known, same.int().argmax(1), torch.where(full, last, count))
    lost = now & full & ~known
    cell = torch.where(now & ~(lost & (oldest > at)), rows * room + slot, len(step) - 1)
    for held, new in zip((n, first, second), sums, strict=True):
        held[cell] = torch.where(known, held[cell], 0) + new.to(held.dtype)
    step[cell] = torch.full_like(cell, at)
    size[rows] = torch.where(now, count + (~known & ~full), 0)
    newest[rows] = torch.where(now, newest[rows].clamp(min=at), 0)
    if noted is not None:
        notes[rows] = torch.where(now[:, None], noted, 0.0)
    return torch.where(lost, oldest.clamp(max=at), NONE)


#: `put`, on a GPU by the fused kernel.
put_visits = fused_operator(
    "put_visits",
    put,
    "kernadv.device.triton_kernels",
    like=lambda step, n, first, second, size, newest, notes, rows, *_: torch.empty_like(rows),
    mutates=("step", "n", "first", "second", "size", "newest", "notes"),
)


def evict(visits: Visits, room: int, retention: Retention) -> Tensor:
    """Forget what can never matter again, and sort the rest by step, newest first.  In place.

    Parameters
    ----------
    visits : Visits
    room : int
        R.
    retention : Retention

    Returns
    -------
    () int64
        Number of visits forgotten.
    """
    size = visits.size[:-1]
    place = torch.arange(room, device=size.device)
    left = place < size[:, None]
    step = torch.where(left, visits.step[:-1].view(-1, room), -(2**62))
    ranked, order = step.sort(dim=1, descending=True)
    oldest, span, latest = retention.clamped()
    cut = (ranked[:, :1] - span).clamp(min=oldest)
    live = left & ((place < latest) | (ranked >= cut))
    for part in visits[:4]:
        held = part[:-1].view(-1, room)
        held.copy_(held.gather(1, order))
    count = live.sum(1)
    gone = (size - count).sum()
    size.copy_(count)
    return gone


def drop_oldest(table: Table, visits: Visits, room: int, cap: int) -> Tensor:
    """If there are more than `cap` visits, drop the oldest of all down to 7/8 of it, as `kernadv.history.History` does.

    In place; of visits that are in order of their steps, newest first, as `evict` leaves them.  Of one step's visits those
    go first whose key is smaller.

    Returns
    -------
    () int64
        Number of visits dropped.
    """
    size, total = visits.size[:-1], visits.size.sum()
    excess = torch.where(total > cap, total - (cap - cap // 8), 0)
    rows = table.rows.clamp(0, len(size) - 1)  # by key; those of free places mean nothing
    place = torch.arange(len(rows), device=rows.device)
    length = torch.where(place < table.used, size[rows], 0)
    there = torch.arange(room, device=rows.device) < length[:, None]
    step = torch.where(there, visits.step[:-1].view(-1, room)[rows], 2**62)
    order = torch.sort(step.flatten(), stable=True).indices
    oldest = torch.arange(len(order), device=rows.device) < excess
    gone = torch.empty_like(oldest).index_copy_(0, order, oldest).view(-1, room)
    size.index_add_(0, rows, -gone.sum(1))
    return excess


def pack(table: Table, visits: Visits, room: int, notes: Tensor) -> None:
    """Prompts without visits leave; the rows of the others close up, in their order.  In place.  notes: (P + 1, noted)"""
    size, newest = visits.size[:-1], visits.newest[:-1]
    live = size > 0
    source = torch.sort(live.byte(), stable=True, descending=True).indices
    row = torch.cumsum(live, 0) - 1
    newest.mul_(live)
    for part in (*(part[:-1].view(-1, room) for part in visits[:4]), size, newest, notes[:-1]):
        part.copy_(part[source])
    place = torch.arange(len(table.keys), device=size.device)
    rows = table.rows.clamp(0, len(row) - 1)  # those of free places mean nothing
    kept = (place < table.used) & live[rows]
    order = torch.sort(kept.byte(), stable=True, descending=True).indices
    table.used.copy_(kept.sum())
    table.keys.copy_(torch.where(place < table.used, table.keys[order], FREE))
    table.rows.copy_(row[rows[order]])
