"""Errors of the values of each baseline, from the banks of `draw.py`.

At a checkpoint fresh groups are valued, and the truth is the mean of the prompt's other rollouts (at least 512), whose own
noise is subtracted from the mean squared error.  Between checkpoints, at every step of the path, the truth is the mean of
the traces that the smaller group leaves over, which says where in a block the errors are.

Command: ``python -m benchmarks.rlvr.banks.values``; a bank that was done is not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.banks.draw import GROUP, plans
from benchmarks.rlvr.banks.replays import COLUMNS, GROUPS, Bank, Column, online, read, table, values
from benchmarks.rlvr.files import write_table
from kernadv.baselines.beta import OfflineCounts
from kernadv.cli._progress import Bars

#: Own reward or not, as published.  The first three need nothing but the batch.
COMPARED = {
    "batch_mean_own": Column("batch mean (REINFORCE++)", online("batch_mean_own")),
    "group_mean": Column("group mean, own reward (GRPO)", online("group_mean"), least_group=2),
    **COLUMNS,
    "dbb": Column("discounted Beta (DBB)", online("dbb")),
    "dbb_loo": Column("discounted Beta, leave-one-out", online("dbb_loo")),
    "spo": Column("discounted Beta from 8 offline rollouts (SPO's tracker)", OfflineCounts(first=0.875).online),
    "jspo": Column("James-Stein (JSPO)", online("jspo"), least_group=2),
    "eb_shrink": Column("empirical Bayes within the step", online("eb_shrink")),
    "ebpo_loo": Column("empirical Bayes over the run (EBPO), leave-one-out", online("ebpo_loo")),
}
REPEATS = 16
BY_STEP = ("batch_mean_own", "rloo", "kae", "default")


def squared_error(value: Any, total: Any, count: int) -> Any:
    """Unbiased for ``(value - V)^2``: against the mean of `count` independent 0/1 rewards, the variance of that mean
    subtracted."""
    mean = total / count
    return (value - mean) ** 2 - mean * (1.0 - mean) / (count - 1.0)


def measure(bank: Bank, group: int) -> Iterator[dict[str, Any]]:
    """One row a baseline and prompt: the mean over fresh groups."""
    rewards = bank.data["rewards"]
    count, n = rewards.shape
    repeats = min(REPEATS * GROUP // group, n // group)
    fresh = rewards[:, : repeats * group].reshape(count, repeats, group).transpose(1, 0, 2)
    others = rewards.sum(1)[None, :, None] - fresh.sum(2, keepdims=True)
    for name, column in COMPARED.items():
        if group >= column.least_group:
            value = values(bank, column, group, {"reward": fresh})
            error = squared_error(value, others, n - group).mean((0, 2))
            for x in range(count):
                yield {"group": group, "baseline": name, "prompt": int(bank.data["prompt"][x]), "mse": float(error[x])}


def along(bank: Bank, group: int) -> Iterator[dict[str, Any]]:
    """One row a step of the path and baseline: the mean over the prompts."""
    history = bank.data["history"]
    for name in BY_STEP:
        column = COMPARED[name]
        if group < column.least_group:
            continue
        estimator = column.make(bank.offline)
        for k, z in enumerate(history["reward"]):
            batch = np.repeat(history["prompt"][k][:, 0].astype(int), group), z[:, :group].ravel(), k + 1
            value = np.asarray(estimator.values(*batch).value).reshape(-1, group)
            estimator.observe(*batch)
            error = squared_error(value, z[:, group:].sum(1, keepdims=True), z.shape[1] - group)
            yield {"group": group, "baseline": name, "at": k + 1, "mse": float(error.mean())}


def describe(bank: Bank) -> Iterator[dict[str, Any]]:
    """One row a prompt: rollouts and how many were right."""
    for prompt, z in zip(bank.data["prompt"], bank.data["rewards"], strict=True):
        yield {"prompt": int(prompt), "rollouts": len(z), "right": int(z.sum())}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Value errors of every baseline at the banks.")
    parser.add_argument("--banks", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    work = [
        (plan, step)
        for plan in plans()
        if plan.temperature == 1.0 and plan.setting.steps > 1
        for step in plan.checkpoints
    ]
    found: dict[str, list[pa.Table]] = {"values": [], "value_prompts": [], "value_steps": []}
    with Bars() as bars, bars.bar("values") as show:
        for number, (plan, step) in enumerate(work):
            path = plan.bank(arguments.banks, step)
            show(number / len(work), path.stem)
            if not path.exists():
                continue
            part = path.with_suffix(".values.parquet")
            bank = read(plan, step, arguments.banks)
            if not part.exists():
                write_table(table([row for group in GROUPS for row in measure(bank, group)], plan, step), part)
            found["values"].append(pq.read_table(part))
            found["value_prompts"].append(table(list(describe(bank)), plan, step))
            if step == max(plan.checkpoints):
                rows = [row for group in GROUPS[:-1] for row in along(bank, group)]
                found["value_steps"].append(table(rows, plan, step))
    for name, parts in found.items():
        write_table(pa.concat_tables(parts, promote_options="default"), arguments.results / f"{name}.parquet")


if __name__ == "__main__":
    main()
