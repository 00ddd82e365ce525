"""The log of a shared estimator: every accepted batch is stored before it is answered, in lines that `kernadv audit` reads.

A line is a trace: step, prompt_id, trace_id, reward, advantage, batch_id, and its weight where there are weights.  The
last line of a batch also has a hash of what the caller sent, and one of all that the log holds so far, its ``chain``.  So a
batch is there as a whole or not at all, and a log that misses a batch, or holds another one, does not go on.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from kernadv._checkpoint import flush_folder, load_arrays, replacing, resolve, save_arrays
from kernadv._errors import ArgumentError, CheckpointError, KernadvError
from kernadv.typing import AnyArray, FloatArray, IntArray

#: The chain of an empty log.
START = bytes(8)
#: Folders beside the segments of the log; what begins with an underscore is no data for the audit.
SNAPSHOTS, ABANDONED = "_snapshots", "_abandoned"
#: A local segment of so many bytes is followed by another.
SEGMENT = 1 << 26
#: Seconds to wait for a process that is ending to let go of the folder.
PATIENCE = 10.0

_SEGMENT = re.compile(r"log-(\d{12})\.jsonl")
_END = re.compile(rb'"content": "([0-9a-f]{32})", "chain": "([0-9a-f]{16})"}\n')


class Store(Protocol):
    """A folder; names are relative to it."""

    segment: int

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Names and bytes of the files of a folder."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes of a file."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace it."""

    def append(self, name: str, data: bytes) -> None:
        """Add to a file, which is made if need be; on return the bytes are stored."""

    def cut(self, name: str, size: int) -> None:
        """Keep the first bytes of a file; 0: remove it."""

    def save(self, name: str, arrays: dict[str, AnyArray]) -> None:
        """Write arrays to a file."""

    def load(self, name: str) -> dict[str, AnyArray]:
        """Read what `save` wrote."""

    def close(self) -> None:
        """Let go of the folder."""


def store(folder: str | os.PathLike[str]) -> Store:
    """The folder at a path, or at a URL that fsspec knows.

    Raises
    ------
    ArgumentError
        If it cannot be made, or another process has it.
    MissingExtraError
        If a URL is given and fsspec, or its package for the store, is not installed.
    """
    try:
        system, place = resolve(folder)
        return Local(place) if system is None else Objects(system, place)
    except KernadvError:
        raise
    except Exception as error:  # of any file system, whose errors share no class
        raise ArgumentError(
            f"folder={os.fspath(folder)!r} cannot be used: {error}; give one that can be written, on a disk that "
            "outlives the process"
        ) from error


@contextmanager
def told(what: str) -> Iterator[None]:
    """Errors of the file system as a `CheckpointError`."""
    try:
        yield
    except (KernadvError, MemoryError):
        raise
    except Exception as error:  # of any file system, whose errors share no class
        raise CheckpointError(f"{what}: {type(error).__name__}: {error}") from error


