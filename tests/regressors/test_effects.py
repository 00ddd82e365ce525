"""Derivatives, average derivatives and contrasts with intervals; clusters and serial errors of the regressors."""

import numpy as np
import pytest
import statsmodels.api as sm
from nprobust import lprobust
from scipy.stats import t as student

from kernadv import EmptyWindowWarning, KernadvError
from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.inference import robust_estimate, standard_error

RNG = np.random.default_rng(5)
N = 90
X = np.sort(RNG.random((N, 1)), axis=0)
Y = np.sin(6 * X[:, 0]) + 0.3 * RNG.normal(size=N)
AT = np.array([[0.1], [0.45], [0.8]])
CLUSTERS = RNG.integers(0, 25, N)
ERRORS = ("independent", "cluster", "serial")


def dense(at, degree, h, derivative=0, kernel=lambda u: np.maximum(1.0 - u**2, 0.0)):
    """Hat vectors of local polynomials, by least squares."""
    rows = []
    for q, width in zip(np.ravel(at), np.broadcast_to(h, np.size(at)), strict=True):
        root = np.sqrt(kernel((X[:, 0] - q) / width))
        design = (X - q) ** np.arange(degree + 1)
        rows.append([1.0, 1.0, 2.0][derivative] * np.linalg.pinv(root[:, None] * design)[derivative] * root)
    return np.array(rows)


def expected(rows, own):
    """Estimate and half of the 95% interval, HC2 with Satterthwaite's degrees of freedom, from dense hat vectors."""
    make = np.eye(N) - own
    left = make @ make.T
    weight = rows**2 / np.diag(left)
    freedom = (weight @ np.diag(left)) ** 2 / ((weight @ left**2) * weight).sum(1)
    return rows @ Y, student.ppf(0.975, freedom) * np.sqrt(weight @ (make @ Y) ** 2)


def agrees(got, estimate, half, rtol=1e-6):
    np.testing.assert_allclose(got.estimate, estimate, rtol=rtol, atol=1e-8)
    np.testing.assert_allclose((got.high - got.low) / 2, half, rtol=rtol)
    assert got.covers == "regression function"


# ------------------------------------------------------------------------------------------------ other programs


def test_nprobust_slopes(oracle):
    """Its robust estimate and standard error (HC2), times the quantile of t with the degrees of freedom of the window."""
    case = oracle("nprob_sim200_drv1_p2")
    x, at = np.array(case["x"])[:, None], np.array(case["eval"])[:, None]
    model = LocalPolynomial(2, bandwidth=case["bandwidth_canonical"], kernel="triangular").fit(x, case["y"])
    got, hc2 = model.derivative(at, interval=True, level=0.9), case["expected"]["hc2"]
    np.testing.assert_allclose(got.estimate, hc2["tau_bc"], rtol=1e-7)
    freedom = robust_estimate(model.as_fit(), at, derivative=(1,)).freedom[:, 0]
    np.testing.assert_allclose((got.high - got.low) / 2, student.ppf(0.95, freedom) * hc2["se_rb"], rtol=1e-7)


def test_nprobust_slopes_live():
    x = np.round(X * 64) / 64
    model = LocalPolynomial(2, bandwidth=0.4).fit(x, Y)
    got = model.derivative(AT, interval=True)
    options = {"bwcheck": None, "masspoints": "off", "vce": "hc2", "kernel": "epa"}
    other = lprobust(Y, x[:, 0], eval=AT[:, 0], p=2, deriv=1, h=0.4, b=0.4, **options).Estimate
    np.testing.assert_allclose(got.estimate, other["tau.bc"], rtol=1e-8)
    freedom = robust_estimate(model.as_fit(), AT, derivative=(1,)).freedom[:, 0]
    np.testing.assert_allclose((got.high - got.low) / 2, student.ppf(0.975, freedom) * other["se.rb"], rtol=1e-8)


