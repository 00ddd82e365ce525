"""The history: what is remembered of every prompt, one entry a visit.

The traces of a visit share one weight in every estimate, so a visit is its step and the count, sum and sum of squares of
its rewards.  Visits live in chains of small blocks: appending a batch costs the same however long the history is, and
memory is 29 bytes a visit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from kernadv import _history_loops as loops
from kernadv._arrays import LAST_STEP
from kernadv._errors import ArgumentError, CheckpointError, check_count
from kernadv._typing import AnyArray, FloatArray, IntArray
from kernadv.clock import KEEP_ALL, Retention
from kernadv.groups import Groups
from kernadv.ids import Id, decode_ids, encode_ids, id_key
from kernadv.moments import Sample

#: Version of the arrays in `History.state_dict`.
FORMAT = 1


class Counters(NamedTuple):
    """What a history holds and what it has let go."""

    prompts: int
    visits: int
    evicted: int
    dropped: int


class _Rows(dict[Id, int]):
    """id -> row; an unknown id gets the first free row."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[Id | None] = []
        self.free: list[int] = []

    def __missing__(self, prompt_id: Id) -> int:
        if self.free:
            row = self.free.pop()
            self.ids[row] = prompt_id
        else:
            row = len(self.ids)
            self.ids.append(prompt_id)
        self[prompt_id] = row
        return row


