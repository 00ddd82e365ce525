"""The policies that training starts from: they imitate a teacher with errors.

Where the skill is latent, a base that has imitated a perfect teacher does; else a model that knows nothing yet.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.rlvr.files import load, save
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.model.warm_up import warm_up
from benchmarks.rlvr.tasks import Problem, Task
from benchmarks.rlvr.tasks.skills import PROFILES, Skills
from kernadv.cli._progress import Bars

POOL, HELD_OUT = 256, 512  # prompts to train on, to test on; the others are for the warm-up


class Lessons(NamedTuple):
    """Imitation of a teacher: steps, traces a step, and learning rate."""

    steps: int
    batch: int
    rate: float


class Sizes(NamedTuple):
    """Sizes of the model and the warm-up; the defaults are those of values and gradients.

    Attributes
    ----------
    width, layers, heads : int
    perfect, errors : Lessons
        Of the perfect teacher, and after it of the one with errors.
    only : Lessons
        Of the teacher with errors, where there was no other.
    """

    width: int = 96
    layers: int = 2
    heads: int = 4
    perfect: Lessons = Lessons(2500, 64, 2e-3)
    errors: Lessons = Lessons(300, 96, 5e-4)
    only: Lessons = Lessons(1100, 64, 3e-3)


class Prompts:
    """The problems of a task, cut into those to train on, those held out, and those of the warm-up.

    Attributes
    ----------
    train, held_out, warm_up : list of Problem
    """

    def __init__(self, task: Task) -> None:
        drawn: list[Problem] = task.draw(task.problems, seed=0)
        self.train, self.held_out, self.warm_up = drawn[:POOL], drawn[POOL : POOL + HELD_OUT], drawn[POOL + HELD_OUT :]


def start(task: Task, profile: str, table: int, folder: Path, sizes: Sizes) -> Transformer:
    """The policy that imitates a teacher whose errors are drawn from `profile` by the seed `table`.

    Read from `folder` if it is there, else made and written.
    """
    path = folder / f"{task.name}-{profile}-{table}.pt"
    if path.exists():
        return restore(load(path))
    skills = Skills(PROFILES[profile], random.Random(table))
    if task.latent:
        base = folder / f"{task.name}-base.pt"
        if not base.exists():
            model = _untaught(task, sizes, 0)
            teach(model, task, Skills(None, random.Random(0)), sizes.perfect, 0, base.stem)
            store(model, base)
        model = restore(load(base))
        teach(model, task, skills, sizes.errors, 1 + table, path.stem)
    else:
        model = _untaught(task, sizes, table)
        teach(model, task, skills, sizes.only, 1 + table, path.stem)
    store(model, path)
    return model


def _untaught(task: Task, sizes: Sizes, seed: int) -> Transformer:
    torch.manual_seed(seed)
    length = task.prompt_length + task.trace_length
    return Transformer(length, sizes.width, sizes.layers, sizes.heads)


def teach(model: Transformer, task: Task, skills: Skills, lessons: Lessons, seed: int, name: str) -> None:
    """Warm-up with a progress bar."""
    with Bars() as bars, bars.bar(name) as show:
        losses = warm_up(model, task, Prompts(task).warm_up, skills, *lessons, seed)
        for done, loss in enumerate(losses, 1):
            show(done / lessons.steps, f"loss {loss:.2f}")


def store(model: Transformer, path: Path) -> None:
    """Write the weights and what `restore` needs to make the model."""
    save({"shape": model.shape, "weights": model.state_dict()}, path)


def restore(state: dict[str, Any]) -> Transformer:
    """The model of a file that `store` wrote."""
    model = Transformer(*state["shape"])
    model.load_state_dict(state["weights"])
    return model
