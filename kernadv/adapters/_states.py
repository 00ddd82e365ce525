"""Where states lie: the numbered folders of a run, here or at a URL, and the thread that writes large ones."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kernadv._checkpoint import aside, flush_folder, resolve, save_arrays
from kernadv._errors import CheckpointError

#: Files of a state: the estimator's, what makes its weights, the driver's clock.  The first is written last.
STATE_FILE, WEIGHTS_FILE = "kernadv.safetensors", "kernadv_weights.safetensors"
DRIVER_FILE = "kernadv_driver.safetensors"
#: Prompts and visits above which a state is copied and written in a thread.
LARGE = 100_000

#: What writes each file of a state: arrays, or a function of the file's path.
Files = Mapping[str, Any]

_log = logging.getLogger("kernadv")


def join(folder: Any, name: str) -> str:
    """Path of a file or folder inside a folder or URL."""
    return os.path.join(os.fspath(folder), name)


def absolute(folder: Any) -> str:
    """A folder that stays the same wherever the process goes; a URL as it is.  Errors as `resolve`."""
    system, place = resolve(folder)
    return os.path.abspath(place) if system is None else os.fspath(folder)


def is_there(path: Any) -> bool:
    """Whether a file is there, on this machine or at its URL; errors as `resolve`."""
    system, place = resolve(path)
    if system is None:
        return os.path.isfile(place)
    system.invalidate_cache()  # another process may have written
    return bool(system.isfile(place))


def write(folder: Any, files: Files) -> None:
    """Write the files of a state, in their order, into a folder that is made if need be."""
    system, place = resolve(folder)
    if system is None:
        os.makedirs(place, exist_ok=True)
    else:
        system.makedirs(place, exist_ok=True)
    for name, content in files.items():
        path = join(folder, name)
        if callable(content):
            content(path)
        else:
            save_arrays(path, content)


class Writer:
    """Copies and writes states one after the other, large ones in a thread, for which the interpreter waits at its exit."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._copied = threading.Event()
        self._error: BaseException | None = None

    def __reduce__(self) -> Any:
        """Copies, also in other processes, begin with nothing to do."""
        return Writer, ()

    @property
    def busy(self) -> bool:
        """Whether a state is being written."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, copy: Callable[[], Files], save: Callable[[Files], None], large: bool) -> None:
        """Copy and write a state, after what is being written.

        Errors of a large state, and of states before it, come from `check`.  Before the state may change, `wait` for the
        copy.
        """
        self.finish()
        if not large:
            save(copy())
            return
        self._copied.clear()
        self._thread = threading.Thread(target=self.keeping, args=(lambda: save(self._copy(copy)),), name="kernadv")
        self._thread.start()

    def _copy(self, copy: Callable[[], Files]) -> Files:
        try:
            return copy()
        finally:
            self._copied.set()

    def wait(self) -> None:
        """Wait until the state is copied; writing it goes on."""
        if self._thread is not None:
            self._copied.wait()

    def keeping(self, save: Callable[[], None]) -> None:
        """Write; an error is kept for `check`."""
        try:
            save()
        except Exception as error:  # of any store; it is raised where somebody can act on it
            _log.error("kernadv: %s", error)
            self._error = error

    def check(self) -> None:
        """Raise what a write raised, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def finish(self) -> None:
        """Wait, then `check`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()


class States:
    """Numbered states of a run in one folder, each in a folder of its own.

    Parameters
    ----------
    folder : path or URL
        Of this run, and of one driver, alone.
    keep : int
        States that stay.
    """

    def __init__(self, folder: Any, keep: int) -> None:
        self.folder, self.keep = absolute(folder), keep
        self.system, self.place = resolve(self.folder)

    def whole(self) -> list[str]:
        """The whole states, the oldest first; errors as of `write`."""
        with self._saying():
            return self._whole()

    def write(self, files: Files) -> None:
        """Write the next state, then drop old ones.

        Raises
        ------
        CheckpointError
            If it cannot be written.
        """
        with self._saying():
            number = max((int(name.rpartition("_")[2]) for name in self._names()), default=0) + 1
            name = f"kernadv_{number:06d}"
            if self.system is None:
                os.makedirs(self.place, exist_ok=True)
                with aside(Path(self.place, "kernadv")) as beside:
                    write(beside, files)
                    os.rename(beside, join(self.place, name))
                    with suppress(OSError):  # the state is in place; not every file system can flush a folder
                        flush_folder(Path(self.place))
            else:
                write(join(self.folder, name), files)
            self._drop()

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any store, whose errors share no class
            raise CheckpointError(
                f"kernadv cannot keep its states in {self.folder}: {str(error) or type(error).__name__}; attach a folder "
                "that this process may write to"
            ) from error

    def _whole(self) -> list[str]:
        return [path for name in self._names() if is_there(join(path := join(self.folder, name), STATE_FILE))]

    def _names(self) -> list[str]:
        """Names of the states, whole or not, in the order of their numbers."""
        try:
            if self.system is None:
                names = os.listdir(self.place)
            else:
                self.system.invalidate_cache()
                names = [path.rstrip("/").rpartition("/")[2] for path in self.system.ls(self.place, detail=False)]
        except FileNotFoundError:
            return []
        return sorted((n for n in names if re.fullmatch(r"kernadv_\d{6,}", n)), key=lambda n: int(n.rpartition("_")[2]))

    def _drop(self) -> None:
        """Remove all but the newest whole states."""
        stay = self._whole()[-self.keep :]
        for name in self._names():
            path = join(self.place, name)
            if join(self.folder, name) in stay:
                continue
            if self.system is None:
                with aside(Path(self.place, "kernadv")) as beside:  # renamed first: a folder by its name is whole
                    os.rename(path, beside)
            else:
                marker = join(path, STATE_FILE)
                if self.system.isfile(marker):
                    self.system.rm_file(marker)
                self.system.rm(path, recursive=True)
