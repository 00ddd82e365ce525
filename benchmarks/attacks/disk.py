"""Disks that are full, fail, or are written to by several at once.

Either `save` raises OSError and the old file is whole, or it returns and the new one is; nothing is left beside it.
"""

from __future__ import annotations

import errno
import functools
import multiprocessing
import os
import resource
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.attacks._estimators import CONFIGURATIONS, State, same, warm_up
from benchmarks.attacks._row import Part, Row

__all__ = ["KIND", "parts", "warm_up"]

KIND = "disk"
HOW = CONFIGURATIONS["default"]
#: A folder that cannot be flushed, as on some network file systems, is no error: the file is in place.
NO_FLUSH = (errno.EINVAL, errno.ENOTSUP)
NAMES = ("a[b]*?", "ü\u0301", "x" * 200, "-dash", " space ", "a\nb", "a.tmp", ".hidden")


def parts(short: bool, seed: int) -> list[Part]:
    """One part for each attack."""
    saves = 10 if short else 100
    each = [full_disk, file_too_large, failing_calls, names]
    return [
        *(functools.partial(attack, seed) for attack in each),
        *(functools.partial(at_once, kind, saves, seed) for kind in ("threads", "processes")),
    ]


def full_disk(seed: int) -> Row:
    """A small file system in memory, if one may be mounted."""
    row = Row(KIND, "a full disk: a tmpfs")
    with tempfile.TemporaryDirectory() as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place], capture_output=True)
        if mounted.returncode:
            row.outcomes["not tried: no tmpfs may be mounted here"] += 1
            return row
        try:
            path, old = _saved(Path(place), seed)
            large = HOW.trained(seed, 3, range(20_000), 20_000)
            _attempt(row, "full tmpfs", path, old, large, must_fail=True)
            subprocess.run(["mount", "-o", "remount,size=50m", place], check=True)
            _attempt(row, "tmpfs with room again", path, old, large, must_fail=False)
        finally:
            subprocess.run(["umount", place], check=True)
    return row


def file_too_large(seed: int) -> Row:
    """A limit on the size of files, met at several places of the file."""
    row = Row(KIND, "a full disk: RLIMIT_FSIZE")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    large = HOW.trained(seed, 3, range(5000), 5000)
    _, endless = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 1, 4096, 65_536, 200_000):
        with tempfile.TemporaryDirectory() as place:
            path, old = _saved(Path(place), seed)

            @contextmanager
            def limited(limit: int = limit) -> Iterator[None]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, endless))
                try:
                    yield
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (endless, endless))

            _attempt(row, f"RLIMIT_FSIZE {limit}", path, old, large, limited, must_fail=True)
    return row


def failing_calls(seed: int) -> Row:
    """Renames and flushes that fail, of the file and of its folder."""
    row = Row(KIND, "rename and fsync fail, of file and folder")
    new = HOW.trained(seed + 1)
    for name, number in [
        *(("replace", number) for number in (errno.EIO, errno.ESTALE, errno.EXDEV, errno.ENOSPC, errno.EACCES)),
        *(("fsync", number) for number in (errno.EIO, errno.EINVAL, errno.ENOSPC)),
        *(("fsync of the folder", number) for number in (errno.EIO, *NO_FLUSH)),
    ]:
        with tempfile.TemporaryDirectory() as place:
            path, old = _saved(Path(place), seed)
            harmless = "folder" in name and number in NO_FLUSH
            said = f"{name} {errno.errorcode[number]}"
            _attempt(
                row,
                said,
                path,
                old,
                new,
                functools.partial(_failing, name, number),
                must_fail=None if not harmless else False,
            )
    return row


def names(seed: int) -> Row:
    """Odd names of files: a save, a writer killed in the middle of the next one, another save."""
    row = Row(KIND, "odd names, links, unfinished files of killed writers")
    new = HOW.trained(seed + 1)
    for name in (*NAMES, "a link"):
        with tempfile.TemporaryDirectory() as place:
            row.count += 1
            path = Path(place) / name
            try:
                if name == "a link":
                    (Path(place) / "there").mkdir()
                    path.symlink_to(Path(place) / "there" / "file")
                HOW.trained(seed).save(path)
                _killed_while_saving(path, new)
                new.save(path)
                again = HOW.make()
                again.load(path)
                left = [
                    other for other in Path(place).rglob("*") if other.is_file() and other.resolve() != path.resolve()
                ]
                if name == "a link" and not path.is_symlink():
                    row.fail(f"{name!r}: replaced by a file")
                if not same(again.state_dict(), new.state_dict()):
                    row.fail(f"{name!r}: another state is loaded")
                if left:
                    row.fail(f"{name!r}: an unfinished file of a killed writer is left after the next save")
            except Exception as error:
                row.fail(f"{name!r}: {type(error).__name__}: {str(error)[:80]}")
    return row


