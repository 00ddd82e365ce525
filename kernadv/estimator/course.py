"""The course of one prompt's value over the steps of training, told afterwards from the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kernadv._errors import import_extra
from kernadv.groups import Groups
from kernadv.typing import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kernadv.estimator.prediction import Prediction
    from kernadv.ids import Id


class Learner(Protocol):
    """What is told again: an estimator that has seen nothing."""

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None: ...

    def predict(self, prompt_ids: Any, step: Any, *, level: float) -> Prediction: ...


class Course(NamedTuple):
    """What was known of a prompt before each step, and what its visits then showed.

    Attributes
    ----------
    prompt_id : str or int
    step : (S,) int64
    value, low, high : (S,) float64
        As of `KernelValueEstimator.predict` before that step; NaN where the past said nothing.
    visits : Groups
        The visits of the prompt that the history holds.
    dropped : int
        Visits that the history no longer holds, of all prompts; the earlier values then lack them.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> est = KernelValueEstimator()
    >>> for step in range(1, 5):
    ...     est.observe(["a", "b"], [1.0, 0.0], step)
    >>> told = est.course("b")
    >>> told.step, bool((told.value[2:] < told.value[1:-1]).all()), told.visits.mean  # down, failure by failure
    (array([1, 2, 3, 4, 5]), True, array([0., 0., 0., 0.]))
    >>> told.plot().get_ylabel()
    'reward'
    """

    prompt_id: str | int
    step: IntArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    visits: Groups
    dropped: int

    def plot(self, ax: Axes | None = None) -> Axes:
        """The value as a line in its interval, and the mean reward of each visit as a dot."""
        if ax is None:
            pyplot = import_extra("matplotlib.pyplot", "a plot", "audit")
            ax = pyplot.subplots(figsize=(7, 3), layout="constrained")[1]
        told = np.isfinite(self.low) & np.isfinite(self.high)
        ax.fill_between(self.step, self.low, self.high, where=told, color="C0", alpha=0.2, lw=0, label="95% interval")
        ax.plot(self.step, self.value, color="C0", lw=1.8, label="value before the step")
        ax.scatter(self.visits.step, self.visits.mean, s=14, color="C1", lw=0, zorder=3, label="mean reward of a visit")
        ax.set(xlabel="training step", ylabel="reward")
        lost = f"; {self.dropped:,} old visits were dropped" if self.dropped else ""
        ax.set_title(f"prompt {self.prompt_id!r}{lost}", loc="left", fontsize="medium")
        ax.legend(frameon=False, fontsize="small", loc="best")
        return ax


def rewards(groups: Groups, low: float, high: float) -> FloatArray:
    """Rewards in [low, high] with the count, sum and sum of squares of each group.

    They lie on two values each, at the ends of the range where the sums allow it: of rewards that are all at the two ends,
    it returns these.
    """
    span, mean = high - low, groups.mean
    variance = np.maximum(groups.ss / groups.n - mean**2, 0.0)
    above = np.zeros(len(mean), np.int64)
    if span > 0:
        above = np.clip(np.rint(groups.n * (mean - low) / span), 1, np.maximum(groups.n - 1, 1)).astype(np.int64)
    odds = np.where(groups.n > 1, (groups.n - above) / np.maximum(above, 1), 0.0)
    sides = mean + np.sqrt(variance * odds), mean - np.sqrt(np.divide(variance, odds, where=odds > 0, out=0.0 * odds))
    upper, lower = (np.clip(side, low, high) for side in sides)
    for end in (low, high):  # rounding must not move a reward off an end
        upper[np.abs(upper - end) <= 1e-7 * span], lower[np.abs(lower - end) <= 1e-7 * span] = end, end
    place = np.arange(int(groups.n.sum())) - np.repeat(np.cumsum(groups.n) - groups.n, groups.n)
    return np.where(place < np.repeat(above, groups.n), np.repeat(upper, groups.n), np.repeat(lower, groups.n))


def course(
    fresh: Learner, prompt: Id, names: list[Id], groups: Groups, ends: tuple[float, float], level: float, dropped: int
) -> Course:
    """Show `fresh` the groups of all prompts step by step, and ask it for one of them before each.

    Parameters
    ----------
    fresh : estimator that has seen nothing, or what came before step 1
    prompt : str or int
    names : list of str or int
        Of the prompts in `groups`.
    groups : Groups
    ends : (low, high)
        Range of the rewards.
    level : float
    dropped : int
    """
    own = groups.take(groups.prompt == names.index(prompt))
    in_time = groups.take(np.argsort(groups.step, kind="stable"))
    traces, z = np.repeat(in_time.prompt, in_time.n), rewards(in_time, *ends)
    steps, first = np.unique(in_time.step, return_index=True)
    begin = np.append(np.cumsum(in_time.n) - in_time.n, len(z))[np.append(first, len(in_time.n))]
    asked, found = [], []
    for k, step in enumerate(steps.tolist()):
        if step > 0 and step >= own.step[0]:
            asked.append(step)
            found.append(fresh.predict([prompt], step, level=level))
        rows = slice(begin[k], begin[k + 1])
        fresh.observe([names[p] for p in traces[rows]], z[rows], step)
    asked.append(int(steps[-1]) + 1)
    found.append(fresh.predict([prompt], asked[-1], level=level))
    value, low, high = (np.array([getattr(one, name)[0] for one in found]) for name in ("value", "low", "high"))
    return Course(prompt, np.array(asked), value, low, high, own, dropped)
