"""The numbers of a run while it runs, from its traces as they come."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from kernadv.batch import read_batch
from kernadv.estimator import KernelValueEstimator
from kernadv.history import check_id_type
from kernadv.tally import KEEP, Tally
from kernadv.typing import FloatArray

#: Steps that the workers of one run are apart, at most; a step that goes back further is another run, or a resumed one.
APART = 8

#: Numbers of `Watch`, and what they are.
NUMBERS = {
    "value_mse": "value MSE of the default",
    "rloo_mse": "value MSE of RLOO",
    "group_mean_mse": "value MSE of the group mean",
    "batch_mean_mse": "value MSE of the batch mean",
    "value_excess": "value MSE of the default, less that of the batch mean",
    "gradient_ratio": "gradient variance relative to RLOO's, or to the batch mean's if all groups have one trace",
    "dead": "share of dead groups",
    "dead_0": "share of groups that are all at the lower end",
    "dead_1": "share of groups that are all at the upper end",
    "mean_reward": "mean reward of the step",
}


class Watch:
    """What a run's traces say so far: the running metrics of the default estimator, and of other baselines.

    A step counts once a later one has begun.  If workers are some steps apart, steps wait for as many more.  If the step
    goes back by more than 8, a run was resumed or started again: its steps go on after those before.  Time and memory of
    `add` are those of the new traces, apart from what the estimator remembers.

    Attributes
    ----------
    steps : list of int
        The steps that count, as the log has them.
    series : dict of str to list of float
        After each of these steps the `NUMBERS`; NaN where one is not defined.
    traces : int
        Traces with a reward that count.
    late : int
        Traces left out, because their step had been counted when they came.
    back : list of (int, int)
        From which step to which the run went back.

    Notes
    -----
    All but ``mean_reward`` are those of `KernelValueEstimator.metrics`, over about the last 50 steps, as if the run had used
    the default estimator.  A group mean contains its own reward with weight 1/n; corrected by 2 E s^2 / n, its value MSE is
    E s^2 / n.

    Examples
    --------
    >>> watch = Watch()
    >>> watch.add(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], [1, 1, 1, 1])
    >>> watch.add(["a", "a", "b", "b"], [1.0, 1.0, 1.0, 1.0], [2, 2, 2, 2])
    >>> watch.steps, watch.now["rloo_mse"], watch.now["dead"]
    ([1], 0.25, 0.5)
    >>> watch.ends, watch.prompts, watch.waiting  # the second step may go on
    ((0.0, 1.0), 2, 4)
    >>> watch.finish()
    >>> watch.steps, watch.waiting
    ([1, 2], 0)
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.series: dict[str, list[float]] = {name: [] for name in NUMBERS}
        self.traces = self.late = 0
        self.back: list[tuple[int, int]] = []
        self._estimator = KernelValueEstimator()
        self._group_mean = Tally.empty()
        self._id_type: type | None = None
        self._waiting: dict[int, list[tuple[list[Any], FloatArray]]] = {}
        self._newest: int | None = None  # step of any trace since the last return
        self._counted: int | None = None  # newest step that counts since then
        self._apart = 0
        self._offset = 0  # from a step to the clock of the estimator

    @property
    def now(self) -> dict[str, float]:
        """The `NUMBERS` after the last step that counts; NaN where one is not defined."""
        return {name: series[-1] if series else math.nan for name, series in self.series.items()}

    @property
    def ends(self) -> tuple[float, float] | None:
        """Smallest and largest reward, which are 0 and 1 if all are 0 or all are 1; None if there is one other."""
        low, high = self._group_mean.ends[:2].tolist()
        if {low, high} <= {0.0, 1.0}:
            return 0.0, 1.0
        return (low, high) if low < high else None

    @property
    def prompts(self) -> int:
        """Prompts seen."""
        return int(self._estimator.metrics()["history_prompts"])

    @property
    def waiting(self) -> int:
        """Traces of steps that do not count yet."""
        return sum(len(z) for parts in self._waiting.values() for _, z in parts)

    def add(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Add the next traces.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (B,)
        rewards : array or sequence of float; NaN: could not be scored  # (B,)
        step : int, or (B,) ints
            Training step of the traces, or that of each, in the order of the log.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If an argument cannot be used; then nothing was added.
        """
        if hasattr(prompt_ids, "__len__") and not len(prompt_ids):
            return
        steps = np.asarray(step)
        counted = steps - steps.min() + 1 if steps.size and steps.dtype.kind in "iu" else steps
        batch = read_batch(prompt_ids, rewards, counted)
        check_id_type(self._id_type, type(batch.ids[0]))
        self._id_type = type(batch.ids[0])
        steps = np.broadcast_to(steps, batch.z.shape)
        ids = [batch.ids[code] for code in batch.groups.prompt[batch.group].tolist()]
        cuts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
        for start, end in pairwise(cuts):
            self._take(int(steps[start]), ids[start:end], batch.z[start:end])

    def finish(self) -> None:
        """Count the steps that wait: no more of them will come."""
        for step in sorted(self._waiting):
            self._count(step)

    def _take(self, step: int, ids: list[Any], z: FloatArray) -> None:
        if self._newest is None:
            self._newest, self._offset = step, APART + 1 - step
        fall = self._newest - step
        if fall > APART:
            self.back.append((self._newest, step))
            self.finish()
            self._offset += self._newest + 1 + APART - step  # room for workers that are behind
            self._newest, self._counted = step, None
        elif self._counted is not None and step <= self._counted:
            self.late += len(z)
            self._apart = max(self._apart, fall)
            return
        self._newest = max(self._newest, step)
        self._waiting.setdefault(step, []).append((ids, z))
        for complete in sorted(at for at in self._waiting if at < self._newest - self._apart):
            self._count(complete)

    def _count(self, step: int) -> None:
        """Let a step count."""
        parts = self._waiting.pop(step)
        ids, z = [prompt for part, _ in parts for prompt in part], np.concatenate([part for _, part in parts])
        self._counted = step if self._counted is None else max(step, self._counted)
        self._estimator.advantages(ids, z, step + self._offset)
        batch = read_batch(ids, z, 1)
        means = batch.groups.s / np.maximum(batch.groups.n, 1)
        keep = KEEP if self.steps else 1.0
        self._group_mean = self._group_mean.after(batch.group, batch.z, means[batch.group], len(batch.ids), keep)
        scored = z[~np.isnan(z)]
        numbers = {**self._estimator.metrics(), "mean_reward": float(scored.mean()) if len(scored) else math.nan}
        if "value_mse" in numbers:  # of values that use their own reward, the sums give minus the error of a group mean
            numbers["group_mean_mse"] = -self._group_mean.metrics()["value_mse"]
        self.traces += len(scored)
        self.steps.append(step)
        for name, series in self.series.items():
            series.append(numbers.get(name, math.nan))
