"""ms-swift: the ``completions.jsonl`` that GRPO training writes with ``log_completions``.

A line is one dump: an object of lists, with step (strings; gen_step, integers from 0, under Megatron), prompt,
completion, a list a reward function, advantages, and further lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from kernadv.logs import ALIASES, Chunk, Query, Reader, Selection, select
from kernadv.logs._base import broken_line
from kernadv.logs._blocks import distinct, mark
from kernadv.logs._files import filled
from kernadv.logs._jsonl import records, series

_FILE = "completions.jsonl"
_HEAD = 1 << 16
_ALIASES = ALIASES | {"step": ("step", "gen_step"), "prompt": ("prompt",)}


class Swift(Reader):
    """Prompts are known by their text."""

    looks_for: ClassVar[str] = f"{_FILE}, itself or in the folder, with an object of lists in each line"

    def detect(self, path: Path) -> bool:
        """Look for the name, and for a list of steps at the beginning of the file."""
        file = _file(path)
        if file.name != _FILE or not file.is_file():
            return False
        with file.open("rb") as handle:
            return re.search(rb'"(gen_)?step"\s*:\s*\[', handle.read(_HEAD)) is not None

    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield every generation once, with the step of its first dump."""
        file = filled([_file(query.path)] if _file(query.path).is_file() else [], query.path, self.looks_for)[0]
        names = next((list(record) for _, record, _ in records(file)), [])
        after = names[names.index("completion") + 1 :] if "completion" in names else []
        selection = select(query, names, file, aliases=_ALIASES, rewards=list(takewhile("advantages".__ne__, after)))
        # the entropies are those of an update, not of the generation: they differ between two dumps of one row
        ignored = {selection.step, "step", "gen_step", "entropy"}
        dumps = (_dump(file, selection, *item) for item in records(file))
        yield from distinct((mark(dump, ignored) for dump in dumps), query.notes)


def _file(path: Path) -> Path:
    return path / _FILE if path.is_dir() else path


def _dump(file: Path, selection: Selection, line: int, record: dict[str, Any], done: float) -> Chunk:
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
