"""The rows that TRL hands out: which prompt each belongs to, and whether the processes and the groups agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from accelerate.utils import broadcast_object_list, gather_object

from kernadv._errors import ArgumentError, KernadvError, warn
from kernadv.adapters._driver import Driver, check_groups
from kernadv.prompts import prompt_id

#: Ids whose data rows are remembered, to notice another row with the same id.
REMEMBERED = 100_000


class Rows(NamedTuple):
    """Rows of one process, or of all."""

    ids: list[str]
    data: list[str]  #: hash of each row of the data set; of a group, that of its first row
    prompts: list[str | None]  #: hash of what each trace was asked; None: it cannot be hashed


class RowIds:
    """Ids of the rows of each generation batch.

    They are those of the id column.  Without it they are hashes of the prompts; and of the rows of the data set, once
    an environment has been seen to change the prompts within a group or to ask the same of different rows.  A group of
    one shows no changes: with environments its row counts from the start, unless all rows are the same.

    Parameters
    ----------
    driver : Driver
    column : str
        Name of the id column.
    size : int
        Traces in a group, G.
    environments : bool
        Whether environments may change the prompts.
    """

    def __init__(self, driver: Driver, column: str, size: int, environments: bool) -> None:
        self.driver, self.column, self.size, self.environments = driver, column, size, environments
        self.by_row = self._told = False
        self._row_of: dict[str, str] = {}

    def __call__(self, inputs: Sequence[Mapping[str, Any]], data: Sequence[str], prompts: Sequence[Any]) -> list[str]:
        """Ids of all rows; the arguments are those of this process.  # (b,) -> (B,)

        Raises
        ------
        ArgumentError, ArgumentTypeError
            In every process, if one of them cannot tell an id, if a group has several, or if one id stands for
            different rows of the data set.
        """
        given = [row[self.column] for row in inputs] if self.column in inputs[0] else None
        parts = in_all(lambda: self._of(given, list(data), prompts))
        rows = Rows(*(list(chain.from_iterable(column)) for column in zip(*parts, strict=True)))
        rows = rows._replace(data=[rows.data[k - k % self.size] for k in range(len(rows.data))])
        if given is None and self.environments:
            return self._of_environments(rows)
        check_groups(rows.ids, self.size, column=self.column)
        if (clash := self._clash(rows.ids, rows.data)) is not None:
            self._refuse(clash, given is not None)
        return rows.ids

    def _of(self, given: Any, data: list[str], prompts: Sequence[Any]) -> Rows:
        if given is None and self.environments:
            return Rows([], data, [_hash_or_none(prompt) for prompt in prompts])
        return Rows(self.driver.ids(prompts, given, f"no column {self.column!r}"), data, [])

    def _of_environments(self, rows: Rows) -> list[str]:
        before, self.by_row = self.by_row, self.by_row or not self._asked(rows)
        if self.by_row and not before:
            self._tell(
                f"no column {self.column!r}: the prompts of the environments do not tell their tasks apart, hashes of the "
                "rows of the data set do"
            )
        elif not self._told:
            self._tell(f"no column {self.column!r}: tasks are told apart by a hash of what the environments ask")
        return rows.data if self.by_row else [str(prompt) for prompt in rows.prompts]

    def _asked(self, rows: Rows) -> bool:
        """Whether the prompts tell the tasks apart."""
        if None in rows.prompts or (self.size == 1 and len(set(rows.data)) > 1):
            return False
        prompts = [str(prompt) for prompt in rows.prompts]
        try:
            check_groups(prompts, self.size, column=self.column)
        except ArgumentError:
            return False
        return self._clash(prompts, rows.data) is None

    def _clash(self, ids: list[str], data: list[str]) -> str | None:
        """The first id that stands for another row than before, in this batch or an earlier one."""
        for name, row in zip(ids, data, strict=True):
            if self._row_of.get(name, row) != row:
                return name
            if len(self._row_of) < REMEMBERED:
                self._row_of[name] = row
        return None

    def _refuse(self, clash: str, given: bool) -> None:
        if not given:
            raise ArgumentError(
                f"different rows of the data set have the same prompt (its hash is {clash}), and would share a history: "
                f"add a column {self.column!r} with an id for each row, e.g. its number; or name yours with id_column"
            )
        if not self._told:
            self._tell(
                f"different rows of the data set have the id {clash!r} in column {self.column!r}: they share a history"
            )

    def _tell(self, message: str) -> None:
        self._told = True
        warn(message)


def row_hash(row: Mapping[str, Any]) -> str:
    """Hash of a row of the data set, equal in every process and every run.

    Objects count by their bytes, e.g. images, or else by their type.
    """
    data = json.dumps(row, sort_keys=True, default=_plain)
    return hashlib.sha256(b"row:" + data.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    for name in ("tobytes", "tolist", "isoformat"):
        if callable(method := getattr(value, name, None)):
            value = method()
            break
    if isinstance(value, (bytes, bytearray)):
        return hashlib.sha256(value).hexdigest()
    return value if isinstance(value, (str, int, float, list)) else type(value).__qualname__


def _hash_or_none(prompt: Any) -> str | None:
    try:
        return prompt_id(prompt)
    except KernadvError:
        return None


def in_all(compute: Callable[[], Any]) -> list[Any]:
    """What each process computes, in all of them; an error of one is raised in all.

    Raises
    ------
    Exception
        That of this process, or else `ArgumentError` with that of another.
    """
    own, error = None, None
    try:
        own = compute()
    except Exception as caught:  # of any kind: the other processes must not wait for this one
        error = caught
    told = gather_object([(own, None if error is None else str(error))])
    if error is not None:
        raise error
    for process, (_, message) in enumerate(told):
        if message is not None:
            raise ArgumentError(f"process {process}: {message}")
    return [value for value, _ in told]


def from_first(first: bool, compute: Callable[[], Any]) -> Any:
    """What the first process computes, in all of them; its error is raised in all.

    Raises
    ------
    Exception
        That of the first process, elsewhere as `ArgumentError`.
    """
    answer: list[Any] = [None, None]
    error = None
    if first:
        try:
            answer[0] = compute()
        except Exception as caught:  # of any kind: the other processes must not wait for this one
            error, answer[1] = caught, str(caught)
    broadcast_object_list(answer)
    if error is not None:
        raise error
    if answer[1] is not None:
        raise ArgumentError(f"process 0: {answer[1]}")
    return answer[0]


def agree(settings: Mapping[str, Any]) -> None:
    """Check that all processes have the same settings.

    Raises
    ------
    ArgumentError
        In every process, if two of them differ.
    """
    first, *others = gather_object([{name: _told(value) for name, value in settings.items()}])
    for process, other in enumerate(others, 1):
        for name, value in first.items():
            if other[name] != value:
                raise ArgumentError(
                    f"the processes disagree about {name}: {value} in process 0, {other[name]} in process {process}; "
                    "every process must build the same trainer"
                )


def _told(value: Any) -> str:
    """How a setting shows itself, without the address of an object, which differs between processes."""
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    shown = repr(value)
    return type(value).__qualname__ if f"{id(value):x}" in shown else shown
