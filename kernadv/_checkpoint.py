"""Files that are whole or absent: written beside, flushed to disk, renamed over the old one."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kernadv._errors import CheckpointError
from kernadv._typing import AnyArray

#: Name under which a file carries the checksum of its arrays.
CHECKSUM = "crc32"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to; on success it replaces `path`, on failure the old file stays and nothing is left.

    A process killed in the middle leaves its unfinished file beside; the next write on the same host removes it.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir() or not target.parent.is_dir():
        kind = "is a folder" if target.is_dir() else f"cannot be written: there is no folder {target.parent}"
        raise FileNotFoundError(f"{target} {kind}")
    host = socket.gethostname().replace("-", "_")
    for stale in target.parent.glob(f".{target.name}.{host}-*.tmp"):
        if not _alive(stale.name.rsplit("-", 1)[1].removesuffix(".tmp")):
            stale.unlink(missing_ok=True)
    beside = target.with_name(f".{target.name}.{host}-{os.getpid()}.tmp")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        beside.unlink(missing_ok=True)


def _alive(pid: str) -> bool:
    return not pid.isdigit() or Path(f"/proc/{pid}").exists() or not Path("/proc").exists()


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays to a safetensors file, atomically."""
    from safetensors.numpy import save  # here: nothing but a file needs it

    arrays = {**arrays, CHECKSUM: _checksum(arrays)}
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    with replacing(path) as beside:
        beside.write_bytes(data)


def load_arrays(path: str | os.PathLike[str]) -> dict[str, AnyArray]:
    """Read the arrays of a safetensors file.

    Raises
    ------
    CheckpointError
        If the file is truncated or not a safetensors file.
    FileNotFoundError
        If there is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        arrays = dict(load_file(path))
    except (SafetensorError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or not a checkpoint of kernadv: {error}") from None
    stored = arrays.pop(CHECKSUM, None)
    if stored is not None and not np.array_equal(stored, _checksum(arrays)):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit its content")
    return arrays


def _checksum(arrays: Mapping[str, AnyArray]) -> AnyArray:
    """CRC-32 of all arrays in order of their names.  # (1,)"""
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), zlib.crc32(name.encode(), total))
    return np.array([total], np.int64)
