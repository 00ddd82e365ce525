"""Whole files of JSON: an array of records, or an object of columns, of records, or of the visits of each prompt."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import polars as pl

from kernadv._errors import LogError
from kernadv.logs import _jsonl
from kernadv.logs._base import BYTE_ORDER_MARKS, Choose, Incomplete, broken_file, not_utf8
from kernadv.logs._columns import POSITION, names_a_column
from kernadv.logs._files import File, Stream

#: Bytes of a file, at most.
_LARGEST = 1 << 31
_EXPECTED = "an array of records, or an object of columns, of records, or of the visits of each prompt"


def tables(file: File, choose: Choose) -> Iterator[tuple[pl.DataFrame, Sequence[int], float]]:
    """Yield one frame of the chosen columns, with the numbers of its records.

    The whole file is parsed at once.  A file with an object in each line is read as jsonl, whatever its name.
    """
    with file.open() as stream:
        text, cut = stream.read(_LARGEST + 1), stream.cut
    if len(text) > _LARGEST:
        raise LogError(f"{file} has more than {_LARGEST >> 30} GiB, and would be parsed as a whole; write it as .jsonl")
    if text.startswith(BYTE_ORDER_MARKS):
        raise not_utf8(file, text)
    try:
        document = json.loads(text)
    except ValueError as error:
        if str(error).startswith("Extra data"):
            yield from _jsonl.tables(file, choose, Stream(io.BytesIO(text), len(text)))
            return
        if isinstance(error, UnicodeDecodeError) and not cut:
            raise not_utf8(file, text) from None
        raise Incomplete(str(broken_file(file, str(error))), str(file)) from None
    records, (columns, exact) = _records(file, document, choose)
    yield _jsonl.as_frame(records, columns, exact), range(1, len(records) + 1), 1.0


def _records(
    file: File, document: Any, choose: Choose
) -> tuple[list[dict[str, Any]], tuple[list[str], Collection[str]]]:
    """Return the records of a document, and the columns chosen among their keys."""
    if isinstance(document, dict):
        inner = [value for value in document.values() if _is_table(value)]
        if len(inner) == 1 and (len(document) == 1 or len(set(map(type, document.values()))) > 1):
            document = inner[0]
    if _is_table(document):
        return document, choose(_jsonl.names(document))
    if not isinstance(document, dict) or not document:
        raise LogError(f"{file}: expected {_EXPECTED}, got {type(document).__name__}")
    columns = _columns(document)
    if columns:
        try:
            chosen = choose(list(columns))
            return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], chosen
        except LogError:
            if names_a_column(columns):
                raise
    records = [record for key, found in document.items() for record in _visits(file, key, found)]
    return records, choose(_jsonl.names(records))


def _is_table(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(record, dict) for record in found)


def _columns(document: dict[str, Any]) -> dict[str, list[Any]] | None:
    """Columns of equal length, if that is what the values may be: lists, or objects by row number."""
    values = list(document.values())
    if all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        values = [list(value.values()) for value in values]
    alike = all(isinstance(value, list) and len(value) == len(values[0]) for value in values)
    return dict(zip(document, values, strict=True)) if alike else None


def _visits(file: File, key: str, found: Any) -> Iterator[dict[str, Any]]:
    """Records of one prompt: its only one, or those of its visits."""
    for position, entry in enumerate(found if isinstance(found, list) else [found], start=1):
        at = {POSITION: position} if isinstance(found, list) else {}
        if isinstance(entry, dict):
            yield {"prompt_id": key, **at, **entry}
        elif entry is None or isinstance(entry, (int, float, list)):
            yield {"prompt_id": key, **at, "reward": entry}
        else:
            raise LogError(f"{file}: expected {_EXPECTED}, got {entry!r:.80} under {key!r:.80}")
