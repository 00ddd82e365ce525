"""The figures of the section "Policies"."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from benchmarks.rlvr.results.policy_results import complete, difference, scores
from benchmarks.rlvr.training.methods import METHODS
from benchmarks.rlvr.training.queues import COMPARED, STEPS

COLOR = dict(zip(("default", "kae", "batch", "rloo", "weighted", "none"), (f"C{k}" for k in range(6)), strict=True))


def curves(table: pl.DataFrame, reuse: int) -> Any:
    """Accuracy on held-out prompts over the steps: mean over seeds, and its standard error beside what seeds share.

    The seeds differ in their start; the mean over methods of each seed and step is taken out of the errors.
    """
    figure, axes = plt.subplots(1, len(COMPARED), figsize=(9, 3.6), sharey=True)
    for axis, (group, methods) in zip(axes, COMPARED.items(), strict=True):
        cell = _cell(table, group, reuse)
        axis.set_visible(bool(cell.height))
        shared = pl.col("accuracy").mean().over("seed", "step") - pl.col("accuracy").mean().over("step")
        cell = cell.with_columns(own=pl.col("accuracy") - shared)
        for name in (name for name in methods if name in cell["method"]):
            found = (
                cell.filter(pl.col("method") == name)
                .group_by("step")
                .agg(mean=pl.col("accuracy").mean(), error=pl.col("own").std() / pl.len().sqrt())
                .sort("step")
            )
            x, mean, error = (found[column].to_numpy() for column in ("step", "mean", "error"))
            style = "--" if name == "none" else "-"
            axis.plot(x, mean, style, marker="o", color=COLOR[name], label=METHODS[name].title)
            axis.fill_between(x, mean - error, mean + error, color=COLOR[name], alpha=0.15, linewidth=0)
        axis.set_title(f"G = {group}, J = {reuse}", loc="left")
        axis.set_xlabel("training step")
    axes[0].set_ylabel("accuracy, held-out prompts")
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="outside upper center", ncols=max(len(labels), 1))
    return figure


def forest(table: pl.DataFrame, reference: str = "batch") -> Any:
    """Paired differences from a reference, in points, with 95% intervals; a panel a cell."""
    found = scores(table)
    figure, axes = plt.subplots(2, 2, figsize=(9, 5), sharex=True)
    for row, reuse in enumerate((10, 1)):
        for column, (group, methods) in enumerate(COMPARED.items()):
            axis = axes[row, column]
            cell = _cell(found, group, reuse)
            names = [name for name in methods if name != reference]
            for place, name in enumerate(names):
                for score, shift, marker in (("area", -0.12, "o"), ("final", 0.12, "s")):
                    pair = (cell.filter(pl.col("method") == m) for m in (name, reference))
                    gap = difference(*pair, score)
                    if gap is not None:
                        half = 100 * (gap.high - gap.mean)
                        style = {"color": COLOR[name], "marker": marker, "alpha": 1.0 if score == "area" else 0.5}
                        axis.errorbar(100 * gap.mean, place + shift, xerr=half, capsize=2, linestyle="", **style)
            axis.set_visible(cell["seed"].n_unique() > 1)
            axis.axvline(0, color="#8a8f98", linewidth=1)
            axis.set_yticks(np.arange(len(names)), [METHODS[name].title for name in names])
            axis.invert_yaxis()
            axis.set_title(f"G = {group}, J = {reuse}", loc="left")
            axis.set_xlabel(f"points above {METHODS[reference].title}")
            axis.tick_params(labelbottom=True)
    return figure


def _cell(table: pl.DataFrame, group: int, reuse: int) -> pl.DataFrame:
    """The runs of one panel."""
    shape = (pl.col("group") == group) & (pl.col("reuse") == reuse) & (pl.col("steps_in_all") == STEPS[group])
    return complete(table.filter(shape & (pl.col("task") == "chain_sum") & pl.col("method").is_in(COMPARED[group])))
