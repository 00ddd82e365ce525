"""What a run is."""

from __future__ import annotations

from dataclasses import dataclass

TABLES = 4  # starts of a task and profile


@dataclass(frozen=True)
class Setting:
    """One run.  Runs that differ in `method`, `rate` and `clip` alone share the start, prompts and random numbers.

    Attributes
    ----------
    method : str
        Key of `benchmarks.policies.methods.METHODS`, no oracle.
    seed : int
        Of the schedule and the sampling, and modulo `TABLES` of the start.
    rate : float
        Learning rate.
    task, profile : str
    clip : float
        Largest norm of a batch's gradient; 0: no clipping.
    group, rollouts : int
        Traces a prompt (G), and traces a step.
    reuse : int
        Consecutive steps with the same prompts (J); 1: epochs.
    steps : int
    """

    method: str
    seed: int
    rate: float
    task: str = "chain_sum"
    profile: str = "middle"
    clip: float = 1.0
    group: int = 1
    rollouts: int = 32
    reuse: int = 1
    steps: int = 80

    @property
    def table(self) -> int:
        """Seed of the start's errors."""
        return self.seed % TABLES

    @property
    def prompts(self) -> int:
        """Prompts a step."""
        return self.rollouts // self.group
