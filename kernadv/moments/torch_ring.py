"""Histories that live on the device: a ring of visits for every prompt, used without making the host wait."""

from __future__ import annotations

from typing import Any

import torch

from kernadv._errors import check_count
from kernadv.moments._base import Sample


class Ring:
    """The latest visits of P prompts; an older one makes room for a new one.

    Parameters
    ----------
    prompts : int
        Number of prompts P; a prompt is its row.
    visits : int
        Visits kept of each.
    device : torch device
    """

    def __init__(self, prompts: int, visits: int, device: Any) -> None:
        self.visits = check_count(visits, "visits")
        cells = check_count(prompts, "prompts") * self.visits
        # one cell more: what must not be stored goes there
        self.step = torch.zeros(cells + 1, dtype=torch.int32, device=device)
        self.n = torch.zeros(cells + 1, dtype=torch.int32, device=device)
        self.s = torch.zeros(cells + 1, device=device)
        self.ss = torch.zeros(cells + 1, device=device)
        self.count = torch.zeros(prompts, dtype=torch.int64, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return sum(part.nbytes for part in (self.step, self.n, self.s, self.ss, self.count))

    def sample(self, rows: torch.Tensor) -> Sample:
        """Visits of the prompts in `rows` (Q,), where they lie: nothing is copied.  Their steps are in no order."""
        length = self.count[rows].clamp(max=self.visits).int()
        return Sample(rows * self.visits, length, self.step, self.n, self.s, self.ss)

    def append(self, rows: torch.Tensor, step: Any, n: torch.Tensor, s: torch.Tensor, ss: torch.Tensor) -> None:
        """Add a visit to each of the `rows`; where n is 0 there is none.

        Parameters
        ----------
        rows : (B,) int64
            A row may come several times, but not more often than a ring has room.
        step : int, or (B,) int tensor
        n, s, ss : (B,) tensors
            Number, sum and sum of squares of the rewards.
        """
        stored = n > 0
        order = rows.argsort(stable=True)
        sorted_ = rows[order]
        before = torch.cumsum(stored[order], 0) - stored[order].long()
        rank = torch.empty_like(rows)
        rank[order] = before - before[torch.searchsorted(sorted_, sorted_)]  # among the visits of the same row
        slot = (self.count[rows] + rank) % self.visits
        cell = torch.where(stored, rows * self.visits + slot, len(self.step) - 1)
        self.step[cell] = torch.full_like(cell, step, dtype=torch.int32) if isinstance(step, int) else step.int()
        self.n[cell] = n.int()
        self.s[cell] = s.float()
        self.ss[cell] = ss.float()
        self.count.index_add_(0, rows, stored.long())
