"""Errors of linear functionals against dense matrices written out here, and how often their intervals hold the truth."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.signal import lfilter
from scipy.stats import t as student
from statsmodels.tsa.arima_process import ArmaProcess
from statsmodels.tsa.stattools import levinson_durbin

from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.inference import effects, functionals
from kernadv.regression.inference.functionals import Clustered, Noise, Serial, residuals_of
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.series import Points

RNG = np.random.default_rng(3)
N = 60
X = np.sort(RNG.random(N))
WEIGHTS = RNG.uniform(0.5, 2.0, N)
Y = np.sin(6 * X)[:, None] + 0.3 * RNG.normal(size=(N, 2)) + 0.3 * RNG.normal(size=(12, 2))[np.arange(N) // 5]
CLUSTER = RNG.permutation(np.repeat([5, 7, 2, 9, 0, 1], [4, 6, 10, 10, 14, 16]))
AT = np.array([0.05, 0.4, 0.8])


def points(at):
    return Points(np.reshape(at, (-1, 1)), np.empty((np.size(at), 0), np.int64), None)


def smoother(x=X, y=Y, weights=WEIGHTS, cluster=CLUSTER, degree=1, h=0.45):
    spec = LocalPolynomialSpec(KERNELS["epanechnikov"], degree)
    return LinearSmoother(spec, x[:, None], y, weights, np.array([h]), cluster)


def dense(x, at, degree, h, weights, derivative=0):
    """Hat vectors of local polynomials with the Epanechnikov kernel, by least squares."""
    rows = []
    for q, width in zip(at, np.broadcast_to(h, np.shape(at)), strict=True):
        root = np.sqrt(weights * np.maximum(1.0 - ((x - q) / width) ** 2, 0.0))
        design = (x - q)[:, None] ** np.arange(degree + 1)
        rows.append([1.0, 1.0, 2.0][derivative] * (np.linalg.pinv(root[:, None] * design)[derivative] * root))
    return np.array(rows)


def scaled(degree=2, h=0.45):
    """Functionals and residual-making matrix of the responses times sqrt(w), and these responses."""
    root = np.sqrt(WEIGHTS / WEIGHTS.mean())
    make = np.eye(N) - root[:, None] * dense(X, X, degree, h, WEIGHTS) / root
    return dense(X, AT, degree, h, WEIGHTS) / root, make, root[:, None] * Y


def freedom(form, omega):
    """Satterthwaite's, of a quadratic form of normal noise."""
    both = form @ omega
    return np.trace(both) ** 2 / np.trace(both @ both)


# ------------------------------------------------------------------------------------------------ clusters


@pytest.mark.parametrize("column", [0, 1])
def test_clusters_by_their_definition(column):
    """The moments of the correlation, CR2 under the working model, and its degrees of freedom."""
    rows, make, y = scaled()
    e, same = make @ y[:, column], (CLUSTER[:, None] == CLUSTER).astype(float)
    models = [np.eye(N), same]
    seen = [e @ e, e @ same @ e]
    expected = [[np.trace(weight @ make @ model @ make.T) for model in models] for weight in models]
    alone, together = np.linalg.solve(expected, seen)
    r = min(max(together / (alone + together), 0.0), 0.97)
    omega = (1 - r) * np.eye(N) + r * same
    left = make @ omega @ make.T
    noise = Noise(smoother().raised(), "cluster")
    half = noise.half_width(rows * np.sqrt(WEIGHTS / WEIGHTS.mean()), 0.9)
    for row, got in zip(rows, half[:, column], strict=True):
        form, variance, mean = np.zeros((N, N)), 0.0, 0.0
        for g in np.unique(CLUSTER):
            own = np.flatnonzero(g == CLUSTER)
            part = np.ix_(own, own)
            adjust = np.real(sqrtm(omega[part]) @ np.linalg.inv(sqrtm(left[part])))
            np.testing.assert_allclose(adjust @ left[part] @ adjust.T, omega[part], atol=1e-8)
            a = np.zeros(N)
            a[own] = adjust.T @ row[own]
            form += np.outer(a, a)
            variance += (a @ e) ** 2
            mean += row[own] @ omega[part] @ row[own]
        np.testing.assert_allclose(np.trace(form @ left), row @ omega @ row, rtol=1e-8)  # unbiased in the model
        assert np.isclose(mean, row @ omega @ row)
        expected_half = student.ppf(0.95, freedom(form, left)) * np.sqrt(variance)
        np.testing.assert_allclose(got, expected_half, rtol=1e-6)


