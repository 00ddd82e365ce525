"""Bandwidths and lambdas chosen together."""

import numpy as np
import pytest

from kernadv.regression import LocalLinear, LocalPolynomial, NadarayaWatson

RNG = np.random.default_rng(0)
KIND = RNG.integers(0, 3, 150)
X = np.column_stack([RNG.random(150), KIND])
SHIFTED = np.sin(6 * X[:, 0]) + np.array([0.0, 2.0, -1.0])[KIND] + 0.2 * RNG.normal(size=150)
SAME = np.sin(6 * X[:, 0]) + 0.2 * RNG.normal(size=150)


def criteria(fit, x, y):
    """Leave-one-out, GCV and AICc of a fit, from its hat matrix."""
    hat = fit.hat_matrix(x)
    residual, trace, n = y - hat @ y, np.trace(hat), len(y)
    mean = np.mean(residual**2)
    return {
        "leave_one_out": np.mean((residual / (1 - np.diag(hat))) ** 2),
        "gcv": mean / (1 - trace / n) ** 2,
        "aicc": np.log(mean) + 1 + 2 * (trace + 1) / (n - trace - 2),
    }


@pytest.mark.parametrize("kernel", ["wang_van_ryzin", "li_racine_ordered", "aitchison_aitken", "li_racine"])
@pytest.mark.parametrize("name", ["leave_one_out", "gcv", "aicc"])
@pytest.mark.parametrize("degree", [0, 1])
def test_criterion_and_its_minimum(kernel, name, degree):
    """The criterion is that of the fit, and no bandwidth nearby has a smaller one."""
    fit = LocalPolynomial(degree, bandwidth=name, kernel="gaussian", categorical={1: kernel}).fit(X, SHIFTED)
    value = fit.selection_.value
    assert criteria(fit, X, SHIFTED)[name] == pytest.approx(value, rel=1e-9)
    largest = fit.categories_[0].largest
    for factor in (0.8, 0.95, 1.05, 1.25):
        for step in (-0.05, -0.01, 0.0, 0.01, 0.05):
            h = fit.bandwidth_ * [factor, 1.0] + [0.0, step]
            if 0.0 <= h[1] <= largest:
                other = LocalPolynomial(degree, bandwidth=h, kernel="gaussian", categorical={1: kernel}).fit(X, SHIFTED)
                assert criteria(other, X, SHIFTED)[name] >= value - 1e-9 * abs(value)
    assert fit.selection_.value <= fit.selection_.curve.min()
    assert "selected by" in fit.summary()


def test_what_lambda_says():
    """Levels that differ stay apart; levels that do not are smoothed out."""
    apart = NadarayaWatson(kernel="gaussian", categorical={1: "unordered"}).fit(X, SHIFTED)
    alike = NadarayaWatson(kernel="gaussian", categorical={1: "unordered"}).fit(X, SAME)
    assert apart.bandwidth_[1] < 0.02
    assert alike.bandwidth_[1] > 0.3


@pytest.mark.parametrize(
    ("kernel", "field"),
    [
        ("ordered", "mean_ordered_wangvanryzin"),
        ("unordered", "mean_unordered_aitchisonaitken"),
        ("li_racine", "mean_unordered_liracine"),
    ],
)
def test_not_above_the_criterion_at_the_bandwidths_of_r_np(oracle, kernel, field):
    case = oracle("np_airquality_mixed_lc")
    x, y = np.column_stack([case["x_cont"], case["x_disc"]]), np.array(case["y"], float)
    theirs = [*case["bandwidth_canonical"], case["lambda"]]
    given = NadarayaWatson(theirs, kernel="gaussian", categorical={2: kernel}).fit(x, y)
    np.testing.assert_allclose(given.predict(x), case["expected"][field], rtol=1e-8)  # it is their estimate
    for name in ("leave_one_out", "gcv", "aicc"):
        fit = NadarayaWatson(name, kernel="gaussian", categorical={2: kernel}).fit(x, y)
        assert fit.selection_.value <= criteria(given, x, y)[name]
        assert fit.selection_.value == pytest.approx(criteria(fit, x, y)[name], rel=1e-9)


def test_several_categorical_columns_alone():
    x = np.column_stack([KIND, RNG.integers(0, 2, 150)])
    fit = NadarayaWatson(categorical={0: "unordered", 1: "ordered"}).fit(x, SHIFTED)
    assert fit.bandwidth_.shape == (2,)
    assert criteria(fit, x, SHIFTED)["leave_one_out"] == pytest.approx(fit.selection_.value, rel=1e-9)
    assert fit.bandwidth_[0] < 0.1
    many = np.column_stack([RNG.random(150), RNG.integers(0, 2, (150, 4))])
    fit = LocalLinear("aicc", kernel="gaussian", categorical=dict.fromkeys(range(1, 5), "unordered")).fit(many, SAME)
    assert criteria(fit, many, SAME)["aicc"] == pytest.approx(fit.selection_.value, rel=1e-9)


def test_groups_weights_and_several_responses():
    groups, times = np.arange(150) % 2, 1 + np.arange(150) % 3
    fit = LocalLinear(kernel="gaussian", categorical={1: "unordered"}).fit(X, SHIFTED, groups=groups, frequency=times)
    rows = np.repeat(np.arange(150), times)
    again = LocalLinear(kernel="gaussian", categorical={1: "unordered"}).fit(
        X[rows], SHIFTED[rows], groups=groups[rows]
    )
    np.testing.assert_array_equal(fit.bandwidth_, again.bandwidth_)
    twice = LocalLinear(categorical={1: "unordered"}).fit(X, np.column_stack([SHIFTED, SHIFTED]))
    once = LocalLinear(categorical={1: "unordered"}).fit(X, SHIFTED)
    assert twice.selection_.value == pytest.approx(2 * once.selection_.value, rel=1e-9)


def test_constant_responses_and_bad_data():
    flat = NadarayaWatson(categorical={1: "unordered"}).fit(X, 0 * SAME)
    assert flat.selection_.flat
    np.testing.assert_allclose(flat.predict(X), 0.0, atol=1e-15)
    with pytest.raises(ValueError, match="x is constant"):
        NadarayaWatson(categorical={1: "unordered"}).fit(X * [0.0, 1.0], SAME)
    with pytest.raises(ValueError, match="needs at least 3 rows of positive weight"):
        NadarayaWatson(categorical={1: "unordered"}).fit(X[:2], SAME[:2])
