"""The files of a log: which they are, and the streaming of csv, parquet and jsonl in bounded memory."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from kernadv._errors import LogError
from kernadv.logs import _jsonl
from kernadv.logs._base import Chunk, Selection, missing_columns, some, without_rows

_CSV_BLOCK = 1 << 21
_PARQUET_ROWS = 1 << 15


class _Kind(NamedTuple):
    """How files of one ending are read: their columns; their frames with row numbers and fraction done."""

    names: Callable[[Path], list[str]]
    batches: Callable[[Path, Sequence[str], str], Iterator[tuple[pl.DataFrame, Sequence[int], float]]]


def inside(folder: Path) -> list[Path]:
    """Return the files of a folder by name; hidden ones and those that begin with an underscore are not data."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] not in "._")


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder whose whole name matches a pattern, in the order of its group, an integer."""
    if not folder.is_dir():
        return []
    matches = [(re.fullmatch(pattern, path.name), path) for path in inside(folder)]
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


def filled(files: Sequence[Path], path: Path, looks_for: str) -> list[Path]:
    """Return the files that are not empty.

    Raises
    ------
    LogError
        If there is no file, or none with a byte in it.
    """
    if not files:
        found = sorted(item.name for item in path.iterdir()) if path.is_dir() else []
        raise LogError(f"expected {looks_for} in {path}, found {some(found)}")
    with_bytes = [file for file in files if file.stat().st_size]
    if not with_bytes:
        raise without_rows(path)
    return with_bytes


def column_names(path: Path) -> list[str]:
    """Return the columns of a file; of a jsonl file, the keys of its first lines."""
    with named(path):
        return _KINDS[path.suffix.lower()].names(path)


def stream(paths: Sequence[Path], selection: Selection, keep: Callable[[str], bool] | None = None) -> Iterator[Chunk]:
    """Yield the rows of some files as chunks of bounded size.

    Parameters
    ----------
    paths : sequence of Path
        Files whose endings are among `ENDINGS`.
    selection : Selection
        Columns to read.
    keep : callable, optional
        Says of a column that is not selected whether it is to be read too.

    Raises
    ------
    LogError
        If a file is truncated, has a broken line or lacks a column.
    """
    sizes = [path.stat().st_size for path in paths]
    total, before = sum(sizes), 0
    for path, size in zip(paths, sizes, strict=True):
        found = column_names(path)
        missing = {name: name for name in selection.names if name not in found}
        if missing:
            raise missing_columns(missing, found, path, {})
        columns = [name for name in found if name in selection.names or (keep and keep(name))]
        with named(path):
            for frame, rows, done in _KINDS[path.suffix.lower()].batches(path, columns, selection.prompt):
                if len(frame):
                    yield Chunk(frame, selection, path, rows, (before + done * size) / total)
        before += size


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn the errors of the parsers into a LogError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError, csv.Error) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LogError(f"{path} is truncated or broken: {detail}; restore the file or leave it out") from error


def _csv_names(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        return next(csv.reader(handle, delimiter=_delimiter(path)), [])


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _csv_batches(
    path: Path, columns: Sequence[str], prompt: str
) -> Iterator[tuple[pl.DataFrame, Sequence[int], float]]:
    """Read every column as text: types that change half-way, and bad values, are then seen where they are."""
    size, start = path.stat().st_size, 1
    with pa.OSFile(str(path)) as handle:
        reader = arrow_csv.open_csv(
            handle,
            read_options=arrow_csv.ReadOptions(block_size=_CSV_BLOCK),
            parse_options=arrow_csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict.fromkeys(columns, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        for batch in reader:
            yield _frame(batch), range(start, start + batch.num_rows), handle.tell() / size
            start += batch.num_rows


def _parquet_names(path: Path) -> list[str]:
    return list(parquet.read_schema(path).names)


def _parquet_batches(
    path: Path, columns: Sequence[str], prompt: str
) -> Iterator[tuple[pl.DataFrame, Sequence[int], float]]:
    start = 1
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=list(columns)):
            end = start + batch.num_rows
            yield _frame(batch), range(start, end), (end - 1) / file.metadata.num_rows
            start = end


def _frame(batch: Any) -> pl.DataFrame:
    """Convert an Arrow batch; dictionary columns are decoded, so that no text outlives its chunk."""
    batch.validate(full=True)  # the readers let broken UTF-8 pass
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch.columns
    ]
    return pl.DataFrame(pl.from_arrow(pa.RecordBatch.from_arrays(columns, names=batch.schema.names)))


_CSV = _Kind(_csv_names, _csv_batches)
_JSONL = _Kind(_jsonl.column_names, _jsonl.batches)
_PARQUET = _Kind(_parquet_names, _parquet_batches)
_KINDS = {".csv": _CSV, ".tsv": _CSV, ".parquet": _PARQUET, ".jsonl": _JSONL, ".ndjson": _JSONL}
ENDINGS = tuple(_KINDS)
"""Endings of the files that `stream` reads."""
