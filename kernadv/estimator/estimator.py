"""KernelValueEstimator: the value of each prompt under the changing policy, from its past rewards and its group."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from kernadv import moments, smoothers
from kernadv._arrays import LAST_STEP
from kernadv._at_once import Call, at_once
from kernadv._checkpoint import load_arrays, save_arrays
from kernadv._errors import (
    ArgumentError,
    ArgumentTypeError,
    KernadvError,
    check_count,
    check_flag,
    check_level,
    check_range,
)
from kernadv.batch import read_batch
from kernadv.clock import Bandwidth, Relative
from kernadv.estimator._plain import PlainRule
from kernadv.estimator._pooled import PooledRule
from kernadv.estimator._rule import Belief, Rule
from kernadv.estimator._weighted import WeightedRule
from kernadv.estimator.checkpoint import from_arrays, to_arrays
from kernadv.estimator.course import Course, course
from kernadv.estimator.explanation import Explanation, explain
from kernadv.estimator.prediction import Prediction
from kernadv.estimator.state import HostState
from kernadv.features import Features, FeatureSource
from kernadv.groups import Groups
from kernadv.history import History, check_id_type
from kernadv.kernels import Kernel
from kernadv.pooling import Pooling, offline_features
from kernadv.smoothers import Estimate
from kernadv.tally import Tally
from kernadv.typing import AnyArray, ArrayRewards, FloatArray, Floats, PromptIds, Rewards, Step, Weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kernadv.batch import Batch
    from kernadv.device.batch import DeviceBatch
    from kernadv.device.state import DeviceState


class KernelValueEstimator:
    """Value of each prompt, smoothed over the steps of training, leave-one-out within the group.

    Without a `bandwidth` it is the **pooled** estimator.  M filters run over the prompt's past; they differ in what the
    prior is worth and in how fast they assume prompts move.  Filter m predicts the value p_m, worth nu_m rollouts.  The
    weights w_m, equal for all prompts, favour the filters that have predicted best so far, and all p_m follow the changes
    that the batch's other prompts show:

        V^(g) = sum_m w_m (nu_m p_m + sum of the others' rewards) / (nu_m + G - 1).

    Everything that is learned comes from past batches.

    With a `bandwidth` w it is **plain**: for trace g of prompt x at step i, with the prompt's past visits (I_j, Z_j),

        V_i^(g)(x) = [ sum_j K((i - I_j) / w) Z_j + sum_{k != g} K(0) Z^(k) ] / (sum of the weights).

    Parameters
    ----------
    bandwidth : Bandwidth, optional
        `Relative(h)` (w = i h, the paper's), `Steps(w)` or `Visits(k)` (k-NN in time).  None: pooled.
    kernel : str or Kernel, optional
        Kernel of the plain estimator: a name in `kernadv.kernels.KERNELS`, or an object; default: "triangular".
    smoother : {"nadaraya_watson", "local_linear"}
        Smoother of the plain estimator.
    pooling : Pooling, optional
        The filters, and how the level that the prompts share may move; default: `Pooling()`.
    features : mapping or callable, optional
        Prompt id -> vector, or list of ids -> (P, D) array: features whose regression gives the prior mean.
    weighted : bool
        Subtract ``E[w Z] / E[w]`` in place of the value, for the weights w given with each batch.  If w is the squared norm
        of the trace's score (the gradient of its log-probability), this is the baseline of least gradient variance.
        `values`, `intervals` and `explain` still speak of the value.
    pessimism : float
        Subtract ``v / (v + (1 - v) k)`` in place of v, on the range of the rewards seen before, for this k > 0.  1: off.
        Above 1 the baseline is lower; it is the best one where the squared score norm of wrong traces is k times that of
        right ones.  Off, too, once a reward was seen that lies inside the range.
    cold_start : "batch_mean", "error" or float
        Value of a row without any observation, used by `advantages`: the mean reward of the other prompts of the batch
        (without other prompts, the mean of all rewards observed before, or 0 if there are none), an error, or a constant.
        The pooled estimator leaves rows undefined only before it has seen anything.
    allow_late : bool or int
        Accept steps lower than the newest one seen (asynchronous rollouts): any (True), or up to that many steps late.
        Plain: a late row is smoothed over the visits at or before its own step.  Pooled: the belief of the prompt's newest
        visit becomes vaguer with the number of steps in between.
    max_visits, max_total : int, optional
        Hard caps on the visits kept per prompt and in total; `metrics()["dropped_visits"]` counts the visits lost to them.
        Pooled: they change a value only where a prompt has lost all its visits, and with them its beliefs.
    backend : str
        Backend of the moments, see `kernadv.moments.select`; it also decides where the plain estimator's history is kept,
        see `kernadv.moments.on_device`.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used; names are checked here, not at the first call.

    Notes
    -----
    If an exception ends a call, whatever it is and whenever it comes (Ctrl-C, an error in a signal handler, no memory),
    either all of the batch was learned from and added or none of it; `save` in a signal handler writes one of these two
    states.  On a GPU, a history that an exception left with part of a batch is refused until a checkpoint is loaded.

    With rewards on a GPU the history is kept there, and nothing makes the host wait.  The history follows the rewards;
    `intervals`, `explain`, `state_dict` and copies bring it back to main memory.  Several threads may call `values` at the
    same time if the history is already where all their rewards are.  While a thread makes any other call, no other thread
    may use the object.

    From time to time the plain estimator forgets visits that can never matter again: those outside the support of a compact
    kernel or, for other kernels, those with less than 1e-12 of the weight of the prompt's newest visit.  With compact
    kernels this changes no estimate; with others, by no more than that share.  The pooled estimator forgets nothing.  Its
    values come from 2 + 2 M numbers that it stores for every prompt (592 bytes; twice that if `weighted`).  The visits, 29
    bytes each, are kept only for `explain`, and `max_visits` bounds them.

    References
    ----------
    Kernelized Advantage Estimation, arXiv 2604.28005, section 3, for the plain estimator; West, Harrison and Migon (1985),
    dynamic generalized linear models, JASA 80, for the filters of the pooled one.

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
        pessimism: float = 1.0,
        cold_start: str | float = "batch_mean",
        allow_late: bool | int = False,
        max_visits: int | None = None,
        max_total: int | None = None,
        backend: str = "auto",
    ) -> None:
        self.backend = moments.select(backend)
        self._wanted = backend
        self.weighted = check_flag(weighted, "weighted")
        self.allow_late = allow_late if isinstance(allow_late, bool) else check_count(allow_late, "allow_late")
        self.cold_start = _check_cold_start(cold_start)
        self.pessimism = check_range(pessimism, "pessimism", 1e-6, 1e6)
        smoothers.get(smoother)
        if bandwidth is not None:
            if pooling is not None or features is not None or weighted or self.pessimism != 1.0:
                raise ArgumentError(
                    "a bandwidth makes the estimator plain; pooling, features, weighted and pessimism belong to the pooled "
                    "one: leave the bandwidth out, or give a Pooling with one filter"
                )
            self._rule: Rule = PlainRule(bandwidth, kernel or "triangular", smoother, self.allow_late)
        else:
            if smoother != "nadaraya_watson":
                raise ArgumentError(
                    f"smoother={smoother!r} belongs to the plain estimator: give it a bandwidth, e.g. Steps(20)"
                )
            settings = Pooling() if pooling is None else pooling
            if not isinstance(settings, Pooling):
                raise ArgumentTypeError(
                    f"pooling must be a Pooling, got {settings!r:.80}; e.g. Pooling(walks=(0.0, 0.1))"
                )
            if kernel is not None:
                raise ArgumentError(
                    f"kernel={kernel!r:.80} belongs to the plain estimator: give it a bandwidth, e.g. Steps(20)"
                )
            source = None if features is None else Features(features)
            kind = WeightedRule if self.weighted else PooledRule
            self._rule = kind(settings, source, self.allow_late)
        history = History(max_visits, max_total, self._rule.noted)
        self._state = self._at(None, history, Tally.empty(), self._rule.fresh(), {})

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
        history = self._state.history
        options = {
            "weighted": (self.weighted, False),
            "pessimism": (self.pessimism, 1.0),
            "cold_start": (self.cold_start, "batch_mean"),
            "allow_late": (self.allow_late, False),
            "max_visits": (history.max_visits, None),
            "max_total": (history.max_total, None),
            "backend": (self._wanted, "auto"),
        }
        changed = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
        features = [] if self._rule.features is None else ["features=..."]
        return f"{type(self).__name__}({', '.join([*self._rule.arguments(), *features, *changed])})"

    def __len__(self) -> int:
        """Number of prompts in the history."""
        return int(self._state.counters.prompts)

    def __bool__(self) -> bool:
        """True, also before anything was observed."""
        return True

    @property
    def bandwidth(self) -> Bandwidth | None:
        """The bandwidth of the plain estimator; None: pooled.

        Examples
        --------
        >>> KernelValueEstimator.kae(h=0.5).bandwidth, KernelValueEstimator().bandwidth
        (Relative(h=0.5, floor=0.0), None)
        """
        return self._rule.bandwidth

    @property
    def kernel(self) -> Kernel | None:
        """The kernel in time of the plain estimator; None: pooled.

        Examples
        --------
        >>> KernelValueEstimator.kae(kernel="gaussian").kernel
        Gaussian()
        """
        return self._rule.kernel

    @overload
    def values(
        self, prompt_ids: PromptIds, rewards: ArrayRewards, step: Step, *, trace: PromptIds | None = None
    ) -> Estimate[FloatArray]: ...

    @overload
    def values(
        self, prompt_ids: PromptIds, rewards: Floats, step: Step, *, trace: PromptIds | None = None
    ) -> Estimate[Floats]: ...

    def values(self, prompt_ids: Any, rewards: Any, step: Any, *, trace: PromptIds | None = None) -> Any:
        """Value of each row's prompt, without the row's own reward.  Only reads.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (B,)
            In any order; groups may differ in size.
        rewards : array, tensor or sequence of float  # (B,)
            NaN: could not be scored; the trace is then ignored in the values of the others.
        step : int, or (B,) ints
            Training step at generation (policy version), from 1.
        trace : sequence of str or of int, optional  # (B,)
            Ids of the traces, where a trace may come in several rows (turns, sub-agents, what a compaction has split); no
            two traces of the batch have the same.  The parts of a trace share its prompt, reward, step and weight.  They
            count as one trace, and get its result.  None: each row is a trace.

        Returns
        -------
        Estimate of (B,) arrays, of the kind of `rewards`
            ``defined`` is False for a row without any observation.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If an argument cannot be used, or parts of a trace differ; nothing has changed then.

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> for step in range(1, 5):
        ...     est.observe(["a", "a", "b", "b"], [1.0, 1.0, 0.0, 1.0], step)
        >>> estimate = est.values(["a", "a"], [1.0, 0.0], step=5)
        >>> estimate.value.round(2)  # of each trace, from the past and the other one: lower where the other one failed
        array([0.85, 0.94])
        """
        state, batch = self._read(prompt_ids, rewards, step, trace=trace)
        return Estimate(*(batch.restore(part) for part in state.predict(batch)[0]))

    @overload
    def baselines(
        self,
        prompt_ids: PromptIds,
        rewards: ArrayRewards,
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> FloatArray: ...

    @overload
    def baselines(
        self,
        prompt_ids: PromptIds,
        rewards: Floats,
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> Floats: ...

    def baselines(
        self,
        prompt_ids: Any,
        rewards: Any,
        step: Any,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> Any:
        """What `advantages` subtracts from the rewards.  Only reads.

        It is the value, unless the estimator is `weighted` or has a `pessimism`; rows without any observation get what
        `cold_start` says.

        Parameters
        ----------
        prompt_ids, rewards, step, trace
            As in `values`.
        weights : array, tensor or sequence of float  # (B,)
            Weight of each trace, from 0 to 1e300; required if and only if the estimator is `weighted`.  Only their ratios
            matter: one that is 1e-60 of the first ones counts as 0, one beyond 1e30 of them as so much.

        Returns
        -------
        (B,) of the kind of `rewards`

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If an argument cannot be used, parts of a trace differ, or a row has no observation and
            ``cold_start="error"``.

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> rewards = [1.0, 0.0, 1.0, 1.0]
        >>> ids = ["a", "a", "b", "b"]
        >>> before = rewards - est.baselines(ids, rewards, step=1)
        >>> bool((before == est.advantages(ids, rewards, step=1)).all())
        True
        """
        state, batch = self._read(prompt_ids, rewards, step, weights, trace, learning=True)
        estimate, made_from = state.predict(batch)
        return batch.restore(self._baseline(state, self._filled(state, batch, estimate), estimate, made_from))

    @overload
    def intervals(
        self,
        prompt_ids: PromptIds,
        rewards: ArrayRewards,
        step: Step,
        *,
        level: float = 0.95,
        trace: PromptIds | None = None,
    ) -> tuple[FloatArray, FloatArray]: ...

    @overload
    def intervals(
        self, prompt_ids: PromptIds, rewards: Floats, step: Step, *, level: float = 0.95, trace: PromptIds | None = None
    ) -> tuple[Floats, Floats]: ...

    def intervals(
        self, prompt_ids: Any, rewards: Any, step: Any, *, level: float = 0.95, trace: PromptIds | None = None
    ) -> Any:
        """Lower and upper bounds for the value of each row's prompt.  Only reads.

        Pooled: the bounds of a Beta distribution over the range of the rewards.  Its variance is that of the filters'
        weighted beliefs after the other traces of the group; its mean is theirs, corrected by how such predictions turned
        out before.  The bounds cover the value under the current policy, provided that some filter moves as the policy does.
        Plain: Jeffreys' interval on n_eff, or a normal one; it covers the smoothed target, the past values weighted by the
        kernel.

        Parameters
        ----------
        prompt_ids, rewards, step, trace
            As in `values`.
        level : float
            Strictly between 0 and 1.

        Returns
        -------
        lower, upper : (B,) arrays of the kind of `rewards`; infinite while nothing is known, NaN where undefined

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> for step in range(1, 21):
        ...     est.observe(["a", "b"], [1.0, step % 2], step)
        >>> low, high = est.intervals(["a", "b"], [1.0, 1.0], step=21)
        >>> low.round(1), high.round(1)
        (array([0.9, 0.2]), array([1. , 0.8]))
        """
        check_level(level)
        state = self._on_host()
        batch = state.read(prompt_ids, rewards, step, trace=trace)
        estimate, belief = self._believed(state, batch)
        low, high = (
            batch.restore(np.where(estimate.defined, bound, np.nan))
            for bound in self._rule.interval(estimate, belief, level)
        )
        return low, high

    def predict(self, prompt_ids: PromptIds, step: Step | None = None, *, level: float = 0.95) -> Prediction:
        """What is known of prompts before any trace of `step`: values, intervals, chances of dead groups.  Only reads.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (B,)
        step : int, or (B,) ints, optional
            Default: one after the newest.
        level : float
            Of the intervals, strictly between 0 and 1.

        Returns
        -------
        Prediction of (B,) numpy arrays
            The value of a prompt that was never seen is, if pooled, that of a prompt like it (the level that the prompts
            share, moved by its `features`), with an interval as wide as prompts differ; if plain, NaN.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If an argument cannot be used.

        Notes
        -----
        The history stays where it is; from a device only the results are fetched.

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> for step in range(1, 9):
        ...     est.observe(["easy", "easy", "hard", "hard"], [1.0, 1.0, 0.0, 0.0], step)
        >>> seen = est.predict(["easy", "hard", "new"])
        >>> seen.value.round(1), seen.visits
        (array([1. , 0. , 0.5]), array([8, 8, 0]))
        >>> seen.dead(4).round(1)
        array([1. , 1. , 0.7])
        """
        check_level(level)
        state: Any = self._state
        batch = state.unscored(prompt_ids, state.newest + 1 if step is None else step)
        estimate, belief = self._believed(state, batch)
        rows = partial(state.rows, batch)
        own = Estimate(*map(rows, estimate))
        ends = float(belief.low), float(belief.span)
        mean, worth = rows(belief.mean), rows(belief.worth)
        low, high = (
            np.where(own.defined, bound, np.nan)
            for bound in self._rule.interval(own, Belief(mean, worth, *ends), level)
        )
        known = own.defined & (ends[1] > 0)
        alpha, beta = (np.where(known, worth * share, np.nan) for share in (mean, 1.0 - mean))
        last, visits = rows(batch.last[batch.group]), state.visits(batch)
        return Prediction(own.value, low, high, own.n_eff, visits, last, alpha, beta, state.tallied.two_ends)

    def _believed(self, state: Any, batch: Any) -> tuple[Estimate, Belief]:
        """Values of the rows, and what is believed of them."""
        estimate, made_from = state.predict(batch)
        return estimate, self._rule.belief(batch, estimate, made_from, state)

    def observe(
        self,
        prompt_ids: PromptIds,
        rewards: Rewards,
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> None:
        """Learn from a batch and add it to the history.  Parameters and errors as in `baselines`.

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> est.observe(["a", "b"], [1.0, 0.0], step=1)
        >>> len(est)  # prompts
        2
        """
        at_once(*self._observing(prompt_ids, rewards, step, weights, trace))

    def _observing(self, prompt_ids: Any, rewards: Any, step: Any, weights: Any, trace: Any) -> list[Call]:
        """The calls for `at_once` that remember a batch."""
        state, batch = self._read(prompt_ids, rewards, step, weights, trace, learning=True)
        made_from = None if state.pool is None else state.predict(batch)[1]
        return list(state.learning(batch, made_from))

    def observe_offline(self, prompt_ids: PromptIds, pass_rates: Weights, rollouts: int, *, age: int = 10) -> None:
        """Add rollouts that were scored before training, as a visit `age` steps before step 1.

        This is for the plain estimator; the pooled one takes them as features, see `kernadv.pooling.offline_features`.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (P,)
        pass_rates : sequence of float in [0, 1]  # (P,)
            Share of each prompt's rollouts with reward 1.
        rollouts : int
            Number of rollouts per prompt, below 2^31.
        age : int
            Number of steps by which they are older than step 1, up to 2^53; the larger, the less they count.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If a pass rate lies outside [0, 1], training has begun, the estimator is pooled or an argument cannot be used.

        Examples
        --------
        >>> from kernadv.clock import Steps
        >>> est = KernelValueEstimator(Steps(20))
        >>> est.observe_offline(["a", "b"], [0.25, 0.75], rollouts=8)
        >>> est.predict(["a", "b"], step=1).value
        array([0.25, 0.75])
        """
        if self.bandwidth is None:
            raise ArgumentError(
                "the pooled estimator takes offline pass rates as a feature, which fades as the policy moves away: "
                "KernelValueEstimator(features=offline_features(prompt_ids, pass_rates, rollouts)), from kernadv.pooling"
            )
        history = self._on_host().history
        if history.newest > 0:
            raise ArgumentError(f"offline rollouts come before training, which is at step {history.newest}")
        rates = offline_features(prompt_ids, pass_rates, rollouts)
        check_id_type(history.id_type, type(next(iter(rates), "")))
        age = check_count(age, "age", most=LAST_STEP)
        total = rollouts * np.asarray(pass_rates, np.float64)
        step, n = np.full(len(total), 1 - age), np.full(len(total), rollouts)
        history.append(list(rates), Groups(np.arange(len(total)), step, n, total, total))

    @overload
    def advantages(
        self,
        prompt_ids: PromptIds,
        rewards: ArrayRewards,
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> FloatArray: ...

    @overload
    def advantages(
        self,
        prompt_ids: PromptIds,
        rewards: Floats,
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> Floats: ...

    def advantages(
        self,
        prompt_ids: Any,
        rewards: Any,
        step: Any,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> Any:
        """``rewards - baselines``, then `observe`.  Parameters and errors as in `baselines`.

        All rows are smoothed over the history before the batch.  A row whose reward is NaN has advantage 0 and is not
        stored.  With rewards on a GPU, where nothing waits, it is no error if a reward is infinite, or parts of a trace
        differ there: the trace is not stored either, its advantage is NaN, and a warning follows.

        Returns
        -------
        (B,) array or tensor of the kind, dtype and device of `rewards`

        Raises
        ------
        ArgumentError
            Also if a row has no observation and ``cold_start="error"``.

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> for step in range(1, 9):
        ...     est.observe(["hard"], [0.0], step)
        >>> est.advantages(["hard"], [1.0], step=9).round(1)  # a single trace: the first success is a surprise
        array([1.])
        """
        out, learning = self._advantages(prompt_ids, rewards, step, weights, trace)
        at_once(*learning)
        return out

    def _advantages(self, prompt_ids: Any, rewards: Any, step: Any, weights: Any, trace: Any) -> tuple[Any, list[Call]]:
        """Advantages of a batch, and the calls for `at_once` that remember it."""
        state, batch = self._read(prompt_ids, rewards, step, weights, trace, learning=True)
        estimate, made_from = state.predict(batch)
        value = self._filled(state, batch, estimate)
        baseline = self._baseline(state, value, estimate, made_from)
        out = batch.advantages(baseline)
        width = self._rule.half_width(made_from)
        last = {"n_eff": estimate.n_eff, "defined": estimate.defined, "width": width, "first": batch.first,
                "z": batch.z, "value": value, "baseline": baseline, "last": batch.last, "step": batch.step}  # fmt: skip
        return out, state.learning(batch, made_from, last)

    def explain(self, prompt_id: str | int, step: int | None = None) -> Explanation:
        """How a prompt's value is computed, before any trace of `step`: a dict with a `plot` method.

        Parameters
        ----------
        prompt_id : str or int
        step : int, optional
            Default: one after the newest.

        Raises
        ------
        ArgumentError
            If the prompt is not in the history.

        Examples
        --------
        >>> est = KernelValueEstimator.kae(h=1.0)
        >>> for step, reward in [(1, 0.0), (2, 0.0), (3, 1.0)]:
        ...     est.observe(["a"], [reward], step)
        >>> why = est.explain("a")
        >>> why["steps"], why["mean_rewards"], why["weights"].round(2), round(why["value"], 2)
        (array([1, 2, 3]), array([0., 0., 1.]), array([0.17, 0.33, 0.5 ]), 0.5)
        """
        state = self._on_host()
        at = state.history.newest + 1 if step is None else step
        batch = state.look_up(read_batch([prompt_id], [math.nan], at))
        return explain(state, batch)

    def course(self, prompt_id: str | int, *, level: float = 0.95) -> Course:
        """What was known of a prompt before each step of the training so far: value and interval.  Only reads.

        It is told again from the history, by an estimator with the same settings that sees all visits in the order of their
        steps.  For rewards at two values (0 and 1) this gives what `predict` would have said at the time, up to rounding, if
        each prompt came in one batch a step.  Other rewards are known by the count, sum and sum of squares of each visit.
        Visits that the history has dropped, or forgotten because they no longer matter, are missing.

        Parameters
        ----------
        prompt_id : str or int
        level : float
            Of the intervals, strictly between 0 and 1.

        Returns
        -------
        Course
            With a method `plot`.

        Raises
        ------
        ArgumentError
            If the prompt is not in the history.

        Notes
        -----
        Plain: only the prompt's own visits are read.  Pooled: all prompts' are, in about the time that learning from them
        took.

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> for step in range(1, 5):
        ...     est.observe(["a", "a"], [1.0, 0.0], step)
        >>> told = est.course("a")
        >>> told.step, told.value.round(2)
        (array([1, 2, 3, 4, 5]), array([nan, 0.5, 0.5, 0.5, 0.5]))
        """
        check_level(level)
        state = self._on_host()
        history, names = state.history, state.history.ids
        (row,) = history.find([prompt_id])
        if row < 0:
            raise ArgumentError(f"prompt {prompt_id!r} is not in the history; it holds {len(self)} prompts")
        if self.bandwidth is not None:
            names = [prompt_id]
        groups = history.visits(history.find(names))
        before = groups.step < 1  # offline rollouts
        fresh = copy.copy(self)
        fresh.weighted, fresh.pessimism, fresh._rule = False, 1.0, self._rule.of_values
        past = History(None, None, fresh._rule.noted)
        if before.any():
            past.append(names, groups.take(before))
        fresh._state = fresh._at(None, past, Tally.empty(), fresh._rule.fresh(), {})
        low, high = state.tally.ends[:2].tolist()
        gone = history.counters.evicted + history.counters.dropped
        return course(fresh, prompt_id, names, groups.take(~before), (low, high), level, gone)

    def plot(self, prompt_id: str | int, ax: Axes | None = None, *, level: float = 0.95) -> Axes:
        """Draw the `course` of a prompt: value and interval over the steps, and the mean reward of each visit.

        Parameters
        ----------
        prompt_id : str or int
        ax : matplotlib Axes, optional
            Default: of a new figure.
        level : float

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ArgumentError
            If the prompt is not in the history.
        MissingExtraError
            Without matplotlib, if no `ax` is given.

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> for step in range(1, 9):
        ...     est.observe(["a", "b"], [step % 2, 1.0], step)
        >>> est.plot("a").get_title("left")
        "prompt 'a'"
        """
        return self.course(prompt_id, level=level).plot(ax)

    def metrics(self) -> dict[str, float]:
        """Numbers for a logger, all finite; one that is not defined, or not yet, is left out.

        Returns
        -------
        dict
            **Does it help?**  Over the calls of `advantages`, each step counting 2% less than the next, so over about the
            last 50 steps: ``value_mse``, ``rloo_mse`` and ``batch_mean_mse``, the mean squared errors of the values, of
            RLOO's and of the mean of the batch's other traces, without the truth, over the traces of groups of several;
            ``gradient_ratio``, the gradient variance relative to RLOO's that they imply.  If all groups have one trace,
            instead ``value_excess``, the error of the values minus that of the batch mean, and ``gradient_ratio`` relative
            to the batch mean's.  An estimate of a small error may be negative by chance.  They speak of the values, also
            where weights or a `pessimism` make the baseline another one.  ``dead``, the share of the groups of several
            traces whose rewards are all equal; where all rewards so far lay at the two ends of their range, also
            ``dead_0`` and ``dead_1``, the shares that are all at the lower and all at the upper end.

            About the last call of `advantages`: ``n_eff``, the mean effective sample size of the values, or how many
            rollouts they are worth; ``cold_fraction``, the share of rows without any observation; ``bandwidth_steps``, the
            mean half-width of the windows in steps, if plain; ``revisit_gap``, the mean number of steps since a known
            prompt's last visit; ``unscored_rows``, the rows with a NaN reward; ``advantage_mean``; ``negative_share``, the
            share of the absolute advantages that is negative, with 0/1 rewards that of the wrong traces.

            About the history: ``history_visits`` and ``history_prompts``, its size; ``dropped_visits``, the visits lost to
            `max_visits` or `max_total` so far that could still matter.

            About the pooled estimator: ``pooled_mean``, the recent mean reward; and, as weighted means over the filters,
            ``kappa``, the rollouts that the prior is worth, ``walk``, the standard deviation of a step of a value's logit,
            and ``discount``, the rate per step at which the past loses its worth.

        Notes
        -----
        The formulas are those of the audit (docs, "The numbers").  On a device it waits for the numbers; `advantages` does
        not.

        Examples
        --------
        >>> est = KernelValueEstimator()
        >>> for step in range(1, 5):
        ...     advantages = est.advantages(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step)
        >>> numbers = est.metrics()
        >>> numbers["dead"], numbers["history_visits"]  # the groups of b are all alike
        (0.5, 8.0)
        """
        state = self._state
        last, held = state.last, state.counters
        numbers = {
            **_of_last_call(last),
            **state.tallied.metrics(),
            "history_visits": float(held.visits),
            "history_prompts": float(held.prompts),
            "dropped_visits": float(held.dropped),
            **self._rule.metrics(state.learned),
        }
        return {name: number for name, number in numbers.items() if math.isfinite(number)}

    def state_dict(self) -> dict[str, AnyArray]:
        """The whole state as plain arrays, with the configuration.

        Examples
        --------
        >>> import numpy as np
        >>> est = KernelValueEstimator()
        >>> est.observe(["a", "b"], [1.0, 0.0], step=1)
        >>> all(isinstance(part, np.ndarray) for part in est.state_dict().values())
        True
        """
        return to_arrays(self._on_host())

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Replace the state; on an error it stays as it was.

        Parameters
        ----------
        state : mapping of arrays
            As made by `state_dict`.
        strict : bool
            Refuse a state saved with another bandwidth, kernel, pooling, number of features or `allow_late`, because visits
            that could not matter there may have been forgotten.  Without `strict` the visits are loaded and everything else
            that was learned starts anew; this includes all that the pooled estimator computes values from.

        Raises
        ------
        CheckpointError
            If the state is foreign, damaged, from a newer version or, with `strict`, of another configuration.

        Examples
        --------
        >>> est, other = KernelValueEstimator(), KernelValueEstimator()
        >>> est.observe(["a", "b"], [1.0, 0.0], step=1)
        >>> other.load_state_dict(est.state_dict())
        >>> len(other)
        2
        """
        at_once(*self._loading(state, strict))

    def _loading(self, state: Mapping[str, Any], strict: bool) -> list[Call]:
        """The calls for `at_once` that replace the state; errors as in `load_state_dict`."""
        caps = self._state.history.max_visits, self._state.history.max_total
        loaded = self._at(None, *from_arrays(state, self._rule, self._state.pool, *caps, strict=strict))
        return [(self.__dict__.update, {"_state": loaded})]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file; a crash in the middle leaves the old file intact.

        A URL ("s3://...") goes through fsspec: the file is as whole as the store makes it, and `load` refuses a cut one.

        Examples
        --------
        >>> import tempfile
        >>> est, other = KernelValueEstimator(), KernelValueEstimator()
        >>> est.observe(["a", "b"], [1.0, 0.0], step=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     est.save(f"{folder}/values.safetensors")
        ...     other.load(f"{folder}/values.safetensors")
        >>> bool((est.predict(["a"]).value == other.predict(["a"]).value).all())
        True
        """
        save_arrays(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], *, strict: bool = True) -> None:
        """Replace the state with the one in `path`, a file or a URL; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            As `load_state_dict`, and if the file is truncated or foreign.
        FileNotFoundError
            If there is no such file.

        Examples
        --------
        >>> import tempfile
        >>> from kernadv import CheckpointError
        >>> est, plain = KernelValueEstimator(), KernelValueEstimator.kae()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     est.save(f"{folder}/values.safetensors")
        ...     try:
        ...         plain.load(f"{folder}/values.safetensors")
        ...     except CheckpointError:
        ...         print("another kind of estimator")
        another kind of estimator
        """
        self.load_state_dict(load_arrays(path), strict=strict)

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle and copy, in main memory."""
        self._on_host()
        return self.__dict__.copy()

    def _at(self, device: Any, *parts: Any) -> HostState | DeviceState:
        """A state on a device (None: in main memory) from what `to_host` of another one returned."""
        if device is None:
            return HostState(self._rule, self.backend, *parts)
        from kernadv.device.state import DeviceState

        return DeviceState(self._rule, device, *parts)

    def _on(self, device: Any) -> HostState | DeviceState:
        """The state on that device; it is moved there if it is elsewhere."""
        if self._state.device != device:
            self._state = self._at(device, *self._state.to_host())
        return self._state

    def _on_host(self) -> HostState:
        """The state in main memory."""
        state = self._on(None)
        assert isinstance(state, HostState)
        return state

    def _read(
        self,
        prompt_ids: Any,
        rewards: Any,
        step: Any,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
        *,
        learning: bool = False,
    ) -> tuple[Any, Batch | DeviceBatch]:
        """The state, where the rewards are if the rule works there, and the batch, checked against it.

        With `learning` the weights must be there if, and only if, they are expected.
        """
        there = moments.on_device(self._wanted, rewards) and self._rule.works_on_device(self._state.pool)
        state: Any = self._on(rewards.device if there else None)
        if learning:
            self._check_weights(weights)
        return state, state.read(prompt_ids, rewards, step, weights, trace)

    def _check_weights(self, weights: Any) -> None:
        """Refuse weights that are not expected, or their absence."""
        if self.weighted and weights is None:
            raise ArgumentError(
                "the estimator is weighted: pass weights, one a row, e.g. the squared norms of the scores"
            )
        if weights is not None and not self.weighted:
            raise ArgumentError("weights need an estimator that expects them: KernelValueEstimator(weighted=True)")

    def _baseline(self, state: HostState | DeviceState, value: Any, estimate: Estimate, made_from: Any) -> Any:
        """What is subtracted from the rewards; value: as `_filled` says."""
        found = self._rule.baseline(estimate, made_from)
        if found is not estimate:  # where nothing weighs anything, the value
            value = state.xp.where(found.defined, found.value, value)
        return value if self.pessimism == 1.0 else self._rule.tilted(value, state, self.pessimism)

    def _filled(self, state: HostState | DeviceState, batch: Any, estimate: Estimate) -> Any:
        """Values, with `cold_start` in rows without any observation; on a device only "error" waits for it."""
        value, defined = estimate.value, estimate.defined
        if isinstance(self.cold_start, float):
            return state.xp.where(defined, value, self.cold_start)
        if self.cold_start == "error":
            if not bool(defined.all()):
                raise ArgumentError(
                    f"{int((~defined).sum())} of {len(defined)} rows have no past visit in the window and no other trace; "
                    "nothing was stored; use cold_start='batch_mean' or a constant"
                )
            return value
        if state.xp.certain(defined):
            return value
        return batch.filled(value, defined, state.tally.seen)


def _check_cold_start(cold_start: str | float) -> str | float:
    """Return "batch_mean", "error" or a number, or raise."""
    if isinstance(cold_start, str) and cold_start in ("batch_mean", "error"):
        return cold_start
    try:
        return check_range(cold_start, "cold_start", -math.inf)  # type: ignore[arg-type]
    except KernadvError:
        raise ArgumentError(
            f"cold_start must be 'batch_mean', 'error' or a finite number, got {cold_start!r:.80}"
        ) from None


def _of_last_call(last: Mapping[str, AnyArray]) -> dict[str, float]:
    """Numbers of the last call of `advantages`, from what it kept of its batch."""
    if not last:
        return {}
    scored = ~np.isnan(last["z"])
    advantage = (last["z"] - last["baseline"])[scored]
    size = float(np.abs(advantage).sum())
    first, before = last["first"], last["last"]
    gap = np.maximum(last["step"] - before, 0)[first & (before > 0)]
    return {
        "n_eff": _mean(last["n_eff"][last["defined"]]),
        "cold_fraction": 1.0 - _mean(last["defined"]),
        "bandwidth_steps": _mean(np.broadcast_to(last["width"][:, 0], first.shape)[first]),
        "revisit_gap": _mean(gap),
        "unscored_rows": float((~scored).sum()),
        "advantage_mean": _mean(advantage),
        "negative_share": float(abs(advantage.clip(max=0.0).sum()) / size) if size else math.nan,
    }


def _mean(x: AnyArray) -> float:
    return float(x.mean()) if x.size else math.nan