def at_once(kind: str, saves: int, seed: int) -> Row:
    """Four writers of one path."""
    row = Row(KIND, "four threads, or processes, that save to one path at once")
    writers = [HOW.trained(seed + k) for k in range(4)]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "state"
        context = multiprocessing.get_context("fork")
        errors: Any = context.SimpleQueue()
        make: Callable[..., Any] = threading.Thread if kind == "threads" else context.Process
        running = [make(target=_save_often, args=(writer, path, saves, errors)) for writer in writers]
        for one in running:
            one.start()
        for one in running:
            one.join()
        row.count += saves * len(writers)
        while not errors.empty():
            row.fail(f"{kind}: {errors.get()}")
        again = HOW.make()
        try:
            again.load(path)
            if not any(same(again.state_dict(), writer.state_dict()) for writer in writers):
                row.fail(f"{kind}: the file is none of those that were saved")
        except Exception as error:
            row.fail(f"{kind}: load raised {type(error).__name__}: {str(error)[:80]}")
        if left := [other.name for other in Path(place).iterdir() if other != path]:
            row.fail(f"{kind}: files left beside", ", ".join(left))
    return row


def _save_often(writer: Any, path: Path, saves: int, errors: Any) -> None:
    for _ in range(saves):
        try:
            writer.save(path)
        except Exception as error:
            errors.put(f"save raised {type(error).__name__}")


def _saved(folder: Path, seed: int) -> tuple[Path, State]:
    """A checkpoint in a folder, and its state."""
    estimator = HOW.trained(seed)
    estimator.save(folder / "state")
    return folder / "state", estimator.state_dict()


def _attempt(
    row: Row, said: str, path: Path, old: State, new: Any, trouble: Any = None, *, must_fail: bool | None = None
) -> None:
    """Save under some trouble, and look at what is there afterwards."""
    row.count += 1
    error = None
    try:
        with trouble() if trouble else _no_trouble():
            new.save(path)
    except Exception as raised:
        error = raised
    if error is not None and not isinstance(error, OSError):
        row.fail(f"{said}: save raised {type(error).__name__}: {str(error)[:60]}")
    if must_fail is not None and must_fail != (error is not None):
        row.fail(f"{said}: save {'returned' if error is None else f'raised {type(error).__name__}: {str(error)[:60]}'}")
    again = HOW.make()
    try:
        again.load(path)
    except Exception as broken:
        row.fail(f"{said}: load raised {type(broken).__name__}: {str(broken)[:60]}")
        return
    # An error after the rename may leave the new file in place: it is whole as well.
    allowed = [new.state_dict()] if error is None else [old, new.state_dict()]
    if not any(same(again.state_dict(), state) for state in allowed):
        row.fail(f"{said}: the file holds another state")
    if left := [other.name for other in path.parent.iterdir() if other != path]:
        row.fail(f"{said}: files left beside", ", ".join(left))


@contextmanager
def _no_trouble() -> Iterator[None]:
    yield


@contextmanager
def _failing(name: str, number: int) -> Iterator[None]:
    """Let `os.replace`, or `os.fsync` of files or of folders, fail."""
    function = name.split()[0]
    original = getattr(os, function)

    def call(*arguments: Any, **options: Any) -> Any:
        hit = True
        if function == "fsync":
            hit = stat.S_ISDIR(os.fstat(arguments[0]).st_mode) == ("folder" in name)
        if hit:
            raise OSError(number, os.strerror(number))
        return original(*arguments, **options)

    setattr(os, function, call)
    try:
        yield
    finally:
        setattr(os, function, original)


def _killed_while_saving(path: Path, writer: Any) -> None:
    """Fork a process that is killed when its file is written but not yet renamed."""
    child = os.fork()
    if not child:
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        try:
            writer.save(path)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
