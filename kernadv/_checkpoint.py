"""Files that are whole or absent: written beside, flushed to disk, renamed over the old one."""

from __future__ import annotations

import os
import socket
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

import numpy as np

from kernadv._errors import CheckpointError
from kernadv._typing import AnyArray

#: Name under which a file carries the checksum of its other arrays.
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
    for stale in target.parent.glob(f".{escape(target.name)}.{escape(host)}-*-*.tmp"):
        if not _alive(stale.name.rsplit("-", 2)[1]):
            with suppress(OSError):  # another user's: not ours to remove
                stale.unlink()
    beside = target.with_name(f".{target.name}.{host}-{os.getpid()}-{uuid.uuid4().hex}.tmp")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
        with suppress(OSError):  # the file is whole and in place; not every file system can flush a folder
            _flush_folder(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alive(pid: str) -> bool:
    return not pid.isdigit() or Path(f"/proc/{pid}").exists() or not Path("/proc").exists()


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays to a safetensors file, atomically."""
    from safetensors.numpy import save  # here: nothing but a file needs it

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data = save({**arrays, CHECKSUM: _checksum(arrays)})
    with replacing(path) as beside:
        beside.write_bytes(data)


def load_arrays(path: str | os.PathLike[str]) -> dict[str, AnyArray]:
    """Read the arrays of a file that `save_arrays` wrote.

    Raises
    ------
    CheckpointError
        If the file is truncated, not a safetensors file, without a checksum, or does not fit it.
    FileNotFoundError
        If there is no such file.
    """
    from safetensors.numpy import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        arrays = dict(load_file(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the reader raises many kinds over damaged bytes, also for types that numpy lacks
        raise CheckpointError(f"{path} is truncated or not a checkpoint of kernadv: {error}") from None
    stored = arrays.pop(CHECKSUM, None)
    if stored is None:
        raise CheckpointError(f"{path} has no checksum: it is not a checkpoint of kernadv, or damaged")
    if not np.array_equal(stored, _checksum(arrays)):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit its content")
    return arrays


def _checksum(arrays: Mapping[str, AnyArray]) -> AnyArray:
    """CRC-32 of the names, types, shapes and bytes of all arrays, in order of their names.  # (1,)"""
    total = 0
    for name in sorted(arrays):
        array = arrays[name]
        total = zlib.crc32(repr((name, array.dtype.str, array.shape)).encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return np.array([total], np.int64)
