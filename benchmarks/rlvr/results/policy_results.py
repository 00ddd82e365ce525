"""What the runs say: the score of each run, and paired differences between methods within a cell."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.training.queues import TUNING_SEED


def read(path: Path = RESULTS / "policies.parquet") -> pl.DataFrame:
    """Accuracy on the held-out prompts: a row a run and evaluation."""
    return pl.read_parquet(path)


def tuning_runs(table: pl.DataFrame) -> pl.DataFrame:
    """Those that choose the learning rate."""
    return table.filter(pl.col("seed") == TUNING_SEED)


def study_runs(table: pl.DataFrame) -> pl.DataFrame:
    """Those at the chosen learning rate."""
    return table.filter(pl.col("seed") != TUNING_SEED)


def scores(table: pl.DataFrame) -> pl.DataFrame:
    """One row a run: area under the curve (mean accuracy over the steps, by trapezoids), first, final and best accuracy."""
    run = [name for name in table.columns if name not in ("step", "accuracy")]
    width = pl.col("step").diff().fill_null(0)
    middle = (pl.col("accuracy") + pl.col("accuracy").shift(1)).fill_null(0.0) / 2.0
    return (
        table.sort("step")
        .group_by(run, maintain_order=True)
        .agg(
            area=(width * middle).sum() / pl.col("step").max(),
            first=pl.col("accuracy").first(),
            final=pl.col("accuracy").last(),
            best=pl.col("accuracy").max(),
        )
    )


def complete(cell: pl.DataFrame) -> pl.DataFrame:
    """The runs of the seeds that every method of the cell has."""
    return cell.filter(pl.col("method").n_unique().over("seed") == pl.col("method").n_unique())


class Difference(NamedTuple):
    """Mean paired difference of two methods over seeds.

    Attributes
    ----------
    mean, low, high : float
        With its 95% interval (Student's t over seeds).
    spread : float
        Standard deviation of the differences.
    seeds : int
    """

    mean: float
    low: float
    high: float
    spread: float
    seeds: int

    @property
    def resolvable(self) -> float:
        """The smallest true difference that a two-sided 5% test finds with a chance of 80%."""
        degrees = self.seeds - 1
        factor = stats.t.ppf(0.975, degrees) + stats.t.ppf(0.8, degrees)
        return float(factor * self.spread / np.sqrt(self.seeds))


def difference(a: pl.DataFrame, b: pl.DataFrame, score: str) -> Difference | None:
    """a minus b, paired by seed; None with fewer than two common seeds."""
    both = a.select("seed", score).join(b.select("seed", score), on="seed", suffix="_b")
    if both.height < 2:
        return None
    d = (both[score] - both[f"{score}_b"]).to_numpy()
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    half = stats.t.ppf(0.975, len(d) - 1) * spread / np.sqrt(len(d))
    return Difference(mean, mean - half, mean + half, spread, len(d))


def best_rates(table: pl.DataFrame) -> dict[int, float]:
    """The learning rate of each group with the largest area under the curve of the tuning runs, averaged over methods."""
    area = scores(tuning_runs(table)).group_by("group", "rate").agg(pl.col("area").mean()).sort("area")
    return dict(area.select("group", "rate").iter_rows())
