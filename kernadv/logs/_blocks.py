"""Blocks: what one logging call of a trainer dumped.

Trainers that keep the last generation in a queue dump it again at every logging step until the next generation, under
the new step; and one that is still filling a column dumps the first rows of it only, and all of them later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import polars as pl

from kernadv.logs._base import Chunk, Query
from kernadv.logs._stream import join
from kernadv.logs._values import canonical_texts

_MARK = "__mark__"
_NOTE = "{n} rows dropped that were dumped again by a later logging step"


def mark(chunk: Chunk, ignored: Iterable[str]) -> Chunk:
    """Keep the selected columns of a chunk, and of the others only a hash of each row.

    Parameters
    ----------
    chunk : Chunk
        Rows with all columns of the log.
    ignored : iterable of str
        Columns that may differ between two dumps of the same row.
    """
    columns = chunk.frame.drop(ignored, strict=False).get_columns()
    content = pl.DataFrame([canonical_texts(series) if series.dtype.is_nested() else series for series in columns])
    frame = chunk.frame.select(chunk.selection.names).with_columns(content.hash_rows().alias(_MARK))
    return chunk._replace(frame=frame)


def runs(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Cut and join marked chunks to the longest runs of one step in one file."""
    run: list[Chunk] = []
    for chunk in chunks:
        step, source = chunk.frame[chunk.selection.step], chunk.sources
        is_new = step.ne_missing(step.shift(1)).to_numpy()[1:] | (source[1:] != source[:-1])
        cuts = [0, *(np.flatnonzero(is_new) + 1).tolist(), len(step)]
        for start, end in pairwise(cuts):
            part = chunk.take(slice(start, end))._replace(source=source[start])
            if run and not (run[0].source is part.source and _step(run[0]) == _step(part)):
                yield join(run)
                run = []
            run.append(part)
    if run:
        yield join(run)


def distinct(blocks: Iterable[Chunk], query: Query) -> Iterator[Chunk]:
    """Yield every generation once, with the step of its first dump.

    A block that equals the one before, apart from the step, is the same generation; so is one that begins with all rows
    of the one before, and then only its further rows are new.
    """
    memory = query.memory
    for block in blocks:
        marks = block.frame[_MARK].to_numpy()
        seen = len(memory.marks)
        if not (seen and np.array_equal(marks[:seen], memory.marks)):
            seen, memory.step = 0, _step(block)
        memory.marks = marks
        query.notes.add(_NOTE, seen)
        if seen < len(marks):
            new = block.take(slice(seen, None))
            new.frame.drop_in_place(_MARK)
            name = block.selection.step
            new.frame.replace_column(new.frame.columns.index(name), pl.Series(name, [memory.step] * len(new.frame)))
            yield new


def _step(block: Chunk) -> object:
    """Step of the first row."""
    return block.frame[block.selection.step][0]
