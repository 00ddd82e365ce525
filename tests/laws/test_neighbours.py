"""Nearest neighbours: all ties at the k-th distance count, and k points at the query are the whole window."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsRegressor

from kernadv.kernels import KERNELS, get
from kernadv.regression import EmptyWindowWarning, KNeighborsSmoother, LinearSmoother, LocalLinear, NadarayaWatson
from kernadv.regression._base import KernelRegressor
from kernadv.regression.bandwidth import KNeighbors
from kernadv.regression.bandwidth._ordered import prepare
from kernadv.regression.local.polynomial import LocalPolynomialSpec

METRICS = ("euclidean", "manhattan", "chebyshev", "cosine", "canberra", "braycurtis", "correlation", "l2")
#: Distances within this share are equal.
TIE = 1e-9


def rounded(distance, metric):
    """Distances without the rounding errors of 0 in those that are 1 less a quotient."""
    return np.where(distance < 1e-14, 0.0, distance) if metric in ("cosine", "correlation") else distance


def kth(distance, x, k, ties="count"):
    """The k-th smallest distance of each row, of points or of places."""
    if ties == "distinct":
        distance = distance[:, np.unique(x, axis=0, return_index=True)[1]]
    return np.sort(distance, axis=1)[:, k - 1]


def by_definition(distance, y, x, k, kernel="uniform", ties="count", scale=1.0, weights=1.0):
    """The weighted mean with ``K(distance / (scale * k-th distance))``, or of the points at distance 0 if that is 0."""
    kernel, h = get(kernel), scale * kth(distance, x, k, ties)[:, None]
    w = np.where(h > 0.0, kernel.profile(distance / np.where(h > 0.0, h, 1.0)), distance == 0.0) * weights
    total = w.sum(1)
    return np.where(total > 0.0, w @ y / np.where(total > 0.0, total, 1.0), np.nan)


def untied(distance, k):
    """Whether the k nearest are the same whatever the rule for ties."""
    order = np.sort(distance, axis=1)
    return order[:, k - 1] * (1.0 + TIE) < order[:, k] if k < order.shape[1] else np.full(len(order), True)


@st.composite
def designs(draw):
    """Points on a lattice, with duplicates, or in general position; some of the queries are points."""
    seed, n, d = draw(st.integers(0, 10_000)), draw(st.integers(2, 40)), draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    unit, offset = draw(st.sampled_from([1.0, 0.1, 1e-7])), draw(st.sampled_from([0.0, 0.3, 1e6]))
    places = draw(st.sampled_from([2, 5, 0]))
    x = rng.integers(0, places, (n, d)) * 1.0 if places else rng.random((n, d))
    at = np.concatenate([x[::2], rng.integers(0, 5, (5, d)) / 2.0 if places else rng.random((5, d))])
    return x * unit + offset, rng.normal(size=n), at * unit + offset, draw(st.integers(1, n))


@settings(max_examples=150, deadline=None)
@given(designs())
def test_scikit_learn_where_no_tie_crosses_k(design):
    x, y, at, k = design
    distance = np.linalg.norm(x - at[:, None], axis=2)
    got = KNeighborsSmoother(k, kernel="uniform").fit(x, y).predict(at)
    np.testing.assert_allclose(got, by_definition(distance, y, x, k), rtol=1e-9, atol=1e-12)
    clear = untied(distance, k)
    if clear.any():
        theirs = KNeighborsRegressor(k, algorithm="kd_tree").fit(x, y).predict(at)
        np.testing.assert_allclose(got[clear], theirs[clear], rtol=1e-9, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    designs(),
    st.sampled_from(sorted(KERNELS)),
    st.sampled_from(["count", "distinct"]),
    st.sampled_from([0.7, 1.0, 2.0]),
)
def test_every_kernel_by_its_definition(design, kernel, ties, scale):
    x, y, at, k = design
    if ties == "distinct":
        k = min(k, len(np.unique(x, axis=0)))
    distance = np.linalg.norm(x - at[:, None], axis=2)
    weights = np.random.default_rng(k).random(len(y)) + 0.5
    settings = {"kernel": kernel, "ties": ties, "scale": scale, "fall_back": False}
    fit = KNeighborsSmoother(k, **settings).fit(x, y, weights)
    expected = by_definition(distance, y, x, k, kernel, ties, scale, weights)
    got, hat = (_quietly(ask, at) for ask in (fit.predict, fit.hat_matrix))
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(hat @ y, expected, rtol=1e-7, atol=1e-9)
    order = np.random.default_rng(0).permutation(len(y))
    turned = KNeighborsSmoother(k, **settings).fit(x[order], y[order], weights[order])
    np.testing.assert_allclose(_quietly(turned.predict, at), got, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["random", "lattice", "duplicates", "rays"])
@pytest.mark.parametrize("k", [1, 2, 5, 30, 59])
def test_metrics(metric, name, k):
    rng = np.random.default_rng(3)
    x = {
        "random": rng.random((60, 3)) + 0.1,
        "lattice": rng.integers(1, 4, (60, 3)) + np.array([0.0, 4.0, 9.0]),
        "duplicates": np.repeat(rng.random((12, 3)), 5, axis=0),
        "rays": np.repeat(rng.random((12, 3)), 5, axis=0) * np.tile([1.0, 2.0, 3.0, 0.5, 7.0], 12)[:, None],
    }[name]
    y, at = rng.normal(size=60), np.concatenate([x[::3], x[::7] + np.array([0.01, 0.0, 0.02])])
    if metric in ("euclidean", "l2"):
        distance = np.linalg.norm(x - at[:, None], axis=2)
    else:
        distance = rounded(pairwise_distances(at, x, metric=metric), metric)
    for kernel in ("uniform", "tricube", "inverse_distance"):
        got = _quietly(KNeighborsSmoother(k, kernel=kernel, metric=metric, fall_back=False).fit(x, y).predict, at)
        if kernel == "inverse_distance":
            inside = distance <= kth(distance, x, k)[:, None] * (1.0 + TIE)
            near = np.where(distance > 0.0, 1.0 / np.where(distance > 0.0, distance, 1.0), np.inf)
            hit = np.isinf(near).any(1, keepdims=True)
            w = np.where(hit, np.isinf(near), near) * inside
            np.testing.assert_allclose(got, w @ y / w.sum(1), rtol=1e-7)
            continue
        np.testing.assert_allclose(got, by_definition(distance, y, x, k, kernel), rtol=1e-7, atol=1e-10)
    clear = untied(distance, k)
    theirs = KNeighborsRegressor(k, metric=metric).fit(x, y).predict(at)
    ours = KNeighborsSmoother(k, kernel="uniform", metric=metric).fit(x, y).predict(at)
    np.testing.assert_allclose(ours[clear], theirs[clear], rtol=1e-9)


def test_a_function_as_metric():
    x, y = np.random.default_rng(0).integers(0, 5, (40, 2)) * 1.0, np.arange(40.0)
    metric = lambda a, b: float(np.abs(a - b).max())
    distance = np.abs(x - x[:, None]).max(2)
    for k in (1, 3, 10):
        got = KNeighborsSmoother(k, kernel="uniform", metric=metric).fit(x, y).predict(x)
        np.testing.assert_allclose(got, by_definition(distance, y, x, k))


@pytest.mark.parametrize("load", [load_iris, load_digits])
@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_known_data(load, k):
    """At the training rows, where the image or the flower itself is the first neighbour."""
    x, y = load(return_X_y=True)
    x, y = x[:600, :2] if load is load_iris else x[:600], y[:600] + 0.001 * np.arange(len(y[:600]))
    distance = np.sqrt(((x[:, None] - x) ** 2).sum(2))
    got = KNeighborsSmoother(k, kernel="uniform").fit(x, y).predict(x)
    np.testing.assert_allclose(got, by_definition(distance, y, x, k), rtol=1e-12)
    clear = untied(distance, k)
    assert clear.sum() > 5
    np.testing.assert_allclose(got[clear], KNeighborsRegressor(k).fit(x, y).predict(x)[clear], rtol=1e-12)
    if k == 1 and load is load_digits:
        np.testing.assert_array_equal(got, y)


@pytest.mark.parametrize("kernel", [name for name in KERNELS if np.isfinite(KERNELS[name].support)])
@pytest.mark.parametrize("d", [2, 3, 6])
@pytest.mark.parametrize("how", ["apart", "rounded", "weighted", "robust", "nearest"])
def test_means_of_found_neighbours_are_those_of_the_windows(kernel, d, how, monkeypatch):
    """What a search has found, and ties at the k-th distance, points at the query, and empty windows."""
    rng = np.random.default_rng(d)
    x, y = rng.random((150, d)), rng.normal(size=(150, 1 if how == "robust" else 2))
    x = np.round(x, 1) if how == "rounded" else x
    weights = rng.choice([0.0, 0.5, 2.0], 150) if how == "weighted" else None
    options = {"robust": {"robust_steps": 2}, "nearest": {"empty": "nearest", "fall_back": False}}.get(how, {})
    at = np.concatenate([x[:40], rng.random((40, d)), np.full((1, d), 30.0)])
    for k in (1, 2, 7):
        fit = KNeighborsSmoother(k, kernel=kernel, **options).fit(x, y[:, 0] if how == "robust" else y, weights)
        found = fit.predict(at)
        with monkeypatch.context() as patch:
            patch.setattr(KNeighborsSmoother, "_located", KernelRegressor._located)
            np.testing.assert_allclose(found, fit.predict(at), rtol=1e-10, atol=1e-13)


def test_a_search_leaves_pickles_as_they_are():
    rng = np.random.default_rng(0)
    fit = KNeighborsSmoother(5).fit(rng.random((200, 2)), rng.normal(size=200))
    before = pickle.dumps(fit)
    found = fit.predict([[0.5, 0.5]])
    assert pickle.dumps(fit) == before
    np.testing.assert_array_equal(pickle.loads(before).predict([[0.5, 0.5]]), found)


def test_as_written():
    line = KNeighborsSmoother(1, kernel="uniform").fit([[0.0], [1.0], [2.0]], [0.0, 10.0, 20.0])
    np.testing.assert_array_equal(line.predict([[0.0], [1.0]]), [0.0, 10.0])
    x, y = [[0.0], [0.0], [0.0], [5.0], [6.0]], [1.0, 2.0, 3.0, 100.0, 200.0]
    for k, at, expected in [
        (1, 0.0, 2.0),
        (2, 0.0, 2.0),
        (3, 0.0, 2.0),
        (4, 0.0, 26.5),
        (5, 0.0, 61.2),
        (1, 5.0, 100.0),
    ]:
        assert KNeighborsSmoother(k, kernel="uniform").fit(x, y).predict([[at]])[0] == pytest.approx(expected)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("d", [1, 2, 20])
def test_one_neighbour_returns_the_own_response(kernel, degree, d):
    rng = np.random.default_rng(0)
    x, y = rng.random((30, d)), rng.normal(size=(30, 2))
    fit = KNeighborsSmoother(1, kernel=kernel, degree=degree).fit(x, y)
    np.testing.assert_array_equal(fit.predict(x), y)
    np.testing.assert_array_equal(fit.hat_matrix(x), np.eye(30))
    assert np.isnan(fit.loo_predict()).all()  # nothing is left


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("kernel", ["tricube", "uniform", "gaussian", "exponential"])
def test_points_in_one_place(degree, kernel):
    """Their mean, its leverage and its variance, whatever the degree; no derivative."""
    rng = np.random.default_rng(1)
    place = np.repeat(np.arange(8.0), [1, 9, 7, 1, 12, 6, 1, 5])
    y, weights = rng.normal(size=len(place)), rng.random(len(place)) + 0.5
    fit = KNeighborsSmoother(5, kernel=kernel, degree=degree).fit(place[:, None], y, weights)
    full = np.array([1.0, 2.0, 4.0, 5.0, 7.0])
    w = (place == full[:, None]) * weights
    np.testing.assert_allclose(fit.predict(full[:, None]), w @ y / w.sum(1), rtol=1e-12)
    np.testing.assert_allclose(fit.hat_matrix(full[:, None]), w / w.sum(1, keepdims=True), atol=1e-12)
    _, error = fit.predict(full[:, None], return_std=True)
    sigma = fit._fit_quality().scale[0]
    unit = weights[0] / fit._smoother.weights[0]  # the variance of a response is sigma^2 / weight, in that unit
    np.testing.assert_allclose(error, sigma / np.sqrt(w.sum(1) / unit), rtol=1e-9)
    loo = fit.loo_predict()
    for i in np.flatnonzero(np.isin(place, full)):
        others = (place == place[i]) & (np.arange(len(place)) != i)
        assert loo[i] == pytest.approx(np.average(y[others], weights=weights[others]), rel=1e-9)
    if degree:
        with pytest.warns(EmptyWindowWarning):
            assert np.isnan(fit.derivative(full[:, None])).all()
    normal = fit.interval(full[:, None], method="normal")
    np.testing.assert_allclose(normal.estimate, fit.predict(full[:, None]), rtol=1e-12)
    assert (normal.low < normal.estimate).all()
    assert np.isfinite(fit.band(full[:, None]).high).all()


def test_lowess_at_places():
    """statsmodels' test of duplicate x: 100 rows at 1 and at 2, one at 0 and at 3; lowess gives the means there."""
    x = np.concatenate([[0.0], np.ones(100), np.full(100, 2.0), [3.0]])
    got = KNeighborsSmoother(50, degree=1).fit(x[:, None], x).predict([[0.0], [1.0], [2.0], [3.0]])
    np.testing.assert_allclose(got, [0.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("kernel", ["uniform", "triangular", "gaussian", "exponential"])
@pytest.mark.parametrize("d", [1, 2])
def test_selection_leaves_out_one_of_a_place(kernel, d):
    """Each point from the k nearest of the others, all ties, over places that hold several."""
    rng = np.random.default_rng(2)
    x, y, series = rng.integers(0, 4, (50, d)) * 1.0, rng.normal(size=(50, 1)), rng.integers(0, 2, 50)
    sample = prepare(
        LinearSmoother(LocalPolynomialSpec(KERNELS[kernel], 0, radial=True), x, y, np.ones(50), series=series)
    )
    for k in (1, 2, 4, 9):
        got = KNeighbors().errors(sample, np.array([float(k)])).error[:, 0]
        for i in range(50):
            use = (sample.label == sample.label[i]) & (np.arange(50) != i)
            distance = np.linalg.norm(sample.x[use] - sample.x[i], axis=1)[None]
            mean = by_definition(distance, sample.y[use, 0], sample.x[use], k, kernel)[0]
            np.testing.assert_allclose(got[i], sample.y[i, 0] - mean, atol=1e-9)


def test_a_selected_number_of_neighbours_at_places():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, (120, 1)) * 1.0
    y = x[:, 0] ** 2 + 0.1 * rng.normal(size=120)
    for regressor in (NadarayaWatson("k_neighbors"), LocalLinear("k_neighbors")):
        fit = regressor.fit(x, y)
        narrow = fit.selection_.grid[np.argmin(fit.selection_.curve), 0] <= 10
        assert narrow
        means = [y[x[:, 0] == place].mean() for place in range(6)]
        np.testing.assert_allclose(fit.predict(np.arange(6.0)[:, None]), means, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3, 17])
