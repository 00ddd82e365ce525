"""`frequency` is repeating the rows, in everything that a fit answers."""

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.bandwidth import SELECTORS
from kernadv.regression.inference import standard_error

RNG = np.random.default_rng(0)
N = 60
X = np.round(RNG.random((N, 1)), 2)
Y = np.column_stack([np.sin(6 * X[:, 0]), X[:, 0]]) + 0.3 * RNG.normal(size=(N, 2))
TIMES = RNG.integers(0, 4, N)
ROWS = np.repeat(np.arange(N), TIMES)
WEIGHTS = RNG.random(N) + 0.5
LEVEL = RNG.integers(0, 3, N)
LEVEL[TIMES == 0] = 9  # a level and a group that only rows of frequency 0 have
GROUP = np.where(TIMES == 0, "gone", np.where(RNG.random(N) < 0.5, "a", "b"))
AT = np.linspace(0.1, 0.9, 7)[:, None]


@pytest.mark.filterwarnings("ignore::kernadv.EmptyWindowWarning")
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("name", SELECTORS)
def test_selected_bandwidths(name, weights):
    fit = LocalLinear(name).fit(X, Y, weights, frequency=TIMES)
    again = LocalLinear(name).fit(X[ROWS], Y[ROWS], None if weights is None else weights[ROWS])
    np.testing.assert_array_equal(fit.bandwidth_, again.bandwidth_)
    np.testing.assert_array_equal(fit.predict(AT), again.predict(AT))


CASES = {
    "mean": (NadarayaWatson(0.4), None),
    "line": (LocalLinear(), None),
    "parabola": (LocalPolynomial(2, bandwidth=0.6), None),
    "past": (LocalLinear(0.6, kernel="gaussian", side="past"), None),
    "neighbours": (KNeighborsSmoother(30, degree=1), None),
    "share of neighbours": (KNeighborsSmoother(0.3), None),
    "categorical": (NadarayaWatson(categorical={1: "unordered"}), "level"),
    "groups": (LocalLinear(0.6), "group"),
}


@pytest.mark.filterwarnings("ignore::kernadv.EmptyWindowWarning")
@pytest.mark.parametrize("case", CASES)
def test_every_answer(case):
    regressor, more = CASES[case]
    x = np.column_stack([X, LEVEL]) if more == "level" else X
    at = np.column_stack([AT, np.ones(7)]) if more == "level" else AT
    groups, asked = (GROUP, {"groups": np.repeat("a", 7)}) if more == "group" else (None, {})

    def answers(fit):
        return [
            *fit.predict(at, return_std=True, **asked),
            *fit.interval(at, **asked)[:3],
            *fit.band(at, **asked)[:3],
        ]

    fit = regressor.fit(x, Y, WEIGHTS, groups, frequency=TIMES)
    got, loo, text = answers(fit), fit.loo_predict(), fit.summary()
    hat, names, there = fit.hat_matrix(at, **asked), fit.groups_, np.flatnonzero(TIMES)
    scored = case not in ("groups", "past")  # these have no estimate at some rows, or want their groups
    score = fit.score(x[there], Y[there], WEIGHTS[there], TIMES[there]) if scored else None
    again = regressor.fit(x[ROWS], Y[ROWS], WEIGHTS[ROWS], None if groups is None else groups[ROWS])
    for one, other in zip(got, answers(again), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(loo[ROWS], again.loo_predict())
    assert np.isnan(loo[TIMES == 0]).all()
    assert text == again.summary()
    assert hat.shape == (7, N)
    np.testing.assert_allclose(hat, again.hat_matrix(at, **asked) @ np.eye(N)[ROWS], atol=1e-12)
    if scored:
        assert score == pytest.approx(again.score(x[ROWS], Y[ROWS], WEIGHTS[ROWS]), rel=1e-12)
    if groups is not None:
        assert names.tolist() == again.groups_.tolist() == ["a", "b"]


def test_it_is_not_a_weight():
    """Errors shrink with repetitions, not with weights."""
    error = [
        LocalLinear(0.3).fit(X, Y[:, 0], **given).predict(AT, return_std=True)[1]
        for given in ({}, {"sample_weight": np.full(N, 4)}, {"frequency": np.full(N, 4)})
    ]
    np.testing.assert_allclose(error[1], error[0], rtol=1e-12)
    np.testing.assert_allclose(error[2] / error[0], 0.5, rtol=0.1)
    fit = LocalLinear(0.3).fit(X, Y[:, 0], frequency=TIMES)
    again = LocalLinear(0.3).fit(X[ROWS], Y[ROWS, 0])
    np.testing.assert_array_equal(standard_error(fit.as_fit(), AT), standard_error(again.as_fit(), AT))


@pytest.mark.parametrize(
    "kind", [np.asarray, list, lambda times: times.astype(float), lambda times: times.astype(np.uint8)]
)
def test_kinds_of_whole_numbers(kind):
    got = NadarayaWatson(0.3).fit(X, Y, frequency=kind(TIMES)).predict(AT)
    np.testing.assert_array_equal(got, NadarayaWatson(0.3).fit(X[ROWS], Y[ROWS]).predict(AT))


def test_tensors():
    torch = pytest.importorskip("torch")
    fit = NadarayaWatson(0.3).fit(torch.tensor(X), torch.tensor(Y), frequency=torch.tensor(TIMES))
    expected = NadarayaWatson(0.3).fit(X[ROWS], Y[ROWS]).predict(AT)
    np.testing.assert_allclose(fit.predict(torch.tensor(AT)).numpy(), expected, rtol=1e-12)
    assert isinstance(fit.loo_predict(), torch.Tensor)


def test_a_refused_frequency_keeps_the_earlier_fit():
    fit = NadarayaWatson(0.3).fit(X, Y)
    before = fit.predict(AT)
    with pytest.raises(ValueError, match="whole numbers >= 0"):
        fit.fit(X, -Y, frequency=np.full(N, 0.5))
    np.testing.assert_array_equal(fit.predict(AT), before)


def test_routing():
    """Through a pipeline and a search, as scikit-learn routes weights."""
    pipeline = make_pipeline(StandardScaler(), LocalLinear(0.4))
    scaled = StandardScaler().fit(X)
    expected = LocalLinear(0.4).fit(scaled.transform(X)[ROWS], Y[ROWS]).predict(scaled.transform(AT))
    np.testing.assert_allclose(pipeline.fit(X, Y, locallinear__frequency=TIMES).predict(AT), expected, rtol=1e-12)
    with sklearn.config_context(enable_metadata_routing=True):
        line = LocalLinear(kernel="gaussian").set_fit_request(frequency=True).set_score_request(frequency=True)
        search = GridSearchCV(line, {"bandwidth": [0.1, 9.0]}, cv=3, error_score="raise")
        search.fit(X, Y[:, 0], frequency=TIMES)
        assert search.best_params_ == {"bandwidth": 0.1}
        np.testing.assert_array_equal(
            search.predict(AT), LocalLinear(0.1, kernel="gaussian").fit(X[ROWS], Y[ROWS, 0]).predict(AT)
        )
