"""Two laws of kernel regression: neither the unit of the weights nor the order of the rows changes anything.

They hold for every selector, smoother, interval, band, variance and diagnostic; the tables here must name all of them.
"""

import inspect
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.base import clone

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import (
    KNeighborsSmoother,
    LinearSmoother,
    LocalLinear,
    LocalPolynomial,
    NadarayaWatson,
    inference,
)
from kernadv.regression.bandwidth import SELECTORS
from kernadv.regression.inference import MovingBlocks, Wild
from kernadv.regression.inference.robust import METHODS as RESIDUALS
from kernadv.regression.inference.variance import EACH_VARIANCE, METHODS, ONE_VARIANCE
from kernadv.regression.local.polynomial import LocalPolynomialSpec, smooth
from kernadv.regression.noise import difference_variance

AT = np.linspace(0.1, 0.9, 5)[:, None]


@dataclass(frozen=True)
class Rows:
    """Rows and where each was before."""

    x: np.ndarray  # (n, 1)
    y: np.ndarray  # (n, C)
    weights: np.ndarray
    level: np.ndarray
    group: np.ndarray
    order: np.ndarray

    def scaled(self, factor):
        return replace(self, weights=factor * self.weights)

    def taken(self, order):
        return Rows(*(getattr(self, name)[order] for name in self.__dataclass_fields__))

    def back(self, values, axis=0):
        """What belongs to the rows, in the order before."""
        return np.take(values, np.argsort(self.order), axis)


