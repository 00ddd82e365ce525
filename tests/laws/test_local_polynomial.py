"""Local polynomials against dense weighted least squares, over kernels, degrees, dimensions and sides."""

import math

import numpy as np
import pytest

from kernadv.kernels import KERNELS, Exponential
from kernadv.moments.local import exponents, local_moments
from kernadv.smoothers.local_polynomial import LocalPolynomialFit, hat_matrix, leverage, smooth, squared_norm

EVERY = [*KERNELS.values(), Exponential(0.6)]
every_kernel = pytest.mark.parametrize("kernel", EVERY, ids=repr)
BANDWIDTH = np.array([0.3, 0.6])


def sample(d, n=250, seed=0):
    """Random design with two responses and weights, and queries inside and on the edges."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, d))
    x[:3] = x[3:6]  # ties
    y = np.stack([np.sin(5 * x[:, 0]), x.sum(1)], 1) + 0.2 * rng.normal(size=(n, 2))
    at = np.concatenate([x[::9], np.linspace(0, 1, 11)[:, None] * np.ones(d)])
    return x, y, rng.random(n) + 0.5, at


def weights_of(how, x, at, bandwidth):
    """Kernel weights, written out.  (m, n)"""
    u = (x[None] - at[:, None]) / (bandwidth[:, None] if bandwidth.ndim == 2 else bandwidth)
    w = how.kernel.profile(np.linalg.norm(u, axis=2)) if how.radial else np.prod(how.kernel.profile(u), axis=2)
    return u, np.where(u[:, :, 0] <= 0, w, 0.0) if how.past else w


def least_squares(how, x, y, omega, at, bandwidth):
    """Coefficients in units of the bandwidth, and hat vectors, by QR of each query's dense weighted problem."""
    u, w = weights_of(how, x, at, bandwidth)
    powers = exponents(x.shape[1], how.degree)
    value, hat = [], []
    for q in range(len(at)):
        root = np.sqrt(omega * w[q])
        design = root[:, None] * np.prod(u[q][:, None] ** powers, axis=2)
        inverse = np.linalg.pinv(design, rcond=1e-13)
        hat.append(inverse * root)
        value.append(hat[-1] @ y)
    return np.array(value), np.array(hat)


@every_kernel
@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("kind", ["product", "radial", "past"])
def test_equals_dense_least_squares(kernel, degree, dimensions, kind):
    how = LocalPolynomialFit(kernel, degree, radial=kind == "radial", past=kind == "past")
    x, y, omega, at = sample(dimensions)
    h = BANDWIDTH[:dimensions] * (2 if degree > 1 else 1)
    got = smooth(how, x, y, omega, at, h)
    sure = got.pivot > (0.01 if how.past else 0.05)  # a one-sided design of high degree is ill-conditioned by nature
    assert sure.any()
    coefficients, hat = least_squares(how, x, y, omega, at, h)
    digits = 1e-9 if how.past else 1e-10
    np.testing.assert_allclose(got.value[sure], coefficients[sure, 0], atol=digits)
    np.testing.assert_allclose(hat_matrix(how, x, omega, at, h, got)[sure], hat[sure, 0], atol=digits)
    norm = squared_norm(how, x, omega, at, h, got)
    np.testing.assert_allclose(norm[sure], (hat[sure, 0] ** 2).sum(1), rtol=1e-8)
    variance = y[:, 0] ** 2
    norm = squared_norm(how, x, omega, at, h, got, variance)
    np.testing.assert_allclose(norm[sure], (hat[sure, 0] ** 2) @ variance, rtol=1e-8)


@every_kernel
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_derivatives(kernel, degree):
    x, y, omega, at = sample(1)
    how, h = LocalPolynomialFit(kernel, degree), np.array([0.6])
    coefficients, hat = least_squares(how, x, y, omega, at, h)
    for order in range(1, degree + 1):
        got = smooth(how, x, y, omega, at, h, (order,))
        factor = math.factorial(order) / h**order
        np.testing.assert_allclose(got.value, factor * coefficients[:, order], atol=1e-7)
        np.testing.assert_allclose(hat_matrix(how, x, omega, at, h, got), factor * hat[:, order], atol=1e-7)


@every_kernel
@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_polynomials_are_reproduced(kernel, degree, dimensions):
    x, _, omega, at = sample(dimensions)
    powers = exponents(dimensions, degree)
    coefficients = np.arange(1.0, len(powers) + 1)
    polynomial = lambda z: np.prod(z[:, None] ** powers, axis=2) @ coefficients
    got = smooth(LocalPolynomialFit(kernel, degree), x, polynomial(x)[:, None], omega, at, np.full(dimensions, 0.9))
    sure = got.pivot > 0.01
    assert sure.any()
    np.testing.assert_allclose(got.value[sure, 0], polynomial(at)[sure], rtol=1e-7)


