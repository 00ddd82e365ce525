"""Parquet, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
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
    with file.seekable() as source:
        _check_end(file, source)
        with parquet.ParquetFile(source, pre_buffer=False) as found:
            columns, _ = choose(list(field_names(found.schema_arrow)))
            groups = range(found.num_row_groups) if file.row_groups is None else file.row_groups
            n_rows = sum(_group_rows(found.metadata, groups))
            start = first = 1 + file.before
            for batch in found.iter_batches(batch_size=_ROWS, row_groups=list(groups), columns=columns):
                end = start + batch.num_rows
                yield frame(batch, columns), range(start, end), (end - first) / n_rows
                start = end


def pieces(file: File, rows: int) -> list[File]:
    """Cut a file at its row groups into pieces of at least so many rows, apart from the last."""
    try:
        with file.seekable() as source:
            about = parquet.read_metadata(source)
    except (pa.ArrowException, OSError):  # whoever reads it will say so
        return [file]
    ends = np.cumsum(list(_group_rows(about, range(about.num_row_groups))))
    found, group, before = [], 0, 0
    while group < len(ends):
        end = min(int(np.searchsorted(ends, before + rows)), len(ends) - 1) + 1
        size = (file.size or 0) * (int(ends[end - 1]) - before) // int(ends[-1])
        found.append(replace(file, size=size, before=before, row_groups=range(group, end)))
        group, before = end, int(ends[end - 1])
    return found or [file]


def schema(file: File) -> pa.Schema:
    """Return the names and types of the columns."""
    with file.seekable() as source:
        return parquet.read_schema(source)


def _group_rows(about: Any, groups: range) -> Iterator[int]:
    return (about.row_group(group).num_rows for group in groups)


def _check_end(file: File, source: Any) -> None:
    """Raise if the footer, which is written last, is not there."""
    size = source.seek(0, 2)
    source.seek(max(size - len(_END), 0))
    if source.read(len(_END)) != _END:
        raise Incomplete(str(broken_file(file, "it has no footer of a parquet file")), str(file))
    source.seek(0)
