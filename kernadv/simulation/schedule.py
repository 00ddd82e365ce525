"""The prompts that each step visits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernadv._errors import check_count, check_flag
from kernadv.typing import IntArray


@dataclass(frozen=True)
class Schedule:
    """The prompts that each step visits: blocks of `batch` prompts, each kept for `stay` steps.

    Parameters
    ----------
    batch : int
        Prompts per step.
    stay : int
        Consecutive steps with the same prompts.
    blocks : int, optional
        Number of blocks, cycled through; None: every block is new, a single pass.
    steps : int
        Length of the run.
    shuffle : bool
        Assign the prompts to new blocks at every pass.

    Raises
    ------
    ArgumentError
        If a number is not a whole number >= 1.

    Examples
    --------
    >>> from kernadv.simulation import Schedule
    >>> schedule = Schedule(batch=2, stay=2, blocks=2, steps=8)
    >>> schedule.prompts
    4
    >>> prompt, step, position = schedule.visits(seed=0)
    >>> step[prompt == 0], position[prompt == 0]
    (array([1, 2, 5, 6]), array([1, 2, 1, 2]))
    """

    batch: int = 128
    stay: int = 10
    blocks: int | None = None
    steps: int = 200
    shuffle: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "stay", "steps"):
            check_count(getattr(self, name), name, most=2**31 - 1)
        if self.blocks is not None:
            check_count(self.blocks, "blocks", most=2**31 - 1)
        check_flag(self.shuffle, "shuffle")

    @property
    def prompts(self) -> int:
        """Number of prompts in the run."""
        return self.batch * (-(-self.steps // self.stay) if self.blocks is None else self.blocks)

    def visits(self, seed: int) -> tuple[IntArray, IntArray, IntArray]:
        """Prompt, step and position in the stay (from 1) of each visit, sorted by prompt, then step.  # 3 x (N,)"""
        step = np.arange(1, self.steps + 1)
        stay, position = (step - 1) // self.stay, (step - 1) % self.stay + 1
        blocks = self.prompts // self.batch
        prompt = (stay % blocks)[:, None] * self.batch + np.arange(self.batch)
        if self.shuffle:
            rng = np.random.default_rng([seed, 1])
            deals = np.stack([rng.permutation(self.prompts) for _ in range(stay[-1] // blocks + 1)])
            prompt = deals[(stay // blocks)[:, None], prompt]
        order = np.argsort(prompt.ravel(), kind="stable")
        tick = order // self.batch
        return prompt.ravel()[order], step[tick], position[tick]


#: Schedules by name: fresh prompts for 10 steps each; four blocks for 10 steps each, five times over; every prompt at
#: every 16th step.
SCHEDULES: dict[str, Schedule] = {
    "one_pass": Schedule(),
    "multi_pass": Schedule(blocks=4),
    "epochs": Schedule(batch=64, stay=1, blocks=16),
}
