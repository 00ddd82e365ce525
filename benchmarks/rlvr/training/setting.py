"""What a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One run.

    Attributes
    ----------
    method : str
        Key of `methods.METHODS`.
    seed : int
        Of the schedule and the sampling; methods with one seed share prompts and random numbers.
    task, profile : str
    table : int
        Seed of the start's error table.
    prompts, group, reuse : int
        Prompts a step, traces a prompt (G), consecutive steps with the same prompts (J); 1: epochs.
    rate : float
        Learning rate.
    steps : int
    every : int
        Steps between evaluations.
    held_out : int
        Samples of each held-out prompt at an evaluation; twice as many at the last.
    """

    method: str
    seed: int
    task: str = "chain_sum"
    profile: str = "low"
    table: int = 0
    prompts: int = 32
    group: int = 1
    reuse: int = 10
    rate: float = 1e-4
    steps: int = 80
    every: int = 20
    held_out: int = 1

    @property
    def name(self) -> str:
        """Of files."""
        where = f"{self.task}-{self.profile}{self.table}-{self.prompts}x{self.group}-J{self.reuse}"
        return f"{where}-lr{self.rate:g}-T{self.steps}-{self.method}-s{self.seed}"
