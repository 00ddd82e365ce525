"""The commands: `kernadv audit` reads a log, audits it and writes the report; `kernadv watch` follows a running run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from kernadv import __version__, kernels
from kernadv._checkpoint import replacing
from kernadv._errors import printable
from kernadv.auditing import Audit, Comparison, check_needs, compare, further_baselines
from kernadv.auditing import audit as audit_log
from kernadv.auditing import prompts as prompts_of
from kernadv.cli import _parsing as parsing
from kernadv.cli._output import standard_output
from kernadv.cli._progress import Bars
from kernadv.cli._watching import follow
from kernadv.logs import RewardLog, Tail, formats, read_log
from kernadv.report import to_json
from kernadv.report.comparison import show as show_comparison
from kernadv.report.terminal import show

#: Draws below which there is no 2.5% point.
FEWEST_DRAWS = 40

#: Seconds between two looks at a log, at least and at most.
FASTEST, SLOWEST = 0.1, 86400

# groups of options in the help
_reading = partial(typer.Option, rich_help_panel="How the log is read")
_computing = partial(typer.Option, rich_help_panel="What is computed")
_writing = partial(typer.Option, rich_help_panel="What is written")

#: Examples at the end of the help, each on a line of its own.
_AUDITS = """
Examples:

kernadv audit OUTPUT_DIR/completions    # TRL with log_completions=True

kernadv audit ROLLOUT_DATA_DIR --html audit.html    # verl; a page with plots

kernadv audit log.csv --map step=iter --map prompt=qid --map reward=acc

kernadv audit log.parquet --counts n_correct,n_traces    # a row is a group

kernadv audit A B    # two runs, on the prompts that they share
"""
_WATCHES = """
Examples:

kernadv watch OUTPUT_DIR/completions

