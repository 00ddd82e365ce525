"""The run: supervised warm-up on noisy answers, then REINFORCE with exact-match rewards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from model import TinyTransformer
from policy import exact_value, log_probability, sample
from task import (
    ALPHABET,
    ANSWER_LENGTH,
    PROMPT_LENGTH,
    NoisyTeacher,
    Problem,
    draw_problem,
    encode_answers,
    encode_prompts,
    reward,
)
from torch import Tensor


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the run; the defaults made the shipped log.

    Attributes
    ----------
    width, layers, heads : int
        Size of the transformer.
    warm_up_steps, warm_up_batch : int
        Supervised steps, problems a step.
    warm_up_rate : float
        Highest learning rate of the warm-up, reached after a twentieth of its steps; then it falls along a cosine.
    error_alpha, error_beta : float
        Beta distribution of the teacher's error probabilities.
    pool, block, repeats, passes : int
        Number of prompts, prompts a step, consecutive steps J with the same prompts, passes over the pool.
    group : int
        Traces G a prompt and step.
    rate : float
        Learning rate of the policy gradient.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    warm_up_steps: int = 4000
    warm_up_batch: int = 128
    warm_up_rate: float = 3e-3
    error_alpha: float = 0.4
    error_beta: float = 0.9
    pool: int = 256
    block: int = 32
    repeats: int = 10
    passes: int = 5
    group: int = 4
    rate: float = 7e-5

    @property
    def steps(self) -> int:
        """Number of policy updates."""
        return self.passes * (self.pool // self.block) * self.repeats


class Step(NamedTuple):
    """What one step generated, before its update.

    Attributes
    ----------
    problems : (P,) list of int
        Places of the prompts in the pool.
    rewards : (P, G) float32
    values : (P,) float32
        Exact value of every prompt under the policy that wrote the completions.
    """

    problems: list[int]
    rewards: Tensor
    values: Tensor


def new_model(config: Config) -> TinyTransformer:
    """An untrained model of the configured size; torch's global generator draws the weights."""
    return TinyTransformer(len(ALPHABET), PROMPT_LENGTH + ANSWER_LENGTH, config.width, config.layers, config.heads)


def warm_up(model: TinyTransformer, config: Config, rng: random.Random) -> Iterator[float]:
    """Imitate a noisy teacher on fresh problems; yields the loss (nats a completion) after every step."""
    teacher = NoisyTeacher(rng, config.error_alpha, config.error_beta)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.warm_up_rate, betas=(0.9, 0.98))
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.warm_up_rate, config.warm_up_steps, pct_start=0.05, cycle_momentum=False
    )
    for _ in range(config.warm_up_steps):
        problems = [draw_problem(rng) for _ in range(config.warm_up_batch)]
        written = encode_answers([teacher.answer(problem) for problem in problems])
        loss = -log_probability(model, encode_prompts(problems), written).mean()
        _update(model, optimizer, loss)
        rate.step()
        yield loss.item()


def reinforce(model: TinyTransformer, pool: list[Problem], config: Config, rng: random.Random) -> Iterator[Step]:
    """Train on the pool by policy gradient; yields every step's rewards and exact values.

    The baseline is the mean of the other G - 1 rewards of the group.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=config.rate, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    prompts, answers = encode_prompts(pool), encode_answers([problem.answer for problem in pool])
    for block in schedule(config, rng):
        values = exact_value(model, prompts[block], answers[block])  # (P,)
        rows = torch.tensor(block).repeat_interleave(config.group)  # (P * G,)
        completions = sample(model, prompts[rows], ANSWER_LENGTH, generator)  # (P * G, L)
        rewards = reward(completions, answers[rows]).view(-1, config.group)  # (P, G)
        others = (rewards.sum(1, keepdim=True) - rewards) / (config.group - 1)
        advantages = (rewards - others).view(-1)  # (P * G,)
        _update(model, optimizer, -(advantages * log_probability(model, prompts[rows], completions)).mean())
        yield Step(block, rewards, values)


def schedule(config: Config, rng: random.Random) -> Iterator[list[int]]:
    """The prompts of every step: each pass shuffles the pool, and keeps a block of prompts for J steps."""
    for _ in range(config.passes):
        order = rng.sample(range(config.pool), config.pool)
        for start in range(0, config.pool, config.block):
            for _ in range(config.repeats):
                yield order[start : start + config.block]


def _update(model: TinyTransformer, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
