"""What is new of the files of a log that a run is writing."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from kernadv._errors import LogError
from kernadv.logs._files import File, find, is_packed

#: Endings of the files that can be read in pieces: a row is a line.
_QUOTED = (".csv", ".tsv")
_LINES = (".jsonl", ".ndjson", *_QUOTED)
_BLOCK = 1 << 20
#: Bytes before the end of what was read, and at the beginning, that tell whether a file is still the same.
_KNOWN = 256
_PARQUET_END = b"PAR1"


class Replaced(LogError):
    """What was read of a log is no longer what it holds.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from kernadv.logs import Replaced, Tail
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.csv")
    ...     written = path.write_text("step,prompt,reward\\n1,a,1\\n2,a,1\\n")
    ...     tail = Tail(path)
    ...     seen = list(tail.read())
    ...     written = path.write_text("step,prompt,reward\\n1,b,0\\n")  # another run
    ...     try:
    ...         list(tail.read())
    ...     except Replaced:
    ...         print("begin with another Tail")
    begin with another Tail
    """


class _Read(NamedTuple):
    """What was read of a file: its identity and times, where it ended, the rows, and the bytes at both ends."""

    mark: tuple[int, ...]
    end: int
    rows: int
    known: bytes


@dataclass(frozen=True, eq=False)
class _Piece(File):
    """A part of a file, in front of it the header of the whole."""

    head: bytes = b""
    start: int = 0
    end: int = 0

    def _opened(self) -> Any:
        source = open(self.path, "rb", buffering=0)  # noqa: SIM115
        source.seek(self.start)
        return _Between(source, self.head, self.end - self.start)


class _Between:
    """Some bytes, and then so many of a file."""

    def __init__(self, source: Any, head: bytes, left: int) -> None:
        self._source, self._head, self._left = source, head, left

    def read(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
        else:
            data = self._source.read(min(size, self._left))
            self._left -= len(data)
        return bytes(data)

    def close(self) -> None:
        self._source.close()


class Growth:
    """The files of a log, and how much of them was read.

    Parameters
    ----------
    path : str, Path, or sequence of them
        As in `find`.
    """

    def __init__(self, path: Any) -> None:
        self._path = path
        self._read: dict[str, _Read] = {}
        self._next: dict[str, _Read] = {}

    def files(self, used: Collection[str], whole: bool) -> tuple[str, list[File]]:
        """Return how to call the log, and its files: of those that were read only what is new, which may be nothing.

        A file of lines is cut after its last whole row.

        Parameters
        ----------
        used : collection of str
            Paths of the files of which rows were used.
        whole : bool
            Whether the end of a file is taken as it is, instead of waiting for the rest of its last row.

        Raises
        ------
        Replaced
            If a file whose rows were used has changed, apart from what was added to it.
        LogError
            If there is nothing, or no file of this machine.
        """
        source, files = find(self._path)
        self._next = {}
        return source, [self._new(file, file.path in used, whole) for file in files]

    def taken(self) -> None:
        """Remember that what `files` returned was read."""
        self._read |= self._next

    def _new(self, file: File, used: bool, whole: bool) -> File:
        if type(file) is not File:
            raise LogError(f"{file} cannot be watched: only files and folders of this machine; give a path to them")
        status, before = os.stat(file.path), self._read.get(file.path)
        mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if before is not None and before.mark == mark:
            return replace(file, size=0)
        with open(file.path, "rb", buffering=0) as source:
            packed = is_packed(source.read(_KNOWN))
            lines = file.ending in _LINES and not packed
            same = (
                before is not None
                and lines
                and before.mark[:2] == mark[:2]
                and before.known == _ends(source, before.end)
            )
            if before is None or (not same and not used):
                before = _Read((), 0, 0, b"")
            elif not same:
                whose = "was truncated, replaced or written anew" if lines else "was written again"
                raise Replaced(f"{file} {whose}: read again from its start")
            if not lines:
                complete = packed or file.ending != ".parquet" or _has_footer(source, mark[2])
                if complete:
                    self._next[file.path] = _Read(mark, mark[2], 0, b"")
                return replace(file, size=mark[2] if complete else 0)
            end, rows = (mark[2], 0) if whole else _whole_rows(source, before.end, mark[2], file.ending in _QUOTED)
            self._next[file.path] = _Read(mark, end, before.rows + rows, _ends(source, end))
            if end == before.end:
                return replace(file, size=0)
            head = b""
            if before.end and file.ending in _QUOTED:
                from kernadv.logs._csv import header  # needs polars

                source.seek(0)
                head = header(source, file.ending)[1]
        # the header of a csv is no record
        rows_before = before.rows - (before.rows > 0 and file.ending in _QUOTED)
        size = len(head) + end - before.end
        return _Piece(
            file.path, size, file.root, file.folders, file.last, rows_before, head=head, start=before.end, end=end
        )


def _ends(source: Any, end: int) -> bytes:
    """The first bytes of a file, and the last before a place."""
    source.seek(0)
    first = source.read(min(_KNOWN, end))
    source.seek(max(end - _KNOWN, 0))
    return bytes(first + source.read(min(_KNOWN, end)))


def _has_footer(source: Any, size: int) -> bool:
    """Whether a parquet file has its end, which is written last."""
    source.seek(max(size - len(_PARQUET_END), 0))
    return bool(source.read() == _PARQUET_END)


def _whole_rows(source: Any, start: int, size: int, quoted: bool) -> tuple[int, int]:
    """Where the last whole row between two places ends, and how many rows there are; a line break in quotes ends none."""
    source.seek(start)
    end, rows, place, open_quotes = start, 0, start, False
    while place < size and (block := source.read(min(_BLOCK, size - place))):
        found = np.frombuffer(block, np.uint8)
        ends = found == ord("\n")
        if quoted:
            inside = np.logical_xor.accumulate(found == ord('"')) ^ open_quotes
            ends &= ~inside
            open_quotes = bool(inside[-1])
        if len(at := np.flatnonzero(ends)):
            end, rows = place + int(at[-1]) + 1, rows + len(at)
        place += len(block)
    return end, rows
