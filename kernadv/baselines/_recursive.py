"""Baselines that are recursions over the steps: a few numbers a prompt, and a few of all prompts together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np

from kernadv._errors import CheckpointError
from kernadv._states import as_arrays
from kernadv.baselines._base import (
    NOTHING,
    Baseline,
    LinearBaseline,
    LinearValues,
    Offline,
    SideInformation,
    ValueEstimator,
    Values,
    offline_of,
    row_values,
    scored_groups,
)
from kernadv.batch import read_batch
from kernadv.groups import Groups
from kernadv.ids import Id, decode_ids, encode_ids
from kernadv.smoothers import Estimate
from kernadv.typing import AnyArray, FloatArray

#: A number of a recursion; one a member, (K, 1), where the K members of a grid run together.
Setting = float | FloatArray


class Recursive(LinearBaseline):
    """A linear baseline whose memory is a row of numbers a prompt and some numbers shared by all.

    With `settings` its formulas broadcast over the members of a grid: a number of each prompt is (N,) for one setting, and
    (K, N) for K of them.

    Attributes
    ----------
    shared : tuple of float
        The shared numbers before the first step.
    settings : tuple of str
        Names of the numbers that a grid varies, each a `Setting`; without any, its members run one after the other.
    members : tuple of int
        () for one setting, (K,) for the K members of a grid run together.
    """

    shared: tuple[float, ...] = ()
    settings: tuple[str, ...] = ()
    members: tuple[int, ...] = ()

    @abstractmethod
    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """Memory of new prompts; the offline rollouts in their order.  # (P, k)"""

    @abstractmethod
    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """Values of the groups of a step, one prompt each, with ``memory`` (..., N, k) from before it."""

    @abstractmethod
    def update(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Memory of the prompts, and what is shared, after the step."""

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Run through the steps."""
        offline = self.check_offline(side.offline)
        start = self.start(int(groups.prompt.max(initial=-1)) + 1, offline)
        memory = np.broadcast_to(start, self.members + start.shape).copy()
        shared = np.array(self.shared)
        order = np.argsort(groups.step, kind="stable")
        in_time = groups.take(order)
        out = np.empty((3, *self.members, len(order)))
        bounds = np.flatnonzero(np.diff(in_time.step, prepend=-1, append=-1)).tolist()
        for low, high in pairwise(bounds):
            now = in_time.take(slice(low, high))
            own = memory.take(now.prompt, axis=-2)
            for part, value in zip(out, self.read(own, shared, now), strict=True):
                part[..., low:high] = value
            memory[..., now.prompt, :], shared = self.update(own, shared, now)
        return LinearValues(*out.take(np.argsort(order), axis=-1))

    def online(self, offline: Offline | None = None) -> ValueEstimator:
        """The recursion for a training loop."""
        return Recursion(self, self.check_offline(offline))

    def like(self, other: Baseline) -> bool:
        """Whether the two differ in their settings alone, and so can run together."""
        if not self.settings or type(other) is not type(self):
            return False
        told_apart = {"name", "title", *self.settings}
        mine, its = ({k: v for k, v in vars(b).items() if k not in told_apart} for b in (self, other))
        return its == mine

    def together(self, grid: Sequence[Baseline]) -> Recursive:
        """The members of a grid as one recursion, for `replay` alone: its values are (K, N)."""
        many = copy(self)
        many.members = (len(grid),)
        for name in self.settings:
            setattr(many, name, np.array([[getattr(member, name)] for member in grid]))
        return many


def replay_each(grid: Sequence[Baseline], groups: Groups, side: SideInformation = NOTHING) -> list[Values]:
    """Replay every member of a grid: one run through the steps for all, where they are one recursion."""
    first = grid[0]
    if isinstance(first, Recursive) and all(map(first.like, grid)):
        return [LinearValues(*member) for member in zip(*first.together(grid).replay(groups, side), strict=True)]
    return [member.replay(groups, side) for member in grid]


def columns(*parts: AnyArray) -> FloatArray:
    """Numbers of each prompt side by side; the first is (..., N), the others broadcast to it.  # (..., N, k)"""
    out = np.empty((*parts[0].shape, len(parts)))
    for column, part in enumerate(parts):
        out[..., column] = part
    return out


class Recursion:
    """The online form of a recursive baseline.

    Parameters
    ----------
    baseline : Recursive
    offline : Offline, optional
    """

    def __init__(self, baseline: Recursive, offline: Offline | None) -> None:
        self._baseline = baseline
        self._offline = offline
        self._row: dict[Id, int] = {}
        self._memory = baseline.start(0, None if offline is None else offline_of(offline, []))
        self._shared = np.array(baseline.shared, np.float64)

    def values(self, prompt_ids: Any, rewards: Any, step: Any) -> Estimate:
        """Value of each row; undefined for rows without a reward.  Reads only."""
        batch = read_batch(prompt_ids, rewards, step)
        groups, traces, order = scored_groups(batch)
        own = self._recall(batch.ids)[groups.prompt]
        return row_values(batch, order, self._baseline.read(own, self._shared, groups).at(groups, traces.z))

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Remember a batch, its steps one after the other."""
        batch = read_batch(prompt_ids, rewards, step)
        memory, shared = self._recall(batch.ids), self._shared
        groups, _, _ = scored_groups(batch)
        for i in np.unique(groups.step):
            now = groups.take(groups.step == i)
            memory[now.prompt], shared = self._baseline.update(memory[now.prompt], shared, now)
        new = [i for i in batch.ids if i not in self._row]
        self._row.update(zip(new, range(len(self._row), len(self._row) + len(new)), strict=True))
        self._memory = np.concatenate([self._memory, np.empty((len(new), memory.shape[1]))])
        self._memory[[self._row[i] for i in batch.ids]] = memory
        self._shared = shared

    def state_dict(self) -> dict[str, AnyArray]:
        """All state as plain arrays."""
        return {**encode_ids(list(self._row)), "memory": self._memory.copy(), "shared": self._shared.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the state; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            If arrays are missing or do not fit this baseline.
        """
        arrays = as_arrays(state)
        if "memory" not in arrays or "shared" not in arrays:
            raise CheckpointError(f"not a state of {self._baseline.name}: it holds only {sorted(arrays)[:8]}")
        memory, shared = (np.array(arrays[name], np.float64) for name in ("memory", "shared"))
        ids = decode_ids(arrays)
        if memory.shape != (len(ids), self._memory.shape[1]) or shared.shape != self._shared.shape:
            raise CheckpointError(
                f"the state has {len(ids)} ids, memory of shape {memory.shape} and {shared.shape} shared numbers; "
                f"{self._baseline.name} has {self._memory.shape[1]} numbers a prompt and {self._shared.shape} shared"
            )
        self._row = {i: row for row, i in enumerate(ids)}
        self._memory, self._shared = memory, shared

    def _recall(self, ids: list[Id]) -> FloatArray:
        """Memory of the prompts, new ones as they start.  # (P, k)"""
        memory = self._baseline.start(len(ids), offline_of(self._offline, ids))
        rows = [self._row.get(i, -1) for i in ids]
        known = [k for k, row in enumerate(rows) if row >= 0]
        memory[known] = self._memory[[rows[k] for k in known]]
        return memory
