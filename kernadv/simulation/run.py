"""The rollouts of a simulated run, with their truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from kernadv._errors import check_choice, check_count, check_range
from kernadv.groups import Groups
from kernadv.simulation.process import PROCESSES, Process
from kernadv.simulation.schedule import SCHEDULES, Schedule
from kernadv.typing import FloatArray, IntArray

#: Standard deviation of the log response length, and its mean in tokens for a right answer.
LENGTH_SPREAD, LENGTH = 0.3, 30.0


class Simulation(NamedTuple):
    """A run of N groups of G traces over P prompts, with its truth.

    Attributes
    ----------
    groups : Groups
        Sorted by prompt, then by step, as the audit and the baselines expect.
    value : (N,) float64
        True value V of each group's prompt at its step.
    rewards : (N, G) float64
        0 or 1, or in between if the process says so; traces are in the order in which they were sampled.
    length : (N, G) float64
        Response length of each trace in tokens.
    position, visit : (N,) int64
        Position of the step in its stay, and number of the prompt's visit, both from 1.
    initial_value : (P,) float64
        True value before training.
    offline : (P,) int64 or float64
        Sum of the rewards of `offline_rollouts` rollouts of the policy before training.
    offline_rollouts : int
    features : (P, 1) float64
        The logit of the initial value plus noise: what an encoder may know about a prompt's difficulty.
    noise_features : (P, 1) float64
        Pure noise of standard deviation 1.
    process : Process
        The process from which all this was drawn.

    Examples
    --------
    >>> from kernadv.simulation import Schedule, simulate
    >>> run = simulate("fast", Schedule(batch=2, stay=1, blocks=2, steps=4), group_size=3)
    >>> run.rewards.shape, run.groups.step[:2], bool((run.value >= 0).all())
    ((8, 3), array([1, 3]), True)
    >>> for step, ids, rewards, group in run.batches():  # as a training loop sees them
    ...     print(step, ids)
    1 [0 0 0 1 1 1]
    2 [2 2 2 3 3 3]
    3 [0 0 0 1 1 1]
    4 [2 2 2 3 3 3]
    """

    groups: Groups
    value: FloatArray
    rewards: FloatArray
    length: FloatArray
    position: IntArray
    visit: IntArray
    initial_value: FloatArray
    offline: IntArray | FloatArray
    offline_rollouts: int
    features: FloatArray
    noise_features: FloatArray
    process: Process

    def batches(self) -> Iterator[tuple[int, IntArray, FloatArray, IntArray]]:
        """Step, prompt ids (B,), rewards (B,) and group index (B,) of each step's rows, in the order of training."""
        order = np.argsort(self.groups.step, kind="stable")
        steps, start = np.unique(self.groups.step[order], return_index=True)
        size = self.rewards.shape[1]
        for step, rows in zip(steps.tolist(), np.split(order, start[1:]), strict=True):
            group = np.repeat(rows, size)
            yield step, self.groups.prompt[group], self.rewards[rows].ravel(), group


def simulate(
    process: str | Process = "calib",
    schedule: str | Schedule = "one_pass",
    group_size: int = 1,
    *,
    seed: int = 0,
    offline_rollouts: int = 8,
    feature_noise: float = 1.5,
    length_ratio: float = 1.3,
) -> Simulation:
    """Simulate the rollouts of a training run.

    Parameters
    ----------
    process : str or Process
        Name in `PROCESSES`, or an object.
    schedule : str or Schedule
        Name in `SCHEDULES`, or an object.
    group_size : int
        Traces per prompt and step, G.
    seed : int
        From 0.
    offline_rollouts : int
        Traces per prompt sampled before training, from 0.
    feature_noise : float
        Standard deviation of the noise of the features, in logits.
    length_ratio : float
        Ratio of the mean response length of wrong answers to that of right ones.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used.

    Examples
    --------
    >>> run = simulate("fast", "multi_pass", 4, seed=1)
    >>> run.rewards.shape, run.value.shape, run.features.shape
    ((25600, 4), (25600,), (512, 1))
    """
    if not isinstance(process, Process):
        process = PROCESSES[check_choice(process, "process", PROCESSES)]
    if not isinstance(schedule, Schedule):
        schedule = SCHEDULES[check_choice(schedule, "schedule", SCHEDULES)]
    size = check_count(group_size, "group_size", most=2**20)
    seed = check_count(seed, "seed", least=0)
    drawn = check_count(offline_rollouts, "offline_rollouts", least=0)
    check_range(feature_noise, "feature_noise", 0.0)
    check_range(length_ratio, "length_ratio", 1e-3, 1e3)

    prompts, steps = schedule.prompts, schedule.steps
    prompt, step, position = schedule.visits(seed)
    every, before = np.arange(prompts), np.zeros(prompts, np.int64)
    value = process.values(prompt, step, prompts, steps, seed)
    logit = process.logits(every, before, prompts, steps, seed)
    initial = expit(logit)
    streams = [np.random.default_rng([seed, 2, trace]) for trace in range(size)]
    rewards = np.stack([process.draw(rng, value) for rng in streams], axis=1)
    length = np.stack([rng.normal(0.0, LENGTH_SPREAD, len(prompt)) for rng in streams], axis=1)
    length = LENGTH * np.exp(length - LENGTH_SPREAD**2 / 2) * length_ratio ** (1.0 - rewards)
    first = np.searchsorted(prompt, every)
    rng = np.random.default_rng([seed, 3])
    return Simulation(
        groups=Groups(prompt, step, np.full(len(prompt), size), rewards.sum(1), (rewards**2).sum(1)),
        value=value,
        rewards=rewards,
        length=length,
        position=position,
        visit=np.arange(len(prompt)) - first[prompt] + 1,
        initial_value=initial,
        offline=_offline(process, initial, drawn, np.random.default_rng([seed, 4])),
        offline_rollouts=drawn,
        features=(logit + feature_noise * rng.normal(size=prompts))[:, None],
        noise_features=rng.normal(size=(prompts, 1)),
        process=process,
    )


def _offline(process: Process, value: FloatArray, drawn: int, rng: np.random.Generator) -> IntArray | FloatArray:
    """Sum of the rewards of the offline rollouts, for each value."""
    if not process.concentration:
        return np.asarray(rng.binomial(drawn, value))
    return np.asarray(process.draw(rng, np.tile(value, (drawn, 1))).sum(0))
