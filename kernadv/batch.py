"""A batch of rollouts: rows of (prompt id, reward, step), checked and reduced to groups."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernadv._arrays import Restore, read_rewards, read_steps
from kernadv._group_loops import sum_of_others
from kernadv._typing import AnyArray, BoolArray, FloatArray, IntArray
from kernadv.groups import Groups
from kernadv.ids import Id, batch_codes


class Batch(NamedTuple):
    """B rows in N groups of P prompts.

    Attributes
    ----------
    ids : list of str or int  # (P,)
    group : (B,) int64
        Index of each row's group.
    groups : Groups of N rows
        ``groups.prompt`` indexes `ids`; n = 0 for a group without any scored trace.
    z : (B,) float64
    scored : (B,) bool
        False where the reward is NaN.
    others : (3, B) float64
        Count, sum and sum of squares of the rewards of the other scored traces of the row's group.
    restore : callable
        Turns a (B,) result into the kind, dtype and device of the rewards.
    """

    ids: list[Id]
    group: IntArray
    groups: Groups
    z: FloatArray
    scored: BoolArray
    others: FloatArray
    restore: Restore

    def observed(self, groups: Groups) -> tuple[list[Id], Groups]:
        """Those of the `groups` (the batch's, whatever their sums) with a scored trace, and the ids they index."""
        kept = groups.n > 0
        if kept.all():
            return self.ids, groups
        prompts, index = np.unique(groups.prompt[kept], return_inverse=True)
        ids = [self.ids[p] for p in prompts.tolist()]
        return ids, groups.take(kept)._replace(prompt=index)

    def mean_of_other_prompts(self, otherwise: float) -> FloatArray:
        """Mean reward of the batch's other prompts for each row; `otherwise` where there is none.  # (B,)"""
        prompt = self.groups.prompt
        n = _sum_of_other_entries(_sums(prompt, self.groups.n, len(self.ids)))
        s = _sum_of_other_entries(_sums(prompt, self.groups.s, len(self.ids)))
        mean = np.where(n > 0, s / np.maximum(n, 1.0), otherwise)
        return np.asarray(mean[prompt[self.group]])


def read_batch(prompt_ids: Any, rewards: Any, step: Any) -> Batch:
    """Check a batch and reduce it to groups.

    Parameters
    ----------
    prompt_ids : sequence of str or of int  # (B,)
    rewards : array, tensor or sequence of float; NaN: could not be scored  # (B,)
    step : int, or (B,) ints, from 1

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used.
    """
    ids, code = batch_codes(prompt_ids)
    z, restore = read_rewards(rewards, len(code))
    steps = read_steps(step, len(code))
    if (steps == steps[0]).all():
        group, prompt, at = code, np.arange(len(ids)), np.full(len(ids), steps[0])
    else:
        clock, tick = np.unique(steps, return_inverse=True)
        key, group = np.unique(code * len(clock) + tick, return_inverse=True)
        prompt, at = key // len(clock), clock[key % len(clock)]
    scored = ~np.isnan(z)
    clean = np.where(scored, z, 0.0)
    groups = Groups(
        prompt,
        at,
        _sums(group, scored, len(prompt)).astype(np.int64),
        _sums(group, clean, len(prompt)),
        _sums(group, clean * clean, len(prompt)),
    )
    return Batch(ids, group, groups, z, scored, sum_of_others(group, z, scored, len(prompt)), restore)


def _sums(code: IntArray, x: AnyArray, size: int) -> FloatArray:
    return np.bincount(code, x, size).astype(np.float64)


def _sum_of_other_entries(x: FloatArray) -> FloatArray:
    """Sum of all entries but the own one, which never enters, not even in rounding.  # (P,)"""
    before = np.concatenate([[0.0], np.cumsum(x[:-1])])
    after = np.concatenate([np.cumsum(x[:0:-1])[::-1], [0.0]])
    return np.asarray(before + after)
