"""A progress bar."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """A named bar with a text that changes; on a terminal only.

    Parameters
    ----------
    name : str
    total : int
        Steps until it is full.
    done : int
        Steps done before.
    """

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[shown]}"))
        self._task = self._progress.add_task(name, total=total, completed=done, shown="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, shown: str) -> None:
        """One step more."""
        self._progress.update(self._task, advance=1, shown=shown)
