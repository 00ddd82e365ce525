"""How every case is measured, and what is kept of it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numba
import pytest
from threadpoolctl import threadpool_limits

from benchmarks import RESULTS
from benchmarks.speed.table import ratios

CORES = os.cpu_count() or 1
#: Versions that stand beside the numbers.
PACKAGES = ("kernadv", "numpy", "numba", "polars", "pyarrow")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--short``."""
    parser.addoption("--short", action="store_true", help="measure what is compared; the rest runs once, or not at all")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> None:
    """Leave a case out of the short form."""
    if request.config.getoption("--short"):
        pytest.skip("takes minutes")


@pytest.fixture(scope="session")
def compared() -> set[str]:
    """The cases of the committed results that have a peer."""
    return {case for case, _ in ratios(json.loads((RESULTS / "speed.json").read_text())["benchmarks"])}


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest, compared: set[str]) -> Callable[..., Any]:
    """A function that measures a call and returns what it returned; once in the short form, where nobody compares it.

    Parameters
    ----------
    case, by : str
        What is done, and who does it; the measurements of a case stand side by side.
    call : callable
    rounds : int
    warm_up : int
        Rounds before.
    threads : int, optional
        All by default.
    setup : callable, optional
        Called before each round, for its arguments and keywords.
    beside : str
        Of the table: target, and whatever else was found; ``times``: how many of the calls the whole would take.
    """

    def run(
        case: str,
        by: str,
        call: Callable[..., Any],
        rounds: int,
        *,
        warm_up: int = 1,
        threads: int = CORES,
        setup: Callable[[], Any] | None = None,
        **beside: Any,
    ) -> Any:
        benchmark.group, benchmark.name = case, by
        benchmark.extra_info.update(beside)
        if request.config.getoption("--short") and case not in compared:
            rounds, warm_up = 1, 0
        with pinned(threads):
            return benchmark.pedantic(call, setup=setup, rounds=rounds, warmup_rounds=warm_up)

    return run


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """The package's own threads, those of BLAS, and torch's."""
    torch = sys.modules.get("torch")
    before = numba.config.NUMBA_NUM_THREADS, torch and torch.get_num_threads()
    numba.config.NUMBA_NUM_THREADS = threads
    if torch:
        torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        numba.config.NUMBA_NUM_THREADS = before[0]
        if torch:
            torch.set_num_threads(before[1])


@pytest.hookimpl
def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Keep the machine, the versions, and of each measurement what the tables read."""
    cpu = output_json["machine_info"]["cpu"].get("brand_raw", "?")
    facts = {"cpu": cpu, "cores": CORES, "python": platform.python_version()}
    rows = [
        {name: row[name] for name in ("group", "name", "extra_info")}
        | {"stats": {name: row["stats"][name] for name in ("median", "min", "max", "rounds")}}
        for row in output_json["benchmarks"]
    ]
    output_json.clear()
    output_json |= {"machine_info": facts | {name: version(name) for name in PACKAGES}, "benchmarks": rows}
