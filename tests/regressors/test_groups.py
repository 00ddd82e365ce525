"""Many series in one fit equal a fit a series."""

import time

import numpy as np
import pytest

from kernadv.kernels import KERNELS
from kernadv.regression import EmptyWindowWarning, KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson


def series(d=1, seed=0):
    """Series of different lengths, places and responses, with queries in and a little outside of each."""
    rng = np.random.default_rng(seed)
    sizes = [40, 9, 25, 12]
    names = np.repeat(["b", "a", "long name", "c"], sizes)
    x = rng.random((len(names), d)) * 5 + np.repeat([0.0, 3.0, 1e4, -50.0], sizes)[:, None]
    y = np.stack([np.sin(x[:, 0]), x.sum(1)], axis=1) + rng.normal(size=(len(names), 2))
    order = rng.permutation(len(names))
    at = np.concatenate([x[::2], x[::5] + 0.1])
    return x[order], y[order], names[order], rng.random(len(names))[order] + 0.5, at, np.r_[names[::2], names[::5]]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("side", ["both", "past"])
@pytest.mark.parametrize(("degree", "d"), [(0, 1), (1, 1), (0, 2)])
def test_equal_a_loop_over_groups(kernel, side, degree, d):
    x, y, names, weights, at, asked = series(d)
    regressor = LocalPolynomial(degree, bandwidth=[2.0, 2.5][:d], kernel=kernel, side=side)
    with pytest.warns(EmptyWindowWarning) if side == "past" and degree else _nothing():
        got, error = regressor.fit(x, y, weights, groups=names).predict(at, return_std=True, groups=asked)
        hat = regressor.hat_matrix(at, groups=asked)
    for name in np.unique(names):
        own, queries = names == name, asked == name
        alone = LocalPolynomial(degree, bandwidth=[2.0, 2.5][:d], kernel=kernel, side=side)
        with pytest.warns() if np.isnan(got[queries]).any() else _nothing():
            expected = alone.fit(x[own], y[own], weights[own]).predict(at[queries])
            rows = alone.hat_matrix(at[queries])
        np.testing.assert_allclose(got[queries], expected, atol=1e-9)
        np.testing.assert_allclose(hat[np.ix_(queries, own)], rows, atol=1e-9)
        np.testing.assert_allclose(np.nan_to_num(hat[np.ix_(queries, ~own)]), 0.0, atol=1e-15)
    assert (np.isnan(error) == np.isnan(got)).all()


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return False


@pytest.mark.parametrize("ties", ["count", "distinct"])
def test_neighbours_are_of_the_own_group(ties):
    x, y, names, _, at, asked = series()
    got = KNeighborsSmoother(6, ties=ties).fit(x, y, groups=names).predict(at, groups=asked)
    for name in np.unique(names):
        own, queries = names == name, asked == name
        alone = KNeighborsSmoother(6, ties=ties).fit(x[own], y[own])
        np.testing.assert_allclose(got[queries], alone.predict(at[queries]), atol=1e-9)


def test_past_of_a_series_without_past():
    """A kernel without an edge reaches other series only if it is let."""
    fit = NadarayaWatson(1.0, kernel="exponential", side="past")
    fit.fit([[0.0], [1.0], [5.0], [6.0]], [0.0, 1.0, 2.0, 3.0], groups=[1, 1, 2, 2])
    with pytest.warns(EmptyWindowWarning, match="1 of 2 queries have no estimate .* row 1"):
        got = fit.predict([[6.5], [4.0]], groups=[2, 2])
    assert got[0] > 2.0
    assert np.isnan(got[1])


def test_unseen_group():
    fit = LocalLinear(2.0).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0], groups=["a"] * 3)
    with pytest.warns(EmptyWindowWarning, match="row 1: its group may not be in the fit"):
        got = fit.predict([[1.0], [1.0]], groups=["a", "z"])
    np.testing.assert_allclose(got, [1.0, np.nan])


def test_many_short_series_take_seconds():
    """1e4 series of 100 points and a query a point."""
    rng = np.random.default_rng(0)
    x, names = rng.random((1_000_000, 1)) * 100, np.repeat(np.arange(10_000), 100)
    y = rng.normal(size=len(x))
    fit = LocalLinear(20.0).fit(x[:1000], y[:1000], groups=names[:1000])
    fit.predict(x[:1000], groups=names[:1000])  # compiles
    start = time.process_time()
    fit.fit(x, y, groups=names)
    got = fit.predict(x, groups=names)
    assert time.process_time() - start < 30.0
    for name in (0, 5_000, 9_999):
        own = names == name
        np.testing.assert_allclose(got[own], LocalLinear(20.0).fit(x[own], y[own]).predict(x[own]), atol=1e-9)


def test_selection_sees_the_series():
    x, y, names, _, _, _ = series()
    fit = NadarayaWatson("leave_one_out", kernel="gaussian").fit(x, y, groups=names)
    assert 0.0 < fit.bandwidth_[0] < 100.0  # not the distance between the series
    assert "in 4 series" in fit.summary()
