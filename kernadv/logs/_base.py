"""What every reader of a reward log shares: the question asked, the chunks that answer it, the result, and its errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kernadv._errors import LogError
from kernadv._typing import FloatArray
from kernadv.groups import Groups
from kernadv.logs._order import RowOrder

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class RewardLog:
    """The rewards of a finished or running training run, reduced to groups.

    Attributes
    ----------
    groups : Groups
        One row a (prompt, step), sorted by prompt, then by step; prompts are numbered in their order of appearance.
    prompts : list of str or list of int, length P
        Id of the prompt of each row number.  A text of more than 64 characters is represented by its SHA-256 digest.
    value : (N,) float64 or None
        True value of each group (mean over its traces), when a column holds it; None otherwise.
    n_rows : int
        Rows read, unscorable ones included; rows that a note calls intermediate, or dumped again, do not count.
    format : str
        Its name.
    source : Path
        What was read.
    notes : tuple of str
        What a reader of the numbers should know: rows dropped, columns chosen, a clock shifted.
    order : RowOrder
        What the order of the rows says.
    origin : float
        Reward from which rewards and values are counted: the first one if it is far from 0, where squares lose digits; 0
        otherwise.
    """

    groups: Groups
    prompts: list[str] | list[int]
    value: FloatArray | None
    n_rows: int
    format: str
    source: Path
    notes: tuple[str, ...]
    order: RowOrder = field(default_factory=RowOrder)
    origin: float = 0.0


class Notes(Counter[str]):
    """Remarks in the order of their first appearance; `{n}` in a remark stands for the sum of its counts."""

    def add(self, text: str, count: int = 1) -> None:
        """Count a remark; nothing is noted when the count is 0."""
        if count:
            self[text] += count

    def texts(self) -> tuple[str, ...]:
        """Return the remarks with their counts filled in."""
        return tuple(text.replace("{n}", f"{count:,}") for text, count in self.items())


@dataclass(frozen=True)
class Query:
    """What the caller asked for.

    Attributes
    ----------
    path : Path
        File or folder of the log.
    columns : mapping of role (step, prompt, reward, value) to column
        Columns named by the caller; the others are found by the reader.
    counts : (str, str) or None
        Columns of the number of correct and of all traces, when a row is a group.
    rewards : mapping of column to weight, or None
        Reward columns chosen by the caller; None leaves the choice to the reader.
    notes : Notes
        Where a reader leaves its remarks.
    """

    path: Path
    columns: Mapping[str, str]
    counts: tuple[str, str] | None
    rewards: Mapping[str, float] | None
    notes: Notes


@dataclass(frozen=True)
class Selection:
    """The columns to read: `rewards` maps a column to its weight and is empty when `counts` is given."""

    step: str
    prompt: str
    rewards: Mapping[str, float]
    value: str | None
    counts: tuple[str, str] | None

    @property
    def names(self) -> list[str]:
        """Every selected column, once."""
        names = [self.step, self.prompt, *self.rewards, *(self.counts or ()), *([self.value] if self.value else [])]
        return list(dict.fromkeys(names))


class Chunk(NamedTuple):
    """Some consecutive rows of a log.

    Attributes
    ----------
    frame : polars.DataFrame
        The selected columns (others may be there), as the log has them: values are checked later, in one place.
    selection : Selection
        Which column plays which role.
    source : Path
        The file.
    rows : sequence of int
        Row number in the file of each row of the frame, 1-based: line of a jsonl file, record of a csv or parquet file.
    done : float
        Fraction of the whole log that has been read after this chunk.
    """

    frame: pl.DataFrame
    selection: Selection
    source: Path
    rows: Sequence[int]
    done: float


class Reader(ABC):
    """One log format.  A public module of this package that defines a subclass adds a format, which is called as the module.

    Attributes
    ----------
    looks_for : str
        What `detect` looks for, in words; shown when no format is detected.
    fallback : bool
        True for a reader that is asked only when no other recognises the log.
    """

    looks_for: ClassVar[str]
    fallback: ClassVar[bool] = False

    @abstractmethod
    def detect(self, path: Path) -> bool:
        """Say whether the file or folder is of this format, from names and schemas only."""

    @abstractmethod
    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield the log chunk by chunk, in bounded memory."""


def missing_columns(
    missing: Mapping[str, str | None], found: Iterable[str], source: object, tried: Mapping[str, Iterable[str]]
) -> LogError:
    """Build the error for absent columns: role -> column that the caller named, or None if names were tried."""
    parts = []
    for role, column in missing.items():
        if column is not None:
            parts.append(f"no column {column!r} (for {role})")
        else:
            parts.append(f"no {role} column (tried {', '.join(tried[role])}): name it with --map {role}=COLUMN")
    return LogError(f"{source}: {'; '.join(parts)}. Columns found: {some(found, 40)}")


def broken_line(source: object, line: int, detail: str) -> LogError:
    """Build the error for a line that is not the JSON expected."""
    return LogError(f"{source}, line {line}: {detail}; repair or remove the line")


def without_rows(path: object) -> LogError:
    """Build the error for a log that is empty."""
    return LogError(f"{path}: the log is empty, expected at least one row with a step, a prompt and a reward")


def some(names: Iterable[str], most: int = 10) -> str:
    """List the first names, and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(listed[:most]) + rest) or "nothing"
