"""csv and tsv: every column is read as text, so that types that change half-way, and bad values, are seen where they are."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from threading import Event, Lock
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from kernadv._errors import LogError
from kernadv.logs._arrow import frame
from kernadv.logs._base import Choose, Incomplete, broken_file, cut_off
from kernadv.logs._files import File, Stream

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BLOCK = 1 << 21
#: Bytes at the end of a file among which an incomplete line is searched.
_TAIL = 1 << 20
#: Seconds after which a thread that reads ahead is idle.
_IDLE = 1.0


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
        tail, odd = _Tail(stream), []

        def skip(row: arrow_csv.InvalidRow) -> str:
            odd.append(row)
            return "skip" if len(odd) == 1 else "error"

        start = 1 + file.before
        try:
            for batch in _batches(tail, names, columns, delimiter, skip) if stream.peek(1) else ():
                yield frame(batch, columns), range(start, start + batch.num_rows), stream.done
                start += batch.num_rows
        except pa.ArrowInvalid as error:
            if "straddl" in str(error):  # of two blocks
                raise broken_file(
                    file, f"a row has more than {_BLOCK >> 20} MiB, or a quote that is not closed"
                ) from None
            raise
        finally:
            tail.end()
        del tail.file  # which holds the tail
        if odd:
            detail = f"Expected {len(names)} columns, got {odd[0].actual_columns}: {odd[0].text!r:.80}"
            if tail.is_cut_after(odd[0].text):
                raise Incomplete(str(broken_file(file, detail)), f"the last line of {file}")
            raise broken_file(file, detail)
        if stream.cut:
            raise cut_off(file)


class _Tail:
    """A stream that remembers its end, read ahead by a thread of Arrow."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._bytes, self.closed = stream, b"", False
        self._reading, self._ended, self._left = Lock(), False, Event()
        self._left.set()
        # through a buffer, so that what the thread has read is memory of Arrow, not of Python
        self.file = pa.BufferedInputStream(pa.PythonFile(self, mode="r"), _BLOCK)

    def read(self, size: int = -1) -> bytes:
        with self._reading:
            data = b"" if self._ended else self._stream.read(size)
            if data:
                self._left.clear()
            else:
                self._left.set()
            self._bytes = (self._bytes + data if len(data) < _TAIL else data)[-_TAIL:]
            return data

    def close(self) -> None:
        """Arrow closes what it has read."""
        self.closed = True

    def end(self) -> None:
        """Let nothing more be read.

        The thread leaves when it finds the end, unless it is idle.  If it needed Python while the interpreter exits, both
        would wait for each other for ever; so it also must not be the last that holds `file`.
        """
        with self._reading:
            self._ended = True
        self._left.wait(_IDLE)

    def is_cut_after(self, text: str) -> bool:
        """Say whether the stream ends in the middle of a line, which is the text."""
        ends = self._bytes.rstrip(b"\r\n").endswith(text.encode())
        return ends and (not self._bytes.endswith(b"\n") or text.count('"') % 2 == 1)


def header(stream: Any, ending: str) -> tuple[list[str], bytes]:
    """Names of the columns, which are the first record, and the lines that hold it."""
    lines: list[bytes] = []

    def texts() -> Iterator[str]:
        for line in iter(partial(stream.readline, _BLOCK), b""):
            lines.append(line)
            yield line.decode("utf-8" if lines[1:] else "utf-8-sig")

    names = next((names for names in csv.reader(texts(), delimiter=_DELIMITERS[ending]) if names), [])
    return names, b"".join(lines)


def _batches(tail: _Tail, names: list[str], columns: Sequence[str], delimiter: str, invalid: Any) -> Any:
    return arrow_csv.open_csv(
        tail.file,
        read_options=arrow_csv.ReadOptions(block_size=_BLOCK, column_names=names),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=invalid),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
