"""Monomials of several variables: exponents, values, and their sums about a shifted origin."""

from __future__ import annotations

import functools
from itertools import combinations_with_replacement, product
from math import comb, prod
from typing import NamedTuple

import numpy as np

from kernadv.typing import FloatArray, IntArray


class Monomials(NamedTuple):
    """All monomials of total degree <= p in d variables, in order of their degree.

    Attributes
    ----------
    exponents : (E, d) int64
    parents : (E, 2) int64
        Each monomial is an earlier one times a variable: the number of both; (0, -1) for the constant.
    """

    exponents: IntArray
    parents: IntArray


@functools.cache
def monomials(dimensions: int, degree: int) -> Monomials:
    """The monomials of total degree <= `degree`."""
    every: list[tuple[int, ...]] = []
    for total in range(degree + 1):
        for chosen in combinations_with_replacement(range(dimensions), total):
            every.append(tuple(chosen.count(i) for i in range(dimensions)))
    index = {a: k for k, a in enumerate(every)}
    parents = [(0, -1)]
    for a in every[1:]:
        first = next(i for i, power in enumerate(a) if power)
        parents.append((index[tuple(power - (i == first) for i, power in enumerate(a))], first))
    return Monomials(np.array(every, np.int64).reshape(len(every), dimensions), np.array(parents, np.int64))


def values(z: FloatArray, basis: Monomials) -> FloatArray:
    """Values of the monomials at points z (..., d).  # (..., E)"""
    out = np.empty((*z.shape[:-1], len(basis.parents)))
    out[..., 0] = 1.0
    for k, (earlier, variable) in enumerate(basis.parents[1:].tolist(), 1):
        out[..., k] = out[..., earlier] * z[..., variable]
    return out


@functools.cache
def _terms(dimensions: int, degree: int) -> list[list[tuple[int, float, int]]]:
    """For each monomial a the (b, factor, a - b) of ``(u + s)^a = sum_b factor * s^(a - b) * u^b``, over all b <= a."""
    every = [tuple(a) for a in monomials(dimensions, degree).exponents.tolist()]
    index = {a: k for k, a in enumerate(every)}
    return [
        [
            (
                index[b],
                float(prod(comb(i, j) for i, j in zip(a, b, strict=True))),
                index[tuple(i - j for i, j in zip(a, b, strict=True))],
            )
            for b in product(*(range(i + 1) for i in a))
        ]
        for a in every
    ]


def shifted(sums: FloatArray, by: FloatArray, basis: Monomials) -> FloatArray:
    """Sums of monomials about an origin that lies `by` (b, d) before the one of `sums` (b, C, E)."""
    if len(basis.parents) == 1 or not by.any():
        return sums
    powers = values(by, basis).T[:, :, None]  # (E, b, 1)
    parts = np.ascontiguousarray(np.moveaxis(sums, 2, 0))
    out = np.zeros_like(parts)
    for a, terms in enumerate(_terms(basis.exponents.shape[1], int(basis.exponents[-1].sum()))):
        for b, factor, rest in terms:
            out[a] += factor * powers[rest] * parts[b]
    return np.moveaxis(out, 0, 2)
