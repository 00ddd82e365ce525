"""Ratios of gradient errors from the files, with intervals by the bootstrap over prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.rlvr import RESULTS

CHECKPOINT = ["profile", "seed", "temperature", "step"]
DRAWS = 1000


class Cell(NamedTuple):
    """One checkpoint and group size.

    Attributes
    ----------
    step, seed : int
    baselines : list of K str
    error, value : (P, K)
        Of the gradient (E |g|^2 - |E g|^2) and of the value, of each prompt.
    """

    step: int
    seed: int
    baselines: list[str]
    error: Any
    value: Any


def cells(frame: pl.DataFrame) -> list[Cell]:
    """The checkpoints of one group size."""
    out = []
    for (_, seed, _, step), rows in frame.group_by(CHECKPOINT, maintain_order=True):
        rows = rows.with_columns(error=pl.col("second_moment") - pl.col("squared_mean"))
        names = rows["baseline"].unique(maintain_order=True).to_list()
        parts = [
            np.stack([rows.filter(pl.col("baseline") == name).sort("prompt")[column].to_numpy() for name in names], 1)
            for column in ("error", "value_mse")
        ]
        out.append(Cell(step, seed, names, *(part.astype(float) for part in parts)))
    return out


class Means(NamedTuple):
    """Means over checkpoints, the estimate in front of the bootstrap draws.

    Attributes
    ----------
    baselines : list of K str
    ratio : (1 + draws, K)
        Gradient MSE over that of the reference.
    closed : (1 + draws, K)
        Share of the distance from the reference to b* that is closed: of the mean ratios.
    """

    baselines: list[str]
    ratio: Any
    closed: Any

    def of(self, baseline: str) -> tuple[Any, Any]:
        """Ratio and share of one baseline, with its draws."""
        k = self.baselines.index(baseline)
        return self.ratio[:, k], self.closed[:, k]


def means(found: list[Cell], reference: str, draws: int = DRAWS) -> Means:
    """Mean ratios over checkpoints; the prompts of each are resampled, with all their traces."""
    rng = np.random.default_rng(0)
    ratios = []
    for cell in found:
        count = len(cell.error)
        times = np.vstack([np.ones(count), rng.multinomial(count, np.full(count, 1.0 / count), draws)])
        sums = times @ cell.error
        ratios.append(sums / sums[:, [cell.baselines.index(reference)]])
    ratio = np.mean(ratios, axis=0)
    names = found[0].baselines
    return Means(names, ratio, (1.0 - ratio) / (1.0 - ratio[:, [names.index("b*")]]))


def reference(group: int) -> str:
    """What ratios start from: RLOO, which needs two traces, or the batch mean."""
    return "rloo" if group > 1 else "batch"


def read(folder: Path = RESULTS) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Errors of the baselines, and what is known of the prompts."""
    return pl.read_parquet(folder / "gradients.parquet"), pl.read_parquet(folder / "gradient_prompts.parquet")
