"""Standard output: as far as there is someone to read it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console

#: Width in a pipe or file, where there is no terminal to ask, unless the variable COLUMNS says another.
PIPE_WIDTH = 100


@contextmanager
def standard_output() -> Iterator[Console]:
    """Yield a console.  When the reader of a pipe has seen enough and closes it, the block ends early.

    Characters that the encoding of the output lacks are written as escapes.

    Raises
    ------
    OSError
        If nothing can be written for another reason.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    told = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    console = Console(width=None if told else PIPE_WIDTH, highlight=False)
    if not console.width:  # a terminal that does not know its own
        console.width = PIPE_WIDTH
    try:
        yield console
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # newer rich exits then
        _drop()
    except OSError as error:
        if error.filename is not None:  # of another file
            raise
        _drop()
        raise OSError(f"cannot write the report to standard output: {(error.strerror or str(error)).lower()}") from None


def _drop() -> None:
    """What is left in the buffer has nowhere to go when Python exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
