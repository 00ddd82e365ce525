"""Factors between bandwidths of different kernels that smooth equally."""

from __future__ import annotations

from kernadv.kernels import Gaussian, Kernel, Power

EPANECHNIKOV = Power("epanechnikov", 2, 1)


def canonical(kernel: Kernel) -> float:
    """``delta_0(K) = (R(K) / mu_2(K)^2)^(1/5)``: bandwidths in proportion to it smooth equally.

    References
    ----------
    Marron and Nolan (1988), Canonical kernels for density estimation, Statistics & Probability Letters 7.
    """
    return float((kernel.roughness / kernel.second_moment**2) ** 0.2)


def from_gaussian(kernel: Kernel) -> float:
    """Bandwidth of `kernel` that smooths as much as a Gaussian of bandwidth 1."""
    return canonical(kernel) / canonical(Gaussian())


def one_sided_ratio(kernel: Kernel) -> float:
    """Optimal two-sided over optimal one-sided bandwidth of local linear regression.

    With one-sided bias ``b w^2 m''`` and variance ``v sigma^2 / (n f w)`` it is
    ``(R(K) (2 b)^2 / (mu_2(K)^2 v))^(1/5)``; 0.5371 for the Epanechnikov kernel.

    References
    ----------
    Hart and Yi (1998), One-sided cross-validation, Journal of the American Statistical Association 93, section 2.
    """
    side = kernel.one_sided
    return float((canonical(kernel) ** 5 * (2.0 * side.ll_bias) ** 2 / side.ll_variance) ** 0.2)