def test_far_from_the_origin_and_in_many_series(d):
    """No rounding takes the k-th neighbour out of its own window."""
    rng = np.random.default_rng(5)
    names = np.repeat(np.arange(40), 30)
    x = np.round(rng.random((1200, d)) * 1e-3, 7) + 1e5 * rng.integers(-9, 9, 40)[names, None]
    y = rng.normal(size=1200)
    for k in (1, 3, 20):
        got = KNeighborsSmoother(k, kernel="uniform").fit(x, y, groups=names).predict(x, groups=names)
        for s in (0, 17, 39):
            own = names == s
            distance = np.linalg.norm(x[own] - x[own][:, None], axis=2)
            np.testing.assert_allclose(got[own], by_definition(distance, y[own], x[own], k), rtol=1e-9)


def test_queries_of_other_kinds():
    """Tensors and float32 in, the same neighbours."""
    torch = pytest.importorskip("torch")
    x, y = np.arange(12.0)[:, None] // 3, np.arange(12.0)
    for k in (1, 3, 4):
        expected = by_definition(np.abs(x - x.T), y, x, k)
        tensors = KNeighborsSmoother(k, kernel="uniform").fit(torch.tensor(x), torch.tensor(y))
        np.testing.assert_allclose(tensors.predict(torch.tensor(x)).numpy(), expected)
        short = KNeighborsSmoother(k, kernel="uniform").fit(x.astype(np.float32), y)
        np.testing.assert_allclose(short.predict(x.astype(np.float32)), expected)


def _quietly(ask, at):
    """Without the warning of windows that a compact kernel leaves empty: these are compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyWindowWarning)
        return ask(at)
