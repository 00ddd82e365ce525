"""How often the intervals of the default estimator hold the true value, on every simulated scenario and the shipped log.

    python -m benchmarks.intervals [--seeds 1] [--first 2]

Over every third step, which takes all places in a stay by turns.  The seeds begin with 2: with 0 and 1 the
constants of the intervals were chosen.  Writes results/intervals.md, in about ten minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track

import kernadv
from benchmarks import RESULTS
from kernadv import KernelValueEstimator
from kernadv.simulation import PROCESSES, SCHEDULES, Simulation, simulate

LEVELS = (0.5, 0.8, 0.95, 0.99)
SIZES = (1, 2, 4, 8)
BATCHES = (8, 64)
#: Step, prompt ids, rewards and true values of a batch.
Rows = Iterable[tuple[int, list, np.ndarray, np.ndarray]]


def simulated(run: Simulation) -> Iterator[tuple]:
    """The batches of a simulation."""
    for step, ids, rewards, group in run.batches():
        yield step, ids, rewards, run.value[group]


def logged(size: int, subset: int) -> Iterator[tuple]:
    """The shipped log, with `size` of the four traces of each group."""
    log = pl.read_parquet(Path(kernadv.__file__).parent / "data" / "tiny_rlvr.parquet")
    kept = log.filter((pl.int_range(pl.len()) + subset) % 4 < size)
    for (step,), rows in kept.group_by("step", maintain_order=True):
        rewards, value = (rows[name].to_numpy().astype(float) for name in ("reward", "value"))
        yield step, rows["prompt_id"].to_list(), rewards, value


def covered(batches: Rows) -> np.ndarray:
    """Share of the true values inside the intervals of each level, and the mean width of the finite ones.  # (2, L)"""
    estimator, inside, width = KernelValueEstimator(), [], []
    for step, ids, rewards, value in batches:
        if step % 3 == 2:
            bounds = [estimator.intervals(ids, rewards, step, level=level) for level in LEVELS]
            inside.append([(low <= value) & (value <= high) for low, high in bounds])
            width.append([high - low for low, high in bounds])
        estimator.observe(ids, rewards, step)
    shares, widths = (np.concatenate(part, axis=1) for part in (inside, width))
    return np.stack([shares.mean(1), widths.mean(1, where=np.isfinite(widths))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=2)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    found: dict[str, list[np.ndarray]] = {}
    cells = list(product(PROCESSES, SCHEDULES, BATCHES, SIZES))
    for process, schedule, batch, size in track(cells, "intervals", console=Console(stderr=True)):
        dealt = replace(SCHEDULES[schedule], batch=batch)
        runs = [covered(simulated(simulate(process, dealt, size, seed=seed))) for seed in seeds]
        found.setdefault(f"{process}, {schedule}, {batch}", []).append(np.mean(runs, axis=0))
    for size in (1, 2, 4):
        subsets = [covered(logged(size, subset)) for subset in (seeds if size < 4 else seeds[:1])]
        found.setdefault("shipped log", []).append(np.mean(subsets, axis=0))
    every = np.array([cell for name, row in found.items() for cell in row if name != "shipped log"])
    lines = [
        f"Share of true values inside the intervals of the default estimator, in percent: over every third step, "
        f"runs a cell: {len(seeds)}.",
        "",
        "| nominal | simulated cells: least | median | most | within 2 points | mean width | shipped log, G = 1, 2, 4 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for k, level in enumerate(LEVELS):
        share = 100 * every[:, 0, k]
        near = f"{(abs(share - 100 * level) <= 2).sum()} of {len(share)}"
        log = ", ".join(f"{100 * cell[0, k]:.1f}" for cell in found["shipped log"])
        lines.append(
            f"| {level:.0%} | {share.min():.1f} | {np.median(share):.1f} | {share.max():.1f} | {near} | "
            f"{every[:, 1, k].mean():.3f} | {log} |"
        )
    lines += [
        "",
        "At 95%, by scenario, schedule and prompts a step:",
        "",
        "| | " + " | ".join(f"G = {size}" for size in SIZES) + " |",
    ]
    lines.append("|---|" + "---:|" * len(SIZES))
    for name, row in found.items():
        shares = [f"{100 * cell[0, LEVELS.index(0.95)]:.1f}" for cell in row]
        lines.append(f"| {name} | " + " | ".join(shares + [""] * (len(SIZES) - len(row))) + " |")
    (RESULTS / "intervals.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
