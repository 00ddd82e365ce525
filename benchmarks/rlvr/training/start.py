"""The policies that training starts from: a base imitates a perfect teacher, then variants one with errors.

Command: ``python -m benchmarks.rlvr.training.start`` makes every start of the study; one that is on disk is kept.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.rlvr.files import load, save
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.model.warm_up import warm_up
from benchmarks.rlvr.tasks import TASKS, Problem, Task
from benchmarks.rlvr.tasks.skills import PROFILES, Skills
from kernadv.cli._progress import Bars

POOL, HELD_OUT = 256, 512  # prompts to train on, to test on; the others are for the warm-up


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model and the warm-up; the defaults are the study's.

    Attributes
    ----------
    width, layers, heads : int
    base_steps, base_batch, base_rate
        Of the imitation of the perfect teacher.
    steps, batch, rate
        Of the imitation of the teacher with errors.
    """

    width: int = 96
    layers: int = 2
    heads: int = 4
    base_steps: int = 2500
    base_batch: int = 64
    base_rate: float = 2e-3
    steps: int = 300
    batch: int = 96
    rate: float = 5e-4


class Prompts:
    """The problems of a task, cut into those to train on, those held out, and those of the warm-up.

    Attributes
    ----------
    train, held_out, warm_up : list of Problem
    """

    def __init__(self, task: Task) -> None:
        drawn: list[Problem] = task.draw(task.problems, seed=0)
        self.train, self.held_out, self.warm_up = drawn[:POOL], drawn[POOL : POOL + HELD_OUT], drawn[POOL + HELD_OUT :]


def start(task: Task, profile: str, table: int, folder: Path, sizes: Sizes, device: str = "cpu") -> Transformer:
    """The policy that imitates a teacher whose errors are drawn from `profile` by the seed `table`.

    Read from `folder` if it is there, else made and written.
    """
    path = folder / f"{task.name}-{profile}-{table}.pt"
    if path.exists():
        return restore(load(path), device)
    base = folder / f"{task.name}-base.pt"
    if not base.exists():
        torch.manual_seed(0)
        model = Transformer(task.prompt_length + task.trace_length, sizes.width, sizes.layers, sizes.heads)
        perfect = Skills(None, random.Random(0))
        teach(model.to(device), task, perfect, sizes.base_steps, sizes.base_batch, sizes.base_rate, 0, base.stem)
        store(model, base)
    model = restore(load(base), device)
    skills = Skills(PROFILES[profile], random.Random(table))
    teach(model, task, skills, sizes.steps, sizes.batch, sizes.rate, 1 + table, path.stem)
    store(model, path)
    return model


def teach(
    model: Transformer, task: Task, skills: Skills, steps: int, batch: int, rate: float, seed: int, name: str
) -> None:
    """Warm-up with a progress bar."""
    with Bars() as bars, bars.bar(name) as show:
        losses = warm_up(model, task, Prompts(task).warm_up, skills, steps, batch, rate, seed)
        for done, loss in enumerate(losses, 1):
            show(done / steps, f"loss {loss:.2f}")


def store(model: Transformer, path: Path) -> None:
    """Write the weights and what `restore` needs to make the model."""
    save({"shape": model.shape, "weights": model.state_dict()}, path)


def restore(state: dict[str, Any], device: str) -> Transformer:
    """The model of a file that `store` wrote."""
    model = Transformer(*state["shape"])
    model.load_state_dict(state["weights"])
    return model.to(device)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the policies that training starts from.")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--task", choices=TASKS, default="chain_sum")
    parser.add_argument("--profile", nargs="+", choices=PROFILES, default=list(PROFILES))
    parser.add_argument("--tables", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[arguments.task]()
    for profile in arguments.profile:
        for table in range(arguments.tables):
            start(task, profile, table, arguments.folder, Sizes(), arguments.device)


if __name__ == "__main__":
    main()
