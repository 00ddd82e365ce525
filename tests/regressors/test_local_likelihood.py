"""Local likelihood: numbers of locfit, Newton's method by hand, selection by brute force, and windows without a maximum."""

import warnings

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import d2_log_loss_score, d2_tweedie_score

from kernadv import KernadvError, kernels
from kernadv.regression import EmptyWindowWarning, LocalLikelihood, families
from kernadv.regression.bandwidth._likelihood import LikelihoodAIC

RNG = np.random.default_rng(0)
X = np.sort(RNG.random(150))[:, None]
CHANCE = expit(2 * np.sin(6 * X[:, 0]))
WON = (RNG.random(150) < CHANCE).astype(float)
COUNTS = RNG.poisson(np.exp(1 + np.sin(6 * X[:, 0]))).astype(float)
AT = np.linspace(0, 1, 9)[:, None]


def agree(got, expected, tolerance=1e-9):
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def link(family, mean):
    return np.log(mean) if family == "poisson" else logit(mean)


def by_hand(family, x, y, q, h, kernel, degree, weights=1.0):
    """Predictor and standard error at one query of a product kernel, by 60 plain Newton steps."""
    u = (x - q) / h
    k = weights * np.prod(kernels.get(kernel).profile(u), axis=1)
    design = np.column_stack([np.ones(len(x)), *[u**power for power in range(1, degree + 1)]])
    beta = np.zeros(design.shape[1])
    beta[0] = link(family, np.average(y, weights=k))
    for _ in range(60):
        eta = design @ beta
        mean = np.exp(eta) if family == "poisson" else expit(eta)
        spread = mean if family == "poisson" else mean * (1 - mean)
        inverse = np.linalg.inv((design.T * (k * spread)) @ design)
        beta = beta + inverse @ (design.T @ (k * (y - mean)))
    return beta[0], np.sqrt((inverse @ ((design.T * (k**2 / weights * spread)) @ design) @ inverse)[0, 0])


def test_bernoulli_of_locfit(oracle):
    case = oracle("lf_bern200_ll_binomial_logit")
    x, at, expected = np.array(case["x"])[:, None], np.array(case["eval"])[:, None], case["expected"]
    fit = LocalLikelihood(bandwidth=case["bandwidth_canonical"], kernel=case["kernel"]).fit(x, case["y"])
    mean, error = fit.predict(at, return_std=True)
    agree(logit(mean), expected["mean"], 1e-6)
    agree(error / (mean * (1 - mean)), expected["se"], 1e-6)
    agree(fit.predict(x), expected["fitted"], 1e-6)
    agree(fit.loo_predict(), expected["loo_fitted"], 1e-6)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("poisson1", LocalLikelihood("poisson", bandwidth=0.15)),
        ("poisson2", LocalLikelihood("poisson", bandwidth=0.3, degree=2, kernel="triangular")),
        ("poisson0", LocalLikelihood("poisson", bandwidth=0.2, degree=0, kernel="tricube")),
        ("binomial1", LocalLikelihood("binomial", bandwidth=0.25)),
    ],
)
def test_families_of_locfit(oracle, name, model):
    case = oracle("lf_sim200_families")
    x, at, expected = np.array(case["x"])[:, None], np.array(case["eval"])[:, None], case["expected"][name]
    trials = np.array(case["trials"]) if name in ("poisson0", "binomial1") else np.ones(len(x))
    y = np.array(case["successes" if name == "binomial1" else "counts"]) / trials
    fit = model.fit(x, y, trials)
    mean, error = fit.predict(at, return_std=True)
    agree(link(model.family, mean), expected["link"], case["rtol"])
    scale = mean if model.family == "poisson" else mean * (1 - mean)
    sound = np.abs(at[:, 0] - 0.94) > (0.01 if name == "poisson2" else -1)  # see the notes of the oracle
    assert sound.sum() >= len(at) - 1
    agree((error / scale)[sound], np.array(expected["se"])[sound], case["rtol"])
    criterion = LikelihoodAIC(family=families.get(model.family), response=y, unit=trials.mean())
    sample = criterion.prepare(fit._smoother)
    aic = criterion.at(sample, fit.bandwidth_, np.ones(len(x), bool))
    agree(aic, -2 * expected["log_likelihood"] + 2 * expected["df1_trace"], case["rtol"])


@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
@pytest.mark.parametrize(("degree", "kernel"), [(0, "uniform"), (1, "gaussian"), (2, "tricube"), (3, "gaussian")])
def test_newton_by_hand(family, degree, kernel):
    y, h = (COUNTS if family == "poisson" else WON), (0.2 if kernel == "gaussian" else 0.5)
    mean, error = LocalLikelihood(family, degree=degree, bandwidth=h, kernel=kernel).fit(X, y).predict(AT, True)
    expected = np.array([by_hand(family, X, y, q, h, kernel, degree) for q in AT])
    agree(link(family, mean), expected[:, 0])
    agree(error / (mean if family == "poisson" else mean * (1 - mean)), expected[:, 1])


