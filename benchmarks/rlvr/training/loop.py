"""Policy gradient from a start, with any baseline; stops and goes on exactly."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.rlvr.model.policy import backward
from benchmarks.rlvr.model.rollouts import pass_rates, roll_out, uniforms
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.tasks import Task
from benchmarks.rlvr.training.methods import METHODS, Advantages
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Prompts
from kernadv.schedule import block_reuse

TRAIN, EVALUATE = 0, 1  # streams of random numbers


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
        self.advantages = Advantages(method)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=setting.rate, betas=(0.9, 0.99), foreach=True)
        self.done = 0
        self.log: dict[str, list[Any]] = {"prompt": [], "reward": [], "baseline": [], "weight": [], "length": []}
        self.evaluations: list[list[float]] = []  # steps done, accuracy

    def step(self) -> None:
        """Sample, value, update; evaluate on the held-out prompts where it is due."""
        setting = self.setting
        self._evaluate()
        rows = np.repeat(self.schedule[self.done], setting.group)  # (B,) numbers of the prompts
        draws = uniforms(len(rows), self.task.trace_length, setting.seed, TRAIN, self.done)
        rollouts = roll_out(self.model, self.task, [self.problems.train[row] for row in rows], draws)
        weights = rollouts.weights
        advantages = self.advantages(rows, rollouts.rewards, self.done + 1, weights)
        self.optimizer.zero_grad()
        coefficients = torch.as_tensor(advantages / len(rows), dtype=torch.float32).to(rollouts.prompts.device)
        backward(self.model, rollouts.prompts, rollouts.traces.tokens, coefficients)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        entries = rows, rollouts.rewards, rollouts.rewards - advantages, weights, rollouts.traces.mask.sum(1)
        for name, entry in zip(self.log, entries, strict=True):
            self.log[name].append(torch.as_tensor(entry).cpu())
        self.done += 1
        if self.done == setting.steps:
            self._evaluate()

    def _evaluate(self) -> None:
        last = self.done == self.setting.steps
        if last or self.done % self.setting.every == 0:
            samples = self.setting.held_out * (2 if last else 1)
            key = self.setting.seed, EVALUATE, self.done
            rates = pass_rates(self.model, self.task, self.problems.held_out, samples, *key)
            self.evaluations.append([float(self.done), float(rates.mean())])

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as tensors and numbers."""
        return {
            "setting": asdict(self.setting),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "advantages": {k: torch.as_tensor(x) for k, x in self.advantages.state_dict().items()},
            "done": self.done,
            "log": self.log,
            "evaluations": self.evaluations,
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
        self.advantages.load_state_dict({name: x.numpy() for name, x in state["advantages"].items()})
        self.done, self.log, self.evaluations = state["done"], state["log"], state["evaluations"]
