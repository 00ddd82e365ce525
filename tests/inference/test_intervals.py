"""Intervals: nprobust's, closed forms, limits, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.inference.degrees_of_freedom import effective_sample_size
from kernadv.regression.inference.intervals import (
    METHODS,
    PROPORTIONS,
    interval,
    normal,
    proportion,
    robust_bias_corrected,
)
from kernadv.regression.inference.two_values import proportion_limits
from kernadv.regression.inference.variance import standard_error
from kernadv.regression.local.polynomial import LocalPolynomialSpec, smooth

AT = np.linspace(0, 1, 7)[:, None]


def sample(degree=0, binary=True, n=150, kernel="triangular"):
    rng = np.random.default_rng(2)
    x = rng.random((n, 1))
    y = (rng.random((n, 2)) < 0.2 + 0.5 * x).astype(float) if binary else x + rng.normal(size=(n, 2))
    spec = LocalPolynomialSpec(KERNELS[kernel], degree)
    return LinearSmoother(spec, x, y, np.ones(n), np.array([0.3]), rng.integers(0, 15, n))


@pytest.mark.parametrize("name", ["nprob_sim200_ll_triangular", "nprob_sim200_drv1_p2", "nprob_bern200_onesided_ll"])
@pytest.mark.parametrize("method", ["nearest", "hc0", "hc1", "hc2", "hc3"])
def test_nprobust_interval(oracle, name, method):
    record = oracle(name)
    x, y = np.array(record["x"], float)[:, None], np.array(record["y"], float)[:, None]
    spec = LocalPolynomialSpec(KERNELS[record["kernel"]], record["degree"])
    fit = LinearSmoother(spec, x, y, np.ones(len(x)), np.array([float(record["bandwidth_canonical"])]))
    at = np.array(record["eval"])[:, None]
    got = robust_bias_corrected(fit, at, 0.95, method, derivative=(record["deriv"],), reference="normal")
    expected = record["expected"]["nn" if method == "nearest" else method]
    for ours, theirs in ((got.low, expected["ci_lo"]), (got.high, expected["ci_hi"])):
        assert (np.abs(ours[:, 0] - theirs) / (1 + np.abs(theirs))).max() <= record["rtol"]
    assert got.covers == "regression function"


@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("method", PROPORTIONS)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_proportions(degree, method, level):
    fit = sample(degree)
    got = proportion(fit, AT, level, method)
    n = effective_sample_size(fit, AT)[:, None]
    p = np.clip(smooth(fit.spec, fit.x, fit.y, fit.weights, AT, fit.bandwidth).value, 0, 1)
    z = stats.norm.ppf(0.5 + level / 2)
    if method == "wilson":
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        low, high = centre - half, centre + half
    else:
        a = {"jeffreys": 0.5, "uniform": 1.0}[method]
        low, high = stats.beta(a + n * p, a + n * (1 - p)).interval(level)
    np.testing.assert_allclose(got.low, low, atol=1e-9)
    np.testing.assert_allclose(got.high, high, atol=1e-9)
    assert (got.estimate, got.covers)[1] == "smoothed target"


def test_equal_weights_give_the_textbook_intervals():
    x = np.zeros((10, 1))
    y = np.array([1.0] * 3 + [0.0] * 7)[:, None]
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["uniform"]), x, y, np.ones(10), np.array([1.0]))
    for method in ("wilson", "jeffreys"):
        got = proportion(fit, x[:1], method=method)
        np.testing.assert_allclose(
            [got.low[0, 0], got.high[0, 0]], proportion_confint(3, 10, method=method), atol=1e-12
        )
    wilson = proportion(fit, x[:1], method="wilson").low[0, 0]
    np.testing.assert_allclose(wilson, 0.10779, atol=1e-5)  # Brown, Cai and DasGupta's formula


@pytest.mark.parametrize("level", [0.5, 0.95, 0.9999])
def test_wilson_of_statsmodels(level):
    """Counts and trials that are no whole numbers too; none and all successes have the limits 0 and 1."""
    count, size = (part.ravel() for part in np.meshgrid([0.5, 1.0, 7.25, 80.0], [80.5, 1e3, 1e7]))
    tail = np.full(len(count), 0.5 * (1.0 - level))
    got = proportion_limits(count, size, tail, "wilson")
    np.testing.assert_allclose(got, proportion_confint(count, size, 1.0 - level, "wilson"), rtol=1e-12)
    assert proportion_limits(np.zeros(1), size[:1], tail[:1], "wilson")[0] == 0.0
    assert proportion_limits(size[:1], size[:1], tail[:1], "wilson")[1] == 1.0


@pytest.mark.parametrize("method", PROPORTIONS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_agreeing_responses_keep_a_width(method, value):
    fit = sample()
    fit = replace(fit, y=np.full_like(fit.y, value))
    got = proportion(fit, AT, method=method)
    assert (got.high - got.low > 0.01).all()
    assert (got.low >= 0).all()
    assert (got.high <= 1).all()
    assert (normal(fit, AT).high - normal(fit, AT).low < 1e-6).all()  # why Wald is no default here


def test_bias_corrected_proportion():
    fit = sample()
    got = proportion(fit, AT, bias_corrected=True)
    np.testing.assert_array_equal(got.low, proportion(fit.raised(), AT).low)
    assert got.covers == "regression function"


@pytest.mark.parametrize("degree", range(4))
def test_auto(degree):
    """Two values: the wider of the fit and the corrected one, both textbook formulas; anything else: robust."""
    fit, other = sample(degree), robust_bias_corrected(sample(degree, False), AT, reference="hall")
    got = interval(fit, AT)
    for part, choose in (("low", np.minimum), ("high", np.maximum)):
        ends = [getattr(proportion(fit, AT, bias_corrected=corrected), part) for corrected in (False, True)]
        np.testing.assert_array_equal(getattr(got, part), choose(*ends))
    np.testing.assert_array_equal(interval(sample(degree, False), AT).low, other.low)
    assert got.covers == other.covers == "regression function"
    np.testing.assert_array_equal(interval(fit, AT, method="normal").low, normal(fit, AT).low)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "auto"])
def test_nested_levels_and_empty_windows(method):
    at = np.concatenate([AT, [[7.0]]])
    wide, narrow = interval(sample(), at, 0.99, method), interval(sample(), at, 0.9, method)
    assert (wide.low[:-1] < narrow.low[:-1]).all() or method in PROPORTIONS
    assert (wide.high[:-1] >= narrow.high[:-1]).all()
    assert (narrow.low[:-1] <= narrow.estimate[:-1]).all()
    assert all(np.isnan(part[-1]).all() for part in wide[:3])


@pytest.mark.parametrize("method", ["homoskedastic", "difference", "cluster", "hac"])
def test_correction_with_other_errors(method):
    fit = sample(1, False)
    got = robust_bias_corrected(fit, AT, 0.9, method)
    half = stats.norm.ppf(0.95) * standard_error(fit.raised(), AT, method)
    np.testing.assert_allclose(got.high - got.estimate, half, rtol=1e-9)
    np.testing.assert_allclose(got.estimate, robust_bias_corrected(fit, AT).estimate, atol=1e-10)


@pytest.mark.parametrize("method", ["normal", "robust"])
def test_equivariance(method):
    fit = sample(1, False)
    one, other = interval(fit, AT, method=method), interval(replace(fit, y=4 - 2 * fit.y), AT, method=method)
    np.testing.assert_allclose(other.low, 4 - 2 * one.high, rtol=1e-8)
    np.testing.assert_allclose(other.high, 4 - 2 * one.low, rtol=1e-8)


def test_bad_input():
    fit = sample()
    for level in (0.0, 1.0, 95, -0.1, float("nan")):
        for method in METHODS:
            with pytest.raises(ArgumentError, match="strictly between 0 and 1"):
                interval(fit, AT, level, method)
    with pytest.raises(ArgumentError, match="unknown method 'wald'; known: auto, jeffreys"):
        interval(fit, AT, method="wald")
    with pytest.raises(ArgumentError, match="needs responses that are 0 or 1"):
        interval(sample(0, False), AT, method="wilson")
    with pytest.raises(ArgumentError, match="unknown method 'normal'; known: jeffreys"):
        proportion(fit, AT, method="normal")
    with pytest.raises(ArgumentError, match="rho must be 1"):
        robust_bias_corrected(fit, AT, method="hac", rho=0.5)
    with pytest.raises(ArgumentError, match="queries of shape"):
        interval(fit, AT[:, 0])
