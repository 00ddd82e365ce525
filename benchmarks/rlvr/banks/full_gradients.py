"""Whether the gradient errors of the prompts of a step add up.

`gradients.py` adds the squared errors of the prompts.  Where a value reads the rewards of other prompts, the errors are
correlated over prompts.  Here the gradient of the whole batch is formed in all parameters for each repeat, and its variance
over the repeats is compared with that sum, at the last checkpoint of each path.

Command: ``python -m benchmarks.rlvr.banks.full_gradients``
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.banks.draw import Plan, ScoredTraining, fresh, plans
from benchmarks.rlvr.banks.gradients import ONLINE, regroup, second_moments, squared_mean
from benchmarks.rlvr.banks.replays import Bank, read, table, values
from benchmarks.rlvr.files import load, write_table
from benchmarks.rlvr.model.scoring import scores
from benchmarks.rlvr.tasks import TASKS
from benchmarks.rlvr.training.start import Prompts, Sizes, start
from kernadv.cli._progress import Bars

BASELINES = ("rloo", "batch", "default", "weighted-norm", "weighted-proxy-squared")
GROUPS = (4, 8)


def compare(bank: Bank, folder: Path) -> list[dict[str, Any]]:
    """Variance of the full gradient and the sum over prompts, one row a baseline and group size."""
    plan, data = bank.plan, bank.data
    task = TASKS[plan.setting.task]()
    model = start(task, plan.setting.profile, plan.setting.table, folder, Sizes())
    training = ScoredTraining(plan.setting, task, model, Prompts(task))
    training.load_state_dict(load(plan.state(folder, bank.step)))
    count, n = data["norm"].shape
    rollouts = fresh(training, plan, n, 0)
    if not np.array_equal(rollouts.rewards.reshape(count, n), data["rewards"][:, :n]):
        raise ValueError(f"{plan.state(folder, bank.step)} does not give the traces of its bank; draw both anew")
    cells, coefficients, sums = [], [], []
    for group in GROUPS:
        rows, traces = regroup(bank, group)
        p = np.arange(count)[None, :, None]
        for name in BASELINES:
            c = traces["reward"] - values(bank, ONLINE[name], group, traces)
            spread = np.zeros((len(rows), count, n))
            spread[np.arange(len(rows))[:, None, None], p, rows] = c / (count * group)
            coefficients.append(torch.as_tensor(spread, dtype=torch.float32))
            centred = data["rewards"] - data["rewards"].mean(1, keepdims=True)
            each = [
                second_moments(data["gram"][x], c[:, x], rows[:, x]).mean()
                - squared_mean(data["gram"][x], centred[x, :n])
                for x in range(count)
            ]
            sums.append(sum(each) / count**2)
            cells.append({"group": group, "baseline": name})
    sizes = [len(c) for c in coefficients]
    every = torch.cat(coefficients)  # (repeats of all cells, P, 128)
    total = torch.zeros(len(every), sum(p.numel() for p in model.parameters()))
    with Bars() as bars, bars.bar(plan.bank(folder, bank.step).stem) as show:
        for x, rows in enumerate(torch.arange(len(rollouts.prompts)).split(n)):
            found = scores(model, rollouts.prompts[rows], rollouts.traces.tokens[rows])[0]
            total.addmm_(every[:, x], found)
            show((x + 1) / count, "")
    return [
        cell | {"full": float(part.var(0).sum()), "summed": float(added)}
        for cell, part, added in zip(cells, total.split(sizes), sums, strict=True)
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--banks", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work: list[Plan] = [
        plan for plan in plans() if plan.scored and plan.setting.profile == "low" and plan.setting.steps > 1
    ]
    parts = []
    for plan in work:
        step = max(plan.checkpoints)
        if plan.state(arguments.banks, step).exists():
            parts.append(table(compare(read(plan, step, arguments.banks), arguments.banks), plan, step))
    write_table(pa.concat_tables(parts), arguments.results / "full_gradients.parquet")


if __name__ == "__main__":
    main()
