"""The default estimator beside the floor, the posterior mean under the true law, on every simulated cell.

    python -m benchmarks.floor [--seeds 20] [--jobs 2] [--short]

Writes results/floor.md and results/floor.parquet (each run's errors, by seed): about 40 minutes of two cores for 20 seeds.
`--short` runs a few cells once, in less than a minute, prints the table and writes nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import polars as pl

from benchmarks import RESULTS
from benchmarks.comparison import Floor, compare, in_hindsight, summary
from benchmarks.comparison.study import FAMILIES, REFERENCE
from benchmarks.comparison.tables import CELL
from kernadv.baselines import discover_tuned
from kernadv.baselines.pooled import PooledKernel
from kernadv.simulation import PROCESSES, SCHEDULES, posterior, simulate
from kernadv.simulation.floor import SETS, TRAJECTORIES

DEFAULT, FLOOR = PooledKernel(), Floor()
#: The floor without one of the sets of trajectories, for its Monte Carlo error.
JACKKNIFE = [Floor(without=number) for number in range(SETS)]
SHORT = {"processes": ["calib", "random_walk", "continuous"], "schedules": ["multi_pass"], "batches": [8, 16]}
FULL = {"processes": list(PROCESSES), "schedules": list(SCHEDULES), "batches": [8, 16, 32, 64]}
SIZES = [1, 2, 4, 8]
#: Steps whose error is shown one by one.
FIRST = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    chosen, seeds = (SHORT, 1) if options.short else (FULL, options.seeds)
    table = measure(seeds, options.jobs, **chosen)
    text = markdown(table, seeds, least_sample(table))
    print(text)
    if not options.short:
        (RESULTS / "floor.md").write_text(text)
        kept = pl.col("method").is_in([FLOOR.name, DEFAULT.name, REFERENCE])
        whole = table.filter(kept, part="all").drop("part", "at")
        whole.write_parquet(RESULTS / "floor.parquet", compression_level=19)


def measure(seeds: int, workers: int, **cells: list) -> pl.DataFrame:
    """The long table of the default, KAE in hindsight and the floor with and without each set of trajectories."""
    grid = [member for family in FAMILIES for member in discover_tuned()[family].grid]
    methods = [DEFAULT, FLOOR, *JACKKNIFE, *grid]
    table = compare(methods, group_sizes=SIZES, seeds=seeds, workers=workers, parts=["all", "first"], **cells)
    names = [b.name for b in grid]
    rest = table.filter(~pl.col("method").is_in(names))
    return pl.concat([rest, in_hindsight(table, names, REFERENCE)])


def by_cell(table: pl.DataFrame) -> pl.DataFrame:
    """Floor, its Monte Carlo error, and the ratios of the default to it and to KAE, with paired standard errors."""
    mean = table.filter(part="all").group_by(*CELL, "method", maintain_order=True).agg(pl.col("mse").mean())
    floor = mean.filter(method=FLOOR.name).select(*CELL, floor="mse")
    left = mean.filter(pl.col("method").is_in([b.name for b in JACKKNIFE]))
    jackknife = np.sqrt(SETS - 1) * pl.col("mse").std(ddof=0)
    error = left.group_by(CELL, maintain_order=True).agg(monte_carlo=jackknife)
    found = floor.join(error, on=CELL)
    for reference, name in ((FLOOR.name, "floor"), (REFERENCE, "kae")):
        columns = {f"to_{name}": "ratio", f"to_{name}_se": "ratio_se"}
        ours = summary(table, reference).filter(method=DEFAULT.name).select(*CELL, **columns)
        found = found.join(ours, on=CELL)
    return found


def least_sample(table: pl.DataFrame) -> float:
    """Smallest effective number of trajectories in the runs of the first seed with the largest groups."""
    cells = table.select("process", "schedule", "batch").unique(maintain_order=True).iter_rows()
    runs = (simulate(p, replace(SCHEDULES[s], batch=b), max(SIZES), seed=0) for p, s, b in cells)
    return min(float(posterior(run).ess.min()) for run in runs)


def markdown(table: pl.DataFrame, seeds: int, sample: float) -> str:
    """All tables."""
    found = by_cell(table)
    shared = [name for name in found["process"].unique() if PROCESSES[name].clusters]
    bounded = found.filter(~pl.col("process").is_in(shared))
    error = found["monte_carlo"] / found["floor"]
    lines = [
        f"Value MSE of the default estimator over the floor, the posterior mean under the true law given the prompt's own "
        f"history and the other traces of its group; and over KAE with its best window in hindsight. {seeds} paired "
        f"run{'s' * (seeds > 1)} a cell; a cell is a process, a schedule, a number of prompts a step and a group size G.",
        "",
        "The floor is exact where the logit is a Markov process, else by importance sampling over "
        f"{SETS} x {TRAJECTORIES} trajectories: Monte Carlo standard error of its MSE at most {error.max():.2%} in a cell, "
        f"{error.mean():.2%} on average; smallest effective number of trajectories {sample:.0f}.",
    ]
    if shared:
        lines += [
            "",
            f"Prompts of {', '.join(shared)} share their paths: what others reveal is not in this floor, which can be "
            "beaten there, and these cells are left out of the means and of the curve.",
        ]
    lines += ["", "## Mean over cells", "", *_means(bounded, found)]
    lines += ["", "## By process: default / floor, mean over schedules and G", "", *_processes(found)]
    curve = table.filter(~pl.col("process").is_in(shared), part="first")
    lines += ["", f"## The first {FIRST} steps", "", *_curve(curve)]
    for (process,), part in found.group_by(["process"], maintain_order=True):
        lines += ["", f"## {process}", "", *_cells(part)]
    return "\n".join(lines) + "\n"


def _means(bounded: pl.DataFrame, found: pl.DataFrame) -> list[str]:
    """A row a number of prompts a step."""
    lines = [
        "| prompts a step | default / floor: mean | largest | in | default / KAE: mean | largest | in |",
        "|---:|---:|---:|---|---:|---:|---|",
    ]
    for batch in found["batch"].unique().sort():
        row = [f"{batch}"]
        for cells, name in ((bounded, "to_floor"), (found, "to_kae")):
            here = cells.filter(batch=batch)
            worst = here.sort(name).row(-1, named=True)
            where = f"{worst['process']}, {worst['schedule']}, G = {worst['group_size']}"
            row += [f"{here[name].mean():.3f}", f"{worst[name]:.3f}", where]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _processes(found: pl.DataFrame) -> list[str]:
    """A row a process, a column a number of prompts a step."""
    batches = found["batch"].unique().sort().to_list()
    lines = ["| | " + " | ".join(f"{b} a step" for b in batches) + " |", "|---|" + "---:|" * len(batches)]
    for (process,), part in found.group_by(["process"], maintain_order=True):
        means = [part.filter(batch=batch)["to_floor"].mean() for batch in batches]
        lines.append(f"| {process} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return lines


def _curve(first: pl.DataFrame) -> list[str]:
    """Floor and default, MSE x 1000 by step, mean over the cells."""
    batches = first["batch"].unique().sort().to_list()
    mean = {row[:3]: row[3] for row in first.group_by("batch", "method", "at").agg(pl.col("mse").mean()).iter_rows()}
    lines = [
        "Value MSE x 1000 by step, mean over the cells: floor, default (default / floor).",
        "",
        "| step | " + " | ".join(f"{b} a step" for b in batches) + " |",
        "|---:|" + "---:|" * len(batches),
    ]
    for step in range(1, FIRST + 1):
        pairs = [(mean[b, FLOOR.name, step], mean[b, DEFAULT.name, step]) for b in batches]
        shown = [f"{1e3 * low:.1f}, {1e3 * ours:.1f} ({ours / low:.3f})" for low, ours in pairs]
        lines.append(f"| {step} | " + " | ".join(shown) + " |")
    return lines


def _cells(part: pl.DataFrame) -> list[str]:
    """A row a schedule, number of prompts a step and group size."""
    lines = [
        "| schedule | prompts a step | G | floor, MSE x 1000 ± Monte Carlo | default / floor | default / KAE |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in part.iter_rows(named=True):
        ratios = [_ratio(row[f"to_{name}"], row[f"to_{name}_se"]) for name in ("floor", "kae")]
        floor = f"{1e3 * row['floor']:.3f}" + (
            f" ± {1e3 * row['monte_carlo']:.3f}" if row["monte_carlo"] else " (exact)"
        )
        lines.append(f"| {row['schedule']} | {row['batch']} | {row['group_size']} | {floor} | {' | '.join(ratios)} |")
    return lines


def _ratio(ratio: float, error: float | None) -> str:
    """With its standard error, where there are several runs."""
    return f"{ratio:.3f}" + ("" if error is None else f" ± {error:.3f}")


if __name__ == "__main__":
    main()
