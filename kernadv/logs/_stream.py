"""The rows of files as chunks, whatever their format."""

from __future__ import annotations

import csv
import lzma
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from kernadv._errors import LogError
from kernadv.logs import _csv, _json, _jsonl, _parquet
from kernadv.logs._base import Chunk, Incomplete, Notes, Query, Selection, broken_file, not_utf8, some, without_rows
from kernadv.logs._columns import PATH, missing_columns
from kernadv.logs._files import File

#: Small chunks are joined until they have that many rows or bytes.
_ROWS = 1 << 13
_BYTES = 1 << 23

_TABLES: dict[str, Callable[..., Iterator[tuple[pl.DataFrame, Sequence[int], float]]]] = {
    ".csv": _csv.tables,
    ".tsv": _csv.tables,
    ".parquet": _parquet.tables,
    ".jsonl": _jsonl.tables,
    ".ndjson": _jsonl.tables,
    ".json": _json.tables,
}
ENDINGS = tuple(_TABLES)
"""Endings of the files that `stream` reads; that of a compression may follow."""


def filled(files: Sequence[File], query: Query, looks_for: str) -> list[File]:
    """Return the files that are not empty, with a note if they are in several folders.

    Raises
    ------
    LogError
        If there is no file, or none with a byte in it.
    """
    if not files:
        raise LogError(f"expected {looks_for} in {query.source}, found {some(file.name for file in query.files)}")
    with_bytes = [file for file in files if file.size != 0]
    if not with_bytes:
        raise without_rows(query.source)
    folders = dict.fromkeys(file.path.removesuffix(file.name) for file in with_bytes)
    if len(folders) > 1:
        query.notes.add(f"files of {len(folders)} folders read as one run: {some(folders, 3)}")
    return with_bytes


def column_names(file: File) -> list[str]:
    """Return the columns of a file, among them the fields of structures as ``a.b``."""
    found: list[str] = []

    def choose(names: list[str]) -> tuple[list[str], Collection[str]]:
        found.extend(names)
        return names[:1], ()

    with readable(file):
        next(_TABLES[file.ending](file, choose), None)
    return found


def stream(
    files: Sequence[File],
    query: Query,
    choose: Callable[[list[str], File], Selection],
    keep: Callable[[str], bool] | None = None,
) -> Iterator[Chunk]:
    """Yield the rows of some files as chunks of bounded size.

    Parameters
    ----------
    files : sequence of File
        Files whose endings are among `ENDINGS`.
    query : Query
        Its notes are told what was left out because it is incomplete; its memory holds the columns chosen.
    choose : callable
        Chooses columns, given those of the first file, and that file.
    keep : callable, optional
        Says of a column that is not selected whether it is to be read too.

    Raises
    ------
    LogError
        If a file is truncated, has a broken line or lacks a column.  What a running job may still be writing, the end of
        the last file, is left out instead.
    """
    memory = query.memory
    total, before = sum(file.size or 0 for file in files) or 1, 0
    for file in files:

        def columns(found: list[str], file: File = file) -> tuple[list[str], Collection[str]]:
            if memory.selection is None:
                memory.selection = choose(found, file)
            selection = memory.selection
            wanted = [name for name in selection.names if name != PATH]
            missing: dict[str, str | None] = {name: name for name in wanted if name not in found}
            if missing and not file.before:
                raise missing_columns(missing, found, file, {})
            return [*(name for name in found if name in wanted or (keep and keep(name))), *missing], (
                selection.step,
                selection.prompt,
            )

        with readable(file, query.notes, lambda: memory.selection is None):
            for frame, rows, fraction in _TABLES[file.ending](file, columns):
                if len(frame):
                    assert memory.selection is not None
                    yield Chunk(
                        frame, memory.selection, file, rows, min((before + fraction * (file.size or 0)) / total, 1.0)
                    )
        before += file.size or 0


@contextmanager
def readable(file: File, notes: Notes | None = None, is_empty: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turn the errors of the parsers into a LogError that names the file, or, for what is incomplete, into a note.

    Parameters
    ----------
    file : File
        The file that is read.
    notes : Notes, optional
        Told what is incomplete, if it is the end of the last file and something has been read before.
    is_empty : callable
        Whether nothing has been read before.
    """
    try:
        yield
    except Incomplete as error:
        if notes is None or not file.last or is_empty():
            raise
        notes.add(f"incomplete, as in a run that goes on, and left out: {error.what}")
    except UnicodeDecodeError as error:
        raise not_utf8(file, error.object) from error
    except (pa.ArrowException, OSError, EOFError, zlib.error, lzma.LZMAError, csv.Error, UnicodeError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "invalid UTF8" in detail and file.ending != ".parquet":
            raise not_utf8(file, b"") from error
        raise broken_file(file, detail) from error


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Join chunks whose columns have the same types, or no type."""
    if len(chunks) == 1:
        return chunks[0]
    return chunks[-1]._replace(
        frame=pl.concat([chunk.frame for chunk in chunks], how="vertical_relaxed"),
        source=np.concatenate([chunk.sources for chunk in chunks]),
        rows=np.concatenate([np.asarray(chunk.rows) for chunk in chunks]),
    )


def packed(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Join small chunks that follow each other, because every chunk costs a constant time too."""
    pending: list[Chunk] = []
    types: dict[str, Any] = {}
    n_rows = n_bytes = 0.0
    for chunk in chunks:
        schema = dict(chunk.frame.schema)
        fits = pending and chunk.selection is pending[0].selection and _fit(types, schema)
        if pending and (not fits or n_rows >= _ROWS or n_bytes >= _BYTES):
            yield join(pending)
            pending, types, n_rows, n_bytes = [], {}, 0.0, 0.0
        pending.append(chunk)
        types |= {name: kind for name, kind in schema.items() if types.get(name, pl.Null) == pl.Null}
        n_rows += len(chunk.frame)
        n_bytes += chunk.frame.estimated_size()
    if pending:
        yield join(pending)


def _fit(types: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Say whether the columns are the same, and their types too where both are known."""
    pairs = [(types[name], kind) for name, kind in schema.items()] if types.keys() == schema.keys() else [(0, 1)]
    return all(one == other or pl.Null in (one, other) for one, other in pairs)
