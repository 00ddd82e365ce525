"""The kernels as code for a GPU: functions of u >= 0 inside the support that Triton compiles into its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import triton.language as tl  # defined by `kernadv.moments.launch.device_code`


class Fused(NamedTuple):
    """A kernel's functions of ``(u, a, b)``.

    They are plain functions of Triton tensors: arithmetic, ``tl.exp2`` and its like, ``if`` and ``range`` over the
    constants.  Whoever compiles them provides ``tl``, so this module needs no Triton.

    Attributes
    ----------
    weight : callable
        K(u).
    log2 : callable or None
        log2 K(u) of a kernel without an edge, so that weights far away do not underflow.
    a, b : int or float
        Constants, compiled in.
    """

    weight: Callable[[Any, Any, Any], Any]
    log2: Callable[[Any, Any, Any], Any] | None
    a: float
    b: float


def power(u, power, exponent):
    inner = u
    for _ in range(1, power):
        inner = inner * u
    base = 1.0 - inner
    weight = base
    for _ in range(1, exponent):
        weight = weight * base
    if exponent == 0:
        weight = 0.0 * u + 1.0
    return weight


def exponential(u, log2_rho, b):
    return tl.exp2(u * log2_rho)


def exponential_log2(u, log2_rho, b):
    return u * log2_rho


def gaussian(u, scale, b):
    return tl.exp2(u * u * scale)


def gaussian_log2(u, scale, b):
    return u * u * scale


def cosine(u, half_pi, b):
    # the series, to 3e-15 on [0, pi / 2]: the library's cosine reduces large angles in local memory
    x = u * u * (half_pi * half_pi)
    w = 1.0 - x * (1.0 / 306.0) * (1.0 - x * (1.0 / 380.0))
    w = 1.0 - x * (1.0 / 182.0) * (1.0 - x * (1.0 / 240.0) * w)
    w = 1.0 - x * (1.0 / 90.0) * (1.0 - x * (1.0 / 132.0) * w)
    w = 1.0 - x * (1.0 / 30.0) * (1.0 - x * (1.0 / 56.0) * w)
    return 1.0 - x * 0.5 * (1.0 - x * (1.0 / 12.0) * w)
