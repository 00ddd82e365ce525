"""The same bad input to every regressor and every selector: a clear error, or a sound result; never anything else."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from kernadv import KernadvError
from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.bandwidth import SELECTORS

RNG = np.random.default_rng(0)
X = np.sort(RNG.random((60, 1)), axis=0)
Y = np.sin(6 * X[:, 0]) + 0.2 * RNG.normal(size=60)

REGRESSORS = {
    "NadarayaWatson()": NadarayaWatson(),
    "NadarayaWatson past": NadarayaWatson("prequential", side="past", kernel="triangular"),
    "LocalPolynomial(2)": LocalPolynomial(2),
    "LocalPolynomial(3, 0.5)": LocalPolynomial(3, bandwidth=0.5),
    "KNeighborsSmoother()": KNeighborsSmoother(),
    "KNeighborsSmoother manhattan": KNeighborsSmoother(7, metric="manhattan"),
    "KNeighborsSmoother inverse": KNeighborsSmoother(4, kernel="inverse_distance"),
    "KNeighborsSmoother distinct": KNeighborsSmoother(0.3, degree=1, ties="distinct"),
    **{f"LocalLinear({name!r})": LocalLinear(name) for name in SELECTORS},
}
every = pytest.mark.parametrize("name", REGRESSORS)


def with_bad(values, bad):
    out = values.copy()
    out.flat[7] = bad
    return out


ERRORS = {
    "n = 0": (X[:0], Y[:0], None, "Found array with 0 sample"),
    "NaN in X": (with_bad(X, np.nan), Y, None, "Input X contains NaN"),
    "inf in X": (with_bad(X, np.inf), Y, None, "Input X contains infinity"),
    "NaN in y": (X, with_bad(Y, np.nan), None, "Input y contains NaN"),
    "inf in y": (X, with_bad(Y, -np.inf), None, "Input y contains infinity"),
    "strings in X": (
        np.array([["a"]] * 60),
        Y,
        None,
        "could not convert string to float|dtype='numeric' is not compatible",
    ),
    "strings in y": (X, np.array(["a"] * 60), None, "y must hold numbers|could not convert string|dtype"),
    "sparse X": (sparse.csr_matrix(X), Y, None, "Sparse data was passed"),
    "negative weight": (X, Y, with_bad(np.ones(60), -1.0), "sample_weight must not be negative, got -1.0 in row 7"),
    "zero weights": (X, Y, np.zeros(60), "sample_weight is zero in every row: nothing is left to fit"),
    "NaN weight": (X, Y, with_bad(np.ones(60), np.nan), "weight contains NaN"),
    "lengths": (X, Y[1:], None, "inconsistent numbers of samples"),
}


@every
@pytest.mark.parametrize("case", ERRORS)
def test_errors(name, case):
    x, y, weights, message = ERRORS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        REGRESSORS[name].fit(x, y, weights)


@every
def test_a_failed_fit_keeps_the_earlier_one(name):
    fit = REGRESSORS[name].fit(X, Y)
    before = fit.predict(X[5:55])
    for x, y, weights in ((np.column_stack([X, X]), with_bad(Y, np.nan), None), (0 * X, Y, -np.ones(60))):
        with pytest.raises(ValueError, match=r"NaN|negative"):
            fit.fit(x, y, weights)
    if name.startswith("LocalLinear("):
        with pytest.raises(ValueError, match="x is constant"):
            fit.fit(0 * X, Y)
    np.testing.assert_array_equal(fit.predict(X[5:55]), before)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (LocalPolynomial(1, bandwidth=0.5), {"degree": 3, "kernel": "uniform", "bandwidth": -1.0}),
        (LocalLinear("mse_rule"), {"bandwidth": "mse_rul"}),
        (NadarayaWatson(0.5), {"side": "past", "kernel": "gaussian", "categorical": {7: "ordered"}}),
        (
            KNeighborsSmoother(9, degree=1, scale=2.0),
            {"degree": 2, "scale": 0.5, "ties": "distinct", "kernel": "gaussian", "k": 0},
        ),
    ],
)
def test_a_fit_failed_by_new_parameters_keeps_the_earlier_one(good, bad):
    """What was fitted answers, not the parameters set since."""
    x, ask = np.repeat(X, 2, axis=0), [np.median(X, axis=0)]
    fit = clone(good).fit(x, np.repeat(Y, 2))
    before = fit.predict(ask), fit.predict(ask, return_std=True)[1], fit.derivative(ask), fit.summary()
    with pytest.raises(KernadvError):
        fit.set_params(**bad).fit(x, np.repeat(Y, 2))
    after = fit.predict(ask), fit.predict(ask, return_std=True)[1], fit.derivative(ask), fit.summary()
    assert [str(a) for a in after] == [str(b) for b in before]


def test_an_interrupted_fit_keeps_the_earlier_one():
    class Interrupted(LocalLinear):
        def _with_bandwidth(self, smoother):
            smoother = super()._with_bandwidth(smoother)
            if len(smoother.y) == 30:
                raise KeyboardInterrupt
            return smoother

    fit = Interrupted(0.5).fit(X, Y)
    before = dict(vars(fit))
    with pytest.raises(KeyboardInterrupt):
        fit.fit(np.column_stack([X, X])[:30], Y[:30], groups=np.arange(30) % 2)
    assert vars(fit).keys() == before.keys()
    assert all(vars(fit)[name] is before[name] for name in before)


def outcome(regressor, x, y, at):
    """Predictions, or the error that says what to do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=__name__)
        try:
            return regressor.fit(x, y).predict(at)
        except KernadvError as error:
            message = str(error)
    assert any(word in message for word in ("use ", "give ", "lower ", "drop ", "too few points"))
    return None