def test_locfit_slopes(oracle):
    """Degrees 2 and 3; the bias-corrected slope of a line, or of a parabola, is that of a cubic."""
    case = oracle("lf_sim200_slope")
    x, at = np.array(case["x"])[:, None], np.array(case["eval"])[:, None]
    for degree in (2, 3):
        theirs = case["expected"][str(degree)]
        model = LocalPolynomial(degree, bandwidth=0.35).fit(x, case["y"])
        np.testing.assert_allclose(model.derivative(at), theirs["slope"], rtol=case["rtol"])
        error = standard_error(model.as_fit(), at, "homoskedastic", derivative=(1,))[:, 0]
        np.testing.assert_allclose(error, np.sqrt(theirs["rv"]) * np.array(theirs["se"]), rtol=case["rtol"])
    for degree in (1, 2):
        model = LocalPolynomial(degree, bandwidth=0.35).fit(x, case["y"])
        np.testing.assert_allclose(model.derivative(at, interval=True).estimate, theirs["slope"], rtol=case["rtol"])


def test_least_squares_of_statsmodels():
    """A window that holds all points with equal weights: polynomials of one more degree, their HC2 errors."""
    model = LocalLinear(1e3, kernel="uniform").fit(X, Y)
    x, a, b = X[:, 0], AT[:, 0], np.array([0.3, 0.2, 0.9])
    quadratic = sm.OLS(Y, np.column_stack([np.ones(N), x, x**2])).fit(cov_type="HC2")
    difference = quadratic.t_test(np.column_stack([np.zeros(3), a - b, a**2 - b**2]))
    cubic = sm.OLS(Y, np.column_stack([np.ones(N), x, x**2, x**3])).fit(cov_type="HC2")
    slope = cubic.t_test(np.array([0.0, 1.0, 2 * x.mean(), 3 * (x**2).mean()]))
    for got, other, design, rows in (
        (model.contrast(AT, b[:, None]), difference, 3, np.column_stack([np.zeros(3), a - b, a**2 - b**2])),
        (model.average_derivative(), slope, 4, np.array([[0.0, 1.0, 2 * x.mean(), 3 * (x**2).mean()]])),
    ):
        np.testing.assert_allclose(got.estimate, np.squeeze(other.effect), rtol=1e-5)
        inverse = np.linalg.pinv(x[:, None] ** np.arange(design))
        left = np.eye(N) - (x[:, None] ** np.arange(design)) @ inverse
        weight = (rows @ inverse) ** 2 / np.diag(left)
        freedom = (weight @ np.diag(left)) ** 2 / ((weight @ left**2) * weight).sum(1)
        half = student.ppf(0.975, freedom) * np.ravel(other.sd)
        np.testing.assert_allclose(np.ravel(got.high - got.low) / 2, half, rtol=1e-5)


# ------------------------------------------------------------------------------------------------ dense matrices


def test_slopes_of_neighbours():
    model = KNeighborsSmoother(60, degree=1, kernel="epanechnikov").fit(X, Y)
    width = lambda at: np.sort(np.abs(X[:, 0] - at), axis=1)[:, 59]
    own = dense(X, 3, width(X))
    agrees(model.derivative(AT, interval=True), *expected(dense(AT, 3, width(AT), 1), own), rtol=1e-5)
    mean, half = expected(dense(X, 3, width(X), 1).mean(0)[None], own)
    agrees(model.average_derivative(), mean[0], half[0], rtol=1e-5)


def test_slopes_of_means():
    """The derivative of a mean is that of the estimate; its interval is around the slope of a parabola."""
    model = NadarayaWatson(0.2, kernel="gaussian").fit(X, Y)
    step = (model.predict(AT + 1e-6) - model.predict(AT - 1e-6)) / 2e-6
    np.testing.assert_allclose(model.derivative(AT), step, rtol=1e-6)
    bell = lambda u: np.exp(-(u**2) / 2)
    rows, own = dense(AT, 2, 0.2, 1, bell), dense(X, 2, 0.2, 0, bell)
    agrees(model.derivative(AT, interval=True), *expected(rows, own))
    agrees(model.average_derivative(AT), *(part[0] for part in expected(rows.mean(0)[None], own)))


