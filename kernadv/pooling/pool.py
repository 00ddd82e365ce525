"""The pooled estimator's engine: from beliefs about prompts to their values, and learning from a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernadv._arrays import LAST_STEP
from kernadv._errors import CheckpointError
from kernadv._states import whole_numbers
from kernadv.pooling import rows
from kernadv.pooling._base import GroupSums, PoolPiece, check_shapes
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace
from kernadv.pooling._running import LEAST_SPAN, Running
from kernadv.pooling.calibration import Calibration
from kernadv.pooling.common import CommonLevel
from kernadv.pooling.features import FeaturePrior
from kernadv.pooling.settings import Pooling
from kernadv.pooling.weights import PrequentialWeights
from kernadv.smoothers import Estimate
from kernadv.typing import FloatArray, IntArray

#: Prior odds of a filter in which prompts do not move, against each in which they do.
STILL = 2.0
#: Features keep the prior mean at least this share of the range away from its ends.
LEAST_PRIOR = 0.01


class Query(NamedTuple):
    """N groups, and what the history notes of their prompts.

    Attributes
    ----------
    batch : GroupSums of N groups
    known : (N,)
        1 if the history notes anything of the prompt, else 0.
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

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.groups import Groups
    >>> from kernadv.pooling import GroupSums, Pool, Pooling, Query
    >>> pool, z = Pool(Pooling()), np.array([1.0, 0.0])
    >>> batch = GroupSums.of(Groups(np.arange(2), np.ones(2, int), np.ones(2, int), z, z))  # two prompts, one trace each
    >>> query = Query(batch, np.zeros(2), np.zeros((2, pool.width)), np.zeros(2), z, z, step=1)
    >>> pool.forecast(query).mean.shape  # of both, by each of the filters
    (2, 36)
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

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.pooling import Chain
    >>> chain = Chain(first_group=np.array([0, 1, 0]), turn=np.array([0, 0, 1]), turns=2)
    >>> np.flatnonzero(chain.turn == 1)  # learned from after the first group of its prompt
    array([2])
    """

    first_group: Array
    turn: Array
    turns: int


class Forecast(NamedTuple):
    """What is known of N groups from the past and from the rewards of the batch's other prompts.

    Attributes
    ----------
    filters : (4, M)
        Weight, prior, walk and discount of each.
    mean : (N, M)
        Of the value, as a share of the range of the rewards.
    worth : (N, M)
        Rewards of two values that it is worth; 0 where nothing is known.
    middle : (N,)
        The mean over the filters, by their weights.
    level : (N,)
        The common level that the other prompts show.
    low, span, told : () or (1,); in the first batch (N,)
        Low end and length of the range of the rewards, and 1 where these are known, else 0; in the first batch, of the
        rewards of the other prompts.
    notes : (N, 2 + 2 M)
        Those of `Query`, with beliefs in the present range.
    offset : (N,)
        As in `Pool.offset`.
    shared : (7,)
        The range of the rewards, low and high; `Running.summary`; the expected common level.
    inside : GroupSums of N groups
        The batch in shares of the range.
    evidence : (2,)
        What all groups show of the common level: score and information, as in `CommonLevel`.
    value, error : (N,)
        At the expected common level, mean of the value, as a share of the range, and its variance.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.groups import Groups
    >>> from kernadv.pooling import GroupSums, Pool, Pooling, Query
    >>> pool, z = Pool(Pooling()), np.array([1.0, 0.0])
    >>> batch = GroupSums.of(Groups(np.arange(2), np.ones(2, int), np.ones(2, int), z, z))
    >>> forecast = pool.forecast(Query(batch, np.zeros(2), np.zeros((2, pool.width)), np.zeros(2), z, z, step=1))
    >>> forecast.mean.shape, bool(np.isclose(forecast.filters[0].sum(), 1.0))  # groups and filters; their weights
    ((2, 36), True)
    """

    filters: Array
    mean: Array
    worth: Array
    middle: Array
    level: Array
    low: Array
    span: Array
    told: Array
    notes: Array
    offset: Array
    shared: Array
    inside: GroupSums
    evidence: Array
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

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.pooling import Pool, Pooling
    >>> pool = Pool(Pooling())
    >>> pool.empty, pool.width, bool(pool.prior > 0)
    (True, 74, True)
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
        self._members = xp.array(settings.members)  # (3, M)
        self._nobody = xp.arange(1)  # for indices that are not asked for

    @property
    def width(self) -> int:
        """Numbers noted of a prompt."""
        return 2 + 2 * len(self._members[0])

    @property
    def empty(self) -> bool:
        """Whether nothing was seen; one on a device has seen something."""
        return self.xp.on_host and bool(self.running.empty)

    @property
    def mean(self) -> Any:
        """Recent mean reward."""
        return self.reward(self.running.mean)

    @property
    def prior(self) -> Any:
        """Rollouts that the prior is worth at the middle of the range."""
        count, _, weight, _ = self.running.summary()
        return self.weights.weights() @ self._members[0] / (count * weight)

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
        xp, batch, (shared, filters) = self.xp, query.batch, self._prepared()
        notes, offset, inside = self._recalled(query, shared), self.offset(query), self._inside(batch)
        (score, information, value, error), evidence = self._evidence(query, notes, offset, filters, inside, shared)
        first = self.empty
        if first:
            level, low, span, told = self._of_others(query)
        else:
            elsewhere = xp.sum_of_others(batch.prompt, score, information)
            level = self.common.shown(elsewhere[0], elsewhere[1], query.step - self.newest)
            low, span, told = self.running.low, self.running.span, shared[3:4]
        mean, worth = xp.empty(2, len(level), len(filters[0]))
        middle = xp.empty(len(level))
        asked = notes, query.known, query.gap, offset, level, told, filters
        xp.rows(rows.forecast, (*worth.shape, int(first)), asked, (mean, worth, middle))
        return Forecast(
            filters, mean, worth, middle, level, low, span, told, notes, offset, shared, inside,
            evidence, value, error,
        )  # fmt: skip

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
        xp, batch = self.xp, len(group)
        _, mass, total = others
        first = int(self.empty)
        k, one = (1.0 / np.atleast_1d(weight), int(np.ndim(weight) > 0)) if first else (forecast.shared[2:3], 0)
        place, row = places or (self._nobody, None)
        of, apart = (group, mass) if row is None else (group[row], mass[row])
        sums, out = xp.empty(8, len(of)), xp.empty(3, batch)
        said = of, apart, k, forecast.mean, forecast.worth, forecast.filters
        xp.rows(rows.joined, (len(of), forecast.mean.shape[1], one), said, (sums,))
        asked = place, group, mass, total, k, weight, forecast.low, forecast.span, forecast.told, sums, forecast.shared
        xp.rows(rows.posterior, (batch, len(of), one, first, int(row is not None)), asked, (out,))
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
        past = self.xp.ratio(worth, worth + heard) @ forecast.filters[0]
        shift = self.calibration.shift(forecast.middle)[group]
        running = self.running
        return (self.xp.ratio(value - running.low, running.span) + past * shift).clip(0.0, 1.0)

    def tilted(self, value: Array, k: float) -> Array:
        """``v / (v + (1 - v) k)`` for values v as shares of the range, if all rewards so far lie at its ends."""
        running, where = self.running, self.xp.where
        two_ends = (running.span > 0) & (running.between[0] <= 0)
        low = running.low
        share = self.xp.ratio(value - low, running.span).clip(0.0, 1.0)
        moved = low + running.span * share / (share + (1.0 - share) * k).clip(1e-300)
        return where(two_ends, moved, value)

    def linear(self, forecast: Forecast, n: Array) -> tuple[Array, Array]:
        """The values of groups of n traces of weight 1 as a level, NaN where undefined, and the gain of the others' sum.

        # (N,) each
        """
        where, w = self.xp.where, forecast.filters[0]
        k = 1.0 if self.empty else forecast.shared[2]
        pull = self.xp.ratio(1.0, forecast.worth + (k * (n - 1.0))[:, None])
        mean, gain = (forecast.worth * forecast.mean * pull) @ w, (k * pull) @ w
        level = forecast.span * mean + forecast.low * (1.0 - gain * (n - 1.0))
        return where(gain > 0, level, np.nan), gain

    def _of_others(self, query: Query) -> tuple[FloatArray, ...]:
        """Level, range and whether they are known, by group, in the first batch from the other prompts."""
        batch, worth = query.batch, self._different(query.batch)
        right, count = NUMPY.sum_of_others(batch.prompt, worth * NUMPY.ratio(batch.wz, batch.w), worth)
        told = count > 0
        low, minus_high = (_least_elsewhere(batch.prompt, part) for part in (query.low, -query.high))
        span = -minus_high - low
        low, span = np.where(told, low, 0.0), np.where(told & (span > LEAST_SPAN), span, 0.0)
        inside = np.where(span > 0, (right - low * count) / np.where(span > 0, span, 1.0), 0.0).clip(0.0)
        return self.common.starting(np.minimum(inside, count), count)[0], low, span, told.astype(np.float64)

    def _different(self, batch: GroupSums) -> FloatArray:
        """The number of rollouts of different prompts that tell as much as those of each group.  # (N,)"""
        kappa, n = self._kappa, batch.n * (batch.w > 0)
        return np.asarray(n * (kappa + 1.0) / (n + kappa))

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
        if weight is None or not self.empty:
            return self.running.weight
        count = scored.astype(np.float64)
        total, others = weight.sum() - weight, count.sum() - count
        return np.where((others > 0) & (total > 0), NUMPY.ratio(total, others), 1.0)

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
        xp, batch, first = self.xp, query.batch, self.empty
        notes, offset, shared, summary = forecast.notes, forecast.offset, forecast.shared, forecast.shared
        evidence = forecast.evidence
        mass, clock = batch.w.sum(), xp.empty(3)
        xp.rows(rows.ticked, (1, query.step), (self.newest, mass), (clock,))
        new, elapsed = clock[1:2], clock[2:]
        low, high = query.low.min(), query.high.max()
        lower, upper, inside = self.running.learn(forecast.value, forecast.error, batch, mass, low, high, new=new)
        if not xp.on_host or first or lower > 0 or upper < 1:  # another range: all is placed in it
            self._carry(lower, upper)
            shared, _ = self._prepared()
            if not first:
                shared[2:3] = summary[2:3]
            notes = self._recalled(query, shared)
            if self.features is not None:
                offset = xp.where((lower > 0) | (upper < 1), self.offset(query), offset)
            _, evidence = self._evidence(query, notes, offset, forecast.filters, inside, shared)
        if first and mass > 0:
            self._begin(inside)
        if first:
            evidence, elapsed = 0.0 * evidence, 0.0
        self.common.learn(evidence[:1], evidence[1:], elapsed, new=new)
        shared, _ = self._prepared()
        typical = shared[4]
        each = 0.0 if first else 1.0 / typical
        self.calibration.learn(lower + (upper - lower) * forecast.middle, inside, each, new=new)
        notes, loss = self._updated(query, notes, offset, inside, forecast.filters, shared)
        self.weights.learn(loss, mass / typical, new=new)
        if self.features is not None and query.features is not None:
            residual = xp.ratio(inside.wz, batch.w) - (lower + (upper - lower) * summary[5])
            own = xp.ratio(mass, batch.n.sum(), 1.0)  # of the first batch, which only they learn from
            share = batch.w / (own if first else summary[4])
            self.features.learn(query.features, self._kappa, residual, share, query.known <= 0, new=new[0])
        self.newest = clock[:1]
        return notes

    def _begin(self, inside: GroupSums) -> None:
        """Take the common level from the first batch."""
        worth = self._different(inside)
        self.common.begin((worth * NUMPY.ratio(inside.wz, inside.w)).sum(), worth.sum())

    def _updated(
        self, query: Query, before: Array, offset: Array, inside: GroupSums, filters: Array, shared: Array
    ) -> tuple[Array, Array]:
        """Notes of each group's prompt after the batch, and losses of the filters in squared typical weights.

        before: as `Forecast.notes`, in the range after the batch.
        """
        xp, size = self.xp, len(query.gap)
        first_group, turn, turns = query.chain or Chain(self._nobody, self._nobody, 1)
        sizes = size, len(self._members[0]), int(query.chain is not None)
        asked = query.known, query.gap, offset, *inside[1:8], shared, filters
        learned = notes, _, _ = xp.empty(size, self.width), xp.empty(size), xp.empty(size)
        losses = []
        for now in range(turns):
            held = xp.copy(notes) if now else before
            reads = first_group, turn, held, *asked
            losses.append(xp.rows(rows.learned, (*sizes, now, int(now > 0)), reads, learned, sums=sizes[1]))
        return notes if query.chain is None else notes[first_group], sum(losses[1:], losses[0])

    def offset(self, query: Query) -> Array:
        """How far features place the prior from the common level.  # (N,)"""
        none = self.xp.zeros(len(query.gap))
        if self.features is None or query.features is None:
            return none
        mean = self.running.mean + none
        moved = mean + self.features.weight() * self.features.deviation(query.features, self._kappa)
        here, there = (x.clip(LEAST_PRIOR, 1.0 - LEAST_PRIOR) for x in (mean, moved))
        log = self.xp.log
        return log(there / (1.0 - there)) - log(here / (1.0 - here))

    def _recalled(self, query: Query, shared: Array) -> Array:
        """As `Forecast.notes`."""
        low, high = self.running.range
        if self.xp.on_host:
            stale = (query.known > 0) & ((query.notes[:, 0] != low) | (query.notes[:, 1] != high))
            if not stale.any():
                return query.notes
        notes = self.xp.empty(*query.notes.shape)
        self.xp.rows(rows.recalled, (len(notes), len(self._members[0])), (query.notes, query.known, shared), (notes,))
        return notes

    def _evidence(
        self, query: Query, notes: Array, offset: Array, filters: Array, inside: GroupSums, shared: Array
    ) -> tuple[Array, Array]:
        """Score, information, value and error of `Forecast`, and the sums of the first two."""
        out = self.xp.empty(4, len(offset))
        asked = notes, query.known, query.gap, offset, inside.w, inside.wz, shared, filters
        return out, self.xp.rows(rows.evidence, (len(offset), len(self._members[0])), asked, (out,), sums=2)

    def _inside(self, batch: GroupSums) -> GroupSums:
        return batch.inside(self.running.range[0], self.running.range[1], self.xp)

    def _prepared(self) -> tuple[Array, Array]:
        """`Forecast.shared` and `Forecast.filters`."""
        shared, filters = self.xp.empty(7), self.xp.empty(4, len(self._members[0]))
        state = self.running._state, self.common._state, self.common._odds, self.weights._state, self.weights._odds
        sizes = len(self._members[0]), len(self.common.mean)
        self.xp.rows(rows.prepared, sizes, (*state, self._members), (shared, filters))
        return shared, filters

    def _carry(self, lower: Any, upper: Any) -> None:
        """Express what was learned in shares of the old range in shares of the present one; see `Running.learn`."""
        self.common.carry(lower, upper)
        self.weights.carry(lower, upper)
        self.calibration.carry(lower, upper)
        if self.features is not None:
            self.features.carry(upper - lower)

    @property
    def _kappa(self) -> Any:
        return self.weights.weights() @ self._members[0]

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
        size = len(self._members[0])
        within = (low <= notes[:, 0]) & (notes[:, 0] <= notes[:, 1]) & (notes[:, 1] <= high)
        return bool(within.all() and (notes[:, 2 + size :] > 0).all() and (abs(notes[:, 2 : 2 + size]) <= 1e6).all())

    def _names(self) -> set[str]:
        """Names of the arrays of the state."""
        return {"pool.newest"} | {
            f"pool.{name}.{key}" for name, piece in self._pieces().items() for key in piece._shapes
        }


def _least_elsewhere(prompt: IntArray, x: FloatArray) -> FloatArray:
    """The least x of the groups of the other prompts.  # (N,)"""
    least = x.min()
    here = prompt[x == least]
    own = prompt == here[0] if (here == here[0]).all() else np.zeros(len(x), bool)
    return np.where(own, x[~own].min(initial=np.inf), least)


def columns_of(state: Mapping[str, Any]) -> int:
    """Number of features of a prompt that a state was learned with; 0: none.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> from kernadv.pooling import columns_of
    >>> est = KernelValueEstimator(features={"a": [0.1, 0.2], "b": [0.3, 0.4]})
    >>> est.observe(["a", "b"], [1.0, 0.0], step=1)
    >>> columns_of(est.state_dict())
    2
    """
    return int(np.size(state.get("pool.features.centre", ())))


def _of_piece(state: Mapping[str, Any], piece: str) -> dict[str, Any]:
    """The arrays of a piece, by its own names."""
    prefix = f"pool.{piece}."
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
