"""Readers of reward logs: what training frameworks write, and plain tables, become groups.

A format is a public module of this package, called as the module, whose `Reader` finds and yields the log.  Needs the extra
``kernadv[audit]`` (polars, pyarrow).
"""

from __future__ import annotations

import importlib
import math
import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import accumulate

import numpy as np

from kernadv._errors import (
    ArgumentError,
    ArgumentTypeError,
    LogError,
    check_choice,
    check_count,
    check_flag,
    check_range,
    import_extra,
    printable,
)
from kernadv.logs._base import (
    ENGINES,
    ON_REPEAT,
    Absent,
    Chunk,
    Incomplete,
    Notes,
    Query,
    Reader,
    RewardLog,
    Selection,
    some,
)
from kernadv.logs._columns import ALIASES, ROLES, select
from kernadv.logs._files import File, find, places
from kernadv.logs._growth import Growth, Replaced
from kernadv.logs._order import RowOrder
from kernadv.typing import FloatArray, IntArray

__all__ = [
    "ALIASES",
    "Chunk",
    "File",
    "Notes",
    "Query",
    "Reader",
    "Replaced",
    "RewardLog",
    "RowOrder",
    "Selection",
    "Tail",
    "formats",
    "places",
    "read_log",
    "select",
]


def __dir__() -> list[str]:
    return __all__


def read_log(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    step_every: str | timedelta | None = None,
    counts: tuple[str, str] | None = None,
    traces: int | None = None,
    rewards: Sequence[str] | Mapping[str, float] | None = None,
    on_repeat: str = "error",
    keep_traces: bool = False,
    engine: str = "local",
    progress: Callable[[float, int], None] | None = None,
) -> RewardLog:
    """Read the rewards of a training run, in bounded memory, and reduce them to groups.

    Parameters
    ----------
    path : str, Path, or sequence of them
        A file, a folder, a pattern such as ``"runs/node*/*.jsonl"``, a URL that fsspec knows (``s3://``, ``hf://``,
        ``https://``, ...) or ``"-"`` for standard input; or several of these that hold one run.  Files may be compressed
        (gz, bz2, xz, zst).
    format : str, optional
        One of `formats`; detected by default.
    columns : mapping, optional
        Role to column: ``{"step": "iteration", "prompt": "qid", "reward": "acc"}``.  A role that is not named is
        searched among the names of `ALIASES`, in their order: step, global_step, iteration, ...; prompt_id, prompt,
        uid, problem_id, ...; reward, score, ....  ``"value"`` names the true value of the prompt, where it is known;
        ``"weight"`` a positive weight of the trace, such as the length of the response.
        ``"parts.total"`` is the field total of the column parts.  For the step, ``"path"`` reads N from ``step_N`` or
        ``checkpoint-N`` in the path of the file, which is also done without it where no column is found; and
        ``"rank:timestamp"`` ranks the distinct numbers or times of a column.
    step_every : str or timedelta, optional
        Duration of a step, such as ``"30s"``, ``"10m"``, ``"1h"``, ``"1d"``, ``"1w"``: the column of the step then holds
        times (ISO, or seconds since 1970), and the steps are the periods counted from the first one.
    counts : (str, str), optional
        Columns of the number of correct and of all traces: a row is then a group with 0/1 rewards.
    traces : int, optional
        Number of traces, when a reward is the mean of that many 0/1 rewards.  A list of rewards needs no option: it holds
        those of a group.
    rewards : sequence of str, or mapping of str to float, optional
        Reward columns to sum, with their weights.  By default all those of the log, with weight 1.
    on_repeat : str
        What to do with steps that come again: "error" raises; "last": of such a step only the last rows count (a resumed
        run, or a file that is there twice); "offset": the steps go on after those before (a count that began anew);
        "merge": rows of the same prompt and step count as one group (several writers).
    keep_traces : bool
        Keep the single traces, 32 bytes each, beside the groups: some baselines read them.  They are also kept if a column
        of weights is named.
    engine : str
        Who reads: "local", this process; or "ray", the workers of a Ray cluster, the one that is running or that the
        environment variable RAY_ADDRESS names, else one on this machine.  The result is the same.  All machines must see
        the files under the same paths.  Needs the extra ``kernadv[ray]``.
    progress : callable, optional
        Called with the fraction done and the number of rows read, after every chunk and at the end.

    Returns
    -------
    RewardLog
        Steps start at 1: a log that counts from 0 is shifted, with a note.

    Raises
    ------
    LogError
        If the log cannot be read, or a value cannot be used: the message shows it and its row.  Missing rewards (null,
        NaN) are dropped, with a note, and so is the end of the last file where a running job has not completed it.
    MissingExtraError
        If a URL is given and fsspec is not installed, or the engine is "ray" and Ray is not.
    BackendError
        If no Ray cluster can be reached, or it fails.
    ArgumentError, ArgumentTypeError
        If an argument cannot be used, or they contradict each other.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from kernadv.logs import read_log
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.csv")
    ...     written = path.write_text("step,question,acc\\n1,a,1\\n1,a,0\\n1,b,1\\n2,a,1\\n")
    ...     log = read_log(path, columns={"prompt": "question", "reward": "acc"})
    >>> log.prompts, log.groups.step, log.groups.mean, log.format
    (['a', 'b'], array([1, 2, 1]), array([0.5, 1. , 1. ]), 'table')
    """
    readers = {name: _reader(name) for name in formats()}
    source, files = find(path)
    query = _query(printable(source), files, columns or {}, step_every, counts, traces, rewards)
    keep = check_flag(keep_traces, "keep_traces") or "weight" in query.columns
    query = replace(query, on_repeat=_on_repeat(on_repeat, query), keep_traces=keep)
    if check_choice(engine, "engine", ENGINES) == "ray":
        import_extra("ray", "engine='ray'", "ray")
    name = _detect(query, readers) if format is None else check_choice(format, "log format", readers)
    from kernadv.logs._reduce import Reducer
    from kernadv.logs._splits import chunks, read_as, splits

    reducer = Reducer(query)
    with read_as(query, name):
        found = splits(query, readers[name])
        ends = [0, *accumulate(sum(file.size or 1 for file in split) for split in found)]

        def tell(splits_done: float) -> None:
            if progress is not None:
                progress(float(np.interp(splits_done, range(len(ends)), ends)) / ends[-1], reducer.n_rows)

        for k, split in enumerate(found):
            if engine == "ray" and reducer.origin is not None:  # the splits read here have told it, and the columns
                from kernadv.logs._ray import reductions

                with closing(reductions(query, readers[name], name, reducer.origin, found[k:])) as rest:
                    for done, reduced in rest:
                        reducer.merge(reduced)
                        tell(k + done)
                break
            for chunk in chunks(replace(query, files=split), readers[name]):
                reducer.add(chunk)
                tell(k + chunk.done)
        tell(len(found))
    return query.steps.finish(reducer.finish(name))


