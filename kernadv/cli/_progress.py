"""Progress bars on stderr, on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Bars:
    """Progress bars, one after the other; gone when the work is done."""

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:<9}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[what]}"), console=console, transient=True)
        if console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    @contextmanager
    def bar(self, name: str) -> Iterator[Callable[[float, str], None]]:
        """Yield a function that takes the share done and what is being done."""
        task = self._progress.add_task(name, total=1.0, what="")
        yield lambda share, what: self._progress.update(task, completed=share, what=what)
        self._progress.update(task, completed=1.0, what="")
