"""What is read off the long table of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from kernadv._errors import ArgumentTypeError, check_choice

#: What identifies a simulated run without its seed.
CELL = ["process", "schedule", "batch", "group_size"]


def _check_table(table: object) -> None:
    """Raise ArgumentTypeError unless `compare` made the table."""
    if not isinstance(table, pl.DataFrame) or not {*CELL, "seed", "method", "part", "mse"} <= set(table.columns):
        raise ArgumentTypeError(f"expected a table of benchmarks.comparison.compare, got {type(table).__name__}")


def summary(table: pl.DataFrame, reference: str) -> pl.DataFrame:
    """Means over the seeds, and each method relative to one of them on the same runs.

    Parameters
    ----------
    table : polars.DataFrame
        Of `compare`.
    reference : str
        Name of a method.

    Returns
    -------
    polars.DataFrame
        By cell and method: ``mse``, ``se`` over the seeds, ``ratio`` of the mean MSE to the reference's, ``ratio_se``, its
        paired standard error (delta method), ``bias``, ``gradient_ratio``, ``rollouts``; null where the reference did not
        run.

    Raises
    ------
    ArgumentError
        If there is no such method.
    """
    _check_table(table)
    check_choice(reference, "method", table["method"].unique().to_list())
    whole = table.filter(pl.col("part") == "all")
    base = whole.filter(pl.col("method") == reference).select(*CELL, "seed", base="mse")
    joined = whole.join(base, on=[*CELL, "seed"], how="left").with_columns(
        ratio=pl.col("mse").mean().over(*CELL, "method") / pl.col("base").mean().over(*CELL, "method")
    )
    runs = pl.len().cast(pl.Float64).sqrt()
    off = pl.col("mse") - pl.col("ratio") * pl.col("base")
    return joined.group_by(*CELL, "method", maintain_order=True).agg(
        pl.col("mse").mean(),
        se=pl.col("mse").std() / runs,
        ratio=pl.col("ratio").first(),
        ratio_se=off.std() / runs / pl.col("base").mean(),
        bias=pl.col("bias").mean(),
        gradient_ratio=pl.col("gradient_ratio").mean(),
        rollouts=pl.col("rollouts").first(),
    )


def in_hindsight(table: pl.DataFrame, methods: Sequence[str], name: str) -> pl.DataFrame:
    """Rows of one more method: in each cell, that of `methods` with the smallest mean MSE against the truth.

    Parameters
    ----------
    table : polars.DataFrame
        Of `compare`.
    methods : sequence of str
        Settings to choose from, e.g. ``[b.name for b in discover_tuned()["kae_steps tuned"].grid]``.
    name : str
        Of the new method.

    Returns
    -------
    polars.DataFrame
        The rows of the best one under the new name; concatenate them to the table.
    """
    _check_table(table)
    for method in methods:
        check_choice(method, "method", table["method"].unique().to_list())
    tried = table.filter(pl.col("method").is_in(list(methods)))
    mean = tried.filter(pl.col("part") == "all").group_by(*CELL, "method").agg(pl.col("mse").mean())
    best = mean.sort("mse").group_by(*CELL, maintain_order=True).first().select(*CELL, "method")
    return tried.join(best, on=[*CELL, "method"]).with_columns(method=pl.lit(name))


def at_equal_rollouts(table: pl.DataFrame) -> pl.DataFrame:
    """Methods compared at the same number of rollouts, those from before training included.

    A method that spends rollouts before training stands at a number of rollouts a visit between two group sizes of the
    others; their MSE there is interpolated, log MSE linear in log rollouts.

    Returns
    -------
    polars.DataFrame
        By process, schedule, batch, `rollouts` a visit and method: ``mse``, null beyond the largest group, and
        ``group_size``, null where interpolated.
    """
    _check_table(table)
    whole = table.filter(pl.col("part") == "all")
    mean = whole.group_by(*CELL, "method", "rollouts", maintain_order=True).agg(pl.col("mse").mean())
    paid = mean.filter(pl.col("rollouts") > pl.col("group_size")).rename({"method": "name"})
    rows = []
    runs = [name for name in CELL if name != "group_size"]
    for chosen, part in mean.group_by(runs, maintain_order=True):
        own = paid.filter(**dict(zip(runs, chosen, strict=True)))
        budgets = own["rollouts"].unique().sort().to_list()
        for (method,), curve in part.group_by(["method"], maintain_order=True):
            at, mse = curve["rollouts"].to_numpy(), curve["mse"].to_numpy()
            size = dict(zip(at.tolist(), curve["group_size"].to_list(), strict=True))
            for budget in budgets:
                inside = at.min() <= budget <= at.max()
                value = float(np.exp(np.interp(np.log(budget), np.log(at), np.log(mse)))) if mse.all() else 0.0
                rows.append((*chosen, budget, method, value if inside else None, size.get(budget)))
    kinds = {name: mean.schema[name] for name in runs} | {
        "rollouts": pl.Float64, "method": pl.String, "mse": pl.Float64, "group_size": pl.Int64
    }  # fmt: skip
    compared: pl.DataFrame = pl.DataFrame(rows, schema=kinds, orient="row")
    return compared
