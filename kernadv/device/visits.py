"""Appending to the visits of a history on a device in plain torch: the reference of the fused kernel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Beyond every step.
NONE = 2**62


class Visits(NamedTuple):
    """Visits of P prompts, R places each, in no order.

    Attributes
    ----------
    step, n, first, second : (P R + 1,)
        int64, int32, float64 and float64: step, count and two sums, s and ss of `Groups` or wz and w of `WeightedGroups`;
        the last place takes what must not be stored.
    size, newest : (P + 1,) int64
        Visits and newest step of each prompt; the last is of no prompt and stays 0.
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


def put(visits: Visits, rows: Tensor, now: Tensor, sums: Tensor, step: int, room: int) -> Tensor:
    """Add a visit at `step` to the prompts in `rows` where it is due, in place; one at that step is merged.

    A prompt without room loses its oldest visit, which may be the new one.

    Parameters
    ----------
    visits : Visits
    rows : (B,) int64
        At most once due for one row.
    now : (B,) bool
        Where a visit is due.
    sums : (3, B) float64
        Its count and the two sums.
    step, room : int
        `room` is R.

    Returns
    -------
    (B,) int64
        Step of the visit that was lost, `NONE` where none was.
    """
    none = len(visits.size) - 1
    rows = torch.where(now, rows, none)
    steps, size = visits.steps(rows, room), visits.size[rows]
    used = torch.arange(room, device=rows.device) < size[:, None]
    same = used & (steps == step)
    known, full = same.any(1), size >= room
    oldest, last = torch.where(used, steps, NONE).min(1)
    slot = torch.where(known, same.int().argmax(1), torch.where(full, last, size))
    lost = now & full & ~known
    cell = torch.where(now & ~(lost & (oldest > step)), rows * room + slot, len(visits.step) - 1)
    for held, new in zip((visits.n, visits.first, visits.second), sums, strict=True):
        held[cell] = torch.where(known, held[cell], 0) + new.to(held.dtype)
    visits.step[cell] = torch.full_like(cell, step)
    visits.size[rows] = torch.where(now, size + (~known & ~full), 0)
    visits.newest[rows] = torch.where(now, visits.newest[rows].clamp(min=step), 0)
    return torch.where(lost, oldest.clamp(max=step), NONE)
