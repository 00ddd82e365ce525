"""TRL: the completions that GRPOTrainer writes with ``log_completions=True``.

A file ``completions_{step:05d}.parquet`` holds step, prompt, completion, a float column a reward function, further
columns logged by the reward functions, advantage.  The step is counted after the update, so it starts at 1.

An evaluation overwrites the file of its step with its own rows, which look like those of the training.  The adapter of
kernadv keeps them apart, and logs `prompt_id` and `policy_step`, the step of the generation, whatever TRL's logging steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile, takewhile
from operator import itemgetter
from typing import ClassVar

import pyarrow as pa

from kernadv._errors import LogError
from kernadv.logs import ALIASES, Chunk, File, Query, Reader, Selection, select
from kernadv.logs._blocks import distinct, mark, runs
from kernadv.logs._files import shallowest
from kernadv.logs._parquet import schema
from kernadv.logs._stream import column_names, filled, packed, readable, stream

_NAME = re.compile(r"completions_([0-9]+)\.parquet")
_COLUMNS = {"step", "prompt", "completion", "advantage"}


class Trl(Reader):
    """Prompts are known by the column `prompt_id` if it is logged, by their text otherwise; steps by `policy_step`."""

    looks_for: ClassVar[str] = "completions_*.parquet, in the folder or in its subfolder completions"

    def detect(self, files: Sequence[File]) -> bool:
        """Look for the names of the files; of a single parquet file, for the columns."""
        if len(files) != 1 or files[0].ending != ".parquet" or files[0].folders:
            return any(_NAME.fullmatch(file.name) for file in _files(files))
        try:
            return set(column_names(files[0])) >= _COLUMNS
        except LogError:
            return False

    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield every generation once, with the step of its first dump."""

        def choose(found: Sequence[str], file: File) -> Selection:
            prompt = "prompt_id" if "prompt_id" in found else "prompt"
            step = "policy_step" if "policy_step" in found else "step"
            aliases = ALIASES | {"step": (step,), "prompt": (prompt,)}
            return select(query, found, file, aliases=aliases, rewards=_rewards(file, query))

        files = filled(_files(query.files), query, self.looks_for)
        chunks = packed(stream(files, query, choose, keep=lambda name: "." not in name))
        yield from distinct(runs(mark(chunk, {"step", chunk.selection.step}) for chunk in chunks), query)


def _files(files: Sequence[File]) -> list[File]:
    """Dumps by their names; a single file may have any other name."""
    dumps = shallowest(files, lambda file: _NAME.fullmatch(file.name) is not None)
    return dumps or [file for file in files if len(files) == 1 and file.ending == ".parquet"]


def _rewards(file: File, query: Query) -> list[str]:
    """First float columns in a row: the reward functions, and floats logged beside them, which look the same."""
    with readable(file):
        columns = schema(file)
    others = {"step", "advantage", *query.columns.values()}
    fields = [(field.name, pa.types.is_floating(field.type)) for field in columns if field.name not in others]
    return [name for name, _ in takewhile(itemgetter(1), dropwhile(lambda field: not field[1], fields))]
