"""Windows that are hard to solve, against QR of each query's dense weighted problem: no digits lost, none invented."""

import time

import numpy as np
import pytest

from kernadv.kernels import KERNELS
from kernadv.regression.local.moments import exponents
from kernadv.regression.local.polynomial import LocalPolynomialSpec, hat_matrix, smooth, squared_norm


def hat_vectors(spec, x, omega, at, bandwidth, order=None):
    """Hat vectors (m, n) by QR, NaN where the window does not determine the polynomial, and condition numbers."""
    powers = exponents(x.shape[1], spec.degree)
    row = 0 if order is None else powers.tolist().index(list(order))
    hat, condition = np.full((len(at), len(x)), np.nan), np.full(len(at), np.inf)
    for q in range(len(at)):
        u = (x - at[q]) / bandwidth
        profile = spec.kernel.profile
        w = omega * (profile(np.linalg.norm(u, axis=1)) if spec.radial else np.prod(profile(u), axis=1))
        w = np.where(u[:, 0] > 0, 0.0, w) if spec.past else w
        used = w > 0
        design = np.sqrt(w[used])[:, None] * np.prod(u[used][:, None] ** powers, axis=2)
        length = np.linalg.norm(design, axis=0)
        if used.sum() < len(powers) or not length.all():
            continue
        left, singular, right = np.linalg.svd(design / length, full_matrices=False)
        condition[q] = singular[0] / max(singular[-1], 1e-300)
        if condition[q] < 1e8:
            inverse = (right[:, row] / singular) @ left.T / length[row]
            hat[q] = 0.0
            hat[q, used] = inverse * np.sqrt(w[used])
    return hat, condition


def configuration(seed):
    """A design with ties, grids, outliers, offsets or unequal scales; windows from almost empty to far too wide."""
    rng = np.random.default_rng(seed)
    d = int(rng.choice([1, 1, 2, 3]))
    n, degree = int(rng.integers(4, 120)), int(rng.integers(0, 4))
    draw = [rng.random, lambda s: rng.normal(size=s), rng.standard_cauchy, lambda s: rng.integers(0, 6, s) * 1.0]
    x = draw[rng.integers(4)]((n, d))
    h = 10.0 ** rng.uniform(-1.2, 1.0) * np.quantile(np.abs(x), 0.7, axis=0).clip(0.1) * np.exp(rng.normal(0, 0.3, d))
    near, away = x[rng.integers(0, n, 8)], x[rng.integers(0, n, 8)] + 0.5 * h * rng.normal(size=(8, d))
    scale, offset = 10.0 ** rng.uniform(-3, 3, d), rng.choice([0.0, 0.0, 1e4])
    x, at = (x + offset) * scale, (np.concatenate([near, away]) + offset) * scale
    smooth_kernels = [kernel for kernel in KERNELS.values() if not kernel.closed]  # no rounding at edges
    kernel = smooth_kernels[rng.integers(len(smooth_kernels))]
    spec = LocalPolynomialSpec(kernel, degree, radial=rng.random() < 0.3, past=rng.random() < 0.3)
    return spec, x, rng.random(n) * (rng.random(n) < 0.8) + 1e-3, at, h * scale


@pytest.mark.parametrize("seed", range(300))
def test_equals_orthogonal_least_squares(seed):
    spec, x, omega, at, h = configuration(seed)
    y = np.random.default_rng(seed).normal(size=(len(x), 2))
    got = smooth(spec, x, y, omega, at, h)
    hat, condition = hat_vectors(spec, x, omega, at, h)
    clear = (condition < 1e5) | np.isinf(condition)  # between, either answer will do
    np.testing.assert_array_equal(got.defined[clear], np.isfinite(condition[clear]))
    both = got.defined & ~np.isnan(hat[:, 0])
    unit = (np.abs(hat[both]).sum(1) * np.maximum(1.0, 1e-4 * condition[both]))[:, None]
    np.testing.assert_allclose(got.value[both] / unit, hat[both] @ y / unit, atol=1e-9)
    np.testing.assert_allclose(hat_matrix(spec, x, omega, at, h, got)[both] / unit, hat[both] / unit, atol=1e-9)
    norm, variance = squared_norm(spec, x, omega, at, h, got, y[:, 0] ** 2)[both], (hat[both] ** 2) @ y[:, 0] ** 2
    np.testing.assert_allclose(norm / unit[:, 0] ** 2, variance / unit[:, 0] ** 2, atol=1e-8)


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS.values() if np.isfinite(kernel.support)], ids=repr)
@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("past", [False, True])
def test_fewer_points_than_coefficients_determine_nothing(kernel, degree, past):
    """Whatever the rounding errors of the moments: windows of one to `degree` points, wherever these lie in them."""
    rng = np.random.default_rng(0)
    for points in range(1, degree + 1):
        x = np.concatenate([50.0 + 30.0 * np.arange(20)[:, None] - 0.9 * rng.random((20, points))]).reshape(-1, 1)
        at = 50.0 + 30.0 * np.arange(20.0)[:, None]
        got = smooth(LocalPolynomialSpec(kernel, degree, past=past), x, x + 1.0, np.ones(len(x)), at, np.array([1.0]))
        assert not got.defined.any()