class History:
    """Per-(prompt, step) sufficient statistics of the rewards.

    Parameters
    ----------
    max_visits : int, optional
        Hard cap on the visits kept of a prompt; the oldest are dropped and counted.
    max_total : int, optional
        Hard cap on the visits kept in all; the oldest of all are dropped and counted, an eighth of the cap at a time.  Of
        one step's visits those go first whose id is smaller as a whole number, see `kernadv.ids.id_key`.

    Raises
    ------
    ArgumentError
        If a cap is not a whole number >= 1.
    """

    def __init__(self, max_visits: int | None = None, max_total: int | None = None) -> None:
        self.max_visits = None if max_visits is None else check_count(max_visits, "max_visits")
        self.max_total = None if max_total is None else check_count(max_total, "max_total")
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._rows = _Rows()
        self._tail = np.empty(0, np.int32)
        self._size = np.empty(0, np.int32)
        self._skip = np.empty(0, np.int8)
        self._blocks = np.empty(0, loops.BLOCK_TYPE)
        self._free = -1  # first of the chain of free blocks
        self._n_free = 0
        self._visits = 0
        self._evicted = 0
        self._dropped = 0
        self._buffers: list[FloatArray] = []
        self.newest = 0

    @property
    def counters(self) -> Counters:
        """Number of prompts and visits held, of visits evicted without effect and of visits dropped by a cap."""
        return Counters(len(self._rows), self._visits, self._evicted, self._dropped)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; the table of ids comes on top."""
        return self._tail.nbytes + self._size.nbytes + self._skip.nbytes + self._blocks.nbytes

    @property
    def id_type(self) -> type | None:
        """Type of the ids held, None while empty."""
        return type(next(iter(self._rows))) if self._rows else None

    @property
    def ids(self) -> list[Id]:
        """The prompts held."""
        return list(self._rows)

    def find(self, ids: Sequence[Id]) -> IntArray:
        """Rows of known ids, -1 for the others."""
        return np.fromiter(map(self._rows.get, ids, repeat(-1)), np.int64, len(ids))

    def append(self, ids: Sequence[Id], groups: Groups, keep: Retention = KEEP_ALL) -> None:
        """Add a batch of visits; a (prompt, step) that exists is merged.

        Where a cap is passed, visits that can never matter again are evicted before others are dropped.

        Parameters
        ----------
        ids : sequence of str or int
            The distinct prompts of the batch, all of the type held already.
        groups : Groups
            ``groups.prompt`` indexes `ids`.
        keep : Retention
            What can still matter after the batch.
        """
        self._grow_blocks(len(groups.prompt))
        rows = np.fromiter(map(self._rows.__getitem__, ids), np.int64, len(ids))
        self._grow_rows(len(self._rows.ids))
        own = rows[groups.prompt]
        self._free, used, added = loops.append(
            self._tail, self._size, self._skip, self._blocks, self._free, own, *groups[1:]
        )
        self._n_free -= used
        self._visits += added
        if len(groups.step):
            self.newest = max(self.newest, int(groups.step.max()))
        if self.max_visits is not None:
            touched = np.unique(own)
            touched = touched[self._size[touched] > self.max_visits]
            if keep.visits <= self.max_visits:
                self._evict(touched, keep)
            self._dropped += self._drop(touched, np.maximum(self._size[touched] - self.max_visits, 0).astype(np.int64))
        if self.max_total is not None and self._visits > self.max_total:
            self.evict(keep)
            if self._visits > self.max_total:
                self._dropped += self._drop_total(self.max_total - self.max_total // 8)

    @contextmanager
    def borrowed(self, rows: IntArray) -> Iterator[Sample]:
        """Sample in memory that is used again afterwards; fresh memory costs twice as much as the copy.

        Each call that is under way has a buffer of its own, so several threads may read at a time.
        """
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = np.empty((4, 0))
        total = int(self._size[rows[rows >= 0]].sum())
        if buffer.shape[1] < total:
            buffer = np.empty((4, total + total // 4))
        try:
            yield self.sample(rows, buffer)
        finally:
            self._buffers.append(buffer)

    def sample(self, rows: IntArray, buffer: FloatArray | None = None) -> Sample:
        """Visits of the prompts in `rows` (-1: none), each in ascending order of step; in the (4, ...) buffer, if given."""
        known = rows >= 0
        length = np.zeros(len(rows), np.int64)
        length[known] = self._size[rows[known]]
        start = np.cumsum(length) - length
        total = int(length.sum())
        if buffer is None:
            buffer = np.empty((4, total))
        out = (buffer[0, :total].view(np.int64), *buffer[1:, :total])
        if total:
            loops.gather(self._tail, self._size, self._skip, self._blocks, rows, start, *out)
        return Sample(start, length, *out)

    def newest_step(self, rows: IntArray) -> IntArray:
        """Newest step of each prompt, 0 where it has none."""
        known = rows >= 0
        out = np.zeros(len(rows), np.int64)
        own = rows[known]
        size = self._size[own].astype(np.int64)
        slot = (self._skip[own] + size - 1) % loops.BLOCK
        live = size > 0
        out[np.flatnonzero(known)[live]] = self._blocks["step"][self._tail[own][live], slot[live]]
        return out

    def count(self, evicted: int, dropped: int) -> None:
        """Set the counters of a history that came from elsewhere."""
        self._evicted, self._dropped = evicted, dropped

    def evict(self, keep: Retention) -> int:
        """Forget what `keep` says can never matter again; returns the number of visits forgotten."""
        return self._evict(np.arange(len(self._tail)), keep)

    def _evict(self, rows: IntArray, keep: Retention) -> int:
        count = np.empty(len(rows), np.int64)
        own = self._tail[rows], self._size[rows], self._skip[rows]
        loops.count_expired(*own, self._blocks, *keep.clamped(), count)
        gone = self._drop(rows, count)
        self._evicted += gone
        return gone

    def _drop(self, rows: IntArray, count: IntArray) -> int:
        """Forget the oldest `count` visits of each of the `rows` and release prompts left without any."""
        gone = int(count.sum())
        if not gone:
            return 0
        self._free, freed = loops.drop_oldest(self._tail, self._size, self._skip, self._blocks, self._free, rows, count)
        self._n_free += freed
        self._visits -= gone
        for row in rows[(self._size[rows] == 0) & (count > 0)].tolist():
            prompt_id = self._rows.ids[row]
            assert prompt_id is not None
            del self._rows[prompt_id]
            self._rows.ids[row] = None
            self._rows.free.append(row)
        return gone

    def _drop_total(self, target: int) -> int:
        """Drop the oldest visits of all, so that `target` are left."""
        rows = np.flatnonzero(self._size)
        sample = self.sample(rows)
        owner = np.repeat(np.arange(len(rows)), sample.length)
        excess = self._visits - target
        last = np.partition(sample.step, excess - 1)[excess - 1]  # some of this step go
        ties = owner[sample.step == last]
        key = [id_key(prompt_id) for row in rows[ties].tolist() if (prompt_id := self._rows.ids[row]) is not None]
        older = owner[sample.step < last]
        gone = np.concatenate([older, ties[np.argsort(np.array(key, np.int64))[: excess - len(older)]]])
        return self._drop(rows, np.bincount(gone, minlength=len(rows)).astype(np.int64))

    def _grow_rows(self, needed: int) -> None:
        have = len(self._tail)
        if needed > have:
            more = max(needed, have + have // 4, 64) - have
            self._tail = np.concatenate([self._tail, np.full(more, -1, np.int32)])
            self._size = np.concatenate([self._size, np.zeros(more, np.int32)])
            self._skip = np.concatenate([self._skip, np.zeros(more, np.int8)])

    def _grow_blocks(self, needed: int) -> None:
        """Have at least `needed` free blocks; the pool grows by an eighth, in place where the system allows it."""
        have = len(self._blocks)
        if needed <= self._n_free:
            return
        more = max(needed - self._n_free, have // 8, 64)
        self._blocks.resize(have + more, refcheck=False)
        chain = np.arange(have + 1, have + more + 1)
        chain[-1] = self._free
        self._blocks["older"][have:] = chain
        self._free = have
        self._n_free += more

    def state_dict(self) -> dict[str, AnyArray]:
        """The whole history as plain arrays: ids, visits in order of prompt and step, counters."""
        rows = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        sample = self.sample(rows)
        return {
            "format": np.array([FORMAT]),
            **encode_ids(list(self._rows)),
            "length": sample.length,
            "step": sample.step,
            "n": sample.n.astype(np.int64),
            "s": sample.s,
            "ss": sample.ss,
            "counters": np.array([self._evicted, self._dropped, self.newest]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the history by a saved one; on an error the history stays as it was.

        Raises
        ------
        CheckpointError
            If arrays are missing, do not fit together or come from a newer version.
        """
        fresh = History(self.max_visits, self.max_total)
        arrays = _checked_state(state)
        ids = decode_ids(arrays)
        if len(ids) != len(arrays["length"]):
            raise CheckpointError(f"state has {len(ids)} ids but {len(arrays['length'])} lengths: it is damaged")
        prompt = np.repeat(np.arange(len(ids)), arrays["length"])
        fresh.append(ids, Groups(prompt, arrays["step"], arrays["n"], arrays["s"], arrays["ss"]))
        fresh._evicted, dropped, fresh.newest = arrays["counters"].tolist()
        fresh._dropped += dropped
        self.__dict__ = fresh.__dict__


