"""Rows without any observation: what may stand in for their value."""

from __future__ import annotations

import math

from kernadv._errors import ArgumentError, KernadvError, check_range


def check_cold_start(cold_start: str | float) -> str | float:
    """Return "batch_mean", "error" or a number, or raise."""
    if isinstance(cold_start, str) and cold_start in ("batch_mean", "error"):
        return cold_start
    try:
        return check_range(cold_start, "cold_start", -math.inf)  # type: ignore[arg-type]
    except KernadvError:
        raise ArgumentError(
            f"cold_start must be 'batch_mean', 'error' or a finite number, got {cold_start!r:.80}"
        ) from None


def unobserved(rows: int, of: int) -> ArgumentError:
    """The error of ``cold_start="error"``."""
    return ArgumentError(
        f"{rows} of {of} rows have no past visit in the window and no other trace; "
        "nothing was stored; use cold_start='batch_mean' or a constant"
    )
