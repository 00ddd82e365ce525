"""The pooled rule on a device: the pieces of `kernadv.pooling` over tensors, a group at the place of its first row."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kernadv._at_once import at_once
from kernadv.clock import Retention
from kernadv.estimator._pooled import Pooled
from kernadv.estimator.device.features import DeviceFeatures
from kernadv.estimator.device.ids import Told
from kernadv.estimator.device.library import TorchLibrary
from kernadv.estimator.device.rule import Answer, Asked, DeviceRule
from kernadv.kernels import get
from kernadv.moments import Moments, Windows, torch_ops
from kernadv.moments.torch_history_ops import sum_of_others
from kernadv.moments.torch_prequential import reach_of
from kernadv.pooling import Batched, Forecast, LastVisit, Pool, Windowed, posterior, typical_weight


class Memo(NamedTuple):
    """How the values of a batch came about, for `DevicePooled.learn`."""

    past: Windowed
    batch: Batched
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
        lib = TorchLibrary(device)
        with torch.inference_mode(False):  # what stays must change outside of that mode, too
            self.pool = Pool(rule.how, lib=lib)
            self.pool.load_state_dict(rule.state_dict())
        self._width = lib.array(rule.how.windows)[None]
        self._reach = reach_of(self._width, rule.kernel)
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
        rows = len(z)
        windows = Windows(asked.at, self._width.expand(rows, -1), self._reach.expand(rows, -1))
        moments = Moments(*torch_ops.trusted_moments(asked.sample, windows, self._rule.kernel, "float64"))
        past = (Windowed.of if asked.weight is None else Windowed.of_weighted)(moments, torch)
        first = whole * batch.first
        prompt = batch.prompt_begin, batch.prompt_end
        if asked.weight is None:
            n, s, ss = first
            groups = Batched(prompt, torch.stack([n, n, s, n, s, ss]))
            mass, total, sums = others[0], others[1], whole
        else:
            groups = Batched(prompt, first)
            mass, total, sums = others[1], others[2], torch.stack([whole[0], whole[2], whole[1]])
        forecast = self.pool.forecast(past, groups, asked.features)
        weight = typical_weight(self.pool, asked.weight, scored)
        estimate = posterior(self.pool, forecast, batch.begin, (others[0], mass, total), weight)
        window = self.pool.lib.at(self._width, self.pool.best_window)[:, None]
        return Answer(estimate, sums, torch.stack([one, z]), window, Memo(past, groups, forecast))

    def _parts(self, one: Tensor, z: Tensor, w: Tensor | None) -> Tensor:
        """Of each trace 1, z and z^2; with weights 1, w, w z, w^2, w^2 z and w^2 z^2.  # (3 or 6, B)"""
        if w is None:
            return torch.stack([one, z, z * z])
        return torch.stack([one, w, w * z, w * w, w * w * z, (w * z) ** 2])

    def learn(self, asked: Asked, answer: Answer) -> None:
        """Learn from the groups with a scored trace."""
        memo: Memo = answer.memo
        if asked.features is not None:
            self.pool.expect(asked.features.shape[1])
        z = asked.batch.z
        unscored = z.isnan()
        limits = torch.where(unscored, math.inf, z).amin(), torch.where(unscored, -math.inf, z).amax()
        last = self._last_visit(asked)
        self.pool.learn(memo.forecast, memo.past, memo.batch, last, limits, asked.clock[-1], asked.features)

    def _last_visit(self, asked: Asked) -> LastVisit:
        """Each group's newest visit: the moments of a window that holds nothing else."""
        newest = asked.held.visits.newest[asked.row]
        lag = asked.at - newest
        width = torch.ones((1, 1), dtype=torch.float64, device=lag.device).expand(len(lag), 1)
        windows = Windows(newest, width, torch.zeros_like(newest)[:, None])
        made = Moments(*torch_ops.trusted_moments(asked.sample, windows, get("uniform"), "float64")[:, :, 0])
        known = (lag >= 0) & (lag <= self._reach[0, -1])
        n, wz = made.s0 * known, made.t0 * known
        return LastVisit((lag * (n > 0)).double(), n, n if asked.weight is None else made.r0 * known, wz)

    def settle(self) -> None:
        """Give the rule in main memory what was learned here; waits for the device."""
        at_once(*self._rule.loading(self.pool.state_dict()))

    def keep(self, newest: int, allow_late: bool | int) -> Retention:
        """All that any window can see."""
        return self._rule.keep(newest, allow_late)
