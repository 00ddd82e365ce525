"""Limits that allow for skewed responses, intervals of places, and of few neighbours."""

import numpy as np
import pytest
from scipy import stats

from kernadv.kernels import KERNELS
from kernadv.regression import EmptyWindowWarning, KNeighborsSmoother, LinearSmoother, LocalLinear, NadarayaWatson
from kernadv.regression.inference import _rows, robust_bias_corrected
from kernadv.regression.inference.robust import robust_estimate
from kernadv.regression.inference.skewness import estimate_skewness, half_widths, residual_skewness
from kernadv.regression.local.polynomial import LocalPolynomialSpec

SINE = lambda x: np.sin(6 * x)


def lognormal(rng, shape):
    """Noise of variance 1 and skewness 6.2."""
    return (np.exp(rng.standard_normal(shape)) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


def sample(degree, d=1, n=60, seed=0, kernel="epanechnikov"):
    rng = np.random.default_rng(seed)
    x, y = rng.random((n, d)), lognormal(rng, (n, 2))
    return LinearSmoother(LocalPolynomialSpec(KERNELS[kernel], degree), x, y, rng.random(n) + 0.5, np.full(d, 0.6))


@pytest.mark.parametrize("skewness", [-1.9, -0.3, 0.0, 1e-7, 0.02, 1.0, 2.0])
@pytest.mark.parametrize("quantile", [1.6, 1.96, 12.7])
def test_the_transformed_estimate_is_at_the_quantiles(skewness, quantile):
    below, above = half_widths(2.0, quantile, skewness)
    for t, expected in ((below / 2.0, quantile), (-above / 2.0, -quantile)):
        assert t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6 == pytest.approx(expected, abs=1e-4)
    if skewness > 0.01:
        assert above > below  # the long tail of the responses is above, and their mean is often too low


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("kernel", ["epanechnikov", "gaussian"])
def test_skewness_is_that_of_the_hat_vectors(degree, d, kernel):
    fit = sample(degree, d, kernel=kernel)
    at = np.random.default_rng(1).random((7, d))
    for smoother, got in ((fit, estimate_skewness(fit, at)), (fit.raised(1), robust_estimate(fit, at).skew[:, 0])):
        noise = smoother.hat(fit.points._replace(x=at, levels=np.empty((7, 0), np.int64))) / np.sqrt(fit.weights)
        np.testing.assert_allclose(got, (noise**3).sum(1) / (noise**2).sum(1) ** 1.5, rtol=1e-8)


def test_skewness_of_the_residuals_is_that_of_a_sample():
    """Where the fit is the weighted mean, and far from 1e300 too."""
    fit = sample(0, kernel="uniform").with_bandwidth(np.array([10.0]))
    e = (fit.y - np.average(fit.y, axis=0, weights=fit.weights)) * np.sqrt(fit.weights)[:, None]
    e /= np.sqrt(1 - fit.weights / fit.weights.sum())[:, None]
    expected = (e**3).mean(0) / (e**2).mean(0) ** 1.5
    np.testing.assert_allclose(residual_skewness(fit), expected, rtol=1e-10)
    from dataclasses import replace

    np.testing.assert_allclose(residual_skewness(replace(fit, y=1e200 * fit.y)), expected, rtol=1e-10)
    np.testing.assert_array_equal(residual_skewness(replace(fit, y=0.0 * fit.y)), 0.0)


@pytest.mark.parametrize(
    ("noise", "least", "most"), [(lognormal, 0.94, 0.985), (lambda rng, shape: rng.standard_normal(shape), 0.93, 0.97)]
)
def test_default_intervals_cover_with_skewed_noise(noise, least, most):
    """At n = 100; limits of Student's t cover 85 to 88% of the lognormal ones."""
    rng, at = np.random.default_rng(0), np.array([0.25, 0.5, 0.75])
    shares = {"default": [], "t": []}
    for _ in range(4):
        x = np.sort(rng.random(100))
        model = LocalLinear(0.123).fit(x, SINE(x)[:, None] + 0.3 * noise(rng, (100, 250)))
        for name, got in (
            ("default", model.interval(at)), ("t", robust_bias_corrected(model.as_fit(), at[:, None]))
        ):  # fmt: skip
            shares[name].append(((got.low <= SINE(at)[:, None]) & (SINE(at)[:, None] <= got.high)).mean())
    assert least <= np.mean(shares["default"]) <= most
    if noise is lognormal:
        assert np.mean(shares["t"]) < 0.9


@pytest.mark.parametrize("regressor", [NadarayaWatson(0.103), LocalLinear(0.14)])
def test_interval_of_a_place_is_that_of_its_mean(regressor):
    """Windows hold too few places for a correction of the bias; the responses at the query are enough."""
    rng = np.random.default_rng(0)
    x = np.repeat([0.0, 0.1, 0.2, 0.3], [20, 20, 4, 20])
    y = SINE(x) + rng.standard_normal(len(x))
    with pytest.warns(EmptyWindowWarning):
        got = regressor.fit(x, y).interval([0.0, 0.3, 0.2, 0.05])
    for q, place in enumerate((0.0, 0.3)):
        own = y[x == place]
        low, high = stats.t.interval(0.95, len(own) - 1, own.mean(), stats.sem(own))
        assert got.low[q] == pytest.approx(low)
        assert got.high[q] == pytest.approx(high)
    assert got.covers == "regression function"
    assert np.isnan(got.low[3])  # nothing lies there


def test_places_of_groups_and_levels_are_apart():
    rng = np.random.default_rng(0)
    x, group = np.repeat([0.0, 1.0], 20), np.tile([0, 1], 20)
    y = group + rng.standard_normal(40)
    by_group = NadarayaWatson(0.5).fit(x, y, groups=group).interval([0.0, 0.0], groups=[0, 1])
    by_level = NadarayaWatson([0.5, 0.0], categorical={1: "unordered"}).fit(np.column_stack([x, group]), y)
    for got in (by_group, by_level.interval([[0.0, 0], [0.0, 1]])):
        for k in (0, 1):
            own = y[(x == 0.0) & (group == k)]
            limits = stats.t.interval(0.95, len(own) - 1, own.mean(), stats.sem(own))
            np.testing.assert_allclose([got.low[k], got.high[k]], limits)


@pytest.mark.parametrize("k", [5, 10, 20])
def test_intervals_of_few_neighbours(k):
    """They cover, and are at most twice as wide as with a known variance."""
    rng, at, hits, widths = np.random.default_rng(0), np.array([0.05, 0.25, 0.5, 0.75, 0.95]), [], []
    for _ in range(60):
        x = np.sort(rng.random(200))
        model = KNeighborsSmoother(k).fit(x, SINE(x) + 0.3 * rng.standard_normal(200))
        got = model.interval(at)
        rows = KNeighborsSmoother(k, degree=2, fall_back=False).fit(x, x).hat_matrix(at)
        hits.append((got.low <= SINE(at)) & (SINE(at) <= got.high))
        widths.append((got.high - got.low) / (2 * 1.96 * 0.3 * np.sqrt((rows**2).sum(1))))
    assert 0.92 <= np.mean(hits) <= 0.99
    assert np.nanmedian(widths) <= 1.5
    assert np.nanmax(np.nanmedian(widths, axis=0)) <= 2.0


def test_smoothed_variances():
    """As written out: residuals of the fit, averaged by the weights of the window."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(50))
    model = KNeighborsSmoother(8, degree=1).fit(x, rng.standard_normal(50))
    fit = model._at_design_points().raised()
    at = fit.points.take(np.arange(3))
    residuals, _ = _rows._residuals(fit)
    variance, freedom = _rows._smoothed(fit, at, residuals)
    make = np.eye(50) - fit.hat(fit.points)
    left = (make**2).sum(1)
    for q in range(3):
        times = 1.0
        while True:
            u = np.abs(x - x[q]) / (times * at.bandwidth[q, 0])
            weight = np.where(u < 1, (1 - u**3) ** 3, 0.0)
            expected = (weight @ left) ** 2 / (weight**2 @ left)
            if expected >= _rows.PLENTY:
                break
            times *= 2
        assert freedom[q] == pytest.approx(expected)
        assert variance[q, 0] == pytest.approx(weight @ residuals[:, 0] ** 2 / (weight @ left))
