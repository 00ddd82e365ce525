"""What a task is: prompts, the teacher's written traces, and a verifiable reward."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import NamedTuple

from benchmarks.rlvr.tasks.alphabet import FILLERS
from benchmarks.rlvr.tasks.skills import Skills

RECHECK = 0.25  # chance that a step is written twice


class Problem(NamedTuple):
    """One problem.

    Attributes
    ----------
    prompt : str
        What the model reads, without padding; the prompt's id.
    numbers : tuple of int
    answer : str
        The right answer as the trace writes it, between "#" and ".".
    """

    prompt: str
    numbers: tuple[int, ...]
    answer: str


class Task(ABC):
    """A family of problems.

    Attributes
    ----------
    name : str
    prompt_length, trace_length : int
        Characters of the longest prompt and trace.
    problems : int
        Number that the study draws: to train on, to test on, and for the warm-up.
    latent : bool
        The starts have learnt the task from a perfect teacher, before the one with errors: the skill is latent in them.
        Else they never knew it.
    """

    name: str
    prompt_length: int
    trace_length: int
    problems: int
    latent: bool = True

    @abstractmethod
    def draw(self, count: int, seed: int) -> list[Problem]:
        """Different problems."""

    @abstractmethod
    def write(self, problem: Problem, skills: Skills, rng: random.Random) -> str:
        """A trace of the teacher, with its style and its mistakes, end mark included."""

    def reward(self, problem: Problem, trace: str) -> float:
        """1 if the trace ends with the right answer, else 0."""
        return float(trace.endswith(".") and trace.rpartition("#")[2] == problem.answer + ".")


def written_step(calculation: str, rng: random.Random, recheck: bool) -> str:
    """A calculation behind one of eight fillers, perhaps written a second time."""
    twice = f"?{calculation}" if recheck else ""
    return f"{rng.choice(FILLERS)}{calculation}{twice};"


def backwards(number: int) -> str:
    """A number with its unit digit first."""
    return str(number)[::-1]
