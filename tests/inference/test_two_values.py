"""Responses of two values, whatever these are, and what limits the responses of a window can bear."""

import inspect
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.special import betaincinv

from kernadv import KernadvError
from kernadv.kernels import KERNELS
from kernadv.regression import (
    EmptyWindowWarning,
    KNeighborsSmoother,
    LinearSmoother,
    LocalLinear,
    LocalPolynomial,
    NadarayaWatson,
)
from kernadv.regression.inference import band, interval, multiplier_bootstrap, proportion, robust_bias_corrected
from kernadv.regression.inference.two_values import two_values
from kernadv.regression.local.polynomial import LocalPolynomialSpec

AT = np.linspace(0.0, 1.0, 17)[:, None]
ENDS = np.array([[0.0], [0.25], [0.5], [1.0]])


def rare(n, p, columns, degree=1, h=0.3, seed=0, low=0.0, high=1.0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 1))
    y = np.where(rng.random((n, columns)) < p, high, low)
    return LinearSmoother(LocalPolynomialSpec(KERNELS["epanechnikov"], degree), x, y, np.ones(n), np.array([h]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 0], (0, 1)),
        ([0, 2, 2], (0, 2)),
        ([-1, 1, 1], (-1, 1)),
        ([0, 0, 0], (0, 1)),
        ([1, 1, 1], (0, 1)),
        ([-1, -1, -1], (-1, 1)),
        ([7, 3, 7], (3, 7)),
        ([1, 0], (0, 1)),
        ([3, 3, 3], None),  # the other value is not known
        ([0.2, 0.7], None),  # two responses always have at most two values
        ([0, 0.5, 1], None),
    ],
)
def test_which_columns(values, expected):
    got = two_values(np.array(values, float)[:, None])[0]
    np.testing.assert_array_equal(got, (np.nan, np.nan) if expected is None else expected)


@pytest.mark.parametrize(
    "make", [lambda: LocalLinear(0.3), lambda: NadarayaWatson(0.2), lambda: KNeighborsSmoother(20)]
)
@pytest.mark.parametrize(("low", "high"), [(0, 2), (-1, 1), (False, True), (3, 7)])
def test_units_do_not_matter_and_each_column_decides(make, low, high):
    fit = rare(120, 0.1, 1)
    won, other = fit.y[:, 0], np.sin(6 * fit.x[:, 0]) + np.random.default_rng(1).normal(size=120)
    other[:2] = 0.0, 1.0
    unit = float(high) - float(low)
    for what in ("interval", "band"):
        options = {"bias_corrected": True} if what == "band" else {}
        plain = getattr(make().fit(fit.x, won), what)(AT, **options)
        scaled = getattr(make().fit(fit.x, np.where(won > 0, high, low)), what)(AT, **options)
        both = getattr(make().fit(fit.x, np.column_stack([other, low + unit * won])), what)(AT, **options)
        alone = getattr(make().fit(fit.x, other), what)(AT, **options)
        for part in ("estimate", "low", "high"):
            np.testing.assert_allclose(getattr(scaled, part), low + unit * getattr(plain, part), atol=1e-12)
            np.testing.assert_allclose(getattr(both, part)[:, 1], getattr(scaled, part), atol=1e-12)
            np.testing.assert_allclose(getattr(both, part)[:, 0], getattr(alone, part), atol=1e-12)
        assert ((low <= scaled.low) & (scaled.low < scaled.high) & (scaled.high <= high)).all()
        assert plain.covers == both.covers == "regression function"


@pytest.mark.parametrize("degree", range(4))
def test_intervals_cover_everywhere(degree):
    """4000 replications a cell: a standard error of 0.35 points at 95%."""
    for p in (0.02, 0.1):
        hits = []
        for seed in range(20):
            got = interval(rare(100, p, 200, degree, seed=seed), ENDS)
            assert (got.high > got.low).all()
            hits.append(((got.low <= p) & (p <= got.high)).mean(axis=1))
        assert (np.mean(hits, axis=0) >= 0.935).all(), (p, np.mean(hits, axis=0))


@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("bias_corrected", [False, True])
def test_bands_cover(degree, bias_corrected):
    """2000 bands: a standard error of 0.5 points at 95%."""
    hits = []
    for seed in range(20):
        got = band(rare(300, 0.05, 100, degree, seed=seed), AT, bias_corrected=bias_corrected)
        hits.append(((got.low <= 0.05) & (got.high >= 0.05)).all(axis=0).mean())
        assert ((got.low >= 0) & (got.low < got.high) & (got.high <= 1)).all()
    assert np.mean(hits) >= 0.93
    tube = band(rare(300, 0.05, 1), AT, method="tube", bias_corrected=bias_corrected)
    np.testing.assert_allclose(
        tube.high, band(rare(300, 0.05, 1), AT, bias_corrected=bias_corrected).high, rtol=0.15
    )  # one level by a formula, the other by simulation at 17 points


