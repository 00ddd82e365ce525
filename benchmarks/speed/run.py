"""Every speed and memory number of the package, in one run.

Command: ``python benchmarks/speed/run.py`` (or ``make bench``).  First the tests of what is measured must pass; then each
case runs in a process of its own, and the results go to ``benchmarks/results/speed.json`` and ``speed.md``, the targets
beside the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from cases import CASES
from rich.console import Console
from rich.progress import track

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE.parent / "results"
GATE = ["tests/laws", "tests/oracles", "tests/test_audit.py", "tests/logs"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure every speed and memory number of the package.")
    parser.add_argument(
        "--only", choices=sorted(CASES), action="append", help="measure these cases only, write nothing"
    )
    parser.add_argument("--long", action="store_true", help="measure slow peers whole, which takes minutes")
    parser.add_argument("--case", choices=sorted(CASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(CASES[arguments.case]()))
        return
    if arguments.long:
        os.environ["KERNADV_LONG"] = "1"
    console = Console()
    console.print("tests of what is measured ...")
    gate = subprocess.run([sys.executable, "-m", "pytest", "-q", *GATE], cwd=ROOT)
    if gate.returncode:
        sys.exit("the tests are not green: no number is worth printing")
    rows = []
    for name in track(arguments.only or list(CASES), description="measuring", console=console):
        done = subprocess.run([sys.executable, __file__, "--case", name], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr}")
        rows += json.loads(done.stdout.splitlines()[-1])
    text = table(rows)
    console.print(text, soft_wrap=True, highlight=False)
    if not arguments.only:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "speed.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
        (RESULTS / "speed.md").write_text(header() + text + "\n")
        console.print(f"wrote {RESULTS / 'speed.md'}", soft_wrap=True)


def machine() -> dict[str, str | int]:
    """What the numbers were measured on."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in facts if line.startswith("model name")), "?")
    packages = {name: version(name) for name in ("kernadv", "numpy", "numba", "polars", "pyarrow")}
    return {"cpu": model, "cores": os.cpu_count() or 0, "python": platform.python_version(), **packages}


def header() -> str:
    """Title and machine of the table."""
    facts = ", ".join(f"{key} {value}" for key, value in machine().items())
    return f"# Speed and memory\n\nRemade by `make bench`. Medians after warm-up, on a shared machine: {facts}.\n\n"


def table(rows: list[dict[str, str]]) -> str:
    """The results as a Markdown table."""
    lines = ["| what | measured | target |", "|---|---|---|"]
    lines += [f"| {row['what']} | {row['measured']} | {row['target']} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
