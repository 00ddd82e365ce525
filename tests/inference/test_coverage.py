"""Coverage by simulation, with known truth and fixed seeds.

Replications share a design, so that hat vectors are computed once and each replication is a column; several designs.
"""

from dataclasses import replace

import numpy as np
import pytest

from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.inference import Interval
from kernadv.regression.inference.degrees_of_freedom import effective_sample_size
from kernadv.regression.inference.intervals import PROPORTIONS, normal, proportion, robust_bias_corrected
from kernadv.regression.inference.robust import robust_estimate
from kernadv.regression.local.polynomial import LocalPolynomialSpec, smooth

DESIGNS = 20
COLUMNS = 200  # replications a design: 4000 in all, standard error .0034 at 95%

CURVES = {
    "sine": (lambda x: np.sin(2 * np.pi * x), 0.15),
    "bump": (lambda x: x + np.exp(-50 * (x - 0.5) ** 2), 0.13),
    "steep at the end": (lambda x: np.exp(3 * x) / 10, 0.3),
}
AT = np.array([0.25, 0.5, 1.0])[:, None]  # the last is a boundary


def coverage_of(intervals, truth, curve, noise, bandwidth, degree=1, n=500):
    """Share of the replications that cover the truth, by query.  # (m,)"""
    rng = np.random.default_rng(11)
    spec, hits = LocalPolynomialSpec(KERNELS["triangular"], degree), []
    for _ in range(DESIGNS):
        x = rng.random((n, 1))
        y = curve(x) + noise * rng.normal(size=(n, COLUMNS))
        fit = LinearSmoother(spec, x, y, np.ones(n), np.array([bandwidth]))
        got, target = intervals(fit), truth(fit)
        hits.append(((got.low <= target) & (target <= got.high)).mean(1))
    return np.mean(hits, axis=0)


@pytest.mark.parametrize("name", CURVES)
def test_robust_intervals_cover_the_regression_function(name):
    curve, bandwidth = CURVES[name]
    got = coverage_of(lambda fit: robust_bias_corrected(fit, AT), lambda fit: curve(AT), curve, 0.5, bandwidth)
    assert (got >= 0.935).all(), got
    assert (got <= 0.965).all(), got


@pytest.mark.parametrize(("degree", "bandwidth"), [(0, 0.09), (2, 0.2), (3, 0.25)])
def test_other_degrees_cover_too(degree, bandwidth):
    """At the bandwidths that AICc chooses, a bump's top is biased by more than the noise.  One degree more does not help
    even degrees there."""
    curve, _ = CURVES["bump"]
    got = coverage_of(lambda fit: robust_bias_corrected(fit, AT), lambda fit: curve(AT), curve, 0.5, bandwidth, degree)
    assert (got >= 0.935).all(), got
    assert (got <= 0.965).all(), got
    if degree % 2 == 0:
        z = 1.959963984540054

        def one_more(fit):
            both = robust_estimate(fit, AT, more=1)
            return Interval(both.corrected, *(both.corrected + k * z * both.corrected_error for k in (-1, 1)), "")

        assert coverage_of(one_more, lambda fit: curve(AT), curve, 0.5, bandwidth, degree)[1] < 0.9


def test_normal_quantiles_are_not_enough_at_a_boundary():
    """Why Student's t is the default: few points carry the estimate there."""
    curve, bandwidth = CURVES["bump"]
    normal_quantiles = lambda fit: robust_bias_corrected(fit, AT, reference="normal")
    assert coverage_of(normal_quantiles, lambda fit: curve(AT), curve, 0.5, bandwidth)[2] < 0.93


@pytest.mark.parametrize("name", CURVES)
def test_normal_intervals_cover_the_smoothed_target(name):
    curve, _ = CURVES[name]

    def smoothed(fit):
        return smooth(fit.spec, fit.x, curve(fit.x), fit.weights, AT, fit.bandwidth).value

    got = coverage_of(lambda fit: normal(fit, AT), smoothed, curve, 0.5, 0.2)
    assert (got >= 0.935).all(), got
    assert (got <= 0.965).all(), got


