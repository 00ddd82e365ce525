"""Splits of a log: runs of files, and of row groups of a large parquet file, that can be read apart from the others.

How a log is cut does not depend on who reads it: the last digit of a sum depends on what is added first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from polars.exceptions import PolarsError

from kernadv._errors import LogError
from kernadv.logs._base import Chunk, Query, Reader
from kernadv.logs._files import File
from kernadv.logs._groups import ungrouped
from kernadv.logs._parquet import pieces
from kernadv.logs._stream import packed

#: A split is complete with so many bytes.  A file counts as no less than the second number, because opening it takes time.
_BYTES, _FILE = 1 << 24, 1 << 18
#: Rows of a piece of a parquet file, and bytes below which a file is not cut.
_ROWS, _LARGE = 1 << 20, 1 << 22
#: Files of a log from which on none is cut: there are splits enough, and each cut needs a look into the file.
_MANY = 256


def cut(files: Sequence[File]) -> list[Sequence[File]]:
    """Cut a log whose rows can be read without those before, apart from the first ones, which tell the columns."""
    found: list[list[File]] = []
    left = 0
    for file in files:
        parts = pieces(file, _ROWS) if len(files) < _MANY and _is_large(file) else [file]
        if len(parts) > 1:
            found += [[part] for part in parts]
            left = 0
            continue
        if left <= 0:
            found.append([])
            left = _BYTES
        found[-1].append(file)
        left -= _BYTES if file.size is None else max(file.size, _FILE)
    return [*found]


def _is_large(file: File) -> bool:
    return file.ending == ".parquet" and file.in_place and (file.size or 0) >= _LARGE


def splits(query: Query, reader: Reader) -> list[Sequence[File]]:
    """Return the splits of a log; one, if there is a pipe, or if steps get their numbers as they appear."""
    found = reader.splits(query)
    if query.steps.rank or any(file.once for split in found for file in split):
        return [[file for split in found for file in split]]
    return found


def chunks(query: Query, reader: Reader) -> Iterator[Chunk]:
    """The chunks of a split, whose rows are traces or groups with counts, and whose steps are whole numbers."""
    for chunk in packed(reader.frames(query)):
        yield ungrouped(query.steps.apply(chunk, query.notes), query)


@contextmanager
def read_as(query: Query, name: str) -> Iterator[None]:
    """Turn the errors of polars into a LogError that names the format."""
    try:
        yield
    except (PolarsError, RecursionError) as error:
        raise LogError(f"{query.source} cannot be read as {name}: {error}") from error
