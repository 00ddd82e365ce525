"""What a fitted regressor answers."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from kernadv import KernadvError
from kernadv.regression import (
    BandwidthWarning,
    EmptyWindowWarning,
    KNeighborsSmoother,
    LinearSmoother,
    LocalLinear,
    LocalPolynomial,
    NadarayaWatson,
)
from kernadv.regression.inference import robust_bias_corrected, standard_error
from kernadv.regression.local.moments import exponents
from kernadv.regression.local.polynomial import LocalPolynomialSpec

mpl.use("Agg")

EVERY = [
    NadarayaWatson(0.3),
    NadarayaWatson(0.3, side="past"),
    LocalLinear(0.4, kernel="tricube"),
    LocalPolynomial(2, bandwidth=0.5),
    LocalPolynomial(3, bandwidth=0.3, kernel="gaussian", radial=True),
    KNeighborsSmoother(15),
    KNeighborsSmoother(0.4, degree=1, kernel="epanechnikov", ties="distinct"),
]
every = pytest.mark.parametrize("regressor", EVERY, ids=repr)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    x = rng.random((70, 1))
    return x, np.sin(5 * x[:, 0]) + 0.2 * rng.normal(size=70), rng.random(70) + 0.5


@every
def test_hat_matrix_leave_one_out_and_standard_error(regressor, sample):
    x, y, omega = sample
    fit = regressor.fit(x, y, omega)
    hat = fit.hat_matrix(x)
    value, error = fit.predict(x, return_std=True)
    np.testing.assert_allclose(hat @ y, value, atol=1e-9)
    np.testing.assert_allclose(hat.sum(1), 1.0, atol=1e-8)
    own = np.diag(hat)
    with np.errstate(divide="ignore", invalid="ignore"):
        loo = np.where(own < 1 - 1e-9, y - (y - value) / (1 - own), np.nan)
    np.testing.assert_allclose(fit.loo_predict(), loo, atol=1e-7)
    rest = np.eye(70) - hat  # responses with the variances sigma^2 / omega
    freedom = np.trace(np.diag(omega) @ rest @ np.diag(1 / omega) @ rest.T)
    sigma = np.sqrt(omega @ (y - value) ** 2 / freedom)
    np.testing.assert_allclose(error, sigma * np.sqrt((hat**2) @ (1 / omega)), rtol=1e-6)


@every
def test_rows_of_weight_0_and_repeated_rows(regressor, sample):
    x, y, _ = sample
    times = np.arange(70) % 4
    rows = np.repeat(np.arange(70), times)
    repeated = regressor.fit(x[rows], y[rows]).predict(x[9:40])
    if regressor.get_params().get("ties") != "count":  # the estimate of a given bandwidth; k counts rows
        np.testing.assert_allclose(regressor.fit(x, y, times).predict(x[9:40]), repeated, atol=1e-9)
    fit = regressor.fit(x, y, frequency=times)
    np.testing.assert_allclose(fit.predict(x[9:40]), repeated, atol=1e-9)
    hat = fit.hat_matrix(x[9:40])
    np.testing.assert_allclose(hat @ y, repeated, atol=1e-9)
    assert hat.shape == (31, 70)
    assert not hat[:, times == 0].any()


def test_several_responses_are_each_as_alone(sample):
    x, y, _ = sample
    both = np.column_stack([y, x[:, 0]])
    fit = LocalLinear(0.3).fit(x, both)
    value, error = fit.predict(x, return_std=True)
    alone = LocalLinear(0.3).fit(x, y).predict(x, return_std=True)
    np.testing.assert_allclose(value[:, 0], alone[0], atol=1e-13)
    np.testing.assert_allclose(error[:, 0], alone[1], rtol=1e-9)
    np.testing.assert_allclose(value[:, 1], x[:, 0], atol=1e-12)
    assert fit.derivative(x).shape == (70, 2)
    np.testing.assert_allclose(fit.derivative(x)[:, 1], 1.0, atol=1e-9)


def test_past_reads_nothing_of_the_future(sample):
    x, y, _ = sample
    later = x[:, 0] > 0.6
    moved = np.where(later, 100.0, y)
    for regressor in (NadarayaWatson(0.3, side="past"), LocalLinear(0.4, side="past")):
        at = np.linspace(0.3, 0.6, 9)[:, None]
        np.testing.assert_allclose(regressor.fit(x, y).predict(at), regressor.fit(x, moved).predict(at), atol=1e-9)


def test_gradient_and_partial_derivatives():
    rng = np.random.default_rng(1)
    x = rng.random((150, 2))
    y = x[:, 0] ** 2 + 3 * x[:, 0] * x[:, 1]
    fit = LocalPolynomial(2, bandwidth=[0.6, 0.8]).fit(x, y)
    at = x[:10]
    expected = np.column_stack([2 * at[:, 0] + 3 * at[:, 1], 3 * at[:, 0]])
    np.testing.assert_allclose(fit.derivative(at), expected, atol=1e-9)
    np.testing.assert_allclose(fit.derivative(at, (1, 1)), 3.0, atol=1e-8)
    np.testing.assert_allclose(fit.derivative(at, (2, 0)), 2.0, atol=1e-8)


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize("degree", [1, 2])
def test_many_columns_go_by_hat_vectors(degree, radial):
    """More moments than are worth sharing: the same estimates from hat vectors, here in few columns."""
    rng = np.random.default_rng(2)
    x, y = rng.random((60, 7)), rng.random(60)
    spec = LocalPolynomialSpec(LocalLinear()._spec().kernel, degree)
    assert LinearSmoother(spec, x, y[:, None], np.ones(60), np.ones(7)).by_rows == (degree == 2)
    few = LocalPolynomial(degree, bandwidth=1.5, kernel="gaussian", radial=radial).fit(x, y)
    polynomial = x**degree @ np.arange(7) + x[:, 0]
    np.testing.assert_allclose(few.fit(x, polynomial).predict(x), polynomial, atol=1e-8)


def test_monomials():
    assert exponents(2, 2).tolist() == [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    assert exponents(0, 3).tolist() == [[]]
    assert len(exponents(10, 3)) == 286


def test_no_estimate_is_nan_with_one_warning(sample):
    x, y, _ = sample
    fit = NadarayaWatson(0.1).fit(x, y)
    with pytest.warns(EmptyWindowWarning) as caught:
        got = fit.predict([[0.5], [3.0], [-2.0], [0.4]])
    assert np.isnan(got).tolist() == [False, True, True, False]
    assert len(caught) == 1
    assert "2 of 4 queries have no estimate (NaN), the first in row 1" in str(caught[0].message)
    assert "within the bandwidth 0.1; widen it" in str(caught[0].message)
    assert caught[0].filename == __file__
    for ask in (fit.hat_matrix, fit.interval, lambda q: fit.predict(q, return_std=True)[1]):
        with pytest.warns(EmptyWindowWarning) as caught:
            ask([[0.5], [3.0]])
        assert len(caught) == 1
        assert caught[0].filename == __file__


def test_selected_bandwidth(sample):
    x, y, _ = sample
    fit = LocalLinear().fit(x, y)
    assert fit.bandwidth_.shape == (1,)
    assert fit.selection_.criterion == "leave-one-out CV"
    assert np.isfinite(fit.predict(x)).all()
    np.testing.assert_allclose(np.mean((y - fit.loo_predict()) ** 2), fit.selection_.value, rtol=1e-6)
    assert "selected by leave-one-out CV" in fit.summary()
    assert LocalLinear(fit.bandwidth_).fit(x, y).selection_ is None


def test_local_bandwidths(sample):
    x, y, _ = sample
    fit = LocalLinear("lepski").fit(x, y)
    at = np.linspace(0.1, 0.9, 7)[:, None]
    assert fit.bandwidth_.shape == (70, 1)
    assert np.isfinite(fit.predict(at)).all()
    assert "bandwidth" in fit.summary().lower()


def test_too_few_points_to_select_from():
    rng = np.random.default_rng(0)
    x = rng.random((6, 8))
    with pytest.warns(BandwidthWarning, match="the 6 points, or all but one, do not determine the 9 coeff"):
        fit = LocalLinear().fit(x, x[:, 0])
    np.testing.assert_allclose(fit.predict(x), x[:, 0], atol=1e-12)  # every plane through the points has these values
    with pytest.warns(EmptyWindowWarning, match="has 9 coefficients, the fit has 6 points"):
        assert np.isnan(fit.predict(rng.random((3, 8)))).all()


@pytest.mark.parametrize("degree", [1, 2])
def test_collinear_columns(degree):
    """Slopes are not determined, the value is within the plane of the points, and there alone."""
    rng = np.random.default_rng(0)
    x = rng.random((60, 2))
    twice = np.column_stack([x, x.sum(1)])
    fit = LocalPolynomial(degree, bandwidth=[1.0, 1.0, 2.0], kernel="gaussian").fit(twice, np.sin(5 * x[:, 0]))
    weight = np.exp(-0.5 * (((twice[:, None] - twice) / [1.0, 1.0, 2.0]) ** 2).sum(2))
    u = x[:, None] - x
    columns = [np.ones((60, 60)), u[..., 0], u[..., 1], u[..., 0] ** 2, u[..., 0] * u[..., 1], u[..., 1] ** 2]
    design = np.stack(columns[: (degree + 1) * (degree + 2) // 2], axis=2)  # of points around queries, (j, q, E)
    root = np.sqrt(weight)
    for q in range(9):
        solved = np.linalg.lstsq(root[:, q, None] * design[:, q], root[:, q] * np.sin(5 * x[:, 0]), rcond=None)[0]
        np.testing.assert_allclose(fit.predict(twice[q : q + 1]), solved[0], atol=1e-10)
    with pytest.warns(EmptyWindowWarning):
        assert np.isnan(fit.derivative(twice)).all()
    with pytest.warns(EmptyWindowWarning):
        assert np.isnan(fit.predict(twice + np.array([0.0, 0.0, 0.1]))).all()
    with pytest.warns(BandwidthWarning, match="or columns are linear combinations of others"):
        LocalLinear().fit(twice, x[:, 0])


def test_neighbours_in_one_place():
    x = [[0.0], [0.0], [0.0], [2.0], [5.0]]
    fit = KNeighborsSmoother(3, kernel="uniform").fit(x, [1.0, 2.0, 3.0, 6.0, 8.0])
    np.testing.assert_allclose(fit.predict([[0.0]]), 2.0)  # they are the 3 nearest
    distinct = KNeighborsSmoother(2, kernel="uniform", ties="distinct").fit(x, [1.0, 2.0, 3.0, 6.0, 8.0])
    np.testing.assert_allclose(distinct.predict([[0.0], [4.0]]), [3.0, 7.0])
    same = KNeighborsSmoother(2).fit([[1.0], [1.0]], [3.0, 5.0])
    np.testing.assert_allclose(same.predict([[1.0]]), 4.0)


def test_intervals_and_bands(sample):
    x, y, _ = sample
    fit = LocalLinear(0.4).fit(x, y)
    at = np.linspace(0.1, 0.9, 9)[:, None]
    inside, normal, band, tube = (
        fit.interval(at),
        fit.interval(at, 0.95, "normal"),
        fit.band(at),
        fit.band(at, method="tube"),
    )
    assert inside.covers == "regression function"
    np.testing.assert_allclose(normal.estimate, fit.predict(at))
    for limits in (inside, normal, band, tube):
        assert (limits.low < limits.high).all()
    assert (band.high - band.low > normal.high - normal.low).all()
    cubic = LocalPolynomial(3, bandwidth=0.6).fit(x, y).interval(at)
    assert cubic.covers == "regression function"
    with pytest.raises(KernadvError, match="unknown method of a band 'scheffe'; known: sup_t, tube"):
        fit.band(at, method="scheffe")
    with pytest.raises(KernadvError, match="the tube formula is for one continuous column and one bandwidth"):
        KNeighborsSmoother(20).fit(x, y).band(at, method="tube")


def test_intervals_of_groups_are_those_of_each(sample):
    x, y, _ = sample
    names = np.repeat([0, 1], 35)
    at = np.linspace(0.2, 0.8, 5)[:, None]
    got = LocalLinear(0.4).fit(x, y, groups=names).interval(at, groups=np.ones(5, int))
    alone = LocalLinear(0.4).fit(x[35:], y[35:]).interval(at)
    np.testing.assert_allclose(got.low, alone.low, atol=1e-9)


def test_as_fit(sample):
    """Inference with a fitted regressor in one line; rows of weight 0 are left out."""
    x, y, omega = sample
    fit = LocalLinear(0.4).fit(x, y, np.where(omega > 0.6, omega, 0.0))
    at = np.linspace(0.1, 0.9, 5)[:, None]
    got = robust_bias_corrected(fit.as_fit(), at, 0.9, reference="hall")
    np.testing.assert_allclose(got.low[:, 0], fit.interval(at, 0.9).low, rtol=1e-12)
    assert standard_error(fit.as_fit(), at, "hac").shape == (5, 1)
    names = np.arange(70) % 2
    with pytest.raises(KernadvError, match="a fit with groups is of several curves"):
        LocalLinear(0.4).fit(x, y, groups=names).as_fit()
    with pytest.raises(KernadvError, match="does not know a bandwidth that changes with the query; ask interval, band"):
        KNeighborsSmoother(20).fit(x, y).as_fit()
    with pytest.raises(KernadvError, match="does not know categorical columns"):
        NadarayaWatson([0.3, 0.1], categorical={1: "ordered"}).fit(np.column_stack([x, names]), y).as_fit()


def test_plot(sample):
    x, y, _ = sample
    ax = Figure().add_subplot()
    assert LocalLinear(0.4).fit(x, y).plot(ax) is ax
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["data", "95% band", "95% interval", "LocalLinear"]
    rewards = NadarayaWatson(0.3).fit(x, y > y.mean()).plot(Figure().add_subplot())
    for picture in (ax, rewards):
        assert picture.get_legend().get_title().get_text() == "interval and band cover the regression function"
    import matplotlib.pyplot as plt
    import polars

    rng = np.random.default_rng(0)
    many = LocalLinear(0.4).fit(rng.random((12_345, 1)), rng.normal(size=12_345)).plot(Figure().add_subplot())
    assert many.get_legend().get_texts()[0].get_text() == "10,000 of 12,345 data, at random"
    drawn = many.collections[0].get_offsets()
    assert len(np.unique(drawn, axis=0)) == 10_000
    named = LocalLinear(0.4).fit(polars.DataFrame({"time": x[:, 0]}), y).plot(Figure().add_subplot())
    assert named.get_xlabel() == "time"
    plt.close(LocalLinear(0.4).fit(x, y).plot().figure)
    with pytest.raises(KernadvError, match="plot draws one or two continuous columns"):
        LocalLinear(1.0).fit(np.hstack([x, x**2, x**3]), y).plot()


def test_summary(sample):
    x, y, _ = sample
    text = NadarayaWatson(0.002, kernel="uniform", side="past").fit(x, y).summary()
    lines = text.splitlines()
    assert max(map(len, lines)) == 78
    assert lines[0].strip() == "NadarayaWatson"
    assert "No. observations:                   70" in text
    assert "uniform, past only" in text
    assert "LOO RMSE:                    undefined" in text
    several = LocalLinear(0.3).fit(x, np.column_stack([y, 2 * y, 0 * y])).summary().splitlines()
    assert max(map(len, several)) == 78
    assert several[7].split() == ["Response", "Residual", "std.", "error", "R-squared", "LOO", "RMSE"]
    numbers = np.array([line.split() for line in several[8:10]], float)
    np.testing.assert_allclose(numbers[1], numbers[0] * [0, 2, 1, 2] + [1, 0, 0, 0], rtol=1e-3)
    assert several[10].split()[2] == "undefined"
    narrow = LocalLinear(0.002).fit(x, y).summary()
    assert "observations have no estimate at their own place" in narrow
    flat = LocalLinear().fit(x, 0 * y).summary()
    assert "R-squared:                   undefined" in flat
    assert "Note: the bandwidth lies at an end of the grid" in flat
    assert "Note: the criterion hardly changes" in flat
