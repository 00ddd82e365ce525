"""Traces and effective sample sizes against locfit, R np and dense hat matrices."""

from dataclasses import replace

import numpy as np
import pytest

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.inference.degrees_of_freedom import effective_degrees_of_freedom, effective_sample_size
from kernadv.regression.local.polynomial import LocalPolynomialSpec, hat_matrix, smooth


def close(got, expected, tolerance):
    """The oracles' own metric: |a - b| / (1 + |b|)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert (np.abs(got - expected) / (1 + np.abs(expected))).max() <= tolerance


def fit_of(record, **changes):
    """The fit that an oracle record describes."""
    x, y = np.array(record["x"], float), np.array(record["y"], float)
    name = record["kernel"].split()[0]
    spec = LocalPolynomialSpec(KERNELS[name], record["degree"])
    bandwidth = record.get("bandwidth_canonical") or record["expected"]["bandwidth_canonical"]
    x = x.reshape(len(y), -1)
    return LinearSmoother(spec, x, y[:, None], np.ones(len(y)), np.atleast_1d(np.array(bandwidth, float)), **changes)


def queries_of(record):
    at = np.array(record["eval"], float)
    return at.reshape(len(at), -1)


@pytest.mark.parametrize("name", ["lf_cars_ll_triangular", "lf_mcycle_ll_epanechnikov"])
def test_locfit(oracle, name):
    record = oracle(name)
    got, expected = effective_degrees_of_freedom(fit_of(record)), record["expected"]
    close([got.trace, got.squared_trace], [expected["df1_trace"], expected["df2_trSSt"]], record["rtol"])
    norm = 1 / np.sqrt(effective_sample_size(fit_of(record), queries_of(record)))
    close(norm, expected["norm_l"], record["rtol"])


@pytest.mark.parametrize("name", ["np_cvls_cars_ll", "np_cvls_mcycle_ll", "np_aicc_faithful_lc"])
def test_r_np(oracle, name):
    record = oracle(name)
    got, expected = effective_degrees_of_freedom(fit_of(record)), record["expected"]
    close([got.trace, got.squared_trace], [expected["edf_trace"], expected["edf_trSSt"]], record["rtol"])


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
def test_dense(kernel, degree, dimensions):
    rng = np.random.default_rng(0)
    x, weights = rng.random((120, dimensions)), rng.random(120) + 0.5
    weights[:5] = 0.0
    spec = LocalPolynomialSpec(KERNELS[kernel], degree)
    fit = LinearSmoother(spec, x, rng.normal(size=(120, 1)), weights, np.full(dimensions, 0.9))
    hat = hat_matrix(spec, x, weights, x, fit.bandwidth, smooth(spec, x, fit.y, weights, x, fit.bandwidth))
    used = weights > 0
    got = effective_degrees_of_freedom(fit)
    assert got.points == 115
    np.testing.assert_allclose(got.trace, np.trace(hat), rtol=1e-9)
    root = np.sqrt(weights[used])
    hat_of_one_variance = root[:, None] * hat[used][:, used] / root
    np.testing.assert_allclose(got.squared_trace, (hat_of_one_variance**2).sum(), rtol=1e-9)
    residual = np.eye(115) - hat_of_one_variance
    np.testing.assert_allclose(got.residual, (residual**2).sum(), rtol=1e-9)
    np.testing.assert_allclose(effective_sample_size(fit, x[:7]), 1 / (hat[:7] ** 2).sum(1), rtol=1e-9)


@pytest.mark.parametrize("degree", range(4))
def test_wide_windows_give_the_global_polynomial(degree):
    rng = np.random.default_rng(1)
    x = rng.random((80, 1))
    spec = LocalPolynomialSpec(KERNELS["gaussian"], degree)
    got = effective_degrees_of_freedom(LinearSmoother(spec, x, x, np.ones(80), np.array([60.0])))
    np.testing.assert_allclose(
        [got.trace, got.squared_trace, got.residual], [degree + 1, degree + 1, 79 - degree], 1e-3
    )


def test_kish():
    """For degree 0, (sum w)^2 / sum w^2; at the end of a triangular window, 3/4 of its points."""
    x = np.arange(1.0, 201.0)[:, None]
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["triangular"], past=True), x, x, np.ones(200), np.array([100.0]))
    at = np.array([[200.0], [150.5]])
    w = np.maximum(1 - np.abs(x[:, 0] - at) / 100, 0) * (x[:, 0] <= at)
    np.testing.assert_allclose(effective_sample_size(fit, at), w.sum(1) ** 2 / (w**2).sum(1), rtol=1e-10)
    assert effective_sample_size(fit, at)[0] == pytest.approx(75, rel=0.03)


def test_empty_windows_and_lonely_points():
    x = np.array([[0.0], [0.1], [0.2], [9.0]])
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["uniform"], 1), x, x, np.ones(4), np.array([1.0]))
    assert effective_degrees_of_freedom(fit).points == 3
    assert np.isnan(effective_sample_size(fit, np.array([[5.0]]))).all()


def test_bad_input():
    x = np.arange(6.0)[:, None]
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["uniform"]), x, x, np.ones(6), np.array([2.0]))
    for wrong, words in [
        (replace(fit, weights=-np.ones(6)), "not negative"),
        (replace(fit, weights=np.full(6, np.inf)), "not negative, got .inf"),
        (replace(fit, weights=np.zeros(6)), "at least one point"),
        (replace(fit, weights=np.ones(5)), "expected x"),
        (replace(fit, bandwidth=np.array([0.0])), "positive bandwidth"),
        (replace(fit, bandwidth=np.array([1.0, 1.0])), "positive bandwidth"),
        (replace(fit, cluster=np.zeros(5, int)), "one cluster a point"),
        (replace(fit, y=x * np.nan), "finite"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            effective_degrees_of_freedom(wrong)
    with pytest.raises(ArgumentError, match="queries of shape"):
        effective_sample_size(fit, np.zeros(3))
    with pytest.raises(ArgumentError, match="at least 1 residual degree"):
        effective_degrees_of_freedom(replace(fit, bandwidth=np.array([0.5]))).enough()
