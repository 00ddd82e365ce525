"""Bands: locfit's constants, limits, simultaneous coverage."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import EmptyWindowWarning, LinearSmoother, LocalLinear, NadarayaWatson
from kernadv.regression.bandwidth import LeaveOneOut
from kernadv.regression.inference.bands import (
    Choice,
    kappa,
    largest_t,
    multiplier_bootstrap,
    tube,
    tube_critical_value,
    tube_probability,
    widening,
)
from kernadv.regression.inference.bootstrap import MovingBlocks, Wild
from kernadv.regression.inference.intervals import normal
from kernadv.regression.inference.skewness import estimate_skewness, residual_skewness
from kernadv.regression.local.polynomial import LocalPolynomialSpec, smooth

AT = np.linspace(0, 1, 60)[:, None]


def sample(n=200, responses=2, degree=1, kernel="epanechnikov", bandwidth=0.2, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 1))
    y = np.sin(2 * np.pi * x) + noise * rng.normal(size=(n, responses))
    return LinearSmoother(LocalPolynomialSpec(KERNELS[kernel], degree), x, y, np.ones(n), np.array([bandwidth]))


def test_locfit(oracle):
    record = oracle("lf_scb_sim200")
    x, y = np.array(record["x"])[:, None], np.array(record["y"])[:, None]
    spec = LocalPolynomialSpec(KERNELS["epanechnikov"], 1)
    fit = LinearSmoother(spec, x, y, np.ones(len(x)), np.array([record["bandwidth_canonical"]]))
    expected = record["expected"]
    arc = kappa(fit, float(x.min()), float(x.max()))
    assert arc == pytest.approx(expected["kappa0"][0], rel=record["rtol"])
    assert tube_critical_value(arc) == pytest.approx(expected["crit_95"], rel=record["rtol"])
    assert tube_critical_value(arc, 0.99) == pytest.approx(expected["crit_99"], rel=record["rtol"])
    assert tube_critical_value(arc, 0.95, 100.0) == pytest.approx(expected["crit_95_rdf100"], rel=record["rtol"])


def test_critical_values():
    assert tube_critical_value(0.0) == pytest.approx(stats.norm.ppf(0.975), abs=1e-10)
    assert tube_critical_value(0.0, 0.9, 7.0) == pytest.approx(stats.t.ppf(0.95, 7), abs=1e-10)
    for arc in (1.0, 10.0, 1000.0):
        for freedom in (1.0, 5.0, np.inf):
            assert tube_probability(tube_critical_value(arc, 0.95, freedom), arc, freedom) == pytest.approx(0.05)
        assert tube_critical_value(arc, 0.95, 1e7) == pytest.approx(tube_critical_value(arc), rel=1e-4)
    assert tube_critical_value(5.0) > tube_critical_value(2.0) > tube_critical_value(2.0, 0.9)


def test_kappa_of_a_line():
    """Global least squares: l(x) turns in the plane of 1 and x, so that the arc is an angle."""
    fit = sample(bandwidth=300.0, kernel="gaussian")
    centred = (np.array([0.0, 1.0]) - fit.x.mean()) / fit.x.std()
    assert kappa(fit, 0.0, 1.0) == pytest.approx(np.diff(np.arctan(centred))[0], rel=1e-3)


def test_kappa_adds_and_scales():
    fit = sample()
    whole = kappa(fit, 0.0, 1.0)
    assert kappa(fit, 0.0, 0.4) + kappa(fit, 0.4, 1.0) == pytest.approx(whole, rel=3e-3)
    moved = replace(fit, x=3 * fit.x - 1, bandwidth=3 * fit.bandwidth)
    assert kappa(moved, -1.0, 2.0) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("band", [tube, multiplier_bootstrap])
def test_bands_contain_the_pointwise_intervals(band):
    fit = sample()
    method = "homoskedastic" if band is tube else "hc3"
    wide, narrow = band(fit, AT), normal(fit, AT, method=method)
    assert (wide.low < narrow.low).all()
    assert (wide.high > narrow.high).all()
    np.testing.assert_array_equal(wide.estimate, narrow.estimate)
    error = (narrow.high - narrow.estimate) / 1.959963984540054
    s = 0.0 if band is tube else estimate_skewness(fit, AT)[:, None] * residual_skewness(fit)
    for t, sign in (((wide.estimate - wide.low) / error, 1), ((wide.estimate - wide.high) / error, -1)):
        critical = sign * (t + s * t**2 / 3 + s**2 * t**3 / 27 + s / 6)
        np.testing.assert_allclose(
            critical, np.broadcast_to(critical[:1], critical.shape), rtol=1e-6
        )  # one c a response
    assert (wide.covers, band(fit, AT, bias_corrected=True).covers) == ("smoothed target", "regression function")


@pytest.mark.parametrize("scheme", [Wild(), Wild("mammen"), MovingBlocks(1)], ids=repr)
def test_sup_t_of_one_query_is_pointwise(scheme):
    fit, at = sample(n=400), np.array([[0.5]])
    band = multiplier_bootstrap(fit, at, scheme=scheme, draws=3000)
    pointwise = normal(fit, at, method=scheme.method)
    np.testing.assert_allclose(band.low, pointwise.low, atol=0.05 * (band.high - band.low).max())


def test_sup_t_seed_scale_and_holes():
    fit = sample()
    one = multiplier_bootstrap(fit, AT, draws=100)
    np.testing.assert_array_equal(one.low, multiplier_bootstrap(fit, AT, draws=100).low)
    assert (one.low != multiplier_bootstrap(fit, AT, draws=100, seed=1).low).any()
    other = multiplier_bootstrap(replace(fit, y=1 + 5 * fit.y), AT, draws=100)
    np.testing.assert_allclose(other.low, 1 + 5 * one.low, rtol=1e-8)
    hole = multiplier_bootstrap(fit, np.concatenate([AT, [[9.0]]]), draws=100)
    np.testing.assert_allclose(hole.low[:-1], one.low, rtol=1e-12)
    assert np.isnan(hole.low[-1]).all()
    flat = multiplier_bootstrap(replace(fit, y=np.ones_like(fit.y)), AT, draws=50)
    np.testing.assert_allclose(flat.high, 1.0, atol=1e-9)


def test_the_choice_of_a_bandwidth_by_its_definition():
    """Dense hat matrices: noise around the line, a bandwidth for each draw by leave-one-out, and the largest t of each."""
    rng, at = np.random.default_rng(4), np.linspace(0.1, 0.9, 7)[:, None]
    x = np.sort(rng.random((40, 1)), axis=0)
    y = np.sin(6 * x[:, 0]) + 0.5 * rng.normal(size=40)
    model = LocalLinear("leave_one_out").fit(x, y)
    grid = model.selection_.grid[np.isfinite(model.selection_.curve)]

    def rows(q, degree, h):
        out = []
        for one in q[:, 0]:
            root = np.sqrt(np.maximum(1 - ((x[:, 0] - one) / h) ** 2, 0))
            design = root[:, None] * ((x - one) / h) ** np.arange(degree + 1)
            out.append(np.linalg.pinv(design)[0] * root)
        return np.array(out)

    h = float(model.bandwidth_[0])
    own, line = rows(x, 2, h), rows(x, 1, h)
    noise = Wild().noise((y - own @ y) / np.sqrt(1 - np.diag(own)), x[:, 0], 60, np.random.default_rng(0))
    drawn, target = (line @ y)[:, None] + noise, rows(at, 1, h) @ y
    scores, largest = [], np.empty(60)
    for width in grid[:, 0]:
        hat = rows(x, 1, width)
        scores.append((((drawn - hat @ drawn) / (1 - np.diag(hat))[:, None]) ** 2).mean(0))
    chosen = np.argmin(scores, axis=0)
    for k in np.unique(chosen):
        near, hat = rows(at, 2, grid[k, 0]), rows(x, 2, grid[k, 0])
        error = lambda z, near=near, hat=hat: np.sqrt(near**2 @ ((z - hat @ z) / (1 - np.diag(hat))[:, None]) ** 2)
        critical, known = largest_t(np.abs(near @ noise) / error(noise), 0.9)
        mine = drawn[:, chosen == k]
        t = np.abs(near @ mine - target[:, None]) / error(mine)
        largest[chosen == k] = t[known].max(0) / critical
    expected = max(np.quantile(largest, 0.9), 1.0)
    got = widening(model.as_fit().raised(), at, 0.9, Wild(), model._choice(), 60, 0)
    assert got[0] == pytest.approx(expected, rel=1e-6)
    assert expected > 1.02


def test_bands_of_chosen_bandwidths():
    """Never narrower, and the same with a bandwidth that was given, with many points, and for two values."""
    rng, wider = np.random.default_rng(0), []
    for _ in range(8):
        x = rng.random(80)
        y = np.sin(6 * x) + 0.5 * rng.normal(size=80)
        chosen = LocalLinear().fit(x, y)
        one, other = (fit.band(AT[5:-5:5]) for fit in (chosen, LocalLinear(chosen.bandwidth_[0]).fit(x, y)))
        np.testing.assert_array_equal(one.estimate, other.estimate)
        wider.append(np.nanmedian((one.high - one.low) / (other.high - other.low)))
    assert min(wider) >= 1.0
    assert max(wider) > 1.05
    x = rng.random(300)
    for y in (np.sin(6 * x) + 0.5 * rng.normal(size=300), (rng.random(300) < x) * 1.0):
        chosen = LocalLinear().fit(x, y)
        np.testing.assert_array_equal(
            chosen.band(AT[5:-5:5]).low, LocalLinear(chosen.bandwidth_[0]).fit(x, y).band(AT[5:-5:5]).low
        )


def test_a_choice_without_alternatives_changes_little():
    """One bandwidth to choose from: the factor is that of the bias which the raised fit leaves."""
    fit = sample(n=100, responses=1, bandwidth=0.15).raised()
    only = Choice(1, lambda drawn: np.full((drawn.y.shape[1], 1), 0.15))
    assert widening(fit, AT[5:-5], 0.95, Wild(), only, 500, 0)[0] < 1.06


def test_where_nothing_is_widened():
    """The smoothed target, groups, and a criterion of all responses together."""

    class Own(LeaveOneOut):
        def score(self, errors, weights, variance):
            return super().score(errors, weights, variance)

    rng = np.random.default_rng(0)
    x, of = rng.random(80), np.arange(80) % 2
    y = np.sin(6 * x) + 0.5 * rng.normal(size=80)
    for model, groups, options in (
        (LocalLinear(), None, {"bias_corrected": False}),
        (LocalLinear(), of, {"groups": np.zeros(11, int)}),
        (LocalLinear(Own()), None, {}),
    ):
        chosen = model.fit(x, y, groups=groups)
        given = LocalLinear(chosen.bandwidth_[0]).fit(x, y, groups=groups)
        one, other = (fit.band(AT[3:-3:5], **options) for fit in (chosen, given))
        np.testing.assert_array_equal(one.low, other.low)


def test_draws_of_blocks_choose_no_bandwidth():
    fit = sample()
    choice = Choice(1, lambda drawn: np.full((drawn.y.shape[1], 1), 0.2))
    with pytest.raises(ArgumentError, match=r"scheme=Wild\(\) only"):
        multiplier_bootstrap(fit, AT, scheme=MovingBlocks(), choice=choice)


def simultaneous(band, target, bandwidth, designs, columns, n=200, noise=0.5):
    """Share of the replications whose band covers the target at every query."""
    hits = []
    for seed in range(designs):
        fit = sample(n, columns, bandwidth=bandwidth, seed=seed, noise=noise)
        got, truth = band(fit), target(fit)
        hits.append(((got.low <= truth) & (truth <= got.high)).all(0).mean())
    return np.mean(hits)


def smoothed(fit):
    return smooth(fit.spec, fit.x, np.sin(2 * np.pi * fit.x), fit.weights, AT, fit.bandwidth).value


def true(fit):
    return np.sin(2 * np.pi * AT)


def test_tube_covers_the_smoothed_target():
    covered = simultaneous(lambda fit: tube(fit, AT), smoothed, 0.2, 10, 300)
    assert 0.93 <= covered <= 0.97, covered


def test_tube_covers_the_regression_function():
    covered = simultaneous(lambda fit: tube(fit, AT, bias_corrected=True), true, 0.2, 10, 300)
    assert 0.93 <= covered <= 0.97, covered


@pytest.mark.parametrize("bias_corrected", [False, True])
def test_sup_t_covers(bias_corrected):
    """At n = 300, boundaries included.  One standard error for all draws covers .90 of the regression functions."""
    target = true if bias_corrected else smoothed
    band = lambda fit: multiplier_bootstrap(fit, AT[::3], draws=199, bias_corrected=bias_corrected)
    covered = simultaneous(band, lambda fit: target(fit)[::3], 0.25, 15, 40, n=300)
    assert 0.93 <= covered <= 0.97, covered


def test_blocks_cover_under_correlation():
    """Autoregressive noise, coefficient .5: 91% of 800 bands by blocks held the curve, a third by single points."""
    rng, x = np.random.default_rng(0), (np.arange(400.0)[:, None] + 0.5) / 400
    noise = rng.normal(size=(400, 80))
    for t in range(1, 400):
        noise[t] = 0.5 * noise[t - 1] + 0.75**0.5 * noise[t]
    fit = replace(
        sample(), x=x, y=np.sin(2 * np.pi * x) + 0.5 * noise, weights=np.ones(400), bandwidth=np.array([0.25])
    )
    covered = {}
    for scheme in (Wild(), MovingBlocks()):
        band = multiplier_bootstrap(fit, AT[::6], scheme=scheme, draws=99, bias_corrected=True)
        covered[type(scheme)] = ((band.low <= true(fit)[::6]) & (true(fit)[::6] <= band.high)).all(0).mean()
    assert covered[MovingBlocks] >= 0.8  # three standard errors of 80 samples below .91
    assert covered[Wild] <= 0.6


def test_a_lonely_point_costs_the_band_there_only():
    fit = sample(degree=0)
    alone = replace(fit, x=np.append(fit.x, [[9.0]], 0), y=np.append(fit.y, [[1.0, 2.0]], 0), weights=np.ones(201))
    band = multiplier_bootstrap(alone, np.append(AT, [[9.0]], 0), draws=400)
    assert (band.low[:-1] < band.high[:-1]).all()
    np.testing.assert_allclose(band.high[:-1], multiplier_bootstrap(fit, AT, draws=400).high, atol=0.04)
    assert np.isnan(np.concatenate([band.low[-1], band.high[-1]])).all()


@pytest.mark.parametrize("method", ["sup_t", "tube"])
def test_bands_of_regressors_cover_either_target(method):
    fit = sample(responses=1)
    regressor = LocalLinear(0.2).fit(fit.x, fit.y[:, 0])
    ours = {"sup_t": multiplier_bootstrap, "tube": tube}[method]
    for bias_corrected in (False, True):
        got, expected = (
            regressor.band(AT, method=method, bias_corrected=bias_corrected),
            ours(fit, AT, bias_corrected=bias_corrected),
        )
        assert got.covers == expected.covers
        np.testing.assert_allclose(np.ravel(got.low), expected.low[:, 0], rtol=1e-9)


def test_one_warning_says_where_a_band_is_missing():
    fit = sample(responses=1, degree=0)
    regressor = NadarayaWatson(0.2).fit(np.append(fit.x, [[9.0]], 0), np.append(fit.y[:, 0], 1.0))
    with pytest.warns(EmptyWindowWarning, match="1 of 61 queries .* the first in row 60") as caught:
        band = regressor.band(np.append(AT, [[9.0]], 0))
    assert len(caught) == 1
    assert np.isnan(np.ravel(band.low)).sum() == 1


def test_pointwise_intervals_do_not_cover_simultaneously():
    assert simultaneous(lambda fit: normal(fit, AT), smoothed, 0.2, 4, 200) < 0.8


def test_without_correction_a_wide_band_misses():
    assert simultaneous(lambda fit: tube(fit, AT), true, 0.4, 4, 200) < 0.5


def test_bad_input():
    fit = sample()
    plane = replace(fit, x=np.tile(fit.x, 2), bandwidth=np.array([0.2, 0.2]))
    for band in (tube, multiplier_bootstrap):
        with pytest.raises(ArgumentError, match="strictly between"):
            band(fit, AT, 95)
        with pytest.raises(ArgumentError, match="one dimension, got 2"):
            band(plane, np.tile(AT, 2))
        assert band(sample(degree=3), AT, bias_corrected=True).covers == "regression function"
    with pytest.raises(ArgumentError, match="unknown method"):
        tube(fit, AT, method="wald")
    with pytest.raises(ArgumentError, match="draws must be"):
        multiplier_bootstrap(fit, AT, draws=0)
    with pytest.raises(ArgumentError, match="no point has a neighbour"):
        multiplier_bootstrap(replace(fit, bandwidth=np.array([1e-7]), spec=LocalPolynomialSpec(fit.spec.kernel)), AT)
    with pytest.raises(ArgumentError, match="at least one query"):
        tube(fit, AT[:0])
    with pytest.raises(ArgumentError, match="holds too few points"):
        tube(fit, np.array([[0.0], [7.0]]))
