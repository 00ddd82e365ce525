"""The completions that TRL logs: the true advantages, and an evaluation's rows apart from those of the training."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from trl.trainer.utils import strip_images_from_messages

#: Folder of the completions of evaluations; TRL would write them over those of the training at the same step.
EVALUATIONS = "eval_completions"


def add_evaluation_log(trainer: Any, name: str = "") -> None:
    """Give a trainer a second, empty log, of an evaluation's data set of this name."""
    trainer._evaluation_logs = {key: _empty(column) for key, column in trainer._logs.items()}
    trainer._evaluation_folder = Path(EVALUATIONS, quote(name, safe="").replace(".", "%2E"))


def _empty(column: Any) -> Any:
    return deque(maxlen=column.maxlen) if isinstance(column, deque) else defaultdict(column.default_factory)


def replace_newest(logged: Any, values: list[float]) -> None:
    """Replace the newest entries of a deque."""
    for _ in values:
        logged.pop()
    logged.extend(values)


@contextmanager
def rows_apart(trainer: Any) -> Iterator[None]:
    """While the model is evaluated, collect its rows in a log of their own."""
    if trainer.model.training:
        yield
        return
    training, trainer._logs = trainer._logs, trainer._evaluation_logs
    try:
        yield
    finally:
        trainer._logs = training


@contextmanager
def files_apart(trainer: Any) -> Iterator[None]:
    """While an evaluation is logged, keep the file of the training's completions, and move the one that appears."""
    file = _file(trainer, "completions")
    if trainer.model.training or not trainer.accelerator.is_main_process:
        yield
        return
    kept = file.with_suffix(".training")
    if file.is_file():
        os.replace(file, kept)
    try:
        yield
    finally:
        if file.is_file():
            there = _file(trainer, trainer._evaluation_folder)
            there.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, there)
        if kept.is_file():
            os.replace(kept, file)


def write_completions(trainer: Any) -> None:
    """Write the completions as `trl.GRPOTrainer` does; `trl.RLOOTrainer` shows them only."""
    logs = trainer._logs
    if not (trainer.log_completions and trainer.accelerator.is_main_process and logs["prompt"]):
        return
    texts = {name: map(strip_images_from_messages, logs[name]) for name in ("prompt", "completion")}
    table = {"step": [trainer.state.global_step] * len(logs["prompt"]), **texts, **logs["rewards"], **logs["extra"]}
    table["advantage"] = logs["advantages"]
    file = _file(trainer, "completions")
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: list(column) for name, column in table.items()}), file)


def _file(trainer: Any, folder: str | Path) -> Path:
    return Path(trainer.args.output_dir, folder, f"completions_{trainer.state.global_step:05d}.parquet")
