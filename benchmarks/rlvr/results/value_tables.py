"""The tables of the section "Values", as Markdown.  Mean squared errors in thousandths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.banks.values import BY_STEP, COMPARED
from benchmarks.rlvr.results.gradient_results import DRAWS
from benchmarks.rlvr.results.markdown import markdown

GROUPS = (1, 4, 8)

#: Table 1 of the paper (value MSE x 1000); after ~ read off a chart.
PAPER = {
    "batch mean (REINFORCE++)": ("78.8", "~89", "~72", "~73", "~31", "~31"),
    "group mean (GRPO)": ("19.4", "8.62", "5.07", "~15.5", "~5.7", "2.50"),
    "KAE": ("5.80", "2.67", "1.45", "~4.2", "~1.8", "0.91"),
    "KAE against GRPO": ("-70%", "-69%", "-71%", "~-73%", "~-69%", "-64%"),
    "KAE against REINFORCE++": ("-93%", "~-97%", "~-98%", "~-94%", "~-94%", "~-97%"),
}
PAPER_HEAD = ["", *(f"{data}, step {step}" for data in ("MATH", "GSM8K") for step in (10, 90, 170))]


def tables(folder: Path = RESULTS) -> dict[str, str]:
    """Title -> Markdown table."""
    values = pl.read_parquet(folder / "values.parquet")
    steps = pl.read_parquet(folder / "value_steps.parquet")
    main = values.filter(pl.col("profile") == "low")
    out = {}
    for reuse, title in ((10, "Blocks"), (1, "Epochs")):
        mine = main.filter(pl.col("reuse") == reuse)
        if mine.height:
            out[title] = overall(mine)
            out[f"{title} by checkpoint"] = by_checkpoint(mine)
    others = values.filter(pl.col("profile") != "low")
    return {
        **out,
        "By position in the block": by_position(by_block(steps)),
        "The paper": markdown(PAPER_HEAD, [[name, *numbers] for name, numbers in PAPER.items()]),
        "Beside the paper": beside(main.filter(pl.col("reuse") == 10)),
        "Other profiles": reductions(others),
    }


def draws(frame: pl.DataFrame) -> tuple[list[str], Any]:
    """Mean over checkpoints of each baseline's MSE, prompts resampled inside checkpoints; the estimate comes first.

    Returns
    -------
    names, (1 + draws, K)
    """
    rng = np.random.default_rng(0)
    names = [name for name in COMPARED if frame.filter(pl.col("baseline") == name).height]
    parts = []
    for _, rows in frame.group_by("profile", "seed", "step", maintain_order=True):
        error = np.stack(
            [rows.filter(pl.col("baseline") == name).sort("prompt")["mse"].to_numpy() for name in names], axis=1
        ).astype(float)
        count = len(error)
        times = np.vstack([np.ones(count), rng.multinomial(count, np.full(count, 1.0 / count), DRAWS)])
        parts.append(times @ error / count)
    return names, np.mean(parts, axis=0)


def overall(frame: pl.DataFrame) -> str:
    """MSE of each baseline with its standard error, and the change against RLOO (G = 1: the batch mean)."""
    found = {group: draws(frame.filter(pl.col("group") == group)) for group in GROUPS}
    rows = []
    for name, column in COMPARED.items():
        row = [column.title]
        for group in GROUPS:
            names, mse = found[group]
            if name not in names:
                row += ["", ""]
                continue
            k, base = names.index(name), names.index("rloo" if group > 1 else "batch")
            row += [f"{1000 * mse[0, k]:.1f} ± {1000 * mse[1:, k].std():.1f}", f"{mse[0, k] / mse[0, base] - 1:+.0%}"]
        rows.append(row)
    titles = [x for g in GROUPS for x in (f"G = {g}", "v RLOO" if g > 1 else "v batch")]
    return markdown(["baseline", *titles], rows)


def by_checkpoint(frame: pl.DataFrame) -> str:
    """MSE at each checkpoint, mean over the seeds."""
    shown = ("batch_mean_own", "group_mean", "rloo", "kae-0.1", "kae", "kae-1", "default", "dbb", "spo", "eb_shrink")
    mean = frame.group_by("group", "step", "baseline").agg(pl.col("mse").mean())
    rows = []
    for group in GROUPS:
        for step in mean["step"].unique().sort():
            here = mean.filter((pl.col("group") == group) & (pl.col("step") == step))
            mse = dict(zip(here["baseline"], here["mse"], strict=True))
            rows.append([f"{group}", f"{step}"]
                        + [f"{1000 * mse[name]:.1f}" if name in mse else "" for name in shown])  # fmt: skip
    return markdown(["G", "step", *(COMPARED[name].title for name in shown)], rows)


def by_block(steps: pl.DataFrame) -> pl.DataFrame:
    """The steps of the paths with blocks, after the first block; with the position in the block."""
    kept = steps.filter((pl.col("reuse") == 10) & (pl.col("profile") == "low") & (pl.col("at") > 10))
    return kept.with_columns(position=(pl.col("at") - 1) % 10 + 1)


def by_position(steps: pl.DataFrame) -> str:
    """MSE by position in the block, over all blocks of all seeds; ± is the standard error over blocks."""
    rows = []
    for group in (1, 4):
        for name in BY_STEP:
            mine = steps.filter((pl.col("group") == group) & (pl.col("baseline") == name))
            if mine.height:
                cells = [mine.filter(pl.col("position") == k)["mse"] for k in range(1, 11)]
                rows.append([COMPARED[name].title, f"{group}"]
                            + [_thousandths(x) for x in cells])  # fmt: skip
    return markdown(["baseline", "G", *map(str, range(1, 11))], rows)


def beside(frame: pl.DataFrame) -> str:
    """KAE and the default estimator against RLOO, GRPO and the batch mean, in percent with 95% intervals."""
    rows = []
    for name in ("kae", "default"):
        for group in GROUPS:
            names, mse = draws(frame.filter(pl.col("group") == group))
            row = [COMPARED[name].title, f"{group}"]
            for base in ("group_mean", "rloo", "batch_mean_own"):
                row.append(_change(mse[:, names.index(name)], mse[:, names.index(base)]) if base in names else "")
            rows.append(row)
    return markdown(["", "G", "v group mean (GRPO)", "v RLOO", "v batch mean (REINFORCE++)"], rows)


def reductions(frame: pl.DataFrame) -> str:
    """The same for single profiles, G = 4."""
    rows = []
    for profile in frame["profile"].unique().sort():
        mine = frame.filter((pl.col("profile") == profile) & (pl.col("group") == 4))
        names, mse = draws(mine)
        for name in ("kae", "default"):
            changes = [
                _change(mse[:, names.index(name)], mse[:, names.index(base)]) for base in ("rloo", "batch_mean_own")
            ]
            rows.append([str(profile), COMPARED[name].title, f"{1000 * mse[0, names.index(name)]:.1f}", *changes])
    return markdown(["profile", "baseline", "MSE", "v RLOO", "v batch mean"], rows)


def _thousandths(x: pl.Series) -> str:
    """Mean and standard error of MSEs; empty without any."""
    if not len(x):
        return ""
    error = x.std() / len(x) ** 0.5 if len(x) > 1 else float("nan")
    return f"{1000 * x.mean():.0f} ± {1000 * error:.0f}"


def _change(a: Any, b: Any) -> str:
    change = a / b - 1.0
    low, high = np.quantile(change[1:], [0.025, 0.975])
    return f"{change[0]:+.0%} [{low:+.0%}, {high:+.0%}]"
