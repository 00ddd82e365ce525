"""Laws of every kernel: K(0) = 1, even, zero outside the support, and every stated constant integrates."""

import math

import numpy as np
import pytest
from scipy import integrate

from kernadv import KernadvError, kernels
from kernadv.kernels import KERNELS, Exponential

EVERY = [*KERNELS.values(), Exponential(0.5), Exponential(0.99)]
every_kernel = pytest.mark.parametrize("kernel", EVERY, ids=repr)


def integral(f, kernel):
    """Integral of f over [0, support] by adaptive quadrature."""
    end = kernel.support if math.isfinite(kernel.support) else math.inf
    return integrate.quad(f, 0, end, epsabs=1e-13, epsrel=1e-13, limit=400)[0]


@every_kernel
def test_profile(kernel):
    u = np.linspace(-3, 3, 601)
    weight = kernel.profile(u)
    assert weight.shape == u.shape
    assert kernel.profile(np.array(0.0)) == 1.0
    np.testing.assert_array_equal(weight, kernel.profile(-u))
    assert (weight >= 0).all()
    assert (weight <= 1).all()
    assert (weight[np.abs(u) > kernel.support] == 0).all()
    assert (np.diff(weight[u >= 0]) <= 1e-15).all()


@every_kernel
def test_zero_beyond(kernel):
    """Nothing is left there, and not far before something is."""
    lag = kernel.zero_beyond
    assert kernel.profile(np.array([1.0001, 2.0, 1e9]) * lag).tolist() == [0.0, 0.0, 0.0]
    assert kernel.profile(np.array(0.98 * lag)) > 0.0


@every_kernel
def test_torch_profile_equals_numpy(kernel):
    torch = pytest.importorskip("torch")
    u = np.linspace(-3, 3, 101)
    np.testing.assert_allclose(kernel.profile(torch.from_numpy(u), torch).numpy(), kernel.profile(u), atol=1e-15)


@every_kernel
@pytest.mark.parametrize("k", range(4))
def test_moments_integrate(kernel, k):
    profile = lambda u: float(kernel.profile(np.array(u)))
    assert kernel.moment(k) == pytest.approx(integral(lambda u: u**k * profile(u), kernel), rel=1e-9)
    assert kernel.square_moment(k) == pytest.approx(integral(lambda u: u**k * profile(u) ** 2, kernel), rel=1e-9)


@every_kernel
def test_constants_integrate(kernel):
    """R(K) and the second moment of the density; bias and variance of the one-sided fits from their hat functions."""
    profile = lambda u: float(kernel.profile(np.array(u)))
    mass = integral(profile, kernel)
    assert kernel.roughness == pytest.approx(integral(lambda u: 2 * (profile(u) / (2 * mass)) ** 2, kernel), rel=1e-9)
    assert kernel.second_moment == pytest.approx(integral(lambda u: u * u * profile(u) / mass, kernel), rel=1e-9)
    m = [integral(lambda u, k=k: u**k * profile(u), kernel) for k in range(4)]
    line = lambda u: profile(u) * (m[2] - m[1] * u) / (m[0] * m[2] - m[1] ** 2)
    got = kernel.one_sided
    assert got.nw_bias == pytest.approx(-m[1] / m[0], rel=1e-8)
    assert got.nw_variance == pytest.approx(integral(lambda u: (profile(u) / m[0]) ** 2, kernel), rel=1e-8)
    assert got.ll_bias == pytest.approx(0.5 * integral(lambda u: u * u * line(u), kernel), rel=1e-7)
    assert got.ll_variance == pytest.approx(integral(lambda u: line(u) ** 2, kernel), rel=1e-7)


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("triangular", (-1 / 3, 4 / 3, -1 / 20, 4.8)),
        ("epanechnikov", (-3 / 8, 1.2, None, None)),
        ("uniform", (-1 / 2, 1.0, -1 / 12, 4.0)),
        ("exponential", (-1.0, 1 / 2, -1.0, 5 / 4)),
    ],
)
def test_published_boundary_constants(name, constants):
    """Fan and Gijbels (1996), chapter 3; Cheng, Fan and Marron (1997)."""
    for got, expected in zip(KERNELS[name].one_sided, constants, strict=True):
        assert expected is None or got == pytest.approx(expected, rel=1e-12)


@every_kernel
def test_reach_is_the_last_lag_with_weight(kernel):
    width = np.array([0.3, 1.0, 1.5, 2.0, 7.0, 29.000000000000004, 0.29 * 100, 1e6])
    reach = kernel.reach(width)
    if math.isinf(kernel.support):
        assert (reach == kernels.UNBOUNDED).all()
        return
    for w, r in zip(np.round(width, 9), reach, strict=True):
        assert kernel.profile(np.array(max(r, 0) / w)) > 0
        assert kernel.profile(np.array((r + 1) / w)) < 1e-15
    assert (kernel.reach(np.array([np.inf])) == kernels.UNBOUNDED).all()


def test_unknown_kernel_lists_the_known_ones():
    with pytest.raises(KernadvError, match=r"unknown kernel 'triangle'; known: biweight, cosine, .*uniform"):
        kernels.get("triangle")


@pytest.mark.parametrize("rho", [0.0, 1.0, -0.1, 1.5, math.nan, "0.5"])
def test_exponential_refuses_bad_rho(rho):
    with pytest.raises(KernadvError, match="rho must lie strictly between 0 and 1"):
        Exponential(rho)


def test_kernels_are_hashable_values():
    assert Exponential(0.5) == Exponential(0.5)
    assert len({Exponential(0.5), Exponential(0.5), *KERNELS.values()}) == len(KERNELS) + 1
