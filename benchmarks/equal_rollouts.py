"""Methods that sample rollouts before training, beside the others at the same total number of rollouts.

    python -m benchmarks.equal_rollouts

Reads results/comparison.parquet (``python -m benchmarks.comparison``) and writes results/equal_rollouts.md; nothing is
simulated.
"""

from __future__ import annotations

import polars as pl

from benchmarks import RESULTS
from benchmarks.comparison import at_equal_rollouts
from kernadv.baselines import discover, discover_tuned

#: Everything is divided by this method's error.
REFERENCE = "kernadv"
#: Methods without offline rollouts that stand beside those with.
BESIDE = ("pooled_beta tuned", "dbb_loo tuned", "local_level tuned", "eb_shrink", "rloo")


def main() -> None:
    table = pl.read_parquet(RESULTS / "comparison.parquet").with_columns(
        part=pl.lit("all"),
        seed=pl.lit(0),
        mse=pl.col("mse").cast(pl.Float64),
        rollouts=pl.col("rollouts").cast(pl.Float64),
    )
    (RESULTS / "equal_rollouts.md").write_text(markdown(table, table["seeds"][0]))


def markdown(table: pl.DataFrame, seeds: int) -> str:
    """A table a scenario: the MSE of the reference in thousandths, and that of the others relative to it."""
    known = {**discover(), **discover_tuned()}
    names = [name for name in table["method"].unique(maintain_order=True) if name in known]
    offline = [name for name in names if known[name].offline_rollouts]
    equal = at_equal_rollouts(table)
    lines = [
        "Value MSE at equal numbers of rollouts a visit, those from before training shared among a prompt's visits: "
        f"relative to {REFERENCE}, which samples none before training (its own line: MSE x 1000), {seeds} paired runs. "
        "Methods without offline rollouts are interpolated between group sizes, log MSE in log rollouts; a budget beyond "
        "the largest group is left out. Own: the value contains the trace's own reward, and its error may not be compared.",
    ]
    for (process, schedule, batch), part in equal.group_by(["process", "schedule", "batch"], maintain_order=True):
        cells = {(m, r): mse for m, r, mse in part.select("method", "rollouts", "mse").iter_rows()}
        budgets = [r for r in part["rollouts"].unique().sort() if cells.get((REFERENCE, r)) is not None]
        lines += [
            "",
            f"## {process}, {schedule}, {batch} prompts a step",
            "",
            "| method | | " + " | ".join(f"{r:.2f}" for r in budgets) + " |",
        ]
        lines.append("|---|---|" + "---:|" * len(budgets))
        for name in (REFERENCE, *offline, *(n for n in BESIDE if n in names)):
            row = [_cell(cells.get((name, r)), cells[REFERENCE, r], name == REFERENCE) for r in budgets]
            flags = ["own"] * known[name].uses_own_reward + ["offline"] * (name in offline)
            lines.append(f"| {name} | {' '.join(flags)} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _cell(mse: float | None, reference: float, first: bool) -> str:
    """The error in thousandths in the first row, else relative to it."""
    return "" if mse is None else f"{1e3 * mse:.2f}" if first else f"{mse / reference:.3f}"


if __name__ == "__main__":
    main()
