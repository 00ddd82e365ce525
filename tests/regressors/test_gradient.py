"""Derivatives of the Nadaraya-Watson estimate itself."""

import numpy as np
import pytest

from kernadv import KernadvError
from kernadv.kernels import KERNELS
from kernadv.regression import EmptyWindowWarning, KNeighborsSmoother, NadarayaWatson

RNG = np.random.default_rng(0)
X = np.column_stack([RNG.random((80, 2)), RNG.integers(0, 3, 80)])
Y = np.column_stack([np.sin(5 * X[:, 0]) + X[:, 1], X[:, 2]])
AT = np.column_stack([RNG.uniform(0.2, 0.8, (9, 2)), RNG.integers(0, 3, 9)])
STEP = 1e-6


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize("kernel", sorted(set(KERNELS) - {"uniform"}))
def test_difference_quotient(kernel, radial):
    """In both columns, with weights, groups and a categorical column; two responses."""
    groups, asked = np.arange(80) % 2, np.arange(9) % 2
    fit = NadarayaWatson([0.5, 0.7, 0.2], kernel=kernel, radial=radial, categorical={2: "unordered"})
    fit.fit(X, Y, 0.5 + RNG.random(80), groups=groups)
    got = fit.derivative(AT, groups=asked)
    assert got.shape == (9, 2, 2)
    for axis in range(2):
        ahead = fit.predict(AT + STEP * np.eye(3)[axis], groups=asked)
        behind = fit.predict(AT - STEP * np.eye(3)[axis], groups=asked)
        np.testing.assert_allclose(got[:, :, axis], (ahead - behind) / (2 * STEP), atol=1e-7)
        order = tuple(np.eye(2, dtype=int)[axis].tolist())
        np.testing.assert_array_equal(fit.derivative(AT, order, groups=asked), got[:, :, axis])


def test_on_a_line_and_outside():
    fit = NadarayaWatson(0.3).fit(X[:, :1], Y[:, 0])
    assert fit.derivative(AT[:, :1]).shape == (9,)
    np.testing.assert_allclose(fit.derivative(AT[:, :1], 0), fit.predict(AT[:, :1]))
    with pytest.warns(EmptyWindowWarning, match="1 of 2 queries have no estimate"):
        got = fit.derivative([[0.5], [9.0]])
    assert np.isnan(got).tolist() == [False, True]


@pytest.mark.parametrize(
    ("regressor", "message"),
    [
        (NadarayaWatson(0.3, side="past"), "no derivative here: one-sided windows jump; use degree >= 1"),
        (NadarayaWatson(0.3, kernel="uniform"), "the uniform kernel has no derivative; use a smooth kernel"),
        (KNeighborsSmoother(9), "its bandwidth changes with the query; use degree >= 1"),
    ],
)
def test_no_derivative(regressor, message):
    with pytest.raises(KernadvError, match=message):
        regressor.fit(X[:, :1], Y[:, 0]).derivative(AT[:, :1])
    with pytest.raises(KernadvError, match="order 2 needs degree >= 2, got degree=0"):
        regressor.derivative(AT[:, :1], 2)
