"""Streaming of jsonl files: blocks of lines go through a fast strict parser, and odd ones line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.json as arrow_json

from kernadv.logs._base import broken_line
from kernadv.logs._values import canonical

_BLOCK = 1 << 23
_HEAD = 100


def column_names(path: Path) -> list[str]:
    """Return the keys of the first lines of a file, in their order of appearance."""
    return list(dict.fromkeys(key for record in _head(path) for key in record))


def batches(path: Path, columns: Sequence[str], prompt: str) -> Iterator[tuple[pl.DataFrame, Sequence[int], float]]:
    """Yield frames with the given columns, their line numbers and the fraction of the file that is done.

    Types may change from line to line: a block that does not have the types of the first lines, or has blank or broken
    lines, is read line by line.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str
        Keys to read; a line without one has null there.
    prompt : str
        The column whose integers are ids and stay exact; the other numbers are read as float64.
    """
    schema = _schema(list(_head(path)), columns, prompt)
    size, start = path.stat().st_size, 1
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK) + handle.readline():
            n_lines = block.count(b"\n") + (not block.endswith(b"\n"))
            frame = _fast(block, schema)
            lines: Sequence[int] = range(start, start + n_lines)
            if frame is None or len(frame) != n_lines:
                found = list(_parse(block.split(b"\n"), start, path))
                frame = pl.DataFrame({name: series([record.get(name) for _, record in found]) for name in columns})
                lines = [line for line, _ in found]
            yield frame, lines, handle.tell() / size
            start += n_lines


def records(path: Path) -> Iterator[tuple[int, dict[str, Any], float]]:
    """Yield line number, object and fraction of the file that is done, one line at a time."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        for start, line in enumerate(handle, start=1):
            done = handle.tell() / size
            for number, record in _parse([line], start, path):
                yield number, record, done


def series(values: Sequence[Any]) -> pl.Series:
    """Return a column of Python values: of one simple type if they have it, of texts if they are mixed or nested."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or kinds == {bool}:
        try:
            return pl.Series(values, dtype=pl.Float64 if float in kinds else None)
        except (OverflowError, TypeError):  # integers of more than 64 bits
            pass
    texts = [value if value is None or isinstance(value, str) else canonical(value) for value in values]
    try:
        return pl.Series(texts, dtype=pl.String)
    except UnicodeEncodeError:  # lone surrogates, which JSON can write and UTF-8 cannot
        return pl.Series([text and text.encode(errors="replace").decode() for text in texts], dtype=pl.String)


def _head(path: Path) -> Iterator[dict[str, Any]]:
    return (record for _, record, _ in islice(records(path), _HEAD))


def _parse(lines: Sequence[bytes], start: int, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Parse lines; blank ones are skipped."""
    for number, line in enumerate(lines, start=start):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise broken_line(path, number, str(error)) from None
            if not isinstance(record, dict):
                raise broken_line(path, number, f"a JSON object was expected, got {type(record).__name__}")
            yield number, record


def _schema(head: Sequence[dict[str, Any]], columns: Sequence[str], prompt: str) -> pa.Schema | None:
    """Guess the types from the first lines; None if the strict parser cannot serve them."""
    fields = []
    for name in columns:
        kinds = {type(record[name]) for record in head if record.get(name) is not None}
        if kinds == {str} or (name == prompt and not kinds):
            kind = pa.string()
        elif kinds == {bool}:
            kind = pa.bool_()
        elif kinds <= {int, float}:
            kind = pa.int64() if name == prompt and kinds == {int} else pa.float64()
        else:
            return None
        fields.append((name, kind))
    return pa.schema(fields)


def _fast(block: bytes, schema: pa.Schema | None) -> pl.DataFrame | None:
    """Parse a block whose lines all have the types of the schema; None if one has not."""
    if schema is None:
        return None
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = arrow_json.read_json(
            pa.BufferReader(block), arrow_json.ReadOptions(use_threads=False, block_size=len(block)), options
        )
        table.validate(full=True)  # the parser lets broken UTF-8 pass
    except pa.ArrowInvalid:
        return None
    return pl.DataFrame(pl.from_arrow(table))
