"""One experiment from a seed: draw the pool, warm up, train, and collect what every step generated."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from policy import exact_value
from rich.progress import Progress
from summary import Array
from task import draw_pool, encode_answers, encode_prompts
from train import Config, new_model, reinforce, warm_up


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


def run(config: Config, seed: int, progress: Progress) -> Run:
    """Carry out the experiment.

    Parameters
    ----------
    config : Config
    seed : int
        Seeds torch's global generator (weights) and everything else that is drawn.
    progress : rich.progress.Progress
        Shows the steps done, the loss, the mean reward and the mean value; expects a field ``shown``.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    pool = draw_pool(config.pool, rng)
    prompts, answers = encode_prompts(pool), encode_answers([problem.answer for problem in pool])
    model = new_model(config)

    bar = progress.add_task("warm-up", total=config.warm_up_steps, shown="")
    for loss in warm_up(model, config, rng):
        progress.update(bar, advance=1, shown=f"loss {loss:.2f}")
    before = exact_value(model, prompts, answers)

    bar = progress.add_task("policy gradient", total=config.steps, shown="")
    steps = []
    for step in reinforce(model, pool, config, rng):
        steps.append(step)
        progress.update(bar, advance=1, shown=f"reward {step.rewards.mean():.2f}  V {step.values.mean():.2f}")
    after = exact_value(model, prompts, answers)

    names = np.array([problem.prompt for problem in pool])
    return Run(
        names[[step.problems for step in steps]],
        torch.stack([step.rewards for step in steps]).double().numpy(),
        torch.stack([step.values for step in steps]).double().numpy(),
        before.double().numpy(),
        after.double().numpy(),
    )