@pytest.mark.parametrize("degree", range(3))
@pytest.mark.parametrize("kernel", ["epanechnikov", "gaussian", "exponential", "tricube"])
def test_leverage_is_the_diagonal_and_gives_exact_refits(kernel, degree):
    """y_i - m_{-i}(x_i) = (y_i - m(x_i)) / (1 - l_i(x_i)), against literal refits."""
    x, y, omega, _ = sample(1, n=60)
    how, h = LocalPolynomialFit(KERNELS[kernel], degree), np.array([0.5])
    full = smooth(how, x, y, omega, x, h)
    diagonal = leverage(full, omega)
    np.testing.assert_allclose(diagonal, np.diag(hat_matrix(how, x, omega, x, h, full)), atol=1e-12)
    shortcut = (y - full.value) / (1 - diagonal)[:, None]
    for i in range(len(x)):
        kept = np.arange(len(x)) != i
        refit = smooth(how, x[kept], y[kept], omega[kept], x[i : i + 1], h)
        np.testing.assert_allclose(shortcut[i], y[i] - refit.value[0], atol=1e-10)


def test_one_bandwidth_a_query():
    x, y, omega, at = sample(1)
    how = LocalPolynomialFit(KERNELS["tricube"], 1)
    each = np.linspace(0.2, 0.9, len(at))[:, None]
    got = smooth(how, x, y, omega, at, each)
    for q in range(len(at)):
        one = smooth(how, x, y, omega, at[q : q + 1], each[q])
        np.testing.assert_allclose(got.value[q], one.value[0], atol=1e-11)
    np.testing.assert_allclose(
        squared_norm(how, x, omega, at, each, got), (hat_matrix(how, x, omega, at, each, got) ** 2).sum(1), rtol=1e-9
    )


def test_empty_and_degenerate_windows_are_undefined():
    x, y = np.array([[0.0], [0.0], [1.0], [5.0]]), np.arange(4.0)[:, None]
    at = np.array([[0.0], [0.5], [3.0], [5.0]])
    line = smooth(LocalPolynomialFit(KERNELS["epanechnikov"], 1), x, y, np.ones(4), at, np.array([1.1]))
    assert line.defined.tolist() == [True, True, False, False]  # at 5 there is one point: no slope
    assert np.isnan(line.value[~line.defined]).all()
    assert line.pivot[2] == 0
    mean = smooth(LocalPolynomialFit(KERNELS["epanechnikov"], 0), x, y, np.ones(4), at, np.array([1.1]))
    assert mean.defined.tolist() == [True, True, False, True]
    assert np.isnan(mean.value[2]).all()


@pytest.mark.parametrize("name", ["uniform", "triangular", "epanechnikov", "biweight", "exponential", "gaussian"])
@pytest.mark.parametrize("past", [False, True])
def test_moving_sums_of_many_points(name, past):
    """The O(n + m) paths at n = 200,000 against direct sums in extended precision, at 1e-10."""
    rng = np.random.default_rng(0)
    n = 200_000
    x = np.sort(rng.random(n)) * 50
    y = np.sin(x) + rng.normal(size=n) + 3
    at = np.sort(np.concatenate([rng.choice(x, 25), [0.0, 50.0]]))
    kernel, h = KERNELS[name], 0.7
    got = local_moments(x[:, None], np.stack([np.ones(n), y]), at[:, None], np.array([h]), kernel, 2, past=past)
    for q in range(len(at)):
        u = (x.astype(np.longdouble) - at[q]) / h
        w = kernel.profile(u)
        if past:
            w = np.where(u <= 0, w, 0)
        for k in range(3):
            for c, v in enumerate((np.ones(n), y)):
                scale = float((w * v * abs(u) ** k).sum())
                assert abs(got[q, c, k] - float((w * v * u**k).sum())) <= 1e-10 * scale


def test_windows_with_points_near_their_edge_only():
    """Cancellation is noticed and such windows are summed directly."""
    kernel = KERNELS["triweight"]
    x = np.array([0.0, 0.0, 0.0001, 1.9999, 2.0])[:, None]
    v = np.stack([np.ones(5), np.arange(5.0)])
    at = np.array([[1.0]])
    got = local_moments(x, v, at, np.array([1.002]), kernel, 0)
    w = kernel.profile((x[:, 0] - 1.0) / 1.002)
    np.testing.assert_allclose(got[0, :, 0], v @ w, rtol=1e-9)
