"""One training run, and what is kept of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rlvr.model.rollouts import Rollouts, roll_out, uniforms
from benchmarks.rlvr.tasks import TASKS
from benchmarks.rlvr.training.loop import EVALUATE, Training
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Prompts, Sizes, start

EVERY = 20  # steps between evaluations
LAST = 4  # samples of each held-out prompt after the last step; before, one
GREEDY = 0.02  # temperature of next to greedy traces
FIRST = 30  # steps over which k is taken


def train(setting: Setting, starts: Path, sizes: Sizes) -> dict[str, Any]:
    """Train once, on one thread of the CPU.

    Parameters
    ----------
    setting : Setting
    starts : Path
        Folder of the starts.
    sizes : Sizes
        Of the start.

    Returns
    -------
    dict
        The setting; of sampled traces of the held-out prompts first and final accuracy, ``area`` (mean accuracy over the
        training), at the end ``greedy``, ``pass4`` (at least one of four traces is right) and ``entropy`` (of the sampled
        characters, in nats); of the training mean ``reward``, mean ``norm`` of the gradients, the share of steps
        ``clipped``, and ``k`` of the first steps (`within_prompts`) with squared surprisals for squared norms.
    """
    torch.set_num_threads(1)
    task = TASKS[setting.task]()
    training = Training(setting, task, start(task, setting.profile, setting.table, starts, sizes), Prompts(task))
    curve = []
    while training.done < setting.steps:
        if training.done % EVERY == 0:
            curve.append(held_out(training).rewards.mean())
        training.step()
    last = [held_out(training, sample) for sample in range(LAST)]
    right = np.array([rollouts.rewards for rollouts in last])  # (LAST, P)
    accuracy = np.array([*curve, right.mean()])
    prompt, reward, surprisal = (
        torch.cat(training.log[name][:FIRST]).numpy() for name in ("prompt", "reward", "surprisal")
    )
    norms = np.array(training.norms)
    return asdict(setting) | {
        "first": float(accuracy[0]),
        "area": float((accuracy[1:] + accuracy[:-1]).mean() / 2),
        "final": float(accuracy[-1]),
        "greedy": float(held_out(training, LAST, GREEDY).rewards.mean()),
        "pass4": float(right.any(0).mean()),
        "entropy": entropy(last[0]),
        "reward": float(torch.cat(training.log["reward"]).mean()),
        "norm": float(norms.mean()),
        "clipped": float((norms > (setting.clip or np.inf)).mean()),
        "k": within_prompts(prompt, reward, surprisal**2),
    }


def held_out(training: Training, sample: int = 0, temperature: float = 1.0) -> Rollouts:
    """A trace of every held-out prompt; `sample` numbers the draws of one step."""
    problems = training.problems.held_out
    draws = uniforms(len(problems), training.task.trace_length, training.setting.seed, EVALUATE, training.done, sample)
    return roll_out(training.model, training.task, problems, draws, temperature)


def entropy(rollouts: Rollouts) -> float:
    """Mean over the characters of the traces, in nats."""
    log_p = rollouts.traces.logits[rollouts.traces.mask].log_softmax(-1)
    return float(-(log_p.exp() * log_p).sum(-1).mean())


def within_prompts(prompt: Any, reward: Any, weight: Any) -> float:
    """Mean weight of wrong over that of right traces within prompts (Mantel and Haenszel); nan without any such prompt.

    Parameters
    ----------
    prompt : (R,) int
    reward : (R,) of 0 and 1
    weight : (R,)
    """
    count, right, all_, of_right = (
        np.bincount(prompt, x) for x in (np.ones(len(prompt)), reward, weight, weight * reward)
    )
    share = right / np.maximum(count, 1.0)
    below = (of_right * (1.0 - share)).sum()
    return float(((all_ - of_right) * share).sum() / below) if below > 0 else float("nan")
