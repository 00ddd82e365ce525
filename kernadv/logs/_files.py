"""The files of a log: where they are, in which order, and how they are opened.

A log is given as a file, a folder, a pattern, a URL or a pipe, or as several of them.  All that follows sees `File`s.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit

from kernadv._errors import ArgumentTypeError, LogError, import_extra
from kernadv.logs._base import Absent

#: Folders in folders that are searched.
_DEPTH = 4
_BUFFER = 1 << 16
#: Bytes of a pipe from which its format is told.
_HEAD = 1 << 16
_PATTERN = re.compile("[*?[]")
#: Bytes that tell the compression.
_MAGIC = 16


def _gzip(raw: Any) -> Any:
    return gzip.GzipFile(fileobj=raw)


def _zstd(raw: Any) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")


#: First bytes of a compressed file, its ending, and how it is read.
_COMPRESSIONS: tuple[tuple[re.Pattern[bytes], str, Callable[[Any], Any]], ...] = (
    (re.compile(rb"\x1f\x8b"), ".gz", _gzip),
    (re.compile(rb"BZh[1-9]1AY&SY"), ".bz2", bz2.BZ2File),
    (re.compile(rb"\xfd7zXZ\x00"), ".xz", lzma.LZMAFile),
    (re.compile(rb"\x28\xb5\x2f\xfd"), ".zst", _zstd),
)
COMPRESSED = tuple(ending for _, ending, _ in _COMPRESSIONS)
"""Endings of compressed files, which come after the ending of the format."""


def is_packed(head: bytes) -> bool:
    """Whether the first bytes of a file are those of compressed data."""
    return any(magic.match(head) for magic, _, _ in _COMPRESSIONS)


class Stream(io.BufferedReader):
    """The bytes of a file, decompressed if its first bytes say that it is compressed.

    Parameters
    ----------
    source : file object
        Read from its start, and closed with the stream.
    size : int or None
        Its bytes, where they are known.
    head : bytes, optional
        What has been read of it already.
    """

    def __init__(self, source: Any, size: int | None, head: bytes = b"") -> None:
        self._size, self._taken = size, _Source(source, head or source.read(_MAGIC))
        unpack = next((unpack for magic, _, unpack in _COMPRESSIONS if magic.match(self._taken.head)), None)
        self._unpacked = None if unpack is None else _Unpacked(unpack, self._taken)
        super().__init__(self._unpacked or self._taken, _BUFFER)

    @property
    def cut(self) -> bool:
        """Whether compressed data ended too early; what came before has been read."""
        inner = self._unpacked or self._taken.source
        return bool(getattr(inner, "cut", False))

    @property
    def done(self) -> float:
        """Fraction of the file that has been read; 0 where its size is unknown."""
        return min(self._taken.count / self._size, 1.0) if self._size else 0.0

    def close(self) -> None:
        """Close the file too."""
        super().close()
        self._taken.close()


class _Source(io.RawIOBase):
    """What is read from a file, counted; its head was read before."""

    def __init__(self, source: Any, head: bytes) -> None:
        self.source, self.head, self.count = source, head, 0
        self._rest = head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._rest or self.source.read(len(buffer))
        part, self._rest = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(part)] = part
        self.count += len(part)
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self.source.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """Decompressed bytes, up to where the data end."""

    def __init__(self, unpack: Callable[[Any], Any], source: _Source) -> None:
        self._inner, self.cut = unpack(io.BufferedReader(source, _BUFFER)), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read1(min(len(buffer), _BUFFER))
        except (EOFError, OSError) as error:
            if isinstance(error, OSError) and "Truncated" not in str(error):
                raise
            data, self.cut = b"", True
        buffer[: len(data)] = data
        return len(data)


@dataclass(frozen=True, eq=False)
class File:
    """A file of a log, on this machine.

    Attributes
    ----------
    path : str
        Path or URL.
    size : int or None
        Bytes, where they are known.
    root : str
        The path that was given: the file, or a folder or pattern that leads to it.
    folders : tuple of str
        Folders between the folder that was given or matched, and the file.
    last : bool
        Whether it is the last of its root: a running job may still be writing it.
    before : int
        Rows of it that were read before, and are no part of it here.
    row_groups : range or None
        Those of a parquet file that are a part of it here; None: all.
    once : bool
        Whether it can be read only once, and only by this process.

    Examples
    --------
    >>> import gzip, tempfile
    >>> from kernadv.logs import File
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/1.jsonl.gz"
    ...     with gzip.open(path, "wb") as out:
    ...         size = out.write(b'{"step": 1}\\n')
    ...     file = File(path, None, folder)
    ...     print(file.name, file.ending, file.in_place)
    ...     with file.open() as stream, file.seekable() as whole:
    ...         print(stream.read() == whole.read())
    1.jsonl.gz .jsonl False
    True
    """

    path: str
    size: int | None
    root: str
    folders: tuple[str, ...] = ()
    last: bool = False
    before: int = 0
    row_groups: range | None = None
    once: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.path

    @cached_property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(_place(self.path)).name

    @cached_property
    def ending(self) -> str:
        """Ending of the name in lower case, without that of a compression."""
        path = PurePosixPath(self.name.lower())
        return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix

    def open(self) -> Stream:
        """Return the bytes from the start."""
        return Stream(self._opened(), self.size)

    @property
    def in_place(self) -> bool:
        """Whether it can be read in any order where it is, without a copy."""
        return not self.name.lower().endswith(COMPRESSED)

    def seekable(self) -> Any:
        """Return a file that can be read in any order."""
        return self._seekable() if self.in_place else _on_disk(self.open())

    def _opened(self) -> Any:
        return open(self.path, "rb", buffering=0)

    def _seekable(self) -> Any:
        import pyarrow as pa

        return pa.OSFile(self.path)


@dataclass(frozen=True, eq=False)
class _Remote(File):
    """A file of a file system of fsspec."""

    system: Any = None

    def _opened(self) -> Any:
        return self.system.open(self.path, "rb", **({"block_size": 0} if _is_web(self.path) else {}))

    @property
    def in_place(self) -> bool:
        """Not every web server can send a part of a file."""
        return super().in_place and not _is_web(self.path)

    def _seekable(self) -> Any:
        return self._opened()


@dataclass(frozen=True, eq=False)
class _Pipe(File):
    """What can be read only once.  Its format is told from its first bytes."""

    descriptor: int | None = None
    once: ClassVar[bool] = True

    @cached_property
    def ending(self) -> str:
        """Ending that a file with this content should have."""
        head = self._head.lstrip(b"\xef\xbb\xbf \t\r\n")
        first, _, rest = head.partition(b"\n")
        if head.startswith(b"PAR1"):
            return ".parquet"
        if head.startswith((b"{", b"[")):
            return ".jsonl" if first.rstrip().endswith(b"}") and rest.strip() else ".json"
        return ".tsv" if b"\t" in first else ".csv"

    @cached_property
    def _once(self) -> Stream:
        return Stream(open(self.path if self.descriptor is None else self.descriptor, "rb", buffering=0), None)

    @cached_property
    def _head(self) -> bytes:
        return self._once.read(_HEAD)

    @cached_property
    def _disk(self) -> Any:
        return _on_disk(self.open())

    def open(self) -> Stream:
        """Return the bytes; possible once."""
        return Stream(self._once, None, self._head)

    def seekable(self) -> Any:
        """Return a copy on the disk."""
        self._disk.seek(0)
        return os.fdopen(os.dup(self._disk.fileno()), "rb")


def find(given: object) -> tuple[str, list[File]]:
    """Return how to call a log, and its files: those of a folder in the order of their names, numbers as numbers.

    Parameters
    ----------
    given : str, Path, or sequence of them
        Files, folders, patterns with ``*``, URLs that fsspec knows, ``-`` for standard input.

    Raises
    ------
    ArgumentTypeError
        If it is something else.
    LogError
        If nothing is there, or it cannot be opened.
    """
    texts = _texts(given)
    files: dict[str, File] = {}
    for text in texts:
        found = sorted(_found(text), key=lambda file: natural(file.path))
        for file in found:
            files.setdefault(_identity(file), replace(file, last=file is found[-1]))
    return ", ".join(texts), list(files.values())


def places(given: object) -> list[str]:
    """Return what a log occupies on this machine: the files and folders given, those that match a pattern, and all files of
    the folders.  URLs and standard input occupy nothing.

    Parameters
    ----------
    given : str, Path, or sequence of them
        As for `find`; nothing is opened.

    Raises
    ------
    ArgumentTypeError, LogError
        As `find`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from kernadv.logs import places
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "1.jsonl").touch()
    ...     [pathlib.Path(place).name for place in places(f"{folder}/*.jsonl")][:1]
    ['1.jsonl']
    """
    here = [os.path.expanduser(text) for text in _texts(given) if text != "-" and "://" not in text]
    return [*chain.from_iterable(map(_matches, here)), *(file.path for path in here for file in _local(path))]


def natural(path: str) -> list[list[str | int]]:
    """Return a key that sorts paths folder by folder, and numbers in them as numbers."""
    parts = (re.split("([0-9]+)", name) for name in path.split("/"))
    return [[int(part) if k % 2 else part for k, part in enumerate(name)] for name in parts]


def shallowest(files: Iterable[File], wanted: Callable[[File], bool]) -> list[File]:
    """Return the wanted files, of each path that was given only those that are not in a deeper folder than others."""
    found = [file for file in files if wanted(file)]
    depths: dict[str, int] = {}
    for file in found:
        depths[file.root] = min(len(file.folders), depths.get(file.root, len(file.folders)))
    return [file for file in found if len(file.folders) == depths[file.root]]


def _texts(given: object) -> list[str]:
    """The paths that were given."""
    paths = [given] if isinstance(given, (str, os.PathLike)) else given
    if not isinstance(paths, Sequence) or not paths or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise ArgumentTypeError(f"path must be a file, a folder, or a list of them, got {given!r:.80}")
    texts = [os.fspath(path) for path in paths]
    for text in texts:
        if isinstance(text, bytes):
            raise ArgumentTypeError(f"path must be text, got {text!r:.80}")
    return texts


def _found(text: str) -> Iterator[File]:
    """Files of one given path."""
    if text == "-":
        yield _Pipe("standard input", None, text, descriptor=0)
    elif "://" in text:
        yield from _remote(text)
    else:
        yield from _local(os.path.expanduser(text))


def _matches(path: str) -> list[str]:
    """The path, or what matches it as a pattern; links that lead nowhere do not."""
    try:
        os.stat(path)
        return [path]
    except (OSError, ValueError) as error:
        found = filter(os.path.exists, glob.glob(path, recursive=True) if _PATTERN.search(path) else [])
        if matches := list(found):
            return matches
        absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
        why = "does not exist" if absent else f"cannot be opened: {getattr(error, 'strerror', error)}"
        kind = Absent if absent else LogError
        raise kind(f"expected a log file or folder, but {path} {why}") from None


def _local(path: str) -> Iterator[File]:
    found = _matches(path)
    for place in found:
        mode = os.stat(place).st_mode
        if stat.S_ISDIR(mode):
            yield from _inside(place, path)
        elif stat.S_ISREG(mode):
            yield File(place, os.stat(place).st_size, path)
        elif len(found) == 1:
            yield _Pipe(place, None, path)


def _inside(folder: str, root: str) -> Iterator[File]:
    """Files of a folder and of its folders; what begins with a point or an underscore is no data."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a folder that went while it was listed
            why = (error.strerror or str(error)).lower()
            raise LogError(f"{error.filename} cannot be opened: {why}; give permission, or name the folders to read")

    for place, folders, names in os.walk(folder, onerror=refuse):
        within = () if place == folder else tuple(os.path.relpath(place, folder).split(os.sep))
        folders[:] = [name for name in folders if name[0] not in "._" and len(within) < _DEPTH]
        for name in names:
            path = os.path.join(place, name)
            if name[0] not in "._" and os.path.isfile(path):
                yield File(path, os.stat(path).st_size, root, within)


