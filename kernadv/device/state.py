"""The state of an estimator on a device: history, smoothing and advantages where the rewards are.

The host knows the steps, the numbers of rows and the ids that are given as text.  It never waits for the device.  Values are
in float64 and agree with those of the CPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kernadv._arrays import LARGEST_REWARD, LARGEST_WEIGHT, check_floats, check_real, check_rows, read_steps
from kernadv._at_once import Call
from kernadv._errors import ArgumentError, KernadvError, warn
from kernadv.clock import Bandwidth, Visits
from kernadv.device.batch import DeviceBatch
from kernadv.device.features import DeviceFeatures
from kernadv.device.history import DeviceHistory
from kernadv.device.ids import Names, read_ids
from kernadv.device.namespace import TorchNamespace
from kernadv.device.parts import DeviceParts
from kernadv.device.transfer import Bound, refuse_capture, send, upload
from kernadv.groups import in_units, unit_for
from kernadv.history import Counters, History, check_id_type
from kernadv.ids import Id, length_of
from kernadv.kernels import Kernel
from kernadv.moments import Windows, ops
from kernadv.pooling import Pool
from kernadv.smoothers import Estimate
from kernadv.tally import KEEP, Tally
from kernadv.typing import AnyArray

if TYPE_CHECKING:
    from kernadv.estimator._rule import Rule


class DeviceState:
    """As `kernadv.estimator.state.HostState`, on a device.

    The unit of the weights is fixed by the first ones, because a change would pass over the whole history.  A weight of more
    than `MOST_UNITS` counts as `MOST_UNITS`.

    Parameters
    ----------
    rule : Rule
    device : torch device
    history : History
        Is copied to the device.
    tally : Tally
        Is copied, too.
    pool : Pool or None
        Is copied, too.
    last : dict of arrays
        As in `HostState`.
    """

    def __init__(
        self,
        rule: Rule,
        device: torch.device,
        history: History,
        tally: Tally,
        pool: Pool | None,
        last: dict[str, AnyArray],
    ) -> None:
        refuse_capture(device, "the first call with rewards there")
        self.rule, self.device, self.xp = rule, device, TorchNamespace(device)
        self.newest, self.id_type = history.newest, history.id_type
        self.names = Names()
        self._counters = history.counters
        self._last: dict[str, Any] = dict(last)
        self._whole = True  # False while a batch enters
        with torch.inference_mode(False):  # what stays must change outside of that mode, too
            ids = history.ids
            rows = history.find(ids)
            notes = history.notes(rows)
            self.history = DeviceHistory(device, history.max_visits, history.max_total, notes.shape[1])
            self.tally = Tally(*(upload(x, device) for x in tally))
            self._refused = Refused(device)
            self.pool = rule.fresh(self.xp)
            if self.pool is not None and pool is not None:
                self.pool.load_state_dict(pool.state_dict())
            if ids:
                keys = self.names.enter(ids, self.newest) if self.id_type is str else np.array(ids, np.int64)
                self.history.load(keys, history.visits(rows), notes)
        self._features = None if rule.features is None else DeviceFeatures(rule.features, device)

    def to_host(self) -> tuple[History, Tally, Pool | None, dict[str, AnyArray]]:
        """As in `HostState`, in main memory; waits for the device."""
        counters, last, pool = self.counters, self.last, self.learned
        keys, visits, notes = self.history.arrays()
        ids: list[Id] = self.names.of(keys) if self.id_type is str else keys.tolist()
        history = History(self.history.max_visits, self.history.max_total, notes.shape[1])
        history.append(ids, visits, notes=notes)
        history.newest = self.newest
        history.count(counters.evicted, counters.dropped)
        return history, self.tallied, pool, last

    def read(self, prompt_ids: Any, rewards: Tensor, step: Any, weights: Any = None, trace: Any = None) -> DeviceBatch:
        """Check a batch, also against the history, and look its prompts up."""
        self._check_whole()
        z = check_real(rewards, "rewards")
        given, rows = read_ids(prompt_ids)
        check_rows(z.shape, rows)
        w = None if weights is None else _weights(weights, len(z), self.device)
        parts = None
        if trace is not None:
            parts = DeviceParts(trace, rows, self.device)
            given, step = parts.prompts(given), parts.steps(step)
            w = None if w is None else parts.shared(torch.where(z.isnan(), 0.0, w))
            z = parts.shared(z.double()).masked_fill(parts.differ, math.inf)
        unit = None
        if w is not None:
            z = z.double()
            z = torch.where((w >= 0) & (w <= LARGEST_WEIGHT) | z.isnan(), z, math.inf)
            w = torch.where(z.abs() <= LARGEST_REWARD, w, 0.0)  # a trace that is refused counts as one without a reward
            pools: Any = self.pool
            unit = unit_for(w.amax(), pools.unit, torch)
            w = in_units(w, unit, torch)
        if isinstance(step, int) and not isinstance(step, bool):
            clock, tick = read_steps(step, 1).tolist(), None
        else:
            ticks, where = np.unique(read_steps(step, len(z)), return_inverse=True)
            clock = ticks.tolist()
            tick = upload(where.astype(np.int64), self.device) if len(clock) > 1 else None
        self.rule.check_step(clock[0], self.newest)
        check_id_type(self.id_type, given.kind)
        batch = DeviceBatch(self.names.keys(given, self.device), z, tick, clock, self.history, w)
        batch.kind = rewards.dtype if rewards.is_floating_point() else torch.float32
        batch.given, batch.unit = given, unit
        if parts is not None:
            batch.of, batch.refusals = parts.of, batch.refused * parts.size[batch.order]
        return batch

    def unscored(self, prompt_ids: Any, step: Any) -> DeviceBatch:
        """A batch of prompts without rewards."""
        rewards = torch.full((length_of(prompt_ids),), math.nan, dtype=torch.float64, device=self.device)
        return self.read(prompt_ids, rewards, step)

    def predict(self, batch: DeviceBatch) -> tuple[Estimate, Any]:
        """Values of a batch that was read, and what they were made from."""
        return self.rule.predict(batch, self)

    def learning(self, batch: DeviceBatch, made_from: Any, last: dict[str, Any] | None = None) -> list[Call]:
        """The call for `at_once` that learns from a batch and adds it to the history.

        The tensors change in place, one after the other: an exception in between leaves a history that is refused from then
        on.

        Raises
        ------
        KernadvError
            If a CUDA graph is being captured.
        """
        refuse_capture(self.device, "advantages and observe")
        return [(self._learn, batch, made_from, last)]

    def rows(self, batch: DeviceBatch, x: Tensor) -> AnyArray:
        """As of `HostState`; waits for the device."""
        return np.asarray(batch.restore(x).cpu())

    def visits(self, batch: DeviceBatch) -> AnyArray:
        """As of `HostState`; waits for the device."""
        return self.rows(batch, self.history.visits.size[batch.row])

    def notes(self, batch: DeviceBatch) -> Tensor:
        """What is noted of each place's prompt.  # (B, noted)"""
        return self.history.notes[batch.row]

    def features(self, batch: DeviceBatch, columns: int | None) -> Tensor:
        """Features of each place's prompt, NaN where it has none.  # (B, D)"""
        assert self._features is not None
        return self._features.rows(batch.given, columns)[batch.order]

    def past(self, batch: DeviceBatch, bandwidth: Bandwidth, kernel: Kernel, degree: int) -> tuple[Tensor, Tensor]:
        """Half-width of the window of each place, which broadcasts, and moments of its past.  # (B, 1), (9, B)"""
        if isinstance(bandwidth, Visits):
            lag = self.history.visit_lag(batch.row, batch.step, bandwidth.k).clamp(min=bandwidth.floor)
            windows = Windows(batch.step, lag[:, None], kernel.reach(lag, torch)[:, None])
        else:
            width = bandwidth.half_width(np.array(batch.clock), lambda k: np.empty(0))
            windows = Windows(batch.step, batch.of_steps(width), batch.of_steps(kernel.reach(width)))
        past = self.history.histories(batch)
        return windows.width, ops.trusted_moments(past, windows, kernel, "float64", degree).reshape(9, -1)

    @property
    def counters(self) -> Counters:
        """As `History.counters`; waits for the device."""
        self._check_whole()
        self._refused.finish()
        size, before = self.history.visits.size, self._counters
        evicted, dropped = int(self.history.evicted), int(self.history.dropped)
        return Counters(int((size > 0).sum()), int(size.sum()), before.evicted + evicted, before.dropped + dropped)

    @property
    def last(self) -> dict[str, AnyArray]:
        """As in `HostState`; waits for the device."""
        return {name: np.asarray(x.cpu() if isinstance(x, Tensor) else x) for name, x in self._last.items()}

    @property
    def tallied(self) -> Tally:
        """The tally in main memory; waits for the device."""
        return Tally(*(self.xp.host(x) for x in self.tally))

    @property
    def learned(self) -> Pool | None:
        """What was learned, in main memory; waits for the device."""
        if self.pool is None:
            return None
        pool = self.rule.fresh()
        assert pool is not None
        pool.load_state_dict(self.pool.state_dict())
        return pool

    def _learn(self, batch: DeviceBatch, made_from: Any, last: dict[str, Any] | None) -> None:
        self._whole = False
        newest = max(self.newest, batch.newest)
        if batch.given.kind is str and batch.given.ids is not None:
            self.names.enter(batch.given.ids, newest)
        retention = self.rule.retention(newest)
        with torch.inference_mode(False):
            notes = self.rule.learn(made_from, self.pool) if made_from is not None and self.pool else None
            if self.history.append(batch, retention, notes):
                self.names.forget(self.history.oldest(retention))
            keep = KEEP ** float(batch.newest > self.newest)
            batch.add_to(self.tally, None if last is None else last["value"], keep, self._refused.count)
        self.newest, self.id_type = newest, batch.given.kind
        self._last = self._last if last is None else last
        self._refused.ask()
        self._whole = True

    def _check_whole(self) -> None:
        """Refuse to go on with a part of a batch.

        Raises
        ------
        KernadvError
            If an exception ended a `_learn`.
        """
        if not self._whole:
            raise KernadvError(
                f"an exception came while a batch entered the history on {self.device}, which may now hold a part of it; "
                "load the last checkpoint into this estimator, or make a new one"
            )


