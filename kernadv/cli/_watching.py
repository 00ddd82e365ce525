"""The loop of `kernadv watch`: read what is new, count it, show it, wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from rich.console import Console
from rich.live import Live

from kernadv._errors import LogError, printable
from kernadv.auditing import Watch
from kernadv.logs import Replaced, Tail
from kernadv.report.watching import line, remarks, table

#: Seconds between two tables while much is read.
_GLANCE = 0.5


def follow(open_tail: Callable[[], Tail], console: Console, every: float, once: bool) -> None:
    """Follow a log until interrupted, or read it once; show a table on a terminal that can, and lines elsewhere.

    Parameters
    ----------
    open_tail : callable
        Gives the tail of the log, from its start.
    console : Console
    every : float
        Seconds between two looks.
    once : bool

    Raises
    ------
    LogError
        If the log cannot be read; with `once` also if there is none.
    """
    screen = _Screen(console) if console.is_terminal and not console.is_dumb_terminal else _Lines(console)
    with screen.open, suppress(KeyboardInterrupt):
        tail, seen, notes = open_tail(), Watch(), list[str]()
        while True:
            try:
                for rows in tail.read(whole=once):
                    seen.add(*rows)
                    screen.glance(seen, tail, notes)
            except Replaced as error:
                tail, seen, notes = open_tail(), Watch(), [str(error)]
                continue
            if once:
                if tail.waiting and not seen.waiting:
                    raise LogError(tail.waiting)
                seen.finish()
            screen.show(seen, tail, notes)
            if once:
                return
            time.sleep(every)


def _remarks(seen: Watch, tail: Tail, notes: Sequence[str]) -> list[str]:
    """What to know beside the numbers."""
    return [*([f"waiting: {tail.waiting}"] if tail.waiting else []), *notes, *remarks(seen), *tail.notes]


class _Lines:
    """A line for each look that brought a step; remarks go to standard error."""

    open: AbstractContextManager[object] = nullcontext()

    def __init__(self, console: Console) -> None:
        self._console, self._told = console, set[str]()
        self._seen: Watch | None = None
        self._shown = 0

    def glance(self, seen: Watch, tail: Tail, notes: Sequence[str]) -> None:
        """A line waits for the end of the look."""

    def show(self, seen: Watch, tail: Tail, notes: Sequence[str]) -> None:
        if seen is not self._seen:
            self._seen, self._shown, self._told = seen, 0, set()
        for remark in _remarks(seen, tail, notes):
            if remark not in self._told and sys.stderr is not None:
                print(printable(remark), file=sys.stderr, flush=True)
            self._told.add(remark)
        if len(seen.steps) > self._shown:
            self._console.out(line(seen))
            self._console.file.flush()
        self._shown = len(seen.steps)


class _Screen:
    """A table that stays in its place."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, 0.0
        self.open = Live(console=console, auto_refresh=False)

    def glance(self, seen: Watch, tail: Tail, notes: Sequence[str]) -> None:
        """Show the table, unless it was shown just before."""
        if time.monotonic() - self._last > _GLANCE:
            self.show(seen, tail, notes)

    def show(self, seen: Watch, tail: Tail, notes: Sequence[str]) -> None:
        self.open.update(table(seen, tail.source, _remarks(seen, tail, notes), self._console), refresh=True)
        self._last = time.monotonic()