def test_contrasts():
    model = LocalLinear(0.5).fit(X, Y)
    rows, own = dense(AT, 2, 0.5), dense(X, 2, 0.5)
    agrees(model.contrast(AT[1:], AT[:1]), *expected(rows[1:] - rows[0], own))
    agrees(model.contrast(AT[:1], AT[1:]), *expected(rows[0] - rows[1:], own))
    same = model.contrast(AT, AT)
    assert (same.low == 0.0).all()
    assert (same.high == 0.0).all()


def test_contrasts_that_tell_nothing():
    """Beyond the ends, where the window holds few points: NaN rather than an interval 100 ranges wide."""
    model = LocalLinear(0.3, kernel="biweight", empty="widen").fit(X[::4], Y[::4])
    with pytest.warns(EmptyWindowWarning):
        got = model.contrast(np.linspace(-0.5, 1.5, 41)[:, None], [[0.5]])
    wide = got.high - got.low
    assert 20 < np.isfinite(wide).sum() < 41
    assert np.nanmax(wide) <= 100 * np.ptp(Y[::4])


def test_levels_of_a_factor():
    """lambda = 0: independent fits, whose variances add; the shift of the second level is found."""
    kind = np.repeat(["a", "b"], 45)
    x = np.tile(np.linspace(0.0, 1.0, 45), 2)
    y = np.sin(6 * x) + 2.0 * (kind == "b") + 0.2 * RNG.normal(size=N)
    table = np.column_stack([x.astype(object), kind])
    model = LocalLinear([0.5, 0.0], categorical={1: "unordered"}).fit(table, y)
    a, b = ([[q, level] for q in (0.2, 0.6)] for level in "ab")
    got = model.contrast(b, a)
    assert ((got.low < 2.0) & (got.high > 2.0)).all()
    apart = [LocalPolynomial(2, bandwidth=0.5).fit(x[kind == level][:, None], y[kind == level]) for level in "ab"]
    at = np.array([[0.2], [0.6]])
    np.testing.assert_allclose(got.estimate, apart[1].predict(at) - apart[0].predict(at), atol=1e-9)
    grouped = LocalLinear(0.5).fit(x[:, None], y, groups=kind)
    pair = grouped.contrast(at, at, groups=(["b", "b"], ["a", "a"]))
    np.testing.assert_allclose(np.array(pair[:3]), np.array(got[:3]), rtol=1e-8)
    with pytest.raises(KernadvError, match="level"):
        model.contrast([[0.2, "c"]], [[0.2, "a"]])


def test_a_gradient_has_intervals():
    x = RNG.random((150, 2))
    model = LocalLinear([0.8, 0.9]).fit(
        x, x[:, 0] + 2 * x[:, 1] + 0.01 * RNG.normal(size=150), clusters=np.arange(150) // 5
    )
    for errors in ERRORS:
        got = model.derivative(x[:4], interval=True, errors=errors)
        assert got.estimate.shape == (4, 2)
        assert np.abs(got.estimate - [1.0, 2.0]).max() < 0.3
        assert (got.low < got.high).all()
        one = model.derivative(x[:4], (0, 1), interval=True, errors=errors)
        np.testing.assert_allclose(one.low, got.low[:, 1])
        mean = model.average_derivative(column=1, errors=errors)
        assert abs(mean.estimate - 2.0) < 0.05


# ------------------------------------------------------------------------------------------------ the ways of fit


