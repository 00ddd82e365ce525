"""Banks: many traces of the prompts of one training step, from which value and gradient errors are computed offline.

A path trains with groups of 8 traces; the first 1 or 4 of each group are the history of the smaller groups, so that all
group sizes are compared at the same policies.  At a checkpoint the path stops before its step; of each of the step's prompts
520 fresh traces are sampled, and for the first 128 the inner products of their scores are kept.

Command: ``python -m benchmarks.rlvr.banks.draw``; stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rlvr.files import load, save
from benchmarks.rlvr.model.rollouts import Rollouts, pass_rates, roll_out, uniforms
from benchmarks.rlvr.model.scoring import scores
from benchmarks.rlvr.tasks import TASKS
from benchmarks.rlvr.training.loop import TRAIN, Training
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Prompts, Sizes, start
from kernadv.cli._progress import Bars

FRESH, OFFLINE = 2, 3  # streams of random numbers
SCORED = 128  # traces of a prompt with scores
PARTS, PART = 4, 98  # further traces of a prompt, for the truth
CHECKPOINTS = (5, 15, 30, 52, 85)
EPOCHS = (15, 34, 60)  # checkpoints without blocks: in the second, fifth and eighth pass
GROUP = 8
OFFLINE_ROLLOUTS = 8
TRACE = ("reward", "proxy", "length", "norm", "surprisal")  # what is kept of a trace


@dataclass(frozen=True)
class Plan:
    """A path and what is drawn along it.

    Attributes
    ----------
    setting : Setting
    checkpoints : tuple of int
        Steps before which a bank is drawn.
    scored : bool
        With scores; else rewards only, for values.
    temperature : float
        Of the sampling at the checkpoints.
    """

    setting: Setting
    checkpoints: tuple[int, ...] = CHECKPOINTS
    scored: bool = True
    temperature: float = 1.0

    def bank(self, folder: Path, step: int) -> Path:
        """File of a bank."""
        s = self.setting
        heat = "" if self.temperature == 1.0 else f"-T{self.temperature:g}"
        return folder / f"{s.task}-{s.profile}{s.table}-J{s.reuse}-s{s.seed}-step{step}{heat}.bank.pt"

    def state(self, folder: Path, step: int) -> Path:
        """File of the path before a step; the newest is kept."""
        return self.bank(folder, step).with_suffix(".state.pt")

    def offline(self, folder: Path) -> Path:
        """File of the start's pass rates."""
        return folder / f"{self.setting.task}-{self.setting.profile}{self.setting.table}.offline.pt"


def plans() -> Iterator[Plan]:
    """One start a seed: blocks with scores (after the first, its start at two temperatures), then epochs without; then other
    profiles."""
    shape = {"profile": "low", "group": GROUP, "rollouts": 32 * GROUP, "reuse": 10}
    path = Setting("rloo", 0, 1e-4, steps=max(CHECKPOINTS), **shape)
    for seed in range(3):
        yield Plan(replace(path, seed=seed))
        if seed == 0:
            for temperature in (0.6, 1.0):
                yield Plan(replace(path, steps=1), (1,), True, temperature)
    for seed in range(3):
        yield Plan(replace(path, seed=seed, reuse=1, steps=max(EPOCHS)), EPOCHS, scored=False)
    for profile in ("middle", "bimodal"):
        yield Plan(replace(path, profile=profile, steps=30), (15, 30))


class ScoredTraining(Training):
    """A path that also remembers the squared norm of each trace's score, and its surprisal."""

    def step(self) -> None:
        """One update, by the scores of the traces."""
        setting = self.setting
        for name in ("norm", "surprisal"):
            self.log.setdefault(name, [])
        rows = np.repeat(self.schedule[self.done], setting.group)
        draws = uniforms(len(rows), self.task.trace_length, setting.seed, TRAIN, self.done)
        rollouts = roll_out(self.model, self.task, [self.problems.train[row] for row in rows], draws)
        advantages = self.advantages(rows, rollouts)
        score, log_probability = scores(self.model, rollouts.prompts, rollouts.traces.tokens)
        gradient = -torch.as_tensor(advantages / len(rows), dtype=torch.float32) @ score
        parameters = list(self.model.parameters())
        for p, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p).clone()
        self.clipped()
        self.optimizer.step()
        kept = dict(_kept(rollouts), norm=score.square().sum(1), surprisal=-log_probability)
        entries = dict(kept, prompt=rows, baseline=rollouts.rewards - advantages, weight=kept["proxy"])
        for name, column in self.log.items():
            column.append(torch.as_tensor(entries[name]).cpu())
        self.done += 1


