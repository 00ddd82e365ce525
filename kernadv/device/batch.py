"""A batch on a device: rows sorted so that those of a group lie together."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kernadv.device.groups import fill_from_elsewhere, smooth_rows, sum_groups, sum_of_groupmates
from kernadv.device.ids import DeviceIds
from kernadv.device.places import advantages_of_rows
from kernadv.device.totals import add_totals
from kernadv.device.transfer import upload
from kernadv.pooling import Chain, GroupSums
from kernadv.smoothers import Estimate
from kernadv.tally import Tally
from kernadv.typing import AnyArray

if TYPE_CHECKING:
    from kernadv.device.history import DeviceHistory


class DeviceBatch:
    """B rows sorted by prompt, then by step; nothing here makes the host wait.

    It answers as `kernadv.batch.Batch` does, but arrays over the groups have B entries, those of a group at its first row.

    Parameters
    ----------
    keys : (B,) int64
        Whole numbers that stand for the prompts.
    rewards : (B,)
        NaN: could not be scored; one beyond `LARGEST_REWARD` is refused, and counts as NaN.
    tick : (B,) int64, optional
        Index of each row's step in `clock`; None: there is one step.
    clock : list of int
        The steps, ascending.
    history : DeviceHistory
        Which the batch is read against.
    weight : (B,) float64, optional
        Of the traces, 0 where they are not scored; None: all count alike.

    Attributes
    ----------
    order : (B,) int64
        Row of the batch at each place.
    keys, z, tick, weight
        In that order; z are the rewards, in float64.
    step : (B,) int64
        Of each place.
    group, end : (B,) int64
        Places of the row's group: ``group <= place < end``.
    first_group, prompt_end : (B,) int64
        Places of the row's prompt.
    first : (B,) bool
        Whether a place is the first of its group.
    given : DeviceIds
        The ids as they were given.
    kind : type
        Of the results: that of the rewards as they were given, if it is a floating-point one.
    refused : (B,) bool
        Places whose reward or weight cannot be used, or that are of a trace whose parts differ.
    refusals : (B,) bool or int64
        Number of given rows that are refused at each place.
    unit : (1,) float64 or None
        Of the weights, see `kernadv.groups.unit_for`.
    row, hit, place : (B,)
        What `DeviceHistory.find` says of the keys, in the history that the batch was read against.
    start, length : (B,) int64
        Where the visits of each group's prompt lie there, at its first place; elsewhere there are none.
    last : (B,) int64
        Newest step of each place's prompt there; 0: it has none.
    of : tensor of int64 or None
        Index here of each row that was given, where those of a trace are one row; None: each is its own.
    """

    alike = None
    of: Tensor | None = None
    given: DeviceIds
    kind: torch.dtype
    unit: Tensor | None

    def __init__(
        self,
        keys: Tensor,
        rewards: Tensor,
        tick: Tensor | None,
        clock: list[int],
        history: DeviceHistory,
        weight: Tensor | None = None,
    ) -> None:
        if tick is None:
            self.keys, order = torch.sort(keys, stable=True)
            self.tick = None
        else:
            order = torch.sort(tick, stable=True).indices
            self.keys, inner = torch.sort(keys[order], stable=True)
            order = order[inner]
            self.tick = tick[order]
        (
            self.z, self.refused, self.group, self.end, self.first, self.row, self.hit, self.place, self.last,
            self.start, self.length, *further,
        ) = history.arrange(self.keys, order, rewards, self.tick, clock[0])  # fmt: skip
        if self.tick is None:
            (self.step,) = further
            self.first_group, self.prompt_end = self.group, self.end
        else:
            self.first_group, self.prompt_end = further
            self.step = upload(np.array(clock), keys.device)[self.tick]
        self.order, self.clock, self.refusals = order, clock, self.refused
        self.weight = None if weight is None else weight[order]

    @property
    def prompt(self) -> tuple[Tensor, Tensor]:
        """Where the prompt of each place begins and ends.  # (B,), (B,)"""
        return self.first_group, self.prompt_end

    @property
    def newest(self) -> int:
        """Newest step."""
        return self.clock[-1]

    @property
    def chain(self) -> Chain | None:
        """Which groups are of one prompt; None: no prompt has two."""
        return None if self.tick is None else Chain(self.first_group, self.tick, len(self.clock))

    @cached_property
    def scored(self) -> Tensor:
        """False where a reward is NaN.  # (B,)"""
        return ~self.z.isnan()

    @cached_property
    def own(self) -> Tensor:
        """1 and the reward of each place; 0 and 0 where it is not scored.  # (2, B)"""
        return torch.stack([self.scored.double(), torch.where(self.scored, self.z, 0.0)])

    @cached_property
    def unweighted(self) -> DeviceBatch:
        """The same rows without weights."""
        if self.weight is None:
            return self
        other = copy(self)
        other.weight = None
        for name in ("_others", "_whole"):
            other.__dict__.pop(name, None)
        return other

    @cached_property
    def stored(self) -> Tensor:
        """Whether a place is the first of a group that has a scored row.  # (B,)"""
        return self._sums[4]

    @property
    def visits(self) -> Tensor:
        """Count and the two sums that a history keeps of the whole group of each place.  # (3, B)"""
        return self.unweighted._whole

    @property
    def heard(self) -> tuple[Tensor, Tensor, Tensor]:
        """Count, sum of the weights and of weight x reward of the other scored traces of each place's group.  # (B,) each"""
        others = self._others
        return (others[0], others[0], others[1]) if self.weight is None else (others[0], others[1], others[2])

    def extremes(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest reward of each group; inf and -inf where none is scored.  # (B,), (B,)"""
        low, high = self._sums[3].unbind()
        return low, high

    def sums(self, seen: object) -> GroupSums:
        """The groups for a `Pool`; squares are counted from 0, as those of the history are."""
        origin = self.z.new_zeros(())
        if self.weight is None:
            n, s, ss = self._sums[2]
            return GroupSums(self.prompt, n, n, s, n, s, ss, n, origin)
        n, w, wz, ww, wwz, wwzz, www = self._whole * self.first
        return GroupSums(self.prompt, n, w, wz, ww, wwz, wwzz, www, origin)

    def smoothed(self, past: Tensor, smoother: str) -> Estimate:
        """Values of the places from the moments of each group's past, (9, B), and the other traces of the group.

        The fused kernel sums the groups on the way.
        """
        made, defined, self.stored = smooth_rows(past, self.z, self.group, self.end, smoother)
        self._whole = made[3:]
        return Estimate(made[0], made[1], made[2], defined)

    def filled(self, value: Tensor, defined: Tensor, seen: Tensor) -> Tensor:
        """As `kernadv.batch.Batch.filled`.  # (B,)"""
        return fill_from_elsewhere(value, defined, self.z, *self.prompt, seen)

    def advantages(self, value: Tensor) -> Tensor:
        """Reward - value of the rows, of their type; 0 where a reward is NaN, NaN where it is refused.  # (B,)"""
        made = advantages_of_rows(self.z, value, self.refused, self.order, self.kind)
        return made if self.of is None else made[self.of]

    def add_to(self, tally: Tally, value: Tensor | None, keep: float, refused: Tensor) -> None:
        """As `Tally.after`, with tensors, in place; adds the rows that are refused to their number, () int64."""
        n, s, _ = self.visits
        add_totals(*tally, refused, self.z, self.group, self.end, n, s, value, self.refusals, keep)

    def restore(self, x: Tensor) -> Tensor:
        """Numbers of the places as those of the rows, of the type of the rewards.  # (B,)"""
        rows = torch.empty_like(x).index_copy_(0, self.order, x)
        rows = rows if self.of is None else rows[self.of]
        return rows.to(self.kind) if rows.is_floating_point() else rows

    def of_steps(self, values: AnyArray) -> Tensor:
        """The number of its step at each place, from one number a step of the batch.  # (B, 1)"""
        if self.tick is not None:
            return upload(values, self.z.device)[self.tick][:, None]
        kind = torch.float64 if values.dtype.kind == "f" else torch.int64
        return torch.full((1, 1), values[0].item(), dtype=kind, device=self.z.device).expand(len(self.z), 1)

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As `kernadv.device.groups.sums_of_groups`, whatever the weights are."""
        made: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = sum_groups(self.z, self.group, self.end)
        return made

    @cached_property
    def _parts(self) -> Tensor:
        """The terms of `GroupSums` of each trace.  # (7, B)"""
        (one, z), w = self.own, self.weight
        assert w is not None
        return torch.stack([one, w, w * z, w * w, w * w * z, (w * z) ** 2, w**3])

    @cached_property
    def _others(self) -> Tensor:
        """Sums over the other traces of each place's group; with weights those of the parts.  # (3 or 7, B)"""
        return self._sums[0] if self.weight is None else sum_of_groupmates(self._parts, self.group, self.end)

    @cached_property
    def _whole(self) -> Tensor:
        """The same sums over the group of each place.  # (3 or 7, B)"""
        if self.weight is None:
            return self._sums[1]
        return (self._others + self._parts) * (self.weight.amax() > 0)  # weights that are all 0 teach nothing
