"""Local polynomials against dense weighted least squares, over kernels, degrees, dimensions and sides."""

import math
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from kernadv.kernels import KERNELS, Exponential
from kernadv.regression._threads import in_parallel
from kernadv.regression.local._line_gaussian import gaussian_moments
from kernadv.regression.local._pairs import window_moments
from kernadv.regression.local.moments import exponents, local_moments
from kernadv.regression.local.polynomial import LocalPolynomialSpec, hat_matrix, leverage, smooth, squared_norm

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


def weights_of(spec, x, at, bandwidth):
    """Kernel weights, written out.  (m, n)"""
    u = (x[None] - at[:, None]) / (bandwidth[:, None] if bandwidth.ndim == 2 else bandwidth)
    w = spec.kernel.profile(np.linalg.norm(u, axis=2)) if spec.radial else np.prod(spec.kernel.profile(u), axis=2)
    return u, np.where(u[:, :, 0] <= 0, w, 0.0) if spec.past else w


def least_squares(spec, x, y, omega, at, bandwidth):
    """Coefficients in units of the bandwidth, and hat vectors, by QR of each query's dense weighted problem."""
    u, w = weights_of(spec, x, at, bandwidth)
    powers = exponents(x.shape[1], spec.degree)
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
    spec = LocalPolynomialSpec(kernel, degree, radial=kind == "radial", past=kind == "past")
    x, y, omega, at = sample(dimensions)
    h = BANDWIDTH[:dimensions] * (2 if degree > 1 else 1)
    got = smooth(spec, x, y, omega, at, h)
    sure = got.pivot > 1e-4  # a one-sided design of high degree is ill-conditioned by nature
    assert sure.sum() > 0.8 * got.defined.sum()
    coefficients, hat = least_squares(spec, x, y, omega, at, h)
    np.testing.assert_allclose(got.value[sure], coefficients[sure, 0], atol=1e-10)
    np.testing.assert_allclose(hat_matrix(spec, x, omega, at, h, got)[sure], hat[sure, 0], atol=1e-10)
    norm = squared_norm(spec, x, omega, at, h, got)
    np.testing.assert_allclose(norm[sure], (hat[sure, 0] ** 2).sum(1), rtol=1e-8)
    variance = y[:, 0] ** 2
    norm = squared_norm(spec, x, omega, at, h, got, variance)
    np.testing.assert_allclose(norm[sure], (hat[sure, 0] ** 2) @ variance, rtol=1e-8)


@every_kernel
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_derivatives(kernel, degree):
    x, y, omega, at = sample(1)
    spec, h = LocalPolynomialSpec(kernel, degree), np.array([0.6])
    coefficients, hat = least_squares(spec, x, y, omega, at, h)
    for order in range(1, degree + 1):
        got = smooth(spec, x, y, omega, at, h, (order,))
        factor = math.factorial(order) / h**order
        np.testing.assert_allclose(got.value, factor * coefficients[:, order], atol=1e-7)
        np.testing.assert_allclose(hat_matrix(spec, x, omega, at, h, got), factor * hat[:, order], atol=1e-7)


@every_kernel
@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_polynomials_are_reproduced(kernel, degree, dimensions):
    x, _, omega, at = sample(dimensions)
    powers = exponents(dimensions, degree)
    coefficients = np.arange(1.0, len(powers) + 1)
    polynomial = lambda z: np.prod(z[:, None] ** powers, axis=2) @ coefficients
    got = smooth(LocalPolynomialSpec(kernel, degree), x, polynomial(x)[:, None], omega, at, np.full(dimensions, 0.9))
    sure = got.pivot > 0.01
    assert sure.any()
    np.testing.assert_allclose(got.value[sure, 0], polynomial(at)[sure], rtol=1e-7)


