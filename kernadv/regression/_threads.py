"""Work cut into blocks, and threads that run compiled loops; the number of threads is numba's, ``NUMBA_NUM_THREADS``."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from itertools import pairwise
from typing import Any, TypeVar

import numba
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

T = TypeVar("T")
R = TypeVar("R")

_here = threading.local()
_lock = threading.Lock()
_callers = 0
_limit: Any = None


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Map in threads: compiled loops and most of numpy release the interpreter.  A nested call is a plain loop.

    Meanwhile BLAS uses one thread in each of them, so that they do not compete for cores.  What the caller set for itself,
    as ``np.errstate``, holds in them too.
    """
    workers = min(numba.config.NUMBA_NUM_THREADS, len(items))
    if workers < 2 or getattr(_here, "busy", False):
        return [function(item) for item in items]
    with _one_blas_thread(), ThreadPoolExecutor(workers, initializer=_enter) as pool:
        return list(pool.map(lambda own, item: own.run(function, item), [copy_context() for _ in items], items))


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Of several simultaneous callers the first sets the limit and the last lifts it."""
    global _callers, _limit
    with _lock:
        if not _callers:
            _limit = _blas().limit(limits=1, user_api="blas")
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if not _callers:
                _limit.restore_original_limits()


@functools.cache
def _blas() -> Any:
    """Controls the threads of the loaded BLAS libraries."""
    return ThreadpoolController()


def stretches(length: int, least: int) -> list[slice]:
    """Cut `length` items into equal stretches for the threads, of at least `least` items each."""
    parts = max(1, min(numba.config.NUMBA_NUM_THREADS, length // max(least, 1)))
    cuts = [length * k // parts for k in range(parts + 1)]
    return [slice(low, high) for low, high in pairwise(cuts)]


def blocks(length: int, size: int) -> list[slice]:
    """Cut `length` items into blocks of `size` (at least 1): only one block is in memory at a time."""
    size = max(1, size)
    return [slice(low, min(low + size, length)) for low in range(0, length, size)]


def _enter() -> None:
    _here.busy = True