def _checked_state(state: dict[str, Any]) -> dict[str, AnyArray]:
    """Arrays of a saved history, or an error that says what is wrong with them."""
    version = state.get("format")
    if version is None:
        raise CheckpointError(f"not a state of a kernadv history: it has no 'format', only {sorted(state)[:8]}")
    found = np.ravel(version)
    if found.dtype.kind not in "iu" or len(found) != 1 or found[0] < 1:
        raise CheckpointError(f"the format of the state is {version!r}, not a whole number: it is damaged")
    if found[0] > FORMAT:
        raise CheckpointError(f"the state has format {found[0]}, this kernadv reads up to {FORMAT}: upgrade kernadv")
    types: dict[str, Any] = {"length": np.int64, "step": np.int64, "n": np.int64, "s": np.float64, "ss": np.float64,
                             "counters": np.int64}  # fmt: skip
    missing = [name for name in types if name not in state]
    if missing:
        raise CheckpointError(f"the state lacks {', '.join(missing)}: it is damaged or foreign")
    foreign = [name for name in types if np.asarray(state[name]).dtype.kind not in "iuf" or np.ndim(state[name]) != 1]
    if foreign:
        raise CheckpointError(f"{', '.join(foreign)} of the state are not lists of numbers: it is damaged or foreign")
    arrays = {name: np.ascontiguousarray(state[name], dtype) for name, dtype in types.items()}
    sizes = {name: len(arrays[name]) for name in ("step", "n", "s", "ss")}
    if set(sizes.values()) != {int(arrays["length"].sum())} or len(arrays["counters"]) != 3:
        raise CheckpointError(f"the arrays of the state do not fit together: {sizes}, lengths sum to "
                              f"{int(arrays['length'].sum())}")  # fmt: skip
    if (arrays["length"] < 0).any() or (np.abs(arrays["step"]) > LAST_STEP).any() or (arrays["n"] < 1).any():
        raise CheckpointError("the state holds lengths below 0, steps beyond 2^53 or counts below 1: it is damaged")
    if (arrays["n"] >= 2**31).any() or not (np.isfinite(arrays["s"]).all() and np.isfinite(arrays["ss"]).all()):
        raise CheckpointError("the state holds sums that are not finite, or counts of 2^31 or more: it is damaged")
    if (arrays["counters"] < 0).any() or arrays["counters"][2] < arrays["step"].max(initial=0):
        raise CheckpointError("the counters of the state contradict its visits: it is damaged")
    return {**state, **arrays}


def check_id_type(held: type | None, new: type) -> None:
    """Refuse to mix str and int ids in one history."""
    if held is not None and held is not new:
        raise ArgumentError(
            f"prompt ids must all be str or all be int: the history holds {held.__name__} ids, the batch brings "
            f"{new.__name__}; convert them, e.g. with str()"
        )
