"""Every kind of bad input gets a clear error, and odd but good input works."""

import numpy as np
import pytest
from scipy import sparse

from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson

X, Y = np.linspace(0, 1, 12)[:, None], np.linspace(0, 1, 12) ** 2
BAD = np.where(np.arange(12) == 3, np.nan, Y)

FIT = {
    "no rows": (LocalLinear(), (np.empty((0, 1)), []), "Found array with 0 sample"),
    "1 row, to select": (NadarayaWatson(), (X[:1], Y[:1]), "needs at least 3 rows of positive weight, got n_samples=1"),
    "2 rows, to select": (LocalLinear(), (X[:2], Y[:2]), "needs at least 3 rows of positive weight, got n_samples=2"),
    "2 rows, quadratic": (LocalPolynomial(2, bandwidth=1), (X[:2], Y[:2]), "degree=2 needs at least 3 rows.*=2; lower"),
    "constant x": (LocalLinear(), (0 * X, Y), "x is constant"),
    "NaN in X": (LocalLinear(1), (BAD[:, None], Y), "Input X contains NaN"),
    "inf in X": (LocalLinear(1), (BAD[:, None] - np.inf, Y), "contains NaN|contains infinity"),
    "NaN in y": (LocalLinear(1), (X, BAD), "Input y contains NaN"),
    "inf in y": (LocalLinear(1), (X, Y + np.inf), "Input y contains infinity"),
    "lengths": (LocalLinear(1), (X, Y[:-1]), "inconsistent numbers of samples"),
    "three dimensions": (LocalLinear(1), (X[:, :, None], Y), "Found array with dim 3"),
    "strings in X": (LocalLinear(1), ([["a"], ["b"]], [0, 1]), "could not convert string to float"),
    "strings in y": (LocalLinear(1), (X, ["a"] * 12), "y must hold numbers|could not convert string"),
    "sparse X": (LocalLinear(1), (sparse.csr_matrix(X), Y), "Sparse data was passed"),
    "negative weight": (LocalLinear(1), (X, Y, -Y), r"sample_weight must not be negative, got -1.0 in row 11"),
    "zero weights": (LocalLinear(1), (X, Y, 0 * Y), "sample_weight is zero in every row"),
    "NaN weight": (LocalLinear(1), (X, Y, BAD), "weight contains NaN"),
    "weights of another length": (LocalLinear(1), (X, Y, Y[1:]), "sample_weight.shape"),
    "weights too large": (
        LocalLinear(1),
        (X, Y, np.full(12, 1e160)),
        r"sample_weight must lie between 1e-100 and 1e\+100, or be 0, got 1e\+160 to 1e\+160; only their ratios matter",
    ),
    "weights too small": (LocalLinear(1), (X, Y, np.full(12, 1e-300)), "sample_weight must lie between 1e-100"),
    "radial": (LocalLinear(1, radial="yes"), (X, Y), "radial must be True or False, got 'yes'"),
    "categorical list": (LocalLinear(1, categorical=[0]), (X, Y), r"categorical must be a dict of columns and their"),
    "categorical True": (LocalLinear(1, categorical={True: "ordered"}), (X, Y), "categorical names column True, which"),
    "groups of another length": (LocalLinear(1), (X, Y, None, [1, 2]), "inconsistent numbers of samples"),
    "groups of floats": (LocalLinear(1), (X, Y, None, Y), "groups must be one str or int a row.*float64"),
    "bandwidth 0": (LocalLinear(0), (X, Y), "bandwidth must be positive and finite, got 0; it is the half-width"),
    "bandwidth negative": (LocalLinear([-0.3]), (X, Y), "bandwidth must be positive"),
    "bandwidth NaN": (LocalLinear(np.nan), (X, Y), "bandwidth must be positive and finite, got nan"),
    "bandwidth inf": (LocalLinear(np.inf), (X, Y), "bandwidth must be positive and finite, got inf"),
    "bandwidths too many": (LocalLinear([1, 2]), (X, Y), "one number a column, 1, got 2"),
    "bandwidth None": (LocalLinear(None), (X, Y), "bandwidth must be a number, one number a column, a selector's name"),
    "bandwidth True": (LocalLinear(True), (X, Y), "bandwidth must be a number"),
    "unknown selector": (LocalLinear("best"), (X, Y), "unknown bandwidth selector 'best'; known: aicc"),
    "unknown kernel": (LocalLinear(1, kernel="box"), (X, Y), "unknown kernel 'box'; known: biweight"),
    "kernel 3": (LocalLinear(1, kernel=3), (X, Y), "kernel must be a name or a Kernel, got 3"),
    "unknown side": (LocalLinear(1, side="left"), (X, Y), "unknown side 'left'; known: both, past"),
    "degree 4": (LocalPolynomial(4), (X, Y), "degree must be a whole number >= 0 and <= 3, got 4"),
    "degree 0.5": (LocalPolynomial(0.5), (X, Y), "degree must be a whole number >= 0, got 0.5"),
    "degree True": (LocalPolynomial(True), (X, Y), "degree must be a whole number"),
    "k > n": (KNeighborsSmoother(13), (X, Y), r"k=13 neighbours are more than the points \(n_samples=12"),
    "k 0": (
        KNeighborsSmoother(0),
        (X, Y),
        "k must be a whole number >= 1, or a share between 0 and 1, or .leave_one_out., got 0",
    ),
    "k 1.5": (KNeighborsSmoother(1.5), (X, Y), "k must be a whole number >= 1, or a share"),
    "k text": (KNeighborsSmoother("3"), (X, Y), "k must be a whole number >= 1, or a share"),
    "k > a group": (KNeighborsSmoother(3), (X, Y, None, [0] * 10 + [1] * 2), "k=3 neighbours are more than the points"),
    "ties": (KNeighborsSmoother(3, ties="all"), (X, Y), "unknown ties 'all'; known: count, distinct"),
    "scale": (KNeighborsSmoother(3, scale=0), (X, Y), "scale must be positive and finite, got 0"),
    "categories, past": (
        NadarayaWatson([0.0], side="past", categorical={0: "ordered"}),
        (X, Y),
        "side='past' needs a continuous column",
    ),
}