def rows(n=72, seed=0, grid=24):
    """Ties in x, and in x and y; weights that are whole numbers, 2 to 9."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.random((n, 1)) * grid) / grid
    y = np.round(np.sin(5 * x) + 0.4 * rng.normal(size=(n, 2)), 1)
    x[-6:], y[-6:] = x[:6], y[:6]
    group = np.array(["a", "b"])[rng.integers(0, 2, n)]
    return Rows(x, y, rng.integers(2, 10, n).astype(float), rng.integers(0, 3, n), group, np.arange(n))


def shuffled(seed):
    return lambda given: given.taken(np.random.default_rng(seed).permutation(len(given.x)))


CHANGES = {
    "weights x 1e-6": lambda given: given.scaled(1e-6),
    "weights x .5": lambda given: given.scaled(0.5),
    "weights x .999": lambda given: given.scaled(0.999),
    "weights x 3": lambda given: given.scaled(3.0),
    "weights x 1e6": lambda given: given.scaled(1e6),
    "shuffled": shuffled(1),
    "shuffled again": shuffled(2),
    "by x and y": lambda given: given.taken(np.lexsort((given.y[:, 0], given.x[:, 0]))),
    "by x and y, descending": lambda given: given.taken(np.lexsort((given.y[:, 0], given.x[:, 0]))[::-1]),
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
#: Where nothing is searched, so that less can go astray.
SOME = ("weights x 1e-6", "weights x .999", "shuffled", "by x and y")
some_changes = pytest.mark.parametrize("change", [CHANGES[name] for name in SOME], ids=SOME)


def holds(answer, change, given):
    """The law: the same answers, to 1e-9."""
    got, expected = answer(change(given)), answer(given)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, str):
            assert got[name] == value
        else:
            np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


# ------------------------------------------------------------------------------------------------ selectors

SMOOTHERS = {
    "mean": lambda name: NadarayaWatson(name),
    "line": lambda name: LocalLinear(name, kernel="gaussian"),
    "parabola": lambda name: LocalPolynomial(2, bandwidth=name),
    "past": lambda name: LocalLinear(name, kernel="gaussian", side="past"),
}


@pytest.mark.filterwarnings("ignore::kernadv.EmptyWindowWarning")
@every_change
@pytest.mark.parametrize("smoother", SMOOTHERS.values(), ids=SMOOTHERS.keys())
@pytest.mark.parametrize("name", SELECTORS)
def test_selectors(name, smoother, change):
    """Or they refuse the smoother, in the same words."""

    def answer(given):
        try:
            fit = smoother(name).fit(given.x, given.y[:, 0], given.weights)
        except ArgumentError as error:
            return {"error": str(error)}
        h = fit.bandwidth_
        return {"h": given.back(h) if h.ndim == 2 else h, "value": fit.selection_.value, "predict": fit.predict(AT)}

    holds(answer, change, rows())


@every_change
@pytest.mark.parametrize("name", ["leave_one_out", "gcv", "aicc"])
@pytest.mark.parametrize("design", ["categorical", "groups", "two columns"])
def test_selection_of_other_designs(name, design, change):
    def answer(given):
        x, options = given.x, {}
        if design == "categorical":
            x, options = np.column_stack([x, given.level]), {"categorical": {1: "unordered"}}
        elif design == "two columns":
            x = np.column_stack([x, given.y[:, 1]])
        groups = given.group if design == "groups" else None
        fit = NadarayaWatson(name, kernel="gaussian", **options).fit(x, given.y[:, 0], given.weights, groups=groups)
        return {"h": fit.bandwidth_}

    holds(answer, change, rows())


# ------------------------------------------------------------------------------------------------ regressors

#: Regressor, and whether the second column is its level, its group or nothing.
REGRESSORS = {
    "mean": (NadarayaWatson(0.4), None),
    "line": (LocalLinear(0.4, kernel="tricube"), None),
    "parabola": (LocalPolynomial(2, bandwidth=0.6), None),
    "past": (LocalLinear(0.6, kernel="gaussian", side="past"), None),
    "neighbours": (KNeighborsSmoother(30, degree=1), None),
    "distinct neighbours": (KNeighborsSmoother(9, kernel="uniform", ties="distinct"), None),
    "local bandwidths": (LocalLinear("mse_rule"), None),
    "categorical": (NadarayaWatson([0.4, 0.3], categorical={1: "unordered"}), "level"),
    "groups": (LocalLinear(0.6), "group"),
}


@pytest.mark.filterwarnings("ignore::kernadv.EmptyWindowWarning")
@some_changes
@pytest.mark.parametrize("case", REGRESSORS.values(), ids=REGRESSORS.keys())
def test_regressors(case, change):
    """Estimates, errors, derivatives, intervals, bands, leave-one-out, the hat matrix and the summary."""
    regressor, more = case

    def answer(given):
        x = np.column_stack([given.x, given.level]) if more == "level" else given.x
        at = np.column_stack([AT, np.ones(5)]) if more == "level" else AT
        asked = {"groups": np.repeat("a", 5)} if more == "group" else {}
        fit = regressor.fit(x, given.y, given.weights, given.group if more == "group" else None)
        out = dict(zip(("predict", "error"), fit.predict(at, return_std=True, **asked), strict=True))
        out |= {"loo": given.back(fit.loo_predict()), "hat": given.back(fit.hat_matrix(at, **asked), 1)}
        out["summary"] = fit.summary()
        for method in ("auto", "normal", "robust"):
            out[method] = np.array(fit.interval(at, method=method, **asked)[:3])
        out["band"] = np.array(fit.band(at, **asked)[:3])
        clusters = [f"{group}{level}" for group, level in zip(given.group, given.level, strict=True)]
        fit = clone(regressor).fit(
            x, given.y, given.weights, given.group if more == "group" else None, clusters=clusters
        )
        pair = {name: (names, names) for name, names in asked.items()}
        for errors in ("independent", "cluster", "serial")[: 2 if more == "level" else 3]:
            out[f"contrast {errors}"] = np.array(fit.contrast(at, at[::-1], errors=errors, **pair)[:3])
            out[f"slope {errors}"] = np.array(fit.average_derivative(at, errors=errors, **asked)[:3])
            if regressor.degree > 0:
                out[f"slopes {errors}"] = np.array(fit.derivative(at, interval=True, errors=errors, **asked)[:3])
        won = clone(regressor).fit(x, given.y > 0.3, given.weights, given.group if more == "group" else None)
        out["won auto"], out["won band"] = (np.array(f(at, **asked)[:3]) for f in (won.interval, won.band))
        if regressor.degree > 0:
            out["derivative"] = fit.derivative(at, **asked)
        else:
            won = regressor.fit(x, given.y > 0.3, given.weights)
            out |= {f"won {m}": np.array(won.interval(at, method=m)[:3]) for m in ("wilson", "jeffreys", "uniform")}
        return out

    holds(answer, change, rows())


# ------------------------------------------------------------------------------------------------ inference


def as_fit(given, degree=1, bandwidth=0.5):
    spec = LocalPolynomialSpec(KERNELS["gaussian"], degree)
    return LinearSmoother(
        spec, given.x, given.y, given.weights, np.array([bandwidth]), given.level + 3 * (given.group == "a")
    )


#: Function of `kernadv.regression.inference` that takes a fit -> answers; what belongs to rows is put back.
OF_A_FIT = {
    "band": lambda fit, given: {
        f"{name} {method}": np.array(inference.band(one, AT, method=method, bias_corrected=True)[:3])
        for name, one in (("y", fit), ("won", replace(fit, y=1.0 * (fit.y > 0.3))))
        for method in ("sup_t", "tube")
    },
    "bootstrap_error": lambda fit, given: {
        repr(scheme): inference.bootstrap_error(fit, AT, scheme, draws=50)
        for scheme in (Wild(), Wild("mammen"), MovingBlocks(), MovingBlocks(7))
    },
    "effective_degrees_of_freedom": lambda fit, given: {"all": np.array(inference.effective_degrees_of_freedom(fit))},
    "effective_sample_size": lambda fit, given: {"all": inference.effective_sample_size(fit, AT)},
    "interval": lambda fit, given: {
        name: np.array(inference.interval(one, AT)[:3])
        for name, one in (("y", fit), ("won", replace(fit, y=1.0 * (fit.y > 0.3))))
    },
    "kappa": lambda fit, given: {"all": np.array(inference.kappa(fit, 0.0, 1.0))},
    "multiplier_bootstrap": lambda fit, given: {
        repr(scheme): np.array(inference.multiplier_bootstrap(fit, AT, scheme=scheme, draws=50)[:3])
        for scheme in (Wild(), MovingBlocks())
    },
    "normal": lambda fit, given: {m: np.array(inference.normal(fit, AT, method=m)[:3]) for m in METHODS},
    "percentile_t": lambda fit, given: {
        repr(scheme): np.array(inference.percentile_t(fit, AT, scheme=scheme, draws=50)[:3])
        for scheme in (Wild(), MovingBlocks())
    },
    "proportion": lambda fit, given: {
        method: np.array(inference.proportion(replace(fit, y=1.0 * (fit.y > 0.3)), AT, method=method)[:3])
        for method in ("wilson", "jeffreys", "uniform")
    },
    "residual_variance": lambda fit, given: {m: inference.residual_variance(fit, m) for m in ONE_VARIANCE},
    "response_variance": lambda fit, given: {m: given.back(inference.response_variance(fit, m)) for m in EACH_VARIANCE},
    "robust_bias_corrected": lambda fit, given: {
        m: np.array(inference.robust_bias_corrected(fit, AT, method=m)[:3])
        for m in (*RESIDUALS, "homoskedastic", "difference", "cluster", "hac")
    },
    "robust_estimate": lambda fit, given: {
        f"{m} {rho}": np.concatenate(inference.robust_estimate(fit, AT, m, rho=rho), axis=1)
        for m in RESIDUALS
        for rho in (0.8, 1.0)
    },
    "significance": lambda fit, given: {"all": np.array(inference.significance(fit, 0, draws=49))},
    "standard_error": lambda fit, given: {m: inference.standard_error(fit, AT, m) for m in METHODS},
    "tube": lambda fit, given: {
        m: np.array(inference.tube(fit, AT, method=m, bias_corrected=True)[:3]) for m in ONE_VARIANCE
    },
}


def test_the_table_names_every_function_of_a_fit():
    functions = {name: getattr(inference, name) for name in inference.__all__}
    of_a_fit = {
        name for name, f in functions.items() if inspect.isfunction(f) and "fit" in inspect.signature(f).parameters
    }
    assert of_a_fit == set(OF_A_FIT)


@some_changes
@pytest.mark.parametrize("name", OF_A_FIT)
def test_inference(name, change):
    holds(lambda given: OF_A_FIT[name](as_fit(given), given), change, rows())


#: Functions of residuals or of points alone.
OTHERS = {
    "autocorrelation": lambda given: {
        "r": inference.autocorrelation(given.y[:, 0], given.x[:, 0], 3, given.group).correlation
    },
    "ljung_box": lambda given: {
        "p": inference.ljung_box(given.y[:, 0] - np.sin(5 * given.x[:, 0]), given.x[:, 0], 3).p_value
    },
    "difference_variance": lambda given: {
        "all": difference_variance(given.x[:, 0], given.y, given.weights / given.weights.mean())
    },
}


@some_changes
@pytest.mark.parametrize("name", OTHERS)
def test_residuals_and_points(name, change):
    holds(OTHERS[name], change, rows())


# ------------------------------------------------------------------------------------------------ what ties are


def test_what_is_defined_along_an_order_does_not_look_at_y():
    """Pairs of points at one x: raising one response of each by 1 and lowering the other by 1 swaps their order by y.

    Within a pair only the sum and the squared difference of the responses matter.
    """
    rng = np.random.default_rng(0)
    x, middle, half = np.repeat(np.sort(rng.random(40)), 2), np.repeat(rng.normal(size=40), 2), np.tile([1.0, -1.0], 40)
    signs = np.repeat(rng.choice([-1.0, 1.0], 40), 2)
    one, other = middle + half, middle + signs * half
    for value in (
        lambda y: difference_variance(x, y[:, None], np.ones(80))[0],
        lambda y: inference.ljung_box(y, x, 4).statistic[0],
        lambda y: LocalLinear("h_block").fit(x[:, None], y).bandwidth_[0],
        lambda y: LocalLinear("plug_in").fit(x[:, None], y).bandwidth_[0],
    ):
        assert value(one) == pytest.approx(value(other), rel=1e-9)


def test_independent_noise_at_ties_is_no_autocorrelation():
    """Rounded x in any order, sorted by y above all: p-values of the test are uniform, so that a tenth is below .1."""
    p = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        x, e = np.round(rng.random(150), 1 + seed % 2), rng.normal(size=150)
        order = np.lexsort((e, x))
        p.append(inference.ljung_box(e[order], x[order], lags=3).p_value[0])
    assert 0.06 < np.mean(np.array(p) < 0.1) < 0.14


@pytest.mark.parametrize("grid", [0, 100, 10])
def test_the_difference_variance_is_unbiased_at_ties(grid):
    """Mean over 300 samples of 150; a line through neighbours is exact for a line."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x = rng.random(150)
        x = np.round(x * grid) / grid if grid else x
        weights = rng.integers(1, 5, 150) / 2.0
        y = 3 * x + 0.5 * rng.normal(size=150) / np.sqrt(weights)
        order = np.lexsort((y, x))
        found.append(difference_variance(x[order], y[order, None], weights[order])[0])
    assert np.mean(found) == pytest.approx(0.25, rel=0.02)


