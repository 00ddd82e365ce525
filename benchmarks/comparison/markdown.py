"""The default against the best of the others, and each method against KAE, as Markdown."""

from __future__ import annotations

import math
from typing import cast

import polars as pl
import polars.selectors as cs

from benchmarks import RESULTS
from benchmarks.comparison.study import FAMILIES, REFERENCE, fair
from benchmarks.comparison.tables import CELL, in_hindsight, summary
from kernadv.baselines import Baseline, discover_tuned

#: First seed whose runs nobody had looked at when the constants of the default were last chosen.
FRESH = 6


def report(table: pl.DataFrame, every: dict[str, Baseline], name: str) -> None:
    """Write the results."""
    grid = [member.name for family in FAMILIES for member in discover_tuned()[family].grid]
    table = pl.concat([table, in_hindsight(table, grid, REFERENCE)])
    found = summary(table, REFERENCE).with_columns(seeds=table["seed"].n_unique())
    found.with_columns(cs.float().cast(pl.Float32)).write_parquet(RESULTS / f"{name}.parquet", compression_level=19)
    first = "" if name != "comparison" else best(table, found, every) + "\n"
    shown = [REFERENCE, *(n for n in every if n not in grid)]
    (RESULTS / f"{name}.md").write_text(first + by_scenario(found, shown, every))


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
    fresh = table.filter(pl.col("part") == "all", pl.col("seed") >= FRESH).group_by(*CELL, "method")
    views = {"all steps": found, "first 20 steps": early.agg(pl.col("mse").mean())}
    if seeds > FRESH:
        views[f"all steps, seeds from {FRESH} on"] = fresh.agg(pl.col("mse").mean())
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
                f"| {batch} | {view} | {len(part)} | {_mean_and_most(ratio)} | "
                f"{(ratio > 1).sum()} | {(ratio > 1.03).sum()} |"
            )
    whole = against(found, rivals)
    above = whole.filter(pl.col("ratio") > 1.03).sort("ratio", descending=True)
    lines += ["", f"Cells above 1.03, all steps: {len(above) or 'none'}"]
    if len(above):
        lines += ["", "| scenario, schedule | prompts a step | G | best other | ratio |", "|---|---:|---:|---|---:|"]
    for row in above.iter_rows(named=True):
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


def _mean_and_most(ratio: pl.Series) -> str:
    """Two cells: the geometric mean, and the largest."""
    return f"{math.exp(cast(float, ratio.log().mean())):.3f} | {cast(float, ratio.max()):.3f}"


def hindsight(table: pl.DataFrame) -> str:
    """The default against each family with its best setting of each cell, knowing the truth."""
    means = table.filter(part="all").group_by(*CELL, "method", maintain_order=True).agg(pl.col("mse").mean())
    lines = [
        f"The default estimator against every tuned family with the best of its settings in each cell, chosen knowing the "
        f"truth; paired runs a cell: {table['seed'].n_unique()}.",
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
                f"| {name.removesuffix(' tuned')} | {len(family.grid)} | {batch} | {_mean_and_most(ratio)} | "
                f"{(ratio > 1).sum()} of {len(part)} |"
            )
    return "\n".join(lines) + "\n"


def by_scenario(found: pl.DataFrame, methods: list[str], every: dict[str, Baseline]) -> str:
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