def test_where_the_window_is_too_small_for_the_correction_the_fit_alone():
    x = np.repeat([0.0, 1.0], 20)[:, None]
    fit = LinearSmoother(
        LocalPolynomialSpec(KERNELS["uniform"]), x, (np.arange(40) % 5 == 0)[:, None] * 1.0, np.ones(40), np.ones(1) / 2
    )
    got = interval(fit, np.array([[0.0]]))
    np.testing.assert_allclose(  # 4 of 20, Jeffreys
        [got.low[0, 0], got.high[0, 0]], betaincinv(4.5, 16.5, [0.025, 0.975]), rtol=1e-9
    )


def test_weights_count_by_their_ratios():
    """Kish's n_eff for means, whatever the unit of the weights."""
    fit = rare(100, 0.1, 1, degree=0, h=3.0)
    weights = np.random.default_rng(3).integers(1, 5, 100).astype(float)
    flat = replace(fit, spec=LocalPolynomialSpec(KERNELS["uniform"]), weights=weights)
    one, other = proportion(flat, ENDS), proportion(replace(flat, weights=0.37 * weights), ENDS)
    np.testing.assert_allclose(one.high, other.high, rtol=1e-12)
    size, share = weights.sum() ** 2 / (weights**2).sum(), weights @ fit.y[:, 0] / weights.sum()
    np.testing.assert_allclose(
        one.high[:, 0], betaincinv(0.5 + size * share, 0.5 + size * (1 - share), 0.975), rtol=1e-9
    )
    np.testing.assert_allclose(interval(flat, ENDS).high, interval(replace(flat, weights=9 * weights), ENDS).high)


def test_one_value_alone():
    x = np.linspace(0, 1, 30)[:, None]
    lost = LocalLinear(0.5).fit(x, np.full(30, -1)).interval([[0.5]])
    assert -1 == lost.low[0] < lost.high[0] < 0
    with pytest.warns(EmptyWindowWarning, match="all responses are the same"):
        assert np.isnan(LocalLinear(0.5).fit(x, np.full(30, 3.0)).interval([[0.5]]).low).all()


def test_a_fit_that_interpolates_its_window_has_no_interval():
    """Four clusters of three points: parabolas go through all the points of a window."""
    x = np.array([0, 0.02, 0.05, 0.3, 0.32, 0.36, 0.6, 0.61, 0.66, 0.9, 0.95, 1.0])[:, None]
    y = np.sin(6 * x[:, 0]) + 0.1 * np.random.default_rng(3).standard_normal(12)
    with pytest.warns(EmptyWindowWarning, match="too few points in the window for an interval"):
        got = LocalLinear(0.2).fit(x, y).interval([[0.02], [0.32], [0.61], [0.95]])
    assert np.isnan(got.low).all()
    fit = LocalLinear(0.2).fit(x, y).as_fit()
    assert np.isnan(robust_bias_corrected(fit, x[1:2], reference="normal").low).all()


def test_a_window_of_equal_counts_keeps_a_width():
    rng = np.random.default_rng(0)
    x, y = np.linspace(0, 1, 200)[:, None], np.zeros(200)
    y[150:] = rng.poisson(1.0, 50)
    for fit in (LocalLinear(0.2).fit(x, y), KNeighborsSmoother(40, degree=1).fit(x, y)):
        got = fit.interval([[0.3]])
        assert got.low[0] == 0.0 < got.high[0] < 0.3 * y.max()
        assert fit.band([[0.3]]).high[0] > 0.0


def test_equal_responses_in_as_many_places_as_coefficients_tell_nothing():
    """A parabola through three places, each with two equal counts: no residual, though counts vary."""
    x = np.repeat([0.0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9], 2)[:, None]
    y = np.array([0, 0, 2, 2, 1, 1, 3, 4, 0, 1, 2, 5, 3, 3], float)[:, None]
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["uniform"], 1), x, y, np.ones(14), np.array([0.25]))
    assert np.isnan(interval(fit, np.array([[0.1]])).low).all()
    line = replace(fit, y=x)  # no noise, and a line
    assert interval(line, np.array([[0.75]])).high[0, 0] == pytest.approx(0.75)


def test_one_bad_query_does_not_widen_the_band():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.random(80), [1.5, 1.51, 1.52]])[:, None]
    fit = LinearSmoother(
        LocalPolynomialSpec(KERNELS["epanechnikov"], 1),
        x,
        np.sin(6 * x) + rng.normal(size=x.shape),
        np.ones(83),
        np.array([0.3]),
    )
    for corrected in (False, True):
        alone = multiplier_bootstrap(fit, AT, bias_corrected=corrected)
        more = multiplier_bootstrap(fit, np.append(AT, [[1.51]], 0), bias_corrected=corrected)
        known = ~np.isnan(more.low)
        assert known[:-1].mean() > 0.9
        np.testing.assert_allclose(
            (more.high - more.low)[:-1][known[:-1]], (alone.high - alone.low)[known[:-1]], rtol=0.25
        )