def test_moving_blocks_do_not_pair_ties_by_their_residuals():
    """Independent residuals on ten places: 30 neighbouring draws are as independent whatever the order of the rows."""
    rng = np.random.default_rng(0)
    x, e = np.repeat(np.arange(10.0), 30), rng.normal(size=300)
    order = np.lexsort((e, x))
    drawn = MovingBlocks(30).noise(e[order], x[order], 400, np.random.default_rng(1))
    lag = (drawn[1:] * drawn[:-1]).sum() / (drawn**2).sum()
    assert abs(lag) < 0.1


# ------------------------------------------------------------------------------------------------ weights


def means_of_bins():
    """60 bins, the mean response and the number of points of each."""
    rng = np.random.default_rng(0)
    x = (np.arange(60) + 0.5) / 60
    count = rng.poisson(20, 60) + 1
    return x, np.sin(6 * x) + 2 * rng.standard_normal(60) / np.sqrt(count), count


@pytest.mark.parametrize("factor", [1, 0.999])
def test_means_weighted_by_their_counts(factor):
    """The bandwidth that leaving out whole bins gives, written out; R's locfit has .164 by GCV with both weights."""
    x, y, count = means_of_bins()

    def error(h):
        total = 0.0
        for i in range(60):
            u = x - x[i]
            root = np.sqrt(count * np.maximum(1 - (u / h) ** 2, 0) * (u != 0))
            line = np.linalg.lstsq(root[:, None] * np.column_stack([np.ones(60), u]), root * y, rcond=None)[0]
            total += count[i] * (y[i] - line[0]) ** 2
        return total / count.sum()

    tried = np.geomspace(0.05, 0.5, 231)  # steps of 1%
    best = tried[np.argmin([error(h) for h in tried])]
    fit = LocalLinear().fit(x[:, None], y, sample_weight=factor * count)
    assert fit.bandwidth_[0] == pytest.approx(best, rel=0.011)
    assert fit.bandwidth_[0] == pytest.approx(0.153, rel=0.025)
    assert fit.selection_.value == pytest.approx(error(fit.bandwidth_[0]), rel=1e-9)
    assert LocalLinear("gcv", kernel="tricube").fit(x[:, None], y, factor * count).bandwidth_[0] > 0.1