def test_two_columns_by_hand():
    x = RNG.random((200, 2))
    y = (RNG.random(200) < expit(3 * x[:, 0] - 2 * x[:, 1])).astype(float)
    got = LocalLikelihood(bandwidth=[0.6, 0.9], kernel="epanechnikov").fit(x, y).predict([[0.4, 0.5], [1.0, 0.0]])
    for q, value in zip([[0.4, 0.5], [1.0, 0.0]], got, strict=True):
        agree(logit(value), by_hand("bernoulli", x, y, np.array(q), np.array([0.6, 0.9]), "epanechnikov", 1)[0])


def test_weights_are_trials():
    count = RNG.integers(0, 4, 150)
    once = LocalLikelihood(bandwidth=0.3).fit(X, WON, count)
    twice = LocalLikelihood(bandwidth=0.3).fit(np.repeat(X, count, axis=0), np.repeat(WON, count))
    agree(once.predict(AT, True), twice.predict(AT, True))
    shares = LocalLikelihood("binomial", bandwidth=0.3).fit(X[::2], (WON[::2] + WON[1::2]) / 2, np.full(75, 2))
    rows = LocalLikelihood(bandwidth=0.3).fit(np.repeat(X[::2], 2, axis=0), WON)
    agree(shares.predict(AT, True), rows.predict(AT, True))


@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
def test_leave_one_out_is_a_refit(family):
    y = COUNTS if family == "poisson" else WON
    model = LocalLikelihood(family, bandwidth=0.3).fit(X, y)
    rows = [0, 40, 149]
    refits = [
        LocalLikelihood(family, bandwidth=0.3).fit(np.delete(X, i, 0), np.delete(y, i)).predict(X[[i]])[0] for i in rows
    ]
    agree(model.loo_predict()[rows], refits)


def deviance(family, y, mean):
    if family == "poisson":
        return 2 * (np.where(y > 0, y * np.log(np.maximum(y, 1) / mean), 0) - y + mean)
    return -2 * np.log(np.where(y > 0, mean, 1 - mean))


@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
@pytest.mark.parametrize("selector", ["leave_one_out", "aic"])
def test_the_minimum_by_brute_force(family, selector):
    """The criterion from estimates by hand; AIC with degrees of freedom by perturbing each response."""
    x, y = X[::2], (COUNTS if family == "poisson" else WON)[::2]
    model = LocalLikelihood(family, degree=1, bandwidth=selector, kernel="gaussian").fit(x, y)
    assert not model.selection_.at_edge or selector == "aic"

    def criterion(h):
        if selector == "leave_one_out":
            rows = range(len(y))
            own = [by_hand(family, np.delete(x, i, 0), np.delete(y, i), x[i], h, "gaussian", 1)[0] for i in rows]
            mean = np.exp(own) if family == "poisson" else expit(own)
            return deviance(family, y, mean).mean()
        total = 0.0
        for i in range(len(y)):
            eta = by_hand(family, x, y, x[i], h, "gaussian", 1)[0]
            more, less = y.copy(), y.copy()
            more[i], less[i] = y[i] + 1e-4, y[i] - 1e-4
            slope = (
                by_hand(family, x, more, x[i], h, "gaussian", 1)[0]
                - by_hand(family, x, less, x[i], h, "gaussian", 1)[0]
            )
            mean = np.exp(eta) if family == "poisson" else expit(eta)
            spread = mean if family == "poisson" else mean * (1 - mean)
            total += deviance(family, y[i], mean) + 2 * spread * slope / 2e-4
        return total

    h = model.bandwidth_[0]
    best = criterion(h)
    agree(model.selection_.value, best, 1e-5)
    assert best <= min(criterion(0.93 * h), criterion(1.07 * h))
    grid, curve = model.selection_.grid[:, 0], model.selection_.curve
    for one in (18, 22, 26):
        agree(curve[one], criterion(grid[one]), 1e-5)


def test_a_window_of_equal_responses():
    """The estimate is their value; the limits are Jeffreys' for as many responses as the window has."""
    x = np.zeros((20, 1))
    fit = LocalLikelihood(degree=0, bandwidth=1.0, kernel="uniform").fit(x, np.zeros(20))
    limits = fit.interval([[0.0]])
    assert [float(part[0]) for part in limits[:2]] == [0.0, 0.0]
    agree(limits.high[0], 0.116639, 1e-5)  # R: qbeta(.975, .5, 20.5)
    agree(LocalLikelihood(degree=0, bandwidth=1.0).fit(x, np.ones(20)).interval([[0.0]]).low[0], 1 - 0.116639, 1e-5)
    none = LocalLikelihood("poisson", degree=0, bandwidth=1.0, kernel="uniform").fit(x, np.zeros(20)).interval([[0.0]])
    agree(none.high[0], 0.1255972, 1e-6)  # R: qgamma(.975, .5, 20)
    assert np.isnan(fit.predict([[0.0]], return_std=True)[1]).all()


