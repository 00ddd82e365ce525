"""Standard errors: other programs, dense formulas, laws."""

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.inference.variance import METHODS, residual_variance, response_variance, standard_error
from kernadv.regression.local.polynomial import LocalPolynomialSpec, hat_matrix, smooth
from kernadv.regression.noise import neighbour_residuals


def close(got, expected, tolerance):
    """The oracles' own metric: |a - b| / (1 + |b|)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert (np.abs(got - expected) / (1 + np.abs(expected))).max() <= tolerance


def record_fit(record, degree=None):
    x, y = np.array(record["x"], float), np.array(record["y"], float)
    spec = LocalPolynomialSpec(KERNELS[record["kernel"].split()[0]], record["degree"] if degree is None else degree)
    bandwidth = np.atleast_1d(np.array(record["bandwidth_canonical"], float))
    fit = LinearSmoother(spec, x.reshape(len(y), -1), y[:, None], np.ones(len(y)), bandwidth)
    at = np.array(record["eval"], float)
    return fit, at.reshape(len(at), -1)


def sample(dimensions=1, degree=1, kernel="epanechnikov", n=150, responses=2, bandwidth=0.5):
    rng = np.random.default_rng(3)
    x = rng.random((n, dimensions))
    y = np.sin(4 * x[:, :1]) + (0.1 + x[:, :1]) * rng.normal(size=(n, responses))
    spec = LocalPolynomialSpec(KERNELS[kernel], degree)
    cluster = rng.integers(0, 20, n)
    fit = LinearSmoother(spec, x, y, rng.random(n) + 0.5, np.full(dimensions, bandwidth), cluster)
    return fit, np.linspace(0, 1, 9)[:, None] * np.ones(dimensions)


def dense(fit, at, derivative=None):
    """Hat matrices at the queries and at the design points, and the residuals."""
    values = smooth(fit.spec, fit.x, fit.y, fit.weights, at, fit.bandwidth, derivative)
    own = smooth(fit.spec, fit.x, fit.y, fit.weights, fit.x, fit.bandwidth)
    hat = hat_matrix(fit.spec, fit.x, fit.weights, at, fit.bandwidth, values)
    return hat, hat_matrix(fit.spec, fit.x, fit.weights, fit.x, fit.bandwidth, own), fit.y - own.value


# ------------------------------------------------------------------------------------------------ other programs


@pytest.mark.parametrize("name", ["lf_cars_ll_triangular", "lf_mcycle_ll_epanechnikov"])
def test_locfit_homoskedastic(oracle, name):
    record = oracle(name)
    fit, at = record_fit(record)
    close(residual_variance(fit), [record["expected"]["rv"]], record["rtol"])
    close(standard_error(fit, at, "homoskedastic")[:, 0], record["expected"]["se"], record["rtol"])


def test_r_sm_difference(oracle):
    record = oracle("sm_faithful_ll")
    """It leaves ties in the order of the rows: sigma is compared over many orders, and its part in the errors."""
    fit, at = record_fit(record)
    x, y, sigma = fit.x[:, 0], fit.y[:, 0], record["expected"]["sigma"]

    def of_sm(order):
        z, v = x[order][np.argsort(x[order], kind="stable")], y[order][np.argsort(x[order], kind="stable")]
        span = z[2:] - z[:-2]
        near = np.where(span > 0, (z[2:] - z[1:-1]) / np.where(span > 0, span, 1), 0.5)
        return np.sqrt(np.mean((near * v[:-2] + (1 - near) * v[2:] - v[1:-1]) ** 2 / (near**2 + (1 - near) ** 2 + 1)))

    close([of_sm(np.arange(len(x)))], [sigma], record["rtol"])
    rng = np.random.default_rng(0)
    orders = [of_sm(rng.permutation(len(x))) for _ in range(60)]
    ours = np.sqrt(residual_variance(fit, "difference"))
    assert min(orders) < ours[0] < max(orders)
    expected = np.array(record["expected"]["se"]) * ours / sigma
    close(standard_error(fit, at, "difference")[:, 0], expected, record["rtol"])
    first = np.unique(x, return_index=True)[1]
    alone = replace(fit, x=fit.x[first], y=fit.y[first], weights=np.ones(len(first)))  # no ties: the same formula
    close(np.sqrt(residual_variance(alone, "difference")), [of_sm(first)], 1e-12)


@pytest.mark.parametrize("name", ["np_cars_lc_gaussian", "np_sim2d_lc_gaussian"])
def test_r_np_asymptotic(oracle, name):
    record = oracle(name)
    fit, at = record_fit(record)
    close(standard_error(fit, at, "asymptotic")[:, 0], record["expected"]["se_np"], record["rtol"])
    line = replace(fit, spec=LocalPolynomialSpec(fit.spec.kernel, 1))
    close(standard_error(line, at, "asymptotic")[:, 0], record["expected"]["se_np"], record["rtol"])


def unbiased(design, rows, lag):
    """Square root of the factor that makes Newey-West of a line unbiased for independent noise."""
    inverse = np.linalg.inv(design.T @ design)
    hat, rest = rows @ inverse @ design.T, np.eye(len(design)) - design @ inverse @ design.T
    distance = np.abs(np.subtract.outer(np.arange(len(design)), np.arange(len(design))))
    mean = np.einsum("qi,ij,qj->q", hat, np.maximum(1 - distance / (lag + 1), 0) * rest, hat)
    return np.sqrt((hat**2).sum(1) / mean)


@pytest.mark.parametrize("method", ["homoskedastic", "hc0", "hc1", "hc2", "hc3", "cluster", "hac"])
def test_wide_windows_are_least_squares(method):
    """A local line with a very wide Gaussian window is statsmodels' OLS, in all its variances."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(60))[:, None]
    y = 1 + x + x * rng.normal(size=(60, 1))
    cluster = rng.integers(0, 12, 60)
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["gaussian"], 1), x, y, np.ones(60), np.array([3e3]), cluster)
    at = np.array([[0.0], [0.3], [1.0]])
    design = np.column_stack([np.ones(60), x])
    if method == "homoskedastic":
        other = OLS(y[:, 0], design).fit()
    elif method == "cluster":
        other = OLS(y[:, 0], design).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    elif method == "hac":
        other = OLS(y[:, 0], design).fit(cov_type="HAC", cov_kwds={"maxlags": 4})
    else:
        other = OLS(y[:, 0], design).fit(cov_type=method.upper())
    rows = np.column_stack([np.ones(3), at])
    expected = np.sqrt(np.einsum("qa,ab,qb->q", rows, other.cov_params(), rows))
    if method == "hac":
        expected *= unbiased(design, rows, 4)
    np.testing.assert_allclose(standard_error(fit, at, method, lag=4)[:, 0], expected, rtol=1e-5)


