"""Compiled loops, with their machine code cached on disk where a cache can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(
    *, parallel: bool = False, error_model: str = "python"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile the decorated loop at its first call.

    A loop that an interruption may hit fills arrays that it is given: numba runs Python to return one of its own, and turns
    an exception that comes just then into a SystemError.

    With the error model of numpy a division by 0 gives infinity or NaN, and no check of it keeps a loop from being
    vectorised.

    Sums may be reassociated (vectorised); NaN and infinity keep their meaning.
    """
    options = {"parallel": parallel, "fastmath": {"reassoc", "contract"}, "nogil": True, "error_model": error_model}

    def decorate(loop: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, **options)(loop)  # type: ignore[no-any-return]
        except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
            return numba.njit(**options)(loop)  # type: ignore[no-any-return]

    return decorate
