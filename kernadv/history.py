"""The history: what is remembered of every prompt, one entry a visit.

A visit is a row of `Groups`: its step and the count, sum and sum of squares of its rewards.  Visits live in chains of small
blocks: appending a batch costs the same however long the history is, and memory is 29 bytes a visit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import delitem, setitem
from typing import Any, NamedTuple

import numpy as np

from kernadv import _history_loops as loops
from kernadv._arrays import LAST_STEP
from kernadv._at_once import Call, at_once, each
from kernadv._errors import ArgumentError, CheckpointError, check_count
from kernadv._states import as_arrays, real_numbers, whole_numbers
from kernadv.clock import KEEP_ALL, Retention
from kernadv.groups import Groups
from kernadv.ids import ID_NAMES, Id, decode_ids, encode_ids, id_key
from kernadv.moments import Histories
from kernadv.typing import AnyArray, FloatArray, IntArray

__all__ = ["Counters", "History"]


def __dir__() -> list[str]:
    return __all__


#: Version of the arrays in `History.state_dict`.
FORMAT = 1
#: Names of those arrays, without the ones that hold the ids.
NAMES = ("format", "length", "step", "n", "s", "ss", "counters")
#: Number of visits at which those that can no longer matter are first evicted; afterwards whenever it has doubled.
FIRST_SWEEP = 4096


NO_BLOCKS = np.empty(0, np.int32)


class Counters(NamedTuple):
    """What a history holds and what it has let go.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> est = KernelValueEstimator()
    >>> est.observe(["a", "b"], [1.0, 0.0], step=1)
    >>> est.metrics()["history_visits"], est.metrics()["dropped_visits"]  # these are of its history's counters
    (2.0, 0.0)
    """

    prompts: int
    visits: int
    evicted: int
    dropped: int


class _Spare:
    """Free rows, or free blocks, by number: those that came back, and all from `used` on."""

    def __init__(self) -> None:
        self.used = self.count = 0
        self.back = np.empty(0, np.int32)  # (>= count,)

    def first(self, k: int) -> IntArray:
        """The next k free ones, without taking them.  # (k,)"""
        came = self.back[max(self.count - k, 0) : self.count][::-1]
        return np.concatenate([came, np.arange(self.used, self.used + k - len(came))])

    def changing(self, taken: int, back: AnyArray) -> list[Call]:
        """The calls that take the first so many, and bring others back."""
        if not (taken or len(back)):
            return []
        low = max(self.count - taken, 0)
        count, used = low + len(back), self.used + taken - (self.count - low)
        if count > len(self.back):
            self.back = np.concatenate([self.back, np.zeros(count, np.int32)])
        entering = [(setitem, self.back, slice(low, count), back.astype(np.int32))] if len(back) else []
        return [*entering, (self.__dict__.update, {"used": used, "count": count})]


class _Chains(NamedTuple):
    """Where the visits of P prompts are, see `kernadv._history_loops`."""

    tail: AnyArray  # (P,) int32
    size: AnyArray  # (P,) int32
    skip: AnyArray  # (P,) int8

    @staticmethod
    def none(prompts: int) -> _Chains:
        """The chains of prompts without visits."""
        return _Chains(np.full(prompts, -1, np.int32), np.zeros(prompts, np.int32), np.zeros(prompts, np.int8))