def test_normal_intervals_do_not_cover_the_regression_function():
    """The test above can fail: without the correction the bias shows."""
    curve, _ = CURVES["bump"]
    got = coverage_of(lambda fit: normal(fit, AT), lambda fit: curve(AT), curve, 0.5, 0.25)
    assert got[1] < 0.7


#: Effective sample size, probability -> coverage of Wilson, Jeffreys and the uniform prior, 20,000 draws elsewhere.
TABLE = [
    (9.4, 0.02, {"wilson": 0.918, "jeffreys": 0.952, "uniform": 0.900}),
    (9.4, 0.1, {"wilson": 0.951, "jeffreys": 0.974, "uniform": 0.951}),
    (30, 0.02, {"wilson": 0.946, "jeffreys": 0.967, "uniform": 0.934}),
    (30, 0.3, {"wilson": 0.951, "jeffreys": 0.949, "uniform": 0.953}),
    (113, 0.1, {"wilson": 0.952, "jeffreys": 0.948, "uniform": 0.951}),
]


@pytest.mark.parametrize(("size", "p", "expected"), TABLE)
def test_proportions(size, p, expected):
    """A triangular one-sided window over constant p."""
    sizes = np.arange(1, 200)
    n = int(sizes[np.argmin(np.abs(1.5 * sizes * (sizes + 1) / (2 * sizes + 1) - size))])  # (sum w)^2 / sum w^2
    x = np.arange(1.0, n + 1)[:, None]
    y = (np.random.default_rng(7).random((n, 20_000)) < p).astype(float)
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["triangular"], past=True), x, y, np.ones(n), np.array([float(n)]))
    assert effective_sample_size(fit, x[-1:])[0] == pytest.approx(size, rel=0.02)
    for method, share in expected.items():
        got = proportion(fit, x[-1:], method=method)
        assert ((got.low <= p) & (p <= got.high)).mean() == pytest.approx(share, abs=0.012)
    wald = normal(replace(fit, y=y[:, :2000]), x[-1:], method="hc0")
    assert ((wald.low <= p) & (p <= wald.high)).mean() < 0.94


@pytest.mark.parametrize("kernel", KERNELS)
def test_rare_successes_exactly(kernel):
    """Every outcome of a window with n_eff from 8 to 10, with its chance: no simulation.

    Wilson covers less than Jeffreys, which is why Jeffreys is the default.
    """
    for n in range(8, 15):
        x = np.arange(1.0, n + 1)[:, None]
        h = np.array([n if np.isfinite(KERNELS[kernel].support) else n / 3.0])
        outcomes = (np.arange(2**n) >> np.arange(n)[:, None] & 1).astype(float)
        fit = LinearSmoother(LocalPolynomialSpec(KERNELS[kernel], past=True), x, outcomes, np.ones(n), h)
        if not 8.0 <= effective_sample_size(fit, x[-1:])[0] <= 10.0:
            continue
        successes = outcomes.sum(0)
        limits = {method: proportion(fit, x[-1:], method=method) for method in PROPORTIONS}
        for p in (0.0, 0.02, 0.98):
            chance = p**successes * (1 - p) ** (n - successes)
            covered = {method: chance @ ((got.low <= p) & (p <= got.high))[0] for method, got in limits.items()}
            assert covered["jeffreys"] >= 0.93
            assert covered["wilson"] >= 0.85
            assert covered["jeffreys"] > covered["wilson"] - 1e-9


def test_all_or_nothing_is_covered():
    """A probability of 0 or 1, whose window can only hold responses of one kind."""
    for value in (0.0, 1.0):
        fit = LinearSmoother(
            LocalPolynomialSpec(KERNELS["gaussian"]), AT, np.full((3, 1), value), np.ones(3), np.array([0.3])
        )
        for method in PROPORTIONS:
            got = proportion(fit, AT, method=method)
            assert (np.where(value, got.high, got.low) == value).all()
            assert (got.high - got.low > 0.3).all()
