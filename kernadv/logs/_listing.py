"""Which files a log consists of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kernadv._errors import LogError
from kernadv.logs._errors import some, without_rows


def inside(folder: Path) -> list[Path]:
    """Return the files of a folder by name; hidden ones and those that begin with an underscore are not data."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] not in "._")


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder whose whole name matches a pattern, in the order of its group, an integer."""
    if not folder.is_dir():
        return []
    matches = [(re.fullmatch(pattern, path.name), path) for path in inside(folder)]
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


def filled(files: Sequence[Path], path: Path, looks_for: str) -> list[Path]:
    """Return the files that are not empty.

    Raises
    ------
    LogError
        If there is no file, or none with a byte in it.
    """
    if not files:
        found = sorted(item.name for item in path.iterdir()) if path.is_dir() else []
        raise LogError(f"expected {looks_for} in {path}, found {some(found)}")
    with_bytes = [file for file in files if file.stat().st_size]
    if not with_bytes:
        raise without_rows(path)
    return with_bytes
