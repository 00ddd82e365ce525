"""Every value baseline on every simulated scenario: the default against the best of them, and each against KAE.

    python benchmarks/comparison.py [--seeds 20] [--workers 2] [--features informative|noise | --pieces | --hindsight]

Writes results/comparison.md and results/comparison.parquet (means over the paired runs): about two CPU hours for
20 seeds.  With features, for the default with one piece changed, or for every setting of every tuned family in hindsight,
only those are run, into files of their own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import polars.selectors as cs

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
    parser.add_argument("--hindsight", action="store_true")
    options = parser.parse_args()
    every = chosen(options.features, options.pieces, options.hindsight)
    table = measure(every, range(options.seeds), options.workers, options.features)
    if options.hindsight:
        (RESULTS / "hindsight.md").write_text(hindsight(table))
        return
    part = f"{options.features}_features" if options.features else "pieces" if options.pieces else ""
    report(table, every, "_".join(filter(None, ["comparison", part])))


def chosen(features: str | None = None, pieces: bool = False, settings: bool = False) -> dict[str, Baseline]:
    """The methods to run, by name; those of KAE's windows are among them."""
    tuned = discover_tuned()
    families = FAMILIES if not settings else [name for name, family in tuned.items() if not family.offline_rollouts]
    some: list[Baseline] = [*discover().values(), *tuned.values()]
    if features:
        some = [PooledKernel(), PooledKernel(features=True)]
    elif pieces:
        some = PIECES
    elif settings:
        some = [PooledKernel()]
    return {b.name: b for b in (*some, *(member for family in families for member in tuned[family].grid))}


def measure(
    every: dict[str, Baseline], seeds: Iterable[int], workers: int, features: str | None = None
) -> pl.DataFrame:
    """The long table, by run: whole runs and their first steps."""
    return compare(list(every.values()), seeds=list(seeds), workers=workers, features=features, parts=["all", "first"])


def report(table: pl.DataFrame, every: dict[str, Baseline], name: str) -> None:
    """Write the results."""
    grid = [member.name for family in FAMILIES for member in discover_tuned()[family].grid]
    table = pl.concat([table, in_hindsight(table, grid, REFERENCE)])
    found = summary(table, REFERENCE).with_columns(seeds=table["seed"].n_unique())
    found.with_columns(cs.float().cast(pl.Float32)).write_parquet(RESULTS / f"{name}.parquet", compression_level=19)
    first = "" if name != "comparison" else best(table, found, every) + "\n"
    shown = [REFERENCE, *(n for n in every if n not in grid)]
    (RESULTS / f"{name}.md").write_text(first + markdown(found, shown, every))


def fair(every: dict[str, Baseline]) -> list[str]:
    """The methods that may be the best other: no rollouts from before training, no own reward, no truth."""
    return [
        n
        for n, b in every.items()
        if not (b.uses_own_reward or b.offline_rollouts or b.needs_truth or n.startswith("kernadv"))
    ]


def against(means: pl.DataFrame, rivals: list[str]) -> pl.DataFrame:
    """The default beside the best of the rivals in each cell: ``ours``, ``method``, ``mse`` and ``ratio``."""
    ours = means.filter(method="kernadv").select(*CELL, ours="mse")
    others = means.filter(pl.col("method").is_in(rivals), pl.col("mse").is_not_null()).sort("mse")
    first = others.group_by(CELL, maintain_order=True).first().select(*CELL, "method", "mse")
    return ours.join(first, on=CELL, maintain_order="left").with_columns(ratio=pl.col("ours") / pl.col("mse"))


