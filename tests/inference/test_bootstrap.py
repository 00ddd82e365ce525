"""Bootstrap: its exact variance, agreement with the sandwich, coverage, seeds."""

from dataclasses import replace

import numpy as np
import pytest

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.inference.bands import multiplier_bootstrap
from kernadv.regression.inference.bootstrap import (
    MovingBlocks,
    Wild,
    bootstrap_error,
    percentile_t,
    resampling_residuals,
)
from kernadv.regression.inference.intervals import normal
from kernadv.regression.inference.variance import standard_error
from kernadv.regression.local.polynomial import LocalPolynomialSpec, smooth

AT = np.array([[0.2], [0.5], [1.0]])
SCHEMES = [Wild(), Wild("mammen"), MovingBlocks(), MovingBlocks(1)]


def sample(n=200, responses=2, correlation=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.random((n, 1)), 0)
    noise = rng.normal(size=(n, responses))
    for t in range(1, n):
        noise[t] += correlation * noise[t - 1]
    spec = LocalPolynomialSpec(KERNELS["epanechnikov"], 1)
    return LinearSmoother(spec, x, np.sin(5 * x) + (0.2 + 0.3 * x) * noise, np.ones(n), np.array([0.3]))


@pytest.mark.parametrize("multiplier", ["rademacher", "mammen"])
def test_wild_is_the_sandwich(multiplier):
    """The variance of a draw is sum l^2 e^2 exactly, with the residuals of hc2."""
    fit = sample(60)  # leverages large enough to tell hc2 from hc0 and hc3
    got = bootstrap_error(fit, AT, Wild(multiplier), draws=20_000)
    np.testing.assert_allclose(got, standard_error(fit, AT, "hc2"), rtol=0.03)


@pytest.mark.parametrize(("multiplier", "third"), [("rademacher", 0.0), ("mammen", 1.0)])
def test_multipliers(multiplier, third):
    v = Wild(multiplier).noise(np.ones(10), np.arange(10.0), 200_000, np.random.default_rng(0))
    for power, moment in ((1, 0.0), (2, 1.0), (3, third)):
        assert (v**power).mean() == pytest.approx(moment, abs=0.01)


def test_blocks_of_one_point_have_one_variance():
    fit = sample()
    e = resampling_residuals(fit)
    one = standard_error(fit, AT, "homoskedastic")
    scale = e.std(0) / (one[0] / np.sqrt(norm(fit)[0]))
    np.testing.assert_allclose(bootstrap_error(fit, AT, MovingBlocks(1), draws=20_000), scale * one, rtol=0.03)


def norm(fit):
    unit = replace(fit, y=np.eye(len(fit.x)))
    return (smooth(unit.spec, unit.x, unit.y, unit.weights, AT, fit.bandwidth).value ** 2).sum(1)


def windows(residual, length):
    """Every block that can be drawn, less the mean of its place over all of them: mean 0 over the draws.  # (starts, L)"""
    every = np.lib.stride_tricks.sliding_window_view(residual, length)
    return every - every.mean(0)


def test_blocks_keep_their_order():
    """Every drawn block is one of the successive residuals, and all of them occur."""
    rng = np.random.default_rng(0)
    x, residual = rng.permutation(np.arange(60.0)), rng.normal(size=60)
    drawn = MovingBlocks(6).noise(residual, x, 50, rng)[np.argsort(x)].reshape(10, 6, 50).transpose(0, 2, 1)
    distance = np.abs(drawn[:, :, None] - windows(residual[np.argsort(x)], 6)).max(-1)
    assert distance.min(-1).max() < 1e-12
    assert len(np.unique(distance.argmin(-1))) == 55


@pytest.mark.parametrize("length", [1, 7])
def test_blocks_have_the_variance_of_their_blocks(length):
    """The variance of a draw is the sum over its blocks of the variance over the starts, written out."""
    fit = sample(60, 1, correlation=0.6)
    hat = np.stack([smooth(fit.spec, fit.x, np.eye(60), fit.weights, at[None], fit.bandwidth).value[0] for at in AT])
    every = windows(resampling_residuals(fit)[:, 0], length)
    variance = np.zeros(3)
    for low in range(0, 60, length):
        part = hat[:, low : low + length]
        variance += ((every[:, : part.shape[1]] @ part.T) ** 2).mean(0)
    got = bootstrap_error(fit, AT, MovingBlocks(length), draws=20_000)[:, 0]
    np.testing.assert_allclose(got, np.sqrt(variance), rtol=0.03)