def _kept(rollouts: Rollouts) -> dict[str, Any]:
    return {
        "reward": torch.as_tensor(rollouts.rewards),
        "proxy": torch.as_tensor(rollouts.weights),
        "length": rollouts.traces.mask.sum(1),
    }


def fresh(training: Training, plan: Plan, count: int, part: int) -> Rollouts:
    """`count` traces of each prompt of the next step, all of a prompt together."""
    rows = np.repeat(training.schedule[training.done], count)
    key = training.setting.seed, FRESH, training.done + 1, part
    draws = uniforms(len(rows), training.task.trace_length, *key)
    problems = [training.problems.train[row] for row in rows]
    return roll_out(training.model, training.task, problems, draws, plan.temperature)


def draw(training: Training, plan: Plan) -> dict[str, Any]:
    """Fresh traces of the prompts of the next step, and the path's history before it.

    Returns
    -------
    dict
        prompt : (P,); rewards : (P, 520), those with scores first; of these proxy, length, norm, surprisal : (P, 128) and
        gram : (P, 128, 128), the inner products of their scores; history : dict of (R,) columns, traces in the order of
        sampling.
    """
    prompts = training.schedule[training.done]
    first = fresh(training, plan, SCORED, 0)
    kept = {name: column.view(len(prompts), SCORED).float() for name, column in _kept(first).items()}
    if plan.scored:
        grams, surprisals = [], []
        for rows in torch.arange(len(first.prompts)).split(SCORED):
            found = scores(training.model, first.prompts[rows], first.traces.tokens[rows], plan.temperature)
            grams.append(found[0] @ found[0].T)
            surprisals.append(-found[1])
        kept |= {"gram": torch.stack(grams), "surprisal": torch.stack(surprisals)}
        kept["norm"] = kept["gram"].diagonal(dim1=1, dim2=2).clone()
    others = [
        torch.as_tensor(fresh(training, plan, PART, 1 + k).rewards).view(len(prompts), PART).float()
        for k in range(PARTS)
    ]
    rewards = torch.cat([kept.pop("reward"), *others], dim=1)
    names = {"proxy": "weight"}
    history = {
        name: torch.cat(training.log[names.get(name, name)]).float()
        for name in ("prompt", *TRACE)
        if training.log.get(names.get(name, name))
    }
    return {"prompt": torch.as_tensor(prompts), "rewards": rewards, "history": history, **kept}


def collect(plan: Plan, folder: Path, sizes: Sizes, label: str = "") -> None:
    """Draw all banks of a plan that are not there."""
    missing = [step for step in plan.checkpoints if not plan.bank(folder, step).exists()]
    if not missing:
        return
    setting = plan.setting
    task = TASKS[setting.task]()
    model, prompts = start(task, setting.profile, setting.table, folder, sizes), Prompts(task)
    if not plan.offline(folder).exists():
        rates = pass_rates(model, task, prompts.train, OFFLINE_ROLLOUTS, setting.table, OFFLINE)
        save(torch.as_tensor(rates), plan.offline(folder))
    training = (ScoredTraining if plan.scored else Training)(setting, task, model, prompts)
    done = [step for step in plan.checkpoints if step not in missing and plan.state(folder, step).exists()]
    if done:
        training.load_state_dict(load(plan.state(folder, max(done))))
    with Bars() as bars, bars.bar(label + plan.bank(folder, 0).stem) as show:
        for step in missing:
            while training.done + 1 < step:
                training.step()
                reward = training.log["reward"][-1].float().mean()
                show(training.done / max(plan.checkpoints), f"mean reward {reward:.2f}")
            save(draw(training, plan), plan.bank(folder, step))
            save(training.state_dict(), plan.state(folder, step))
            for old in plan.checkpoints:
                if old < step:
                    plan.state(folder, old).unlink(missing_ok=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw the banks of traces of the studies of values and gradients.")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    queue = list(plans())
    for number, plan in enumerate(queue, 1):
        collect(plan, arguments.folder, Sizes(), f"{number}/{len(queue)} ")


if __name__ == "__main__":
    main()