@every
@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_rows(name, n):
    got = outcome(REGRESSORS[name], X[:n], Y[:n], X[:n])
    if got is not None:  # neighbours and given bandwidths
        assert (np.isnan(got) | ((got >= Y[:n].min() - 1e-12) & (got <= Y[:n].max() + 1e-12))).all()


@every
def test_constant_x(name):
    """The mean of the responses, no estimate, or an error."""
    got = outcome(REGRESSORS[name], np.ones((60, 1)), Y, np.ones((2, 1)))
    if got is not None:
        np.testing.assert_allclose(got[~np.isnan(got)], Y.mean())
    if "LocalLinear(" in name:
        with pytest.raises(
            KernadvError, match="x is constant: no bandwidth can be selected; give one, or drop the dim"
        ):
            REGRESSORS[name].fit(np.ones((60, 1)), Y)


@every
def test_equal_responses(name):
    got = outcome(REGRESSORS[name], X, np.full(60, 3.0), X[5:55])
    if got is not None:
        np.testing.assert_allclose(got, 3.0, rtol=1e-10)


@every
def test_repeated_x(name):
    """Twelve places with five points each."""
    x = np.repeat(np.linspace(0, 1, 12), 5)[:, None]
    got = outcome(REGRESSORS[name], x, np.sin(6 * x[:, 0]) + 0.2 * RNG.normal(size=60), x)
    assert got is None or np.isfinite(got).all()


@every
def test_far_query(name):
    """No estimate, or for neighbours and kernels without an edge the nearest ones; never 0, and a warning."""
    fit = REGRESSORS[name].fit(X, Y)
    if isinstance(fit, KNeighborsSmoother):
        assert np.isfinite(fit.predict([[50.0]])).all()
    else:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = fit.predict([[50.0]])
        assert np.isnan(got[0]) == bool(caught)
        assert np.isnan(got[0]) or abs(got[0]) > 1e-6


@pytest.mark.parametrize(
    "name", ["NadarayaWatson()", "LocalPolynomial(2)", "KNeighborsSmoother()", "LocalLinear('aicc')"]
)
def test_more_columns_than_rows(name):
    wide = RNG.random((8, 12))
    got = outcome(REGRESSORS[name], wide, wide[:, 0], wide)
    assert got is None or np.isfinite(got).all()


@pytest.mark.parametrize(
    "bandwidth", [[0.1, 0.2], [], np.ones((2, 2)), {"x": 1}, "0.1", 0.0, -1.0, np.nan, np.inf, None]
)
@pytest.mark.parametrize("kind", [NadarayaWatson, LocalLinear, lambda h: LocalPolynomial(2, bandwidth=h)])
def test_bandwidths(kind, bandwidth):
    with pytest.raises(KernadvError, match="bandwidth"):
        kind(bandwidth).fit(X, Y)


PARAMETERS = {
    "degree": (lambda bad: LocalPolynomial(bad, bandwidth=0.5), "degree must be a whole number >= 0"),
    "k": (KNeighborsSmoother, "k must be a whole number >= 1, or a share|neighbours are more than the points"),
    "scale": (lambda bad: KNeighborsSmoother(5, scale=bad), "scale must be "),
    "ties": (lambda bad: KNeighborsSmoother(5, ties=bad), "unknown ties"),
    "side": (lambda bad: NadarayaWatson(0.5, side=bad), "unknown side"),
    "kernel": (lambda bad: NadarayaWatson(0.5, kernel=bad), "kernel must be a name or a Kernel, got"),
    "radial": (lambda bad: NadarayaWatson(0.5, radial=bad), "radial must be True or False, got"),
    "bandwidth": (lambda bad: NadarayaWatson([bad]), "bandwidth must be"),
    "categorical": (lambda bad: NadarayaWatson(0.5, categorical=bad), "categorical must be a dict of columns"),
}