class Tail:
    """What is new of a log that a run is writing.

    Files of lines (jsonl, csv) are read from where they ended, folders by their new files.  A row that is not complete
    waits, and so does a parquet file without its end.  A json file, a parquet file or a compressed one cannot be read in
    pieces: when it is written again, it is `Replaced`.

    Parameters
    ----------
    path, format, columns, step_every, counts, traces, rewards
        As in `read_log`; of pipes and URLs nothing can be new.  The steps of ``"rank:COLUMN"`` are numbered as they appear,
        those of `step_every` from the first.

    Attributes
    ----------
    source : str
        How the log is called.
    format : str or None
        Its format, once there is a row.
    waiting : str
        What is waited for, if `read` found nothing; else empty.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from kernadv.logs import Tail
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.csv")
    ...     tail = Tail(path)
    ...     print(list(tail.read()), tail.waiting != "")  # there is no log yet
    ...     written = path.write_text("step,prompt,reward\\n1,a,1\\n1,b")
    ...     first = [ids for ids, rewards, step in tail.read()]  # the second row is not complete
    ...     with path.open("a") as file:
    ...         more = file.write(",0\\n")
    ...     then = [ids for ids, rewards, step in tail.read()]
    [] True
    >>> first, then, tail.notes
    ([['a']], [['b']], ())
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        step_every: str | timedelta | None = None,
        counts: tuple[str, str] | None = None,
        traces: int | None = None,
        rewards: Sequence[str] | Mapping[str, float] | None = None,
    ) -> None:
        self._growth = Growth(path)
        self._query = _query("", (), columns or {}, step_every, counts, traces, rewards)
        self.format = None if format is None else check_choice(format, "log format", formats())
        self.source = printable(str(path))
        self.waiting = ""
        self._used: set[str] = set()
        self._first: int | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks, as those of a `RewardLog`."""
        return self._query.notes.texts()

    def read(self, *, whole: bool = False) -> Iterator[tuple[list[str], FloatArray, IntArray]]:
        """Yield prompt, reward (NaN: none) and step of the new traces, in the order of the log.

        Parameters
        ----------
        whole : bool
            Take the end of the log as it is, as `read_log` does, instead of waiting for the rest of its last row.

        Raises
        ------
        Replaced
            If what was read is no longer what the log holds: begin with another `Tail`.
        LogError
            As in `read_log`, except that the log may be empty, or not exist yet.
        """
        try:
            source, files = self._growth.files(self._used, whole)
        except (Absent, FileNotFoundError) as error:  # the latter: a file that went while the folder was listed
            self.waiting = str(error)
            return
        self.source, self.waiting = printable(source), ""
        if any(file.size for file in files):
            try:
                yield from self._rows(replace(self._query, source=self.source, files=files))
            except Absent as error:  # what is new is no part of the log
                self.waiting = "" if self._used else str(error)
            except Incomplete as error:
                self.waiting = str(error)
                return
        elif not self._used:
            self.waiting = f"{self.source} has no whole row yet"
        self._growth.taken()

    def _rows(self, query: Query) -> Iterator[tuple[list[str], FloatArray, IntArray]]:
        readers = {name: _reader(name) for name in formats()}
        name = _detect(query, readers) if self.format is None else self.format
        from kernadv.logs._reduce import rows_of
        from kernadv.logs._splits import chunks, read_as, splits

        with read_as(query, name):
            for split in splits(query, readers[name]):
                for chunk in chunks(replace(query, files=split), readers[name]):
                    self.format = name
                    self._used.update(file.path for file in set(chunk.sources.tolist()))
                    ids, reward, step = rows_of(chunk)
                    if query.steps.every is not None and len(step):
                        self._first = int(step[0]) if self._first is None else self._first
                        step = step - self._first + 1
                    yield ids, reward, step


