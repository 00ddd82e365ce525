"""The command line: `kernadv audit LOG` and `kernadv watch LOG`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from kernadv._errors import KernadvError, printable

#: What the extra `audit` installs, by name of import.
_EXTRA = ("typer", "rich", "polars", "pyarrow", "matplotlib", "jinja2")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, 2 for an error that the user can mend, 130 when interrupted or terminated.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    try:
        with _terminable():
            from kernadv.cli.command import app

            app(arguments, prog_name="kernadv")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        _fail(f'the command line needs {missing}, which is not installed; run: pip install "kernadv[audit]"')
    except (KernadvError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does.  By default it leaves half-written files, and terminals without a cursor."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str) -> NoReturn:
    """Print one line, red on a terminal that has colours, and exit with 2."""
    line = f"error: {printable(message, keep=chr(10))}"
    if sys.stderr is not None:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
        with suppress(OSError):  # a full disk: the exit code still says it
            print(line if plain else f"\033[31m{line}\033[0m", file=sys.stderr)
    sys.exit(2)