def test_independent_errors_are_clusters_of_one():
    """HC2 with the variance of each residual; any labels that differ."""
    rows, make, y = scaled()
    left = make @ make.T
    unscaled = rows * np.sqrt(WEIGHTS / WEIGHTS.mean())
    got = Noise(smoother().raised(), "independent").half_width(unscaled, 0.95)
    for row, half in zip(rows, got, strict=True):
        form = np.diag(row**2 / np.diag(left))
        error = np.sqrt([(make @ one) @ form @ (make @ one) for one in y.T])
        np.testing.assert_allclose(half, student.ppf(0.975, freedom(form, left)) * error, rtol=1e-7)
    alone = smoother(cluster=RNG.permutation(N)).raised()
    np.testing.assert_allclose(Noise(alone, "cluster").half_width(unscaled, 0.95), got, rtol=1e-9)


def test_many_points_have_nearly_the_same_errors(monkeypatch):
    """Beyond `EXACT` the residuals count as uncorrelated and clusters as uncorrelated too: within 15% with wide windows."""
    x, rng = np.linspace(0.0, 1.0, 600), np.random.default_rng(1)
    e = lfilter([1.0], [1.0, -0.3], rng.normal(size=(600, 1)), axis=0)
    fit = smoother(x, np.sin(6 * x)[:, None] + 0.3 * e, np.ones(600), rng.integers(0, 200, 600), h=0.6)
    rows = fit.hat(points(AT))
    for errors in ("independent", "cluster", "serial"):
        exact = Noise(fit, errors).half_width(rows, 0.68)
        monkeypatch.setattr(functionals, "EXACT", 10)
        assert np.abs(Noise(fit, errors).half_width(rows, 0.68) / exact - 1).max() < 0.15, errors
        monkeypatch.undo()


# ------------------------------------------------------------------------------------------------ serial errors


@pytest.mark.parametrize("model", [[], [0.6], [-0.5], [0.5, 0.3], [0.2, 0.1, -0.3, 0.2]])
def test_autocorrelations(model):
    expected = ArmaProcess(np.append(1.0, -np.array(model))).acovf(40)
    got = functionals._autocorrelations(np.array(model), 40)
    np.testing.assert_allclose(got, expected / expected[0], atol=1e-10)
    if model:
        partial = levinson_durbin(got[: len(model) + 1], len(model), isacov=True)[2][1:]
        np.testing.assert_allclose(functionals._from_partial(partial), model, atol=1e-10)


@pytest.mark.parametrize("curve", [np.zeros(N, int), (np.arange(N) >= 35).astype(int)], ids=["one series", "two"])
@pytest.mark.parametrize("column", [0, 1])
def test_serial_by_its_definition(column, curve):
    """Residuals of the autoregression have the autocorrelations that are seen; variance and degrees of freedom."""
    rows, make, y = scaled()
    kind = Serial(residuals_of(smoother().raised()), column, curve)
    order, e = len(kind.autoregression), make @ y[:, column]
    lag = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    same = curve[:, None] == curve

    def correlations(model):
        long = ArmaProcess(np.append(1.0, -model)).acovf(N)
        return np.where(same, (long / long[0])[lag], 0.0)

    omega = correlations(kind.autoregression)
    left = make @ omega @ make.T
    seen = [e @ np.where(same & (lag == k), 1.0, 0.0) @ e for k in range(order + 1)]
    mean = [np.sum(left[same & (lag == k)]) for k in range(order + 1)]
    np.testing.assert_allclose(np.array(mean) / mean[0], np.array(seen) / seen[0], atol=1e-3)
    variance, got = kind.variance(rows)
    for q, row in enumerate(rows):
        form = np.diag(row**2 / np.diag(left))
        ratio = (row @ omega @ row) / (row @ row)
        np.testing.assert_allclose(variance[q], ratio * (e @ form @ e), rtol=1e-7)
        slope = []
        for unit in 1e-5 * np.eye(order):
            up, down = (row @ correlations(kind.autoregression + step) @ row for step in (unit, -unit))
            slope.append((np.log(up) - np.log(down)) / 2e-5)
        power = np.array([omega[0, :order]]) if order else np.zeros((1, 0))
        toeplitz = power[0][lag[:order, :order]] if order else np.zeros((0, 0))
        innovation = 1.0 - kind.autoregression @ omega[0, 1 : order + 1]
        spread = innovation * np.linalg.inv(toeplitz) / np.trace(make @ make.T) if order else np.zeros((0, 0))
        doubt = np.array(slope) @ spread @ np.array(slope) if order else 0.0
        np.testing.assert_allclose(1 / got[q], 1 / freedom(form, left) + doubt / 2, rtol=1e-2)


