"""The state of an estimator in main memory: read a batch, predict it, learn from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv._arrays import read_weights
from kernadv._at_once import Call
from kernadv.batch import Batch, read_batch
from kernadv.clock import Bandwidth
from kernadv.estimator._rule import Rule
from kernadv.estimator._weighted import Pools
from kernadv.groups import in_units, unit_for
from kernadv.history import Counters, History, check_id_type
from kernadv.ids import length_of
from kernadv.kernels import Kernel
from kernadv.moments import Moments, Selection, Windows
from kernadv.pooling import NUMPY, Pool
from kernadv.smoothers import Estimate
from kernadv.tally import KEEP, Tally
from kernadv.typing import AnyArray, FloatArray, IntArray


class HostState:
    """The history, and what was learned beside it.

    Parameters
    ----------
    rule : Rule
    backend : Selection
        Of the moments.
    history : History
    tally : Tally
    pool : Pool or None
        What the rule has learned.
    last : dict of arrays
        What `metrics` needs of the last call of `advantages`; empty before.
    """

    device = None
    xp = NUMPY

    def __init__(
        self,
        rule: Rule,
        backend: Selection,
        history: History,
        tally: Tally,
        pool: Pool | None,
        last: dict[str, AnyArray],
    ) -> None:
        self.rule, self.backend = rule, backend
        self.history, self.tally, self.pool, self.last = history, tally, pool, last
        self._spare = rule.fresh()  # learns next, then replaces the pool

    def to_host(self) -> tuple[History, Tally, Pool | None, dict[str, AnyArray]]:
        """The arguments that make another state."""
        return self.history, self.tally, self.pool, self.last

    def read(self, prompt_ids: Any, rewards: Any, step: Any, weights: Any = None, trace: Any = None) -> Batch:
        """Check a batch, also against the history, and look its prompts up."""
        batch = self.look_up(read_batch(prompt_ids, rewards, step, trace))
        self.rule.check_step(int(batch.step.min()), self.history.newest)
        if weights is None:
            return batch
        assert isinstance(self.pool, Pools)
        if batch.parts is None:
            w = read_weights(weights, batch.scored)
        else:
            w = batch.parts.shared("weight", read_weights(weights, batch.scored[batch.parts.of]))
        unit = unit_for(w.max(), self.pool.unit)
        return batch._replace(weight=in_units(w, unit), unit=unit)

    def unscored(self, prompt_ids: Any, step: Any) -> Batch:
        """A batch of prompts without rewards."""
        return self.read(prompt_ids, np.full(length_of(prompt_ids), np.nan), step)

    def look_up(self, batch: Batch) -> Batch:
        """The batch with the rows of its prompts."""
        check_id_type(self.history.id_type, type(batch.ids[0]))
        rows = self.history.find(batch.ids)
        return batch._replace(rows=rows, last=self.history.newest_step(rows)[batch.prompt])

    def predict(self, batch: Batch) -> tuple[Estimate, Any]:
        """Values of a batch that was read, and what they were made from."""
        return self.rule.predict(batch, self)

    def learning(self, batch: Batch, made_from: Any, last: dict[str, AnyArray] | None = None) -> list[Call]:
        """The calls for `at_once` that learn from a batch and add it to the history.

        Parameters
        ----------
        batch : Batch
        made_from : Any
            What `predict` says of the batch; None, if nothing is learned beside the history.
        last : dict, optional
            As in `HostState`, with the ``value`` of each row among it; None: that of an earlier batch stays.
        """
        visits, notes = batch.groups, None
        learned: dict[str, Any] = {"last": self.last if last is None else last}
        if made_from is not None and self.pool and self._spare and batch.scored.any():
            notes = self.rule.learn(made_from, self._spare)[np.searchsorted(batch.prompt, np.arange(len(batch.ids)))]
            learned |= {"pool": self._spare, "_spare": self.pool}
        ids, rows, stored = batch.ids, batch.rows.copy(), visits.n > 0
        if not stored.all():
            prompts, index = np.unique(visits.prompt[stored], return_inverse=True)
            ids, rows = [ids[p] for p in prompts.tolist()], rows[prompts]
            visits = visits.take(stored)._replace(prompt=index)
            notes = None if notes is None else notes[prompts]
        keep = KEEP ** float(batch.newest > self.history.newest)
        value = None if last is None else last["value"]
        learned["tally"] = self.tally.after(batch.group, batch.z, value, len(batch.prompt), keep)
        newest = max(self.history.newest, batch.newest)
        appending = self.history.appending(ids, visits, self.rule.retention(newest), newest, rows, notes)
        return [*appending, (self.__dict__.update, learned)]

    def rows(self, batch: Batch, x: Any) -> AnyArray:
        """Numbers that `predict` gives for the rows, in main memory.  # (B,)"""
        return np.asarray(x)

    def visits(self, batch: Batch) -> IntArray:
        """Visits of each row's prompt in the history.  # (B,)"""
        return self.history.sizes(batch.rows)[batch.prompt][batch.group]

    @property
    def newest(self) -> int:
        """Newest step seen."""
        return self.history.newest

    def notes(self, batch: Batch) -> FloatArray:
        """What is noted of each group's prompt.  # (N, noted)"""
        return self.history.notes(batch.rows[batch.prompt])

    def features(self, batch: Batch, columns: int | None) -> FloatArray:
        """Features of each group's prompt, NaN where it has none.  # (N, D)"""
        assert self.rule.features is not None
        return self.rule.features.rows(batch.ids, columns)[batch.prompt]

    def past(self, batch: Batch, bandwidth: Bandwidth, kernel: Kernel, degree: int) -> tuple[FloatArray, Moments]:
        """Half-width of the window of each group, and moments of its past.  # (N, 1) each"""
        with self.history.temporary_histories(batch.rows[batch.prompt]) as past:
            windows = Windows.of([bandwidth], kernel, past, batch.step)
            return windows.width, self.backend.backend.ragged_moments(past, windows, kernel)

    @property
    def counters(self) -> Counters:
        """Counters of the history."""
        return self.history.counters

    @property
    def tallied(self) -> Tally:
        """The tally, in main memory."""
        return self.tally

    @property
    def learned(self) -> Pool | None:
        """What was learned, in main memory."""
        return self.pool
