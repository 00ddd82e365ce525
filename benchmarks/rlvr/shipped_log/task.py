"""The task: sums and differences of two numbers, written as characters, with one correct completion a prompt.

A prompt is ``"37+48="`` and its correct completion ``"58."``: the digits of the result, least significant first, then
the end mark. Because the correct completion is a single string, the probability that a policy is right is a product of
a few next-character probabilities, with no sampling.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import torch
from torch import Tensor

ALPHABET = " 0123456789+-=."
PAD, END = ALPHABET.index(" "), ALPHABET.index(".")
PROMPT_LENGTH = 8  # "999+999="
ANSWER_LENGTH = 5  # "8991."


class Problem(NamedTuple):
    """One sum or difference; ``a >= b`` where ``op`` is ``"-"``."""

    a: int
    op: str
    b: int

    @property
    def prompt(self) -> str:
        """The prompt as shown to the model, without padding; it serves as the prompt's id."""
        return f"{self.a}{self.op}{self.b}="

    @property
    def answer(self) -> str:
        """The one correct completion, end mark included."""
        result = self.a + self.b if self.op == "+" else self.a - self.b
        return str(result)[::-1] + "."


def draw_problem(rng: random.Random) -> Problem:
    """Draw a problem: either operation, each number with two or three digits."""
    a, b = (rng.randrange(10, 100) if rng.random() < 0.5 else rng.randrange(100, 1000) for _ in range(2))
    op = rng.choice("+-")
    return Problem(max(a, b), op, min(a, b)) if op == "-" else Problem(a, op, b)


def draw_pool(size: int, rng: random.Random) -> list[Problem]:
    """Draw ``size`` different problems."""
    pool: dict[Problem, None] = {}
    while len(pool) < size:
        pool[draw_problem(rng)] = None
    return list(pool)


class NoisyTeacher:
    """Writes answers with skill errors: each pair of digits has its own, fixed chance of a fixed mistake.

    In column c (units, tens, ...) with the digits (d, e) under operation o, the digit of the result is shifted by
    ``shift[o, c, d, e]`` with probability ``error[o, c, d, e]``; carries stay right. The skills are shared between
    problems, so a model that imitates this teacher is good at some problems and bad at others.

    Parameters
    ----------
    rng : random.Random
        Draws the table once, and the mistakes at every call.
    alpha, beta : float
        Parameters of the Beta distribution of the error probabilities.
    """

    def __init__(self, rng: random.Random, alpha: float, beta: float) -> None:
        digits = "0123456789"
        keys = list(itertools.product("+-", range(ANSWER_LENGTH - 1), digits, digits))
        self._rng = rng
        self._error = {key: rng.betavariate(alpha, beta) for key in keys}
        self._shift = {key: rng.randrange(1, 10) for key in keys}

    def answer(self, problem: Problem) -> str:
        """The answer to ``problem``, perhaps with wrong digits."""
        digits = problem.answer[:-1]
        a, b = (str(x)[::-1].ljust(len(digits), "0") for x in (problem.a, problem.b))
        written = []
        for column, (digit, d, e) in enumerate(zip(digits, a, b, strict=False)):
            key = (problem.op, column, d, e)
            wrong = self._rng.random() < self._error[key]
            written.append(str((int(digit) + self._shift[key]) % 10) if wrong else digit)
        return "".join(written) + "."


def encode_prompts(problems: list[Problem]) -> Tensor:
    """Prompts as character numbers, padded on the left.  # (B, PROMPT_LENGTH)"""
    return _encode([problem.prompt.rjust(PROMPT_LENGTH) for problem in problems])


def encode_answers(answers: list[str]) -> Tensor:
    """Completions as character numbers, padded on the right.  # (B, ANSWER_LENGTH)"""
    return _encode([answer.ljust(ANSWER_LENGTH) for answer in answers])


def _encode(texts: list[str]) -> Tensor:
    return torch.tensor([[ALPHABET.index(character) for character in text] for text in texts])


def counted(completions: Tensor) -> Tensor:
    """Whether a character is part of the completion: all up to and with the first end mark.  # (B, L) -> (B, L)"""
    ends = (completions == END).int()
    return ends.cumsum(-1) - ends == 0


def reward(completions: Tensor, answers: Tensor) -> Tensor:
    """1 where a completion is exactly the correct answer, end mark included, else 0.  # (B, L), (B, L) -> (B,)"""
    return ((completions == answers) | ~counted(answers)).all(-1).float()