def windows(model, x, at, d):
    """Which design points have weight at each query, from the kernel itself; k-NN by its hat matrix."""
    if isinstance(model, KNeighborsSmoother):
        return np.nan_to_num(model.hat_matrix(at)) != 0
    weight = np.prod(KERNELS[model.kernel].profile((x[None, :, :d] - at[:, None, :d]) / model.bandwidth_[:d]), axis=2)
    if model.__dict__.get("side") == "past":
        weight = np.where(x[None, :, 0] <= at[:, None, 0], weight, 0.0)
    return weight > 0


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.sampled_from([4, 6, 9, 15, 40]),
    degree=st.integers(0, 3),
    kernel=st.sampled_from(sorted(KERNELS)),
    h=st.floats(0.03, 2.0),
    design=st.sampled_from(["even", "rounded", "clusters", "outlier", "twice"]),
    responses=st.sampled_from(["noise", "spike", "counts", "rounded", "signs", "far"]),
    kind=st.sampled_from(["plain", "past", "neighbours", "plane", "categorical"]),
    what=st.sampled_from(["auto", "normal", "robust", "band", "corrected", "tube"]),
)
def test_no_absurd_interval(seed, n, degree, kernel, h, design, responses, kind, what):
    """Every finite interval is at most 100 times as wide as the range of the responses in its window."""
    rng, d = np.random.default_rng(seed), 1 + (kind == "plane")
    x = rng.random((n, d))
    if design == "rounded":
        x = np.round(x, 1)
    elif design == "clusters":
        x = rng.integers(0, 4, (n, d)) / 3 + rng.normal(size=(n, d)) * 10.0 ** -rng.integers(2, 13)
    elif design == "outlier":
        x[0] = 50.0
    elif design == "twice":
        x[n // 2 :] = x[: n - n // 2]
    noise = rng.standard_normal(n)
    y = {
        "noise": np.sin(6 * x[:, 0]) + 0.3 * noise,
        "spike": noise + 1e6 * (np.arange(n) == 1),
        "counts": rng.poisson(0.3, n).astype(float),
        "rounded": np.round(noise),
        "signs": np.sign(noise),
        "far": 1e6 + 1e-3 * noise,
    }[responses]
    at = np.concatenate([x[:3], rng.random((4, d))])
    if kind == "neighbours":
        model = KNeighborsSmoother(int(rng.integers(2, n + 1)), degree=degree, kernel=kernel)
    elif kind == "categorical":
        x, at = np.column_stack([x, rng.integers(0, 2, n)]), np.column_stack([at, np.zeros(len(at))])
        model = LocalPolynomial(degree, bandwidth=[h, 0.3], kernel=kernel, categorical={1: "unordered"})
    else:
        model = LocalPolynomial(degree, bandwidth=h, kernel=kernel, side="past" if kind == "past" else "both")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(x, y)
            if what in ("auto", "normal", "robust"):
                got = model.interval(at, method=what)
            else:
                got = model.band(at, method="tube" if what == "tube" else "sup_t", bias_corrected=what != "band")
        except KernadvError:
            return
        inside = windows(model, x, at, d)
    known = np.isfinite(got.low)
    assert (got.low[known] <= got.high[known]).all()
    for width, near in zip((got.high - got.low)[known], inside[known], strict=True):
        seen = np.ptp(y[near]) if near.any() else 0.0
        bound = seen if seen > 1e-12 * np.ptp(y) else np.ptp(y)
        assert width <= 100.0 * bound * (1 + 1e-6) or np.ptp(y) == 0.0


def test_bands_need_queries_and_a_line():
    with pytest.raises(KernadvError, match="at least one query"):
        band(rare(50, 0.1, 1), AT[:0], method="tube")
    with pytest.raises(KernadvError, match="unknown method of a band 'wald'"):
        band(rare(50, 0.1, 1), AT, method="wald")
    with pytest.raises(KernadvError, match="one dimension, got 2"):
        band(replace(rare(50, 0.1, 1), x=np.zeros((50, 2)), bandwidth=np.ones(2)), np.zeros((1, 2)))
    assert band(rare(50, 0.1, 1), AT[:0]).low.shape == (0, 1)


@pytest.mark.parametrize("seed", range(6))
def test_pictures_of_few_points_have_sane_limits(seed):
    """Default fits of 30 points, of which one in six once had limits of 1e130."""
    rng = np.random.default_rng(seed)
    x = rng.random((30, 1))
    y = np.sin(6 * x[:, 0]) + 0.3 * rng.standard_normal(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyWindowWarning)
        low, high = LocalLinear().fit(x, y).plot(Figure().add_subplot()).get_ylim()
    assert high - low <= 10 * np.ptp(y)


@pytest.mark.parametrize("where", [LocalLinear.interval, LocalLinear.band, interval, band])
def test_docstrings_say_that_errors_are_independent(where):
    """Unless something else is asked for, and where."""
    text = inspect.getdoc(where)
    assert "independent" in text
    assert "errors=" in text or "errors : " in text
