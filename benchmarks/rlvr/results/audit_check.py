"""The audit's truth-free value MSE beside the true one, on runs of the study.

A run is repeated with fresh rollouts of every visited prompt before each update; they serve as the truth only.  The mean of
n of them misses V by E V(1 - V) / n, which is subtracted from the true errors.

Command: ``python -m benchmarks.rlvr.results.audit_check`` writes results/rlvr/audit_check.parquet, and the log of its first
run.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.files import write_table
from benchmarks.rlvr.model.rollouts import pass_rates
from benchmarks.rlvr.training.queues import policies
from benchmarks.rlvr.training.runs import Run, log_columns
from benchmarks.rlvr.training.setting import Setting
from kernadv.audit import audit
from kernadv.cli._progress import Bars
from kernadv.logs import read_log

TRUTH = 2  # stream of random numbers
ROLLOUTS = 32  # a visited prompt
CHECKED = (("rloo", 4), ("default", 4))  # method, G; seed 0, J = 10


def with_truth(setting: Setting, folder: Path, rollouts: int) -> Path:
    """Carry the run out again; write its log with the pass rates in the column ``value``."""
    path = folder / f"{setting.name}.truth{rollouts}.log.parquet"
    if path.exists():
        return path
    training = Run(replace(setting, every=setting.steps), folder).training()
    rates = []
    with Bars() as bars, bars.bar(path.stem) as show:
        while training.done < setting.steps:
            problems = [training.problems.train[row] for row in training.schedule[training.done]]
            key = setting.seed, TRUTH, training.done
            rates.append(pass_rates(training.model, training.task, problems, rollouts, *key))
            training.step()
            show(training.done / setting.steps, f"mean V {rates[-1].mean():.3f}")
    value = np.repeat(np.concatenate(rates), setting.group)
    write_table(Run(setting, folder).table({**log_columns(training), "value": value.astype(np.float32)}), path)
    return path


def check(path: Path, setting: Setting, rollouts: int) -> list[dict[str, Any]]:
    """One row a baseline of the audit."""
    log = read_log(path, columns={"value": "value"})
    assert log.value is not None
    result = audit(log.groups, value=log.value)
    noise = float(np.mean(log.value * (1.0 - log.value))) / (rollouts - 1)
    return [
        {
            "method": setting.method,
            "group": setting.group,
            "seed": setting.seed,
            "baseline": score.title,
            "truth_free": score.mse.estimate,
            "low": score.mse.low,
            "high": score.mse.high,
            "true": score.true_mse - noise,
        }
        for score in result.scores
        if score.mse is not None and score.true_mse is not None
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Check the audit against the truth on runs of the study.")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for setting in policies():
        if (setting.method, setting.group) in CHECKED and setting.reuse == 10 and setting.seed == 0:
            path = with_truth(setting, arguments.folder, ROLLOUTS)
            if not rows:
                (RESULTS / "log.parquet").write_bytes(path.read_bytes())
            rows += check(path, setting, ROLLOUTS)
    pl.DataFrame(rows).write_parquet(RESULTS / "audit_check.parquet")


if __name__ == "__main__":
    main()
