"""KernelValueEstimator: the value of each prompt under the moving policy, from its past rewards and its group."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kernadv import moments, smoothers
from kernadv._arrays import LAST_STEP, read_weights
from kernadv._at_once import Call, at_once
from kernadv._errors import (
    ArgumentError,
    ArgumentTypeError,
    check_count,
    check_flag,
    check_level,
)
from kernadv._typing import BoolArray, FloatArray, IntArray
from kernadv.batch import Batch, read_batch
from kernadv.clock import Bandwidth, Relative
from kernadv.estimator._cold import check_cold_start, unobserved
from kernadv.estimator._persistent import Persistent
from kernadv.estimator._plain import Plain
from kernadv.estimator._pooled import Pooled
from kernadv.estimator._rule import Reading, Rollouts, Rule
from kernadv.estimator.explanation import Explanation, explain
from kernadv.features import Features, FeatureSource
from kernadv.groups import Groups
from kernadv.history import History, check_id_type
from kernadv.kernels import Kernel
from kernadv.pooling import Pooling, offline_features
from kernadv.smoothers import Estimate
from kernadv.units import in_units, unit_for


class KernelValueEstimator(Persistent):
    """Value of each prompt, smoothed over the steps of training, leave-one-out within the group.

    Without a `bandwidth` it is the **pooled** estimator.  M filters of the prompt's past, which differ in what the prior is
    worth and in how fast they take prompts to move, each say p_m of its value, worth nu_m rollouts; the weights w_m, equal
    for all prompts, go by what predicted best so far; and all p_m are moved as the batch's other prompts show:

        V^(g) = sum_m w_m (nu_m p_m + sum of the others' rewards) / (nu_m + G - 1).

    What is learned comes from past batches only.

    With a `bandwidth` w it is **plain**: for trace g of prompt x at step i, with the prompt's past visits (I_j, Z_j),

        V_i^(g)(x) = [ sum_j K((i - I_j) / w) Z_j + sum_{k != g} K(0) Z^(k) ] / (sum of the weights).

    Parameters
    ----------
    bandwidth : Bandwidth, optional
        `Relative(h)` (w = i h, the paper's), `Steps(w)` or `Visits(k)` (k-NN in time).  None: pooled.
    kernel : str or Kernel, optional
        Of the plain estimator: a name in `kernadv.kernels.KERNELS`, or an object; default: "triangular".
    smoother : {"nadaraya_watson", "local_linear"}
        Of the plain estimator.
    pooling : Pooling, optional
        The filters, and how the level that the prompts share may move; default: `Pooling()`.
    features : mapping or callable, optional
        Prompt id -> vector, or list of ids -> (P, D) array: features whose regression gives the prior mean.
    weighted : bool
        Estimate the weighted value ``E[w Z] / E[w]``, for the weights w given with each batch.  With the squared norm of a
        trace's score it is the baseline of least gradient variance.
    cold_start : "batch_mean", "error" or float
        Value of a row without any observation, used by `advantages`: the mean of the other prompts' rewards of the batch
        (without other prompts, the mean of all rewards observed before; 0 at the very first), an error, or a constant.
        The pooled estimator leaves rows undefined only before it has seen anything.
    allow_late : bool or int
        Accept steps lower than the newest one seen (asynchronous rollouts): any (True), or up to that many steps late.
        Plain: a late row is smoothed over the visits at or before its own step.  Pooled: the belief of the prompt's newest
        visit gets as vague as the steps between are many.
    max_visits, max_total : int, optional
        Hard caps on the visits kept of a prompt and in all; `metrics()["dropped_visits"]` counts what they cost.  Pooled,
        they change a value only where a prompt lost all its visits, and with them what was noted of it.
    backend : str
        Backend of the moments, see `kernadv.moments.select`; also where the plain estimator's history is, see
        `kernadv.moments.on_device`.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used; names are checked here, not at the first call.

    Notes
    -----
    Whatever exception ends a call, and when (Ctrl-C, an error of a signal handler, no memory): either all of a batch was
    learned from and added, or nothing, and `save` in a signal handler writes one of the two.  On a GPU a history that an
    exception left with a part of a batch is refused from then on, until a checkpoint is loaded.

    With rewards on a GPU the history is kept there, and nothing makes the host wait.  It follows the rewards; `intervals`,
    `explain`, `state_dict` and copies bring it back to main memory.  So several threads may call `values` at a time if the
    history is already where the rewards of all of them are; while one calls anything else, no other may use the object.

    The plain estimator forgets visits that can never again carry weight from time to time: beyond the support for compact
    kernels, below 1e-12 of the weight of the prompt's newest visit for the others.  Compact kernels: no estimate changes by
    it; others: by no more than that share.  The pooled one forgets nothing.  Its values come from 2 + 2 M numbers that it
    notes of every prompt (592 bytes); the visits, 29 bytes each, are kept for `explain` alone, and `max_visits` bounds them.

    References
    ----------
    Kernelized Advantage Estimation, arXiv 2604.28005, section 3, for the plain one; West, Harrison and Migon (1985), dynamic
    generalized linear models, JASA 80, for the filters of the pooled one.

    Examples
    --------
    >>> est = KernelValueEstimator.kae(h=0.5)
    >>> est.advantages(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1)
    array([ 1., -1.,  0.,  0.])
    """

    def __init__(
        self,
        bandwidth: Bandwidth | None = None,
        kernel: str | Kernel | None = None,
        *,
        smoother: str = "nadaraya_watson",
        pooling: Pooling | None = None,
        features: FeatureSource | None = None,
        weighted: bool = False,
        cold_start: str | float = "batch_mean",
        allow_late: bool | int = False,
        max_visits: int | None = None,
        max_total: int | None = None,
        backend: str = "auto",
    ) -> None:
        self.backend = moments.select(backend)
        self._asked, self._device = backend, None
        self.weighted = check_flag(weighted, "weighted")
        smoothers.get(smoother)
        if bandwidth is not None:
            if pooling is not None or features is not None or weighted:
                raise ArgumentError(
                    "a bandwidth makes the estimator plain; pooling, features and weighted belong to the pooled one: "
                    "leave the bandwidth out, or give a Pooling with one filter"
                )
            self._rule: Rule = Plain(bandwidth, kernel or "triangular", smoother)
        else:
            if smoother != "nadaraya_watson":
                raise ArgumentError(
                    f"smoother={smoother!r} belongs to the plain estimator: give it a bandwidth, e.g. Steps(20)"
                )
            how = Pooling() if pooling is None else pooling
            if not isinstance(how, Pooling):
                raise ArgumentTypeError(f"pooling must be a Pooling, got {how!r:.80}; e.g. Pooling(walks=(0.0, 0.1))")
            if kernel is not None:
                raise ArgumentError(
                    f"kernel={kernel!r:.80} belongs to the plain estimator: give it a bandwidth, e.g. Steps(20)"
                )
            source = None if features is None else Features(features)
            self._rule = Pooled(how, source, self.weighted)
        self.cold_start = check_cold_start(cold_start)
        self.allow_late = allow_late if isinstance(allow_late, bool) else check_count(allow_late, "allow_late")
        self._history = History(max_visits, max_total, self._rule.noted)
        self._seen = np.zeros(2)  # count and sum of all rewards observed
        self._last: dict[str, float] = {}

    @classmethod
    def kae(cls, h: float = 0.5, kernel: str | Kernel = "triangular", **options: Any) -> KernelValueEstimator:
        """The paper's estimator: relative bandwidth ``i h``, Nadaraya-Watson.

        Parameters
        ----------
        h : float
            Bandwidth as a fraction of the step.
        kernel : str or Kernel
        **options
            Other arguments of the class.
        """
        return cls(Relative(h), kernel, **options)

    def __repr__(self) -> str:
        return f"KernelValueEstimator({self._rule!r}, {self._held}, backend={self.backend.name!r})"

    @property
    def bandwidth(self) -> Bandwidth | None:
        """The bandwidth of the plain estimator; None: pooled."""
        return self._rule.bandwidth if isinstance(self._rule, Plain) else None

    @property
    def kernel(self) -> Kernel | None:
        """The kernel in time of the plain estimator; None: pooled."""
        return self._rule.kernel if isinstance(self._rule, Plain) else None

    def values(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any = None) -> Estimate:
        """Value of each row's prompt, without the row's own reward.  Reads only.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (B,)
            In any order; groups may differ in size.
        rewards : array, tensor or sequence of float  # (B,)
            NaN: could not be scored; the trace then counts for no other.
        step : int, or (B,) ints
            Training step at generation (policy version), from 1.
        weights : array, tensor or sequence of float  # (B,)
            Weight of each trace, from 0 to 1e300; needed if, and only if, the estimator is `weighted`.  Only their ratios
            matter: a weight that is 1e-60 of the largest ones counts as 0, and where all before were 1e-30 of it or less,
            what was learned beside the history starts anew.

        Returns
        -------
        Estimate of (B,) arrays, of the kind of `rewards`
            ``defined`` is False for a row without any observation.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If an argument cannot be used; nothing has changed then.
        """
        if device := self._on_device(rewards):
            return device.estimate(self._read_there(device, prompt_ids, rewards, step, weights), rewards)
        rollouts = self._read(prompt_ids, rewards, step, weights)
        estimate = self._rule.read(rollouts, self._history, self.backend.backend).estimate
        return Estimate(*(rollouts.batch.restore(part) for part in estimate))

    def intervals(
        self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any = None, level: float = 0.95
    ) -> tuple[Any, Any]:
        """Lower and upper bounds for the value of each row's prompt.  Reads only.

        Pooled: from the mean and the variance of what the filters, by weight, believe after the other traces of the group:
        those of a Beta law for rewards of two values, else normal.  They cover the value under today's policy, in as far as
        some filter moves as the policy does.  Plain: Jeffreys' interval on n_eff, or normal; it covers the smoothed target,
        the past values as the kernel weighs them.

        Parameters
        ----------
        prompt_ids, rewards, step, weights
            As in `values`.
        level : float
            Strictly between 0 and 1.

        Returns
        -------
        lower, upper : (B,) arrays of the kind of `rewards`; infinite while nothing is known, NaN where undefined
        """
        check_level(level)
        self._home()
        rollouts = self._read(prompt_ids, rewards, step, weights)
        reading = self._rule.read(rollouts, self._history, self.backend.backend)
        undefined = ~np.asarray(reading.estimate.defined)
        low, high = (np.where(undefined, np.nan, bound) for bound in self._rule.interval(reading, level))
        return rollouts.batch.restore(low), rollouts.batch.restore(high)

    def observe(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any = None) -> None:
        """Learn from a batch and add it to the history.  Parameters and errors as in `values`."""
        at_once(*self._observing(prompt_ids, rewards, step, weights))

    def _observing(self, prompt_ids: Any, rewards: Any, step: Any, weights: Any) -> list[Call]:
        """The calls for `at_once` that remember a batch."""
        if device := self._on_device(rewards):
            there = self._read_there(device, prompt_ids, rewards, step, weights)
            return [(device.store, there, self.allow_late)]
        rollouts = self._read(prompt_ids, rewards, step, weights)
        pooled = isinstance(self._rule, Pooled)
        reading = self._rule.read(rollouts, self._history, self.backend.backend) if pooled else None
        return self._storing(rollouts, reading, self._last)

    def observe_offline(self, prompt_ids: Any, pass_rates: Any, rollouts: int, *, age: int = 10) -> None:
        """Add rollouts that were scored before training, as a visit `age` steps before step 1.

        For the plain estimator; the pooled one takes them as features, see `kernadv.pooling.offline_features`.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (P,)
        pass_rates : sequence of float in [0, 1]  # (P,)
            Share of each prompt's rollouts with reward 1.
        rollouts : int
            Number of rollouts a prompt, below 2^31.
        age : int
            Steps by which they are older than step 1, up to 2^53: the larger, the less they weigh.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If a pass rate lies outside [0, 1], training has begun, the estimator is pooled or an argument cannot be used.
        """
        if isinstance(self._rule, Pooled):
            raise ArgumentError(
                "the pooled estimator takes offline pass rates as a feature, which fades as the policy moves away: "
                "KernelValueEstimator(features=offline_features(prompt_ids, pass_rates, rollouts)), from kernadv.pooling"
            )
        self._home()
        if self._history.newest > 0:
            raise ArgumentError(f"offline rollouts come before training, which is at step {self._history.newest}")
        rates = offline_features(prompt_ids, pass_rates, rollouts)
        check_id_type(self._history.id_type, type(next(iter(rates), "")))
        age = check_count(age, "age", most=LAST_STEP)
        total = rollouts * np.asarray(pass_rates, np.float64)
        step, n = np.full(len(total), 1 - age), np.full(len(total), rollouts)
        self._history.append(list(rates), Groups(np.arange(len(total)), step, n, total, total))

    def advantages(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any = None) -> Any:
        """``rewards - values``, then `observe`.  Parameters and errors as in `values`.

        All rows are smoothed over the history before the batch.  A row whose reward is NaN has advantage 0 and is not
        stored.  With rewards on a GPU, where nothing waits, an infinite one is no error: it is not stored either, its
        advantage is NaN, and a warning follows.

        Returns
        -------
        (B,) array or tensor of the kind, dtype and device of `rewards`

        Raises
        ------
        ArgumentError
            Also if a row has no observation and ``cold_start="error"``.
        """
        out, storing = self._advantages(prompt_ids, rewards, step, weights)
        at_once(*storing)
        return out

    def explain(self, prompt_id: str | int, step: int | None = None) -> Explanation:
        """How a prompt's value comes about, before any trace of `step`: a dict, with a `plot`.

        Parameters
        ----------
        prompt_id : str or int
        step : int, optional
            Default: one after the newest.

        Raises
        ------
        ArgumentError
            If the prompt is not in the history.
        """
        self._home()
        at = self._history.newest + 1 if step is None else step
        weight = np.ones(1) if self.weighted else None
        rollouts = Rollouts(read_batch([prompt_id], [math.nan], at), weight, self._history.unit)
        check_id_type(self._history.id_type, type(rollouts.batch.ids[0]))
        return explain(self._rule, rollouts, self._history, self.backend.backend)

    def metrics(self) -> dict[str, float]:
        """Numbers for a logger.

        Returns
        -------
        dict
            Of the last call of `advantages` (NaN before it): ``n_eff``, the mean effective sample size of the values, or
            how many rollouts they are worth; ``cold_fraction``, the share of rows without any observation;
            ``bandwidth_steps``, the mean half-width of the windows in steps, NaN if pooled; ``revisit_gap``, the mean number
            of steps since a known prompt's last visit; ``unscored_rows``, the rows with a NaN reward.  Of the history:
            ``history_visits`` and ``history_prompts``, its size; ``dropped_visits``, those lost to `max_visits` or
            `max_total` so far that could still matter.  Of the pooled estimator: ``pooled_mean``, the recent mean reward;
            and, as means over the filters by their weights, ``kappa``, the rollouts that the prior is worth, ``walk``, the
            standard deviation of a step of the logit of a value, and ``discount``, the rate a step at which a past loses its
            worth.
        """
        names = ("n_eff", "cold_fraction", "bandwidth_steps", "revisit_gap", "unscored_rows")
        held = self._history.counters
        out = {name: self._last.get(name, math.nan) for name in names} | {
            "history_visits": float(held.visits),
            "history_prompts": float(held.prompts),
            "dropped_visits": float(held.dropped),
        }
        there = self._device.metrics() if self._device else {}  # settles what the rule has learned
        return out | self._rule.metrics() | there

    def _read(self, prompt_ids: Any, rewards: Any, step: Any, weights: Any) -> Rollouts:
        """Check a batch, also against the history."""
        batch = read_batch(prompt_ids, rewards, step)
        check_id_type(self._history.id_type, type(batch.ids[0]))
        self._check_clock(int(batch.groups.step.min()), self._history.newest)
        self._check_weights(weights)
        if weights is None:
            return Rollouts(batch, None)
        w = read_weights(weights, batch.scored)
        unit = float(unit_for(w.max(), self._history.unit))
        return Rollouts(batch, in_units(w, unit), unit)

    def _advantages(self, prompt_ids: Any, rewards: Any, step: Any, weights: Any) -> tuple[Any, list[Call]]:
        """Advantages of a batch, and the calls for `at_once` that remember it."""
        if device := self._on_device(rewards):
            there = self._read_there(device, prompt_ids, rewards, step, weights)
            return device.advantages(there, rewards, self.cold_start), [(device.store, there, self.allow_late)]
        rollouts = self._read(prompt_ids, rewards, step, weights)
        batch = rollouts.batch
        reading = self._rule.read(rollouts, self._history, self.backend.backend)
        estimate = reading.estimate
        value = np.where(estimate.defined, estimate.value, self._cold_value(batch, estimate.defined))
        advantage = np.where(batch.scored, batch.z - value, 0.0)
        rows = self._history.find(batch.ids)
        last = self._describe(batch, reading, rows)
        return batch.restore(advantage), self._storing(rollouts, reading, last, rows)

    def _cold_value(self, batch: Batch, defined: BoolArray) -> FloatArray | float:
        """What stands in for the value of rows without any observation."""
        if isinstance(self.cold_start, float) or defined.all():
            return self.cold_start if isinstance(self.cold_start, float) else 0.0
        if self.cold_start == "error":
            raise unobserved(int((~defined).sum()), len(batch.z))
        before = self._seen[1] / self._seen[0] if self._seen[0] else 0.0
        return batch.mean_of_other_prompts(before)

    def _storing(
        self, rollouts: Rollouts, reading: Reading | None, last: dict[str, float], rows: IntArray | None = None
    ) -> list[Call]:
        """The calls for `at_once` that learn from a batch, add it to the history, at those rows, and describe it."""
        batch = rollouts.batch
        learning, notes = ([], None) if reading is None else self._rule.learning(rollouts, reading)
        newest = max(self._history.newest, int(batch.groups.step.max()))
        keep = self._rule.keep(newest, self.allow_late)
        history = self._history.counted_in(rollouts.unit)
        ids, groups = batch.observed(rollouts.stored())
        if ids is not batch.ids:
            rows = None
            notes = None if notes is None else notes[np.unique(batch.groups.prompt[batch.groups.n > 0])]
        appending = history.appending(ids, groups, keep, newest, rows, notes)
        if rollouts.unit:
            appending.append((history.__dict__.update, {"unit": max(history.unit, rollouts.unit)}))
        seen = self._seen + np.array([batch.groups.n.sum(), batch.groups.s.sum()])
        return [*appending, *learning, (self.__dict__.update, {"_history": history, "_seen": seen, "_last": last})]

    def _describe(self, batch: Batch, reading: Reading, rows: IntArray) -> dict[str, float]:
        last = self._history.newest_step(rows)[batch.groups.prompt]
        known = last > 0
        gap = np.maximum(batch.groups.step - last, 0)[known]
        defined = np.asarray(reading.estimate.defined)
        return {
            "n_eff": float(reading.estimate.n_eff[defined].mean()) if defined.any() else math.nan,
            "cold_fraction": float(1.0 - defined.mean()),
            "bandwidth_steps": float(reading.width.mean()),
            "revisit_gap": float(gap.mean()) if known.any() else math.nan,
            "unscored_rows": float((~batch.scored).sum()),
        }
