"""Series never touch: a fit of several is each of them fitted by itself, whatever the kernel and the others."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import integrate

from kernadv.kernels import KERNELS, Kernel
from kernadv.regression import KNeighborsSmoother, LinearSmoother, LocalPolynomial
from kernadv.regression.bandwidth import SELECTORS, CriterionSelector
from kernadv.regression.bandwidth._ordered import prepare
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.series import LONGEST, apart

#: Responses of the other series.
HUGE = 1e6


@dataclass(frozen=True)
class Own(Kernel):
    """A kernel as a user writes one: no edge, and no word on where it is 0."""

    label: str
    support = np.inf

    @property
    def name(self):
        return self.label

    def formula(self, u, xp):
        if self.label == "exp(-sqrt u)":
            return xp.exp(-xp.sqrt(u))
        if self.label == "cauchy":
            return 1.0 / (1.0 + u * u)
        e = xp.exp(-u)
        return 4.0 * e / ((1.0 + e) * (1.0 + e))

    def slope(self, u):
        v = np.abs(u)
        if self.label == "cauchy":
            return -2.0 * u / (1.0 + u * u) ** 2
        if self.label == "exp(-sqrt u)":
            root = np.sqrt(np.where(v > 0.0, v, 1.0))
            return np.where(v > 0.0, -np.sign(u) * 0.5 * np.exp(-root) / root, 0.0)
        e = np.exp(-v)
        return -4.0 * np.sign(u) * e * (1.0 - e) / (1.0 + e) ** 3

    def moment(self, k):
        return integrate.quad(lambda u: u**k * self.formula(u, np), 0.0, 30.0)[0]

    def square_moment(self, k):
        return integrate.quad(lambda u: u**k * self.formula(u, np) ** 2, 0.0, 30.0)[0]


OWN = [Own("exp(-sqrt u)"), Own("cauchy"), Own("logistic")]
#: Kernels that are tried with every design.
WHOLE = [*OWN, KERNELS["gaussian"], KERNELS["uniform"]]
SIZES = (17, 14, 19)


def data(d, levels=0, seed=0):
    """Rows of three series in random order, the later ones with huge responses; queries in and around each."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.repeat(np.arange(3), SIZES))
    x = np.round(rng.random((len(names), d)) * 4.0, 1) + np.array([0.0, 1e3, 1.5])[names, None]
    y = np.sin(x[:, 0] - 0.3 * names) + 0.3 * rng.normal(size=len(names))
    y = np.where(names == 0, y, HUGE * (1.0 + y))
    if levels:  # all of them in each series: their number is part of the kernel
        level = np.empty(len(x))
        for s in range(3):
            level[names == s] = np.arange(SIZES[s]) % levels
        x = np.column_stack([x, level])
    at = np.concatenate([x[::3], x[1::4] + np.r_[np.full(d, 0.07), np.zeros(x.shape[1] - d)]])
    return x, y, names, at, np.concatenate([names[::3], names[1::4]])


def regressors(kernel):
    """(how to call it, regressor, dimensions, levels of a categorical column)."""
    for degree in (0, 1, 2)[: 3 if kernel in WHOLE else 2]:
        yield f"degree {degree}", LocalPolynomial(degree, bandwidth=1.3, kernel=kernel), 1, 0
    yield "neighbours", KNeighborsSmoother(6, kernel=kernel), 1, 0
    if kernel not in WHOLE:
        return
    yield "past", LocalPolynomial(0, bandwidth=1.3, kernel=kernel, side="past"), 1, 0
    yield "past line", LocalPolynomial(1, bandwidth=2.5, kernel=kernel, side="past"), 1, 0
    yield "product", LocalPolynomial(1, bandwidth=[2.7, 3.5], kernel=kernel), 2, 0
    yield "radial", LocalPolynomial(0, bandwidth=[2.7, 3.5], kernel=kernel, radial=True), 2, 0
    mixed = {1: "unordered"}
    yield "mixed", LocalPolynomial(0, bandwidth=[1.6, 0.2], kernel=kernel, categorical=mixed), 1, 2
    yield "many levels", LocalPolynomial(1, bandwidth=[2.6, 0.5], kernel=kernel, categorical=mixed), 1, 12
    yield "line of neighbours", KNeighborsSmoother(9, kernel=kernel, degree=1, ties="distinct", scale=1.2), 1, 0
    yield "neighbours in a plane", KNeighborsSmoother(8, kernel=kernel, degree=1), 2, 0


