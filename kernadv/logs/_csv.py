"""csv and tsv: every column is read as text, so that types that change half-way, and bad values, are seen where they are."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from kernadv._errors import LogError
from kernadv.logs._arrow import frame
from kernadv.logs._base import Choose, Incomplete, broken_file, cut_off
from kernadv.logs._files import File, Stream

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BLOCK = 1 << 21


def tables(file: File, choose: Choose) -> Iterator[tuple[pl.DataFrame, Sequence[int], float]]:
    """Yield frames of the chosen columns, with their record numbers and the fraction of the file that is done."""
    delimiter = _DELIMITERS[file.ending]
    with file.open() as stream:
        names, _ = header(stream, file.ending)
        if not names:
            return
        if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
            raise LogError(
                f"{file}: the columns seem to be separated by {other!r}, expected {delimiter!r}; save the file with commas "
                "between the columns and points in the numbers (or, with tabs, as .tsv)"
            )
        columns, _ = choose(names)
        twice = [name for name in columns if names.count(name) > 1]
        if twice:
            raise LogError(f"{file}: column {twice[0]!r} is there twice; rename one of them")
        odd: list[arrow_csv.InvalidRow] = []

        def skip(row: arrow_csv.InvalidRow) -> str:
            odd.append(row)
            return "skip"

        start = 1 + file.before
        for block, has_end in _blocks(file, stream, delimiter):
            found = _parsed(block, names, columns, delimiter, skip)
            yield frame(found, columns), range(start, start + found.num_rows), stream.done
            start += found.num_rows
            if odd:
                broken = broken_file(
                    file, f"Expected {len(names)} columns, got {odd[0].actual_columns}: {odd[0].text!r:.80}"
                )
                raise broken if has_end else Incomplete(str(broken), f"the last line of {file}")
        if stream.cut:
            raise cut_off(file)


def header(stream: Any, ending: str) -> tuple[list[str], bytes]:
    """Names of the columns, which are the first record, and the lines that hold it."""
    lines: list[bytes] = []

    def texts() -> Iterator[str]:
        for line in iter(partial(stream.readline, _BLOCK), b""):
            lines.append(line)
            yield line.decode("utf-8" if lines[1:] else "utf-8-sig")

    names = next((names for names in csv.reader(texts(), delimiter=_DELIMITERS[ending]) if names), [])
    return names, b"".join(lines)


def _blocks(file: File, stream: Stream, delimiter: str) -> Iterator[tuple[bytes, bool]]:
    """Yield some whole records at a time, and last what has no end, with whether they have one."""
    rest, quoted = b"", False
    while data := stream.read(_BLOCK):
        block = rest + data
        end, quoted = _records(block, delimiter)
        rest = block[end:]
        if len(rest) > _BLOCK:
            raise broken_file(file, f"a row has more than {_BLOCK >> 20} MiB, or a quote that is not closed")
        if end:
            yield block[:end], True
    if quoted:
        raise Incomplete(str(broken_file(file, "a quote is not closed")), f"the last line of {file}")
    if rest:
        yield rest, False


def _records(block: bytes, delimiter: str) -> tuple[int, bool]:
    """Where the last record with an end has it, and whether the block ends in quotes."""
    if b'"' not in block:
        return max(block.rfind(b"\n"), block.rfind(b"\r")) + 1, False
    from kernadv.logs._quotes import scan  # needs numba

    found = np.zeros(2, np.int64)
    scan(np.frombuffer(block, np.uint8), ord(delimiter), found)
    return int(found[0]), bool(found[1])


def _parsed(block: bytes, names: list[str], columns: Sequence[str], delimiter: str, invalid: Any) -> pa.Table:
    return arrow_csv.read_csv(
        pa.BufferReader(block),
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=len(block), column_names=names),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=invalid),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
