"""What every case uses: rows of the table, and a stopwatch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numba

Rows = list[dict[str, str]]


def row(what: str, measured: str, target: str) -> dict[str, str]:
    """One line of the table."""
    return {"what": what, "measured": measured, "target": target}


def median_seconds(call: Callable[[], object], times: int) -> float:
    """Median wall time of a call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


@contextmanager
def one_thread() -> Iterator[None]:
    """The package's own threads, and with them its BLAS, as with ``NUMBA_NUM_THREADS=1``."""
    threads = numba.config.NUMBA_NUM_THREADS
    numba.config.NUMBA_NUM_THREADS = 1
    try:
        yield
    finally:
        numba.config.NUMBA_NUM_THREADS = threads
