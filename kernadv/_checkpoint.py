"""Files that are whole or absent: written beside, flushed to disk, renamed over the old one.

A URL goes through fsspec, whose file system is that of the store.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import socket
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError, CheckpointError, MissingExtraError
from kernadv.typing import AnyArray

#: Name under which a file carries the checksum of its other arrays.
CHECKSUM = "crc32"
#: How safetensors calls the types of numpy.
_KINDS = {"|b1": "BOOL", "|u1": "U8", "|i1": "I8"} | {
    f"<{kind}{size}": f"{name}{8 * size}"
    for kind, name, sizes in (("u", "U", (2, 4, 8)), ("i", "I", (2, 4, 8)), ("f", "F", (2, 4, 8)))
    for size in sizes
}


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to; on success it replaces `path`, on failure the old file stays and nothing is left.

    A process killed in the middle leaves its unfinished file beside; the next write on the same host removes it.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir() or not target.parent.is_dir():
        kind = "is a folder" if target.is_dir() else f"cannot be written: there is no folder {target.parent}"
        raise FileNotFoundError(f"{target} {kind}")
    with aside(target) as beside:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
        with suppress(OSError):  # the file is whole and in place; not every file system can flush a folder
            flush_folder(target.parent)


@contextmanager
def aside(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` for a file or folder that is not whole; what is there at the end is removed."""
    host = socket.gethostname().replace("-", "_")
    for stale in target.parent.glob(f".{escape(target.name)}.{escape(host)}-*-*.tmp"):
        if not _alive(stale.name.rsplit("-", 2)[1]):
            with suppress(OSError):  # another user's: not ours to remove
                _remove(stale)
    beside = target.with_name(f".{target.name}.{host}-{os.getpid()}-{uuid.uuid4().hex}.tmp")
    try:
        yield beside
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush a folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alive(pid: str) -> bool:
    return not pid.isdigit() or Path(f"/proc/{pid}").exists() or not Path("/proc").exists()


def resolve(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The file system of fsspec that holds a URL, and the path in it; None: the path is one of this machine.

    Raises
    ------
    ArgumentError
        If no file system has that protocol, or the path is a URL that lost a slash, as it does in a `Path`.
    MissingExtraError
        If fsspec, or its package for the protocol, is not installed.
    """
    text = os.fspath(path)
    if "://" not in text:
        scheme = next((part for part in text.split(os.sep) if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:", part)), None)
        if scheme is not None:
            raise ArgumentError(
                f"{text} is no URL, but looks like one: give {scheme}//... as text, whole and not as a Path"
            )
        return None, text
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError:
        raise MissingExtraError(
            f"{text} needs fsspec, which is not installed; run: pip install fsspec, and its package for the store, e.g. s3fs"
        ) from None
    try:
        system, inside = fsspec.core.url_to_fs(text)
    except ImportError as error:
        raise MissingExtraError(f"{text} needs a package that is not installed: {error}") from None
    except ValueError as error:
        raise ArgumentError(f"{text} cannot be reached through fsspec: {error}") from None
    kinds = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
    return (None, inside) if "file" in kinds else (system, inside)


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays to a safetensors file, atomically; to a URL as its store writes a file.

    The arrays are not copied, unless they are not contiguous.

    Raises
    ------
    ArgumentError, MissingExtraError
        As `resolve`.
    OSError, or another error of the store
        If the file cannot be written.
    """
    system, place = resolve(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if system is None:
        with replacing(place) as beside:
            _write(beside, arrays)
        return
    with tempfile.TemporaryDirectory(prefix="kernadv-") as folder:
        whole = Path(folder) / "state"
        _write(whole, arrays)
        system.put_file(str(whole), place)


def _write(path: Path, arrays: dict[str, AnyArray]) -> None:
    """Write the format of safetensors: length of the header, header, arrays; largest numbers first, so that all align.

    The library's own writer would hold further copies of a state of gigabytes.
    """
    arrays = {**arrays, CHECKSUM: _checksum(arrays)}
    header, end = {}, 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        header[name] = {
            "dtype": _KINDS[array.dtype.str],
            "shape": array.shape,
            "data_offsets": (end, end + array.nbytes),
        }
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in header:
            file.write(arrays[name].reshape(-1).view(np.uint8).data)


def load_arrays(path: str | os.PathLike[str]) -> dict[str, AnyArray]:
    """Read the arrays of a file that `save_arrays` wrote.

    Raises
    ------
    CheckpointError
        If the file is truncated, not a safetensors file, without a checksum, or does not fit it.
    FileNotFoundError
        If there is no such file.
    ArgumentError, MissingExtraError
        As `resolve`.
    """
    from safetensors.numpy import load, load_file  # here: nothing but a file needs it

    system, place = resolve(path)
    if not (Path(place).is_file() if system is None else system.isfile(place)):
        raise FileNotFoundError(f"no checkpoint at {path}")
    data = None if system is None else system.cat_file(place)
    try:
        arrays = dict(load_file(place) if data is None else load(data))
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
