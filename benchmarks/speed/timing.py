"""What every case uses: rows of the table, and a stopwatch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

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
