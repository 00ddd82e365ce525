"""Everything from hat matrices that are written out here, point by point, with nothing of the package but its results."""

import inspect
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother, inference
from kernadv.regression.inference import (
    MovingBlocks,
    Wild,
    bootstrap_error,
    effective_degrees_of_freedom,
    effective_sample_size,
    multiplier_bootstrap,
    normal,
    percentile_t,
    residual_variance,
    robust_estimate,
    standard_error,
)
from kernadv.regression.local.polynomial import LocalPolynomialSpec

PROFILES = {
    "epanechnikov": lambda u: np.maximum(1 - u**2, 0),
    "triangular": lambda u: np.maximum(1 - np.abs(u), 0),
    "gaussian": lambda u: np.exp(-(u**2) / 2),
    "uniform": lambda u: (np.abs(u) <= 1).astype(float),
}
#: kernel, degree, columns, radial, past
CASES = [
    ("epanechnikov", 0, 1, False, False),
    ("triangular", 1, 1, False, True),
    ("gaussian", 2, 1, False, False),
    ("uniform", 3, 1, False, False),
    ("epanechnikov", 1, 2, True, False),
    ("gaussian", 2, 2, False, True),
]
#: One-sided fits of degree >= 1 lose their first points, and with them the residuals.
two_sided = pytest.mark.parametrize(
    "case", [case for case in CASES if not case[4]], ids=lambda case: "-".join(map(str, case))
)


def hat_of(fit, at):
    """Weighted least squares at each query, by the singular values of its design.  # (m, n)"""
    kernel = next(profile for name, profile in PROFILES.items() if KERNELS[name] == fit.spec.kernel)
    degree, columns = fit.spec.degree, fit.x.shape[1]
    powers = [p for p in product(range(degree + 1), repeat=columns) if sum(p) <= degree]
    powers.sort(key=sum)  # the constant first
    out = np.zeros((len(at), len(fit.x)))
    for q, query in enumerate(at):
        u = (fit.x - query) / fit.bandwidth
        weight = kernel(np.sqrt((u**2).sum(1))) if fit.spec.radial else np.prod(kernel(u), axis=1)
        weight = weight * fit.weights
        if fit.spec.past:
            weight[fit.x[:, 0] > query[0]] = 0
        design = np.stack([np.prod(u**p, axis=1) for p in powers], axis=1)
        root = np.sqrt(weight)
        out[q] = np.linalg.pinv(root[:, None] * design)[0] * root
    return out


def sample(case, n=90, noise=0.3):
    kernel, degree, columns, radial, past = case
    rng = np.random.default_rng(4)
    x = rng.random((n, columns))
    y = np.sin(5 * x[:, :1]) + noise * rng.normal(size=(n, 2))
    spec = LocalPolynomialSpec(KERNELS[kernel], degree, radial, past)
    cluster = rng.integers(0, 12, n)
    fit = LinearSmoother(spec, x, y, rng.random(n) + 0.5, np.full(columns, 0.8 if columns == 2 else 0.5), cluster)
    return fit, np.linspace(0.5, 1, 5)[:, None] * np.ones(columns)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_effective_sample_size(case):
    fit, at = sample(case)
    np.testing.assert_allclose(effective_sample_size(fit, at), 1 / (hat_of(fit, at) ** 2).sum(1), rtol=1e-8)


@two_sided
def test_degrees_of_freedom(case):
    fit, _ = sample(case)
    own = hat_of(fit, fit.x)
    root = np.sqrt(fit.weights)
    own = root[:, None] * own / root  # of the responses times root, which have one variance
    got, rest = effective_degrees_of_freedom(fit), np.eye(len(own)) - own
    expected = [np.trace(own), (own**2).sum(), (rest**2).sum()]
    np.testing.assert_allclose([got.trace, got.squared_trace, got.residual], expected, rtol=1e-8)


@two_sided
def test_standard_errors(case):
    fit, at = sample(case)
    hat, own = hat_of(fit, at), hat_of(fit, fit.x)
    rest = np.eye(len(own)) - own
    omega = (fit.weights / fit.weights.mean())[:, None]
    e, lever, freedom = rest @ fit.y, np.diag(own)[:, None], (omega * rest**2 / omega.T).sum()
    each = {
        "homoskedastic": (omega * e**2).sum(0) / freedom / omega,
        "hc0": e**2,
        "hc1": e**2 * len(e) / freedom,
        "hc2": e**2 / (1 - lever),
        "hc3": (e / (1 - lever)) ** 2,
    }
    for method, variance in each.items():
        np.testing.assert_allclose(standard_error(fit, at, method), np.sqrt(hat**2 @ variance), rtol=1e-7)
    np.testing.assert_allclose(residual_variance(fit), (omega * each["homoskedastic"])[0], rtol=1e-8)
    together = fit.cluster[:, None] == fit.cluster
    groups = len(np.unique(fit.cluster))
    factor = groups / (groups - 1) * (len(e) - 1) / freedom
    lag = int(4 * (len(e) / 100) ** (2 / 9))
    rank = np.argsort(np.argsort(fit.x[:, 0]))
    bartlett = np.maximum(1 - np.abs(rank[:, None] - rank) / (lag + 1), 0)
    unbiased = (hat**2) @ (1 / omega[:, 0]) / np.einsum("qi,ij,qj->q", hat, bartlett * (rest / omega.T @ rest.T), hat)
    for c in range(2):
        score = hat * e[:, c]
        cluster = factor * np.einsum("qi,ij,qj->q", score, together, score)
        hac = unbiased * np.einsum("qi,ij,qj->q", score, bartlett, score)
        np.testing.assert_allclose(standard_error(fit, at, "cluster")[:, c], np.sqrt(cluster), rtol=1e-7)
        np.testing.assert_allclose(standard_error(fit, at, "hac")[:, c], np.sqrt(hac), rtol=1e-7)


