"""Runs on disk: a parquet log that `kernadv audit` reads, a parquet file of evaluations, a state to go on from."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.rlvr.files import load, save, write_table
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.tasks import TASKS
from benchmarks.rlvr.training.loop import Training
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Prompts, Sizes, start
from kernadv.cli._progress import Bars

SAVED_EVERY = 50  # steps
STUDY = Sizes()


class Run:
    """One setting in a folder; what is there already is not done again.

    Attributes
    ----------
    log : Path
        ``NAME.log.parquet``: step, prompt_id, reward, baseline (what was subtracted), weight, length; a row a trace.
    result : Path
        ``NAME.parquet``: step, accuracy on the held-out prompts; a row an evaluation.
    state : Path
        ``NAME.state.pt``: the unfinished run.
    """

    def __init__(self, setting: Setting, folder: Path, sizes: Sizes = STUDY, device: str = "cpu") -> None:
        self.setting, self.folder, self.sizes, self.device = setting, folder, sizes, device
        self.log, self.result, self.state = (
            folder / f"{setting.name}{end}" for end in (".log.parquet", ".parquet", ".state.pt")
        )

    def training(self) -> Training:
        """The run as it is on disk, or at its start."""
        task = TASKS[self.setting.task]()
        model: Transformer = start(task, self.setting.profile, self.setting.table, self.folder, self.sizes, self.device)
        training = Training(self.setting, task, model, Prompts(task))
        if self.state.exists():
            training.load_state_dict(load(self.state))
        return training

    def carry_out(self, label: str = "") -> None:
        """Train to the end and write log and result."""
        if self.result.exists():
            return
        training = self.training()
        with Bars() as bars, bars.bar(label + self.setting.name) as show:
            while training.done < self.setting.steps:
                training.step()
                show(training.done / self.setting.steps, f"held-out {training.evaluations[-1][1]:.3f}")
                if training.done % SAVED_EVERY == 0:
                    save(training.state_dict(), self.state)
        write_table(self.table(log_columns(training)), self.log)
        step, accuracy = np.array(training.evaluations).T
        write_table(self.table({"step": step.astype(np.int32), "accuracy": accuracy}), self.result)
        self.state.unlink(missing_ok=True)

    def table(self, columns: dict[str, Any]) -> pa.Table:
        """Columns, with the setting and the versions beside them."""
        about = {
            "setting": json.dumps(asdict(self.setting)),
            "versions": json.dumps({"python": platform.python_version(), "torch": torch.__version__}),
        }
        return pa.table(columns).replace_schema_metadata(about)


def log_columns(training: Training) -> dict[str, Any]:
    """One row a trace, in the order of sampling."""
    size = training.setting.prompts * training.setting.group
    names = np.array([problem.prompt for problem in training.problems.train])
    return {
        "step": np.repeat(np.arange(1, training.done + 1, dtype=np.int32), size),
        "prompt_id": pa.array(names[torch.cat(training.log["prompt"]).numpy()]).dictionary_encode(),
        **{name: torch.cat(training.log[name]).numpy().astype(np.float32) for name in ("reward", "baseline", "weight")},
        "length": torch.cat(training.log["length"]).numpy().astype(np.int16),
    }
