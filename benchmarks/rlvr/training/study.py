"""The study of the policies: its runs, which can be stopped and go on.

Command: ``python -m benchmarks.rlvr.training.study [--workers 2]``.  Starts and finished runs lie in runs/; at the end all
runs go into results/rlvr/policies.parquet, and with ``--collect`` those that are finished go there at any time.  ``--smoke``
runs a few tiny ones, prints their table and writes nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import polars as pl

from benchmarks.policies.study import Panel, carry_out, rows
from benchmarks.policies.tables import stored
from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.results import policy_tables
from benchmarks.rlvr.training.panels import PANELS, SMOKE, TOKENS
from benchmarks.rlvr.training.run import train
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Lessons, Sizes

SIZES = Sizes(width=64)
SMALL = Sizes(width=16, layers=1, heads=2, only=Lessons(30, 16, 3e-3))
NAME = "transformer.jsonl"  # a run a line


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train policies with every baseline.")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--collect", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            runs = work(list(SMOKE.values()), Path(folder), SMALL, options.workers)
        for title, table in policy_tables.tables(runs, SMOKE).items():
            print(f"## {title}\n\n{table}\n")
        return
    runs = (
        rows(options.folder / NAME)
        if options.collect
        else work([*PANELS.values(), *TOKENS.values()], options.folder, SIZES, options.workers)
    )
    stored(runs, Setting).write_parquet(RESULTS / "policies.parquet", compression_level=19)


def work(panels: list[Panel], folder: Path, sizes: Sizes, workers: int) -> pl.DataFrame:
    """Carry out what is missing in the folder; all runs."""
    job = partial(train, starts=folder / "starts", sizes=sizes)
    return carry_out(panels, job, folder / NAME, workers)


if __name__ == "__main__":
    main()