def test_blocks_see_correlation():
    fit = sample(400, 20, correlation=0.7)
    independent, blocks = bootstrap_error(fit, AT, Wild()), bootstrap_error(fit, AT, MovingBlocks(12))
    assert (blocks.mean(1) > 1.4 * independent.mean(1)).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_seed_scale_progress(scheme):
    fit, seen = sample(60), []
    error = bootstrap_error(fit, AT, scheme, draws=300, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 600), (300, 600), (556, 600), (600, 600)]
    np.testing.assert_array_equal(error, bootstrap_error(fit, AT, scheme, draws=300))
    assert (error != bootstrap_error(fit, AT, scheme, draws=300, seed=1)).all()
    scaled = replace(fit, y=5 - 2 * fit.y)
    np.testing.assert_allclose(bootstrap_error(scaled, AT, scheme, draws=300), 2 * error, rtol=1e-9)
    one, other = (percentile_t(f, AT, scheme=scheme, draws=300) for f in (fit, scaled))
    np.testing.assert_allclose(other.high, 5 - 2 * one.low, rtol=1e-7)
    assert one.covers == "smoothed target"
    wide = percentile_t(fit, AT, 0.99, scheme=scheme, draws=300)
    assert (
        (wide.low <= one.low) & (one.low < one.estimate) & (one.estimate < one.high) & (one.high <= wide.high)
    ).all()


@pytest.mark.parametrize("scheme", [Wild(), MovingBlocks()], ids=repr)
def test_percentile_t_is_near_normal_in_large_samples(scheme):
    fit = sample(1500)
    fit = replace(fit, y=fit.y - np.sin(5 * fit.x))  # no bias, which blocks would take for correlation
    got, other = percentile_t(fit, AT, scheme=scheme), normal(fit, AT, method=scheme.method)
    np.testing.assert_allclose(got.high - got.low, other.high - other.low, rtol=0.2)


def test_percentile_t_covers_the_smoothed_target():
    fit = sample(120, 100)
    target = smooth(fit.spec, fit.x, np.sin(5 * fit.x), fit.weights, AT, fit.bandwidth).value
    got = percentile_t(fit, AT, 0.8, draws=199)
    covered = ((got.low <= target) & (target <= got.high)).mean()
    assert 0.74 <= covered <= 0.86, covered  # standard error about .025


def test_empty_windows_are_nan():
    at = np.array([[0.5], [9.0]])
    assert np.isnan(bootstrap_error(sample(60), at, draws=10)[1]).all()
    assert all(np.isnan(part[1]).all() for part in percentile_t(sample(60), at, draws=10)[:3])


def test_a_lonely_point_costs_the_estimates_that_use_it():
    """A point with leverage 1 has no residual; the other estimates are what they are without it."""
    fit = replace(sample(60), spec=LocalPolynomialSpec(KERNELS["epanechnikov"]))
    alone = replace(fit, x=np.append(fit.x, [[9.0]], 0), y=np.append(fit.y, [[1.0, 2.0]], 0), weights=np.ones(61))
    at = np.array([[0.5], [9.0]])
    error = bootstrap_error(alone, at, draws=4000)
    np.testing.assert_allclose(error[0], bootstrap_error(fit, at, draws=4000)[0], rtol=0.06)
    one = percentile_t(alone, at, draws=99)
    assert np.isfinite(one.low[0]).all()
    assert np.isnan(np.concatenate([error[1], one.low[1], one.high[1]])).all()
    assert (one.estimate[1] == [1.0, 2.0]).all()
    with pytest.raises(ArgumentError, match="1 are too lonely"):
        bootstrap_error(alone, at, MovingBlocks())


def test_bad_input():
    fit = sample(60)
    for function in (bootstrap_error, percentile_t, multiplier_bootstrap):
        with pytest.raises(ArgumentTypeError, match=r"Wild.* or MovingBlocks.*, got 'hc3'"):
            function(fit, AT, scheme="hc3")
    with pytest.raises(ArgumentError, match="unknown multiplier 'gaussian'; known: mammen, rademacher"):
        Wild("gaussian")
    with pytest.raises(ArgumentError, match="length must be"):
        MovingBlocks(0)
    with pytest.raises(ArgumentError, match="a block of 61 points"):
        bootstrap_error(fit, AT, MovingBlocks(61))
    with pytest.raises(ArgumentError, match="draws must be a whole number >= 2, got 1"):
        bootstrap_error(fit, AT, draws=1)
    with pytest.raises(ArgumentError, match="strictly between"):
        percentile_t(fit, AT, 95)
    with pytest.raises(ArgumentError, match="no point has a neighbour"):
        bootstrap_error(replace(fit, bandwidth=np.array([1e-7])), AT)
