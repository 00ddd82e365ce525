"""Does a column matter: the statistic by hand, size, power, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

from kernadv import KernadvError
from kernadv.regression import KNeighborsSmoother, LocalLinear, NadarayaWatson
from kernadv.regression.inference import significance

RNG = np.random.default_rng(0)
X = RNG.random((80, 2))
Y = np.sin(4 * X[:, 0]) + 0.3 * RNG.standard_normal(80)


def test_the_statistic_by_hand():
    """Dense fits with and without the column; every draw flips the signs of the residuals of the fit without it."""
    h = LocalLinear().fit(X[:, :1], Y).bandwidth_[0]
    without = LocalLinear(h).fit(X[:, :1], Y).hat_matrix(X[:, :1])
    widths = np.ptp(X[:, 1]) * np.array([0.25, 0.5, 1.0, 4.0])
    value = without @ Y
    residual = (Y - value) / np.sqrt(1 - np.diag(without))
    order = np.lexsort([Y, X[:, 1], X[:, 0]])
    signs = np.where(np.random.default_rng(7).random((80, 99)) < 0.5, -1.0, 1.0)
    draws = np.empty((80, 99))
    draws[order] = signs * residual[order, None]
    every = np.column_stack([Y, value[:, None] + draws])
    largest = np.full(100, -np.inf)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        hats = [LocalLinear([h, width]).fit(X, Y).hat_matrix(X) for width in widths]
    for hat in hats:
        rows = ~np.isnan(hat[:, 0])
        if rows.mean() >= 0.9:
            before = ((every - without @ every)[rows] ** 2).sum(0)
            after = ((every[rows] - hat[rows] @ every) ** 2).sum(0)
            gain = before / after - 1
            largest = np.maximum(largest, (gain - gain.mean()) / gain.std())
    got = significance(LocalLinear(0.5).fit(X, Y), 1, draws=99, seed=7)
    np.testing.assert_allclose(got.statistic, largest[0], rtol=1e-8)
    np.testing.assert_allclose(got.p_value, np.mean(largest >= largest[0]), rtol=1e-12)


def rejections(correlation, effect, samples, model):
    rng, found = np.random.default_rng(1), []
    for seed in range(samples):
        x = ndtr(rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 100))
        y = np.sin(4 * x[:, 0]) + effect(x) + 0.3 * rng.standard_normal(100)
        found.append(significance(model.fit(x, y), 1, draws=39, seed=seed).p_value[0] <= 0.05)
    return np.mean(found)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_size(correlation):
    """Of 200 samples; the benchmark has a thousand.  Within three standard errors of 5%."""
    assert 0.004 < rejections(correlation, lambda x: 0.0, 200, LocalLinear(0.5)) < 0.096


def test_power():
    """A wave has no slope, and an interaction no effect on average."""
    for effect in (lambda x: 0.4 * np.sin(2 * np.pi * x[:, 1]), lambda x: 2 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5)):
        assert rejections(0.0, effect, 20, LocalLinear(0.5)) > 0.8


def test_one_column_against_none():
    assert significance(NadarayaWatson(0.5).fit(X[:, :1], Y), 0).p_value == [0.005]
    assert significance(NadarayaWatson(0.5).fit(X[:, 1:], Y), 0).p_value[0] > 0.1


def test_names_neighbours_groups_and_several_responses():
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    fit = KNeighborsSmoother(30, degree=1).fit(frame, np.column_stack([Y, X[:, 1]]))
    both = significance(fit, "b").p_value
    assert both[0] > 0.05
    assert both[1] == 0.005
    np.testing.assert_array_equal(both, significance(fit, 1).p_value)
    shifted = LocalLinear(0.5, kernel="gaussian").fit(X, Y + 5 * (np.arange(80) % 2), groups=np.arange(80) % 2)
    assert significance(shifted, 0).p_value == [0.005]


def test_neither_order_nor_units_matter():
    order = RNG.permutation(80)
    one = significance(LocalLinear(0.5).fit(X, Y), 1)
    other = significance(LocalLinear(0.5).fit(X[order] * [1, 1000], 5 * Y[order]), 1)
    np.testing.assert_allclose(one.statistic, other.statistic, rtol=1e-6)
    assert one.p_value == other.p_value


def test_errors():
    fit = LocalLinear(0.5).fit(X, Y)
    mixed = LocalLinear([0.5, 0.0], categorical={1: "unordered"}).fit(np.column_stack([X[:, 0], np.arange(80) % 2]), Y)
    flat = LocalLinear(0.5, kernel="gaussian").fit(np.column_stack([X[:, 0], np.ones(80)]), Y)
    for arguments, message in (
        ((fit, 2), "column must be a whole number >= 0 and <= 1, got 2"),
        ((fit, "b"), "there is no column 'b'; known: none, X had no names"),
        ((mixed, 0), "without categorical columns"),
        ((flat, 1), "column 1 is constant: it cannot have an effect"),
        (("fit", 0), "expected a fitted regressor or a LinearSmoother, got 'fit'"),
    ):
        with pytest.raises((KernadvError, TypeError), match=message):
            significance(*arguments)
    with pytest.raises(KernadvError, match="draws must be a whole number >= 19, got 5"):
        significance(fit, 0, draws=5)
