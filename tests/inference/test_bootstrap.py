"""Bootstrap: its exact variance, agreement with the sandwich, coverage, seeds."""

import numpy as np
import pytest

from kernadv._errors import ArgumentError
from kernadv.inference._base import Fit
from kernadv.inference.bootstrap import MovingBlocks, Wild, bootstrap_error, percentile_t
from kernadv.inference.intervals import normal
from kernadv.inference.variance import inflated_residuals, standard_error
from kernadv.kernels import KERNELS
from kernadv.smoothers.local_polynomial import LocalPolynomialFit, smooth

AT = np.array([[0.2], [0.5], [1.0]])
SCHEMES = [Wild(), Wild("mammen"), MovingBlocks(), MovingBlocks(1)]


def sample(n=200, responses=2, correlation=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.random((n, 1)), 0)
    noise = rng.normal(size=(n, responses))
    for t in range(1, n):
        noise[t] += correlation * noise[t - 1]
    how = LocalPolynomialFit(KERNELS["epanechnikov"], 1)
    return Fit(how, x, np.sin(5 * x) + (0.2 + 0.3 * x) * noise, np.ones(n), np.array([0.3]))


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
    e = inflated_residuals(fit, "hc2")
    one = standard_error(fit, AT, "homoskedastic")
    scale = e.std(0) / (one[0] / np.sqrt(norm(fit)[0]))
    np.testing.assert_allclose(bootstrap_error(fit, AT, MovingBlocks(1), draws=20_000), scale * one, rtol=0.03)


def norm(fit):
    unit = fit._replace(y=np.eye(len(fit.x)))
    return (smooth(*unit[:4], AT, fit.bandwidth).value ** 2).sum(1)


def test_blocks_keep_their_order():
    """Every drawn neighbour is the next residual in x, except between blocks."""
    rng = np.random.default_rng(0)
    x = rng.permutation(60.0 + np.arange(60))
    drawn = MovingBlocks(6).noise(x, x, 50, rng)[np.argsort(x)]
    steps = np.round(np.diff(drawn, axis=0), 9)
    inside = np.arange(1, 60) % 6 != 0
    assert (steps[inside] == 1).all()
    assert (steps[~inside] != 1).any()


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
    scaled = fit._replace(y=5 - 2 * fit.y)
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
    fit = fit._replace(y=fit.y - np.sin(5 * fit.x))  # no bias, which blocks would take for correlation
    got, other = percentile_t(fit, AT, scheme=scheme), normal(fit, AT, method=scheme.method)
    np.testing.assert_allclose(got.high - got.low, other.high - other.low, rtol=0.2)


def test_percentile_t_covers_the_smoothed_target():
    fit = sample(120, 100)
    target = smooth(*fit._replace(y=np.sin(5 * fit.x))[:4], AT, fit.bandwidth).value
    got = percentile_t(fit, AT, 0.8, draws=199)
    covered = ((got.low <= target) & (target <= got.high)).mean()
    assert 0.74 <= covered <= 0.86, covered  # standard error about .025


def test_empty_windows_are_nan():
    at = np.array([[0.5], [9.0]])
    assert np.isnan(bootstrap_error(sample(60), at, draws=10)[1]).all()
    assert all(np.isnan(part[1]).all() for part in percentile_t(sample(60), at, draws=10)[:3])


def test_bad_input():
    fit = sample(60)
    with pytest.raises(ArgumentError, match="unknown multiplier 'gaussian'; known: mammen, rademacher"):
        Wild("gaussian")
    with pytest.raises(ArgumentError, match="length must be"):
        MovingBlocks(0)
    with pytest.raises(ArgumentError, match="a block of 61 points"):
        bootstrap_error(fit, AT, MovingBlocks(61))
    with pytest.raises(ArgumentError, match="at least 2"):
        bootstrap_error(fit, AT, draws=1)
    with pytest.raises(ArgumentError, match="strictly between"):
        percentile_t(fit, AT, 95)
    with pytest.raises(ArgumentError, match="too lonely"):
        bootstrap_error(fit._replace(bandwidth=np.array([1e-7])), AT)