def best(table: pl.DataFrame, found: pl.DataFrame, every: dict[str, Baseline]) -> str:
    """The default estimator against the best comparator that spends no extra rollouts and leaves the own reward out."""
    rivals, seeds = fair(every), table["seed"].n_unique()
    early = table.filter(pl.col("part") == "first", pl.col("at") <= 20).group_by(*CELL, "method")
    views = {"all steps": found, "first 20 steps": early.agg(pl.col("mse").mean())}
    lines = [
        f"The default estimator (kernadv) against the best of {len(rivals)} others, chosen in hindsight for each cell, in "
        f"{seeds} paired runs a cell. The others spend no rollouts before training and leave the own reward out: a value "
        "that contains it is not comparable. A cell is a scenario, a schedule and G = 1, 2, 4 or 8.",
        "",
        "| prompts a step | steps | cells | kernadv / best other: geometric mean | most | above 1 | above 1.03 |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for view, means in views.items():
        for (batch,), part in against(means, rivals).sort("batch").group_by(["batch"], maintain_order=True):
            ratio = part["ratio"]
            lines.append(
                f"| {batch} | {view} | {len(part)} | {math.exp(ratio.log().mean()):.3f} | {ratio.max():.3f} | "
                f"{(ratio > 1).sum()} | {(ratio > 1.03).sum()} |"
            )
    lines += ["", "Cells above 1.03, all steps:", "", "| scenario, schedule | prompts a step | G | best other | ratio |",
              "|---|---:|---:|---|---:|"]  # fmt: skip
    whole = against(found, rivals)
    for row in whole.filter(pl.col("ratio") > 1.03).sort("ratio", descending=True).iter_rows(named=True):
        lines.append(
            f"| {row['process']}, {row['schedule']} | {row['batch']} | {row['group_size']} | {row['method']} | "
            f"{row['ratio']:.3f} |"
        )
    lines += ["", "Every cell, and KAE with the best window in hindsight:", "",
              "| scenario, schedule | prompts a step | G | KAE, MSE x 1000 | kernadv / KAE | best other | kernadv / it |",
              "|---|---:|---:|---:|---:|---|---:|"]  # fmt: skip
    ours = {row[:4]: row[4:] for row in found.filter(method="kernadv").select(*CELL, "ratio", "ratio_se").iter_rows()}
    for row in whole.iter_rows(named=True):
        ratio, error = ours[tuple(row[name] for name in CELL)]
        spread = "" if error is None else f" ± {error:.3f}"
        lines.append(
            f"| {row['process']}, {row['schedule']} | {row['batch']} | {row['group_size']} | "
            f"{1e3 * row['ours'] / ratio:.2f} | {ratio:.3f}{spread} | {row['method']} | {row['ratio']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def hindsight(table: pl.DataFrame) -> str:
    """The default against each family with its best setting of each cell, knowing the truth."""
    means = table.filter(part="all").group_by(*CELL, "method", maintain_order=True).agg(pl.col("mse").mean())
    lines = [
        f"The default estimator against every tuned family with the best of its settings in each cell, chosen knowing the "
        f"truth; {table['seed'].n_unique()} paired runs a cell.",
        "",
        "| family | settings | prompts a step | default / family: geometric mean | most | cells above 1 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, family in discover_tuned().items():
        if family.offline_rollouts:
            continue
        for (batch,), part in (
            against(means, [b.name for b in family.grid]).sort("batch").group_by(["batch"], maintain_order=True)
        ):
            ratio = part["ratio"]
            lines.append(
                f"| {name.removesuffix(' tuned')} | {len(family.grid)} | {batch} | {math.exp(ratio.log().mean()):.3f} | "
                f"{ratio.max():.3f} | {(ratio > 1).sum()} of {len(part)} |"
            )
    return "\n".join(lines) + "\n"


def markdown(found: pl.DataFrame, methods: list[str], every: dict[str, Baseline]) -> str:
    """A table a scenario: value MSE of the reference in thousandths, and the ratio of each method to it."""
    lines = [
        "Value MSE relative to KAE with the best window in hindsight (its own line: MSE x 1000), "
        f"{found['seeds'][0]} paired runs, by prompts a step and G.",
        "Own: the value contains the trace's own reward. Offline: 8 rollouts a prompt before training, not charged here.",
    ]
    for (process, schedule), part in found.group_by(["process", "schedule"], maintain_order=True):
        columns = sorted(part.select("batch", "group_size").unique().iter_rows())
        lines += ["", f"## {process}, {schedule}", ""]
        lines.append("| method | | " + " | ".join(f"{batch}, G = {size}" for batch, size in columns) + " |")
        lines.append("|---|---|" + "---:|" * len(columns))
        cells = {row[:3]: row[3:] for row in part.select("method", "batch", "group_size", "ratio", "mse").iter_rows()}
        for method in methods:
            row = []
            for column in columns:
                ratio, mse = cells.get((method, *column), (None, None))
                text = "" if ratio is None else f"{ratio:.3f}"
                row.append(f"{1000 * mse:.2f}" if method == REFERENCE else text)
            baseline = every.get(method)
            flag = "own" if baseline and baseline.uses_own_reward else ""
            flag += " offline" if baseline and baseline.offline_rollouts else ""
            lines.append(f"| {method} | {flag.strip()} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
