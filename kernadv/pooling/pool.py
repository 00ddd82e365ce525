"""The pooled estimator's engine: from beliefs about prompts to their values, and learning from a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernadv._arrays import LAST_STEP
from kernadv._errors import CheckpointError
from kernadv._states import whole_numbers
from kernadv._typing import FloatArray
from kernadv.pooling import rows
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
    told : (N,)
        1 where these are known, else 0.
    notes : (N, 2 + 2 M)
        Those of `Query`, with beliefs in the present range.
    offset : (N,)
        As in `Pool.offset`.
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
    told: Array
    notes: Array
    offset: Array
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
        weights, notes, offset = self.weights.weights(), self._recalled(query), self.offset(query)
        count, inside = running.count, self._inside(batch)
        score, information, value, error = self._evidence(query, notes, offset, weights, inside, count)
        elsewhere = xp.sum_of_others(batch.prompt, score, information)
        level = self.common.shown(elsewhere[0], elsewhere[1], self._elapsed(query.step))
        low, span, told = (x + 0.0 * level for x in (running.low, running.span, xp.number(~running.empty)))
        if not xp.rules_out(running.empty):
            level, low, span, told = self._of_others(query, (level, low, span, told))
        mean, worth = xp.zeros(2, len(level), len(weights))
        asked = notes, query.known, query.gap, offset, level, told, self._shared(count), self._filters(weights)
        xp.rows(rows.forecast, worth.shape, asked, (mean, worth))
        return Forecast(weights, mean, worth, level, low, span, told, notes, offset, count, inside, score, information, value, error)

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
        xp, running, batch = self.xp, self.running, len(group)
        _, mass, total = others
        k = xp.where(running.empty, 1.0 / weight, forecast.count) + 0.0 * mass
        place, row = places or (xp.arange(batch), xp.arange(batch))
        sums, out = xp.zeros(8, len(row)), xp.zeros(3, batch)
        said = group[row], (k * mass)[row], forecast.mean, forecast.worth, self._filters(forecast.weights)
        xp.rows(rows.joined, (len(row), len(forecast.weights)), said, (sums,))
        around = forecast.low, forecast.span, forecast.told, sums, self._shared(forecast.count)
        xp.rows(rows.posterior, (batch, len(row)), (place, group, mass, total, k, k * weight, *around), (out,))
        value, variance, n_eff = out
        return Estimate(value, variance, n_eff, n_eff > 0)

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
        inside, notes, offset = forecast.inside, forecast.notes, forecast.offset
        score, information = forecast.score, forecast.information
        limits = query.low.min(), query.high.max()
        low, high = (xp.pick(some, limit, end) for limit, end in zip(limits, self.running.range, strict=True))
        lower, upper = self.running.learn(forecast.value, forecast.error, batch, low, high, new=new)
        other = (lower > 0) | (upper < 1) | ~learned
        if not xp.rules_out(other):  # another range: all is placed in it
            self._carry(lower, upper)
            inside, notes = self._inside(batch), self._recalled(query)
            offset = where(other, self.offset(query), offset)
            count = where(learned, forecast.count, self.running.count)
            again = self._evidence(query, notes, offset, forecast.weights, inside, count)
            score, information = (where(other, x, y) for x, y in zip(again, (score, information), strict=False))
        first = ~learned & some
        if not xp.rules_out(first):
            self._begin(inside, first)
        told = xp.number(learned)
        self.common.learn(told * score.sum(), told * information.sum(), elapsed, new=new)
        predicted = lower + (upper - lower) * (forecast.mean @ forecast.weights)
        typical = self.running.weight
        self.calibration.learn(predicted, inside, told / typical, new=new)
        notes, loss = self._updated(query, notes, offset, inside)
        self.weights.learn(loss, batch.w.sum() / typical, new=new)
        if self.features is not None and query.features is not None:
            residual = self.xp.ratio(inside.wz, batch.w) - (lower + (upper - lower) * mean)
            own = self.xp.ratio(batch.w.sum(), batch.n.sum(), 1.0)  # of the first batch, which only they learn from
            share = batch.w / where(learned, weight, own)
            self.features.learn(query.features, self._kappa, residual, share, ~known, new=new)
        self.newest[:] = where(new > 0, query.step, self.newest)
        return notes

    def _begin(self, inside: GroupSums, first: Any) -> None:
        """Take the common level from a batch, if it is the first."""
        worth = self._different(inside)
        self.common.begin((worth * self.xp.ratio(inside.wz, inside.w)).sum(), worth.sum(), first)

    def _updated(self, query: Query, before: Array, offset: Array, inside: GroupSums) -> tuple[Array, Array]:
        """Notes of each group's prompt after the batch, and losses of the filters in squared typical weights.

        before: as `Forecast.notes`, in the range after the batch.
        """
        xp, size = self.xp, len(query.gap)
        first_group, turn, turns = query.chain or Chain(xp.arange(size), 0 * xp.arange(size), 1)
        shared, filters = self._shared(self.running.count), self._filters(self.weights.weights())
        asked = first_group, turn, before, query.known, query.gap, offset, *inside[1:8], shared, filters
        learned = notes, _, seen = xp.zeros(size, self.width), xp.zeros(size), xp.zeros(size)
        loss = 0.0
        for now in range(turns):
            loss = loss + xp.rows(rows.learned, (size, len(self._prior), now), asked, learned, sums=len(self._prior))
        loss = loss / self.running.weight**2
        if query.chain is not None:
            notes, seen = notes[first_group], seen[first_group]
        if not xp.certain(seen > 0):
            notes = notes * seen[:, None]
        return notes, loss

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

    def _recalled(self, query: Query) -> Array:
        """As `Forecast.notes`."""
        low, high = self.running.range
        stale = query.known & ((query.notes[:, 0] != low) | (query.notes[:, 1] != high))
        if self.xp.rules_out(stale.any()):
            return query.notes
        notes, asked = self.xp.zeros(*query.notes.shape), (query.notes, query.known, self._shared(self.running.count))
        self.xp.rows(rows.recalled, (len(notes), len(self._prior)), asked, (notes,))
        return notes

    def _evidence(
        self, query: Query, notes: Array, offset: Array, weights: Array, inside: GroupSums, count: Any
    ) -> Array:
        """Score, information, value and error of `Forecast`; count: as `Running.count`."""
        out, shared, filters = self.xp.zeros(4, len(offset)), self._shared(count), self._filters(weights)
        asked = notes, query.known, query.gap, offset, inside.w, inside.wz, shared, filters
        self.xp.rows(rows.evidence, (len(offset), len(weights)), asked, (out,))
        return out

    def _shared(self, count: Any) -> Array:
        """What `rows` calls shared."""
        xp, (low, high) = self.xp, self.running.range
        return xp.stack([low, high, self.common.expected(), count + 0.0 * low, xp.number(~self.running.empty)])

    def _filters(self, weights: Array) -> Array:
        """What `rows` calls filters."""
        return self.xp.stack([weights, self._prior, self._walk, self._discount])

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
