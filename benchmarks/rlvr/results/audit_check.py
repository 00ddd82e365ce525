"""The audit's truth-free value MSE beside the true one, on the logs of two runs.

Before each update of a run fresh rollouts of every visited prompt are drawn; they serve as the truth only.  The mean of
n of them misses V by E V(1 - V) / n, which is subtracted from the true errors.

Command: ``python -m benchmarks.rlvr.results.audit_check`` writes results/rlvr/audit_check.parquet, and the log of its first
run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from benchmarks.policies.methods import METHODS
from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.files import write_table
from benchmarks.rlvr.model.rollouts import pass_rates
from benchmarks.rlvr.results.markdown import markdown
from benchmarks.rlvr.tasks import TASKS
from benchmarks.rlvr.training.loop import Training
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Prompts, Sizes, start
from kernadv.auditing import audit
from kernadv.cli._progress import Bars
from kernadv.logs import read_log

TRUTH = 2  # stream of random numbers
ROLLOUTS = 32  # a visited prompt
SETTINGS = [
    Setting(method, 0, 2e-4, profile="low", group=4, rollouts=64, reuse=10, steps=60) for method in ("rloo", "plain")
]


def with_truth(setting: Setting, folder: Path, rollouts: int, sizes: Sizes) -> Path:
    """Carry the run out; write its log with the pass rates in the column ``value``."""
    path = folder / f"{setting.method}.truth{rollouts}.log.parquet"
    if path.exists():
        return path
    task = TASKS[setting.task]()
    model, prompts = start(task, setting.profile, setting.table, folder, sizes), Prompts(task)
    training = Training(setting, task, model, prompts)
    rates = []
    with Bars() as bars, bars.bar(path.stem) as show:
        while training.done < setting.steps:
            problems = [prompts.train[row] for row in training.schedule[training.done]]
            key = setting.seed, TRUTH, training.done
            rates.append(pass_rates(model, task, problems, rollouts, *key))
            training.step()
            show(training.done / setting.steps, f"mean V {rates[-1].mean():.3f}")
    value = np.repeat(np.concatenate(rates), setting.group)
    write_table(pa.table({**log_columns(training), "value": value.astype(np.float32)}), path)
    return path


def log_columns(training: Training) -> dict[str, Any]:
    """One row a trace, in the order of sampling; baseline: what was subtracted."""
    names = np.array([problem.prompt for problem in training.problems.train])
    return {
        "step": np.repeat(np.arange(1, training.done + 1, dtype=np.int32), training.setting.rollouts),
        "prompt_id": pa.array(names[torch.cat(training.log["prompt"]).numpy()]).dictionary_encode(),
        **{name: torch.cat(training.log[name]).numpy().astype(np.float32) for name in ("reward", "baseline", "weight")},
        "length": torch.cat(training.log["length"]).numpy().astype(np.int16),
    }


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
            "baseline": finding.title,
            "truth_free": finding.mse.estimate,
            "low": finding.mse.low,
            "high": finding.mse.high,
            "true": finding.true_mse - noise,
        }
        for finding in result.findings
        if finding.mse is not None and finding.true_mse is not None
    ]


def tables() -> dict[str, str]:
    """Title -> Markdown table."""
    path = RESULTS / "audit_check.parquet"
    shown = pl.read_parquet(path).filter(~pl.col("baseline").str.contains("w=|k="))
    rows = [
        [METHODS[method].title, baseline, f"{free:.4f}", f"[{low:.4f}, {high:.4f}]", f"{true:.4f}"]
        for method, baseline, free, low, high, true in shown.select(
            "method", "baseline", "truth_free", "low", "high", "true"
        ).iter_rows()
    ]
    return {"Audit": markdown(["trained with", "baseline", "truth-free MSE", "95% interval", "true MSE"], rows)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Check the audit against the truth on two runs.")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = [with_truth(setting, arguments.folder, ROLLOUTS, Sizes()) for setting in SETTINGS]
    (RESULTS / "log.parquet").write_bytes(paths[0].read_bytes())
    rows = [row for path, setting in zip(paths, SETTINGS, strict=True) for row in check(path, setting, ROLLOUTS)]
    pl.DataFrame(rows).write_parquet(RESULTS / "audit_check.parquet")


if __name__ == "__main__":
    main()
