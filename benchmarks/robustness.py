"""Attacks on the estimator and the regressors, and how many succeed.

    python -m benchmarks.robustness [--short] [--only KIND] [--seed N]

Writes results/robustness.md and ends with an error if anything failed.  In full it takes some 25 minutes of two cores, with
`--short`, which tries few cases of every kind and writes nothing, two.  With `--only` the rows of the other kinds stay.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # the parts use the cores

from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402

from benchmarks import RESULTS  # noqa: E402
from benchmarks.attacks import KINDS, Part, Row, in_processes, name_of  # noqa: E402

RESULT = RESULTS / "robustness.md"
#: Different failures of a row that are printed.
SHOWN = 40


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Attack the package in many ways; exit with 1 if an attack succeeds.")
    parser.add_argument("--short", action="store_true", help="few cases of every kind, in two minutes; writes no table")
    parser.add_argument(
        "--only", choices=sorted(KINDS), action="append", help="these kinds only; the others stay in the table"
    )
    parser.add_argument("--part", help="only the parts with this in their name, e.g. default; writes no table")
    parser.add_argument("--seed", type=int, default=1, help="what is random follows from it (default: 1)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (default: the cores)"
    )
    parser.add_argument("--table", type=Path, help="write the table there, whatever else is asked")
    asked = parser.parse_args()
    console = Console()
    begun = time.monotonic()
    parts = [
        (kind, part)
        for kind in KINDS
        if not asked.only or kind in asked.only
        for part in KINDS[kind].parts(asked.short, asked.seed)
        if asked.part is None or asked.part in name_of(part)
    ]
    for kind in {kind for kind, _ in parts}:
        KINDS[kind].warm_up()
    rows = attack(parts, asked.jobs, console)
    console.print("\n".join(table(rows)), soft_wrap=True, highlight=False, markup=False)
    for row in rows:
        report(row, console)
    path = asked.table or (None if asked.short or asked.part else RESULT)
    if path is not None:
        options = ("--short " if asked.short else "") + f"--seed {asked.seed}"
        lines = table(rows)
        if asked.only and path.exists():
            lines = renewed(path.read_text(encoding="utf-8").splitlines(), lines, set(asked.only))
        text = header(options, time.monotonic() - begun, asked.only) + "\n".join(lines) + "\n"
        path.write_text(text, encoding="utf-8")
        console.print(f"wrote {path}", soft_wrap=True)
    failures = sum(row.failures.total() for row in rows)
    if failures:
        sys.exit(f"{failures:,} failures")


def attack(parts: Sequence[tuple[str, Part]], jobs: int, console: Console) -> list[Row]:
    """Run parts; one row for each thing done, in the order of `KINDS`."""
    found: dict[tuple[str, str], Row] = {}
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("attacking", total=len(parts))
        for kind, row in in_processes(parts, jobs):
            progress.update(task, advance=1, description=kind, refresh=True)
            key = row.kind, row.done
            if key in found:
                found[key].merge(row)
            else:
                found[key] = row
    order = list(KINDS)
    return sorted(found.values(), key=lambda row: (order.index(row.kind), row.done))


def report(row: Row, console: Console) -> None:
    """Print the failures of a row, the most frequent first."""
    if row.failures:
        console.print(f"\n{row.kind}: {row.done}, {row.failures.total():,} failures", soft_wrap=True, markup=False)
    for what, times in row.failures.most_common(SHOWN):
        example = f" -- e.g. {row.examples[what]}" if row.examples.get(what) else ""
        console.print(f"  {times} x {what}{example}", soft_wrap=True, highlight=False, markup=False)
    if len(row.failures) > SHOWN:
        console.print(f"  and {len(row.failures) - SHOWN} other kinds")


def header(options: str, seconds: float, only: Sequence[str] | None = None) -> str:
    """Title, versions and how the table is remade."""
    packages = ("kernadv", "numpy", "numba", "scipy", "safetensors")
    facts = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    what = f"Last made anew: {', '.join(sorted(only))}" if only else "Made"
    return (
        f"# Robustness\n\nRemade by `python -m benchmarks.robustness {options}` (`make robustness`), which ends with an "
        f"error if an attack succeeds; `--only KIND` makes the rows of a kind anew. {what}, {datetime.date.today()}, in "
        f"{seconds / 60:.0f} minutes on {machine}, {facts}.\n\n"
    )


def renewed(before: Sequence[str], lines: Sequence[str], only: set[str]) -> list[str]:
    """The lines of a table with those of some kinds in the place of the ones before, in the order of `KINDS`."""
    kept = [line for line in before if line.startswith("| ") and line.split(" | ")[0][2:] not in {"kind", *only}]
    order = list(KINDS)
    return [*lines[:2], *sorted([*kept, *lines[2:]], key=lambda line: order.index(line.split(" | ")[0][2:]))]


def table(rows: Sequence[Row]) -> list[str]:
    """The results as lines of a Markdown table."""
    lines = ["| kind | what was done | times | failures | beside it |", "|---|---|---|---|---|"]
    for row in rows:
        beside = [f"{count:,} {what}" for what, count in row.outcomes.most_common()]
        beside += [f"slowest {row.slowest:.2g} s of CPU"] if row.slowest else []
        beside += [f"most memory {row.memory / 2**20:.1f} MiB"] if row.memory else []
        lines.append(f"| {row.kind} | {row.done} | {row.count:,} | {row.failures.total():,} | {'; '.join(beside)} |")
    return lines


if __name__ == "__main__":
    main()
