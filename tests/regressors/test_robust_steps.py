"""Robust steps: lowess, loess and a double loop agree; several series, repeated rows; errors of the estimate."""

import numpy as np
import pytest

from kernadv import KernadvError
from kernadv.regression import KNeighborsSmoother, LocalLinear, NadarayaWatson

RNG = np.random.default_rng(0)
X = np.sort(RNG.random(120))[:, None]
Y = np.sin(6 * X[:, 0]) + 0.2 * RNG.standard_t(2, 120)


def agree(got, expected, rtol):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)


def test_lowess_of_r(oracle):
    case = oracle("stats_lowess_mcycle_robust")
    x = np.array(case["x"])[:, None]
    fit = KNeighborsSmoother(case["k"], degree=1, robust_steps=case["robust_steps"]).fit(x, case["y"])
    agree(fit.predict(x), case["expected"]["lowess"], case["rtol"])


@pytest.mark.parametrize("degree", [1, 2])
def test_symmetric_loess_of_r(oracle, degree):
    case = oracle("stats_lowess_mcycle_robust")
    x, y, expected = np.array(case["x"])[:, None], case["y"], case["expected"]
    smoother = KNeighborsSmoother(case["k"], degree=degree, robust_steps=case["robust_steps"])
    agree(smoother.fit(x, y).predict(x), expected[f"loess{degree}"], case["rtol"])
    assert f"{expected[f's{degree}'][0]:.4g}" in smoother.summary()
    agree(smoother.fit(x, y, case["weights"]).predict(x), expected[f"loess{degree}_weights"], case["rtol"])


def test_lowess_of_statsmodels():
    lowess = pytest.importorskip("statsmodels.nonparametric.smoothers_lowess").lowess
    for steps in (1, 3):
        theirs = lowess(Y, X[:, 0], frac=0.3, it=steps, return_sorted=False)
        fit = KNeighborsSmoother(36, degree=1, robust_steps=steps).fit(X, Y)
        agree(fit.predict(X), theirs, 1e-10)


def by_hand(x, y, h, steps):
    """Cleveland's definition for a local mean."""
    kernel, robust = np.maximum(1.0 - ((x - x.T) / h) ** 2, 0.0), np.ones(len(y))
    for _ in range(steps):
        residual = np.abs(y - (kernel * robust) @ y / (kernel @ robust))
        share = residual / (6.0 * np.median(residual))
        robust = np.where(share < 0.001, 1.0, np.where(share > 0.999, 0.0, (1.0 - share**2) ** 2))
    return (kernel * robust) @ y / (kernel @ robust)


def test_the_definition_series_by_series():
    """Each series has its own scale."""
    series = np.arange(120) % 2
    y = Y * (1 + 9 * series)
    fit = NadarayaWatson(0.1, robust_steps=4).fit(X, y, groups=series)
    got = fit.predict(X, groups=series)
    for own in (0, 1):
        agree(got[series == own], by_hand(X[series == own], y[series == own], 0.1, 4), 1e-12)


def test_a_frequency_repeats_rows():
    count = RNG.integers(0, 3, 120)
    for smoother in (LocalLinear(0.2, robust_steps=3), KNeighborsSmoother(30, degree=1, robust_steps=3)):
        once = smoother.fit(X, Y, frequency=count).predict(X, return_std=True)
        twice = smoother.fit(np.repeat(X, count, axis=0), np.repeat(Y, count)).predict(X, return_std=True)
        agree(once, twice, 1e-12)


def test_the_bandwidth_is_chosen_before_the_steps():
    plain, robust = LocalLinear().fit(X, Y), LocalLinear(robust_steps=3).fit(X, Y)
    assert plain.bandwidth_ == robust.bandwidth_
    assert np.abs(plain.predict(X) - robust.predict(X)).max() > 0.05


def test_a_gross_outlier_counts_nothing():
    y = np.sin(6 * X[:, 0]) + 0.1 * RNG.standard_normal(120)
    spoilt = y.copy()
    spoilt[60] += 1e6
    fit = LocalLinear(0.2, robust_steps=3).fit(X, spoilt)
    assert fit.hat_matrix(X)[:, 60].tolist() == [0.0] * 120
    agree(fit.hat_matrix(X) @ y, fit.predict(X), 1e-9)
    assert np.abs(fit.predict(X) - LocalLinear(0.2, robust_steps=3).fit(X, y).predict(X)).max() < 0.03
    assert np.abs(fit.derivative(X)).max() < 10
    limits = fit.interval(X[10:110])
    assert (limits.high - limits.low).max() < 1.0
    assert np.isfinite(fit.loo_predict()).all()


def test_an_exact_fit_ends_the_steps():
    y = 2.0 * X[:, 0]
    y[7] = 50.0
    fit = NadarayaWatson(1e-9, robust_steps=3).fit(X, y)
    agree(fit.predict(X), y, 0.0)


def test_the_standard_error_is_that_of_the_estimate():
    """10% of the errors are ten times as large; the standard deviation of 400 estimates beside the standard errors."""
    rng, at = np.random.default_rng(1), np.array([[0.1], [0.5], [1.0]])
    estimates, errors, plain = [], [], []
    for _ in range(400):
        y = 0.1 * rng.standard_normal(120) * np.where(rng.random(120) < 0.1, 10.0, 1.0)
        value, error = LocalLinear(0.3, robust_steps=3).fit(X, y).predict(at, return_std=True)
        estimates.append(value)
        errors.append(error)
        plain.append(LocalLinear(0.3).fit(X, y).predict(at))
    ratio = np.sqrt(np.mean(np.square(errors), axis=0)) / np.std(estimates, axis=0)
    assert ((ratio > 0.85) & (ratio < 1.15)).all()
    assert (np.std(estimates, axis=0) < 0.6 * np.std(plain, axis=0)).all()


@pytest.mark.parametrize(
    ("smoother", "y", "message"),
    [
        (LocalLinear(0.2, robust_steps=-1), Y, "robust_steps must be a whole number >= 0, got -1"),
        (LocalLinear(0.2, robust_steps=1.5), Y, "robust_steps must be a whole number >= 0, got 1.5"),
        (LocalLinear(0.2, robust_steps=3), np.column_stack([Y, Y]), "one response, each has weights of its own; got 2"),
        (LocalLinear("mse_rule", robust_steps=3), Y, "robust_steps need one bandwidth for all queries"),
    ],
)
def test_errors(smoother, y, message):
    with pytest.raises(KernadvError, match=message):
        smoother.fit(X, y)


def test_tensors_on_a_device():
    torch = pytest.importorskip("torch")
    with pytest.raises(KernadvError, match="robust_steps= is for data in main memory"):
        LocalLinear(0.2, robust_steps=3, backend="torch").fit(torch.tensor(X), torch.tensor(Y))
