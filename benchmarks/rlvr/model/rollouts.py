"""A batch of rollouts: sampled traces of some prompts, their rewards, and the random numbers behind them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.rlvr.model.policy import Traces, sample
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.model.warm_up import encode_prompts
from benchmarks.rlvr.tasks import Problem, Task
from benchmarks.rlvr.tasks.alphabet import ALPHABET
from kernadv.scores import logit_norms


class Rollouts(NamedTuple):
    """B traces.

    Attributes
    ----------
    prompts : (B, T) int64
    traces : Traces
    rewards : (B,) float64
    """

    prompts: Tensor
    traces: Traces
    rewards: Any

    @property
    def weights(self) -> Any:
        """``sum_t |onehot(y_t) - p_t|^2`` of each trace, the cheap stand-in for its squared score norm.  # (B,) float64"""
        return logit_norms(self.traces.logits, self.traces.tokens, self.traces.mask)

    @property
    def log_probs(self) -> Any:
        """Of the characters, at the temperature of the sampling; 0 outside the traces.  # (B, L) float64"""
        tokens, logits, mask = *self.traces, self.traces.mask
        return (logits.double().log_softmax(-1).gather(-1, tokens[..., None])[..., 0] * mask).cpu().numpy()


def uniforms(rows: int, length: int, *key: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on the key alone.  # (rows, length) float32, on the CPU"""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(state))


def roll_out(
    model: Transformer, task: Task, problems: list[Problem], draws: Tensor, temperature: float = 1.0
) -> Rollouts:
    """One trace of every problem; list a problem G times for a group.

    Parameters
    ----------
    model : Transformer
    task : Task
    problems : list of Problem  # (B,)
    draws : (B, task.trace_length) uniform numbers, see `uniforms`
    temperature : float
    """
    device = model.position.device
    prompts = encode_prompts(task, problems).to(device)
    traces = sample(model, prompts, draws.to(device), temperature)
    texts = ALPHABET.decode(traces.tokens)
    rewards = np.array([task.reward(problem, text) for problem, text in zip(problems, texts, strict=True)])
    return Rollouts(prompts, traces, rewards)


def pass_rates(model: Transformer, task: Task, problems: list[Problem], rollouts: int, *key: int) -> Any:
    """Mean reward of each problem over fresh rollouts.  # (P,) float64"""
    total = np.zeros(len(problems))
    for k in range(rollouts):
        total += roll_out(model, task, problems, uniforms(len(problems), task.trace_length, *key, k)).rewards
    return total / rollouts
