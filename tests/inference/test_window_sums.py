"""The compiled sums of robust bias correction against matrices of each window that are written out here."""

from math import factorial

import numpy as np
import pytest

from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.inference.robust import METHODS, robust_estimate
from kernadv.regression.inference.window import extremes
from kernadv.regression.local.monomials import monomials
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.noise import neighbour_residuals

#: kernel, degree, columns, radial, past, further degrees
CASES = [
    ("epanechnikov", 0, 1, False, False, 2),
    ("epanechnikov", 1, 1, False, False, 1),
    ("triangular", 1, 1, False, True, 1),
    ("tricube", 2, 1, False, False, 1),
    ("gaussian", 2, 1, False, False, 2),
    ("cosine", 3, 1, False, False, 1),
    ("uniform", 3, 1, False, False, 1),
    ("exponential", 1, 1, False, False, 1),
    ("biweight", 1, 2, True, False, 1),
    ("uniform", 2, 2, False, False, 1),
]


def sample(case, seed, n=90):
    """Ties, weights, two responses; queries at points, between them and beyond them."""
    kernel, degree, columns, radial, past, _ = case
    rng = np.random.default_rng(seed)
    x = np.round(rng.random((n, columns)) * 64) / 64
    y = np.sin(5 * x[:, :1]) + (0.1 + x[:, :1]) * rng.normal(size=(n, 2))
    weights = rng.gamma(4.0, size=n)
    spec = LocalPolynomialSpec(KERNELS[kernel], degree, radial, past)
    at = np.concatenate([x[:2], rng.random((2, columns)), [[1.02] * columns]])
    return LinearSmoother(spec, x, y, weights / weights.mean(), np.full(columns, 0.5 * columns)), at


class Window:
    """Least squares in a window with the bandwidth h, by an orthogonal factor of the weighted design."""

    def __init__(self, fit, query, h, degree):
        u = (fit.x - query) / h
        profile = fit.spec.kernel.profile
        self.weight = fit.weights * (profile(np.linalg.norm(u, axis=1)) if fit.spec.radial else profile(u).prod(1))
        if fit.spec.past:
            self.weight = np.where(u[:, 0] <= 0, self.weight, 0.0)
        self.design = np.prod(u[:, None] ** monomials(u.shape[1], degree).exponents, axis=2)
        root = np.sqrt(self.weight)
        self.coefficients = np.linalg.pinv(root[:, None] * self.design) * root  # (E, n)
        self.hat = self.design @ self.coefficients


def definition(fit, query, method, order, rho, more, neighbours=3):
    """What `robust_estimate` says of one query, without shortcuts."""
    p, h = fit.spec.degree, fit.bandwidth
    first, second = Window(fit, query, h, p), Window(fit, query, h / rho, p + more)
    near = (first.weight > 0) | (second.weight > 0)
    row = monomials(len(h), p).exponents.tolist().index([order] + [0] * (len(h) - 1))
    l = first.coefficients[row]
    bias = (l @ second.design[:, first.design.shape[1] :]) @ second.coefficients[first.design.shape[1] :]
    unit = factorial(order) / h[0] ** order
    out = []
    for hat, window in ((l, first), (l - bias, second)):
        k, size = near.sum(), window.design.shape[1]
        rest = 1 - np.diag(first.hat)
        fair = {"hc1": k / (k - size), "hc2": 1 / rest, "hc3": 1 / rest**2}.get(method, 1.0) * near
        if method == "nearest":
            residual = np.zeros_like(fit.y)
            scaled = fit.x[near] / (fit.bandwidth if len(h) > 1 else 1.0)
            residual[near] = neighbour_residuals(scaled, fit.y[near], neighbours, fit.weights[near])
        else:
            residual = fit.y - window.hat @ fit.y
        out += [unit * (hat @ fit.y), unit * np.sqrt((hat**2 * fair) @ residual**2)]
    if method == "nearest":
        scale = 1 + 4 * neighbours / (neighbours + 1) ** 2
        freedom = (hat**2).sum() ** 2 / (hat**4).sum() / scale
    else:
        left = np.eye(len(near)) - second.hat
        covariance = (hat**2 * fair)[:, None] * (left @ left.T)
        freedom = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    noise = hat / np.sqrt(fit.weights)
    return [*out, [freedom], [(noise**3).sum() / (noise**2).sum() ** 1.5]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("method", METHODS)
def test_written_out(case, method):
    fit, at = sample(case, METHODS.index(method))
    for order in range(min(case[1], 1) + 1):
        for rho in (1.0, 0.8, 1.25):
            got = robust_estimate(fit, at, method, derivative=(order,) + (0,) * (case[2] - 1), rho=rho, more=case[5])
            for q, query in enumerate(at):
                if np.isnan(got.freedom[q, 0]):  # one-sided, at the first points
                    assert case[4]
                    continue
                for name, expected in zip(
                    got._fields, definition(fit, query, method, order, rho, case[5]), strict=True
                ):
                    np.testing.assert_allclose(getattr(got, name)[q], expected, rtol=1e-8, atol=1e-9, err_msg=name)
            assert np.isfinite(got.freedom).any()


def test_badly_conditioned_windows():
    """In exact arithmetic on a parabola with alternating signs: points far from the query that lie near each other."""
    x = np.array([[0.90], [0.905], [0.91], [0.915], [0.92], [0.925]])
    y = np.array([[1.0], [2.0], [4.0], [3.0], [5.0], [7.0]])
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["uniform"], 1), x, y, np.ones(6), np.array([1.0]))
    got = robust_estimate(fit, np.zeros((1, 1)), "hc0")
    centred = np.arange(6) - 2.5  # the same parabola in the unit of the spacing
    design = centred[:, None] ** np.arange(3)
    at = ((0.0 - 0.9125) / 0.005) ** np.arange(3)
    hat = at @ np.linalg.pinv(design)
    residual = y[:, 0] - design @ np.linalg.lstsq(design, y[:, 0], rcond=None)[0]
    np.testing.assert_allclose(got.corrected[0, 0], hat @ y[:, 0], rtol=1e-8)
    np.testing.assert_allclose(got.corrected_error[0, 0], np.sqrt(hat**2 @ residual**2), rtol=1e-8)


@pytest.mark.parametrize("kernel", ["epanechnikov", "gaussian", "uniform"])
@pytest.mark.parametrize("columns", [1, 2])
def test_extremes(kernel, columns):
    """Of the responses whose weight is at least a millionth of the largest."""
    fit, _ = sample((kernel, 1, columns, False, False, 1), 1)
    at = np.random.default_rng(2).uniform(-1.0, 2.0, (40, columns))
    low, high = extremes(fit, at)
    for q, query in enumerate(at):
        weight = Window(fit, query, fit.bandwidth, 0).weight
        inside = fit.y[(weight > 0) & (weight > 1e-6 * weight.max())]
        expected = (inside.min(0), inside.max(0)) if len(inside) else (np.full(2, np.nan),) * 2
        np.testing.assert_array_equal([low[q], high[q]], expected)