@pytest.mark.parametrize("degree", [1, 2])
def test_a_line_that_separates(degree):
    """0 and 1 on its sides, NaN and a warning between; with one response on the other side there is a maximum."""
    x = np.linspace(0, 1, 20)[:, None]
    y = (x[:, 0] > 0.5).astype(float)
    fit = LocalLikelihood(degree=degree, bandwidth=0.4).fit(x, y)
    with pytest.warns(EmptyWindowWarning, match="1 of 5 queries have no estimate .* a line separates"):
        assert fit.predict([[0.0], [0.3], [0.5], [0.7], [1.0]]).tolist()[::3] == [0.0, 1.0]
    y[[9, 10]] = 1.0, 0.0
    assert (fit.fit(x, y).predict([[0.45], [0.55]]) > 0.0).all()
    counts = np.where(x[:, 0] == x[7], 3.0, 0.0)
    rare = LocalLikelihood("poisson", degree=1, bandwidth=0.4).fit(x[:8], counts[:8])
    assert rare.predict([[0.1]]) == [0.0]


def test_rare_successes_choose_a_wide_window():
    y = np.zeros(150)
    y[[50, 90]] = 1.0
    fit = LocalLikelihood().fit(X, y)
    assert np.isfinite(fit.predict(X)).all()
    assert fit.bandwidth_[0] > 0.4


def test_score_is_the_explained_deviance():
    for family, y, theirs in (("bernoulli", WON, d2_log_loss_score), ("poisson", COUNTS, d2_tweedie_score)):
        weights = RNG.random(150)
        fit = LocalLikelihood(family, bandwidth=0.3).fit(X, y, weights)
        options = {} if family == "bernoulli" else {"power": 1}
        agree(fit.score(X, y, weights), theirs(y, fit.predict(X), sample_weight=weights, **options), 1e-9)


def test_coverage_where_the_model_holds():
    """A logistic line is fitted without bias at any bandwidth."""
    rng, truth, hits = np.random.default_rng(1), expit(-1 + 2 * AT[:, 0]), []
    for _ in range(300):
        y = (rng.random(150) < expit(-1 + 2 * X[:, 0])).astype(float)
        got = LocalLikelihood(bandwidth=0.5).fit(X, y).interval(AT)
        hits.append((got.low <= truth) & (truth <= got.high))
    share = np.mean(hits, axis=0)
    assert (share > 0.91).all()
    assert (share < 0.995).all()


@pytest.mark.parametrize(
    ("model", "y", "message"),
    [
        (LocalLikelihood(), 2 * WON, "needs responses that are 0 or 1, got 2 in row"),
        (LocalLikelihood(), 0.5 * WON, "take family='binomial' for shares"),
        (LocalLikelihood("binomial"), COUNTS, "needs shares of successes, 0 <= y <= 1, got"),
        (LocalLikelihood("poisson"), -COUNTS, "needs counts y >= 0, got -"),
        (LocalLikelihood("gamma"), WON, "unknown family 'gamma'; known: bernoulli, binomial, poisson"),
        (LocalLikelihood(bandwidth="plug_in"), WON, "unknown bandwidth selector .* known: aic, leave_one_out"),
        (LocalLikelihood(bandwidth=-1.0), WON, "bandwidth must be positive and finite"),
        (LocalLikelihood(degree=4), WON, "degree must be a whole number >= 0 and <= 3"),
    ],
)
def test_errors(model, y, message):
    with pytest.raises(KernadvError, match=message):
        model.fit(X, y)


def test_a_failed_fit_keeps_the_earlier_one():
    fit = LocalLikelihood(bandwidth=0.3).fit(X, WON)
    before = fit.predict(AT)
    with pytest.raises(KernadvError):
        fit.fit(X, COUNTS)
    np.testing.assert_array_equal(fit.predict(AT), before)


def test_the_order_of_the_rows_does_not_matter():
    order = RNG.permutation(150)
    for family, y in (("bernoulli", WON), ("poisson", COUNTS)):
        one, other = LocalLikelihood(family).fit(X, y), LocalLikelihood(family).fit(X[order], y[order])
        agree(one.predict(AT), other.predict(AT))
        agree(one.loo_predict()[order], other.loo_predict())


def test_tensors():
    torch = pytest.importorskip("torch")
    fit = LocalLikelihood("poisson", bandwidth=0.3).fit(torch.tensor(X), torch.tensor(COUNTS))
    got = fit.predict(torch.tensor(AT, dtype=torch.float32))
    assert got.dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agree(got.numpy(), LocalLikelihood("poisson", bandwidth=0.3).fit(X, COUNTS).predict(AT), 1e-6)


def test_far_from_zero():
    """Distances keep their digits: x + 1e9 is smoothed as x."""
    rng = np.random.default_rng(0)
    x = np.round(rng.random(200) * 1024) / 1024  # exact far away too
    y = (rng.random(200) < 0.3 + 0.4 * x).astype(float)
    at = np.array([0.25, 0.5, 0.75])
    near = LocalLikelihood("bernoulli", bandwidth=0.3).fit(x[:, None], y).predict(at[:, None])
    far = LocalLikelihood("bernoulli", bandwidth=0.3).fit(x[:, None] + 1e9, y).predict(at[:, None] + 1e9)
    np.testing.assert_allclose(far, near, rtol=1e-12)
