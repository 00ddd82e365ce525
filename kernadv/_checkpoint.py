"""Files that are whole or absent: written beside, flushed to disk, renamed over the old one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from kernadv._errors import CheckpointError
from kernadv._typing import AnyArray


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to; on success it replaces `path`, on failure the old file stays and nothing is left.

    A process killed in the middle leaves its unfinished file beside; the next write on the same host removes it.
    """
    target = Path(path).absolute()
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
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or not a checkpoint of kernadv: {error}") from None
