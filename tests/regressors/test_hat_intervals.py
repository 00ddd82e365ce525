"""Intervals and bands from hat vectors: neighbours, local bandwidths, categorical columns, many columns."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from kernadv import KernadvError
from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.inference import normal, proportion
from kernadv.regression.inference._rows import BAND_PARTS, INTERVAL_PARTS
from kernadv.regression.inference.bands import make_band
from kernadv.regression.inference.intervals import interval, make_interval

RNG = np.random.default_rng(0)
X = np.sort(RNG.random((120, 1)), axis=0)
Y = np.sin(6 * X[:, 0]) + 0.3 * RNG.normal(size=120)
AT = np.linspace(0.0, 1.0, 9)[:, None]


def by_rows(regressor, at, level, method):
    return make_interval(regressor.as_fit(), regressor._queries(at, None)[0], level, method, INTERVAL_PARTS)


@pytest.mark.parametrize(
    "regressor", [NadarayaWatson(0.2), LocalLinear(0.3, kernel="gaussian"), LocalPolynomial(2, bandwidth=0.4)]
)
def test_same_as_by_moments(regressor):
    """Where both ways exist: HC3 standard errors, and the proportions."""
    regressor.fit(X, Y)
    fit = regressor.as_fit()
    got, expected = by_rows(regressor, AT, 0.9, "normal"), normal(fit, AT, 0.9, "hc3")
    for ours, theirs in zip(got[:3], expected[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)
    assert got.covers == expected.covers
    corrected = interval(fit, AT, 0.9, "robust")
    np.testing.assert_allclose(by_rows(regressor, AT, 0.9, "robust").estimate, corrected.estimate, atol=1e-9)
    won = (Y[:, None] > 0).astype(float)
    regressor.fit(X, won[:, 0])
    for method in ("wilson", "jeffreys", "uniform"):
        ours = by_rows(regressor, AT, 0.9, method)
        np.testing.assert_allclose(ours.low, proportion(replace(fit, y=won), AT, 0.9, method).low, atol=1e-10)


@pytest.mark.parametrize(
    "regressor",
    [KNeighborsSmoother(25, kernel="uniform"), KNeighborsSmoother(40, degree=1), LocalLinear("lepski")],
    ids=repr,
)
def test_variance_of_the_hat_vectors(regressor):
    """``sum_j l_j^2 (y_j - mhat_-j)^2``, written out; the bias-corrected one with `correction` degrees more and HC2."""
    regressor.fit(X, Y)
    hat = regressor.hat_matrix(AT)
    error = np.sqrt(hat**2 @ (Y - regressor.loo_predict()) ** 2)
    got = regressor.interval(AT, method="normal")
    np.testing.assert_allclose(got.estimate, regressor.predict(AT), atol=1e-12)
    np.testing.assert_allclose(got.high - got.estimate, 1.959963984540054 * error, rtol=1e-7)
    assert got.covers == "smoothed target"
    corrected = regressor.interval(AT)
    assert corrected.covers == "regression function"
    if isinstance(regressor, KNeighborsSmoother):
        degree = {0: 2, 1: 2}[regressor.degree]
        more = KNeighborsSmoother(regressor.k, degree=degree, kernel=regressor.kernel).fit(X, Y)
        np.testing.assert_allclose(corrected.estimate, more.predict(AT), atol=1e-10)
        weight, residual = more.hat_matrix(AT) ** 2, Y - more.predict(X)
        squares = residual**2 / (1 - np.diag(more.hat_matrix(X)))
        freedom = weight.sum(1) ** 2 / (weight**2).sum(1) - more.degree - 1
        e, l = residual / np.sqrt(1 - np.diag(more.hat_matrix(X))), more.hat_matrix(AT)
        s = (e**3).mean() / (e**2).mean() ** 1.5 * (l**3).sum(1) / (l**2).sum(1) ** 1.5
        many = freedom >= 3  # with fewer, variances are smoothed
        assert many.sum() >= 7
        for limit, sign in ((corrected.low, 1), (corrected.high, -1)):
            t = ((corrected.estimate - limit) / np.sqrt(weight @ squares))[many]
            hall = sign * (t + s[many] * t**2 / 3 + s[many] ** 2 * t**3 / 27 + s[many] / 6)
            np.testing.assert_allclose(hall, student.ppf(0.975, freedom[many]), rtol=1e-6)


def test_bands_are_wider_than_intervals_and_agree_with_the_other_way():
    from kernadv.regression.inference import multiplier_bootstrap

    regressor = LocalLinear(0.3).fit(X, Y)
    fit = regressor.as_fit()
    points = regressor._queries(AT, None)[0]
    ours, theirs = make_band(fit, points, 0.95, False, BAND_PARTS), multiplier_bootstrap(fit, AT)
    np.testing.assert_allclose(ours.estimate, theirs.estimate, atol=1e-12)
    ratio = (ours.high - ours.low) / (theirs.high - theirs.low)  # two simulations of one quantile
    assert np.ptp(ratio) < 1e-4
    assert abs(ratio[0, 0] - 1) < 0.06
    near = KNeighborsSmoother(40, degree=1).fit(X, Y)
    inside, outside = near.interval(AT, method="normal"), near.band(AT)
    assert (outside.high - outside.low > inside.high - inside.low).all()
    assert near.band(AT, bias_corrected=True).covers == "regression function"


def test_categorical_columns_and_many_columns():
    kind = RNG.integers(0, 3, 120)
    x = np.column_stack([X, kind])
    fit = LocalLinear([0.3, 0.1], categorical={1: "unordered"}).fit(x, Y + kind)
    got = fit.interval(x[:5], method="normal")
    error = np.sqrt(fit.hat_matrix(x[:5]) ** 2 @ (Y + kind - fit.loo_predict()) ** 2)
    np.testing.assert_allclose(got.high - got.low, 2 * 1.959963984540054 * error, rtol=1e-7)
    assert (fit.band(x[:5]).high > got.high).all()
    wide = RNG.random((200, 7))
    smooth = LocalPolynomial(1, bandwidth=1.5, kernel="gaussian").fit(wide, wide[:, 0])
    assert (smooth.interval(wide[:3]).low <= smooth.interval(wide[:3]).high).all()


def test_shape_and_kind_are_those_of_predict():
    torch = pytest.importorskip("torch")
    for regressor in (LocalLinear(0.3), KNeighborsSmoother(30)):
        for y in (Y, np.column_stack([Y, Y])):
            fit = regressor.fit(X, y)
            for at in (AT, AT.astype(np.float32), torch.tensor(AT)):
                value = fit.predict(at)
                for part in (*fit.interval(at)[:3], *fit.band(at)[:3]):
                    assert type(part) is type(value)
                    assert part.shape == value.shape
                    assert part.dtype == value.dtype


def test_bad_arguments():
    fit = KNeighborsSmoother(30, degree=3).fit(X, Y)
    assert fit.interval(AT).covers == "regression function"
    with pytest.raises(KernadvError, match="needs responses that are 0 or 1"):
        fit.interval(AT, method="wilson")
    with pytest.raises(KernadvError, match="level must lie strictly between 0 and 1"):
        fit.band(AT, 95)
    with pytest.raises(KernadvError, match="no residuals; widen the bandwidth, or use a kernel that"):
        LocalLinear([1e-9, 0.0], categorical={1: "ordered"}).fit(np.column_stack([X, X > 0.5]), Y).interval(
            [[0.5, 1.0]]
        )


@pytest.mark.parametrize("case", ["neighbours", "categories"])
def test_coverage(case):
    """95% intervals for the regression function over 300 samples of 300: within 4 standard errors of .945."""
    rng, hits = np.random.default_rng(1), []
    at = np.array([[0.0], [0.3], [0.62], [1.0]])
    for _ in range(300):
        x, noise = rng.random((300, 1)), 0.3 * rng.normal(size=300)
        if case == "neighbours":
            fit = KNeighborsSmoother(60, degree=1).fit(x, np.sin(6 * x[:, 0]) + noise)
            got, truth = fit.interval(at), np.sin(6 * at[:, 0])
        else:
            kind = rng.integers(0, 2, 300)
            fit = LocalLinear([0.2, 0.0], categorical={1: "ordered"})
            fit.fit(np.column_stack([x, kind]), np.sin(6 * x[:, 0]) * (1 + kind) + noise)
            got, truth = fit.interval(np.column_stack([at, np.ones(4)])), 2 * np.sin(6 * at[:, 0])
        hits.append((got.low <= truth) & (truth <= got.high))
    share = np.mean(hits, axis=0)
    assert (np.abs(share - 0.945) < 4 * np.sqrt(0.945 * 0.055 / 300)).all(), share