def test_points_of_one_place_are_their_mean():
    """Serial errors do not ask for an order of ties: repeated rows are as one of their mean and their total weight."""
    x, y, w = X.copy(), Y.copy(), WEIGHTS.copy()
    x[11] = x[10]
    ties = smoother(x, y.copy(), w.copy()).raised()
    kept = np.arange(N) != 11
    y[10], w[10] = (w[10] * y[10] + w[11] * y[11]) / (w[10] + w[11]), w[10] + w[11]
    once = smoother(x, y, w).raised().take(kept)
    shuffled = RNG.permutation(N)
    expected = Noise(once, "serial").half_width(once.hat(points(AT)), 0.95)
    for fit in (ties, ties.take(shuffled)):
        np.testing.assert_allclose(Noise(fit, "serial").half_width(fit.hat(points(AT)), 0.95), expected, rtol=1e-7)


# ------------------------------------------------------------------------------------------------ coverage

PLACES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


def noise(kind, columns, rng, n=200):
    """AR(1) with .6, or 30 clusters with correlation .5; and the clusters."""
    label = np.arange(n) * 30 // n
    if kind == "serial":
        return lfilter([0.8], [1, -0.6], rng.normal(size=(n + 100, columns)), axis=0)[100:], label
    label = rng.permutation(label) if kind == "random" else label
    return np.sqrt(0.5) * (rng.normal(size=(30, columns))[label] + rng.normal(size=(n, columns))), label


def held(kind, designs, columns, band=False):
    """Share of the intervals at each place, or of the bands, that hold the sine."""
    rng, hits = np.random.default_rng(7), []
    at = points(np.linspace(0.0, 1.0, 11) if band else PLACES)
    for _ in range(designs):
        x = np.sort(rng.random(200))
        e, label = noise(kind, columns, rng)
        fit = smoother(x, np.sin(2 * np.pi * x)[:, None] + 0.5 * e, np.ones(200), label, h=0.25)
        errors = "serial" if kind == "serial" else "cluster"
        got = effects.band(fit, at, 0.95, True, errors) if band else effects.values(fit, at, 0.95, "robust", errors)
        inside = (got.low <= np.sin(2 * np.pi * at.x)) & (np.sin(2 * np.pi * at.x) <= got.high)
        hits.append(inside.all(axis=0).mean() if band else inside.mean(axis=1))
    return np.mean(hits, axis=0)


@pytest.mark.parametrize("kind", ["serial", "random", "blocks"])
def test_intervals_hold_their_level(kind):
    """At least 91%, the places together; 5 x 150 intervals: less 3 standard errors of the mean share of a place."""
    shares = held(kind, 5, 30)
    assert shares.mean() > 0.91, shares
    assert (shares > 0.91 - 3 * np.sqrt(0.91 * 0.09 / 150)).all(), shares


@pytest.mark.parametrize("kind", ["serial", "random"])
def test_bands_hold_their_level(kind):
    """90% of 60, less 3 standard errors; bands of independent errors hold the sine in less than 60%."""
    assert held(kind, 4, 15, band=True) > 0.90 - 3 * np.sqrt(0.09 / 60)


def test_a_window_that_is_interpolated_shows_nothing():
    x = np.repeat(np.arange(10.0), 4) + np.tile([0.0, 0.01, 0.02, 5.0], 10)
    fit = smoother(x, RNG.normal(size=(40, 1)), np.ones(40), np.arange(40) // 4, h=0.04).raised()
    rows = fit.hat(points([1.01, 1.025]))
    assert np.isfinite(rows).all()
    for errors in ("cluster", "serial", "independent"):
        assert np.isnan(Noise(fit, errors).half_width(rows, 0.95)).all()
    assert (Noise(fit, "independent").half_width(0.0 * rows, 0.95) == 0.0).all()


def test_draws_of_clusters_have_the_size_of_the_residuals():
    kind = Clustered(residuals_of(smoother().raised()), 0, CLUSTER)
    drawn = kind.draws(50, np.random.default_rng(0))
    for g in np.unique(CLUSTER):  # one sign a cluster
        own = drawn[g == CLUSTER] / drawn[g == CLUSTER][:, :1]
        assert np.isin(np.round(own, 9), [-1.0, 1.0]).all()
        assert (own == own[:1]).all() or np.ptp(own, axis=0).max() < 1e-9
