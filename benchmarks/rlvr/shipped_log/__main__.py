"""Run the tiny experiment from a seed, write its reward log, and print its summary numbers.

Command: ``python -m benchmarks.rlvr.shipped_log --seed 0 --out kernadv/data/tiny_rlvr.parquet``
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.rlvr.files import write_table
from benchmarks.rlvr.shipped_log.experiment import Config, Run, run
from benchmarks.rlvr.shipped_log.log_file import to_table
from benchmarks.rlvr.shipped_log.summary import spread, z_score

SHIPPED = Path(__file__).parents[3] / "kernadv" / "data" / "tiny_rlvr.parquet"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Run the tiny experiment from a seed and write its reward log.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=SHIPPED, help="parquet file to write (default: the shipped log)")
    arguments = parser.parse_args()

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # one order of summation, whatever the number of cores
    config = Config()
    console = Console()
    result = run(config, arguments.seed)
    write_table(to_table(result, config, arguments.seed), arguments.out)
    report(result, config, console)
    console.print(f"wrote {arguments.out} ({arguments.out.stat().st_size / 1000:.0f} kB)", soft_wrap=True)


def report(result: Run, config: Config, console: Console) -> None:
    """Print a row a pass over the pool, the pool's values before and after, and the check of the exact values."""
    table = Table("steps", "mean V", "mean reward", "Var V / E V(1-V)", "equal rewards", "z")
    size = config.steps // config.passes
    for start in range(0, config.steps, size):
        rewards, values = result.rewards[start : start + size], result.values[start : start + size]
        numbers = [f"{x:.3f}" for x in spread(rewards, values)]
        table.add_row(f"{start + 1}-{start + size}", *numbers, f"{z_score(rewards, values):+.2f}")
    console.print(table)

    for name, values in (("before", result.before), ("after", result.after)):
        deciles = " ".join(f"{x:.2f}" for x in np.quantile(values, np.linspace(0.0, 1.0, 11)))
        console.print(f"pool {name}: mean V {values.mean():.3f}, deciles {deciles}", soft_wrap=True)

    change = result.after - result.before
    console.print(f"prompts whose value fell: {(change < 0).mean():.0%}, largest fall {-change.min():.2f}")

    console.print(f"rewards against exact values, all traces: z = {z_score(result.rewards, result.values):+.2f}")
    edges = [0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0]
    for low, high in pairwise(edges):
        chosen = (result.values >= low) & (result.values < high)
        z = z_score(result.rewards[chosen], result.values[chosen])
        console.print(f"  V in [{low:.2f}, {high:.2f}): {chosen.sum() * config.group} traces, z = {z:+.2f}")


if __name__ == "__main__":
    main()
