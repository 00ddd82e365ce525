"""Exhausted memory: numpy cannot allocate.

Either a function of numpy that allocates fails at its k-th call from kernadv, for every k; or the process may take only so
much address space, in small steps from nothing to enough.
"""

from __future__ import annotations

import ctypes
import functools
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks._estimators import CONFIGURATIONS, Configuration, warm_up
from benchmarks.attacks._row import Part, Row
from benchmarks.attacks.interruptions import INSIDE, OPERATIONS, Scene

__all__ = ["KIND", "parts", "warm_up"]

KIND = "memory"
ALLOCATING = (
    "empty", "zeros", "ones", "full", "arange", "array", "asarray", "ascontiguousarray", "concatenate", "stack", "resize",
    "repeat", "where", "bincount", "cumsum", "unique", "argsort", "fromiter", "frombuffer", "full_like", "zeros_like",
    "maximum", "minimum", "flatnonzero", "clip", "partition",
)  # fmt: skip
#: Steps by which the address space grows, in bytes, and how many there are at most.
GRAIN, GRAINS = 1 << 19, 600
#: Bytes from which on an array is asked of the system.
THRESHOLD = 1 << 16
#: Rows of a batch whose arrays are each asked of the system; smaller ones come from what the process has already.
LARGE = 60_000
#: Operations that need more than what the process has already.
LARGEST = [(name, operation) for name in ("default", "weighted") for operation in ("advantages", "observe")]


def parts(short: bool, seed: int) -> list[Part]:
    """One part for each configuration and operation."""
    stride, every, grain = (23, 2, 16) if short else (1, 1, 4)
    cases = [(name, operation) for name in CONFIGURATIONS for operation in OPERATIONS]
    failing = [functools.partial(failing_calls, *case, stride, seed) for case in cases[::every]]
    large = LARGEST[1:2] if short else LARGEST
    return failing + [functools.partial(address_space, *case, grain, seed) for case in large]


def failing_calls(name: str, operation: str, stride: int, seed: int, configuration: Configuration | None = None) -> Row:
    """Let every `stride`-th call of an allocating function fail, one at a time."""
    row = Row(KIND, "numpy's allocating functions raised MemoryError")
    scene = Scene(configuration or CONFIGURATIONS[name], operation, seed)
    with _failing(0) as calls:
        scene.run(scene.start())
    for k in range(1 + seed % stride, len(calls) + 1, stride):
        estimator = scene.start()
        with _failing(k) as calls:
            try:
                scene.run(estimator)
            except MemoryError:
                row.count += 1
            else:
                row.outcomes["failed calls that the operation could do without"] += 1
        if wrong := scene.verdict(estimator):
            row.fail(f"{name}.{operation}, np.{calls[-1] if calls else '?'}: {wrong}")
    return row


@contextmanager
def _failing(k: int) -> Iterator[list[str]]:
    """Let the k-th call from kernadv raise; yields a list that the calls are entered in."""
    calls: list[str] = []

    def failing(name: str, original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            frame = sys._getframe(1)
            if frame.f_code.co_filename.startswith(INSIDE) and (not k or len(calls) < k):
                calls.append(f"{name} at kernadv{frame.f_code.co_filename[len(INSIDE) :]}:{frame.f_lineno}")
                if len(calls) == k:
                    raise MemoryError(calls[-1])
            return original(*arguments, **options)

        return call

    before = {name: getattr(np, name) for name in ALLOCATING}
    for name, original in before.items():
        if not isinstance(original, np.ufunc):
            setattr(np, name, failing(name, original))
    try:
        yield calls
    finally:
        for name, original in before.items():
            setattr(np, name, original)


def address_space(name: str, operation: str, grain: int, seed: int, configuration: Configuration | None = None) -> Row:
    """Run a large operation with little address space, then with a bit more, until it succeeds."""
    row = Row(KIND, "too little address space (RLIMIT_AS)")
    ctypes.CDLL(None).mallopt(-3, THRESHOLD)  # M_MMAP_THRESHOLD: larger arrays are asked of the system, and given back
    scene = Scene(configuration or CONFIGURATIONS[name], operation, seed, scale=LARGE // 40)
    endless = resource.getrlimit(resource.RLIMIT_AS)
    for k in range(0, GRAINS, grain):
        estimator = scene.start()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + k * GRAIN, endless[1]))
        try:
            scene.run(estimator)
            enough = True
        except MemoryError:
            enough = False
        finally:
            resource.setrlimit(resource.RLIMIT_AS, endless)
        row.count += not enough
        if wrong := scene.wrong_with(estimator):
            row.fail(f"{name}.{operation} with {k * GRAIN >> 10} KiB: {wrong}")
        if enough:
            if not row.count:
                row.fail(f"{name}.{operation}: no limit was too low, so nothing was tried")
            return row
    row.fail(f"{name}.{operation}: {GRAINS * GRAIN >> 20} MiB were not enough")
    return row
