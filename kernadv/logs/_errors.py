"""Errors that several readers raise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernadv._errors import LogError


def missing_columns(
    missing: Mapping[str, str | None], found: Iterable[str], source: object, tried: Mapping[str, Iterable[str]]
) -> LogError:
    """Build the error for absent columns: role -> column that the caller named, or None if names were tried."""
    parts = []
    for role, column in missing.items():
        if column is not None:
            parts.append(f"no column {column!r} (for {role})")
        else:
            parts.append(f"no {role} column (tried {', '.join(tried[role])}): name it with --map {role}=COLUMN")
    return LogError(f"{source}: {'; '.join(parts)}. Columns found: {some(found, 40)}")


def broken_line(source: object, line: int, detail: str) -> LogError:
    """Build the error for a line that is not the JSON expected."""
    return LogError(f"{source}, line {line}: {detail}; repair or remove the line")


def without_rows(path: object) -> LogError:
    """Build the error for a log that is empty."""
    return LogError(f"{path}: the log is empty, expected at least one row with a step, a prompt and a reward")


def some(names: Iterable[str], most: int = 10) -> str:
    """List the first names, and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(listed[:most]) + rest) or "nothing"