# ------------------------------------------------------------------------------------------------ dense formulas


@pytest.mark.parametrize("method", ["homoskedastic", "hc0", "hc1", "hc2", "hc3"])
@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("kernel", ["triangular", "gaussian", "tricube"])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_dense_independent(method, degree, kernel, dimensions):
    fit, at = sample(dimensions, degree, kernel, bandwidth=0.8)
    hat, own, e = dense(fit, at)
    n, lever = len(e), np.diag(own)[:, None]
    omega = fit.weights[:, None]
    freedom = (omega * (np.eye(n) - own) ** 2 / omega.T).sum()
    each = {
        "homoskedastic": (omega * e**2).sum(0) / freedom / omega,
        "hc0": e**2,
        "hc1": e**2 * n / freedom,
        "hc2": e**2 / (1 - lever),
        "hc3": e**2 / (1 - lever) ** 2,
    }[method]
    np.testing.assert_allclose(standard_error(fit, at, method), np.sqrt(hat**2 @ each), rtol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_dense_derivative(order):
    fit, at = sample(degree=2, kernel="gaussian")
    hat, _, e = dense(fit, at, (order,))
    np.testing.assert_allclose(standard_error(fit, at, "hc0", derivative=(order,)), np.sqrt(hat**2 @ e**2), rtol=1e-9)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_dense_cluster(dimensions):
    fit, at = sample(dimensions)
    hat, own, e = dense(fit, at)
    n, omega, names = len(e), fit.weights[:, None], np.unique(fit.cluster)
    freedom = (omega * (np.eye(n) - own) ** 2 / omega.T).sum()
    total = sum((hat[:, fit.cluster == g] @ e[fit.cluster == g]) ** 2 for g in names)
    factor = len(names) / (len(names) - 1) * (n - 1) / freedom
    np.testing.assert_allclose(standard_error(fit, at, "cluster"), np.sqrt(factor * total), rtol=1e-9)


@pytest.mark.parametrize("lag", [0, 1, 5, None])
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("ties", [False, True])
def test_dense_hac(ties, dimensions, lag):
    """Newey-West on the points as they are, times the factor that makes it unbiased for independent noise."""
    fit, at = sample(dimensions)
    if ties:
        fit = replace(fit, x=np.round(fit.x, 1))
    hat, own, e = dense(fit, at)
    times, rank = np.unique(fit.x[:, 0], return_inverse=True)
    used = int(4 * (len(times) / 100) ** (2 / 9)) if lag is None else lag
    bartlett = np.maximum(1 - np.abs(rank[:, None] - rank) / (used + 1), 0)
    rest = np.eye(len(e)) - own
    expected = np.einsum("qi,ij,qj->q", hat, bartlett * (rest / fit.weights @ rest.T), hat)
    for c in range(2):
        score = hat * e[:, c]
        variance = np.einsum("qi,ij,qj->q", score, bartlett, score) * (hat**2 / fit.weights).sum(1) / expected
        np.testing.assert_allclose(standard_error(fit, at, "hac", lag=lag)[:, c], np.sqrt(variance), rtol=1e-8)


@pytest.mark.parametrize("ties", [False, True])
def test_hac_is_unbiased_for_independent_noise(ties):
    """Mean variance of 2,000 samples at n = 300; without the factor the variance at the ends is 30 to 60% too low."""
    fit, _ = sample(n=300, responses=2000, degree=2, bandwidth=0.2)
    x = np.round(fit.x * 60) / 60 if ties else fit.x
    noise = np.random.default_rng(0).normal(size=fit.y.shape)
    fit = replace(fit, x=x, y=noise, weights=np.ones(300))
    at = np.array([[0.0], [0.1], [0.5], [1.0]])
    exact = (dense(replace(fit, y=noise[:, :1]), at)[0] ** 2).sum(1)
    np.testing.assert_allclose((standard_error(fit, at, "hac") ** 2).mean(1), exact, rtol=0.04)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("neighbours", [1, 3, 7])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_dense_nearest(dimensions, neighbours, ties, weighted):
    rng = np.random.default_rng(5)
    x = rng.integers(0, 6, (40, dimensions)) * 0.1 if ties else rng.random((40, dimensions))
    y = rng.normal(size=(40, 2))
    omega = rng.random(40) + 0.5 if weighted else np.ones(40)
    expected = np.empty_like(y)
    for j in range(40):
        distance = np.linalg.norm(x - x[j], axis=1)
        distance[j] = np.inf
        near = distance <= np.sort(distance)[neighbours - 1] * (1 + 1e-9)
        mean = np.average(y[near], axis=0, weights=omega[near])
        expected[j] = (y[j] - mean) / np.sqrt(1 + omega[j] / omega[near].sum())
    got = neighbour_residuals(x, y, neighbours, omega if weighted else None)
    np.testing.assert_allclose(got, expected, atol=1e-12)


# ------------------------------------------------------------------------------------------------ laws

every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_scale_and_shift(method):
    fit, at = sample()
    one = standard_error(fit, at, method)
    np.testing.assert_allclose(standard_error(replace(fit, y=-3 * fit.y + 7), at, method), 3 * one, rtol=1e-8)
    moved = replace(fit, x=2 * fit.x + 5, bandwidth=2 * fit.bandwidth)
    np.testing.assert_allclose(standard_error(moved, 2 * at + 5, method), one, rtol=1e-7)


@every_method
def test_order_of_the_points_does_not_matter(method):
    fit, at = sample()
    order = np.random.default_rng(1).permutation(len(fit.x))
    mixed = LinearSmoother(fit.spec, fit.x[order], fit.y[order], fit.weights[order], fit.bandwidth, fit.cluster[order])
    np.testing.assert_allclose(standard_error(mixed, at, method), standard_error(fit, at, method), rtol=1e-9)


@every_method
def test_points_of_weight_zero_are_not_there(method):
    fit, at = sample()
    weights = fit.weights.copy()
    weights[::3] = 0
    kept = weights > 0
    part = LinearSmoother(fit.spec, fit.x[kept], fit.y[kept], weights[kept], fit.bandwidth, fit.cluster[kept])
    whole = replace(fit, weights=weights)
    np.testing.assert_array_equal(standard_error(whole, at, method), standard_error(part, at, method))


@every_method
def test_responses_do_not_see_each_other(method):
    fit, at = sample()
    both = standard_error(fit, at, method)
    for c in range(2):
        alone = standard_error(replace(fit, y=fit.y[:, c : c + 1]), at, method)
        np.testing.assert_allclose(alone[:, 0], both[:, c], rtol=1e-9)


@every_method
def test_empty_windows_are_nan(method):
    fit, _ = sample()
    got = standard_error(fit, np.array([[0.5], [9.0]]), method)
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1]).all()