@pytest.mark.parametrize("bad", [np.ones(3), np.array([["a"]]), float("nan"), 10**400, -1.5, {1}], ids=repr)
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name, bad):
    make, message = PARAMETERS[name]
    with pytest.raises(KernadvError, match=message):
        make(bad).fit(X, Y)


def test_a_huge_bandwidth():
    with pytest.raises(KernadvError, match="bandwidth must be a number, one number a column"):
        NadarayaWatson(10**400).fit(X, Y)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sample_weight": ["a"] * 60}, "sample_weight must be numbers, got"),
        ({"sample_weight": {1, 2}}, "sample_weight must be numbers, got {1, 2}"),
        ({"groups": [[1, 2], [3]]}, "groups must be one str or int a row, got"),
        ({"frequency": ["a"] * 60}, "frequency must be numbers, got"),
        ({"frequency": 3}, r"frequency must be one whole number a row \(60\), got shape \(\)"),
        ({"frequency": np.ones(59)}, r"frequency must be one whole number a row \(60\), got shape \(59,\)"),
        ({"frequency": np.ones((60, 1))}, r"one whole number a row \(60\), got shape \(60, 1\)"),
        (
            {"frequency": with_bad(np.ones(60), 0.5)},
            r"whole numbers >= 0, how often each row is there, got 0\.5 in row 7",
        ),
        (
            {"frequency": with_bad(np.ones(60), -1.0)},
            r"whole numbers >= 0.*got -1\.0 in row 7; sample_weight takes inverse",
        ),
        ({"frequency": with_bad(np.ones(60), np.nan)}, "whole numbers >= 0.*got nan in row 7"),
        ({"frequency": with_bad(np.ones(60), np.inf)}, "whole numbers >= 0.*got inf in row 7"),
        ({"frequency": np.zeros(60)}, "frequency is zero in every row: nothing is left to fit"),
        (
            {"frequency": np.full(60, 1e8)},
            r"frequency asks for 6e\+09 rows, more than 100,000,000; fit the mean response",
        ),
    ],
)
def test_rows_of_the_wrong_kind(given, message):
    with pytest.raises(KernadvError, match=message):
        NadarayaWatson(0.5).fit(X, Y, **given)


def test_what_is_no_axes():
    with pytest.raises(KernadvError, match="ax must be an Axes of matplotlib, got str"):
        NadarayaWatson(0.5).fit(X, Y).plot("axes")


@pytest.mark.parametrize("metric", ["far", None, 3])
def test_metrics(metric):
    with pytest.raises(KernadvError, match=r"metric must be a distance of sklearn\.metrics\.pairwise_distances"):
        KNeighborsSmoother(3, metric=metric).fit(X, Y)


def test_metrics_and_kernels_of_neighbours():
    with pytest.raises(KernadvError, match="metric='manhattan' does not work with groups; use 'euclidean'"):
        KNeighborsSmoother(3, metric="manhattan").fit(X, Y, groups=np.arange(60) % 2)
    with pytest.raises(KernadvError, match="kernel='inverse_distance' interpolates: it needs degree=0, got 1"):
        KNeighborsSmoother(3, kernel="inverse_distance", degree=1).fit(X, Y)
    with pytest.raises(KernadvError, match="use a kernel that does not interpolate"):
        KNeighborsSmoother(3, kernel="inverse_distance").fit(X, Y).interval(X)
    assert np.isnan(KNeighborsSmoother(3, kernel="inverse_distance").fit(X, Y).loo_predict()).all()


def test_groups_of_a_data_frame():
    """Strings of a data frame are objects in numpy."""
    names = np.array(["a", "b"] * 30, object)
    fit = NadarayaWatson(0.3).fit(X, Y, groups=names)
    alone = NadarayaWatson(0.3).fit(X[::2], Y[::2])
    np.testing.assert_allclose(fit.predict(X[::2], groups=names[::2]), alone.predict(X[::2]), atol=1e-12)
    with pytest.raises(KernadvError, match="groups must be one str or int a row"):
        fit.fit(X, Y, groups=np.array(["a", 1] * 30, object))
