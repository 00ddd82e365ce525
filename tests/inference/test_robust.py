"""Robust bias correction against nprobust and against refits."""

from dataclasses import replace

import numpy as np
import pytest
from nprobust import lprobust

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.inference.robust import METHODS, robust_estimate
from kernadv.regression.inference.variance import standard_error
from kernadv.regression.local.polynomial import LocalPolynomialSpec, smooth
from kernadv.regression.noise import neighbour_residuals


def close(got, expected, tolerance):
    """The oracles' own metric: |a - b| / (1 + |b|)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert (np.abs(got - expected) / (1 + np.abs(expected))).max() <= tolerance


def sample(n=200, responses=2, degree=1, kernel="triangular", dimensions=1, seed=0, bandwidth=0.3):
    rng = np.random.default_rng(seed)
    x = rng.random((n, dimensions))
    y = np.sin(5 * x[:, :1]) + (0.1 + x[:, :1]) * rng.normal(size=(n, responses))
    spec = LocalPolynomialSpec(KERNELS[kernel], degree)
    return LinearSmoother(spec, x, y, np.ones(n), np.full(dimensions, bandwidth))


@pytest.mark.parametrize("name", ["nprob_sim200_ll_triangular", "nprob_sim200_drv1_p2", "nprob_bern200_onesided_ll"])
@pytest.mark.parametrize("method", METHODS)
def test_nprobust_oracle(oracle, name, method):
    record = oracle(name)
    x, y = np.array(record["x"], float)[:, None], np.array(record["y"], float)[:, None]
    spec = LocalPolynomialSpec(KERNELS[record["kernel"]], record["degree"])
    fit = LinearSmoother(spec, x, y, np.ones(len(x)), np.array([float(record["bandwidth_canonical"])]))
    got = robust_estimate(fit, np.array(record["eval"])[:, None], method, derivative=(record["deriv"],))
    expected = record["expected"]["nn" if method == "nearest" else method]
    close(got.conventional[:, 0], expected["tau_us"], record["rtol"])
    close(got.conventional_error[:, 0], expected["se_us"], record["rtol"])
    close(got.corrected[:, 0], expected["tau_bc"], record["rtol"])
    close(got.corrected_error[:, 0], expected["se_rb"], record["rtol"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kernel", ["triangular", "epanechnikov", "uniform"])
@pytest.mark.parametrize("rho", [1.0, 0.6, 1.4])
@pytest.mark.parametrize(("degree", "derivative"), [(0, 0), (1, 0), (2, 0), (2, 1)])
def test_nprobust_live(method, kernel, rho, degree, derivative):
    """The package itself: ties, other kernels, two bandwidths."""
    fit = sample(kernel=kernel, degree=degree)
    fit = replace(fit, x=np.round(fit.x * 64) / 64)  # ties, exact in binary
    at = np.array([0.0, 0.31, 0.5, 1.0])
    got = robust_estimate(fit, at[:, None], method, derivative=(derivative,), rho=rho)
    other = lprobust(
        fit.y[:, 0],
        fit.x[:, 0],
        eval=at,
        p=degree,
        deriv=derivative,
        h=0.3,
        b=0.3 / rho,
        kernel=kernel[:3],
        vce="nn" if method == "nearest" else method,
        bwcheck=None,
        masspoints="off",
    )
    table = np.asarray(other.Estimate)[:, 4:8].astype(float)
    close(np.stack([part[:, 0] for part in got[:4]], axis=1)[:, [0, 2, 1, 3]], table, 1e-9)


@pytest.mark.parametrize("degree", range(3))
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("kernel", ["triangular", "gaussian", "uniform"])
def test_one_bandwidth_is_one_degree_more(degree, dimensions, kernel):
    fit = sample(degree=degree, dimensions=dimensions, kernel=kernel, bandwidth=0.7)
    at = np.linspace(0, 1, 6)[:, None] * np.ones(dimensions)
    got = robust_estimate(fit, at)
    up = fit.raised(1)
    np.testing.assert_allclose(
        got.conventional, smooth(fit.spec, fit.x, fit.y, fit.weights, at, fit.bandwidth).value, atol=1e-9
    )
    np.testing.assert_allclose(
        got.corrected, smooth(up.spec, fit.x, fit.y, fit.weights, at, fit.bandwidth).value, atol=1e-8
    )


@pytest.mark.parametrize("dimensions", [1, 2])
def test_neighbours_within_a_window_over_everything(dimensions):
    """Where the window holds all points, the nearest-neighbour errors are those of `standard_error`."""
    fit = sample(dimensions=dimensions, kernel="gaussian", bandwidth=0.7)
    at = np.full((1, dimensions), 0.4)
    got = robust_estimate(fit, at, "nearest")
    np.testing.assert_allclose(got.conventional_error, standard_error(fit, at, "nearest"), rtol=1e-9)
    np.testing.assert_allclose(got.corrected_error, standard_error(fit.raised(), at, "nearest"), rtol=1e-9)


@pytest.mark.parametrize("rho", [0.5, 1.0, 2.0])
def test_polynomials_of_one_degree_more_are_exact(rho):
    """A parabola has no bias left after correction, for any rho; without it, it has."""
    fit = sample()
    fit = replace(fit, y=3 - fit.x + 2 * fit.x**2)
    at = np.array([[0.0], [0.4], [1.0]])
    got = robust_estimate(fit, at, "hc0", rho=rho)
    np.testing.assert_allclose(got.corrected, 3 - at + 2 * at**2, atol=1e-10)
    np.testing.assert_allclose(got.corrected_error, 0, atol=1e-10)
    assert (np.abs(got.conventional - got.corrected) > 0.005).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["product", "radial", "past"])
def test_scale_shift_order(method, kind):
    fit = sample(dimensions=1 if kind == "past" else 2, bandwidth=0.6)
    fit = replace(fit, spec=LocalPolynomialSpec(fit.spec.kernel, 1, radial=kind == "radial", past=kind == "past"))
    at = np.full((1, fit.x.shape[1]), 0.7)
    one = robust_estimate(fit, at, method)
    order = np.random.default_rng(0).permutation(200)
    moved = replace(fit, x=2 * fit.x[order] - 1, y=5 - 3 * fit.y[order], bandwidth=2 * fit.bandwidth)
    mixed = robust_estimate(moved, 2 * at - 1, method)
    np.testing.assert_allclose(mixed.corrected, 5 - 3 * one.corrected, rtol=1e-8)
    np.testing.assert_allclose(mixed.corrected_error, 3 * one.corrected_error, rtol=1e-8)
    np.testing.assert_allclose(mixed.conventional_error, 3 * one.conventional_error, rtol=1e-8)


@pytest.mark.parametrize("method", ["hc0", "hc1", "hc2", "hc3"])
def test_degrees_of_freedom_dense(method):
    """(tr M)^2 / tr M^2 of the variance y' M y, with every matrix written out."""
    fit = sample(n=60, degree=1, kernel="epanechnikov")
    fit = replace(fit, bandwidth=np.array([3.0]))  # the window of every query holds every point
    at = np.array([[0.3]])
    u = (fit.x - at) / 3
    weight = np.diag(fit.spec.kernel.profile(u[:, 0]))
    hats = []
    for degree in (1, 2):
        design = u ** np.arange(degree + 1)
        hats.append(design @ np.linalg.solve(design.T @ weight @ design, design.T @ weight))
    design = u ** np.arange(3)
    l = np.linalg.solve(design.T @ weight @ design, design.T @ weight)[0]
    power = {"hc0": 0, "hc1": 0, "hc2": 1, "hc3": 2}[method]
    residual = np.eye(60) - hats[1]
    m = residual.T @ np.diag(l**2 / (1 - np.diag(hats[0])) ** power) @ residual
    got = robust_estimate(fit, at, method).freedom[0, 0]
    np.testing.assert_allclose(got, np.trace(m) ** 2 / np.trace(m @ m), rtol=1e-8)


