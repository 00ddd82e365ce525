"""The command `kernadv audit`: read a log, audit it, write the report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from kernadv import __version__, kernels
from kernadv._checkpoint import replacing
from kernadv._errors import printable
from kernadv.audit import Audit, further_baselines
from kernadv.audit import audit as audit_log
from kernadv.cli import _parsing as parsing
from kernadv.cli._progress import Bars
from kernadv.logs import formats, read_log
from kernadv.report import to_json
from kernadv.report.terminal import show

#: Width of the report in a pipe or file, where there is no terminal to ask.
PIPE_WIDTH = 100

#: Draws below which there is no 2.5% point.
FEWEST_DRAWS = 40

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Kernel-smoothed value baselines for reinforcement learning of language models."""


@app.command()
def audit(
    log: Annotated[
        str | None,
        typer.Argument(
            metavar="LOG", help="File, folder, quoted pattern or URL of the reward log; - for standard input."
        ),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Audit the log that ships with kernadv.")] = False,
    format: Annotated[str | None, typer.Option(help=f"{', '.join(formats())}; detected by default.")] = None,
    map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=COLUMN",
            help="Column of the role step, prompt, reward or value (true value); a field of a column: COLUMN.FIELD. "
            "step=path: number in the path of the file; step=rank:COLUMN: rank of a number or time.",
        ),
    ] = None,
    step_every: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Duration of a step (30s, 10m, 1h, 1d), when its column holds times."),
    ] = None,
    counts: Annotated[
        str | None,
        typer.Option(metavar="CORRECT,TRACES", help="Columns of the correct and of all traces, when a row is a group."),
    ] = None,
    traces: Annotated[
        int | None,
        typer.Option(metavar="G", min=1, help="Number of traces, when a reward is the mean of that many 0/1 rewards."),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN[=WEIGHT]", help="Reward column to sum; may be repeated."),
    ] = None,
    on_repeat: Annotated[
        str,
        typer.Option(
            metavar="CHOICE",
            help="Of steps that come again: error, last (only the last rows count), offset (number them on), or merge.",
        ),
    ] = "error",
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further baseline to compare; may be repeated. An unknown name lists all."),
    ] = None,
    kernel: Annotated[str, typer.Option(help=f"Kernel of the grid: {', '.join(kernels.KERNELS)}.")] = "triangular",
    draws: Annotated[int, typer.Option(min=FEWEST_DRAWS, help="Bootstrap draws over prompts.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as a page.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the numbers as JSON.")] = None,
) -> None:
    """Report the value error of every baseline on a finished or running training run, without any new rollout."""
    if (log is None) is not demo:
        raise typer.BadParameter("give either a LOG or --demo" + (", not both" if demo else ""), param_hint="LOG")
    chosen, further = kernels.get(kernel), further_baselines(baseline or [])
    columns, weights = parsing.roles(map or []), parsing.weights(reward or [])
    pair = parsing.pair(counts)
    with ExitStack() as stack:
        if log is None:
            log = str(stack.enter_context(as_file(files("kernadv") / "data" / "tiny_rlvr.parquet")))
            columns = {"value": "value"} | columns
        outputs = parsing.outputs({"--html": html, "--json": json}, log)
        if "--html" in outputs:
            from kernadv.report.page import render
        bars = stack.enter_context(Bars())
        with bars.bar("reading") as tell:
            found = read_log(
                log,
                format=format,
                columns=columns,
                step_every=step_every,
                counts=pair,
                traces=traces,
                rewards=weights,
                on_repeat=on_repeat,
                progress=lambda fraction, rows: tell(fraction, f"{rows:,} rows"),
            )
        with bars.bar("computing") as tell:
            result = audit_log(found, kernel=chosen, baselines=further, draws=draws, seed=seed, progress=tell)
        if demo:
            result = replace(result, source="tiny_rlvr (the log that ships with kernadv)")
        if "--json" in outputs:
            _write(outputs["--json"], to_json(result) + "\n")
        if "--html" in outputs:
            _write(outputs["--html"], render(result))
    _show(result, outputs.values())


def _show(result: Audit, written: Iterable[Path]) -> None:
    """Print the report as far as there is someone to read it."""
    if sys.stdout is None:  # closed by the shell
        return
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    try:
        show(result, console)
        for path in written:
            console.print(Text(printable(f"wrote {path}")), soft_wrap=True)
        sys.stdout.flush()
    except (OSError, SystemExit) as error:
        with suppress(OSError, ValueError):  # what is left in the buffer has nowhere to go when Python exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, (BrokenPipeError, SystemExit)):  # the reader has seen enough; newer rich exits then
            raise OSError(
                f"cannot write the report to standard output: {(error.strerror or str(error)).lower()}"
            ) from None


def _write(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
