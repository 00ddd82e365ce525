"""The task: sums and differences of two numbers, written as characters, with one correct completion a prompt.

A prompt is ``"37+48="`` and its correct completion ``"58."``: the digits of the result, least significant first, then
the end mark. Because the correct completion is a single string, the probability that a policy is right is a product of
a few next-character probabilities, with no sampling.
"""

from __future__ import annotations

import random
from itertools import product

from torch import Tensor

from benchmarks.rlvr.tasks import Problem
from benchmarks.rlvr.tasks.alphabet import Alphabet
from benchmarks.rlvr.tasks.base import backwards
from benchmarks.rlvr.tasks.skills import Skills

ALPHABET = Alphabet(" 0123456789+-=.")
PROMPT_LENGTH = 8  # "999+999="
ANSWER_LENGTH = 5  # "8991."
#: Operation, column (units, tens, ...), and the two digits of the column.
SKILLS = tuple(product("+-", range(ANSWER_LENGTH - 1), range(10), range(10)))


def problem(a: int, operation: str, b: int) -> Problem:
    """The sum, or the difference with ``a >= b``; its answer carries the end mark."""
    result = a + b if operation == "+" else a - b
    return Problem(f"{a}{operation}{b}=", (a, b), backwards(result) + ".")


def draw_problem(rng: random.Random) -> Problem:
    """Draw a problem: either operation, each number with two or three digits."""
    a, b = (rng.randrange(10, 100) if rng.random() < 0.5 else rng.randrange(100, 1000) for _ in range(2))
    return problem(max(a, b), "-", min(a, b)) if rng.choice("+-") == "-" else problem(a, "+", b)


def draw_pool(size: int, rng: random.Random) -> list[Problem]:
    """Draw ``size`` different problems."""
    pool: dict[Problem, None] = {}
    while len(pool) < size:
        pool[draw_problem(rng)] = None
    return list(pool)


def write(problem: Problem, skills: Skills, rng: random.Random) -> str:
    """The teacher's answer: each digit may have the mistake of its skill; carries stay right."""
    digits = problem.answer[:-1]
    a, b = (backwards(number).ljust(len(digits), "0") for number in problem.numbers)
    operation = "+" if "+" in problem.prompt else "-"
    written = [
        (int(digit) + skills.mistake((operation, column, int(d), int(e)), rng)) % 10
        for column, (digit, d, e) in enumerate(zip(digits, a, b, strict=False))
    ]
    return "".join(map(str, written)) + "."


def encode_prompts(problems: list[Problem]) -> Tensor:
    """Prompts as character numbers, padded on the left.  # (B, PROMPT_LENGTH)"""
    return ALPHABET.encode(problem.prompt.rjust(PROMPT_LENGTH) for problem in problems)


def encode_answers(answers: list[str]) -> Tensor:
    """Completions as character numbers, padded on the right.  # (B, ANSWER_LENGTH)"""
    return ALPHABET.encode(answer.ljust(ANSWER_LENGTH) for answer in answers)


def reward(completions: Tensor, answers: Tensor) -> Tensor:
    """1 where a completion is exactly the correct answer, end mark included, else 0.  # (B, L), (B, L) -> (B,)"""
    return ((completions == answers) | ~ALPHABET.counted(answers)).all(-1).float()
