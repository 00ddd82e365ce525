"""Weights in inverse proportion to the distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kernadv.kernels import Kernel


@dataclass(frozen=True)
class InverseDistance(Kernel):
    """``K(u) = 1 / |u|`` on [-1, 1], infinite at 0: a point at the query itself takes all the weight.

    For neighbours only: with a fixed bandwidth its moments are infinite.

    References
    ----------
    Shepard (1968), A two-dimensional interpolation function for irregularly-spaced data, Proceedings of the 23rd ACM
    National Conference.
    """

    closed = True

    @property
    def name(self) -> str:
        """What `KNeighborsSmoother` calls it."""
        return "inverse_distance"

    def formula(self, u: Any, xp: Any) -> Any:
        """K at 0 <= u <= 1."""
        return xp.where(u > 0.0, 1.0 / xp.where(u > 0.0, u, 1.0), math.inf)

    def moment(self, k: int) -> float:
        """mu_k = 1 / k."""
        return 1.0 / k if k > 0 else math.inf

    def square_moment(self, k: int) -> float:
        """nu_k = 1 / (k - 1)."""
        return 1.0 / (k - 1) if k > 1 else math.inf


def is_inverse(kernel: Kernel) -> bool:
    """Whether a kernel is that one."""
    return isinstance(kernel, InverseDistance)
