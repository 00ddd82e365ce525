"""Supervised warm-up: imitate a teacher."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch

from benchmarks.rlvr.model.policy import backward
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.tasks import Problem, Task
from benchmarks.rlvr.tasks.alphabet import ALPHABET
from benchmarks.rlvr.tasks.skills import Skills


def encode_prompts(task: Task, problems: list[Problem]) -> torch.Tensor:
    """Prompts, padded on the left.  # (B, prompt_length)"""
    return ALPHABET.encode(problem.prompt.rjust(task.prompt_length) for problem in problems)


def warm_up(
    model: Transformer, task: Task, pool: list[Problem], skills: Skills, steps: int, batch: int, rate: float, seed: int
) -> Iterator[float]:
    """Imitate on problems of the pool; yields the loss, nats a trace, after every step.

    The learning rate rises to `rate` over a twentieth of the steps and falls along a cosine.
    """
    device = model.position.device
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), foreach=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.05, cycle_momentum=False)
    for _ in range(steps):
        problems = rng.choices(pool, k=batch)
        written = ALPHABET.encode(task.write(problem, skills, rng).ljust(task.trace_length) for problem in problems)
        optimizer.zero_grad()
        prompts = encode_prompts(task, problems).to(device)
        coefficients = torch.full((batch,), 1.0 / batch, device=device)
        yield backward(model, prompts, written.to(device), coefficients, chunk=32)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