def _remote(url: str) -> Iterator[File]:
    fsspec = import_extra("fsspec", f"reading {url}", "audit")
    try:
        system, path = fsspec.core.url_to_fs(url)
        is_pattern = not _is_web(url) and _PATTERN.search(path)
        places = system.glob(path, detail=True) if is_pattern else {path: system.info(path)}
        for place, about in places.items():
            is_folder = about["type"] == "directory"
            inside = system.find(place, maxdepth=_DEPTH + 1, detail=True) if is_folder else {place: about}
            for name, entry in inside.items():
                parts = tuple(name.removeprefix(place).strip("/").split("/"))
                if not any(part.startswith((".", "_")) for part in parts):
                    full = name if _is_web(url) else system.unstrip_protocol(name)
                    yield _Remote(full, entry.get("size"), url, parts[:-1], system=system)
    except Exception as error:  # of any file system, whose errors share no class
        detail = str(error) or type(error).__name__
        raise LogError(f"{url} cannot be opened: {detail}") from error


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _identity(file: File) -> str:
    """The same for two names of one file."""
    return os.path.realpath(file.path) if type(file) is File else file.path


def _place(path: str) -> str:
    """Path without the scheme and the query of a URL."""
    return urlsplit(path).path if "://" in path else path.replace(os.sep, "/")


def _on_disk(source: Any) -> Any:
    """Copy what is left of a file to a temporary one, which is gone when it is closed."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    with source:
        shutil.copyfileobj(source, file, 1 << 20)
    file.seek(0)
    return file
