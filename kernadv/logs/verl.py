"""verl: the rollouts that the trainer writes to ``trainer.rollout_data_dir``.

A file ``{step}.jsonl`` holds one trace a line: input, output, gts, score, step, and either uid (newer trainer) or the
extra infos of the reward function (older one).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress, groupby
from pathlib import Path
from typing import ClassVar

import polars as pl

from kernadv._errors import LogError
from kernadv.logs import ALIASES, Chunk, Notes, Query, Reader, select
from kernadv.logs._files import column_names, filled, numbered, stream

_PATTERN = r"(\d+)\.jsonl"
_ALIASES = ALIASES | {"step": ("step",), "prompt": ("input",)}
_TRAJECTORY = r"^(.+_\d+)_(\d+)$"  # {uid}_{trajectory}_{output}
_STABLE = r"^(.+)::[0-9A-Fa-f-]{36}(?:_\d+_\d+)?$"  # {data_source}/{index}::{uuid}
_NOTE = "{n} intermediate outputs dropped: of a trajectory with several outputs the last one counts"


class Verl(Reader):
    """Prompts are known by their text, because verl draws a new uid at each fetch.

    A uid of the form ``{data_source}/{index}::{uuid}``, which some set-ups write to have one that is stable, is used.
    """

    looks_for: ClassVar[str] = "files {step}.jsonl with the keys input and score"

    def detect(self, path: Path) -> bool:
        """Look for the names of the files and the keys of the first one."""
        files = [file for file in _files(path) if file.stat().st_size]
        try:
            return bool(files) and set(column_names(files[0])) >= {"input", "score"}
        except LogError:
            return False

    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield the files in the order of their steps; the step is that of the name."""
        files = filled(_files(query.path), query.path, self.looks_for)
        selection = select(query, column_names(files[0]), files[0], aliases=_ALIASES, rewards=("score",))
        for file, chunks in groupby(stream(files, selection, keep="uid".__eq__), key=lambda chunk: chunk.source):
            for chunk in _last_outputs(list(chunks), query.notes):
                frame = chunk.frame
                if "step" not in query.columns:
                    frame = frame.with_columns(pl.lit(int(file.stem)).alias(selection.step))
                if "prompt" not in query.columns and "uid" in frame.columns:
                    stable = pl.col("uid").cast(pl.String).str.extract(_STABLE)
                    frame = frame.with_columns(pl.coalesce(stable, selection.prompt).alias(selection.prompt))
                yield chunk._replace(frame=frame)


def _files(path: Path) -> list[Path]:
    return numbered(path, _PATTERN)


def _last_outputs(chunks: list[Chunk], notes: Notes) -> list[Chunk]:
    """Keep one row a trajectory: the reward of its last output, the prompt of its first.

    The other outputs are steps of the same trace, and the prompt of a later one holds what was said before.
    """
    if "uid" not in chunks[0].frame.columns:
        return chunks
    key = chunks[0].selection.prompt
    rows = pl.concat([chunk.frame.select(pl.col("uid", key).cast(pl.String)) for chunk in chunks])
    rows = rows.with_columns(
        trajectory=pl.col("uid").str.extract(_TRAJECTORY, 1),
        output=pl.col("uid").str.extract(_TRAJECTORY, 2).cast(pl.Int64),
    ).select(
        last=pl.col("trajectory").is_null() | (pl.col("output") == pl.col("output").max().over("trajectory")),
        first=pl.when(pl.col("trajectory").is_not_null()).then(
            pl.col(key).sort_by("output").first().over("trajectory")
        ),
    )
    dropped = len(rows) - int(rows["last"].sum())
    if not dropped:
        return chunks
    notes.add(_NOTE, dropped)
    kept, start = [], 0
    for chunk in chunks:
        part = rows[start : start + len(chunk.frame)]
        frame = chunk.frame.with_columns(pl.coalesce(part["first"], key).alias(key)).filter(part["last"])
        kept.append(chunk._replace(frame=frame, rows=list(compress(chunk.rows, part["last"]))))
        start += len(part)
    return kept