class _Draft:
    """The chains of some rows after a change that readers do not see yet.

    Parameters
    ----------
    rows : (P,) int64
    before : (P,) int32
        Visits that readers see; -1: the row is spare.
    chains : _Chains of P prompts
        Copies, that may be changed.
    blocks : (blocks,) BLOCK_TYPE
        What readers see of them stays as it is.
    """

    def __init__(self, rows: IntArray, before: AnyArray, chains: _Chains, blocks: AnyArray) -> None:
        self.rows, self.before, self.chains, self.blocks = rows, before, chains, blocks
        self.left: list[AnyArray] = []  # blocks that nothing will use

    def evict(self, own: IntArray, retention: Retention) -> int:
        """Forget what `retention` says can never matter again of the prompts `own`; returns the number of visits."""
        count = np.empty(len(own), np.int64)
        loops.count_expired(*(part[own] for part in self.chains), self.blocks, *retention.clamped(), count)
        return self.drop(own, count)

    def drop(self, own: IntArray, count: IntArray) -> int:
        """Forget the oldest `count` visits of each of the prompts `own`; returns the number of visits."""
        gone = int(count.sum())
        if gone:
            _, size, skip = (part[own].astype(np.int64) for part in self.chains)
            blocks = (skip + size + loops.BLOCK - 1) // loops.BLOCK
            empty = np.where(size > count, (skip + count) // loops.BLOCK, blocks)
            self.left.append(np.empty(int(empty[count > 0].sum()), np.int32))
            loops.drop_oldest(*self.chains, self.blocks, own, count, self.left[-1])
        return gone


class History:
    """Per-(prompt, step) sufficient statistics of the rewards.

    A batch is added whole or not at all, whatever exception comes and when: it is written where no reader looks, and then
    enters by `at_once`.

    Parameters
    ----------
    max_visits : int, optional
        Hard cap on the visits kept of a prompt; the oldest are dropped and counted.
    max_total : int, optional
        Hard cap on the visits kept in all; the oldest of all are dropped and counted, an eighth of the cap at a time.  Of
        one step's visits those go first whose id is smaller as a whole number, see `kernadv.ids.id_key`.
    noted : int
        Numbers that are noted of each prompt beside its visits.

    Attributes
    ----------
    newest : int
        Newest step seen.

    Raises
    ------
    ArgumentError
        If a cap is not a whole number >= 1.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.groups import Groups
    >>> from kernadv.history import History
    >>> history = History(max_visits=2)
    >>> for step in (1, 2, 3):
    ...     history.append(["a"], Groups(np.array([0]), np.array([step]), np.array([4]), np.array([1.0]), np.array([1.0])))
    >>> history.counters.prompts, history.counters.visits, history.counters.dropped
    (1, 2, 1)
    >>> history.visits(history.find(["a"])).step, history.ids, history.newest
    (array([2, 3]), ['a'], 3)
    """

    newest: int

    def __init__(self, max_visits: int | None = None, max_total: int | None = None, noted: int = 0) -> None:
        self.max_visits = None if max_visits is None else min(check_count(max_visits, "max_visits"), loops.MOST)
        self.max_total = None if max_total is None else check_count(max_total, "max_total")
        self._rows: dict[Id, int] = {}
        self._ids: list[Id | None] = []  # of each row; of spare rows it means nothing
        self._chains = _Chains.none(0)
        self._notes = np.empty((0, noted))  # of each row
        self._blocks = np.empty(0, loops.BLOCK_TYPE)
        self._spare_rows, self._spare_blocks = _Spare(), _Spare()
        self._prompts = self._visits = self._evicted = self._dropped = 0
        self._next_sweep = FIRST_SWEEP
        self._buffers: list[FloatArray] = []
        self.newest = 0

    @property
    def _table(self) -> dict[Id, int]:
        """Row of each prompt."""
        if len(self._rows) != self._prompts:  # memory was short while ids entered, and their visits did not
            self._rows = {prompt_id: row for prompt_id, row in self._rows.items() if self._chains.size[row] > 0}
        return self._rows

    @property
    def counters(self) -> Counters:
        """Number of prompts and visits held, of visits evicted without effect and of visits dropped by a cap."""
        return Counters(self._prompts, self._visits, self._evicted, self._dropped)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; the table of ids comes on top."""
        spare = self._spare_rows.back, self._spare_blocks.back
        return sum(part.nbytes for part in (*self._chains, self._notes, self._blocks, *spare))

    @property
    def id_type(self) -> type | None:
        """Type of the ids held, None while empty."""
        return type(next(iter(self._table))) if self._prompts else None

    @property
    def ids(self) -> list[Id]:
        """The prompts held."""
        return list(self._table)

    def find(self, ids: Sequence[Id]) -> IntArray:
        """Rows of known ids, -1 for the others."""
        return np.fromiter(map(self._table.get, ids, repeat(-1)), np.int64, len(ids))

    def notes(self, rows: IntArray) -> FloatArray:
        """What is noted of the prompts in `rows`; meaningless where a row is -1.  # (P, noted)"""
        if not len(self._notes):
            return np.zeros((len(rows), self._notes.shape[1]))
        return np.asarray(self._notes[np.maximum(rows, 0)])

    def append(
        self,
        ids: Sequence[Id],
        groups: Groups,
        retention: Retention = KEEP_ALL,
        notes: FloatArray | None = None,
    ) -> None:
        """Add a batch of visits; arguments as in `appending`."""
        at_once(*self.appending(ids, groups, retention, notes=notes))

    def appending(
        self,
        ids: Sequence[Id],
        groups: Groups,
        retention: Retention = KEEP_ALL,
        newest: int = 0,
        rows: IntArray | None = None,
        notes: FloatArray | None = None,
    ) -> list[Call]:
        """The calls for `at_once` that add a batch of visits; a (prompt, step) that exists is merged.

        Where a cap is passed, visits that can never matter again are evicted before others are dropped; they are also
        evicted when the history has doubled since the last time.

        Parameters
        ----------
        ids : sequence of str or int
            The distinct prompts of the batch, all of the type held already.
        groups : Groups
            ``groups.prompt`` indexes `ids`.
        retention : Retention
            What can still matter after the batch.
        newest : int
            Newest step seen, where it is later than those of `groups`.
        rows : (P,) int64, optional
            What `find` says of the ids, if it was asked; it is used up.
        notes : (P, noted) float64, optional
            What is noted of the prompts from now on.
        """
        rows = self.find(ids) if rows is None else rows
        new = np.flatnonzero(rows < 0)
        names: dict[Id, int] = {}
        if len(new):
            rows[new] = self._spare_rows.first(len(new))
            names = dict(zip([ids[k] for k in new.tolist()], rows[new].tolist(), strict=True))
            self._name(names)
        taken, added, draft = self._drafted(rows, new, groups)
        visits, evicted, dropped = self._visits + added, self._evicted, self._dropped
        if self.max_visits is not None:
            over = np.flatnonzero(draft.chains.size > self.max_visits)
            gone = draft.evict(over, retention) if retention.visits <= self.max_visits else 0
            lost = draft.drop(over, np.maximum(draft.chains.size[over] - self.max_visits, 0).astype(np.int64))
            visits, evicted, dropped = visits - gone - lost, evicted + gone, dropped + lost
        most = visits if self.max_total is None else self.max_total
        if visits > most or visits >= self._next_sweep:
            draft = self._whole(draft)
            gone = draft.evict(draft.rows, retention)
            visits, evicted = visits - gone, evicted + gone
            if visits > most:
                lost = self._drop_total(draft, visits - (most - most // 8))
                visits, dropped = visits - lost, dropped + lost
        newest = max(self.newest, newest, int(groups.step.max(initial=0)))
        sweep = max(2 * visits, FIRST_SWEEP) if visits >= self._next_sweep else self._next_sweep
        state = {"_visits": visits, "_evicted": evicted, "_dropped": dropped, "_next_sweep": sweep, "newest": newest}
        noting: list[Call] = [] if notes is None else [(setitem, self._notes, rows, notes)]
        return [*noting, *self._changing(draft, names, taken, state)]

    def _name(self, names: dict[Id, int]) -> None:
        """Make room for some rows and enter their ids; no reader looks at them while the rows are spare."""
        have, needed = len(self._chains.size), max(names.values()) + 1
        if needed > have:
            more = _Chains.none(max(needed, have + have // 4, 64) - have)
            notes = np.zeros((len(more.size), self._notes.shape[1]))
            self._chains, self._notes = (
                _Chains(*map(np.concatenate, zip(self._chains, more, strict=True))),
                np.concatenate([self._notes, notes]),
            )
        self._ids.extend([None] * (needed - len(self._ids)))
        at_once(each(setitem, repeat(self._ids), names.values(), names))

    def _drafted(self, rows: IntArray, new: IntArray, groups: Groups) -> tuple[int, int, _Draft]:
        """The chains of the rows with a batch of visits; number of spare blocks taken, and of visits added."""
        before = self._chains.size[rows]
        before[new] = -1
        need = len(rows)
        if len(groups.prompt) > need:
            need += len(groups.prompt) // loops.BLOCK
        while True:
            fresh = self._spare_blocks.first(need)
            have, needed = len(self._blocks), self._spare_blocks.used + max(need - self._spare_blocks.count, 0)
            if needed > have:  # in place, where the system allows it
                self._blocks.resize(max(needed, have + have // 8, 64), refcheck=False)
            draft = _Draft(rows, before, _Chains(*(part[rows] for part in self._chains)), self._blocks)
            left = np.empty(need, np.int32)
            taken, added, gone = loops.append(*draft.chains, self._blocks, fresh, left, *groups)
            if taken >= 0:
                if gone:
                    draft.left.append(left[:gone])
                return taken, added, draft
            need *= 2

    def _whole(self, draft: _Draft) -> _Draft:
        """The draft with all other rows."""
        rows = np.arange(len(self._chains.size))
        before, chains = self._chains.size.copy(), _Chains(*(part.copy() for part in self._chains))
        before[draft.rows] = draft.before
        for part, new in zip(chains, draft.chains, strict=True):
            part[draft.rows] = new
        whole = _Draft(rows, before, chains, draft.blocks)
        whole.left = draft.left
        return whole

    def _changing(self, draft: _Draft, names: dict[Id, int], taken: int, state: dict[str, Any]) -> list[Call]:
        """The calls that make a draft what readers see.

        Parameters
        ----------
        draft : _Draft
        names : dict
            The spare rows it takes, the next ones, by prompt.
        taken : int
            Number of spare blocks it takes.
        state : dict
            Attributes that change.
        """
        calls: list[Call] = []
        if names or draft.left:
            empty = draft.chains.size == 0
            back, gone = (draft.rows[empty & some] for some in (draft.before != 0, draft.before > 0))
            if len(back) > len(gone):  # of a new prompt nothing can matter
                stay = set(names.values()).difference(back.tolist())
                entered = {prompt_id: row for prompt_id, row in names.items() if row in stay}
            else:
                entered = names
            calls = [
                (self._table.update, entered),
                each(delitem, repeat(self._table), [self._ids[row] for row in gone.tolist()]),
                *self._spare_rows.changing(len(names), back),
            ]
            state["_prompts"] = self._prompts + len(entered) - len(gone)
        calls += [(setitem, part, draft.rows, new) for part, new in zip(self._chains, draft.chains, strict=True)]
        calls += self._spare_blocks.changing(taken, np.concatenate(draft.left) if draft.left else NO_BLOCKS)
        return [*calls, (self.__dict__.update, state)]

    @contextmanager
    def temporary_histories(self, rows: IntArray) -> Iterator[Histories]:
        """As `histories`, in memory that is used again afterwards; fresh memory costs twice as much as the copy.

        Each call that is under way has a buffer of its own, so several threads may read at a time.
        """
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = np.empty((4, 0))
        total = int(self._chains.size[rows[rows >= 0]].sum())
        if buffer.shape[1] < total:
            buffer = np.empty((4, total + total // 4))
        try:
            yield self.histories(rows, buffer)
        finally:
            self._buffers.append(buffer)

    def histories(self, rows: IntArray, buffer: FloatArray | None = None) -> Histories:
        """Visits of the prompts in `rows` (-1: none), each in ascending order of step; in the (4, ...) buffer, if given."""
        return Histories(*self._gathered(self._chains, rows, buffer))

    def visits(self, rows: IntArray) -> Groups:
        """Visits of the prompts in `rows`; ``prompt`` indexes `rows`."""
        _, length, step, n, *sums = self._gathered(self._chains, rows)
        return Groups(np.repeat(np.arange(len(rows)), length), step, n.astype(np.int64), *sums)

    def _gathered(self, chains: _Chains, rows: IntArray, buffer: FloatArray | None = None) -> tuple[AnyArray, ...]:
        """Start and length of the visits of each row, and the columns of all of them."""
        known = rows >= 0
        length = np.zeros(len(rows), np.int64)
        length[known] = chains.size[rows[known]]
        start = np.cumsum(length) - length
        total = int(length.sum())
        if buffer is None:
            buffer = np.empty((4, total))
        out = (buffer[0, :total].view(np.int64), *buffer[1:, :total])
        if total:
            loops.gather(*chains, self._blocks, rows, start, *out)
        return (start, length, *out)

    def sizes(self, rows: IntArray) -> IntArray:
        """Number of visits of each prompt, 0 where a row is -1.  # (P,) int64"""
        size = self._chains.size if len(self._chains.size) else np.zeros(1, np.int64)
        return np.where(rows >= 0, size[rows], 0).astype(np.int64)

    def newest_step(self, rows: IntArray) -> IntArray:
        """Newest step of each prompt, 0 where it has none."""
        out = np.empty(len(rows), np.int64)
        loops.newest_step(*self._chains, self._blocks, rows, out)
        return out

    def count(self, evicted: int, dropped: int) -> None:
        """Set the counters of a history that came from elsewhere."""
        self._evicted, self._dropped = evicted, dropped

    def evict(self, retention: Retention) -> int:
        """Forget what `retention` says can never matter again; returns the number of visits forgotten."""
        none = np.empty(0, np.int64)
        draft = self._whole(_Draft(none, none, _Chains.none(0), self._blocks))
        gone = draft.evict(draft.rows, retention)
        at_once(*self._changing(draft, {}, 0, {"_visits": self._visits - gone, "_evicted": self._evicted + gone}))
        return gone

    def _drop_total(self, draft: _Draft, excess: int) -> int:
        """Drop that many visits, the oldest of all; returns their number."""
        own = np.flatnonzero(draft.chains.size)
        _, length, step, *_ = self._gathered(draft.chains, own)
        owner = np.repeat(np.arange(len(own)), length)
        last = np.partition(step, excess - 1)[excess - 1]  # some of this step go
        ties = owner[step == last]
        key = [id_key(prompt_id) for row in own[ties].tolist() if (prompt_id := self._ids[row]) is not None]
        older = owner[step < last]
        gone = np.concatenate([older, ties[np.argsort(np.array(key, np.int64))[: excess - len(older)]]])
        return draft.drop(own, np.bincount(gone, minlength=len(own)).astype(np.int64))

    def state_dict(self) -> dict[str, AnyArray]:
        """The whole history as plain arrays: ids, visits in order of prompt and step, counters."""
        rows = np.fromiter(self._table.values(), np.int64, self._prompts)
        _, length, step, n, first, second = self._gathered(self._chains, rows)
        return {
            "format": np.array([FORMAT]),
            **encode_ids(self.ids),
            "length": length,
            "step": step,
            "n": n.astype(np.int64),
            "s": first,
            "ss": second,
            "counters": np.array([self._evicted, self._dropped, self.newest]),
            "sweep": np.array([self._next_sweep]),
            **({"notes": self.notes(rows)} if self._notes.shape[1] else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the history by a saved one; on an error the history stays as it was.

        Raises
        ------
        CheckpointError
            If arrays are missing or unknown, hold what no history can hold, do not fit together or come from a newer
            version.
        """
        noted = self._notes.shape[1]
        fresh = History(self.max_visits, self.max_total, noted)
        arrays = _checked_state(state)
        ids = decode_ids(arrays)
        if len(ids) != len(arrays["length"]):
            raise CheckpointError(f"state has {len(ids)} ids but {len(arrays['length'])} lengths: it is damaged")
        prompt = np.repeat(np.arange(len(ids)), arrays["length"])
        notes = real_numbers(arrays["notes"], (len(ids), noted)) if "notes" in arrays else None
        if noted and "notes" in arrays and notes is None:
            raise CheckpointError(
                f"the state must note {noted} finite numbers of each of {len(ids)} prompts, got an array of "
                f"{arrays['notes'].shape}: it is damaged, or saved under another pooling"
            )
        visits = Groups(prompt, *(arrays[name] for name in ("step", "n", "s", "ss")))
        fresh.append(ids, visits, notes=notes if noted else None)
        fresh._evicted, dropped, fresh.newest = arrays["counters"].tolist()
        fresh._dropped += dropped
        fresh._next_sweep = int(arrays["sweep"][0]) if "sweep" in arrays else fresh._next_sweep
        self.__dict__ = fresh.__dict__


def _checked_state(state: Any) -> dict[str, AnyArray]:
    """Arrays of a saved history, or an error that says what is wrong with them."""
    arrays = as_arrays(state)
    if "format" not in arrays:
        raise CheckpointError(f"not a state of a kernadv history: it has no 'format', only {sorted(arrays)[:8]}")
    version = whole_numbers(np.ravel(arrays["format"]), 1, 2**63 - 1)
    if version is None or len(version) != 1:
        raise CheckpointError(f"the format of the state is {arrays['format']!r:.80}, not a whole number: it is damaged")
    if version[0] > FORMAT:
        raise CheckpointError(f"the state has format {version[0]}, this kernadv reads up to {FORMAT}: upgrade kernadv")
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        raise CheckpointError(f"the state lacks {', '.join(missing)}: it is damaged or foreign")
    unknown = [name for name in arrays if name not in (*NAMES, *ID_NAMES, "sweep", "notes")]
    if unknown:
        raise CheckpointError(f"the state holds {', '.join(unknown)[:80]}, unknown here: it is damaged or foreign")
    visits = len(np.atleast_1d(arrays["step"]))
    length = whole_numbers(arrays["length"], 0, visits)  # none is larger than their sum, which then fits
    sizes = {name: arrays[name].shape for name in ("step", "n", "s", "ss")}
    if length is None or set(sizes.values()) != {(int(length.sum()),)}:
        raise CheckpointError(f"the arrays of the state do not fit together: {sizes}, or lengths of another sum")
    step, n = whole_numbers(arrays["step"], -LAST_STEP, LAST_STEP), whole_numbers(arrays["n"], 1, loops.MOST)
    if step is None or n is None:
        raise CheckpointError(
            "the state holds steps beyond 2^53, counts below 1 or counts of 2^31 or more: it is damaged"
        )
    later = step[1:] > step[:-1]
    first = np.cumsum(length)
    later[first[(first > 0) & (first < visits)] - 1] = True  # from one prompt to the next
    if not later.all():
        raise CheckpointError("the steps of a prompt do not ascend in the state: it is damaged")
    s, ss = real_numbers(arrays["s"], (visits,)), real_numbers(arrays["ss"], (visits,), 0.0)
    if s is None or ss is None:
        raise CheckpointError("the state holds sums that are not finite, or sums of squares below 0: it is damaged")
    counters = whole_numbers(arrays["counters"], 0, LAST_STEP)
    if counters is None or len(counters) != 3 or counters[2] < step.max(initial=0):
        raise CheckpointError("the counters of the state contradict its visits: it is damaged")
    sweep = whole_numbers(arrays.get("sweep", np.array([FIRST_SWEEP])), 0, LAST_STEP)
    if sweep is None or len(sweep) != 1:
        raise CheckpointError("the size at which the history is swept is no whole number: it is damaged")
    return {**arrays, "length": length, "step": step, "n": n, "s": s, "ss": ss, "counters": counters}


def check_id_type(held: type | None, new: type) -> None:
    """Refuse to mix str and int ids in one history."""
    if held is not None and held is not new:
        raise ArgumentError(
            f"prompt ids must all be str or all be int: the history holds {held.__name__} ids, the batch brings "
            f"{new.__name__}; convert them, e.g. with str()"
        )
