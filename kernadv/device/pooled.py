"""The pooled rule on a device: the pieces of `kernadv.pooling` over tensors, a group at the place of its first row."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kernadv import pooling
from kernadv._at_once import at_once
from kernadv.clock import Retention
from kernadv.device.arrays import TorchLibrary
from kernadv.device.features import DeviceFeatures
from kernadv.device.ids import Told
from kernadv.device.ops import sum_of_others
from kernadv.device.rule import Answer, Asked, DeviceRule
from kernadv.estimator._pooled import Pooled
from kernadv.pooling import Batched, Chain, Forecast, Pool


class Memo(NamedTuple):
    """How the values of a batch came about, for `DevicePooled.learn`."""

    asked: pooling.Asked
    forecast: Forecast


class DevicePooled(DeviceRule):
    """As `kernadv.estimator._pooled.Pooled`, with what was learned on the device.

    Parameters
    ----------
    rule : Pooled
        What it has learned is taken over, and given back by `settle`.
    device : torch device
    """

    def __init__(self, rule: Pooled, device: torch.device) -> None:
        self._rule = rule
        with torch.inference_mode(False):  # what stays must change outside of that mode, too
            self.pool = Pool(rule.how, lib=TorchLibrary(device))
            self.pool.load_state_dict(rule.state_dict())
            self._no_window = torch.full((1, 1), math.nan, device=device)
        self._features = DeviceFeatures(rule.features, device) if rule.features else None

    def features(self, told: Told) -> Tensor | None:
        """Features of each row's prompt, as many as those learned from before.  # (B, D)"""
        known = self.pool.features
        return None if self._features is None else self._features.rows(told, known.columns if known else None)

    def read(self, asked: Asked) -> Answer:
        """Values of the rows."""
        batch, z = asked.batch, asked.batch.z
        scored = ~z.isnan()
        one, z = scored.double(), torch.where(scored, z, 0.0)
        parts = self._parts(one, z, asked.weight)
        others = sum_of_others(parts, batch.begin, batch.end)
        whole = others + parts
        if asked.weight is not None:
            whole = whole * (asked.weight.amax() > 0)  # weights that are all 0 teach nothing, and are not stored
        first = whole * batch.first
        prompt = batch.prompt_begin, batch.prompt_end
        if asked.weight is None:
            n, s, ss = first
            groups = Batched(prompt, torch.stack([n, n, s, n, s, ss, n]))
            mass, total, sums = others[0], others[1], whole
        else:
            groups = Batched(prompt, first)
            mass, total, sums = others[1], others[2], torch.stack([whole[0], whole[2], whole[1]])
        past = self._asked(asked, groups)
        forecast = self.pool.forecast(past)
        weight = self.pool.typical_weight(asked.weight, scored)
        estimate = self.pool.posterior(forecast, batch.begin, (others[0], mass, total), weight)
        return Answer(estimate, sums, torch.stack([one, z]), self._no_window, Memo(past, forecast))

    def _parts(self, one: Tensor, z: Tensor, w: Tensor | None) -> Tensor:
        """Of each trace 1, z and z^2; with weights what `Batched` sums.  # (3 or 7, B)"""
        if w is None:
            return torch.stack([one, z, z * z])
        return torch.stack([one, w, w * z, w * w, w * w * z, (w * z) ** 2, w**3])

    def _asked(self, asked: Asked, groups: Batched) -> pooling.Asked:
        """The groups, and what the history has noted of their prompts."""
        batch, held, row = asked.batch, asked.held, asked.row
        notes = held.notes[row]
        known = (held.visits.size[row] > 0) & (notes[:, -1] > 0)
        last = torch.where(known, held.visits.newest[row], asked.at[batch.prompt_begin])
        gap = (asked.at - last).double()
        chain = None if batch.tick is None else Chain(batch.prompt_begin, batch.tick, len(asked.clock))
        missing, none = batch.z.isnan(), torch.full_like(batch.z, math.inf)
        low, high = (
            none.scatter_reduce(0, batch.begin, torch.where(missing, none, sign * batch.z), "amin") for sign in (1, -1)
        )
        return pooling.Asked(groups, known, notes, gap, low, -high, asked.clock[-1], chain, asked.features)

    def learn(self, asked: Asked, answer: Answer) -> Tensor:
        """Learn from the groups with a scored trace."""
        if asked.features is not None:
            self.pool.expect(asked.features.shape[1])
        memo: Memo = answer.memo
        return self.pool.learn(memo.asked, memo.forecast)

    def settle(self) -> None:
        """Give the rule in main memory what was learned here; waits for the device."""
        at_once(*self._rule.loading(self.pool.state_dict()))

    def keep(self, newest: int, allow_late: bool | int) -> Retention:
        """As in main memory."""
        return self._rule.keep(newest, allow_late)
