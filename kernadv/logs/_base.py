"""What every reader of a reward log shares: the question asked, the chunks that answer it, the result, and its errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from kernadv._errors import LogError, printable
from kernadv.groups import Groups
from kernadv.logs._order import RowOrder
from kernadv.typing import AnyArray, FloatArray, IntArray

if TYPE_CHECKING:
    import polars as pl

    from kernadv.baselines import Traces
    from kernadv.logs._files import File
    from kernadv.logs._steps import StepRule

#: What may be done with steps that come again.
ON_REPEAT = ("error", "last", "offset", "merge")
#: Who may read a log.
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class RewardLog:
    """The rewards of a finished or running training run, reduced to groups.

    Attributes
    ----------
    groups : Groups
        One row a (prompt, step), sorted by prompt, then by step; prompts are numbered in their order of appearance.
        Rewards are relative to `origin`.
    prompts : list of str or list of int, length P
        Id of the prompt of each row number.  A text of more than 64 characters is represented by its SHA-256 digest.
    value : (N,) float64 or None
        True value of each group (mean over its traces) relative to `origin`, when a column holds it; None otherwise.
    n_rows : int
        Rows read, unscorable ones included; rows that a note calls intermediate, or dumped again, do not count.
    format : str
        Its name.
    source : str
        What was read: the paths as they were given.
    notes : tuple of str
        What a reader of the numbers should know: rows dropped, columns chosen, a clock shifted.
    order : RowOrder
        What the order of the rows says.
    origin : float
        Reward from which rewards and values are counted: the first one if it is far from 0, where squares lose digits; 0
        otherwise.
    traces : Traces or None
        The single traces, with rewards relative to `origin`, and a weight each if a column holds it.  None if they were not
        to be kept; if the rows of the log are groups; or if steps came again and not all rows count as they stand.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from kernadv.logs import read_log
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.csv")
    ...     written = path.write_text("step,prompt,reward\\n0,a,1\\n0,a,\\n1,b,1\\n")
    ...     log = read_log(path)
    >>> log.n_rows, log.notes
    (3, ('rows without a reward, dropped: 1', 'the steps of the log start at 0: all are shifted by 1'))
    """

    groups: Groups
    prompts: list[str] | list[int]
    value: FloatArray | None
    n_rows: int
    format: str
    source: str
    notes: tuple[str, ...]
    order: RowOrder = field(default_factory=RowOrder)
    origin: float = 0.0
    traces: Traces | None = None


class Notes(Counter[str]):
    """Remarks in the order of their first appearance; `{n}` in a remark stands for the sum of its counts.

    Examples
    --------
    >>> from kernadv.logs import Notes
    >>> notes, others = Notes(), Notes()
    >>> notes.add("{n} rows have no reward", 2)
    >>> others.add("{n} rows have no reward", 998)
    >>> notes.extend(others)
    >>> notes.texts()
    ('1,000 rows have no reward',)
    """

    def add(self, text: str, count: int = 1) -> None:
        """Count a remark; nothing is noted when the count is 0."""
        if count:
            self[text] += count

    def extend(self, others: Notes) -> None:
        """Add the remarks on what follows."""
        for text, count in others.items():
            self.add(text, count)

    def texts(self) -> tuple[str, ...]:
        """Return the remarks with their counts filled in, and with escapes for what a terminal would obey."""
        return tuple(printable(text.replace("{n}", f"{count:,}")) for text, count in self.items())


@dataclass
class Memory:
    """What reading a log leaves to the reading of what is added to it.

    Attributes
    ----------
    selection : Selection or None
        The columns that were chosen; None before the first row.
    marks : (M,) uint64
        Hashes of the rows of the last generation, see `kernadv.logs._blocks.distinct`.
    step : object
        Its step.
    """

    selection: Selection | None = None
    marks: AnyArray = field(default_factory=lambda: np.empty(0, np.uint64))
    step: object = None


@dataclass(frozen=True)
class Query:
    """What the caller asked for.

    Attributes
    ----------
    source : str
        What to call the log: the paths as they were given.
    files : sequence of File
        All files found there, also those of other formats; of one of the `Reader.splits`, those to be read.
    columns : mapping of role (step, prompt, reward, value) to column
        Columns named by the caller; the others are found by the reader.
    steps : StepRule
        How a step is had from its column.
    counts : (str, str) or None
        Columns of the number of correct and of all traces, when a row is a group.
    traces : int or None
        Number of traces whose mean a reward is, when a row is a group.
    rewards : mapping of column to weight, or None
        Reward columns chosen by the caller; None leaves the choice to the reader.
    notes : Notes
        Where a reader leaves its remarks.
    on_repeat : str
        What is done with steps that come again, one of `ON_REPEAT`.
    keep_traces : bool
        Whether the single traces are kept beside the groups.
    memory : Memory
        What was read before.

    Examples
    --------
    >>> from kernadv.logs import Notes, Query
    >>> from kernadv.logs._steps import StepRule  # steps that are numbers
    >>> query = Query("run.csv", [], {"prompt": "question"}, StepRule(), None, None, None, Notes())
    >>> query.columns["prompt"], query.on_repeat
    ('question', 'error')
    """

    source: str
    files: Sequence[File]
    columns: Mapping[str, str]
    steps: StepRule
    counts: tuple[str, str] | None
    traces: int | None
    rewards: Mapping[str, float] | None
    notes: Notes
    on_repeat: str = "error"
    keep_traces: bool = False
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True)
class Selection:
    """The columns to read: `rewards` maps a column to its weight and is empty when `counts` is given.

    Examples
    --------
    >>> from kernadv.logs import Selection
    >>> Selection("step", "uid", {"acc": 1.0, "format": 0.1}, value=None, counts=None).names
    ['step', 'uid', 'acc', 'format']
    """

    step: str
    prompt: str
    rewards: Mapping[str, float]
    value: str | None
    counts: tuple[str, str] | None
    weight: str | None = None

    @property
    def names(self) -> list[str]:
        """Every selected column, once."""
        named = (self.step, self.prompt, *self.rewards, *(self.counts or ()), self.value, self.weight)
        return list(dict.fromkeys(name for name in named if name is not None))


class Chunk(NamedTuple):
    """Some consecutive rows of a log.

    Attributes
    ----------
    frame : polars.DataFrame
        The selected columns (others may be there), as the log has them: values are checked later, in one place.
    selection : Selection
        Which column plays which role.
    source : File or (M,) array of File
        The file, or that of each row of the frame.
    rows : (M,) sequence of int
        Row number in the file of each row of the frame, 1-based: line of a jsonl file, record of another.
    done : float
        Fraction of the whole log that has been read after this chunk.

    Examples
    --------
    >>> import polars as pl
    >>> from kernadv.logs import Chunk, File, Selection
    >>> frame = pl.DataFrame({"step": [1, 1], "uid": ["a", "b"], "acc": [1.0, 0.0]})
    >>> file = File("run.csv", None, "run.csv")
    >>> chunk = Chunk(frame, Selection("step", "uid", {"acc": 1.0}, None, None), file, rows=[2, 3], done=1.0)
    >>> chunk.place(1), chunk.take(slice(0, 1)).frame["uid"].to_list(), len(chunk.sources)
    ('run.csv, row 3', ['a'], 2)
    """

    frame: pl.DataFrame
    selection: Selection
    source: File | npt.NDArray[np.object_]
    rows: Sequence[int] | IntArray
    done: float

    @property
    def sources(self) -> npt.NDArray[np.object_]:
        """The file of each row."""
        return self.source if isinstance(self.source, np.ndarray) else np.full(len(self.frame), self.source, object)

    def place(self, at: int) -> str:
        """Return where a row of the frame is in the log."""
        return f"{self.sources[at]}, row {self.rows[at]}"

    def take(self, index: slice | IntArray) -> Chunk:
        """Return some of the rows."""
        source = self.source[index] if isinstance(self.source, np.ndarray) else self.source
        return self._replace(frame=self.frame[index], source=source, rows=np.asarray(self.rows)[index])


class Absent(LogError):
    """There is nothing to read, as before a run writes its first row."""


class Incomplete(LogError):
    """The end of a file is missing, as it is while a run is writing it.

    Attributes
    ----------
    what : str
        What is to be left out.
    """

    def __init__(self, message: str, what: str) -> None:
        super().__init__(message)
        self.what = what

    def __reduce__(self) -> tuple[type[Incomplete], tuple[str, str]]:
        return Incomplete, (str(self), self.what)


Choose = Callable[[list[str]], tuple[list[str], Collection[str]]]
"""Says which of the columns of a file are read, and the integers of which of them stay exact: of the step and the prompt."""


class Reader(ABC):
    """One log format.  A public module of this package that defines a subclass adds a format, which is called as the module.

    Attributes
    ----------
    looks_for : str
        What `detect` looks for, in words; shown when no format is detected.
    fallback : bool
        True for a reader that is asked only when no other recognises the log.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import polars as pl
    >>> from kernadv.logs import Chunk, File, Notes, Query, Reader, select
    >>> from kernadv.logs._steps import StepRule
    >>> class Pipes(Reader):
    ...     looks_for = "a file ending in .pipes"
    ...     def detect(self, files):
    ...         return files[0].ending == ".pipes"
    ...     def frames(self, query):
    ...         for file in query.files:
    ...             frame = pl.read_csv(file.open().read(), separator="|")
    ...             rows = range(2, len(frame) + 2)
    ...             yield Chunk(frame, select(query, frame.columns, file), file, rows, done=1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.pipes")
    ...     written = path.write_text("step|prompt|reward\\n1|a|1\\n")
    ...     query = Query("run.pipes", [File(str(path), None, folder)], {}, StepRule(), None, None, None, Notes())
    ...     print(Pipes().detect(query.files), len(Pipes().splits(query)), next(Pipes().frames(query)).selection.prompt)
    True 1 prompt
    """

    looks_for: ClassVar[str]
    fallback: ClassVar[bool] = False

    @abstractmethod
    def detect(self, files: Sequence[File]) -> bool:
        """Say whether the log is of this format, from the names of its files and a look at the first."""

    def splits(self, query: Query) -> list[Sequence[File]]:
        """Return the files to be read, in splits that can be read apart; one if no row can be read without those before."""
        return [query.files]

    @abstractmethod
    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield a split, which is the files of the query, chunk by chunk, in bounded memory."""


def broken_line(source: object, line: int, detail: str) -> LogError:
    """Build the error for a line that is not the JSON expected."""
    return LogError(f"{source}, line {line}: {detail}; repair or remove the line")


def broken_file(source: object, detail: str) -> LogError:
    """Build the error for a file that cannot be parsed."""
    return LogError(f"{source} is truncated or broken: {detail}; restore the file or leave it out")


BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""First bytes of a text in UTF-16."""


def not_utf8(source: object, found: bytes) -> LogError:
    """Build the error for a text in another encoding."""
    if found.startswith(BYTE_ORDER_MARKS):
        name, code = "UTF-16, as some programs of Windows write it", "UTF-16"
    else:
        name, code = "not UTF-8, perhaps Latin-1, as Excel writes it", "LATIN1"
    return LogError(f"{source} is {name}; save it as UTF-8, or run: iconv -f {code} -t UTF-8 FILE > NEW")


def cut_off(source: object) -> Incomplete:
    """Build the error for compressed data without an end."""
    return Incomplete(str(broken_file(source, "the compressed data end too early")), f"what was to follow in {source}")


def without_rows(path: object) -> Absent:
    """Build the error for a log that is empty."""
    return Absent(f"{path}: the log is empty, expected at least one row with a step, a prompt and a reward")


def some(names: Iterable[str], most: int = 10) -> str:
    """List the first names, and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(listed[:most]) + rest) or "nothing"