def formats() -> list[str]:
    """Return the names of the formats, which are those of the public modules of this package.

    Examples
    --------
    >>> from kernadv.logs import formats
    >>> formats()
    ['swift', 'table', 'trl', 'verl']
    """
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def _reader(name: str) -> Reader:
    """Return the reader of a format.

    Raises
    ------
    LogError
        If polars or pyarrow is not installed.
    """
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("polars", "pyarrow"):
            raise
        raise LogError(
            f'reading a log needs {missing}, which is not installed; run: pip install "kernadv[audit]"'
        ) from error
    own = [member for member in vars(module).values() if getattr(member, "__module__", "") == module.__name__]
    return next(member() for member in own if isinstance(member, type) and issubclass(member, Reader))


def _query(
    source: str,
    files: Sequence[File],
    columns: Mapping[str, str],
    step_every: str | timedelta | None,
    counts: tuple[str, str] | None,
    traces: int | None,
    rewards: Sequence[str] | Mapping[str, float] | None,
) -> Query:
    """Check the arguments."""
    from kernadv.logs._steps import step_rule

    if not isinstance(columns, Mapping):
        raise ArgumentTypeError(f"columns must be a mapping such as {{'reward': 'acc'}}, got {columns!r:.80}")
    if counts is not None and not (isinstance(counts, (tuple, list)) and len(counts) == 2):
        raise ArgumentTypeError(f"counts must be a pair of columns, (correct, all), got {counts!r:.80}")
    if rewards is not None and not isinstance(rewards, (str, Sequence, Mapping)):
        raise ArgumentTypeError(f"rewards must be columns, or a mapping of columns to weights, got {rewards!r:.80}")
    for role, column in columns.items():
        check_choice(role, "role of a column", ROLES)
        _check_name(column)
    for column in counts or ():
        _check_name(column)
    given = {"counts": counts is not None, "rewards": rewards is not None, 'columns["reward"]': "reward" in columns}
    named = [name for name, is_given in given.items() if is_given]
    if len(named) > 1:
        raise ArgumentError(f"{named[0]} and {named[1]} both say where the rewards are; give one of them")
    if traces is not None and check_count(traces, "traces") and counts is not None:
        raise ArgumentError("counts and traces both say how many traces a row has; give one of them")
    if "weight" in columns and (counts is not None or (traces or 1) > 1):
        raise ArgumentError(
            "a weight is that of a trace, but counts or traces make a row a group; leave one of them out"
        )
    weights: dict[str, float] | None = None
    if rewards is not None:
        chosen = [rewards] if isinstance(rewards, str) else rewards
        weights = dict(chosen) if isinstance(chosen, Mapping) else dict.fromkeys(chosen, 1.0)
        for column, weight in weights.items():
            _check_name(column)
            check_range(weight, f"the weight of the reward {column!r}", -math.inf)
        if not weights:
            raise ArgumentError("rewards must name at least one column, got none")
    step, rule = step_rule(columns.get("step"), step_every)
    columns = dict(columns) if step is None else {**columns, "step": step}
    return Query(source, files, columns, rule, counts, traces, weights, Notes())


def _check_name(column: object) -> None:
    if not isinstance(column, str):
        raise ArgumentTypeError(f"a column must be named by a text, got {column!r:.80}")


def _on_repeat(choice: str, query: Query) -> str:
    """Check what is to be done with steps that come again."""
    check_choice(choice, "on_repeat", ON_REPEAT)
    if choice == "offset" and query.steps.rank:
        raise ArgumentError("on_repeat='offset' needs steps that are numbers, got ranks; give last or merge")
    return choice


def _detect(query: Query, readers: Mapping[str, Reader]) -> str:
    """Ask the readers; those that are a fallback only if no other recognises the log."""
    for fallback in (False, True):
        matches = [
            name for name, reader in readers.items() if reader.fallback is fallback and reader.detect(query.files)
        ]
        if len(matches) > 1:
            raise LogError(
                f"{query.source} looks like several logs: {', '.join(matches)}; choose one with --format or give its files"
            )
        if matches:
            return matches[0]
    known = "".join(f"\n  {name}: {reader.looks_for}" for name, reader in readers.items())
    unknown = Absent if all(file.path != file.root for file in query.files) else LogError  # a folder may get files yet
    raise unknown(
        f"cannot tell the format of {query.source}; looked for{known}\nand found "
        f"{some(file.name for file in query.files)}. "
        f"Name the format with --format ({', '.join(readers)}) or point to the folder that holds the log"
    )
