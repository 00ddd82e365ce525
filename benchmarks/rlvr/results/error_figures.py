"""The figures of the sections "Values" and "Gradients"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.banks.values import BY_STEP, COMPARED
from benchmarks.rlvr.results.gradient_results import cells, means, read, reference
from benchmarks.rlvr.results.gradient_tables import TITLES
from benchmarks.rlvr.results.value_tables import by_block

SHOWN = (
    "batch",
    "none",
    "default",
    "kae",
    "kae-1",
    "V",
    "weighted-length",
    "weighted-proxy",
    "weighted-surprisal-squared",
    "weighted-proxy-squared",
    "weighted-norm",
    "global",
)
COLOR = {"batch_mean_own": "C2", "rloo": "C3", "kae": "C1", "default": "C0"}


def positions(folder: Path = RESULTS) -> Any:
    """Value MSE by position in the block, mean over blocks and its standard error."""
    steps = by_block(pl.read_parquet(folder / "value_steps.parquet"))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, group in zip(axes, (1, 4), strict=True):
        for name in BY_STEP:
            mine = steps.filter((pl.col("group") == group) & (pl.col("baseline") == name))
            found = (
                mine.group_by("position")
                .agg(mean=pl.col("mse").mean(), error=pl.col("mse").std() / pl.len().sqrt())
                .sort("position")
            )
            x, mean, error = (found[column].to_numpy() for column in found.columns)
            axis.plot(x, mean, marker="o", color=COLOR[name], label=COMPARED[name].title)
            axis.fill_between(x, mean - error, mean + error, color=COLOR[name], alpha=0.15, linewidth=0)
        axis.set(title=f"G = {group}", xlabel="position in the block", ylim=(0, None))
    axes[0].set_ylabel("value MSE")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=len(BY_STEP))
    return figure


def gap(folder: Path = RESULTS) -> Any:
    """Gradient MSE of each baseline over that of RLOO (at G = 1: of the batch mean), with 95% intervals."""
    errors, _ = read(folder)
    frame = errors.filter((pl.col("profile") == "low") & (pl.col("step") > 1))
    figure, axes = plt.subplots(1, 3, figsize=(9, 4), sharey=True, sharex=True)
    for axis, group in zip(axes, (1, 4, 8), strict=True):
        found = means(cells(frame.filter(pl.col("group") == group)), reference(group))
        for place, name in enumerate(SHOWN):
            ratio = found.of(name)[0]
            low, high = np.quantile(ratio[1:], [0.025, 0.975])
            weighted = name.startswith("weighted")
            color = "C0" if weighted or name == "default" else "C1" if name.startswith("kae") else "C2"
            ends = [[max(ratio[0] - low, 0.0)], [max(high - ratio[0], 0.0)]]
            axis.errorbar(ratio[0], place, xerr=ends, marker="o", linestyle="", capsize=2, color=color)
        axis.axvline(1.0, color="#8a8f98", linewidth=1)
        axis.axvline(found.of("b*")[0][0], color="C3", linewidth=1, linestyle="--")
        axis.set(title=f"G = {group}", xlabel=f"gradient MSE / {TITLES[reference(group)]}")
        axis.set_yticks(np.arange(len(SHOWN)), [TITLES[name] for name in SHOWN])
    return figure
