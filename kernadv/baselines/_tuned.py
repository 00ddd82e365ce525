"""A family of baselines tuned while it runs: at each step the setting that predicted the past rewards best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray
from kernadv.baselines._base import (
    NOTHING,
    LinearBaseline,
    LinearValues,
    Offline,
    SideInformation,
    ValueEstimator,
    per_step,
)
from kernadv.batch import read_batch
from kernadv.groups import Groups
from kernadv.smoothers import Estimate

#: Weight of a step in the score of the next one.
DISCOUNT = 0.97


class Tuned(LinearBaseline):
    """The member of a grid with the smallest prequential loss, ``sum_{j < i} 0.97^(i - j) mean (V_j - Z_j)^2``.

    The sum runs over the earlier steps, the means over the traces of a step.  The first step takes the middle of the grid.

    Parameters
    ----------
    name : str
        Of the family.
    grid : sequence of LinearBaseline
        The same baseline with different settings, none with the own reward in it: that would win by predicting itself.

    Raises
    ------
    ArgumentError
        If the grid is empty or a member uses the own reward.

    References
    ----------
    Dawid (1984), Statistical theory: the prequential approach, JRSS A 147.
    """

    def __init__(self, name: str, grid: Sequence[LinearBaseline]) -> None:
        if not isinstance(grid, (list, tuple)) or not grid or not all(isinstance(b, LinearBaseline) for b in grid):
            raise ArgumentError(f"the grid of {name} must be a list of one LinearBaseline or more, got {grid!r:.80}")
        own = [b.name for b in grid if b.uses_own_reward]
        if own:
            raise ArgumentError(
                f"{', '.join(own)} use the own reward, which a prequential loss favours; leave them out"
            )
        self.grid = tuple(grid)
        self.name = f"{name} tuned"
        self.title = f"{name}, tuned while running"
        self.min_group = max(b.min_group for b in grid)
        self.offline_rollouts = max(b.offline_rollouts for b in grid)

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Replay every member, and take the one in the lead at each step."""
        tick, n, _ = per_step(groups)
        members = [baseline.replay(groups, side) for baseline in self.grid]
        loss = np.stack([np.bincount(tick, m.squared_error(groups), len(n)) / n for m in members], axis=1)
        best = np.empty(len(n), np.int64)
        score = np.zeros(len(members))
        for step, now in enumerate(loss):
            best[step] = _leader(score)
            score = DISCOUNT * score + now
        chosen, rows = best[tick], np.arange(len(tick))
        return LinearValues(*(np.stack(part)[chosen, rows] for part in zip(*members, strict=True)))

    def online(self, offline: Offline | None = None) -> ValueEstimator:
        """Run every member."""
        return _TunedOnline([baseline.online(offline) for baseline in self.grid])


class _TunedOnline:
    """Every member of the grid, and their scores."""

    def __init__(self, members: list[ValueEstimator]) -> None:
        self._members = members
        self._score = np.zeros(len(members))

    def values(self, prompt_ids: Any, rewards: Any, step: Any) -> Estimate:
        """Values of the member in the lead.  Reads only."""
        return self._members[_leader(self._score)].values(prompt_ids, rewards, step)

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Score the members on the batch, then show it to them."""
        batch = read_batch(prompt_ids, rewards, step)
        values = np.stack([np.asarray(m.values(prompt_ids, rewards, step).value, np.float64) for m in self._members])
        if batch.scored.any():
            self._score = DISCOUNT * self._score + ((values - batch.z)[:, batch.scored] ** 2).mean(axis=1)
        for member in self._members:
            member.observe(prompt_ids, rewards, step)


def _leader(score: FloatArray) -> int:
    """First member with the smallest score, up to rounding; before there is any, the middle of the grid."""
    return int(np.argmax(score <= score.min() * (1.0 + 1e-9))) if score.any() else len(score) // 2
