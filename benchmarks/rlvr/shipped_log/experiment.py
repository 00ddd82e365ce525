"""The experiment from a seed: supervised warm-up on noisy answers, then REINFORCE with exact-match rewards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.shipped_log.policy import exact_value, log_probability, sample
from benchmarks.rlvr.shipped_log.summary import Array
from benchmarks.rlvr.shipped_log.task import (
    ALPHABET,
    ANSWER_LENGTH,
    PROMPT_LENGTH,
    SKILLS,
    draw_pool,
    draw_problem,
    encode_answers,
    encode_prompts,
    reward,
    write,
)
from benchmarks.rlvr.tasks import Problem
from benchmarks.rlvr.tasks.skills import Profile, Skills
from kernadv.cli._progress import Bars


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


def new_model(config: Config) -> Transformer:
    """An untrained model of the configured size; torch's global generator draws the weights."""
    return Transformer(PROMPT_LENGTH + ANSWER_LENGTH, config.width, config.layers, config.heads, len(ALPHABET))


def warm_up(model: Transformer, config: Config, rng: random.Random) -> Iterator[float]:
    """Imitate a noisy teacher on fresh problems; yields the loss (nats a completion) after every step."""
    skills = Skills(Profile(config.error_alpha, config.error_beta), rng, SKILLS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.warm_up_rate, betas=(0.9, 0.98))
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.warm_up_rate, config.warm_up_steps, pct_start=0.05, cycle_momentum=False
    )
    for _ in range(config.warm_up_steps):
        problems = [draw_problem(rng) for _ in range(config.warm_up_batch)]
        written = encode_answers([write(problem, skills, rng) for problem in problems])
        loss = -log_probability(model, encode_prompts(problems), written).mean()
        _update(model, optimizer, loss)
        rate.step()
        yield loss.item()


def reinforce(model: Transformer, pool: list[Problem], config: Config, rng: random.Random) -> Iterator[Step]:
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


def _update(model: Transformer, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


class Run(NamedTuple):
    """A finished run: S steps, P prompts a step, G traces a prompt, N prompts in the pool.

    Attributes
    ----------
    prompts : (S, P) str
    rewards : (S, P, G) float64
    values : (S, P) float64
        Exact value of the prompt under the policy that wrote the traces, before the update of the step.
    before, after : (N,) float64
        Exact values of the whole pool before the first and after the last policy update.
    """

    prompts: NDArray[np.str_]
    rewards: Array
    values: Array
    before: Array
    after: Array


def run(config: Config, seed: int) -> Run:
    """Carry out the experiment.

    Parameters
    ----------
    config : Config
    seed : int
        Seeds torch's global generator (weights) and everything else that is drawn.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    pool = draw_pool(config.pool, rng)
    prompts, answers = encode_prompts(pool), encode_answers([problem.answer for problem in pool])
    model = new_model(config)

    with Bars() as bars, bars.bar("warm-up") as show:
        for done, loss in enumerate(warm_up(model, config, rng), 1):
            show(done / config.warm_up_steps, f"loss {loss:.2f}")
    before = exact_value(model, prompts, answers)

    steps = []
    with Bars() as bars, bars.bar("policy gradient") as show:
        for step in reinforce(model, pool, config, rng):
            steps.append(step)
            show(len(steps) / config.steps, f"reward {step.rewards.mean():.2f}  V {step.values.mean():.2f}")
    after = exact_value(model, prompts, answers)

    names = np.array([problem.prompt for problem in pool])
    return Run(
        names[[step.problems for step in steps]],
        torch.stack([step.rewards for step in steps]).double().numpy(),
        torch.stack([step.values for step in steps]).double().numpy(),
        before.double().numpy(),
        after.double().numpy(),
    )
