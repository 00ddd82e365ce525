"""The errors of the package, and the checks that several modules share.

A message says what was expected, what came and what to do.
"""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Iterable, Mapping
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
    """A saved state is truncated, foreign or from a newer version."""


class MissingExtraError(KernadvError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class LogError(KernadvError):
    """A reward log cannot be read or holds nothing that can be estimated."""


def check_positive(value: float, name: str, hint: str, *, allow_inf: bool = False) -> float:
    """Return `value` as a float, or raise if it is not a positive number."""
    try:
        if isinstance(value, (bool, str)) or getattr(value, "ndim", 0) > 0:
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentTypeError(f"{name} must be a number, got {value!r}; {hint}") from None
    if not number > 0 or (math.isinf(number) and not allow_inf):
        raise ArgumentError(f"{name} must be positive{'' if allow_inf else ' and finite'}, got {value!r}; {hint}")
    return number


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


def import_extra(module: str, what: str, extra: str) -> Any:
    """Import an optional dependency, or say what needs it and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(
            f'{what} needs {module}, which is not installed; run: pip install "kernadv[{extra}]"'
        ) from None


def check_level(level: float) -> float:
    """Return a confidence level, or raise if it does not lie strictly between 0 and 1."""
    try:
        if isinstance(level, (bool, str)) or getattr(level, "ndim", 0) > 0:
            raise TypeError
        number = float(level)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentTypeError(f"level must be a number, got {level!r}; for 95% say 0.95") from None
    if not 0.0 < number < 1.0:
        raise ArgumentError(f"level must lie strictly between 0 and 1, got {level!r}; for 95% say 0.95")
    return number


# ---------------------------------------------------------------- reward logs: begin
def log_extra_missing(module: str) -> LogError:
    """Build the error for a missing optional dependency of the log readers."""
    return LogError(f'reading a log needs {module}, which is not installed; run: pip install "kernadv[audit]"')


def log_not_found(path: object) -> LogError:
    """Build the error for a path that does not exist."""
    return LogError(f"expected a log file or folder, but {path} does not exist")


def log_unknown_format(path: object, looked_for: Mapping[str, str], found: Iterable[str]) -> LogError:
    """Build the error for a log that no reader recognises."""
    known = "".join(f"\n  {name}: {what}" for name, what in looked_for.items())
    return LogError(
        f"cannot tell the format of {path}; looked for{known}\nand found {_some(found)}. "
        f"Name the format with --format ({', '.join(looked_for)}) or point to the folder that holds the log"
    )


def log_ambiguous(path: object, names: Iterable[str]) -> LogError:
    """Build the error for a folder that holds several logs."""
    return LogError(f"{path} looks like several logs: {', '.join(names)}; choose one with --format or give its files")


def log_no_files(path: object, looks_for: str, found: Iterable[str]) -> LogError:
    """Build the error for a folder without a file of the asked format."""
    return LogError(f"expected {looks_for} in {path}, found {_some(found)}")


def log_mixed_endings(path: object, endings: Iterable[str]) -> LogError:
    """Build the error for a folder whose files may hold the same rows twice."""
    return LogError(f"{path} holds files ending in {', '.join(endings)}; give one of them, or a folder with one ending")


def log_missing_columns(
    missing: Mapping[str, str | None], found: Iterable[str], source: object, tried: Mapping[str, Iterable[str]]
) -> LogError:
    """Build the error for absent columns: role -> column that the caller named, or None if names were tried."""
    parts = []
    for role, column in missing.items():
        if column is not None:
            parts.append(f"no column {column!r} (for {role})")
        else:
            parts.append(f"no {role} column (tried {', '.join(tried[role])}): name it with --map {role}=COLUMN")
    return LogError(f"{source}: {'; '.join(parts)}. Columns found: {_some(found, 40)}")


def log_missing_rewards(
    missing: Iterable[str], rewards: Iterable[str], found: Iterable[str], source: object
) -> LogError:
    """Build the error for chosen reward columns that are not there."""
    known = list(rewards)
    where = f"Reward columns found: {_some(known)}" if known else f"Columns found: {_some(found, 40)}"
    wanted = ", ".join(map(repr, missing))
    return LogError(f"{source}: no reward column {wanted}; choose with --reward COLUMN. {where}")


def log_bad_value(column: str, value: object, source: object, row: int, expected: str) -> LogError:
    """Build the error for the first value that cannot be used."""
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    return LogError(f"{source}, row {row}: column {column!r} must hold {expected}, got {shown}")


def log_broken_file(source: object, detail: str) -> LogError:
    """Build the error for a file that its parser refuses."""
    return LogError(f"{source} is truncated or broken: {detail}; restore the file or leave it out")


def log_broken_line(source: object, line: int, detail: str) -> LogError:
    """Build the error for a line that is not the JSON expected."""
    return LogError(f"{source}, line {line}: {detail}; repair or remove the line")


def log_without_rows(path: object, n_rows: int) -> LogError:
    """Build the error for a log with nothing to estimate from."""
    if n_rows:
        return LogError(
            f"{path}: none of the {n_rows:,} rows has a reward (all are null or NaN); check the reward column"
        )
    return LogError(f"{path}: the log is empty, expected at least one row with a step, a prompt and a reward")


def option_conflict(first: str, second: str) -> ArgumentError:
    """Build the error for two options that say the same thing."""
    return ArgumentError(f"{first} and {second} both say where the rewards are; give one of them")


def bad_reward_weights(weights: Mapping[str, float]) -> ArgumentError:
    """Build the error for an empty choice of rewards, or a weight that is not a finite number."""
    return ArgumentError(f"rewards must name at least one column, with finite weights, got {dict(weights)}")


def _some(names: Iterable[str], most: int = 10) -> str:
    """List the first names, and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(listed[:most]) + rest) or "nothing"


# ---------------------------------------------------------------- reward logs: end
