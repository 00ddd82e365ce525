"""One training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.policies.methods import METHODS, Batch
from benchmarks.policies.task import PRIVATE, TRAINED, Task
from kernadv.typing import FloatArray

TABLES = 4  # sets of skills; a seed has the set of its number modulo this
EVERY = 10  # steps between evaluations
FIRST = 30  # steps over which k is averaged
DECAYS = 0.9, 0.99  # of Adam
TOKENS = 4.0  # factor of the losses that divide by lengths, for steps of about the same size


@dataclass(frozen=True)
class Setting:
    """A run.  Runs that differ in `method` and `rate` alone share prompts and random numbers.

    Attributes
    ----------
    start, lengths : str
        Keys of `task.STARTS` and `task.LENGTHS`.
    method : str
        Key of `methods.METHODS`.
    seed : int
    rate : float
        Learning rate.
    loss : {"sum", "batch", "trace"}
        Sum over a trace's tokens; the same over the batch's mean number of tokens; over the trace's own number of tokens.
    optimizer : {"adam", "sgd"}
    clip : float
        Largest norm of a batch's gradient; 0: no clipping.
    group, rollouts : int
        Traces a prompt, and traces a step.
    steps : int
    """

    start: str
    method: str
    seed: int
    rate: float
    lengths: str = "longer"
    loss: str = "sum"
    optimizer: str = "adam"
    clip: float = 0.0
    group: int = 1
    rollouts: int = 32
    steps: int = 100


class Policy:
    """Logits of the slots, private and shared parts, and the optimizer's moments."""

    def __init__(self, task: Task, setting: Setting) -> None:
        self._task, self._setting = task, setting
        shape = task.logits.shape
        self._parts = [np.zeros(shape), np.zeros((task.features.shape[1], shape[1]))]
        self._first, self._second = ([np.zeros_like(part) for part in self._parts] for _ in range(2))
        self._updates = 0

    def probabilities(self) -> FloatArray:
        """Of the actions of each slot."""
        private, shared = self._parts
        q = np.exp(self._task.logits + PRIVATE**0.5 * private + self._task.features @ shared)
        return q / q.sum(1, keepdims=True)

    def climb(self, gradient: FloatArray) -> None:
        """One update along the gradient in the slots' logits."""
        setting = self._setting
        parts = [PRIVATE**0.5 * gradient, self._task.features.T @ gradient]
        norm = sum((part**2).sum() for part in parts) ** 0.5
        shrink = min(1.0, setting.clip / max(norm, 1e-12)) if setting.clip else 1.0
        self._updates += 1
        for k, part in enumerate(parts):
            move = shrink * part
            if setting.optimizer == "adam":
                a, b = DECAYS
                self._first[k] = a * self._first[k] + (1.0 - a) * move
                self._second[k] = b * self._second[k] + (1.0 - b) * move**2
                root = np.sqrt(self._second[k] / (1.0 - b**self._updates)) + 1e-8
                move = self._first[k] / (1.0 - a**self._updates) / root
            self._parts[k] += setting.rate * move


def train(setting: Setting) -> dict[str, float | str]:
    """Train once.

    Returns
    -------
    dict
        The setting, and over the held-out prompts, exactly: start and final accuracy, ``area`` (mean accuracy over the
        training), ``greedy``, ``pass8`` (at least one of eight traces is right) and ``entropy`` at the end; ``k`` of the
        first steps; ``second_moment``, the mean of the gradient's along the path, relative to that of the oracle b*.
    """
    task = Task(setting.start, setting.lengths, setting.seed % TABLES)
    schedule, draw = (np.random.default_rng((purpose, setting.seed)) for purpose in range(2))
    held_out = np.arange(TRAINED, len(task.asked))
    policy = Policy(task, setting)
    per_trace = setting.loss == "trace"
    baseline = METHODS[setting.method].make("trace" if per_trace else "sum")
    queue = np.empty(0, np.int64)
    curve, ratios, second, least = [], [], 0.0, 0.0
    for step in range(1, setting.steps + 1):
        p = policy.probabilities()
        if step % EVERY == 1:
            curve.append(task.values(p, held_out).mean())
        wanted = setting.rollouts // setting.group
        if len(queue) < wanted:
            queue = np.concatenate([queue, schedule.permutation(TRAINED)])
        chosen, queue = queue[:wanted], queue[wanted:]
        prompts = np.repeat(chosen, setting.group)
        traces = task.sample(p, prompts, draw)
        norms = task.norms(p, prompts, per_trace=per_trace)
        if step <= FIRST:
            odds = norms.value * (1.0 - norms.value)  # within prompts
            ratios.append((odds * norms.wrong).sum() / (odds * norms.right).sum())
        seen = prompts, traces.reward, traces.log_probs, traces.mask
        value = baseline(Batch(*seen, step, setting.group, norms))
        second += norms.second_moment(value).sum()
        least += norms.second_moment(norms.optimal).sum()
        advantage = (traces.reward - value) / len(prompts)
        length = traces.mask.sum(1)
        if setting.loss != "sum":
            advantage = (
                advantage * 4.0 / (length if per_trace else length.mean())
            )  # 4: steps of the same size as with the sum
        gradient = np.zeros_like(task.logits)
        np.add.at(gradient, traces.slots, advantage[:, None, None] * traces.error)
        policy.climb(gradient)
    p = policy.probabilities()
    final = task.values(p, held_out)
    accuracy = np.array([*curve, final.mean()])
    return asdict(setting) | {
        "first": float(accuracy[0]),
        "area": float((accuracy[1:] + accuracy[:-1]).mean() / 2),
        "final": float(accuracy[-1]),
        "greedy": float(task.greedy(p, held_out).mean()),
        "pass8": float((1.0 - (1.0 - final) ** 8).mean()),
        "entropy": float(task.entropy(p, held_out).mean()),
        "k": float(np.mean(ratios)),
        "second_moment": float(second / least),
    }
