"""Parts that run in processes of their own, some at a time."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from benchmarks.attacks._row import Part, Row

#: Wall-clock seconds that a part may take; a part that works takes a tenth of it.
PATIENCE = 900.0


def in_processes(parts: Sequence[tuple[str, Part]], jobs: int, patience: float = PATIENCE) -> Iterator[tuple[str, Row]]:
    """The rows of parts that each run in a process of its own, `jobs` at a time; one that dies or hangs is a failure."""
    context = multiprocessing.get_context("fork")  # no thread runs here, and compiled loops need not be loaded again
    waiting = list(reversed(parts))
    running: dict[Connection, tuple[str, Part, multiprocessing.process.BaseProcess, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max(jobs, 1):
                kind, part = waiting.pop()
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(there, part))
                process.start()
                there.close()
                running[here] = kind, part, process, time.monotonic() + patience
            first = min(deadline for *_, deadline in running.values())
            ready = wait(list(running), max(first - time.monotonic(), 0.0))
            late = [pipe for pipe, (*_, deadline) in running.items() if deadline <= time.monotonic()]
            for pipe in {*ready, *late}:
                kind, part, process, _ = running.pop(pipe)
                yield kind, _result(kind, part, process, pipe if pipe in ready else None)
                pipe.close()
    finally:
        for _, _, process, _ in running.values():
            process.kill()


def _work(pipe: Connection, part: Part) -> None:
    pipe.send(part())


def _result(kind: str, part: Part, process: multiprocessing.process.BaseProcess, pipe: Connection | None) -> Row:
    """The row that a process has sent; if it sent none, a row that says how it ended."""
    if pipe is None:
        process.kill()
        process.join()
        how = "hangs"
    else:
        try:
            row: Row = pipe.recv()
            process.join()
            return row
        except EOFError:
            process.join()
            how = f"ended with {process.exitcode} before it was done"
    row = Row(kind, "parts that ran to their end", 1)
    row.fail(f"{name_of(part)} {how}")
    return row


def name_of(part: Part) -> str:
    """Function and arguments of a part."""
    return f"{part.func.__name__}{part.args}" if isinstance(part, functools.partial) else part.__name__
