"""Streaming of jsonl files: blocks of lines go through a fast strict parser, and odd ones line by line."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.json as arrow_json

from kernadv._errors import LogError
from kernadv.logs._arrow import frame
from kernadv.logs._base import BYTE_ORDER_MARKS, Choose, Incomplete, broken_line, cut_off, not_utf8
from kernadv.logs._files import File, Stream
from kernadv.logs._values import canonical

_BLOCK = 1 << 23
#: Bytes of a line, at most: a file compressed to do harm may have one without an end.
_LONGEST = 1 << 29
_HEAD = 100
#: Blocks of fewer bytes are not worth the setting-up of the fast parser.
_SMALL = 1 << 14
_NUMBERS = {int, float, bool, type(None)}


def tables(
    file: File, choose: Choose, stream: Stream | None = None
) -> Iterator[tuple[pl.DataFrame, Sequence[int], float]]:
    """Yield frames of the chosen columns, with their line numbers and the fraction of the file that is done.

    Types may change from line to line: a block that does not have the types of the first lines, or has blank or broken
    lines, is read line by line.  A line without a column has null there.  Numbers are read as float64, apart from the
    integers of the columns that are to stay exact.
    """
    columns: list[str] | None = None
    with stream or file.open() as stream:
        for start, block, done in _blocks(file, stream):
            if columns is None:
                head = list(islice(records(block, start, file), _HEAD))
                columns, exact = choose(names(record for _, record in head))
                schema = _schema([record for _, record in head], columns, exact)
            n_lines = block.count(b"\n") + (not block.endswith(b"\n"))
            lines: Sequence[int] = range(start, start + n_lines)
            found = _fast(block, schema, columns)
            if found is None or len(found) != n_lines:
                numbered = list(records(block, start, file))
                found = as_frame([record for _, record in numbered], columns, exact)
                lines = [line for line, _ in numbered]
            yield found, lines, done


def objects(file: File) -> Iterator[tuple[int, dict[str, Any], float]]:
    """Yield line number, object and fraction of the file that is done, one line at a time."""
    with file.open() as stream:
        for start, block, done in _blocks(file, stream, size=1):
            for line, record in records(block, start, file):
                yield line, record, done


def names(head: Iterable[dict[str, Any]]) -> list[str]:
    """Return the keys of objects in their order of appearance, each followed by those of an object in it."""
    return list(dict.fromkeys(name for record in head for name in _names(record)))


def value(record: dict[str, Any], name: str) -> Any:
    """Return what an object has under a name; ``a.b`` is b of the object a, unless there is that very name."""
    if name in record or "." not in name:
        return record.get(name)
    first, _, rest = name.partition(".")
    inner = record.get(first)
    return value(inner, rest) if isinstance(inner, dict) else None


def as_frame(found: Sequence[dict[str, Any]], columns: Sequence[str], exact: Collection[str]) -> pl.DataFrame:
    """Return columns of objects; the integers of the exact ones stay integers."""
    return pl.DataFrame({name: series([value(record, name) for record in found], name in exact) for name in columns})


def series(values: Sequence[Any], exact: bool = True) -> pl.Series:
    """Return a column of Python values: of one simple type if they have it, of texts if they are mixed or nested.

    Parameters
    ----------
    values : sequence
        Numbers, texts, booleans, lists, objects, None.
    exact : bool
        Whether integers stay integers, and lists texts; else all numbers are float64, also those in lists.
    """
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or kinds == {bool}:
        try:
            return pl.Series(values, dtype=pl.Float64 if float in kinds or (int in kinds and not exact) else None)
        except (OverflowError, TypeError):  # integers of more than 64 bits
            pass
    if kinds == {list} and not exact and all(map(_of_numbers, values)):
        lists = [entry and [None if item is None else float(item) for item in entry] for entry in values]
        return pl.Series(lists, dtype=pl.List(pl.Float64))
    texts = [value if value is None or isinstance(value, str) else canonical(value) for value in values]
    try:
        return pl.Series(texts, dtype=pl.String)
    except UnicodeEncodeError:  # lone surrogates, which JSON can write and UTF-8 cannot
        return pl.Series([text and text.encode(errors="replace").decode() for text in texts], dtype=pl.String)


def records(block: bytes, start: int, file: File) -> Iterator[tuple[int, dict[str, Any]]]:
    """Parse lines; blank ones are skipped."""
    for number, line in enumerate(block.split(b"\n"), start=start):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise broken_line(file, number, str(error)) from None
            if not isinstance(record, dict):
                array = "; if the file is one JSON array, name it .json" if number == 1 else ""
                raise broken_line(file, number, f"a JSON object was expected, got {type(record).__name__}{array}")
            yield number, record


def _blocks(file: File, stream: Stream, size: int | None = None) -> Iterator[tuple[int, bytes, float]]:
    """Yield the number of the first line, some whole lines, and the fraction done; a running job may add more lines.

    Raises
    ------
    Incomplete
        If the last line has no end and is no JSON.
    """
    start = 1 + file.before
    while block := stream.read(size or _BLOCK) + stream.readline(_LONGEST + 1):
        if len(block) > _LONGEST:
            line = start + block.count(b"\n")
            raise LogError(
                f"{file}, line {line} has more than {_LONGEST >> 20} MiB, which no row has; leave the file out"
            )
        if start == 1 and block.startswith(BYTE_ORDER_MARKS):
            raise not_utf8(file, block)
        has_end = block.endswith(b"\n")
        before, newline, last = block.rpartition(b"\n")
        if not has_end:
            try:
                json.loads(last or b"null")
            except ValueError as error:
                if before.strip():
                    yield start, before + newline, stream.done
                line = start + block.count(b"\n")
                raise Incomplete(str(broken_line(file, line, str(error))), f"line {line} of {file}") from None
        yield start, block, stream.done
        if not has_end:
            break
        start += block.count(b"\n")
    if stream.cut:
        raise cut_off(file)


def _names(record: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, inner in record.items():
        yield prefix + key
        if isinstance(inner, dict):
            yield from _names(inner, f"{prefix}{key}.")


def _of_numbers(entry: list[Any] | None) -> bool:
    return entry is None or {type(item) for item in entry} <= _NUMBERS


def _schema(head: Sequence[dict[str, Any]], columns: Sequence[str], exact: Collection[str]) -> pa.Schema | None:
    """Guess the types from the first lines; None if the strict parser cannot serve them."""
    tree: dict[str, Any] = {}
    for name in columns:
        found = [entry for record in head if (entry := value(record, name)) is not None]
        kinds = set(map(type, found))
        if kinds == {str} or (name in exact and not kinds):
            kind = pa.string()
        elif kinds == {bool}:
            kind = pa.bool_()
        elif kinds <= {int, float}:
            kind = pa.int64() if name in exact and kinds == {int} else pa.float64()
        elif kinds == {list} and name not in exact and all(map(_of_numbers, found)):
            kind = pa.list_(pa.float64())
        else:
            return None
        inner, parts = tree, [name] if any(name in record for record in head) else name.split(".")
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
        inner[parts[-1]] = kind
    return pa.schema(_fields(tree))


def _fields(tree: dict[str, Any]) -> list[pa.Field]:
    return [pa.field(name, pa.struct(_fields(kind)) if isinstance(kind, dict) else kind) for name, kind in tree.items()]


def _fast(block: bytes, schema: pa.Schema | None, columns: Sequence[str]) -> pl.DataFrame | None:
    """Parse a block whose lines all have the types of the schema; None if one has not, or there are few."""
    if schema is None or len(block) < _SMALL:
        return None
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = arrow_json.read_json(
            pa.BufferReader(block), arrow_json.ReadOptions(use_threads=False, block_size=len(block)), options
        )
        return frame(table, columns)
    except pa.ArrowInvalid:
        return None
