"""verl: the rollouts that the trainer writes to ``trainer.rollout_data_dir``.

A file ``{step}.jsonl`` holds one trace a line: input, output, gts, score, step, and either uid (newer trainer) or the
extra infos of the reward function (older one).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import ClassVar

import numpy as np
import polars as pl

from kernadv._errors import LogError
from kernadv.logs import ALIASES, Chunk, File, Notes, Query, Reader, select
from kernadv.logs._files import shallowest
from kernadv.logs._splits import cut
from kernadv.logs._stream import column_names, filled, join, packed, stream

_NAME = re.compile(r"([0-9]{1,18})\.jsonl(\.[a-z0-9]+)?")
_ALIASES = ALIASES | {"step": ("step",), "prompt": ("input",)}
_TRAJECTORY = r"^(.+_\d+)_(\d+)$"  # {uid}_{trajectory}_{output}
_STABLE = r"^(.+)::[0-9A-Fa-f-]{36}(?:_\d+_\d+)?$"  # {data_source}/{index}::{uuid}
_PADDING = r"^pad[0-9a-f]{32}_\d+_\d+$"  # rows that fill a batch up
_DROPPED = "{n} rows dropped that verl fills its batches up with"
_NOTE = "{n} intermediate outputs dropped: of a trajectory with several outputs the last one counts"


class Verl(Reader):
    """Prompts are known by their text, because verl draws a new uid at each fetch.

    A uid of the form ``{data_source}/{index}::{uuid}``, which some set-ups write to have one that is stable, is used.
    """

    looks_for: ClassVar[str] = "files {step}.jsonl with the keys input and score"

    def detect(self, files: Sequence[File]) -> bool:
        """Look for the names of the files and the keys of the first one."""
        found = [file for file in _files(files) if file.size != 0]
        try:
            return bool(found) and set(column_names(found[0])) >= {"input", "score"}
        except LogError:
            return False

    def splits(self, query: Query) -> list[Sequence[File]]:
        """Take the files in the order of their steps."""
        return cut(filled(_files(query.files), query, self.looks_for))

    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield whole files; the step is that of the name."""
        chunks = stream(
            query.files,
            query,
            lambda found, file: select(query, found, file, aliases=_ALIASES, rewards=("score",)),
            keep="uid".__eq__,
        )
        whole = (join(list(parts)) for _, parts in groupby(chunks, key=lambda chunk: chunk.source))
        for chunk in packed(whole):
            if "step" not in query.columns:
                steps = pl.Series(chunk.selection.step, [_step(file) for file in chunk.sources], dtype=pl.Int64)
                chunk = chunk._replace(frame=chunk.frame.with_columns(steps))
            chunk = _last_outputs(_without_padding(chunk, query.notes), query.notes)
            if "prompt" not in query.columns and "uid" in chunk.frame.columns:
                stable = pl.col("uid").cast(pl.String).str.extract(_STABLE)
                prompt = pl.coalesce(stable, chunk.selection.prompt).alias(chunk.selection.prompt)
                chunk = chunk._replace(frame=chunk.frame.with_columns(prompt))
            yield chunk


def _files(files: Sequence[File]) -> list[File]:
    return shallowest(files, lambda file: _NAME.fullmatch(file.name) is not None)


def _step(file: File) -> int:
    return int(file.name.partition(".")[0])


def _without_padding(chunk: Chunk, notes: Notes) -> Chunk:
    """Drop the rows that no rollout made."""
    if "uid" not in chunk.frame.columns:
        return chunk
    padding = chunk.frame["uid"].cast(pl.String).str.contains(_PADDING).fill_null(False)
    if not padding.any():
        return chunk
    notes.add(_DROPPED, int(padding.sum()))
    return chunk.take((~padding).arg_true().to_numpy())


def _last_outputs(chunk: Chunk, notes: Notes) -> Chunk:
    """Keep one row a trajectory: the reward of its last output, the prompt of its first.

    The other outputs are steps of the same trace, and the prompt of a later one holds what was said before.
    """
    if "uid" not in chunk.frame.columns:
        return chunk
    uid, key = pl.col("uid").cast(pl.String), chunk.selection.prompt
    _, file = np.unique([id(source) for source in chunk.sources], return_inverse=True)
    rows = chunk.frame.select(
        pl.col(key).cast(pl.String),
        trajectory=uid.str.extract(_TRAJECTORY, 1),
        output=uid.str.extract(_TRAJECTORY, 2).cast(pl.Int64),
        file=pl.lit(pl.Series(file)),
    )
    one = ("file", "trajectory")
    rows = rows.select(
        last=pl.col("trajectory").is_null() | (pl.col("output") == pl.col("output").max().over(one)),
        first=pl.when(pl.col("trajectory").is_not_null()).then(pl.col(key).sort_by("output").first().over(one)),
    )
    kept = rows["last"].arg_true().to_numpy()
    if len(kept) == len(rows):
        return chunk
    notes.add(_NOTE, len(rows) - len(kept))
    frame = chunk.frame.with_columns(pl.coalesce(rows["first"], key).alias(key))
    return chunk._replace(frame=frame).take(kept)
