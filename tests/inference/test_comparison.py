"""Two fits compared: R's anova.loess, the F test of nested lines, size and power, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import f

from kernadv import KernadvError
from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.inference import compare

RNG = np.random.default_rng(0)
X = np.sort(RNG.random(80))[:, None]
Y = 2 * X[:, 0] + 0.3 * RNG.standard_normal(80)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("spans", [(80, 1), (40, 1)]), ("degrees", [(80, 1), (80, 2)])],
)
def test_anova_of_loess(oracle, name, settings):
    case = oracle("stats_anova_loess_mcycle")
    expected, x = case["expected"][name], np.array(case["x"])[:, None]
    fits = [KNeighborsSmoother(k, degree=degree).fit(x, case["y"]) for k, degree in settings]
    for pair in (fits, fits[::-1]):  # the smaller fit comes first in the result
        got = compare(*pair)
        for field in ("delta1", "delta2", "denominator_df"):
            np.testing.assert_allclose(getattr(got, field), expected[field], rtol=case["rtol"])
        np.testing.assert_allclose(got.statistic, expected["f"], rtol=case["rtol"])
        theirs = (got.delta1[0] - got.delta1[1]) ** 2 / (got.delta2[0] - got.delta2[1])
        np.testing.assert_allclose(f.sf(got.statistic, theirs, got.denominator_df), expected["p"], rtol=1e-6)
        np.testing.assert_allclose(got.p_value, f.sf(got.statistic, got.numerator_df, got.denominator_df), rtol=1e-9)


def test_the_degrees_of_freedom_are_those_of_the_expectations():
    """RSS_0 - RSS_1 and RSS_1 of normal noise: twice the squared mean over the variance."""
    x, noise = X[::2], RNG.standard_normal((40, 20000))
    got = compare(*(model.fit(x, noise) for model in (LocalLinear(3.0), LocalLinear(0.3))))
    for square, freedom in ((got.rss[0] - got.rss[1], got.numerator_df), (got.rss[1], got.denominator_df)):
        np.testing.assert_allclose(2 * square.mean() ** 2 / square.var(), freedom, rtol=0.05)


def test_nested_polynomials():
    """Equal kernel weights: the F test of a linear model, from weighted least squares."""
    weights = RNG.uniform(0.5, 2, 80)
    small, large = (LocalPolynomial(degree, bandwidth=1e9, kernel="uniform").fit(X, Y, weights) for degree in (1, 3))
    got = compare(small, large)
    lines = [np.polyfit(X[:, 0], Y, degree, w=np.sqrt(weights)) for degree in (1, 3)]
    rss = [np.sum(weights * (Y - np.polyval(line, X[:, 0])) ** 2) for line in lines]
    np.testing.assert_allclose(got.statistic[0], (rss[0] - rss[1]) / 2 / (rss[1] / 76), rtol=1e-8)
    np.testing.assert_allclose([got.numerator_df, got.denominator_df], [2, 76], rtol=1e-6)
    np.testing.assert_allclose(got.edf, [2, 4], rtol=1e-9)


def test_a_column_less():
    """Columns may differ, and so may the unit of the weights; regressors and smoothers are compared alike."""
    x = np.column_stack([X, RNG.random(80)])
    weights = RNG.uniform(0.5, 2, 80)
    small, large = LocalLinear(0.5).fit(X, Y, weights), LocalLinear([0.5, 0.5]).fit(x, Y, 7 * weights)
    of_models, of_smoothers = compare(small, large), compare(small.as_fit(), large.as_fit())
    np.testing.assert_array_equal(of_models.p_value, of_smoothers.p_value)
    both = (
        replace(small.as_fit(), y=np.column_stack([Y, 3 * Y])),
        replace(large.as_fit(), y=np.column_stack([Y, 3 * Y])),
    )
    np.testing.assert_allclose(compare(*both).p_value, of_models.p_value[0], rtol=1e-9)


def test_size_and_power():
    """Of 2000 samples of a line, as many columns of the responses; and of a line with a bump."""
    noise = RNG.standard_normal((80, 2000))
    for bump, low, high in ((0.0, 0.035, 0.065), (0.8, 0.8, 1.0)):
        y = X + bump * np.exp(-50 * (X - 0.5) ** 2) + 0.3 * noise
        p = compare(LocalLinear(3.0).fit(X, y), LocalLinear(0.3).fit(X, y)).p_value
        assert low <= np.mean(p <= 0.05) <= high


def test_errors():
    fit = LocalLinear(0.3).fit(X, Y)
    for other, message in (
        (LocalLinear(0.3).fit(X[1:], Y[1:]), r"same responses in the same order, .* got \(80, 1\) and \(79, 1\)"),
        (LocalLinear(0.3).fit(X, 2 * Y), "same responses in the same order, .* that differ"),
        (LocalLinear(0.3, robust_steps=3).fit(X, Y), "without robust steps"),
        (LocalLinear(0.6).fit(X, Y, np.arange(1, 81)), "the fits must have the same weights"),
        (LocalLinear(0.3).fit(X, Y), "must leave more degrees of freedom"),
        (LocalLinear(1e-3).fit(X, Y), "of 80 points have no estimate; widen the bandwidth"),
        (NadarayaWatson, "expected a fitted regressor or a LinearSmoother, got <class"),
    ):
        with pytest.raises((KernadvError, TypeError), match=message):
            compare(fit, other)