@pytest.mark.parametrize("order", [(1,), (2,), (3,)])
def test_derivatives_far_out(order):
    """Extrapolation, where the condition number is large: estimates, hat vectors and their norms."""
    x, omega = np.linspace(0.0, 1.0, 60)[:, None], np.ones(60)
    at, h, y = np.array([[1.0], [1.5], [3.0]]), np.array([4.0]), np.sin(5 * x)
    spec = LocalPolynomialSpec(KERNELS["gaussian"], 3)
    got = smooth(spec, x, y, omega, at, h, order)
    unit = float((h[0] ** order[0]) / [1.0, 1.0, 2.0, 6.0][order[0]])
    hat, condition = hat_vectors(spec, x, omega, at, h, order)
    assert condition.max() > 1e3
    np.testing.assert_allclose(got.value, hat @ y / unit, rtol=1e-9)
    np.testing.assert_allclose(hat_matrix(spec, x, omega, at, h, got), hat / unit, rtol=1e-7, atol=1e-7 / unit)
    np.testing.assert_allclose(squared_norm(spec, x, omega, at, h, got), (hat**2).sum(1) / unit**2, rtol=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "exponential"])
@pytest.mark.parametrize(("dimensions", "queries"), [(2, 9), (2, 700), (5, 9)])
def test_queries_far_apart_keep_their_digits(name, dimensions, queries):
    """Kernels without an edge, narrow against the distances of the queries, at the highest degree."""
    rng = np.random.default_rng(0)
    x = rng.random((3000, dimensions))
    degree, h = (3, 0.02) if dimensions == 2 else (1, 0.1)
    x[:600] = 0.5 + h * rng.normal(size=(600, dimensions))
    at = np.concatenate([x[:3], rng.random((queries, dimensions))])
    spec = LocalPolynomialSpec(KERNELS[name], degree)
    y, width = rng.normal(size=(3000, 1)), np.full(dimensions, h)
    got = smooth(spec, x, y, np.ones(3000), at, width)
    hat, condition = hat_vectors(spec, x, np.ones(3000), at[:3], width)
    np.testing.assert_allclose(got.value[:3], hat @ y, atol=1e-12 * condition.max())


@pytest.mark.parametrize("kernel", ["epanechnikov", "gaussian", "exponential"])
def test_far_from_zero(kernel):
    """x about 1e9 with a spacing of 1e-3, as times of day in seconds: what the numbers still tell apart, is."""
    x = 1e9 + np.arange(400)[:, None] * 2.0**-10
    y = np.sin(np.arange(400.0)[:, None] / 30)
    spec, h = LocalPolynomialSpec(KERNELS[kernel], 1), np.array([0.02])
    far = smooth(spec, x, y, np.ones(400), x, h)
    near = smooth(spec, x - 1e9, y, np.ones(400), x - 1e9, h)
    np.testing.assert_allclose(far.value, near.value, atol=1e-13)


def test_equal_queries_are_solved_once():
    """A hundred places with a thousand points each, too few places a window: every query undetermined, at once."""
    x = np.repeat(np.arange(100.0), 1000)[:, None]
    start = time.process_time()
    got = smooth(LocalPolynomialSpec(KERNELS["triangular"], 3), x, x, np.ones(len(x)), x, np.array([1.5]))
    assert not got.defined.any()
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize("step", [0.1, 0.01, 1 / 3, 0.7])
@pytest.mark.parametrize("reach", [1, 3, 5])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_box_windows_on_a_grid_hold_their_edges(step, reach, dimensions):
    """Distances of one bandwidth are rounded up here and down there: every window has its 2 reach + 1 places."""
    line = np.arange(40.0)[:, None] * step
    x = line if dimensions == 1 else np.column_stack([np.repeat(line[:12], 12), np.tile(line[:12, 0], 12)])
    y, h = x[:, :1], np.full(dimensions, reach * step)
    inside = ((x >= h - 1e-6) & (x <= x.max(0) - h + 1e-6)).all(1)
    for past in (False, True):
        spec = LocalPolynomialSpec(KERNELS["uniform"], 0, past=past)
        got = smooth(spec, x, y, np.ones(len(x)), x, h)
        expected = (reach + 1 if past else 2 * reach + 1) * (2 * reach + 1) ** (dimensions - 1)
        np.testing.assert_array_equal((hat_matrix(spec, x, np.ones(len(x)), x, h, got) > 0).sum(1)[inside], expected)
        np.testing.assert_allclose(got.value[inside], y[inside] - (h[0] / 2 if past else 0.0), atol=1e-12)
        np.testing.assert_allclose(squared_norm(spec, x, np.ones(len(x)), x, h, got)[inside], 1 / expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["triangular", "epanechnikov", "biweight", "tricube", "cosine"])
def test_points_at_the_edge_of_an_open_window_do_not_count(name):
    """Two points inside, a third at the edge, where rounding may leave it 1e-16 of weight: no parabola."""
    x = np.arange(30.0)[:, None] / 3.0 * 1.7
    spec = LocalPolynomialSpec(KERNELS[name], 2, past=True)
    got = smooth(spec, x, x, np.ones(30), x, np.array([1.7 * 2 / 3]))
    assert not got.defined.any()
