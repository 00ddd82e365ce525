"""Parquet, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet

from kernadv.logs._arrow import field_names, frame
from kernadv.logs._base import Choose, Incomplete, broken_file
from kernadv.logs._files import File

_ROWS = 1 << 15
_END = b"PAR1"


def tables(file: File, choose: Choose) -> Iterator[tuple[pl.DataFrame, Sequence[int], float]]:
    """Yield frames of the chosen columns, with their row numbers and the fraction of the file that is done."""
    start = 1
    with file.seekable() as source:
        _check_end(file, source)
        with parquet.ParquetFile(source, pre_buffer=False) as found:
            columns, _ = choose(list(field_names(found.schema_arrow)))
            for batch in found.iter_batches(batch_size=_ROWS, columns=columns):
                end = start + batch.num_rows
                yield frame(batch, columns), range(start, end), (end - 1) / found.metadata.num_rows
                start = end


def schema(file: File) -> pa.Schema:
    """Return the names and types of the columns."""
    with file.seekable() as source:
        return parquet.read_schema(source)


def _check_end(file: File, source: Any) -> None:
    """Raise if the footer, which is written last, is not there."""
    size = source.seek(0, 2)
    source.seek(max(size - len(_END), 0))
    if source.read(len(_END)) != _END:
        raise Incomplete(str(broken_file(file, "it has no footer of a parquet file")), str(file))
    source.seek(0)