@pytest.mark.parametrize("degree", range(3))
@pytest.mark.parametrize("kernel", ["epanechnikov", "gaussian", "exponential", "tricube"])
def test_leverage_is_the_diagonal_and_gives_exact_refits(kernel, degree):
    """y_i - m_{-i}(x_i) = (y_i - m(x_i)) / (1 - l_i(x_i)), against literal refits."""
    x, y, omega, _ = sample(1, n=60)
    spec, h = LocalPolynomialSpec(KERNELS[kernel], degree), np.array([0.5])
    full = smooth(spec, x, y, omega, x, h)
    diagonal = leverage(full, omega)
    np.testing.assert_allclose(diagonal, np.diag(hat_matrix(spec, x, omega, x, h, full)), atol=1e-12)
    shortcut = (y - full.value) / (1 - diagonal)[:, None]
    for i in range(len(x)):
        kept = np.arange(len(x)) != i
        refit = smooth(spec, x[kept], y[kept], omega[kept], x[i : i + 1], h)
        np.testing.assert_allclose(shortcut[i], y[i] - refit.value[0], atol=1e-10)


def test_one_bandwidth_a_query():
    x, y, omega, at = sample(1)
    spec = LocalPolynomialSpec(KERNELS["tricube"], 1)
    each = np.linspace(0.2, 0.9, len(at))[:, None]
    got = smooth(spec, x, y, omega, at, each)
    for q in range(len(at)):
        one = smooth(spec, x, y, omega, at[q : q + 1], each[q])
        np.testing.assert_allclose(got.value[q], one.value[0], atol=1e-11)
    np.testing.assert_allclose(
        squared_norm(spec, x, omega, at, each, got), (hat_matrix(spec, x, omega, at, each, got) ** 2).sum(1), rtol=1e-9
    )


def test_empty_and_degenerate_windows_are_undefined():
    x, y = np.array([[0.0], [0.0], [1.0], [5.0]]), np.arange(4.0)[:, None]
    at = np.array([[0.0], [0.5], [3.0], [5.0]])
    line = smooth(LocalPolynomialSpec(KERNELS["epanechnikov"], 1), x, y, np.ones(4), at, np.array([1.1]))
    assert line.defined.tolist() == [True, True, False, False]  # at 5 there is one point: no slope
    assert np.isnan(line.value[~line.defined]).all()
    assert line.pivot[2] == 0
    mean = smooth(LocalPolynomialSpec(KERNELS["epanechnikov"], 0), x, y, np.ones(4), at, np.array([1.1]))
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
    reach = h * min(kernel.support, 45.0)  # further away the exponential is below 1e-19
    for q in range(len(at)):
        near = slice(*np.searchsorted(x, [at[q] - reach, np.nextafter(at[q] + reach, np.inf)]))
        u = (x[near].astype(np.longdouble) - at[q]) / h
        w = kernel.profile(u)
        if past:
            w = np.where(u <= 0, w, 0)
        for k in range(3):
            for c, v in enumerate((np.ones(len(u)), y[near])):
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


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("length", [1.0, 30.0, 300.0, 30_000.0])
def test_fast_gauss_transform_keeps_its_bound(length, past):
    """From all points under one bump to each point nearly alone, against direct sums in extended precision."""
    rng = np.random.default_rng(0)
    n = 3000
    x = np.sort(rng.random(n)) * length
    v = np.stack([np.ones(n), rng.normal(size=n)])
    at = np.sort(np.concatenate([x[::40], rng.random(40) * length, [-1.0, length + 1.0]]))
    got = gaussian_moments(x, v, at, 1.0, 6, past)
    u = x.astype(np.longdouble) - x[0] - (at.astype(np.longdouble) - x[0])[:, None]
    w = np.where(u <= 0, np.exp(-u * u / 2), 0) if past else np.exp(-u * u / 2)
    rounding = 2e-16 * length  # of the positions themselves
    for k, bound in enumerate([1e-14, 1e-14, 1e-14, 1e-13, 1e-13, 1e-12, 1e-12]):
        for c in range(2):
            scale = np.maximum(w @ np.abs(v[c]), np.abs(v[c]).max())
            assert (np.abs(got[:, c, k] - (w * u**k) @ v[c]) <= (bound + 10 * rounding) * scale).all()


@pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if np.isfinite(k.support)], ids=repr)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["product", "radial", "past", "squared", "a bandwidth a query"])
def test_sums_over_windows(kernel, dimensions, kind):
    """Many cells, queries inside, outside and on edges, against the sums written out."""
    rng = np.random.default_rng(0)
    x = rng.random((300, dimensions)) * [3.0, 9.0, 6.0, 4.0, 2.0][:dimensions]
    x[:50] = np.round(x[:50])  # distances of exactly one bandwidth
    x = x[np.argsort(x[:, 0], kind="stable")]
    at = np.concatenate([x[::7], x[:20] + 2.0, np.full((1, dimensions), -5.0)])
    v = np.stack([np.ones(300), rng.normal(size=300)])
    scale = rng.random(len(at)) * 2 + 0.1 if kind == "a bandwidth a query" else None
    squared = kind == "squared"
    spec = LocalPolynomialSpec(kernel, radial=kind == "radial", past=kind == "past")
    got = window_moments(x, v, at, kernel, 2, scale=scale, radial=spec.radial, past=spec.past, squared=squared)
    u, w = weights_of(spec, x, at, np.ones((len(at), 1)) if scale is None else scale[:, None])
    monomials = np.prod(u[:, :, None] ** exponents(dimensions, 2), axis=3)  # (m, n, E)
    expected = np.einsum("mn,cn,mne->mce", w**2 if squared else w, v, monomials)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert not got[-1].any()


def test_a_point_far_from_all_others_costs_no_more():
    """Its window spans millions of rows, of which few hold points."""
    rng = np.random.default_rng(0)
    x = rng.random((80, 4))
    x[40, 1:] = 1e6
    x = x[np.argsort(x[:, 0])]
    far = x[:, 1] > 1
    scale = np.where(far, 2e6, 0.2)
    kernel, channels = KERNELS["tricube"], np.ones((1, 80))
    window_moments(x, channels, x[:2], kernel, 1)  # compiles
    began = time.process_time()
    got = window_moments(x, channels, x, kernel, 1, scale=scale)
    assert time.process_time() - began < 1
    w = np.prod(kernel.profile((x[None] - x[:, None]) / scale[:, None, None]), axis=2)
    assert (w[far] > 0).all()
    np.testing.assert_allclose(got[:, 0, 0], w.sum(1), rtol=1e-12)


def test_threads_agree_with_one_thread():
    """Inside `in_parallel` everything runs in one thread; the digits are those of several, whatever the path."""
    rng = np.random.default_rng(0)
    for d, n in ((1, 20_000), (5, 700)):
        x, v = rng.random((n, d)), np.stack([np.ones(n), rng.normal(size=n)])
        for name in ("epanechnikov", "gaussian", "exponential"):
            run = lambda _, x=x, v=v, d=d, name=name: local_moments(x, v, x, np.full(d, 0.3), KERNELS[name], 2)
            for inside in in_parallel(run, range(2)):
                np.testing.assert_allclose(inside, run(0), rtol=1e-10, atol=1e-10 * n)


def test_threads_keep_what_the_caller_set():
    """A warning that the caller wants ignored, or raised, is so in the threads."""
    overflow = lambda _: np.full(2, 1e300) * 1e300
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        in_parallel(overflow, range(2))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        in_parallel(overflow, range(2))


def test_blas_has_its_threads_back():
    """Also after an error in one of two calls at once."""
    threads = lambda: [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    before = threads()

    def fail(_):
        in_parallel(lambda _: None, range(2))
        raise ValueError

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(in_parallel, fail, range(3)) for _ in range(2)]
    assert all(isinstance(job.exception(), ValueError) for job in jobs)
    assert threads() == before