class Local:
    """A folder of this machine, or of a shared file system.  One process has it at a time."""

    segment = SEGMENT

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().absolute()
        for folder in (self.root, self.root / SNAPSHOTS, self.root / ABANDONED):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.root / "_lock", "a+")  # noqa: SIM115  held until the process ends
        self._take()
        for unfinished in (self.root / SNAPSHOTS).glob(".*.tmp"):  # of a process that was killed
            unfinished.unlink()

    def _take(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._lock.truncate(0)
                self._lock.write(f"{os.getpid()} on {socket.gethostname()}")
                self._lock.flush()
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    self._lock.seek(0)
                    holder = self._lock.read()
                    self._lock.close()
                    raise ArgumentError(
                        f"folder={str(self.root)!r} is in use by process {holder}: a folder belongs to one name; give this "
                        "one another folder, or stop the other"
                    ) from None
                time.sleep(0.05)
            except OSError:  # a file system without locks
                return

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.close()

    def sizes(self, folder: str = "") -> dict[str, int]:
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.root / folder) if entry.is_file()}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        with open(self.root / name, "rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else stop - start)

    def write(self, name: str, data: bytes) -> None:
        with replacing(self.root / name) as beside:
            beside.write_bytes(data)

    def append(self, name: str, data: bytes) -> None:
        new = not (self.root / name).exists()
        with open(self.root / name, "ab", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        if new:
            flush_folder(self.root)

    def cut(self, name: str, size: int) -> None:
        if not size:
            (self.root / name).unlink(missing_ok=True)
            flush_folder(self.root)
            return
        with open(self.root / name, "rb+") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def save(self, name: str, arrays: dict[str, AnyArray]) -> None:
        save_arrays(self.root / name, arrays)

    def load(self, name: str) -> dict[str, AnyArray]:
        return load_arrays(self.root / name)


class Objects:
    """A folder of any file system of fsspec.  Object stores cannot append: a batch is an object, made if it is not there."""

    segment = 0

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._root = system, root.rstrip("/")
        for folder in ("", SNAPSHOTS, ABANDONED):
            self._system.makedirs(self._path(folder), exist_ok=True)
        self.write("_lock", b"")  # it can be written

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def close(self) -> None:
        """Nothing is held."""

    def sizes(self, folder: str = "") -> dict[str, int]:
        self._system.invalidate_cache()
        try:
            found = self._system.ls(self._path(folder), detail=True)
        except FileNotFoundError:  # a folder of an object store that holds nothing
            return {}
        return {str(each["name"]).rpartition("/")[2]: int(each["size"]) for each in found if each["type"] == "file"}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        return bytes(self._system.cat_file(self._path(name), start=start, end=stop))

    def write(self, name: str, data: bytes) -> None:
        self._system.pipe_file(self._path(name), data)

    def append(self, name: str, data: bytes) -> None:
        try:
            self._system.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            raise CheckpointError(
                f"{self._system.unstrip_protocol(self._path(name))} is there already: another process writes to this "
                "folder; a folder belongs to one name"
            ) from None

    def cut(self, name: str, size: int) -> None:
        if size:
            self.write(name, self.read(name, 0, size))
        else:
            self._system.rm_file(self._path(name))

    def save(self, name: str, arrays: dict[str, AnyArray]) -> None:
        save_arrays(self._system.unstrip_protocol(self._path(name)), arrays)

    def load(self, name: str) -> dict[str, AnyArray]:
        return load_arrays(self._system.unstrip_protocol(self._path(name)))


class Batch(NamedTuple):
    """T traces of an accepted batch, in the order of the caller.

    Attributes
    ----------
    batch_id : str
    ids : list of str or list of int  # (T,)
    traces : list of str or list of int  # (T,)
        The caller's names of the traces, else their numbers from 0.
    steps : (T,) int64
    rewards, advantages : (T,) float64, or (T, C) of several components
    weights : (T,) float64 or None
    """

    batch_id: str
    ids: list[Any]
    traces: list[Any]
    steps: IntArray
    rewards: FloatArray
    advantages: FloatArray
    weights: FloatArray | None


class Entry(NamedTuple):
    """Where a batch is.

    Attributes
    ----------
    key, content : bytes  # 16 each
        Hashes of its id, and of what the caller sent.
    chain : bytes  # 8
        Hash of the log up to its end.
    segment, start, stop : int
        Number of the first batch of the file, and bytes in it.
    """

    key: bytes
    content: bytes
    chain: bytes
    segment: int
    start: int
    stop: int


class Log:
    """The batches in a folder, in their order.

    Parameters
    ----------
    folder : Store
    """

    def __init__(self, folder: Store) -> None:
        self.folder = folder
        self.entries: list[Entry] = []
        self._at: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def chain(self) -> bytes:
        """Hash of the whole log."""
        return self.chain_at(len(self))

    def chain_at(self, position: int) -> bytes:
        """Hash of the first so many batches."""
        return self.entries[position - 1].chain if position else START

    def find(self, batch_id: str) -> Entry | None:
        """The batch with an id."""
        place = self._at.get(key_of(batch_id))
        return None if place is None else self.entries[place]

    def get(self, entry: Entry) -> Batch:
        """Read a batch."""
        with told("the log cannot be read"):
            return decoded(self.folder.read(name_of(entry.segment), entry.start, entry.stop))

    def append(self, batch: Batch, content: bytes) -> None:
        """Store a batch; on return it is there.

        Raises
        ------
        CheckpointError
            If it could not be stored; part of it may be there, as after a crash.
        """
        last = self.entries[-1] if self.entries else None
        fits = last is not None and last.stop < self.folder.segment
        segment, start = (last.segment, last.stop) if last is not None and fits else (len(self), 0)
        data, chain = encoded(batch, content, self.chain)
        with told(f"batch {batch.batch_id!r:.80} could not be stored, and does not count; send it again"):
            self.folder.append(name_of(segment), data)
        self._add(Entry(key_of(batch.batch_id), content, chain, segment, start, start + len(data)))

    def follow(self, entries: Sequence[Entry] = (), until: int | None = None) -> Iterator[Batch]:
        """Read what comes after the batches that are known.

        Parameters
        ----------
        entries : sequence of Entry
            Known ones: those of a snapshot.
        until : int, optional
            Stop at that position.  None: the end; what a crash left there of a batch, which nobody was told of, is removed.

        Raises
        ------
        CheckpointError
            If what is there cannot be what was written.
        """
        self.entries, self._at = [], {}
        for entry in entries:
            self._add(entry)
        with told("the log cannot be read"):
            sizes = self.folder.sizes()
        segments = sorted(int(found[1]) for found in map(_SEGMENT.fullmatch, sizes) if found)
        self._check_known({number: sizes[name_of(number)] for number in segments})
        last = self.entries[-1] if self.entries else None
        for number in segments[segments.index(last.segment) if last else 0 :]:
            start = last.stop if last and last.segment == number else 0
            if not start and number != len(self):
                raise CheckpointError(
                    f"the log is damaged: {name_of(number)} follows batch {len(self)}; batches between them are missing"
                )
            with told("the log cannot be read"):
                data = self.folder.read(name_of(number), start)
            at = 0
            for end in _END.finditer(data):
                if until is not None and len(self) >= until:
                    return
                self._take(data[at : end.end()], end, number, start + at)
                yield decoded(data[at : end.end()])
                at = end.end()
            torn = at < len(data) or start + at == 0
            if torn and number != segments[-1]:
                raise CheckpointError(
                    f"the log is damaged: {name_of(number)} ends in the middle of a batch, and another file follows"
                )
            if torn and until is None:
                with told("the end of the log cannot be removed"):
                    self.folder.cut(name_of(number), start + at)

    def abandon(self, position: int, branch: int) -> None:
        """Forget what comes after a position; it is kept in a folder that is no part of the log.

        Parameters
        ----------
        position : int
        branch : int
            Number of this change of the past, from 1.
        """
        first: dict[int, int] = {}
        for entry in self.entries[position:]:
            first.setdefault(entry.segment, entry.start)
        with told("the log cannot be cut"):
            for number, start in first.items():
                self.folder.write(
                    f"{ABANDONED}/{branch:06d}-{name_of(number)}", self.folder.read(name_of(number), start)
                )
            for name in self.folder.sizes(SNAPSHOTS):
                if position_of(name) > position:
                    self.folder.cut(f"{SNAPSHOTS}/{name}", 0)
            for number, start in reversed(first.items()):  # from the end: what is left is always a log
                self.folder.cut(name_of(number), start)
        for entry in self.entries[position:]:
            del self._at[entry.key]
        del self.entries[position:]

    def _add(self, entry: Entry) -> None:
        self._at[entry.key] = len(self.entries)
        self.entries.append(entry)

    def _take(self, data: bytes, end: re.Match[bytes], segment: int, start: int) -> None:
        """Check a batch and add it."""
        chain = _chain(self.chain, data[: -len('0123456789abcdef"}\n')])
        if chain.hex().encode() != end[2]:
            raise CheckpointError(
                f"the log is damaged: batch {len(self) + 1}, at byte {start} of {name_of(segment)}, is not what was "
                "written.  If it is the last one, and was never answered, cut the file there"
            )
        batch_id = json.loads(data[data.rindex(b"\n", 0, -1) + 1 :] if data.count(b"\n") > 1 else data)["batch_id"]
        self._add(Entry(key_of(batch_id), bytes.fromhex(end[1].decode()), chain, segment, start, start + len(data)))

    def _check_known(self, sizes: dict[int, int]) -> None:
        """Raise unless the files hold the batches that are known."""
        ends = {entry.segment: entry.stop for entry in self.entries}
        for number, stop in ends.items():
            if sizes.get(number, -1) < stop:
                raise CheckpointError(
                    f"the log has lost batches: {name_of(number)} is {'cut' if number in sizes else 'missing'}, and a "
                    f"snapshot knows {len(self)} batches; bring the file back, or go on in a new folder"
                )


def encoded(batch: Batch, content: bytes, chain: bytes) -> tuple[bytes, bytes]:
    """Lines of a batch, and the hash of the log up to their end."""
    columns: dict[str, list[str]] = {
        "step": _numbers(batch.steps),
        "prompt_id": _texts(batch.ids),
        "trace_id": _texts(batch.traces),
    }
    for name, matrix in (("reward", batch.rewards), ("advantage", batch.advantages)):
        columns[name] = _numbers(matrix if matrix.ndim == 1 else matrix.sum(1))
        for k in range(matrix.shape[1] if matrix.ndim == 2 else 0):
            columns[f"{name}_{k}"] = _numbers(matrix[:, k])
    if batch.weights is not None:
        columns["weight"] = _numbers(batch.weights)
    form = (
        "{"
        + ", ".join(f'"{name}": %s' for name in columns)
        + ', "batch_id": '
        + quoted(batch.batch_id).replace("%", "%%")
    )
    lines = [form % row for row in zip(*columns.values(), strict=True)]
    data = ("}\n".join(lines) + f', "content": "{content.hex()}", "chain": "').encode()
    chain = _chain(chain, data)
    return data + f'{chain.hex()}"}}\n'.encode(), chain


def decoded(data: bytes) -> Batch:
    """The batch of some lines."""
    rows = json.loads(b"[" + data.rstrip(b"\n").replace(b"\n", b",") + b"]")
    weights = np.array([row["weight"] for row in rows], np.float64) if "weight" in rows[0] else None
    return Batch(
        rows[0]["batch_id"],
        [row["prompt_id"] for row in rows],
        [row["trace_id"] for row in rows],
        np.array([row["step"] for row in rows], np.int64),
        _matrix(rows, "reward"),
        _matrix(rows, "advantage"),
        weights,
    )


def key_of(batch_id: str) -> bytes:
    """Hash of the id of a batch."""
    return blake2b(batch_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def content_of(ids: Sequence[Any], rewards: FloatArray, steps: IntArray, weights: Any, trace: Any) -> bytes:
    """Hash of what a caller sent: B rows, before parts of a trace are joined."""
    names = (json.dumps(None if part is None else list(part)) for part in (ids, trace))
    hashed = blake2b("\n".join(names).encode(), digest_size=16)
    for part in (rewards, steps, () if weights is None else weights):
        numbers = np.ascontiguousarray(part, np.float64) + 0.0  # -0 is 0
        numbers[np.isnan(numbers)] = np.nan
        hashed.update(repr(numbers.shape).encode() + numbers.tobytes())
    return hashed.digest()


def to_arrays(entries: Sequence[Entry]) -> dict[str, AnyArray]:
    """Entries as arrays."""
    rows = len(entries)
    hashes = b"".join(b"".join(entry[:3]) for entry in entries)
    places = np.array([entry[3:] for entry in entries], np.int64).reshape(rows, 3)
    return {"hashes": np.frombuffer(hashes, np.uint8).reshape(rows, 40).copy(), "places": places}


def from_arrays(arrays: dict[str, AnyArray]) -> list[Entry]:
    """The inverse of `to_arrays`."""
    hashes = arrays["hashes"].tobytes()
    return [
        Entry(hashes[at : at + 16], hashes[at + 16 : at + 32], hashes[at + 32 : at + 40], *place)
        for at, place in zip(range(0, len(hashes), 40), arrays["places"].tolist(), strict=True)
    ]


def name_of(segment: int) -> str:
    """File of the log that begins with a batch."""
    return f"log-{segment:012d}.jsonl"


def position_of(snapshot: str) -> int:
    """Number of batches that a snapshot holds; -1: the name is of no snapshot."""
    found = re.fullmatch(r"(\d{12})\.safetensors", snapshot)
    return int(found[1]) if found else -1


def _chain(before: bytes, data: bytes) -> bytes:
    return blake2b(data, digest_size=8, key=before).digest()


def _texts(names: Sequence[Any]) -> list[str]:
    """Names as JSON."""
    kinds = set(map(type, names))
    if kinds <= {str} or kinds <= {int}:
        return list(map(quoted if kinds == {str} else str, names))
    return [quoted(name) if isinstance(name, str) else str(name) for name in names]


def _numbers(x: AnyArray) -> list[str]:
    """Numbers as JSON, which gives every bit back.  Few are distinct."""
    bits, place = np.unique(np.ascontiguousarray(x).view(np.int64), return_inverse=True)
    texts = ["null" if number != number else repr(number) for number in bits.view(x.dtype).tolist()]
    return list(map(texts.__getitem__, place.tolist()))


def _matrix(rows: list[dict[str, Any]], name: str) -> FloatArray:
    """A column, or those of its components; null is NaN."""
    several = sum(key.startswith(f"{name}_") for key in rows[0])
    if several:
        return np.array([[row[f"{name}_{k}"] for k in range(several)] for row in rows], np.float64)
    return np.array([row[name] for row in rows], np.float64)
