"""Work in a child process that may die of it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Outcome(NamedTuple, Generic[T]):
    """What came of an item: its result, or how the process died of it."""

    item: int
    result: T | None
    died: str | None


def isolated(work: Callable[[int], T], items: range, patience: float = 60.0) -> Iterator[Outcome[T]]:
    """``work(item)`` for each item, in one forked child as long as it lives; one that dies or hangs is replaced."""
    context = multiprocessing.get_context("fork")
    left = items
    while left:
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(there, work, left))
        child.start()
        there.close()
        while left:
            died = None
            try:
                answer = here.recv() if here.poll(patience) else None
                if answer is None:
                    died = f"no answer within {patience:g} s"
            except EOFError:
                child.join()
                died = f"the process died with {child.exitcode}"
            yield Outcome(left[0], None, died) if died else Outcome(left[0], answer, None)
            left = left[1:]
            if died:
                break
        child.kill()
        child.join()
        here.close()


def _work(pipe: Connection, work: Callable[[int], T], items: range) -> None:
    for item in items:
        pipe.send(work(item))
