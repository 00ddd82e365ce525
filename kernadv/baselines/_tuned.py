"""A family of baselines tuned while it runs: at each step the setting that predicted the past rewards best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError
from kernadv.baselines._base import (
    NOTHING,
    Baseline,
    LinearValues,
    Offline,
    SideInformation,
    TraceValues,
    ValueEstimator,
    Values,
    per_step,
)
from kernadv.baselines._recursive import replay_each
from kernadv.batch import read_batch
from kernadv.groups import Groups
from kernadv.smoothers import Estimate
from kernadv.typing import FloatArray, IntArray

#: Weight of a step in the score of the next one.
DISCOUNT = 0.97


class Tuned(Baseline):
    """The member of a grid with the smallest prequential loss, ``sum_{j < i} 0.97^(i - j) mean (V_j - Z_j)^2``.

    The sum runs over the earlier steps, the means over the traces of a step that have a value.  The first step takes the
    middle of the grid.

    Parameters
    ----------
    name : str
        Of the family.
    grid : sequence of Baseline
        The same baseline with different settings, none with the own reward in it: that would win by predicting itself; and
        none that needs weights, which `observe` does not get.

    Raises
    ------
    ArgumentError
        If the grid is empty or a member uses the own reward or needs weights.

    References
    ----------
    Dawid (1984), Statistical theory: the prequential approach, JRSS A 147.

    Examples
    --------
    >>> from kernadv import simulate
    >>> from kernadv.baselines import Tuned
    >>> from kernadv.baselines.kae import KAE
    >>> from kernadv.clock import Steps
    >>> run = simulate("fast", "multi_pass", 4)
    >>> grid = [KAE(Steps(width)) for width in (2, 10, 50)]
    >>> tuned = Tuned("KAE", grid).replay(run.groups).true_squared_error(run.groups, run.value).mean()
    >>> bool(tuned < KAE(Steps(50)).replay(run.groups).true_squared_error(run.groups, run.value).mean())
    True
    """

    def __init__(self, name: str, grid: Sequence[Baseline]) -> None:
        if not isinstance(grid, (list, tuple)) or not grid or not all(isinstance(b, Baseline) for b in grid):
            raise ArgumentError(f"the grid of {name} must be a list of one Baseline or more, got {grid!r:.80}")
        own = [b.name for b in grid if b.uses_own_reward]
        if own:
            raise ArgumentError(
                f"{', '.join(own)} use the own reward, which a prequential loss favours; leave them out"
            )
        weighted = [b.name for b in grid if b.needs_weights]
        if weighted:
            raise ArgumentError(
                f"{', '.join(weighted)} need weights, which past batches are not scored with; leave them out"
            )
        self.grid = tuple(grid)
        self.name = f"{name} tuned"
        self.title = f"{name}, tuned while running"
        self.min_group = max(b.min_group for b in grid)
        self.offline_rollouts = max(b.offline_rollouts for b in grid)
        self.needs_traces = any(b.needs_traces for b in grid)
        self.needs_truth = any(b.needs_truth for b in grid)

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> Values:
        """Replay every member, and take the one in the lead at each step."""
        tick, n, _ = per_step(groups)
        members = replay_each(self.grid, groups, side)
        error = np.stack([m.squared_error(groups) for m in members], axis=1)  # (N, M)
        scored = np.asarray(~np.isnan(error).any(axis=1))
        count = np.bincount(tick, groups.n * scored, len(n))
        best = np.empty(len(n), np.int64)
        score = np.zeros(len(members))
        rows = np.where(scored[:, None], error, 0.0)
        loss = np.stack([np.bincount(tick, column, len(n)) for column in rows.T], axis=1)
        for step in range(len(n)):
            best[step] = _leader(score)
            if count[step]:
                score = DISCOUNT * score + loss[step] / count[step]
        return _chosen(members, best[tick], groups, side)

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
        scored = batch.scored & ~np.isnan(values).any(axis=0)
        if scored.any():
            self._score = DISCOUNT * self._score + ((values - batch.z)[:, scored] ** 2).mean(axis=1)
        for member in self._members:
            member.observe(prompt_ids, rewards, step)


def _chosen(members: Sequence[Values], which: IntArray, groups: Groups, side: SideInformation) -> Values:
    """The values of one member for each group."""
    linear = [m for m in members if isinstance(m, LinearValues)]
    if len(linear) == len(members):
        rows = np.arange(len(which))
        return LinearValues(*(np.stack(part)[which, rows] for part in zip(*linear, strict=True)))
    assert side.traces is not None
    z, which = side.traces.z, np.repeat(which, groups.n)
    return TraceValues(np.stack([m.at(groups, z) for m in members])[which, np.arange(len(z))], z)


def _leader(score: FloatArray) -> int:
    """First member with the smallest score, up to rounding; before there is any, the middle of the grid."""
    return int(np.argmax(score <= score.min() * (1.0 + 1e-9))) if score.any() else len(score) // 2
