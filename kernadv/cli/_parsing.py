"""Options of the command line that need more than a type."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from kernadv.logs import places

#: Endings that no file of a log has.
_PAGES = (".html", ".htm")


def roles(given: Sequence[str]) -> dict[str, str]:
    """``["step=iteration"]`` -> ``{"step": "iteration"}``."""
    columns = {}
    for text in given:
        role, equals, column = text.partition("=")
        if not (role and equals and column):
            raise typer.BadParameter(f"expected ROLE=COLUMN, e.g. step=iteration, got {text!r}", param_hint="--map")
        if role in columns:
            raise typer.BadParameter(f"{role} is given twice", param_hint="--map")
        columns[role] = column
    return columns


def weights(given: Sequence[str]) -> dict[str, float] | None:
    """``["accuracy", "format=0.1"]`` -> ``{"accuracy": 1.0, "format": 0.1}``; None if nothing is given."""
    columns: dict[str, float] = {}
    for text in given:
        column, _, weight = text.rpartition("=") if "=" in text else (text, "", "1")
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        if not column or not math.isfinite(number):
            raise typer.BadParameter(
                f"expected COLUMN or COLUMN=WEIGHT, e.g. format=0.1, got {text!r}", param_hint="--reward"
            )
        if column in columns:
            raise typer.BadParameter(f"column {column!r} is given twice", param_hint="--reward")
        columns[column] = number
    return columns or None


def pair(given: str | None) -> tuple[str, str] | None:
    """``"n_correct,n"`` -> ``("n_correct", "n")``."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",")]
    if len(names) != 2 or not all(names):
        raise typer.BadParameter(
            f"expected two columns, CORRECT,TRACES, e.g. n_correct,n, got {given!r}", param_hint="--counts"
        )
    return names[0], names[1]


def two_logs(logs: Sequence[str], for_one: Mapping[str, object]) -> None:
    """Refuse more than two logs, and with two of them the options that are for one."""
    if len(logs) > 2:
        raise typer.BadParameter(
            f"give one log, or two to compare, got {len(logs)}; for files of one run give their folder, or a pattern in "
            "quotes",
            param_hint="LOG",
        )
    named = [option for option, value in for_one.items() if value]
    if len(logs) == 2 and named:
        raise typer.BadParameter("is for one log, not for two that are compared", param_hint=named[0])


def table_ending(prompts: Path | None, group: int | None) -> str:
    """The ending of the file of `--prompts`."""
    if prompts is None:
        if group is not None:
            raise typer.BadParameter("belongs to --prompts; give a file to write", param_hint="--group")
        return ""
    ending = prompts.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise typer.BadParameter(
            f"expected a file ending in .parquet or .csv, got {prompts.name}", param_hint="--prompts"
        )
    return ending


def outputs(given: Mapping[str, Path | None], log: str) -> dict[str, Path]:
    """Absolute paths of the files to write, after checking that each can be written.

    Raises
    ------
    OSError
        If the folder is missing or not writable, or something other than a file is in the way.
    BadParameter
        If two outputs are the same file, or an output is a file of the log, or may become one: inside its folders only
        pages may be written, since no log holds pages.
    LogError
        If there is no log.
    """
    for option, path in given.items():
        if path == Path("-"):
            raise typer.BadParameter("standard output has the report; name a file to write", param_hint=option)
        if path is not None and os.path.exists(path.expanduser()) and not path.expanduser().is_file():
            raise OSError(f"cannot write {option} {path}: it is not a file; name a file to write")
    paths = {option: _real(path) for option, path in given.items() if path is not None}
    taken = dict.fromkeys(map(_real, places(log)), "the log")
    folders = {path for path in taken if path.is_dir()}
    for option, path in paths.items():
        if path in taken:
            raise typer.BadParameter(f"{path} is also {taken[path]}; choose another file", param_hint=option)
        if path.suffix.lower() not in _PAGES and folders.intersection(path.parents):
            raise typer.BadParameter(
                f"{path} is inside the log, and may be a part of it; choose a file elsewhere", param_hint=option
            )
        taken[path] = option
        if path.is_symlink():
            raise OSError(f"cannot write {option} {path}: links lead in a circle; name a file to write")
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise OSError(
                f"cannot write {option} {path}: {path.parent}: {(error.strerror or str(error)).lower()}; "
                "choose a folder that exists and is writable"
            ) from None
    return paths


def _real(path: str | Path) -> Path:
    """The absolute path without links, as far as they lead somewhere."""
    return Path(os.path.realpath(os.path.expanduser(path)))