def test_order_of_the_hc_family():
    fit, at = sample()
    hc0, hc1, hc2, hc3 = (standard_error(fit, at, m) for m in ("hc0", "hc1", "hc2", "hc3"))
    assert (hc0 <= hc2).all()
    assert (hc2 <= hc3).all()
    assert (hc0 < hc1).all()


def test_equal_residuals_make_hc1_homoskedastic():
    """A uniform window over everything gives the mean; responses +-1 then have residuals of one size."""
    x = np.linspace(0, 1, 20)[:, None]
    y = np.where(np.arange(20) % 2, 1.0, -1.0)[:, None]
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["uniform"]), x, y, np.ones(20), np.array([2.0]))
    for method in ("homoskedastic", "hc1", "hc2"):
        np.testing.assert_allclose(standard_error(fit, x[:3], method), np.sqrt(20 / 19 / 20), rtol=1e-12)


def test_one_cluster_a_point_is_hc1():
    fit, at = sample()
    alone = replace(fit, cluster=np.arange(len(fit.x)))
    np.testing.assert_allclose(standard_error(alone, at, "cluster"), standard_error(fit, at, "hc1"), rtol=1e-9)


def test_points_without_a_residual():
    """A lonely point has no fit of degree 1 and, at degree 0, a leverage of 1: only estimates that use it are lost."""
    x = np.concatenate([np.linspace(0, 1, 30), [5.0]])[:, None]
    y = np.cos(20 * x)
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["uniform"], 1), x, y, np.ones(31), np.array([0.7]))
    at = np.array([[0.5], [1.0]])
    for method in ("hc0", "hc1", "hc2", "hc3", "homoskedastic"):
        kept = replace(fit, x=x[:30], y=y[:30], weights=np.ones(30))
        np.testing.assert_allclose(standard_error(fit, at, method), standard_error(kept, at, method), rtol=1e-9)
    mean = replace(fit, spec=LocalPolynomialSpec(KERNELS["uniform"], 0))
    assert np.isnan(standard_error(mean, x[-1:], "hc3")).all()
    assert standard_error(mean, x[-1:], "hc0")[0, 0] == 0
    assert standard_error(mean, x[-1:], "nearest")[0, 0] > 0
    with pytest.raises(ArgumentError, match="1 have too few"):
        standard_error(fit, at, "hac")