@pytest.mark.parametrize(
    "model",
    [
        LocalLinear(0.5),
        NadarayaWatson(0.3, kernel="gaussian"),
        KNeighborsSmoother(50, degree=1),
        LocalLinear("mse_rule"),
    ],
    ids=["line", "mean", "neighbours", "local bandwidths"],
)
def test_rows_of_no_weight_and_repeated_rows(model):
    """Rows of weight 0 change nothing, whatever their cluster; repeated rows lie in the cluster of the row."""
    how_often = np.where(np.arange(N) % 9 == 0, 2, 1)
    often = np.repeat(np.arange(N), how_often)
    several = model.fit(X, np.column_stack([Y, -Y]), frequency=how_often, clusters=CLUSTERS)
    answers = lambda model: [
        np.array(part)
        for errors in ERRORS
        for got in (
            model.interval(AT, errors=errors),
            model.band(AT, errors=errors),
            model.derivative(AT, interval=True, errors=errors),
            model.contrast(AT, AT[::-1], errors=errors),
        )
        for part in got[:3]
    ]
    first = answers(several)
    again = answers(model.fit(X[often], np.column_stack([Y, -Y])[often], clusters=CLUSTERS[often].astype(str)))
    for one, other in zip(first, again, strict=True):
        assert one.shape == (3, 2)
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    first = answers(model.fit(X, Y, clusters=CLUSTERS))
    more = np.append(X, [[0.5], [0.6]], axis=0)
    fit = model.fit(
        more, np.append(Y, [50.0, 60.0]), np.append(np.ones(N), [0, 0]), clusters=np.append(CLUSTERS, [3, 99])
    )
    for one, other in zip(first, answers(fit), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_clusters_are_the_default_once_they_are_given():
    given, none = LocalLinear(0.5).fit(X, Y, clusters=CLUSTERS), LocalLinear(0.5).fit(X, Y)
    for ask in (
        lambda model, **errors: model.interval(AT, **errors),
        lambda model, **errors: model.band(AT, **errors),
        lambda model, **errors: model.derivative(AT, interval=True, **errors),
        lambda model, **errors: model.average_derivative(AT, **errors),
        lambda model, **errors: model.contrast(AT, AT[:1] + 0.05, **errors),
    ):
        np.testing.assert_array_equal(ask(given)[:3], ask(given, errors="cluster")[:3])
        np.testing.assert_array_equal(ask(none)[:3], ask(none, errors="independent")[:3])
        np.testing.assert_array_equal(ask(given, errors="independent")[:3], ask(none)[:3])
    np.testing.assert_array_equal(given.predict(AT), none.predict(AT))


def test_normal_is_without_bias_correction():
    model = LocalLinear(0.5).fit(X, Y, clusters=CLUSTERS)
    for errors in ("cluster", "serial"):
        got = model.interval(AT, method="normal", errors=errors)
        np.testing.assert_allclose(got.estimate, model.predict(AT), rtol=1e-12)
        assert got.covers == "smoothed target"
        corrected = model.interval(AT, method="auto", errors=errors)
        np.testing.assert_allclose(corrected.estimate, dense(AT, 2, 0.5) @ Y, rtol=1e-9)
        band = model.band(AT, bias_corrected=True, errors=errors)
        assert (band.high - band.low > 0.99 * (corrected.high - corrected.low)).all()
        assert band.covers == "regression function"


def test_queries_without_a_derivative_are_left_out():
    x = np.append(X, [[5.0]], axis=0)
    model = LocalLinear(0.5).fit(x, np.append(Y, 0.0))
    with pytest.warns(EmptyWindowWarning, match="1 of 91 queries have no derivative and are left out of the mean"):
        got = model.average_derivative()
    np.testing.assert_allclose(got.estimate, LocalLinear(0.5).fit(X, Y).average_derivative().estimate, rtol=1e-9)


def test_a_column_has_a_name():
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame({"kind": np.tile(["a", "b", "c"], 30), "time": X[:, 0], "size": RNG.random(N)})
    model = LocalLinear([0.1, 0.6, 0.9], categorical={"kind": "unordered"}).fit(x, Y + x["size"])
    np.testing.assert_array_equal(model.average_derivative(column="size")[:3], model.average_derivative(column=2)[:3])
    np.testing.assert_allclose(model.average_derivative(x, "time").low, model.average_derivative(column=1).low)
    for column in ("kind", 0, None, True, "other", [1]):
        with pytest.raises(KernadvError, match="column must be one of the continuous columns"):
            model.average_derivative(column=column)


BAD = {
    "errors": (
        lambda fit: fit.interval(AT, errors="hac"),
        "unknown errors 'hac'; known: auto, cluster, independent, serial",
    ),
    "no clusters": (lambda fit: fit.derivative(AT, interval=True, errors="cluster"), r"fit\(X, y, clusters=...\)"),
    "no clusters of a band": (lambda fit: fit.band(AT, errors="cluster"), r"fit\(X, y, clusters=...\)"),
    "tube": (lambda fit: fit.band(AT, method="tube", errors="serial"), "tube formula is for independent errors"),
    "wilson": (
        lambda fit: fit.interval(AT, method="wilson", errors="serial"),
        "method of intervals with errors='serial'",
    ),
    "method": (lambda fit: fit.interval(AT, method="hac", errors="serial"), "unknown method 'hac'"),
    "level": (lambda fit: fit.contrast(AT, AT, level=95), "level must lie strictly between 0 and 1"),
    "rows": (lambda fit: fit.contrast(AT, AT[:2]), "as many rows, or one of them a single one, got 3 and 2"),
    "groups": (lambda fit: fit.contrast(AT, AT, groups="abc"), "groups must be a pair"),
    "groups of no queries": (lambda fit: fit.average_derivative(groups=["a"]), "give X as well"),
    "one cluster": (lambda fit: fit.fit(X, Y, clusters=np.zeros(N, int)), "at least 2 clusters .* got 1"),
    "one cluster with weight": (
        lambda fit: fit.fit(X, Y, np.arange(N) > 3, clusters=np.arange(N) < 4),
        "at least 2 clu",
    ),
    "clusters": (lambda fit: fit.fit(X, Y, clusters=np.zeros(N)), "clusters must be one str or int a row"),
    "length": (lambda fit: fit.fit(X, Y, clusters=[1, 2]), "inconsistent numbers of samples"),
}


@pytest.mark.parametrize(("ask", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input(ask, message):
    fit = LocalLinear(0.5).fit(X, Y)
    before = fit.predict(AT)
    with pytest.raises((ValueError, TypeError), match=message):
        ask(fit)
    np.testing.assert_array_equal(fit.predict(AT), before)


def test_serial_errors_of_a_single_pair():
    """Only two rows, in one place, have residuals: there is nothing along x to learn a correlation from."""
    x, y = np.array([[0.6], [0.4], [0.8], [0.9], [0.4]]), np.array([0.7, -0.1, 0.1, -1.3, -0.4])
    fit = KNeighborsSmoother(1, ties="distinct").fit(x, y)
    with pytest.warns(EmptyWindowWarning):
        got = fit.interval(x, errors="serial")
    assert np.isnan(got.low).all()


def test_serial_errors_need_an_order():
    x = np.column_stack([np.repeat(np.arange(20.0), 2), np.tile([0.0, 1.0], 20)])
    model = LocalPolynomial(1, bandwidth=[9.0, 2.0]).fit(x, RNG.normal(size=40))
    with pytest.raises(KernadvError, match="at 0 there are rows that differ in other columns"):
        model.interval(x[:2], errors="serial")
    apart = LocalLinear(9.0).fit(x[:, :1], RNG.normal(size=40), groups=np.tile([0, 1], 20))
    got = apart.interval([[4.0], [4.0]], errors="serial", groups=[0, 1])
    assert (got.low < got.high).all()


def test_means_that_jump_have_no_slope_but_an_average_one_of_a_parabola():
    model = NadarayaWatson(0.3, kernel="uniform").fit(X, Y)
    with pytest.raises(KernadvError, match="uniform"):
        model.derivative(AT)
    got = model.derivative(AT, interval=True)
    np.testing.assert_allclose(got.estimate, dense(AT, 2, 0.3, 1, lambda u: 1.0 * (np.abs(u) <= 1.0)) @ Y, rtol=1e-7)