kernadv watch log.csv --map step=iter > watch.log    # elsewhere than on a screen: lines
"""

# how a log is read
_Format = Annotated[str | None, _reading(metavar="NAME", help=f"{', '.join(formats())}; detected by default.")]
_Map = Annotated[
    list[str] | None,
    _reading(
        metavar="ROLE=COLUMN",
        help="Column of the role step, prompt, reward, value (true value) or weight (of the trace, e.g. its length); a "
        "field of a column: COLUMN.FIELD. "
        "step=path: number in the path of the file; step=rank:COLUMN: rank of a number or time.",
    ),
]
_StepEvery = Annotated[
    str | None,
    _reading(metavar="DURATION", help="Duration of a step (30s, 10m, 1h, 1d), when its column holds times."),
]
_Counts = Annotated[
    str | None,
    _reading(metavar="CORRECT,TRACES", help="Columns of the correct and of all traces, when a row is a group."),
]
_Traces = Annotated[
    int | None,
    _reading(metavar="G", min=1, help="Number of traces, when a reward is the mean of that many 0/1 rewards."),
]
_Reward = Annotated[
    list[str] | None,
    _reading(metavar="COLUMN[=WEIGHT]", help="Reward column to sum; may be repeated."),
]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


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


@app.command(epilog=_AUDITS)
def audit(
    log: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LOG [OTHER]",
            help="File, folder, quoted pattern or URL of the reward log; - for standard input. With the log of another run, "
            "the two are compared on the prompts that they share.",
        ),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Audit the log that ships with kernadv.")] = False,
    format: _Format = None,
    map: _Map = None,
    step_every: _StepEvery = None,
    counts: _Counts = None,
    traces: _Traces = None,
    reward: _Reward = None,
    on_repeat: Annotated[
        str,
        _reading(
            metavar="CHOICE",
            help="Of steps that come again: error, last (only the last rows count), offset (number them on), or merge.",
        ),
    ] = "error",
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Who reads: local, this process; or ray, the workers of a Ray cluster, which must see the same files.",
        ),
    ] = "local",
    baseline: Annotated[
        list[str] | None,
        _computing(metavar="NAME", help="Further baseline to compare; may be repeated. An unknown name lists all."),
    ] = None,
    kernel: Annotated[
        str, _computing(metavar="NAME", help=f"Kernel of the grid: {', '.join(kernels.KERNELS)}.")
    ] = "triangular",
    draws: Annotated[int, _computing(metavar="N", min=FEWEST_DRAWS, help="Bootstrap draws over prompts.")] = 1000,
    seed: Annotated[int, _computing(metavar="N", min=0, help="Seed of the bootstrap.")] = 0,
    html: Annotated[Path | None, _writing(metavar="FILE", help="Write the report as a page.")] = None,
    json: Annotated[Path | None, _writing(metavar="FILE", help="Write the numbers as JSON.")] = None,
    prompts: Annotated[
        Path | None,
        _writing(metavar="FILE", help="Write what is known of each prompt now, as .parquet or .csv."),
    ] = None,
    group: Annotated[
        int | None,
        _writing(
            metavar="G", min=1, help="Traces of the next group, for the chances of dead groups that --prompts writes."
        ),
    ] = None,
) -> None:
    """Report the value error of every baseline on a finished or running training run, without any new rollout."""
    logs = log or []
    if (not logs) is not demo:
        raise typer.BadParameter("give either a LOG or --demo" + (", not both" if demo else ""), param_hint="LOG")
    parsing.two_logs(logs, {"--html": html, "--prompts": prompts, "--baseline": baseline})
    ending = parsing.table_ending(prompts, group)
    chosen, further = kernels.get(kernel), further_baselines(baseline or [])
    columns, weights = parsing.roles(map or []), parsing.weights(reward or [])
    pair = parsing.pair(counts)
    check_needs(
        further,
        truth=demo or "value" in columns,
        traces=pair is None and traces in (None, 1),
        weights="weight" in columns,
    )
    with ExitStack() as stack:
        if demo:
            logs = [str(stack.enter_context(as_file(files("kernadv") / "data" / "tiny_rlvr.parquet")))]
            columns = {"value": "value"} | columns
        outputs = {}
        for one in logs:
            outputs = parsing.outputs({"--html": html, "--json": json, "--prompts": prompts}, one)
        if "--html" in outputs:
            from kernadv.report.page import render
        bars = stack.enter_context(Bars())

        def read(path: str) -> RewardLog:
            with bars.bar("reading") as tell:
                return read_log(
                    path,
                    format=format,
                    columns=columns,
                    step_every=step_every,
                    counts=pair,
                    traces=traces,
                    rewards=weights,
                    on_repeat=on_repeat,
                    keep_traces=prompts is not None or any(one.needs_traces for one in further),
                    engine=engine,
                    progress=lambda fraction, rows: tell(fraction, f"{rows:,} rows"),
                )

        found = [read(path) for path in logs]
        if demo:
            found = [replace(found[0], source="tiny_rlvr (the log that ships with kernadv)")]
        result: Audit | Comparison
        with bars.bar("computing") as tell:
            if len(found) == 2:
                result = compare(*found, kernel=chosen, draws=draws, seed=seed, progress=tell)
            else:
                result = audit_log(*found, kernel=chosen, baselines=further, draws=draws, seed=seed, progress=tell)
        if "--prompts" in outputs:
            with bars.bar("prompts") as tell:
                table = prompts_of(*found, group=group, progress=tell)
            with replacing(outputs["--prompts"]) as beside:
                (table.write_csv if ending == ".csv" else table.write_parquet)(beside)
        if "--json" in outputs:
            _write(outputs["--json"], to_json(result) + "\n")
        if "--html" in outputs:
            assert isinstance(result, Audit)
            _write(outputs["--html"], render(result))
    _show(result, outputs.values())


@app.command(epilog=_WATCHES)
def watch(
    log: Annotated[
        str,
        typer.Argument(metavar="LOG", help="File, folder or quoted pattern of the reward log; it may not exist yet."),
    ],
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two looks at the log.")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Read what is there, show it and end.")] = False,
    format: _Format = None,
    map: _Map = None,
    step_every: _StepEvery = None,
    counts: _Counts = None,
    traces: _Traces = None,
    reward: _Reward = None,
) -> None:
    """Follow a running training run: value errors, dead groups and rewards as the log grows, until Ctrl-C."""
    if not FASTEST <= every <= SLOWEST:
        raise typer.BadParameter(f"expected from {FASTEST} to {SLOWEST:,} seconds, got {every}", param_hint="--every")
    tail = partial(
        Tail,
        log,
        format=format,
        columns=parsing.roles(map or []),
        step_every=step_every,
        counts=parsing.pair(counts),
        traces=traces,
        rewards=parsing.weights(reward or []),
    )
    if sys.stdout is None:  # closed by the shell
        return
    with standard_output() as console:
        follow(tail, console, every, once)


def _show(result: Audit | Comparison, written: Iterable[Path]) -> None:
    """Print the report as far as there is someone to read it."""
    if sys.stdout is None:  # closed by the shell
        return
    with standard_output() as console:
        show(result, console) if isinstance(result, Audit) else show_comparison(result, console)
        for path in written:
            console.print(Text(printable(f"wrote {path}")), soft_wrap=True)


def _write(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