def test_bias_correction():
    """One degree more with the same bandwidth, and errors from the residuals of the window."""
    fit, _ = sample(("epanechnikov", 1, 1, False, False))
    at = np.array([[0.0], [0.4], [1.0]])
    up = fit.raised()
    got, hat = robust_estimate(fit, at, "hc2"), hat_of(up, at)
    np.testing.assert_allclose(got.corrected, hat @ fit.y, rtol=1e-8)
    for q, query in enumerate(at[:, 0]):
        near = np.abs(fit.x[:, 0] - query) < 0.5
        u = (fit.x[near] - query) / 0.5
        weight = fit.weights[near] * (1 - u[:, 0] ** 2)
        line, parabola = (u ** np.arange(k) for k in (2, 3))
        maps = [design @ np.linalg.solve(design.T * weight @ design, design.T * weight) for design in (line, parabola)]
        e = fit.y[near] - maps[1] @ fit.y[near]
        variance = hat[q, near] ** 2 @ (e**2 / (1 - np.diag(maps[0]))[:, None])
        np.testing.assert_allclose(got.corrected_error[q], np.sqrt(variance), rtol=1e-8)


@pytest.mark.parametrize("scheme", [Wild(), Wild("mammen"), MovingBlocks(4)], ids=repr)
def test_bootstrap_draw_by_draw(scheme):
    """The same draws through dense matrices: errors, percentile-t limits and the largest t."""
    fit, at = sample(("gaussian", 1, 1, False, False), n=50)
    fit = replace(fit, y=fit.y[:, :1], x=np.sort(fit.x, 0))
    hat, own = hat_of(fit, at), hat_of(fit, fit.x)
    rest, lever = np.eye(50) - own, np.diag(own)
    residual = (rest @ fit.y)[:, 0] / np.sqrt(1 - lever)
    order, root = np.lexsort([fit.y[:, 0], fit.x[:, 0]]), np.sqrt(fit.weights)
    noise = np.empty((len(residual), 200))
    noise[order] = scheme.noise((root * residual)[order], fit.x[order, 0], 200, np.random.default_rng(0))
    noise /= root[:, None]
    drawn = hat @ noise
    np.testing.assert_allclose(bootstrap_error(fit, at, scheme, draws=200)[:, 0], drawn.std(1, ddof=1), rtol=1e-8)
    if isinstance(scheme, Wild):
        spread = np.sqrt(hat**2 @ ((rest @ noise) / (1 - lever)[:, None]) ** 2)
        error = np.sqrt(hat**2 @ ((rest @ fit.y)[:, 0] / (1 - lever)) ** 2)
        t, estimate = drawn / spread, (hat @ fit.y)[:, 0]
        one = percentile_t(fit, at, 0.9, scheme, draws=200)
        low, high = np.quantile(t, [0.05, 0.95], axis=1)
        np.testing.assert_allclose(one.low[:, 0], estimate - high * error, rtol=1e-7)
        np.testing.assert_allclose(one.high[:, 0], estimate - low * error, rtol=1e-7)
        band = multiplier_bootstrap(fit, at, 0.9, scheme, draws=200)
        e, l = residual * root, hat / root  # in units of the deviation of a response
        s = (e**3).mean() / (e**2).mean() ** 1.5 * (l**3).sum(1) / (l**2).sum(1) ** 1.5
        for limit, sign in ((band.low[:, 0], 1), (band.high[:, 0], -1)):
            one = (estimate - limit) / error
            hall = sign * (one + s * one**2 / 3 + s**2 * one**3 / 27 + s / 6)
            np.testing.assert_allclose(hall, np.quantile(np.abs(t).max(0), 0.9), rtol=1e-6)


def test_normal_intervals():
    fit, at = sample(("triangular", 1, 1, False, False))
    got = normal(fit, at, 0.9)
    half = 1.6448536269514722 * standard_error(fit, at)
    np.testing.assert_allclose(got.low, hat_of(fit, at) @ fit.y - half, rtol=1e-8)


def test_everything_says_what_it_covers():
    for name in inference.__all__:
        function = getattr(inference, name)
        if inspect.isfunction(function):
            text = inspect.getdoc(function)
            assert "Covers" in text or "covers" in text, name