@pytest.mark.parametrize("neighbours", [2, 3, 5])
def test_degrees_of_freedom_of_neighbours(neighbours):
    """Close to (tr M)^2 / tr M^2 with the matrix of the neighbour residuals written out, and on the safe side of it."""
    fit = replace(sample(n=150, kernel="epanechnikov"), bandwidth=np.array([3.0]))
    at = np.array([[0.0], [0.5]])
    residual = neighbour_residuals(fit.x, np.eye(150), neighbours)
    values = smooth(fit.raised().spec, fit.x, np.eye(150), fit.weights, at, fit.bandwidth).value
    got = robust_estimate(fit, at, "nearest", neighbours=neighbours).freedom[:, 0]
    for q in range(2):
        m = residual.T @ np.diag(values[q] ** 2) @ residual
        exact = np.trace(m) ** 2 / np.trace(m @ m)
        assert 0.75 * exact < got[q] < exact


@pytest.mark.parametrize("method", METHODS)
def test_no_queries(method):
    assert all(part.shape[0] == 0 for part in robust_estimate(sample(), np.empty((0, 1)), method))


def test_undefined_is_nan():
    x = np.array([0.0, 0.1, 0.2, 5.0, 5.1])[:, None]
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["uniform"], 1), x, np.cos(9 * x), np.ones(5), np.array([1.0]))
    got = robust_estimate(fit, np.array([[0.1], [5.0], [9.0]]), "nearest")
    assert np.isfinite(np.concatenate([part[0] for part in got])).all()
    assert np.isfinite(got.conventional[1]).all()  # two points: a line, but no parabola
    assert np.isnan(got.corrected[1]).all()
    assert np.isnan(np.concatenate([part[2] for part in got])).all()
    assert np.isnan(robust_estimate(fit, np.array([[5.05]]), "hc1").conventional_error).all()  # no residual freedom


def test_bad_input():
    fit, at = sample(), np.array([[0.5]])
    with pytest.raises(ArgumentError, match="unknown method 'hc4'; known: hc0"):
        robust_estimate(fit, at, "hc4")
    with pytest.raises(ArgumentError, match="rho must be positive"):
        robust_estimate(fit, at, rho=0)
    with pytest.raises(ArgumentError, match="more must be"):
        robust_estimate(sample(), at, more=0)
    with pytest.raises(ArgumentError, match="total order at most the degree 1"):
        robust_estimate(fit, at, derivative=(2,))
