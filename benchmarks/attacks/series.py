"""Fits by groups: smoothing never crosses series, whatever the kernel."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import beta

from benchmarks.attacks._answers import differing, warm_up
from benchmarks.attacks._row import Part, Row
from kernadv import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.kernels import Kernel

__all__ = ["KIND", "parts", "warm_up"]

KIND = "series"
TOLERANCE = 1e-9


class StudentKernel(Kernel):
    """``K(u) = (1 + u^2)^(-p)``: a tail like a power, which no distance takes to 0."""

    support = math.inf

    def __init__(self, p: float) -> None:
        self.p = p

    @property
    def name(self) -> str:
        """A name that no other kernel has."""
        return f"student {self.p:g}"

    def formula(self, u: Any, xp: Any) -> Any:
        """K at u >= 0."""
        return (1.0 + u * u) ** -self.p

    def moment(self, k: int) -> float:
        """Integral of ``u^k K(u)`` over u > 0, infinite if the tail is too heavy."""
        return _moment(k, self.p)

    def square_moment(self, k: int) -> float:
        """Integral of ``u^k K(u)^2`` over u > 0."""
        return _moment(k, 2.0 * self.p)


def _moment(k: int, p: float) -> float:
    """Integral of u^k (1 + u^2)^-p over u > 0: half the beta function at (k + 1) / 2 and p - (k + 1) / 2."""
    half = (k + 1) / 2.0
    return 0.5 * float(beta(half, p - half)) if p > half else math.inf


KERNELS = ("epanechnikov", "uniform", "gaussian", "exponential", *map(StudentKernel, (1.0, 1.5, 3.0, 8.0)))
MODELS: dict[str, Callable[[Any], Any]] = {
    "NadarayaWatson": lambda kernel: NadarayaWatson(0.2, kernel=kernel),
    "NadarayaWatson past": lambda kernel: NadarayaWatson(0.2, kernel=kernel, side="past"),
    "LocalLinear": lambda kernel: LocalLinear(0.3, kernel=kernel),
    "LocalPolynomial 2": lambda kernel: LocalPolynomial(2, bandwidth=0.5, kernel=kernel),
    "KNeighborsSmoother": lambda kernel: KNeighborsSmoother(7, kernel=kernel, degree=1),
}


def parts(short: bool, seed: int) -> list[Part]:
    """One part for each model."""
    return [functools.partial(separate, name, 2 if short else 25, seed) for name in MODELS]


def separate(name: str, times: int, seed: int, make: Callable[[Any], Any] | None = None) -> Row:
    """Compare a fit by groups with one fit of each group."""
    row = Row(KIND, f"fits by groups and of each group alone, kernels with heavy tails too: within {TOLERANCE:g}")
    for number, kernel in enumerate(KERNELS):
        for k in range(times):
            rng = np.random.default_rng([seed, number, k, *name.encode()])
            sizes = rng.integers(12, 40, rng.integers(2, 6))
            group = np.repeat(np.arange(len(sizes)), sizes)
            # Series that lie in one place or far apart, high above each other.
            x = rng.random(len(group)) + group * rng.choice([0.0, 1.0, 1e3])
            y = np.sin(6.0 * x) + 0.3 * rng.standard_normal(len(group)) + 10.0 * group
            order = rng.permutation(len(group))
            x, y, group = x[order, None], y[order], group[order]
            row.count += 1
            build = make or MODELS[name]
            said = kernel if isinstance(kernel, str) else kernel.name
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    whole = build(kernel).fit(x, y, groups=group)
                    for one in range(len(sizes)):
                        own = group == one
                        alone = build(kernel).fit(x[own], y[own])
                        together = {
                            "predict": whole.predict(x[own], groups=group[own]),
                            "loo_predict": whole.loo_predict()[own],
                        }
                        apart = {"predict": alone.predict(x[own]), "loo_predict": alone.loo_predict()}
                        for wrong in differing(apart, together, float(np.ptp(y[own])), None, TOLERANCE):
                            row.fail(f"{name}, {said}: {wrong}", f"{len(sizes)} series")
            except ValueError as error:
                row.fail(f"{name}, {said}: {type(error).__name__}: {str(error)[:80]}")
    return row
