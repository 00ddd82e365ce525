"""What stands in for an estimate that its window does not determine: brute force, in scikit-learn, wrong settings."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.model_selection import LeaveOneOut as LeaveOneOutSplits

from kernadv import ArgumentError, ArgumentTypeError
from kernadv.regression import EmptyWindowWarning, KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson

RNG = np.random.default_rng(4)
SPARSE = np.concatenate([RNG.random(25), [3.0, 3.0, 3.1, 9.0]])
ASK = np.concatenate([np.linspace(-1.0, 11.0, 37), SPARSE])
Y = np.sin(SPARSE) + 0.1 * RNG.standard_normal(len(SPARSE))


def rows(x, weights, at, degree, h, past=False):
    """Hat row of one query by weighted least squares in float64, Epanechnikov kernel of any dimension; None if undefined."""
    u = (x - at) / h
    w = np.prod(np.maximum(1.0 - u**2, 0.0), axis=1) * weights
    if past:
        w = w * (x[:, 0] <= at[0])
    powers = np.stack(np.meshgrid(*[np.arange(degree + 1)] * x.shape[1], indexing="ij"), -1).reshape(-1, x.shape[1])
    powers = powers[powers.sum(1) <= degree]
    powers = powers[np.argsort(powers.sum(1), kind="stable")]
    design = np.sqrt(w)[:, None] * np.prod(u[:, None, :] ** powers, axis=2)
    if np.linalg.matrix_rank(design, tol=1e-9) < len(powers):
        return None
    return np.linalg.pinv(design)[0] * np.sqrt(w)


def brute(x, weights, at, degree, h, empty, fall_back, past=False):
    """Hat rows by the definitions of `kernadv.regression.instead`.  # (m, n)"""
    degrees = range(degree, -1 if fall_back else degree - 1, -1)

    def settled(q, h):
        found = (rows(x, weights, q, d, h, past) for d in degrees)
        return next((row for row in found if row is not None), None)

    out = []
    for q in at:
        row = settled(q, h)
        if row is None and empty == "widen":
            row = next((row for j in range(1, 40) if (row := settled(q, 2.0**j * h)) is not None), None)
        if row is None and empty == "nearest":
            places = [p for p in np.unique(x, axis=0) if settled(p, h) is not None and not (past and p[0] > q[0])]
            if places:
                row = settled(min(places, key=lambda p: np.linalg.norm((p - q) / h)), h)
        out.append(np.full(len(x), np.nan) if row is None else row)
    return np.array(out)


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("empty", ["nan", "nearest", "widen"])
@pytest.mark.parametrize("fall_back", [False, True])
@pytest.mark.parametrize("side", ["both", "past"])
@pytest.mark.filterwarnings("ignore::kernadv.EmptyWindowWarning")
def test_on_a_line(degree, empty, fall_back, side):
    weights = RNG.uniform(0.5, 2.0, len(Y))
    fit = LocalPolynomial(degree, bandwidth=0.3, side=side, empty=empty, fall_back=fall_back)
    fit.fit(SPARSE, Y, weights)
    hat = brute(SPARSE[:, None], weights, ASK[:, None], degree, np.array([0.3]), empty, fall_back, side == "past")
    np.testing.assert_allclose(fit.hat_matrix(ASK), hat, atol=1e-7)
    value, error = fit.predict(ASK, return_std=True)
    np.testing.assert_allclose(value, hat @ Y, atol=1e-7)
    size = np.sqrt((hat**2 / weights).sum(1))
    np.testing.assert_allclose(error / np.nanmax(error), size / np.nanmax(size), atol=1e-7)


@pytest.mark.parametrize("empty", ["nearest", "widen"])
@pytest.mark.parametrize("fall_back", [False, True])
def test_in_the_plane(empty, fall_back):
    x = np.vstack([RNG.random((30, 2)), [[3.0, 3.0], [0.0, 6.0]]])
    y, at = RNG.standard_normal(len(x)), RNG.uniform(-2.0, 7.0, (25, 2))
    fit = LocalLinear([0.5, 0.8], empty=empty, fall_back=fall_back).fit(x, y)
    hat = brute(x, np.ones(len(x)), at, 1, np.array([0.5, 0.8]), empty, fall_back)
    np.testing.assert_allclose(fit.hat_matrix(at), hat, atol=1e-7)
    np.testing.assert_allclose(fit.predict(at), hat @ y, atol=1e-7)


@pytest.mark.parametrize("empty", ["nearest", "widen"])
@pytest.mark.parametrize(
    "estimator", [NadarayaWatson(0.3), LocalLinear(0.3), LocalLinear(0.3, fall_back=True)], ids=repr
)
def test_loo_is_that_of_refits(estimator, empty):
    fit = estimator.set_params(empty=empty).fit(SPARSE, Y)
    refits = [estimator.fit(x, y).predict(q)[0] for x, y, q in left_out()]
    np.testing.assert_allclose(fit.fit(SPARSE, Y).loo_predict(), refits, atol=1e-7)


def left_out():
    for train, test in LeaveOneOutSplits().split(SPARSE):
        yield SPARSE[train], Y[train], SPARSE[test]


