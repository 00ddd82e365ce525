"""The errors of the package, and the checks and the warning that several modules share.

A message says what was expected, what came and what to do.
"""

from __future__ import annotations

import importlib
import math
import operator
import sys
import warnings
from collections.abc import Iterable
from numbers import Real
from typing import Any


class KernadvError(Exception):
    """Base of every error raised on purpose by kernadv."""


class ArgumentError(KernadvError, ValueError):
    """An argument has a value that cannot be used."""


class ArgumentTypeError(KernadvError, TypeError):
    """An argument has a type that cannot be used."""


class BackendError(KernadvError, RuntimeError):
    """A backend that was asked for by name cannot run here."""


class CheckpointError(KernadvError):
    """A saved state is missing, truncated, foreign or from a newer version, or cannot be saved."""


class MissingExtraError(KernadvError, ImportError):
    """An optional dependency is not installed; the message says what to install."""


class LogError(KernadvError):
    """A reward log cannot be read or holds nothing that can be estimated."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, keep="\n"))


def printable(text: str, keep: str = "") -> str:
    """Return a text with escapes, as in `repr`, for what a terminal would obey or not show.

    Names of files and columns come from others, and may hold the control characters of a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def check_positive(value: float, name: str, hint: str, *, allow_inf: bool = False) -> float:
    """Return `value` as a float, or raise if it is not a positive number."""
    number = _number(value, name, hint)
    if not number > 0 or (math.isinf(number) and not allow_inf):
        raise ArgumentError(f"{name} must be positive{'' if allow_inf else ' and finite'}, got {value!r}; {hint}")
    return number


def check_level(level: float) -> float:
    """Return a confidence level, or raise if it does not lie strictly between 0 and 1."""
    hint = "for 95% say 0.95"
    number = _number(level, "level", hint)
    if not 0.0 < number < 1.0:
        raise ArgumentError(f"level must lie strictly between 0 and 1, got {level!r}; {hint}")
    return number


def _number(value: float, name: str, hint: str) -> float:
    try:
        if isinstance(value, (bool, str)) or getattr(value, "ndim", 0) > 0:
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentTypeError(f"{name} must be a number, got {value!r}; {hint}") from None


def check_choice(value: str, name: str, known: Iterable[str]) -> str:
    """Return `value`, or raise with the list of the known names."""
    names = sorted(known)
    if not isinstance(value, str) or value not in names:
        raise ArgumentError(f"unknown {name} {value!r}; known: {', '.join(names)}")
    return value


def check_count(value: int, name: str, least: int = 1, most: int = 2**63 - 1) -> int:
    """Return `value` as an int, or raise if it is not a whole number from `least` to `most`."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not least <= number <= most:
        size = "" if number < least else " that fits 64 bits" if number >= 2**63 else f" and <= {most}"
        raise ArgumentError(f"{name} must be a whole number >= {least}{size}, got {value!r:.80}")
    return number


def check_flag(value: bool, name: str) -> bool:
    """Return `value` as a bool, or raise if it is neither True nor False."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise ArgumentTypeError(f"{name} must be True or False, got {value!r:.80}")
    return bool(value)


def check_range(value: float, name: str, low: float, high: float = math.inf) -> float:
    """Return `value` as a float, or raise if it is not a finite number in [low, high]."""
    try:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError
        number = float(value)
    except (TypeError, OverflowError):
        raise ArgumentTypeError(f"{name} must be a number, got {value!r:.80}") from None
    if not (math.isfinite(number) and low <= number <= high):
        inside = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f">= {low:g}" if math.isfinite(low) else ""
        raise ArgumentError(f"{name} must be a finite number {inside}".rstrip() + f", got {value!r}")
    return number


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of what the first line outside of the package has led to."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("kernadv."):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, category, stacklevel=depth)


def option(name: str) -> str:
    """How a message calls an argument that is also an option of the command line."""
    return f"{name} (--{name.replace('_', '-')} on the command line)"


def import_extra(module: str, what: str, extra: str) -> Any:
    """Import an optional dependency, or say what needs it and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(
            f'{what} needs {module}, which is not installed; run: pip install "kernadv[{extra}]"'
        ) from None