def test_every_selector_smooths_means_weighted_by_their_counts():
    """None interpolates: the curve is known to a fifth of the noise, or at least better than by the bins themselves."""
    x, y, count = means_of_bins()
    own = np.sqrt(np.average((y - np.sin(6 * x)) ** 2, weights=count))
    for name in SELECTORS:
        value = LocalLinear(name).fit(x[:, None], y, count).predict(x[:, None])
        assert np.sqrt(np.average((value - np.sin(6 * x)) ** 2, weights=count)) < 0.75 * own, name


@pytest.mark.parametrize("method", ["homoskedastic", "difference", "nearest", "asymptotic", "hc3", "hac"])
def test_errors_know_that_weights_are_precisions(method):
    """Noise of the variances 1 / omega: mean squared errors of the estimate at the middle, over 4,000 samples at once."""
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 200)[:, None]
    weights = np.where(rng.random(200) < 0.5, 0.2, 5.0)
    noise = rng.normal(size=(200, 4000)) / np.sqrt(weights)[:, None]
    fit = LinearSmoother(LocalPolynomialSpec(KERNELS["epanechnikov"], 1), x, noise, weights, np.array([0.3]))
    at = np.array([[0.5]])
    spread = smooth(fit.spec, x, noise, weights, at, fit.bandwidth).value.std()
    error = np.sqrt((inference.standard_error(fit, at, method) ** 2).mean())
    assert error == pytest.approx(spread, rel=0.06)
