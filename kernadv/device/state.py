"""The estimator where the rewards are: history, smoothing and advantages on the device, and no waiting for it.

The host knows the steps, the numbers of rows and the ids that are given as text; it never asks the device for anything that
it would have to wait for.  The numbers are those of the CPU, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernadv._arrays import LARGEST_REWARD, LARGEST_WEIGHT, check_floats, read_steps
from kernadv._errors import ArgumentError, ArgumentTypeError, KernadvError
from kernadv._typing import FloatArray
from kernadv.device import groups
from kernadv.device.history import DeviceHistory
from kernadv.device.ids import Names, Told, read_ids
from kernadv.device.refused import Refused
from kernadv.device.rule import Answer, Asked, DeviceRule
from kernadv.device.table import Found
from kernadv.device.transfer import send, upload
from kernadv.estimator._cold import unobserved
from kernadv.groups import Groups
from kernadv.history import History, check_id_type
from kernadv.ids import Id
from kernadv.smoothers import Estimate
from kernadv.units import MOST_UNITS, in_units, unit_for


class Reading(NamedTuple):
    """A batch on the device and the rule's answer.

    Attributes
    ----------
    asked : Asked
    answer : Answer
    found : Found
        Where the history's table has the ids.
    told : Told
    refused : (B,) bool
        Rows whose reward or weight cannot be used, in their own order.
    unit : () float64
        Of the weights; 0 while none came.
    """

    asked: Asked
    answer: Answer
    found: Found
    told: Told
    refused: Tensor
    unit: Tensor


class OnDevice:
    """A history that moved to a device, and the rule there.

    Parameters
    ----------
    rule : DeviceRule
    history : History
        Is copied to the device.
    seen : (2,) float64
        Count and sum of all rewards observed.
    device : torch device
    """

    def __init__(self, rule: DeviceRule, history: History, seen: FloatArray, device: torch.device) -> None:
        self.device = device
        self.newest = history.newest
        self.id_type = history.id_type
        self._rule = rule
        self._counters = history.counters
        self._limits = history.max_visits, history.max_total
        self._names = Names()
        self._last: dict[str, Tensor] = {}
        self._whole = True  # False while a batch enters
        with torch.inference_mode(False):  # what stays must change outside of that mode, too
            ids = history.ids
            notes = history.notes(history.find(ids))
            self._noted = notes.shape[1]
            self._held = DeviceHistory(device, *self._limits, self._noted)
            self._seen = upload(seen, device)
            self._unit = upload(np.array(history.unit), device)
            self._refused = Refused(device)
            if ids:
                keys = self._names.enter(ids, self.newest) if self.id_type is str else np.array(ids, np.int64)
                self._held.load(keys, history.sample(history.find(ids)), notes)

    def home(self) -> tuple[History, FloatArray]:
        """The history in main memory, and count and sum of all rewards observed; waits for the device.

        The rule in main memory gets what was learned.
        """
        self._check_whole()
        self._rule.settle()
        keys, sample, notes = self._held.arrays()
        ids: list[Id] = self._names.of(keys) if self.id_type is str else keys.tolist()
        prompt = np.repeat(np.arange(len(ids)), sample.length)
        history = History(*self._limits, self._noted)
        groups = Groups(prompt, sample.step, sample.n.astype(np.int64), sample.s, sample.ss)
        history.append(ids, groups, notes=notes)
        history.newest = self.newest
        history.unit = float(self._unit)
        evicted, dropped = (int(count) for count in (self._held.evicted, self._held.dropped))
        history.count(self._counters.evicted + evicted, self._counters.dropped + dropped)
        return history, self._seen.cpu().numpy()

    def read(
        self,
        prompt_ids: Any,
        rewards: Tensor,
        step: Any,
        weights: Any,
        check: Callable[[int], None],
    ) -> Reading:
        """Check a batch, its earliest step by `check`, and smooth it over the history.

        Weights are counted in the unit of the first ones for good: to change it would pass over the whole history.  One
        that is more than `MOST_UNITS` of it counts as so much.
        """
        self._check_whole()
        z = _rewards(rewards)
        told = read_ids(prompt_ids, len(z))
        refused = z.abs() > LARGEST_REWARD
        w = None if weights is None else _weights(weights, len(z), self.device)
        if w is not None:
            refused |= ~((w >= 0) & (w <= LARGEST_WEIGHT) | z.isnan())
        z = torch.where(refused, math.nan, z)  # as if not scored
        unit = self._unit
        if w is not None:
            w = torch.where(z.isnan(), 0.0, w)
            unit = torch.where(unit > 0, unit, unit_for(w.amax(), unit, torch))
            w = in_units(w, unit, torch).clamp(max=MOST_UNITS)
        if isinstance(step, int) and not isinstance(step, bool):
            clock, tick = read_steps(step, 1).tolist(), None
        else:
            ticks, where = np.unique(read_steps(step, len(z)), return_inverse=True)
            clock = ticks.tolist()
            tick = upload(where.astype(np.int64), self.device) if len(clock) > 1 else None
        check(clock[0])
        check_id_type(self.id_type, told.kind)
        features = self._rule.features(told)
        batch = groups.group(self._names.keys(told, self.device), z, tick)
        row, found = self._held.find(batch.ids)
        at = torch.full_like(batch.ids, clock[0]) if tick is None else upload(ticks, self.device)[batch.tick]
        w, features = (None if part is None else part[batch.order] for part in (w, features))
        asked = Asked(batch, w, features, clock, at, row, self._held)
        return Reading(asked, self._rule.read(asked), found, told, refused, unit)

    def estimate(self, reading: Reading, like: Tensor) -> Estimate:
        """Values of the rows, of the type of `like`."""
        kind = like.dtype if like.is_floating_point() else torch.float32
        value, variance, n_eff, defined = (reading.asked.batch.restore(part) for part in reading.answer.estimate)
        return Estimate(value.to(kind), variance.to(kind), n_eff.to(kind), defined)

    def advantages(self, reading: Reading, rewards: Tensor, cold_start: str | float) -> Tensor:
        """Advantages of the rows, of the type of the rewards; 0 where a reward is NaN, NaN where it is infinite.  # (B,)

        Raises
        ------
        ArgumentError
            With ``cold_start="error"``, the only choice that waits for the device, if a row has no observation.
        """
        asked, answer = reading.asked, reading.answer
        batch, (value, _, n_eff, defined) = asked.batch, answer.estimate
        if isinstance(cold_start, float):
            value = torch.where(defined, value, cold_start)
        elif cold_start == "batch_mean":
            before = self._seen[1] / self._seen[0].clamp(min=1.0)
            value = torch.where(defined, value, batch.mean_of_other_prompts(answer.own, before))
        elif not bool(defined.all()):
            raise unobserved(int((~defined).sum()), len(defined))
        self._last = {"n_eff": n_eff, "defined": defined, "width": answer.width, "first": batch.first, "z": batch.z,
                      "newest": self._held.visits.newest[asked.row], "at": asked.at}  # fmt: skip
        kind = rewards.dtype if rewards.is_floating_point() else torch.float32
        return torch.where(rewards.isnan(), 0.0, batch.restore(batch.z - value)).to(kind)

    def store(self, reading: Reading, allow_late: bool | int) -> None:
        """Learn from a batch that was read, and append it; `allow_late` as in `KernelValueEstimator`.

        The tensors change in place, one after the other: an exception in between leaves a history that is refused from then
        on.
        """
        self._whole = False
        asked, answer, told = reading.asked, reading.answer, reading.told
        newest = max(self.newest, asked.clock[-1])
        if told.kind is str and told.ids is not None:
            self._names.enter(told.ids, newest)
        keep = self._rule.keep(newest, allow_late)
        with torch.inference_mode(False):
            notes = self._rule.learn(asked, answer)
            if self._held.append(asked.batch, reading.found, answer.sums, asked.clock, keep, notes):
                self._names.forget(self._held.oldest(keep))
            self._seen += answer.own.sum(1)
            if asked.weight is not None:
                self._unit.copy_(reading.unit)
        self.newest, self.id_type = newest, told.kind
        self._refused.add(reading.refused)
        self._whole = True

    def _check_whole(self) -> None:
        """Refuse to go on with a part of a batch.

        Raises
        ------
        KernadvError
            If an exception ended a `store`.
        """
        if not self._whole:
            raise KernadvError(
                f"an exception came while a batch entered the history on {self.device}, which may now hold a part of it; "
                "load the last checkpoint into this estimator, or make a new one"
            )

    def metrics(self) -> dict[str, float]:
        """As `KernelValueEstimator.metrics`, without what the rule adds, which is settled; waits for the device."""
        self._check_whole()
        self._rule.settle()
        self._refused.settle()
        held = {"history_visits": float(self._held.visits.size.sum()),
                "history_prompts": float((self._held.visits.size > 0).sum()),
                "dropped_visits": float(self._counters.dropped + self._held.dropped)}  # fmt: skip
        if not self._last:
            return held
        part = {name: x.cpu().numpy() for name, x in self._last.items()}
        defined, first, last = part["defined"], part["first"], part["newest"]
        known = first & (last > 0)
        gap = np.maximum(part["at"] - last, 0)[known]
        width = np.broadcast_to(part["width"][:, 0], first.shape)[first]
        return held | {
            "n_eff": float(part["n_eff"][defined].mean()) if defined.any() else math.nan,
            "cold_fraction": float(1.0 - defined.mean()),
            "bandwidth_steps": float(width.mean()),
            "revisit_gap": float(gap.mean()) if known.any() else math.nan,
            "unscored_rows": float(np.isnan(part["z"]).sum()),
        }


def _rewards(rewards: Tensor) -> Tensor:
    """Rewards as float64."""
    if rewards.is_complex():
        raise ArgumentTypeError(f"rewards must be real numbers, got a tensor of {rewards.dtype}")
    if rewards.ndim != 1:
        raise ArgumentError(
            f"rewards must have one dimension, one a row, got shape {tuple(rewards.shape)}; sum over tokens first"
        )
    return rewards.detach().double()


def _weights(weights: Any, rows: int, device: torch.device) -> Tensor:
    """Weights as float64 on the device."""
    w = weights.detach() if isinstance(weights, Tensor) else upload(check_floats(weights, "weights"), device)
    if w.is_complex():
        raise ArgumentTypeError(f"weights must be real numbers, got a tensor of {w.dtype}")
    if w.shape != (rows,):
        raise ArgumentError(f"one weight a row: got {rows} rows and weights of shape {tuple(w.shape)}")
    return send(w.double(), device)