@pytest.mark.parametrize("case", FIT)
def test_bad_fit(case):
    regressor, data, message = FIT[case]
    with pytest.raises((ValueError, TypeError), match=message):
        regressor.fit(*data)


ASK = {
    "columns": (lambda fit: fit.predict(np.ones((2, 3))), "X has 3 features, but .* is expecting 1"),
    "NaN": (lambda fit: fit.predict([[np.nan]]), "Input X contains NaN"),
    "groups": (lambda fit: fit.predict(X, groups=["a"] * 12), "the fit had no groups: pass groups= to fit as well"),
    "order": (lambda fit: fit.derivative(X, 2), "a derivative of order 2 needs degree >= 2, got degree=1"),
    "order -1": (lambda fit: fit.derivative(X, -1), "order must be a whole number >= 0"),
    "order 0.5": (lambda fit: fit.derivative(X, 0.5), "order must be a whole number >= 0"),
    "orders": (lambda fit: fit.derivative(X, (1, 0)), "in each of 1 continuous columns"),
    "level": (lambda fit: fit.interval(X, 95), "level must lie strictly between 0 and 1, got 95"),
    "method": (lambda fit: fit.interval(X, method="exact"), "unknown method 'exact'"),
}


@pytest.mark.parametrize("case", ASK)
def test_bad_question(case):
    ask, message = ASK[case]
    with pytest.raises((ValueError, TypeError), match=message):
        ask(LocalLinear(1.0).fit(X, Y))


def test_gradients_have_order_1():
    fit = LocalPolynomial(2, bandwidth=2.0).fit(np.random.default_rng(0).random((30, 2)), np.arange(30.0))
    with pytest.raises(
        ValueError, match=r"with 2 continuous columns order must be 1 \(gradient\) or a tuple of 2, got 2"
    ):
        fit.derivative([[0.5, 0.5]], 2)


def test_groups_must_be_named_again():
    fit = LocalLinear(1.0).fit(X, Y, groups=[1] * 12)
    with pytest.raises(ValueError, match="the fit had groups: name the group of each query with groups="):
        fit.predict(X)
    with pytest.raises(ValueError, match="groups were int64 in fitting, got <U1"):
        fit.predict(X, groups=["a"] * 12)


@pytest.mark.parametrize("regressor", [NadarayaWatson(), LocalLinear(), KNeighborsSmoother()], ids=repr)
def test_odd_but_good(regressor):
    np.testing.assert_allclose(regressor.fit(X, np.full(12, 3.0)).predict(X), 3.0)  # equal responses
    twice = np.repeat(X, 2, axis=0)  # duplicated x
    assert np.isfinite(regressor.fit(twice, np.arange(24.0)).predict(twice)).all()
    wide = np.random.default_rng(0).random((8, 3))
    assert np.isfinite(regressor.fit(wide, wide[:, 0]).predict(wide)).all()


def test_one_weight_for_all_rows():
    alone = LocalLinear(0.4).fit(X, Y, 2.0).predict(X, return_std=True)
    np.testing.assert_allclose(alone, LocalLinear(0.4).fit(X, Y).predict(X, return_std=True), rtol=1e-12)


def test_more_columns_than_rows():
    wide = np.random.default_rng(0).random((8, 12))
    assert np.isfinite(NadarayaWatson(2.0).fit(wide, wide[:, 0]).predict(wide)).all()
