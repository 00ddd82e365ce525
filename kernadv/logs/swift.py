"""ms-swift: the ``completions.jsonl`` that GRPO training writes with ``log_completions``.

A line is one dump: an object of lists, with step (strings; gen_step, integers from 0, under Megatron), prompt,
completion, a list a reward function, advantages, and further lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, ClassVar

import polars as pl

from kernadv.logs import ALIASES, Chunk, File, Query, Reader, Selection, select
from kernadv.logs._base import broken_line
from kernadv.logs._blocks import distinct, mark
from kernadv.logs._files import shallowest
from kernadv.logs._jsonl import objects, series
from kernadv.logs._stream import filled, readable

_FILE = "completions.jsonl"
_HEAD = 1 << 16
_ALIASES = ALIASES | {"step": ("step", "gen_step"), "prompt": ("prompt",)}


class Swift(Reader):
    """Prompts are known by their text."""

    looks_for: ClassVar[str] = f"{_FILE}, itself or in the folder, with an object of lists in each line"

    def detect(self, files: Sequence[File]) -> bool:
        """Look for the name, and for a list of steps at the beginning of the file."""
        for file in _files(files)[:1]:
            with file.open() as stream:
                return re.search(rb'"(gen_)?step"\s*:\s*\[', stream.read(_HEAD)) is not None
        return False

    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield every generation once, with the step of its first dump."""
        files = filled(_files(query.files), query, self.looks_for)
        dumps = (dump for k, file in enumerate(files) for dump in _dumps(query, file, k / len(files), len(files)))
        yield from distinct(dumps, query)


def _files(files: Sequence[File]) -> list[File]:
    return shallowest(files, lambda file: file.name.startswith(_FILE) and file.ending == ".jsonl")


def _dumps(query: Query, file: File, before: float, n_files: int) -> Iterator[Chunk]:
    """Yield the lines of a file as marked chunks."""
    memory = query.memory
    with readable(file, query.notes, lambda: memory.selection is None):
        for line, record, done in objects(file):
            if memory.selection is None:
                names = list(record)
                after = names[names.index("completion") + 1 :] if "completion" in names else []
                rewards = list(takewhile("advantages".__ne__, after))
                memory.selection = select(query, names, file, aliases=_ALIASES, rewards=rewards)
            selection = memory.selection
            # the entropies are those of an update, not of the generation: they differ between two dumps of one row
            ignored = {selection.step, "step", "gen_step", "entropy"}
            yield mark(_dump(file, selection, line, record, before + done / n_files), ignored)


def _dump(file: File, selection: Selection, line: int, record: dict[str, Any], done: float) -> Chunk:
    """Build the frame of one line from its lists; those of another length than the steps are ignored."""
    steps = record.get(selection.step)
    if not isinstance(steps, list):
        raise broken_line(file, line, f"{selection.step!r} must be a list, as a dump of ms-swift has it")
    lists = {key: value for key, value in record.items() if isinstance(value, list) and len(value) == len(steps)}
    short = [name for name in selection.names if name not in lists]
    if short:
        raise broken_line(file, line, f"expected lists of {len(steps)} entries for {', '.join(short)}")
    frame = pl.DataFrame({name: series(values) for name, values in lists.items()})
    return Chunk(frame, selection, file, [line] * len(steps), done)
