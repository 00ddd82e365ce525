"""Prediction intervals: refits without each row, coverage of new responses, and a width that follows the noise."""

from math import ceil

import numpy as np
import pytest

from kernadv import KernadvError
from kernadv.regression import EmptyWindowWarning, KNeighborsSmoother, LocalLinear, NadarayaWatson

RNG = np.random.default_rng(0)
X = np.sort(RNG.random(60))[:, None]
Y = np.sin(6 * X[:, 0]) + (0.05 + X[:, 0] ** 2) * RNG.standard_normal(60)
AT = np.array([[0.1], [0.5], [0.9]])


def without(model, x, y, weights):
    """Estimate at each row by a refit without it."""
    rows = range(len(x))
    return np.array(
        [model.fit(np.delete(x, i, 0), np.delete(y, i), np.delete(weights, i)).predict(x[[i]])[0] for i in rows]
    )


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_the_definition_by_refits(level):
    weights = RNG.uniform(0.5, 2.0, 60)
    model, ones = LocalLinear(0.3), np.ones(60)
    error = np.abs(Y - without(model, X, Y, weights)) * np.sqrt(weights / weights.mean())
    scale = NadarayaWatson("leave_one_out", kernel="gaussian").fit(X, error)
    own = without(NadarayaWatson(scale.bandwidth_, kernel="gaussian"), X, error, ones)
    for method, at, each in (("local", scale.predict(AT), own), ("constant", np.ones(3), ones)):
        got = LocalLinear(0.3).fit(X, Y, weights).prediction_interval(AT, level, method)
        half = np.sort(error / each)[ceil(level * 61) - 1] * at
        np.testing.assert_allclose(got.estimate, model.fit(X, Y, weights).predict(AT), rtol=1e-12)
        np.testing.assert_allclose(got.high - got.estimate, half, rtol=1e-6)
        np.testing.assert_allclose(got.estimate - got.low, half, rtol=1e-6)
        assert got.covers == "new response"


NOISES = {"one size": lambda x: np.full_like(x, 0.3), "growing": lambda x: 0.05 + x**2}


def shares(model, n, noise, samples, rng):
    """Share of new responses inside, over all samples, and mean widths in the first and the last fifth."""
    inside, width = [], []
    for _ in range(samples):
        x, q = rng.random((n, 1)), rng.uniform(0.02, 0.98, (50, 1))
        y, new = (np.sin(6 * z[:, 0]) + noise(z[:, 0]) * rng.standard_normal(len(z)) for z in (x, q))
        got = model.fit(x, y).prediction_interval(q)
        inside.append((got.low <= new) & (new <= got.high))
        width.append([np.nanmean((got.high - got.low)[part]) for part in (q[:, 0] < 0.2, q[:, 0] > 0.8)])
    return np.mean(inside), np.mean(width, axis=0)


@pytest.mark.filterwarnings("ignore::kernadv.EmptyWindowWarning")
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("n", "samples"), [(100, 100), (500, 40)])
@pytest.mark.parametrize("model", [LocalLinear(), KNeighborsSmoother(20, degree=1)])
def test_coverage_and_width(model, n, samples, noise):
    inside, (first, last) = shares(model, n, NOISES[noise], samples, np.random.default_rng(1))
    assert 0.935 <= inside <= 0.97
    assert (last / first < 1.3) if noise == "one size" else (last / first > 5)


def test_skewed_errors():
    rng, inside = np.random.default_rng(2), []
    for _ in range(100):
        x, q = rng.random((100, 1)), rng.uniform(0.02, 0.98, (50, 1))
        y, new = (z[:, 0] + rng.exponential(1.0, len(z)) for z in (x, q))
        got = LocalLinear(0.5).fit(x, y).prediction_interval(q)
        inside.append((got.low <= new) & (new <= got.high))
    assert 0.935 <= np.mean(inside) <= 0.97


def test_groups_and_categories_keep_their_own_scale():
    x, of = np.repeat(X, 2, axis=0), np.arange(120) % 2
    y = np.sin(6 * x[:, 0]) + np.where(of, 1.0, 0.05) * RNG.standard_normal(120)
    grouped = LocalLinear(0.3).fit(x, y, groups=of)
    mixed = LocalLinear([0.3, 0.0], categorical={1: "unordered"}).fit(np.column_stack([x, of]), y)
    for got in (
        grouped.prediction_interval([[0.5], [0.5]], groups=[0, 1]),
        mixed.prediction_interval([[0.5, 0], [0.5, 1]]),
    ):
        narrow, wide = got.high - got.low
        assert wide > 4 * narrow


def test_several_responses():
    both = LocalLinear(0.3).fit(X, np.column_stack([Y, 10 * Y])).prediction_interval(AT, method="constant")
    one = LocalLinear(0.3).fit(X, Y).prediction_interval(AT, method="constant")
    np.testing.assert_allclose(both.high[:, 0], one.high, rtol=1e-12)
    np.testing.assert_allclose(both.high[:, 1], 10 * one.high, rtol=1e-12)


def test_outliers_and_robust_steps():
    """The centre is that of the robust fit; the errors are those of the responses themselves."""
    y = Y.copy()
    y[::10] += 30.0
    fit = LocalLinear(0.4, robust_steps=3).fit(X, y)
    got = fit.prediction_interval(AT, 0.95, "constant")
    np.testing.assert_array_equal(got.estimate, fit.predict(AT))
    assert (got.high - got.estimate > 25.0).all()


def test_without_noise():
    got = LocalLinear(0.3).fit(X, 2 * X[:, 0]).prediction_interval(AT)
    np.testing.assert_allclose(got.high, got.low, atol=1e-10)
    same = LocalLinear(0.3).fit(X, np.ones(60)).prediction_interval(AT)
    np.testing.assert_allclose(same.high, 1.0, atol=1e-10)


def test_errors():
    fit = LocalLinear(0.3).fit(X, Y)
    with pytest.raises(
        KernadvError, match=r"level of 0\.99 needs at least 99 rows with an estimate from the others, got 60"
    ):
        fit.prediction_interval(AT, 0.99)
    few = LocalLinear(3.0).fit(X[::7], Y[::7])
    assert few.prediction_interval(AT, 0.9, "constant").covers == "new response"  # of 9 rows, which are enough
    with pytest.raises(KernadvError, match="unknown method of a prediction interval 'plus'; known: constant, local"):
        fit.prediction_interval(AT, method="plus")
    with pytest.raises(KernadvError, match="level must lie strictly between 0 and 1"):
        fit.prediction_interval(AT, 95)
    with pytest.warns(EmptyWindowWarning, match="1 of 2 queries have no estimate"):
        assert np.isnan(fit.prediction_interval([[0.5], [9.0]]).high).tolist() == [False, True]
