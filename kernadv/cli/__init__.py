"""The command line: `kernadv audit LOG` and `kernadv watch LOG`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from kernadv import __version__
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
        _without_extra(missing, arguments)
    except (KernadvError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _without_extra(missing: str, arguments: Sequence[str] | None) -> NoReturn:
    """Say what there would be, and what it needs."""
    needs = f'needs {missing}, which is not installed; run: pip install "kernadv[audit]"'
    parser = argparse.ArgumentParser(
        "kernadv",
        description="Kernel-smoothed value baselines for reinforcement learning of language models.",
        epilog=f"The command {needs}. Without it there is the library: from kernadv import KernelValueEstimator",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "command", nargs="?", choices=["audit", "watch"], help="audit a reward log; watch a running run"
    )
    known, rest = parser.parse_known_args(arguments)
    if known.command is None and not rest:
        parser.print_help()
        sys.exit(0)
    _fail(f"the command line {needs}")


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
