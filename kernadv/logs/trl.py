"""TRL: the completions that GRPOTrainer writes with ``log_completions=True``.

A file ``completions_{step:05d}.parquet`` holds step, prompt, completion, a float column a reward function, further
columns logged by the reward functions, advantage.  The step is counted after the update, so it starts at 1.

An evaluation overwrites the file of its step with its own rows, which look like those of the training.  The adapter of
kernadv keeps them apart, and logs `prompt_id` and `policy_step`, the step of the generation, whatever TRL's logging steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile, takewhile
from operator import itemgetter
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as parquet

from kernadv._errors import LogError
from kernadv.logs import ALIASES, Chunk, Query, Reader, select
from kernadv.logs._blocks import distinct, mark, runs
from kernadv.logs._files import column_names, filled, named, numbered, stream

_PATTERN = r"completions_(\d+)\.parquet"
_COLUMNS = {"step", "prompt", "completion", "advantage"}


class Trl(Reader):
    """Prompts are known by the column `prompt_id` if it is logged, by their text otherwise; steps by `policy_step`."""

    looks_for: ClassVar[str] = "completions_*.parquet, in the folder or in its subfolder completions"

    def detect(self, path: Path) -> bool:
        """Look for the names of the files; of a single parquet file, for the columns."""
        if path.suffix != ".parquet" or path.is_dir():
            return path.is_dir() and bool(_files(path))
        try:
            return set(column_names(path)) >= _COLUMNS
        except LogError:
            return False

    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield every generation once, with the step of its first dump."""
        files = filled(_files(query.path), query.path, self.looks_for)
        found = column_names(files[0])
        prompt = "prompt_id" if "prompt_id" in found else "prompt"
        step = "policy_step" if "policy_step" in found else "step"
        aliases = ALIASES | {"step": (step,), "prompt": (prompt,)}
        selection = select(query, found, files[0], aliases=aliases, rewards=_rewards(files[0], query))
        chunks = stream(files, selection, keep=lambda name: True)
        yield from distinct(runs(mark(chunk, {"step", selection.step}) for chunk in chunks), query.notes)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return numbered(path, _PATTERN) or numbered(path / "completions", _PATTERN)


def _rewards(file: Path, query: Query) -> list[str]:
    """First float columns in a row: the reward functions, and floats logged beside them, which look the same."""
    with named(file):
        schema = parquet.read_schema(file)
    others = {"step", "advantage", *query.columns.values()}
    fields = [(field.name, pa.types.is_floating(field.type)) for field in schema if field.name not in others]
    return [name for name, _ in takewhile(itemgetter(1), dropwhile(lambda field: not field[1], fields))]
