"""The programs of `kernadv.pooling` as Triton kernels: the words of `kernadv.pooling._words` in Triton."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import torch
import triton
import triton.language as tl

from kernadv.moments.launch import OPTIONS, here

#: Places that a program of the kernels owns.
BLOCK = 32


@triton.jit
def get(x, i, mine):
    return tl.load(x + i, mask=mine, other=0)


@triton.jit
def read(x, k):
    return tl.load(x + k)


@triton.jit
def put(x, i, value, mine):
    tl.store(x + i, value, mask=mine)


@triton.jit
def add(sums, k, value):
    block, blocks = tl.program_id(0).to(tl.int64), tl.num_programs(0).to(tl.int64)
    tl.store(sums + (k * blocks + block), tl.sum(value, 0))


# A number of the text has 64 bits only in arithmetic with such: compared as it is, 1 - 1e-9 would be 1.
@triton.jit
def where(truth, this, that):
    none = tl.zeros((), tl.float64)
    return tl.where(truth, none + this, none + that)


@triton.jit
def most(a, b):
    none = tl.zeros((), tl.float64)
    a, b = none + a, none + b
    return tl.where(a >= b, a, b)


@triton.jit
def least(a, b):
    none = tl.zeros((), tl.float64)
    a, b = none + a, none + b
    return tl.where(a <= b, a, b)


@triton.jit
def exp(x):
    return tl.exp(x)


@triton.jit
def log(x):
    return tl.log(x)


WORDS = {word.__name__: word for word in (get, read, put, add, where, most, least, exp, log)}


@cache
def code(function: Callable[..., Any]) -> Any:
    """A program, or a part of one, as Triton compiles it."""
    text = function.py_func
    seen = {**text.__globals__, "tl": tl}
    for name in text.__code__.co_names:
        there = seen.get(name)
        if name in WORDS:
            seen[name] = WORDS[name]
        elif hasattr(there, "py_func"):
            seen[name] = code(there)
        elif isinstance(there, float):
            seen[name] = tl.constexpr(there)
    made = FunctionType(text.__code__, seen, text.__name__)
    made.__module__, made.__qualname__ = text.__module__, text.__qualname__
    return triton.jit(made)


@triton.jit
def program_kernel(numbers, arrays, PROGRAM: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    PROGRAM(i, i < numbers[0], *numbers, *arrays)


def over_rows(
    program: str, numbers: Sequence[int], reads: Sequence[torch.Tensor], writes: Sequence[torch.Tensor], sums: int
) -> torch.Tensor:
    """As `kernadv.device.programs.over_rows`.

    A program of the kernel owns `BLOCK` places, a lane each, and loops over the filters; its sums are added up afterwards.
    """
    from kernadv.device.programs import PROGRAMS

    blocks = triton.cdiv(numbers[0], BLOCK)
    added = torch.empty((sums, blocks), dtype=torch.float64, device=reads[0].device)
    arrays = (*reads, *writes, *([added] if sums else ()))
    with here(added):
        program_kernel[(blocks,)](
            tuple(numbers), arrays, PROGRAM=code(PROGRAMS[program]), BLOCK=BLOCK, num_warps=BLOCK // 32, **OPTIONS
        )
    return added.sum(1) if sums else added.view(0)
