"""Tables of Arrow as frames, with fields of structures as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import pyarrow as pa


def frame(table: Any, columns: Sequence[str]) -> pl.DataFrame:
    """Convert a table or batch to a frame with the given columns; ``a.b`` is the field b of column a.

    Dictionary columns are decoded, so that no text outlives its chunk.
    """
    table.validate(full=True)  # the readers let broken UTF-8 pass
    decoded = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    found = pl.DataFrame(pl.from_arrow(pa.table(decoded, names=table.schema.names)))
    if found.columns == list(columns):
        return found
    return found.select(pl.col(name) if name in found.columns else _field(name) for name in columns)


def field_names(fields: Any, prefix: str = "") -> Iterator[str]:
    """Yield the names of the columns, each followed by those of its fields."""
    for field in fields:
        yield prefix + field.name
        if pa.types.is_struct(field.type):
            yield from field_names(field.type, f"{prefix}{field.name}.")


def _field(name: str) -> pl.Expr:
    first, *rest = name.split(".")
    column = pl.col(first)
    for part in rest:
        column = column.struct.field(part)
    return column.alias(name)