@pytest.mark.parametrize("empty", ["nearest", "widen"])
def test_groups_keep_apart(empty):
    """Each series as alone; an unseen series has no estimate."""
    x, series = np.array([0.0, 1.0, 2.0, 5.0, 6.0, 7.0]), np.repeat(["a", "b"], 3)
    y, model = np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0]), NadarayaWatson(0.5, empty=empty)
    alone = [model.fit(x[own], y[own]).predict(q)[0] for own, q in ((series == "a", [4.9]), (series == "b", [2.2]))]
    with pytest.warns(EmptyWindowWarning, match="1 of 3 queries"):
        got = model.fit(x, y, groups=series).predict([4.9, 2.2, 0.0], groups=["a", "b", "c"])
    np.testing.assert_allclose(got, [*alone, np.nan])


def test_categories_keep_their_level():
    x = np.array([[0.0, 0], [1.0, 0], [8.0, 0], [5.0, 1], [6.0, 1]])
    fit = NadarayaWatson([0.5, 0.0], categorical={1: "unordered"}, empty="nearest").fit(x, [1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_allclose(fit.predict([[5.0, 0], [0.0, 1], [5.0, 1]]), [3.0, 4.0, 4.0])


def test_neighbours_fall_back():
    """statsmodels issue 2449 (test_duplicate_xs): its lowess and R's give 0, 1, 2, 3 at the places."""
    x = np.concatenate([[0.0], np.ones(100), np.full(100, 2.0), [3.0]])
    fit = KNeighborsSmoother(50, degree=1).fit(x, x)
    np.testing.assert_allclose(fit.predict([0.0, 1.0, 2.0, 3.0]), [0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(fit.predict([0.9, 1.1, 2.8]), [1.0, 1.0, 3.0])
    with pytest.warns(EmptyWindowWarning):
        assert np.isnan(KNeighborsSmoother(50, degree=1, fall_back=False).fit(x, x).predict([0.9])).all()


def test_one_neighbour_at_the_edge():
    """The kernel is 0 at the only neighbours: their mean; else the nearest place, or the window twice as wide."""
    x, y = np.array([0.0, 1.0, 3.0]), np.array([5.0, 7.0, 9.0])
    weights = np.maximum(1.0 - ((x - 0.4) / 0.8) ** 2, 0.0)
    np.testing.assert_allclose(KNeighborsSmoother(1, kernel="epanechnikov").fit(x, y).predict([0.4, 0.5]), [5.0, 6.0])
    for empty, value in (("nearest", 5.0), ("widen", weights @ y / weights.sum())):
        fit = KNeighborsSmoother(1, kernel="epanechnikov", empty=empty, fall_back=False).fit(x, y)
        np.testing.assert_allclose(fit.predict([0.0, 0.4]), [5.0, value])


@pytest.mark.parametrize("empty", ["nearest", "widen"])
def test_scores_are_numbers(empty):
    """Sorted x in consecutive folds, and a Cauchy design, under a compact kernel."""
    x = np.sort(RNG.standard_normal(120))
    heavy = RNG.standard_cauchy(150)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for design in (x, heavy):
            y = np.tanh(design) + 0.1 * RNG.standard_normal(len(design))
            for estimator in (NadarayaWatson(0.3, empty=empty), LocalLinear(0.3, empty=empty, fall_back=True)):
                assert np.isfinite(cross_val_score(estimator, design[:, None], y, cv=KFold(5))).all()
        search = GridSearchCV(NadarayaWatson(empty=empty), {"bandwidth": [0.1, 0.5, 2.0]}, cv=4).fit(
            x[:, None], np.tanh(x)
        )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_raise_counts():
    fit = NadarayaWatson(0.3, empty="raise").fit(SPARSE, Y)
    with pytest.raises(ArgumentError, match=r"2 of 3 queries have no estimate: .* widen it"):
        fit.predict([0.5, 20.0, 30.0])
    with pytest.raises(ArgumentError, match="1 of 1 queries"):
        fit.hat_matrix([20.0])
    assert np.isfinite(fit.predict([0.5])).all()
    assert np.isnan(fit.loo_predict()[-1])


def test_intervals_and_derivatives_stay_nan():
    fit = LocalLinear(0.3, empty="nearest", fall_back=True).fit(SPARSE, Y)
    assert np.isfinite(fit.predict([20.0])).all()
    with pytest.warns(EmptyWindowWarning):
        assert np.isnan(fit.interval([0.5, 20.0]).low).tolist() == [False, True]
    with pytest.warns(EmptyWindowWarning):
        assert np.isnan(fit.derivative([20.0])).all()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"empty": "zero"}, ArgumentError, "unknown empty 'zero'; known: nan, nearest, raise, widen"),
        ({"empty": None}, ArgumentError, "unknown empty None"),
        ({"fall_back": "yes"}, ArgumentTypeError, "fall_back must be True or False"),
    ],
)
def test_wrong_settings(settings, error, message):
    fit = LocalLinear(0.3).fit(SPARSE, Y)
    before = fit.predict([0.5])
    with pytest.raises(error, match=message):
        fit.set_params(**settings).fit(SPARSE, Y)
    np.testing.assert_array_equal(fit.predict([0.5]), before)