CASES = {f"{kernel.name}, {name}": case for kernel in [*KERNELS.values(), *OWN] for name, *case in regressors(kernel)}


def asked(fit, at, **groups):
    """All that is asked of a fit, by name; errors count as answers."""
    questions = {
        "predict": lambda: fit.predict(at, **groups),
        "std": lambda: fit.predict(at, return_std=True, **groups)[1],
        "derivative": lambda: fit.derivative(at, **groups),
        **{f"interval {m}": lambda m=m: fit.interval(at, method=m, **groups)[:3] for m in ("auto", "normal")},
        "band": lambda: fit.band(at[:3], **{name: queries[:3] for name, queries in groups.items()})[:3],
    }
    if fit.kernel not in WHOLE:
        questions.pop("band")  # slow
    for name, ask in questions.items():
        try:
            yield name, np.stack(ask())
        except ValueError as error:
            yield name, str(error)


@pytest.mark.parametrize("case", CASES)
def test_a_fit_of_series_is_a_fit_of_each(case):
    regressor, d, levels = CASES[case]
    x, y, names, at, queries = data(d, levels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty windows; the same ones, as NaN is compared too
        together = regressor.fit(x, y, groups=names)
        hat, loo = together.hat_matrix(at, groups=queries), together.loo_predict()
        edf = 0.0
        for s in range(3):
            own, mine = names == s, queries == s
            unit = 1.0 if s == 0 else HUGE
            got = dict(asked(together, at[mine], groups=queries[mine]))
            alone = type(regressor)(**regressor.get_params()).fit(x[own], y[own])
            for name, expected in asked(alone, at[mine]):
                if isinstance(expected, str):
                    assert got[name] == expected
                else:
                    np.testing.assert_allclose(got[name] / unit, expected / unit, atol=1e-9, rtol=1e-9, err_msg=name)
            np.testing.assert_allclose(hat[np.ix_(mine, own)], alone.hat_matrix(at[mine]), atol=1e-9)
            np.testing.assert_array_equal(np.nan_to_num(hat[np.ix_(mine, ~own)]), 0.0)
            np.testing.assert_allclose(loo[own] / unit, alone.loo_predict() / unit, atol=1e-9, rtol=1e-9)
            edf += alone._fit_quality().edf
        assert together._fit_quality().edf == pytest.approx(edf, abs=1e-9)


CURVES = {name: each for name, each in SELECTORS.items() if isinstance(each, CriterionSelector)}


@pytest.mark.parametrize("selector", [name for name in CURVES if name != "k_fold"])  # folds go by the rows of all
@pytest.mark.parametrize("kernel", [*KERNELS.values(), *OWN], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("d", [1, 2])
def test_errors_of_a_selection(selector, kernel, d):
    """What a criterion is made of, at one bandwidth, in each series by itself."""
    selector = CURVES[selector]
    x, y, names, _, _ = data(d)
    spec = LocalPolynomialSpec(kernel, 0)
    h = np.array([5.0 if selector.name == "k_neighbors" else 1.7, 2.0][:d])
    if selector.name == "one_sided" and d > 1:
        return
    errors = lambda own, series: selector.errors(
        selector.prepare(LinearSmoother(spec, x[own], y[own, None], np.ones(own.sum()), series=series)), h
    )
    together = errors(names >= 0, names)
    place = prepare(LinearSmoother(spec, x, y[:, None], np.ones(len(y)), series=names)).label
    for s in range(3):
        alone = errors(names == s, None)
        unit = 1.0 if s == 0 else HUGE
        np.testing.assert_allclose(together.error[place == s] / unit, alone.error / unit, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(together.leverage[place == s], alone.leverage, atol=1e-9)


@pytest.mark.parametrize("selector", CURVES)
@pytest.mark.parametrize("kernel", OWN[1:], ids=lambda kernel: kernel.name)
def test_a_selection_does_not_see_the_level_of_a_series(selector, kernel):
    x, y, names, _, _ = data(1)
    y = np.where(names == 0, y, y / HUGE)
    spec = LocalPolynomialSpec(kernel, 0)
    chosen = [
        CURVES[selector]
        .select(LinearSmoother(spec, x, (y + level * names)[:, None], np.ones(len(y)), series=names))
        .bandwidth
        for level in (0.0, 1e4)
    ]
    np.testing.assert_allclose(*chosen, rtol=1e-3)


def test_one_error_variance_in_each_series():
    x, y, names, at, queries = data(1)
    fit = LocalPolynomial(1, bandwidth=1.3).fit(x, y, groups=names)
    error = fit.predict(at, return_std=True, groups=queries)[1]
    assert error[queries == 0].max() < 1.0
    assert error[queries == 1].min() > 1e3


def test_an_unseen_series_has_no_interval():
    x, y, names, at, _ = data(1)
    for regressor in (LocalPolynomial(1, bandwidth=1.3), KNeighborsSmoother(6)):
        fit = regressor.fit(x, y, groups=names)
        for ask in (fit.interval, fit.band):
            with pytest.warns(match="too few points"):
                result = ask(at, groups=np.full(len(at), 7))
            assert np.isnan(result[:3]).all()


def test_a_series_whose_rows_weigh_nothing():
    x, y, names, at, _ = data(1)
    for regressor in (LocalPolynomial(0, bandwidth=1.3, side="past"), KNeighborsSmoother(6)):
        fit = regressor.fit(x, y, (names < 2) * 1.0, groups=names)
        with pytest.warns(match="have no estimate"):
            assert np.isnan(fit.predict(at, return_std=True, groups=np.full(len(at), 2))).all()


@pytest.mark.parametrize("kernel", ["uniform", "triangular", "exponential"])
def test_many_series_keep_their_digits(kernel):
    """A window's edge is a tie, on a lattice too: positions may not lose more than a billionth of the bandwidth."""
    rng = np.random.default_rng(0)
    names = np.repeat(np.arange(20_000), 3)
    x = 1e3 * rng.integers(0, 2, len(names)) + 0.1 * rng.integers(0, 9, len(names))
    y = rng.normal(size=len(names))
    fit = LocalPolynomial(0, bandwidth=0.3, kernel=kernel).fit(x[:, None], y, groups=names)
    got = fit.predict(x[:, None], groups=names)
    near = np.abs(x.reshape(-1, 3, 1) - x.reshape(-1, 1, 3)) / 0.3
    w = KERNELS[kernel].profile(near)
    np.testing.assert_allclose(got, ((w @ y.reshape(-1, 3, 1))[:, :, 0] / w.sum(2)).ravel(), atol=1e-9)


def test_parts_hold_every_point_and_query_once():
    rng = np.random.default_rng(0)
    series, asked = rng.integers(0, 300, 2000), rng.integers(-1, 400, 3000)
    x, at, h = rng.random((2000, 2)) * 1e5, rng.random((3000, 2)) * 1e5, np.array([0.5, 1.0])
    for kernel, width in [("gaussian", h), (OWN[1], h), ("gaussian", np.full((3000, 1), 0.5))]:
        kernel = KERNELS.get(kernel, kernel)
        parts = list(apart(x, series, at, asked, kernel, width))
        points, queries = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        assert sorted(points) == np.flatnonzero(np.isin(series, asked)).tolist()
        assert sorted(queries) == np.flatnonzero(np.isin(asked, series)).tolist()
        for own, mine, z, q, _ in parts:
            assert len(np.unique(series[own])) == 1 or max(np.ptp(z[:, 0]), np.ptp(q[:, 0])) <= LONGEST * 0.5
            label, other = np.concatenate([series[own], asked[mine]]), np.concatenate([z[:, 0], q[:, 0]])
            order = np.argsort(other)
            gaps = np.diff(other[order])[np.diff(label[order]) != 0]
            assert (gaps > kernel.zero_beyond * 0.5).all()
            for s in np.unique(label)[:3]:
                given = np.concatenate([x[own[series[own] == s], 0], at[mine[asked[mine] == s], 0]])
                np.testing.assert_allclose(other[label == s] - other[label == s][0], given - given[0], atol=1e-8)
