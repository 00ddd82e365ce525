"""The history on a device: the visits of every prompt, appended to and read without making the host wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kernadv.clock import KEEP_ALL, Retention
from kernadv.device.places import arrange_rows
from kernadv.device.table import Table, enter_ids
from kernadv.device.transfer import Bound, upload
from kernadv.device.visits import NONE, Visits, drop_oldest, evict, pack, put_visits
from kernadv.groups import Groups
from kernadv.moments import Histories
from kernadv.typing import FloatArray, IntArray

if TYPE_CHECKING:
    from kernadv.device.batch import DeviceBatch

#: Initial room for prompts, and for visits of each.
PROMPTS, VISITS = 1024, 8
#: Least number of calls between two evictions of prompts, each of which costs as much as several calls.
PAUSE = 8


class DeviceHistory:
    """The visits of every prompt, as in `kernadv.history.History`, R places each, in no order; and what is noted of it.

    R doubles before the fullest prompt could run out of room, P before a batch could bring too many prompts; what can
    never matter again makes room first.  What is asked of the host (how much room is needed) it answers from `Bound`, which
    lags behind the device but is never too low.

    Parameters
    ----------
    device : torch device
    max_visits : int, optional
        Hard cap on the visits kept of a prompt: the oldest makes room, and is counted in `dropped`.
    max_total : int, optional
        Hard cap on the visits kept in all, see `kernadv.device.visits.drop_oldest`.
    noted : int
        Numbers that are noted of each prompt beside its visits.

    Attributes
    ----------
    table : Table
    visits : Visits
    notes : (P + 1, noted) float64
        The last row belongs to no prompt and stays 0.
    room : int
        R.
    dropped, evicted : () int64
    """

    def __init__(
        self, device: torch.device, max_visits: int | None = None, max_total: int | None = None, noted: int = 0
    ) -> None:
        self.device = device
        self.max_visits, self.max_total = max_visits, max_total
        self.table = Table(device, PROMPTS)
        self.room = VISITS if max_visits is None else min(VISITS, max_visits)
        whole, real, cells = torch.int64, torch.float64, PROMPTS * self.room + 1
        kinds = [(whole, cells), (torch.int32, cells), (real, cells), (real, cells)] + 2 * [(whole, PROMPTS + 1)]
        self.visits = Visits(*(torch.zeros(many, dtype=kind, device=device) for kind, many in kinds))
        self.notes = torch.zeros((PROMPTS + 1, noted), dtype=real, device=device)
        self.dropped, self.evicted = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._prompts, self._fullest, self._total = Bound(device), Bound(device), Bound(device)
        self._oldest = Bound(device)  # step of the oldest visit, when the cap on all was last near
        self._calls = self._evicted_at = self._packed_at = (
            0  # and those at which visits and prompts were last forgotten
        )
        self._least = 0  # prompts left since some were last forgotten, as far as the host has seen

    @property
    def prompts(self) -> int:
        """Prompts that there is room for, P."""
        return len(self.visits.size) - 1

    def find(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Table.find`: where a prompt is unknown the row is P, which has no visits.  # (B,) each"""
        return self.table.find(ids)

    def arrange(self, keys: Tensor, order: Tensor, rewards: Tensor, tick: Tensor | None, at: int) -> list[Tensor]:
        """As `kernadv.device.places.arrange`."""
        held, size, newest = self.table, self.visits.size, self.visits.newest
        made: list[Tensor] = arrange_rows(
            keys, order, rewards, tick, held.keys, held.rows, held.used, size, newest, self.room, at
        )
        return made

    def histories(self, batch: DeviceBatch) -> Histories:
        """Visits of the prompt of each group of a batch that was read against this, of `Groups`; nothing is copied."""
        return Histories(batch.start, batch.length, *self.visits[:4])

    def visit_lag(self, rows: Tensor, at: Tensor, k: int) -> Tensor:
        """As `Histories.visit_lag`, of each of the rows.  # (B,) float64"""
        lag = at[:, None] - self.visits.steps(rows, self.room)
        seen = (torch.arange(self.room, device=self.device) < self.visits.size[rows, None]) & (lag >= 0)
        far = torch.where(seen, lag, -1).amax(1)
        near = torch.where(seen, lag, 2**62).topk(min(k, self.room), dim=1, largest=False).values[:, -1]
        some = torch.where(far < 0, 1, far + 1)
        return torch.where(seen.sum(1) >= k, near, some).double()

    def append(self, batch: DeviceBatch, retention: Retention, notes: Tensor | None = None) -> bool:
        """Add the groups of a batch that have a scored row; a (prompt, step) that exists is merged.

        Parameters
        ----------
        batch : DeviceBatch of B rows
            Which holds what `find` says of its keys, now.
        retention : Retention
            What of the history can still matter.
        notes : (B, noted) float64, optional
            What is noted of the prompt of each group from now on, the same for all groups of a prompt.

        Returns
        -------
        bool
            Whether everything else was forgotten, with the prompts that have nothing more.
        """
        stored = batch.stored
        packed = self._reserve(len(batch.keys), len(batch.clock), retention)
        found = self.find(batch.keys) if packed else (batch.row, batch.hit, batch.place)
        wanted = stored
        if batch.tick is not None:  # a prompt is entered at its first group with a scored row
            before = torch.cumsum(stored, 0)
            wanted = stored & (before == (before - stored.long())[batch.first_group] + 1)
        held = self.table
        row = enter_ids(held.keys, held.rows, held.used, batch.keys, *found, wanted)
        if batch.tick is not None:
            row = self.find(batch.keys)[0]
        lost = []
        for tick, step in enumerate(batch.clock):
            now = stored if batch.tick is None else stored & (batch.tick == tick)
            lost.append(put_visits(*self.visits, self.notes, row, now, batch.visits, notes, step, self.room))
        if self.max_visits is not None:
            self._count(torch.stack(lost), row, retention, self.max_visits)
        if 2 * self._prompts.most > self.prompts:
            self._prompts.ask(self.table.used)
        if 2 * self._fullest.most > self.room:
            self._fullest.ask(self.visits.size.amax())
        return self._cap(len(batch.keys), retention) or packed

    def oldest(self, retention: Retention) -> int:
        """A step before which no visit is left by an `append` that forgot, as far as the host has seen."""
        return self._oldest.most if retention.visits else max(self._oldest.most, retention.oldest)

    def _count(self, lost: Tensor, row: Tensor, retention: Retention, most: int) -> None:
        """Count the visits that were lost because a prompt may have at most so many.  lost: (T, B) steps, of T puts"""
        oldest, span, latest = retention.clamped()
        cut = (self.visits.newest[row] - span).clamp(min=oldest) if latest <= most else -NONE
        over = (lost < cut).sum()
        self.evicted += over
        self.dropped += (lost < NONE).sum() - over

    def _cap(self, added: int, retention: Retention) -> bool:
        """Keep to `max_total` after at most so many visits were added; returns whether rows were given anew."""
        if self.max_total is None:
            return False
        self._total.add(added)
        near = self._total.most > self.max_total  # whether it is passed is decided on the device
        if near:
            self._evict(retention)
            self.dropped += drop_oldest(self.table, self.visits, self.room, self.max_total)
            self._pack()
            place = torch.arange(self.room, device=self.device)
            there = torch.where(place < self.visits.size[:-1, None], self.visits.step[:-1].view(-1, self.room), NONE)
            self._oldest.ask(torch.minimum(there.amin(), self.visits.newest.amax()))
        if 2 * self._total.most > self.max_total:
            self._total.ask(self.visits.size.sum())
        return near

    def _reserve(self, prompts: int, visits: int, retention: Retention) -> bool:
        """Have room for that many more prompts, and visits of each; returns whether rows were given anew."""
        self._calls += 1
        known, fullest = self._prompts.most, self._fullest.most
        self._least = min(self._least, known)
        growing = self.room != self.max_visits
        tight = growing and fullest + visits > 0.75 * self.room and self._calls - self._evicted_at > self.room // 4
        crowded = known + prompts > 0.75 * self.prompts and known - self._least >= self.prompts // 8
        crowded &= retention != KEEP_ALL and self._calls - self._packed_at > PAUSE
        if tight or crowded:  # early, so that the host knows what is left before there is need to grow
            self._evict(retention)
        if crowded:
            self._pack()
        if self._prompts.most + prompts > self.prompts:
            self._resize(_power(self._prompts.most + prompts), self.room)
        if growing and self._fullest.most + visits > self.room:
            self._resize(self.prompts, min(_power(self._fullest.most + visits), self.max_visits or 2**62))
        self._prompts.add(prompts)
        self._fullest.add(visits)
        return crowded

    def _resize(self, prompts: int, room: int) -> None:
        """Move everything to larger memory."""
        self.table.grow(prompts)
        shape = self.prompts, self.room
        moved = []
        for old in self.visits[:4]:
            new = old.new_zeros(prompts * room + 1)
            new[:-1].view(prompts, room)[: shape[0], : shape[1]] = old[:-1].view(shape)
            moved.append(new)
        for old in self.visits[4:]:
            moved.append(torch.cat([old[:-1], old.new_zeros(prompts + 1 - shape[0])]))
        more = self.notes.new_zeros((prompts - shape[0], self.notes.shape[1]))
        self.notes = torch.cat([self.notes, more])  # the last ones are 0, too
        self.visits, self.room = Visits(*moved), room

    def _evict(self, retention: Retention) -> None:
        """Forget what can never matter again."""
        self.evicted += evict(self.visits, self.room, retention)
        self._fullest.ask(self.visits.size.amax())
        self._evicted_at = self._calls

    def _pack(self) -> None:
        """Forget the prompts without visits."""
        pack(self.table, self.visits, self.room, self.notes)
        self._prompts.ask(self.table.used)
        self._packed_at, self._least = self._calls, 2**62

    def load(self, keys: IntArray, visits: Groups, notes: FloatArray) -> None:
        """Take in the visits of an empty history's first P prompts.

        Parameters
        ----------
        keys : (P,) int64
        visits : Groups
            ``prompt`` indexes `keys`; in order of prompt and step.
        notes : (P, noted) float64
        """
        size = np.bincount(visits.prompt, minlength=len(keys))
        start, most = np.cumsum(size) - size, int(size.max(initial=0))
        self._resize(max(_power(len(keys)), self.prompts), max(self.room, min(_power(most), self.max_visits or 2**62)))
        order = np.argsort(keys)
        for held, new in ((self.table.keys, keys[order]), (self.table.rows, order)):
            held[: len(keys)] = upload(new, self.device)
        self.table.used += len(keys)
        self._prompts.add(len(keys))
        self._fullest.add(most)
        self._total.add(len(visits.step))
        place = np.arange(len(visits.step)) - start[visits.prompt]
        cell = upload(visits.prompt * self.room + place, self.device)
        for held, part in zip(self.visits, visits[1:], strict=False):
            held[cell] = upload(part, self.device).to(held.dtype)
        self.visits.size[: len(keys)] = upload(size, self.device)
        self.notes[: len(keys)] = upload(notes, self.device)
        if len(visits.step):
            last = visits.step[np.maximum(start + size - 1, 0)]
            self.visits.newest[: len(keys)] = upload(np.where(size > 0, last, 0), self.device)

    def arrays(self) -> tuple[IntArray, Groups, FloatArray]:
        """What `load` takes, of the prompts that have visits; waits for the device."""
        used = int(self.table.used)
        keys, rows = (part[:used].cpu().numpy() for part in (self.table.keys, self.table.rows))
        size = self.visits.size[:-1].cpu().numpy()[rows]
        keys, rows, size = (part[size > 0] for part in (keys, rows, size))
        start = np.cumsum(size) - size
        prompt = np.repeat(np.arange(len(keys)), size)
        cell = upload(rows[prompt] * self.room + np.arange(len(prompt)) - start[prompt], self.device)
        held = [part[cell].cpu().numpy() for part in self.visits[:4]]
        order = np.lexsort((held[0], prompt))
        step, n, *sums = (part[order] for part in held)
        notes = self.notes[upload(rows, self.device)].cpu().numpy()
        return keys, Groups(prompt, step, n.astype(np.int64), *sums), notes


def _power(count: int) -> int:
    """Smallest power of two that is at least `count`."""
    return 1 << max(count - 1, 0).bit_length()
