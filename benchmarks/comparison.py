"""Every value baseline on every simulated scenario: the long table, and each method's error relative to KAE in hindsight.

    python benchmarks/comparison.py [--seeds 20] [--workers 2] [--features informative|noise | --pieces]

Writes results/comparison.parquet (all runs, by seed), results/comparison.md (the default against the best, then every
method) and, not kept in the repository, results/comparison_parts.parquet (also each of the first 20 steps).  With features,
or for the pieces of the default estimator switched off one at a time, only those are run, into files of their own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from kernadv.baselines import Baseline, discover, discover_tuned
from kernadv.baselines.pooled import PooledKernel
from kernadv.comparison import compare, in_hindsight, summary
from kernadv.comparison.tables import CELL
from kernadv.pooling import Pooling

RESULTS = Path(__file__).parent / "results"
REFERENCE = "kae in hindsight"
#: The windows that KAE may choose from with the truth in hand.
FAMILIES = ("kae_relative tuned", "kae_steps tuned")

#: The default estimator, and with one piece changed.
PIECES: list[Baseline] = [
    PooledKernel(),
    PooledKernel(Pooling(common=(0.0,)), name="common level fixed"),
    PooledKernel(Pooling(priors=(1.0,)), name="one prior"),
    PooledKernel(Pooling(discounts=()), name="no discounts"),
    PooledKernel(Pooling(walks=(0.0,)), name="no walks"),
    PooledKernel(Pooling(priors=(1.0,), walks=(0.1,), discounts=()), name="one filter"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--features", choices=("informative", "noise"))
    parser.add_argument("--pieces", action="store_true")
    options = parser.parse_args()
    tuned = discover_tuned()
    grid = [member for family in FAMILIES for member in tuned[family].grid]
    chosen: list[Baseline] = [*discover().values(), *tuned.values()]
    if options.features:
        chosen = [PooledKernel(), PooledKernel(features=True)]
    elif options.pieces:
        chosen = PIECES
    every: dict[str, Baseline] = {b.name: b for b in (*chosen, *grid)}
    chosen, parts = list(every.values()), ["all", "first"]
    table = compare(chosen, seeds=options.seeds, workers=options.workers, features=options.features, parts=parts)
    table = pl.concat([table, in_hindsight(table, [b.name for b in grid], REFERENCE)])
    part = f"{options.features}_features" if options.features else "pieces" if options.pieces else ""
    name = "_".join(filter(None, ["comparison", part]))
    table.write_parquet(RESULTS / f"{name}_parts.parquet")
    whole = table.filter(pl.col("part") == "all").drop("part", "at")
    whole.write_parquet(RESULTS / f"{name}.parquet", compression_level=19)
    shown = [REFERENCE, *(n for n in every if n not in {b.name for b in grid})]
    found = summary(table, REFERENCE)
    first = "" if part else best(found, every) + "\n"
    (RESULTS / f"{name}.md").write_text(first + markdown(found, shown, every, options.seeds))


def best(found: pl.DataFrame, every: dict[str, Baseline]) -> str:
    """The default estimator against the best comparator that spends no extra rollouts and leaves the own reward out."""
    fair = [n for n, b in every.items() if not (b.uses_own_reward or b.offline_rollouts or b.needs_truth)]
    rivals = found.filter(pl.col("method").is_in([n for n in fair if not n.startswith("kernadv")]))
    lines = [
        "The default estimator (kernadv): ratio of its value MSE to KAE with the best window in hindsight, and to the best "
        "of all methods here that spend no extra rollouts, chosen in hindsight for each cell.",
        "",
        "| scenario, schedule | prompts a step | G | KAE, MSE x 1000 | kernadv / KAE | best other | kernadv / best other |",
        "|---|---:|---:|---:|---:|---|---:|",
    ]
    columns = (*CELL, "ratio", "ratio_se", "mse")
    ours = {row[:4]: row[4:] for row in found.filter(pl.col("method") == "kernadv").select(columns).iter_rows()}
    for cell, part in rivals.group_by(CELL, maintain_order=True):
        process, schedule, batch, size = cell
        ratio, error, mse = ours[cell]
        first = part.filter(pl.col("mse").is_not_null()).sort("mse").row(0, named=True)
        lines.append(
            f"| {process}, {schedule} | {batch} | {size} | {1e3 * mse / ratio:.2f} | {ratio:.3f} ± {error:.3f} | "
            f"{first['method']} | {mse / first['mse']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def markdown(found: pl.DataFrame, methods: list[str], every: dict[str, Baseline], seeds: int) -> str:
    """A table a scenario: value MSE of the reference in thousandths, and the ratio of each method to it."""
    lines = [
        f"Value MSE relative to KAE with the best window in hindsight (its own line: MSE x 1000), {seeds} paired runs.",
        "Own: the value contains the trace's own reward. Offline: 8 rollouts a prompt before training, not charged here.",
    ]
    for (process, schedule, batch), part in found.group_by(["process", "schedule", "batch"], maintain_order=True):
        sizes = sorted(part["group_size"].unique().to_list())
        lines += [
            "",
            f"## {process}, {schedule}, {batch} prompts a step",
            "",
            "| method | | " + " | ".join(f"G = {g}" for g in sizes) + " |",
        ]
        lines.append("|---|---|" + "---:|" * len(sizes))
        cells = {(m, g): (r, e, v) for m, g, r, e, v in
                 part.select("method", "group_size", "ratio", "ratio_se", "mse").iter_rows()}  # fmt: skip
        for method in methods:
            row = []
            for size in sizes:
                ratio, error, mse = cells.get((method, size), (None, None, None))
                text = "" if ratio is None else f"{ratio:.3f}" + ("" if error is None else f" ± {error:.3f}")
                row.append(f"{1000 * mse:.2f}" if method == REFERENCE else text)
            baseline = every.get(method)
            flag = "own" if baseline and baseline.uses_own_reward else ""
            flag += " offline" if baseline and baseline.offline_rollouts else ""
            lines.append(f"| {method} | {flag.strip()} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