class Refused:
    """Rows whose reward or weight cannot be used, or of traces whose parts differ: an error in main memory, here a warning.

    They are counted on the device; it warns once, when the host has learned of some without waiting.

    Attributes
    ----------
    count : () int64
    """

    def __init__(self, device: torch.device) -> None:
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        self._known = Bound(device)
        self._told = False

    def ask(self) -> None:
        """Send the number to the host, and warn of what has come back."""
        if not self._told:
            self._known.ask(self.count)
            self._tell(self._known.most)

    def finish(self) -> None:
        """Warn of what has not come back; waits for the device."""
        if not self._told:
            self._tell(int(self.count))

    def _tell(self, count: int) -> None:
        if count:
            self._told = True
            warn(
                f"{count} rows so far had a reward that is infinite or beyond {LARGEST_REWARD:g}, or a weight that is "
                "negative or not finite, or were parts of a trace that differ in prompt, reward or weight: they count as "
                "not scored, and the advantage is NaN.  Look for them where the rewards are made; a trace that cannot be "
                "scored has the reward NaN, and then the advantage 0",
            )


def _weights(weights: Any, rows: int, device: torch.device) -> Tensor:
    """Weights as float64 on the device."""
    tensor = isinstance(weights, Tensor)
    w = check_real(weights, "weights") if tensor else upload(check_floats(weights, "weights"), device)
    if w.shape != (rows,):
        raise ArgumentError(f"one weight a row: got {rows} rows and weights of shape {tuple(w.shape)}")
    return send(w.double(), device)
