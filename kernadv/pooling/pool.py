"""The pooled estimator's engine: from beliefs about prompts to their values, and learning from a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernadv._arrays import LAST_STEP
from kernadv._errors import CheckpointError
from kernadv._states import whole_numbers
from kernadv._typing import FloatArray
from kernadv.pooling._base import GroupSums, PoolPiece, check_shapes, share_of
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace
from kernadv.pooling._running import LEAST_SPAN, Running
from kernadv.pooling.beliefs import Beliefs, believed, carried, carried_back
from kernadv.pooling.calibration import Calibration
from kernadv.pooling.common import CommonLevel
from kernadv.pooling.features import FeaturePrior
from kernadv.pooling.settings import Pooling
from kernadv.pooling.weights import PrequentialWeights
from kernadv.smoothers import Estimate

#: Prior odds of a filter in which prompts do not move, against each in which they do.
STILL = 2.0
#: A trace counts as alone where the others of its group weigh less than this share of the group.
ALONE = 1e-9
#: Rewards further away than that many ranges are clipped.
FARTHEST = 1e100
#: Features keep the prior mean at least this share of the range away from its ends.
LEAST_PRIOR = 0.01


class Query(NamedTuple):
    """N groups, and what the history notes of their prompts.

    Attributes
    ----------
    batch : GroupSums of N groups
    known : (N,) bool
        Whether the history notes anything of the prompt.
    notes : (N, 2 + 2 M)
        The range of the rewards at its last visit, and the beliefs then; meaningless for prompts that are not known.
    gap : (N,)
        Steps from the prompt's newest visit to the group; below 0 for a group that comes late.  For a prompt that is not
        known, steps from its first group in the batch.
    low, high : (N,)
        Smallest and largest reward of each group; inf and -inf where none is scored.
    step : int
        Newest step of the batch.
    chain : Chain or None
        None: no prompt has two groups.
    features : (N, D) or None
        NaN where a prompt has none.
    """

    batch: GroupSums
    known: Array
    notes: Array
    gap: Array
    low: Array
    high: Array
    step: Any
    chain: Chain | None = None
    features: Array | None = None


class Chain(NamedTuple):
    """Which groups of a batch are of one prompt, and in what order they are learned from.

    Attributes
    ----------
    first_group : (N,) int64
        Index of the first group of each group's prompt.
    turn : (N,) int64
        Below `turns`; another one for each group of a prompt.
    turns : int
    """

    first_group: Array
    turn: Array
    turns: int


class Forecast(NamedTuple):
    """What is known of N groups from the past and from the rewards of the batch's other prompts.

    Attributes
    ----------
    weights : (M,)
        Of the filters.
    mean : (N, M)
        Of the value, as a share of the range of the rewards.
    worth : (N, M)
        Rewards of two values that it is worth; 0 where nothing is known.
    level : (N,)
        The common level that the other prompts show.
    low, span : (N,)
        Low end and length of the range of the rewards; in the first batch, of the rewards of the other prompts.
    base : Beliefs
        At the newest visits.
    count : ()
        As in `Running.count`.
    inside : GroupSums of N groups
        The batch in shares of the range.
    score, information : (N,)
        What each group shows of the common level, as in `CommonLevel`.
    value, error : (N,)
        At the expected common level, mean of the value, as a share of the range, and its variance.
    """

    weights: Array
    mean: Array
    worth: Array
    level: Array
    low: Array
    span: Array
    base: Beliefs
    count: Any
    inside: GroupSums
    score: Array
    information: Array
    value: Array
    error: Array


class Pool:
    """State and rules of a `Pooling`; arrays in, arrays out, all of the namespace's kind.

    Parameters
    ----------
    settings : Pooling
    features : int
        Number of features of a prompt; 0: none.
    xp : ArrayNamespace
    """

    def __init__(self, settings: Pooling, features: int = 0, xp: ArrayNamespace = NUMPY) -> None:
        self.settings, self.xp = settings, xp
        self.newest = xp.zeros(1)  # step
        self.running = Running(xp)
        self.common = CommonLevel(settings.common, xp)
        self.weights = PrequentialWeights(
            np.where(settings.members.walk + settings.members.discount > 0, 1.0, STILL), xp
        )
        self.calibration = Calibration(xp)
        self.features: FeaturePrior | None = None
        if features:
            self.expect(features)
        self._prior, self._walk, self._discount = map(xp.array, settings.members)

    @property
    def width(self) -> int:
        """Numbers noted of a prompt."""
        return 2 + 2 * len(self._prior)

    @property
    def mean(self) -> Any:
        """Recent mean reward."""
        return self.reward(self.running.mean)

    @property
    def prior(self) -> Any:
        """Rollouts that the prior is worth at the middle of the range."""
        return self.weights.weights() @ self._prior / (self.running.count * self.running.weight)

    def reward(self, share: Array) -> Array:
        """Shares of the range as rewards."""
        return self.running.low + self.running.span * share

    def expect(self, features: int) -> None:
        """From now on every prompt comes with that many features."""
        if self.features is None:
            self.features = FeaturePrior(features, self.xp)

    def copy_from(self, other: Pool) -> None:
        """Copy what another pool of the same `Pooling` and namespace has learned."""
        self.newest[:] = other.newest
        if other.features is None:
            self.features = None
        else:
            self.expect(other.features.columns)
        for own, learned in zip(self._pieces().values(), other._pieces().values(), strict=True):
            own.copy_from(learned)

    def forecast(self, query: Query) -> Forecast:
        """Predict a batch.  Its rewards enter only through the common level, each for the other prompts."""
        xp = self.xp
        batch, running = query.batch, self.running
        weights, base = self.weights.weights(), self._recalled(query)
        count, inside = running.count, self._inside(batch)
        beliefs = self._moved(base, self._since(query))
        score, information, value, error = self._evidence(beliefs, weights, inside, count)
        elsewhere = xp.sum_of_others(batch.prompt, score, information)
        level = self.common.shown(elsewhere[0], elsewhere[1], self._elapsed(query.step))
        low, span, told = (x + 0.0 * level for x in (running.low, running.span, xp.number(~running.empty)))
        if not xp.rules_out(running.empty):
            level, low, span, told = self._of_others(query, (level, low, span, told))
        alpha, beta = beliefs.at(level[:, None], xp)
        worth = alpha + beta
        mean, worth = alpha / worth, worth * told[:, None]
        return Forecast(weights, mean, worth, level, low, span, base, count, inside, score, information, value, error)

    def posterior(
        self,
        forecast: Forecast,
        group: Array,
        others: tuple[Array, Array, Array],
        weight: Any,
        places: tuple[Array, Array] | None = None,
    ) -> Estimate:
        """Values with the other traces of the group: the mean over the filters of ``(nu p + k T) / (nu + k W)``.

        Parameters
        ----------
        forecast : Forecast of N groups
        group : (B,) int64
            Index of each row's group.
        others : three (B,) arrays
            Count, sum W of the weights w and sum T of w z over the other scored traces of the row's group.
        weight : () or (B,)
            Of a typical trace.
        places : two arrays of int64, optional
            Rows of one group and one W may share a place: the place of each row, (B,), and a row of each place, (U,).

        Returns
        -------
        Estimate of (B,)
            ``defined`` is False where neither the past nor a trace says anything.
        """
        running, where = self.running, self.xp.where
        _, mass, total = others
        low, span = forecast.low[group], forecast.span[group]
        k = where(running.empty, 1.0 / weight, forecast.count)
        heard = k * mass
        place, row = places or (slice(None), slice(None))
        sums = self._joined(forecast, group[row], heard[row])
        level, gain, far, tilt, bend, noise, slope, curve = (part[place] for part in sums)
        above = k * (total - low * mass)
        x = where(span > 0, above / where(span > 0, span, 1.0), 0.0).clip(-FARTHEST, FARTHEST)
        centre = level + gain * x
        spread = abs(noise + x * (slope - curve * x)) + (far + x * (2.0 * tilt + bend * x)).clip(0.0)
        n_eff = (abs(centre * (1.0 - centre)) / spread.clip(1e-300) - 1.0).clip(1e-3) / (k * weight)
        defined, alone = gain > 0, forecast.worth[:, 0][group] <= 0
        variance = where(defined & ~running.empty, span**2 * spread, np.nan)
        value = where(alone, self.xp.ratio(total, mass), low + span * level + gain * above)
        return Estimate(where(defined, value, np.nan), variance, where(defined, n_eff, 0.0), defined)

    def _joined(self, forecast: Forecast, group: Array, heard: Array) -> list[Array]:
        """Mean and variance over the filters, as functions of the sum x of k w share over the others; heard: k W.  # (U,)

        A filter says p = (nu p + x) / (nu + k W), with the variance p (1 - p) / (nu + k W + 1).

        Returns
        -------
        eight (U,) arrays
            The mean is the first plus the second times x.  The variance of the means is the third, twice the fourth and the
            fifth times 1, x and x^2; the mean of the variances the sixth, the seventh and minus the eighth times these.
        """
        w, worth, mean = forecast.weights, forecast.worth[group], self.xp.averages
        bottom = worth + heard[:, None]
        gain = self.xp.ratio(1.0, bottom)
        level = forecast.mean[group] * worth * gain
        inner = 1.0 / (bottom + 1.0)
        a, b = mean(level, w), mean(gain, w)
        off, turn = level - a[:, None], gain - b[:, None]
        return [
            a,
            b,
            mean(off * off, w),
            mean(off * turn, w),
            mean(turn * turn, w),
            mean(inner * level * (1.0 - level), w),
            mean(inner * gain * (1.0 - 2.0 * level), w),
            mean(inner * gain * gain, w),
        ]

    def centre(self, forecast: Forecast, group: Array, mass: Array, value: Array) -> Array:
        """Values as shares of the range, corrected by how far such predictions were off.

        The correction counts as much as the value rests on the prediction, and not on the other traces of the group.

        Parameters
        ----------
        forecast : Forecast of N groups
        group : (B,) int64
            Index of each row's group.
        mass : (B,)
            Sum W of the weights over the other scored traces of the row's group.
        value : (B,)
            Of `posterior`, from these.

        Returns
        -------
        (B,), between 0 and 1
        """
        worth, heard = forecast.worth[group], (self.running.count * mass)[:, None]
        past = self.xp.ratio(worth, worth + heard) @ forecast.weights
        shift = self.calibration.shift(forecast.mean @ forecast.weights)[group]
        low, high = self.running.range
        return (share_of(value, low, high, self.xp) + past * shift).clip(0.0, 1.0)

    def tilted(self, value: Array, k: float) -> Array:
        """``v / (v + (1 - v) k)`` for values v as shares of the range, if all rewards so far lie at its ends."""
        running, where = self.running, self.xp.where
        two_ends = (running.span > 0) & (running.between[0] <= 0)
        low, high = running.range
        share = share_of(value, low, high, self.xp).clip(0.0, 1.0)
        moved = low + running.span * share / (share + (1.0 - share) * k).clip(1e-300)
        return where(two_ends, moved, value)

    def linear(self, forecast: Forecast, n: Array) -> tuple[Array, Array]:
        """The values of groups of n traces of weight 1 as a level, NaN where undefined, and the gain of the others' sum.

        # (N,) each
        """
        where, w = self.xp.where, forecast.weights
        k = self.xp.pick(self.running.empty, 1.0, forecast.count)
        pull = self.xp.ratio(1.0, forecast.worth + (k * (n - 1.0))[:, None])
        mean, gain = (forecast.worth * forecast.mean * pull) @ w, (k * pull) @ w
        level = forecast.span * mean + forecast.low * (1.0 - gain * (n - 1.0))
        return where(gain > 0, level, np.nan), gain

    def _of_others(self, query: Query, learned: tuple[Array, ...]) -> tuple[Array, ...]:
        """Level, range and whether they are known, by group: as learned, or in the first batch from the other prompts."""
        where, ratio, others = self.xp.where, self.xp.ratio, self.xp.sum_of_others
        batch, worth = query.batch, self._different(query.batch)
        right, count = others(batch.prompt, worth * ratio(batch.wz, batch.w), worth)
        told = count > 0
        low, minus_high = (self._least_elsewhere(batch.prompt, part) for part in (query.low, -query.high))
        span = -minus_high - low
        low, span = where(told, low, 0.0), where(told & (span > LEAST_SPAN), span, 0.0)
        inside = where(span > 0, (right - low * count) / where(span > 0, span, 1.0), 0.0).clip(0.0)
        level = self.common.starting(self.xp.minimum(inside, count), count)[0]
        first = level, low, span, self.xp.number(told)
        return tuple(where(self.running.empty, here, there) for here, there in zip(first, learned, strict=True))

    def _different(self, batch: GroupSums) -> Array:
        """The number of rollouts of different prompts that tell as much as those of each group.  # (N,)"""
        kappa, n = self._kappa, batch.n * (batch.w > 0)
        return n * (kappa + 1.0) / (n + kappa)

    def _least_elsewhere(self, prompt: Any, x: Array) -> Array:
        """The least x of the groups of the other prompts.  # (N,)"""
        xp, key = self.xp, self.xp.key(prompt)
        least = x.min()
        here = x == least
        one = xp.where(here, key, key.max()).min()
        alone = one == xp.where(here, key, key.min()).max()
        own = (key == one) & alone
        return xp.where(own, xp.where(own, np.inf, x).min(), least)

    def typical_weight(self, weight: Array | None, scored: Array) -> Array:
        """Mean weight of a trace among those seen; in the first batch, among its other traces.

        Parameters
        ----------
        weight : (B,) or None
            Of the traces, 0 where they are not scored; None: all count alike.
        scored : (B,) bool

        Returns
        -------
        () or (B,)
        """
        if weight is None:
            return self.running.weight
        where = self.xp.where
        count = self.xp.number(scored)
        total, others = weight.sum() - weight, count.sum() - count
        first = where((others > 0) & (total > 0), self.xp.ratio(total, others), 1.0)
        return where(self.running.empty, first, self.running.weight)

    def learn(self, query: Query, forecast: Forecast) -> Array:
        """Learn from a batch after it was predicted.

        Parameters
        ----------
        query, forecast
            As given to `forecast`, and made by it.

        Returns
        -------
        (N, 2 + 2 M)
            What is noted of the prompt of each group after it; 0, if no trace of it ever weighed anything.
        """
        xp, where = self.xp, self.xp.where
        batch, known = query.batch, query.known
        some = batch.w.sum() > 0
        new = xp.number((query.step > self.newest) & some)[0]
        elapsed = self._elapsed(query.step) * xp.number(some)
        learned, weight, mean = ~self.running.empty, self.running.weight, self.running.mean
        base, inside, score, information = forecast.base, forecast.inside, forecast.score, forecast.information
        limits = query.low.min(), query.high.max()
        low, high = (xp.pick(some, limit, end) for limit, end in zip(limits, self.running.range, strict=True))
        lower, upper = self.running.learn(forecast.value, forecast.error, batch, low, high, new=new)
        other = (lower > 0) | (upper < 1) | ~learned
        if not xp.rules_out(other):  # another range: all is placed in it
            self._carry(lower, upper)
            inside = self._inside(batch)
            base = Beliefs(*(where(other, x, y) for x, y in zip(self._recalled(query), base, strict=True)))
            now = self._moved(base, self._since(query))
            again = self._evidence(now, forecast.weights, inside, where(learned, forecast.count, self.running.count))
            score, information = (where(other, x, y) for x, y in zip(again, (score, information), strict=False))
        first = ~learned & some
        if not xp.rules_out(first):
            self._begin(inside, first)
        told = xp.number(learned)
        self.common.learn(told * score.sum(), told * information.sum(), elapsed, new=new)
        predicted = lower + (upper - lower) * (forecast.mean @ forecast.weights)
        typical = self.running.weight
        self.calibration.learn(predicted, inside, told / typical, new=new)
        beliefs, loss, heard = self._chained(query, base, inside)
        self.weights.learn(loss, batch.w.sum() / typical, new=new)
        if self.features is not None and query.features is not None:
            residual = self.xp.ratio(inside.wz, batch.w) - (lower + (upper - lower) * mean)
            own = self.xp.ratio(batch.w.sum(), batch.n.sum(), 1.0)  # of the first batch, which only they learn from
            share = batch.w / where(learned, weight, own)
            self.features.learn(query.features, self._kappa, residual, share, ~known, new=new)
        self.newest[:] = where(new > 0, query.step, self.newest)
        ends = self.running.range + xp.zeros_like(query.gap)[:, None]
        return where(heard[:, None], xp.concatenate([ends, beliefs.logit, beliefs.variance], axis=1), 0.0)

    def _begin(self, inside: GroupSums, first: Any) -> None:
        """Take the common level from a batch, if it is the first."""
        worth = self._different(inside)
        self.common.begin((worth * self.xp.ratio(inside.wz, inside.w)).sum(), worth.sum(), first)

    def _chained(self, query: Query, base: Beliefs, inside: GroupSums) -> tuple[Beliefs, Array, Array]:
        """Beliefs of each group's prompt after the batch, losses of the filters, and whether anything is known of it."""
        chain = query.chain
        if chain is None:
            beliefs, loss = self._updated(base, query.gap, inside)
            return beliefs, loss, query.known | (inside.w > 0)
        xp, where = self.xp, self.xp.where
        size, first_group = len(inside.n), chain.first_group
        none = xp.zeros_like(base.logit[:1])
        held = [
            xp.concatenate([part, none]) for part in base
        ]  # of each prompt, at its first group; the last row takes what must not be stored
        ahead = xp.concatenate([0.0 * query.gap, 0.0 * query.gap[:1]])  # steps of its newest visit beyond that before
        seen = xp.concatenate([query.known, query.known[:1]])
        loss = 0.0
        for turn in range(chain.turns):
            now = (chain.turn == turn) & (inside.n > 0)
            gap = where(seen[first_group], query.gap - ahead[first_group], 0.0)
            after, lost = self._updated(Beliefs(*(part[first_group] for part in held)), gap, inside.only(now))
            loss = loss + lost
            place = where(now, first_group, size)
            for part, new in zip(held, after, strict=True):
                part[place] = new
            ahead[place] = where(seen[first_group], ahead[first_group] + gap.clip(0.0), query.gap)
            seen[place] = seen[first_group] | (inside.w > 0)
        return Beliefs(*(part[first_group] for part in held)), loss, seen[first_group]

    def _updated(self, base: Beliefs, gap: Array, inside: GroupSums) -> tuple[Beliefs, Array]:
        """Beliefs after a group each, and the losses of the filters.

        A late group shows what the prompt was: what the belief at that step gains, the one of today gains in proportion.
        """
        xp, where = self.xp, self.xp.where
        level, k = self.common.expected(), self.running.count
        n = (k * inside.w)[:, None]
        s = xp.minimum((k * inside.wz)[:, None], n)
        beliefs = self._moved(base, abs(gap))
        alpha, beta = beliefs.at(level, xp)
        loss = self._loss(alpha, alpha + beta, inside, k)
        after = believed(alpha + s, beta + (n - s), level, xp)
        late = (gap < 0)[:, None]
        gain = where(late, base.variance / beliefs.variance, 1.0)
        logit = where(late, base.logit + gain * (after.logit - base.logit), after.logit)
        fall = gain * gain * (beliefs.variance - after.variance)
        return Beliefs(logit, where(late, base.variance - fall, after.variance)), loss

    def _loss(self, alpha: Array, worth: Array, inside: GroupSums, k: Any) -> Array:
        """Sums over all traces of ``w^2 (z - V^(g))^2`` in squared typical weights, with V^(g) from the past and the other
        traces of the group; what is left out is as heavy as a trace on average, by w^2; k: as `Running.count`.  # (M,)
        """
        each = self.xp.ratio(inside.www, inside.ww)
        others = inside.w - each
        # of a single trace what others show is rounding, which little worth magnifies
        several = others > ALONE * inside.w
        rest = worth + (k * others * several)[:, None]
        centre = self.xp.ratio(inside.wwz, inside.ww)  # the mean, by w^2
        within = (self.xp.at_least(inside.wwzz - centre * inside.wwz, 0.0) * several)[:, None]
        aside = (k * (inside.w * centre - inside.wz) * several)[:, None]
        spread = within * ((worth + (k * inside.w)[:, None]) / rest) ** 2
        off = (centre[:, None] * worth - alpha + aside) / rest
        return (spread + inside.ww[:, None] * off * off).sum(0) / self.running.weight**2

    def _recalled(self, query: Query) -> Beliefs:
        """Beliefs at the newest visits, in shares of the present range; of prompts without one, the prior."""
        xp, where = self.xp, self.xp.where
        size = len(self._prior)
        known = query.known[:, None]
        low, high = self.running.range
        stale = known & (((query.notes[:, 0] != low) | (query.notes[:, 1] != high))[:, None])
        logit = where(known, query.notes[:, 2 : 2 + size], self.offset(query)[:, None])
        variance = where(known, query.notes[:, 2 + size :], 4.0 / self._prior)
        if self.xp.rules_out(stale.any()):
            return Beliefs(logit, variance)
        level = self.common.expected()
        lower, upper = (share_of(query.notes[:, end], low, high, xp)[:, None] for end in (0, 1))
        placed, slope = carried(logit + carried_back(level, lower, upper, xp), lower, upper, xp)
        return Beliefs(where(stale, placed - level, logit), where(stale, variance * slope * slope, variance))

    def offset(self, query: Query) -> Array:
        """How far features place the prior from the common level.  # (N,)"""
        none = 0.0 * query.gap
        if self.features is None or query.features is None:
            return none
        mean = self.running.mean + none
        moved = mean + self.features.weight() * self.features.deviation(query.features, self._kappa)
        here, there = (x.clip(LEAST_PRIOR, 1.0 - LEAST_PRIOR) for x in (mean, moved))
        log = self.xp.log
        return log(there / (1.0 - there)) - log(here / (1.0 - here))

    def _since(self, query: Query) -> Array:
        """Steps between the newest visit of each group's prompt and the group, 0 of prompts without one.  # (N,)"""
        return self.xp.where(query.known, abs(query.gap), 0.0)

    def _moved(self, beliefs: Beliefs, gap: Array) -> Beliefs:
        return beliefs.later(gap[:, None], self._walk, self._discount, self.xp)

    def _evidence(self, beliefs: Beliefs, weights: Array, inside: GroupSums, count: Any) -> tuple[Array, ...]:
        """Score, information, value and error of `Forecast`; count: as `Running.count`."""
        xp = self.xp
        alpha, beta = beliefs.at(self.common.expected(), xp)
        worth = alpha + beta
        p = alpha / worth
        centre = p @ weights
        square = (p * (p + (1.0 - p) / (worth + 1.0))) @ weights
        error, noise = xp.at_least(square - centre * centre, 0.0), centre - square
        n = count * inside.w
        slope = noise / xp.at_least(error * n + noise, 1e-300)
        score = slope * (count * inside.wz - n * centre)
        return score, slope * noise * n, centre, error

    def _carry(self, lower: Any, upper: Any) -> None:
        """Express what was learned in shares of the old range in shares of the present one; see `Running.learn`."""
        mean, factor = carried(self.common.mean, lower, upper, self.xp)
        moved = (lower > 0) | (upper < 1)
        where = self.xp.where
        self.common.carry(where(moved, mean, self.common.mean), where(moved, factor, 1.0))
        share = upper - lower
        self.weights.carry(share)
        self.calibration.carry(share)
        if self.features is not None:
            self.features.carry(share)

    def _inside(self, batch: GroupSums) -> GroupSums:
        return batch.inside(self.running.range[0], self.running.range[1], self.xp)

    def _elapsed(self, step: Any) -> Any:
        """Steps since the newest batch that was learned from."""
        return self.xp.pick(self.running.empty, 0.0, step - self.newest[0])

    @property
    def _kappa(self) -> Any:
        return self.weights.weights() @ self._prior

    def _pieces(self) -> dict[str, PoolPiece]:
        pieces: dict[str, PoolPiece] = {
            "running": self.running,
            "common": self.common,
            "weights": self.weights,
            "calibration": self.calibration,
        }
        return pieces if self.features is None else {**pieces, "features": self.features}

    def state_dict(self) -> dict[str, Array]:
        """All arrays, as ``pool.piece.name``."""
        arrays = {
            f"pool.{name}.{key}": array
            for name, piece in self._pieces().items()
            for key, array in piece.state_dict().items()
        }
        return {"pool.newest": self.xp.host(self.newest).astype(np.int64), **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the state; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            If arrays are missing or unknown, or hold what learning never leaves.
        """
        columns = columns_of(state)
        if columns:  # before anything of that size is made
            check_shapes(_of_piece(state, "features"), FeaturePrior.shapes(columns))
        fresh = Pool(self.settings, columns, self.xp)
        unknown = [name for name in state if "." in name and name not in fresh._names()]
        if unknown:
            raise CheckpointError(f"the pooled state holds {', '.join(unknown)[:80]}, unknown here: it is damaged")
        newest = whole_numbers(np.asarray(state.get("pool.newest", np.nan)), 0, LAST_STEP)
        if newest is None or len(newest) != 1:
            raise CheckpointError("the state of the pool has no newest step: it is damaged, or saved without pooling")
        fresh.newest = self.xp.array(newest)
        for name, piece in fresh._pieces().items():
            piece.load_state_dict(_of_piece(state, name))
        self.__dict__ = fresh.__dict__

    def sound(self, notes: FloatArray, prompts: int) -> bool:
        """Whether notes of so many prompts can be what learning left, or all 0 where it left none.  # (P, 2 + 2 M)"""
        if notes.shape != (prompts, self.width):
            return False
        notes = notes[notes.any(axis=1)]
        low, high = self.running.range
        size = len(self._prior)
        within = (low <= notes[:, 0]) & (notes[:, 0] <= notes[:, 1]) & (notes[:, 1] <= high)
        return bool(within.all() and (notes[:, 2 + size :] > 0).all() and (abs(notes[:, 2 : 2 + size]) <= 1e6).all())

    def _names(self) -> set[str]:
        """Names of the arrays of the state."""
        return {"pool.newest"} | {
            f"pool.{name}.{key}" for name, piece in self._pieces().items() for key in piece._shapes
        }


def columns_of(state: Mapping[str, Any]) -> int:
    """Number of features of a prompt that a state was learned with; 0: none."""
    return int(np.size(state.get("pool.features.centre", ())))


def _of_piece(state: Mapping[str, Any], piece: str) -> dict[str, Any]:
    """The arrays of a piece, by its own names."""
    prefix = f"pool.{piece}."
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
