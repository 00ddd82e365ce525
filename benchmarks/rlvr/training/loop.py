"""Policy gradient from a start, with any baseline."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.policies.methods import METHODS, Batch, Online
from benchmarks.rlvr.model.policy import backward
from benchmarks.rlvr.model.rollouts import Rollouts, roll_out, uniforms
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.tasks import Task
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Prompts
from kernadv.schedule import block_reuse

TRAIN, EVALUATE = 0, 1  # streams of random numbers
COLUMNS = ("prompt", "reward", "baseline", "weight", "length", "surprisal")  # of a trace, in the log


class Training:
    """A run in progress.

    Parameters
    ----------
    setting : Setting
    task : Task
    model : Transformer
        The start; it is changed.
    prompts : Prompts
    """

    def __init__(self, setting: Setting, task: Task, model: Transformer, prompts: Prompts) -> None:
        method = METHODS[setting.method]
        if setting.group < method.least_group:
            raise ValueError(f"{setting.method} needs {method.least_group} traces a prompt, got {setting.group}")
        self.setting, self.task, self.model, self.problems = setting, task, model, prompts
        passes = -(-setting.steps * setting.prompts // (len(prompts.train) * setting.reuse)) + 1
        self.schedule = block_reuse(len(prompts.train), setting.prompts, setting.reuse, setting.seed, passes=passes)
        self.baseline = method.make("sum")
        self.optimizer = torch.optim.Adam(model.parameters(), lr=setting.rate, betas=(0.9, 0.99), foreach=True)
        self.done = 0
        self.log: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.norms: list[float] = []  # of the gradients, before clipping

    def step(self) -> None:
        """Sample, value, update."""
        setting = self.setting
        rows = np.repeat(self.schedule[self.done], setting.group)  # (B,) numbers of the prompts
        draws = uniforms(len(rows), self.task.trace_length, setting.seed, TRAIN, self.done)
        rollouts = roll_out(self.model, self.task, [self.problems.train[row] for row in rows], draws)
        advantages = self.advantages(rows, rollouts)
        self.optimizer.zero_grad()
        coefficients = torch.as_tensor(advantages / len(rows), dtype=torch.float32)
        backward(self.model, rollouts.prompts, rollouts.traces.tokens, coefficients)
        self.norms.append(self.clipped())
        self.optimizer.step()
        baseline, length = (rollouts.rewards - advantages.T).T, rollouts.traces.mask.sum(1)
        entries = rows, rollouts.rewards, baseline, rollouts.weights, length, -rollouts.log_probs.sum(1)
        for name, entry in zip(COLUMNS, entries, strict=True):
            self.log[name].append(torch.as_tensor(entry))
        self.done += 1

    def advantages(self, rows: Any, rollouts: Rollouts) -> Any:
        """Rewards minus the method's values, which then remembers the batch.  # (B,) or (B, L) float64"""
        seen = rows, rollouts.rewards, rollouts.log_probs, rollouts.traces.mask.numpy()
        baseline = self.baseline(Batch(*seen, self.done + 1, self.setting.group))
        return (rollouts.rewards - baseline.T).T

    def clipped(self) -> float:
        """Shorten the gradient where the setting says so; its norm before."""
        longest = self.setting.clip or float("inf")
        return float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), longest, foreach=True))

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as tensors and numbers.

        Raises
        ------
        ValueError
            If the method has a memory, which is not in it.
        """
        if isinstance(self.baseline, Online):
            raise ValueError(f"the state of a run with {self.setting.method} cannot be kept, for want of its memory's")
        return {
            "setting": asdict(self.setting),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
            "log": self.log,
            "norms": self.norms,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises
        ------
        ValueError
            If it is the state of another run.
        """
        if state["setting"] != asdict(self.setting):
            raise ValueError(f"the state is of {state['setting']}, this run is {asdict(self.setting)}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.log, self.norms = state["done"], state["log"], state["norms"]