def test_many_points_in_linear_time():
    """200,000 points and as many queries: no n x m array could exist."""
    rng = np.random.default_rng(2)
    x = np.sort(rng.random((200_000, 1)), 0)
    y = np.sin(9 * x) + 0.5 * rng.normal(size=x.shape)
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["epanechnikov"], 1), x, y, np.ones(len(x)), np.array([0.02]))
    expected = np.sqrt(0.25 * KERNELS["epanechnikov"].roughness / (len(x) * 0.02))
    for method in ("homoskedastic", "hc3", "nearest"):
        assert np.median(standard_error(fit, x, method)) == pytest.approx(expected, rel=0.02)


def test_bad_input():
    fit, at = sample()
    with pytest.raises(ArgumentError, match="unknown method 'white'; known: asymptotic, cluster"):
        standard_error(fit, at, "white")
    with pytest.raises(ArgumentError, match="neighbours must be a whole number"):
        standard_error(fit, at, "nearest", neighbours=0)
    with pytest.raises(ArgumentError, match="lag must be"):
        standard_error(fit, at, "hac", lag=-1)
    with pytest.raises(ArgumentError, match="need the cluster"):
        standard_error(replace(fit, cluster=None), at, "cluster")
    with pytest.raises(ArgumentError, match="at least 2 clusters"):
        standard_error(replace(fit, cluster=np.zeros(len(fit.x), int)), at, "cluster")
    with pytest.raises(ArgumentError, match="that of the value"):
        standard_error(fit, at, "asymptotic", derivative=(1,))
    past = replace(fit, spec=LocalPolynomialSpec(fit.spec.kernel, 1, past=True))
    with pytest.raises(ArgumentError, match="two-sided"):
        standard_error(past, at, "asymptotic")
    with pytest.raises(ArgumentError, match="at least 1 residual degree"):
        residual_variance(replace(fit, bandwidth=np.array([1e-7]), spec=LocalPolynomialSpec(fit.spec.kernel, 0)))
    with pytest.raises(ArgumentError, match="at least 3 points on a line"):
        residual_variance(sample(2)[0], "difference")
    with pytest.raises(ArgumentError, match="unknown method"):
        response_variance(fit, "homoskedastic")
