"""Regressors of tensors: the numbers of main memory, from the device's code and the kernels' references."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn.base
import torch
from waiting import Forbidden

from kernadv import KernadvError
from kernadv.kernels import KERNELS, Kernel
from kernadv.regression import EmptyWindowWarning, KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.operators import local, ops

pytestmark = pytest.mark.filterwarnings("ignore::kernadv.EmptyWindowWarning")
SELECTORS = ("leave_one_out", "gcv", "aicc", "prequential")


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, np.sin(2 * x[:, 0]) + 0.1 * rng.standard_normal(n), rng.random(n) + 0.5, rng.standard_normal((23, d))


def tensors(*arrays, dtype=torch.float64):
    return [torch.as_tensor(part).to(dtype) for part in arrays]


def close(got, expected, tolerance=1e-10):
    """Relative to the largest; NaN in the same places."""
    got = got.double().numpy()
    assert got.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    top = np.nanmax(np.abs(expected), initial=1e-300)
    assert np.nanmax(np.abs(got - expected), initial=0.0) <= tolerance * top


def both(regressor, x, y, w, dtype=torch.float64):
    """The fit in main memory and the one of tensors, of the same numbers."""
    x, y, w = tensors(x, y, w, dtype=dtype)
    here = regressor.set_params(backend="numba").fit(x.double().numpy(), y.double().numpy(), w.double().numpy())
    return pickle.loads(pickle.dumps(here)), regressor.set_params(backend="torch").fit(x, y, w)


def wide(d, radial):
    """A bandwidth within which a line is determined."""
    return 1.7 * (d**0.5 if radial else 1.0 if d < 40 else 2.5)


# ---------------------------------------------------------------- the numbers
@pytest.mark.parametrize(
    ("regressor", "d", "n"),
    [(NadarayaWatson, d, n) for d in (1, 2, 5, 40) for n in (1, 17, 300)]
    + [(LocalLinear, d, n) for d, n in ((1, 17), (1, 300), (2, 17), (2, 300), (5, 17), (5, 300), (40, 300))],
)
def test_sizes(regressor, d, n):
    x, y, w, at = data(n, d)
    for radial in (False, True):
        here, there = both(regressor(wide(d, radial), radial=radial), x, y, w)
        close(there.predict(*tensors(at)), here.predict(at))
        close(there.loo_predict(), here.loo_predict())
        close(there.hat_matrix(*tensors(at)), here.hat_matrix(at))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("side", ["both", "past"])
@pytest.mark.parametrize("regressor", [NadarayaWatson, LocalLinear])
def test_kernels(kernel, side, regressor):
    x, y, w, at = data(60, 2)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        for radial in (False, True):
            here, there = both(regressor(2.5, kernel=kernel, side=side, radial=radial), x, y, w, dtype)
            q = tensors(at, dtype=dtype)[0]
            close(there.predict(q), here.predict(q.double().numpy()), tolerance)
            close(there.loo_predict(), here.loo_predict(), 10 * tolerance)


@pytest.mark.parametrize("kernel", ["uniform", "triangular"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_edges_of_a_grid(kernel, dtype):
    """Points exactly one bandwidth away count where the kernel is positive at its edge, whatever the rounding."""
    x = 0.1 * np.arange(40.0)[:, None]
    y = np.sin(x[:, 0])
    here = NadarayaWatson(0.3, kernel=kernel).fit(x, y)
    there = NadarayaWatson(0.3, kernel=kernel, backend="torch").fit(*tensors(x, y, dtype=dtype))
    close(there.predict(*tensors(x, dtype=dtype)), here.predict(x), 1e-10 if dtype == torch.float64 else 1e-6)


def test_points_that_are_alone():
    """Others that weigh nothing beside the point itself leave it without an estimate from others."""
    x, y, w, _ = data(60, 1)
    x[:2] = [[7.0], [30.0]]
    for kernel in ("gaussian", "tricube"):
        here, there = both(NadarayaWatson(0.8, kernel=kernel), x, y, w)
        assert np.isnan(here.loo_predict()[:2]).tolist() == [kernel != "gaussian", True]
        close(there.loo_predict(), here.loo_predict(), 1e-6)  # main memory subtracts the point itself


@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("d", [1, 2, 5, 40])
@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
def test_neighbours(degree, d, tied):
    """Ties, several points at a query, places that count once; in all dimensions."""
    x, y, w, at = data(120, d)
    if tied:
        x, at = np.rint(x), np.rint(at)
    few = 3 if degree == 0 else min(2 * d + 8, len(np.unique(x, axis=0)))
    for kernel in ("tricube", "uniform", "gaussian"):
        for ties in ("count", "distinct"):
            for k in {1 if degree == 0 else few, few, 0.8}:
                model = KNeighborsSmoother(k, degree=degree, kernel=kernel, ties=ties, scale=1.3, fall_back=False)
                here, there = both(model, x, y, w)
                assert here.k_ == there.k_
                close(there.predict(*tensors(at)), here.predict(at), 1e-9)
                close(there.loo_predict(), here.loo_predict(), 1e-8 if degree else 1e-10)
                close(there.hat_matrix(*tensors(at)), here.hat_matrix(at), 1e-9)


def test_neighbours_in_float32():
    """The k-th neighbour counts with the uniform kernel, far from the origin too."""
    x, y, w, at = data(200, 3)
    here, there = both(KNeighborsSmoother(7, kernel="uniform"), x + 50.0, y, w, torch.float32)
    q = tensors(at + 50.0, dtype=torch.float32)[0]
    close(there.predict(q), here.predict(q.double().numpy()), 1e-5)


@pytest.mark.parametrize("regressor", [NadarayaWatson, LocalLinear])
@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize(("d", "n"), [(1, 17), (1, 300), (2, 60), (5, 80)])
def test_selection(regressor, selector, d, n):
    x, y, w, _ = data(n, d)
    here, there = both(regressor(selector), x, y, w)
    mine, theirs = there.selection_, here.selection_
    np.testing.assert_allclose(mine.grid, theirs.grid, rtol=1e-12)
    np.testing.assert_allclose(mine.curve, theirs.curve, rtol=1e-10 if regressor is NadarayaWatson else 1e-9)
    np.testing.assert_allclose(mine.value, theirs.value, rtol=1e-5)
    assert (mine.criterion, mine.at_edge, mine.flat) == (theirs.criterion, theirs.at_edge, theirs.flat)
    if regressor is NadarayaWatson:
        _, there = both(regressor(selector), x, y, w, torch.float32)
        np.testing.assert_allclose(there.selection_.curve, theirs.curve, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "radial"), [("gaussian", False), ("gaussian", True), ("epanechnikov", True)])
def test_many_dimensions_in_float32(kernel, radial, monkeypatch):
    """By matrix products; far from all points a Gaussian weight is no zero either."""
    x, y, _, at = data(120, 40)
    x, y, at = (part.astype(np.float32) for part in (x, y, at))
    asked = []
    moments = ops.flash_moments
    monkeypatch.setattr(ops, "flash_moments", lambda *a, **k: asked.append(1) or moments(*a, **k))
    for bandwidth in (wide(40, radial), np.linspace(0.9, 1.1, 40) * wide(40, radial), "leave_one_out"):
        here = NadarayaWatson(bandwidth, kernel=kernel, radial=radial).fit(x, y)
        there = NadarayaWatson(bandwidth, kernel=kernel, radial=radial, backend="torch").fit(
            *tensors(x, y, dtype=torch.float32)
        )
        if isinstance(bandwidth, str):
            np.testing.assert_allclose(there.selection_.curve, here.selection_.curve, rtol=1e-5)
            continue
        close(there.predict(*tensors(at, dtype=torch.float32)), here.predict(at.astype(float)), 1e-5)
        close(there.loo_predict(), here.loo_predict(), 1e-5)
        close(there.hat_matrix(*tensors(at, dtype=torch.float32)), here.hat_matrix(at.astype(float)), 1e-5)
    assert len(asked) > 32
    narrow = NadarayaWatson(0.3, kernel="gaussian", backend="torch").fit(*tensors(x, y, dtype=torch.float32))
    square = torch.as_tensor(np.square(at[:, None].astype(float) - x).sum(2))
    expected = torch.softmax(-0.5 * square / 0.3**2, 1) @ torch.as_tensor(y.astype(float))
    close(narrow.predict(*tensors(at, dtype=torch.float32)), expected.numpy(), 1e-5)


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_far_weights_in_float32(kernel):
    """What a weight of 1e-100 tells is told, so that narrow bandwidths are scored as in main memory."""
    x, y, w, _ = data(40, 2)
    here, there = both(NadarayaWatson("prequential", kernel=kernel), x, y, w, torch.float32)
    np.testing.assert_allclose(there.selection_.curve, here.selection_.curve, rtol=1e-5)
    at = np.array([[7.0, 7.0], [9.0, -9.0]], np.float32)
    here, there = both(NadarayaWatson(0.6, kernel=kernel), x, y, w, torch.float32)
    assert not np.isnan(here.predict(at)).any()
    close(there.predict(torch.as_tensor(at)), here.predict(at.astype(float)), 1e-6)
    assert there.predict(torch.as_tensor(at)).dtype == torch.float32


def test_selection_spares_isolated_points():
    x, y, w, _ = data(200, 1)
    x[:3] = [[40.0], [80.0], [160.0]]
    here, there = both(NadarayaWatson(), x, y, w)
    np.testing.assert_allclose(there.bandwidth_, here.bandwidth_, rtol=3e-4)


def test_selection_takes_one_pass_for_the_grid(monkeypatch):
    asked = []
    moments = ops.local_moments
    monkeypatch.setattr(ops, "local_moments", lambda *a, **k: asked.append(len(a[3])) or moments(*a, **k))
    x, y, w, _ = data(50, 1)
    NadarayaWatson(backend="torch").fit(*tensors(x, y, w))
    assert asked[0] == 32
    assert set(asked[1:]) == {1}
    assert len(asked) < 20


def test_several_responses_and_rows_without_weight():
    x, y, w, at = data(60, 2)
    y = np.stack([y, 1e6 - y], axis=1)
    w[::3] = 0.0
    for regressor in (NadarayaWatson(3.0), LocalLinear(4.0), KNeighborsSmoother(9)):
        here, there = both(regressor, x, y, w)
        close(there.predict(*tensors(at)), here.predict(at))
        close(there.loo_predict(), here.loo_predict())
        close(there.hat_matrix(*tensors(at)), here.hat_matrix(at))
        score = there.score(*tensors(x, y, w))
        np.testing.assert_allclose(score, here.score(x, y, w))


def test_far_from_the_origin():
    x, y, w, at = data(60, 1)
    here, there = both(LocalLinear(0.8), x + 1e6, y, w)
    close(there.predict(*tensors(at + 1e6)), here.predict(at + 1e6), 1e-9)
    for scale in (1e-30, 1e30):  # no square leaves the range of float32
        here, there = both(LocalLinear(0.8 * scale), x * scale, y, w, torch.float32)
        q = tensors(at * scale, dtype=torch.float32)[0]
        close(there.predict(q), here.predict(q.double().numpy()), 1e-5)


def test_nothing_depends_on_the_blocks(monkeypatch):
    x, y, w, at = data(60, 2)
    _, there = both(LocalLinear(1.5), x, y, w)
    expected = [there.predict(*tensors(at)), there.hat_matrix(*tensors(at)), there.loo_predict()]
    monkeypatch.setattr(local, "PAIRS", 200)
    monkeypatch.setattr("kernadv.regression.operators.smoother.BLOCK", 100)
    for mine, theirs in zip([there.predict(*tensors(at)), there.hat_matrix(*tensors(at)), there.loo_predict()],
                            expected, strict=True):  # fmt: skip
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14, equal_nan=True)


# ---------------------------------------------------------------- series
def visits(seed=0, n=300):
    """Rows in no order: steps with ties, names of series, responses, weights; queries, some of unseen series."""
    rng = np.random.default_rng(seed)
    x, groups = rng.integers(1, 120, (n, 1)), rng.integers(0, 8, n) * 7 - 9
    w = rng.random(n) + 0.5
    w[::9] = 0.0
    y = np.sin(x[:, 0] / 9) + groups + 0.1 * rng.standard_normal(n)
    return (x, y, w, groups), (rng.integers(-3, 140, (40, 1)), rng.integers(0, 9, 40) * 7 - 9)


@pytest.mark.parametrize("regressor", [NadarayaWatson, LocalLinear])
@pytest.mark.parametrize("kernel", ["epanechnikov", "uniform", "exponential"])
def test_series(regressor, kernel):
    (x, y, w, groups), (at, asked) = visits()
    for bandwidth in (6.0, 30.5):
        here = regressor(bandwidth, kernel=kernel, side="past").fit(x, y, w, groups=groups)
        there = regressor(bandwidth, kernel=kernel, side="past", backend="torch")
        there.fit(*map(torch.as_tensor, (x, y, w)), groups=torch.as_tensor(groups))
        q = torch.as_tensor(at), torch.as_tensor(asked)
        close(there.predict(q[0], groups=q[1]), here.predict(at.astype(float), groups=asked))
        close(there.hat_matrix(q[0], groups=q[1]), here.hat_matrix(at.astype(float), groups=asked))
        close(there.loo_predict(), here.loo_predict(), 1e-9)
        assert torch.equal(
            torch.as_tensor(there.predict(at, groups=asked)).isnan(), there.predict(*q[:1], groups=q[1]).isnan()
        )


@pytest.mark.parametrize("kernel", ["epanechnikov", "uniform", "exponential", "gaussian"])
@pytest.mark.parametrize("isolated", [False, True])
def test_selection_over_series(kernel, isolated, monkeypatch):
    """By the operator of histories; with isolated points, over the others alone."""
    asked = []
    scores = ops.prequential_cv
    monkeypatch.setattr(ops, "prequential_cv", lambda *a: asked.append(int(a[4].sum())) or scores(*a))
    (x, y, w, groups), _ = visits(3)
    y = y - y.mean() + np.sin(x[:, 0] / 2.0)
    if isolated:
        x[:2] = [[2000], [3000]]
    settings = {"kernel": kernel, "side": "past"}
    here = NadarayaWatson("prequential", **settings).fit(x, y, w, groups=groups)
    there = NadarayaWatson("prequential", backend="torch", **settings)
    there.fit(*map(torch.as_tensor, (x, y, w)), groups=torch.as_tensor(groups))
    mine, theirs = there.selection_, here.selection_
    np.testing.assert_allclose(mine.grid, theirs.grid, rtol=1e-12)
    np.testing.assert_allclose(mine.curve, theirs.curve, rtol=1e-10)
    np.testing.assert_allclose(mine.value, theirs.value, rtol=1e-6)
    assert (mine.at_edge, mine.flat) == (theirs.at_edge, theirs.flat)
    assert not isolated or min(asked) < max(asked)


# ---------------------------------------------------------------- types and places
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_types_come_back(dtype):
    x, y, _, at = data(40, 1)
    there = NadarayaWatson(1.0, backend="torch").fit(*tensors(x, y, dtype=dtype))
    assert there.predict(*tensors(at, dtype=dtype)).dtype == dtype
    assert there.loo_predict().dtype == dtype
    assert there.predict(at).dtype == np.float64
    assert there.predict(at.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(there.predict(at), there.predict(torch.as_tensor(at)).numpy())


def test_whole_numbers():
    x = torch.arange(9)[:, None]
    there = NadarayaWatson(2.5, backend="torch").fit(x, x[:, 0])
    here = NadarayaWatson(2.5).fit(x.numpy(), x[:, 0].numpy())
    assert there.predict(x).dtype == torch.get_default_dtype()
    close(there.predict(x.double()), here.predict(x.numpy()))


def test_where_fits_are_computed():
    """Tensors in main memory are computed there unless asked otherwise; a later fit takes the place of an earlier one."""
    x, y, _, at = data(40, 1)
    fit = NadarayaWatson(1.0).fit(*tensors(x, y))
    fit.interval(*tensors(at))
    fit.set_params(backend="torch").fit(*tensors(x, y))
    with pytest.raises(KernadvError, match="computed in main memory, and this fit is on cpu"):
        fit.interval(*tensors(at))
    fit.fit(x, y)  # arrays
    fit.interval(at)


@pytest.mark.parametrize("regressor", [NadarayaWatson(1.0), LocalLinear(1.5)])
@pytest.mark.parametrize("series", [False, True])
def test_predictions_do_not_wait(regressor, series, monkeypatch):
    """Once what is copied to the device is there."""
    if series:
        (x, y, w, groups), (at, asked) = visits()
        arguments, query = map(torch.as_tensor, (x, y, w, groups)), (torch.as_tensor(at), False, torch.as_tensor(asked))
        regressor = regressor.set_params(side="past")
    else:
        x, y, _, at = data(40, 2)
        arguments, query = tensors(x, y), tensors(at)
    there = sklearn.base.clone(regressor).set_params(backend="torch").fit(*arguments)
    expected = there.predict(*query), there.loo_predict()

    def copied(values):
        assert isinstance(values, torch.Tensor), "copied from the host"
        return values

    with monkeypatch.context() as patch, Forbidden() as watch:
        patch.setattr(torch, "as_tensor", copied)
        found = there.predict(*query), there.loo_predict()
    assert watch.calls
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine.nan_to_num(), theirs.nan_to_num())


def test_queries_without_an_estimate():
    """NaN, without looking at them: a warning would make the host wait."""
    x, y, _, _ = data(40, 1)
    there = LocalLinear(0.5, backend="torch").fit(*tensors(x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("error", EmptyWindowWarning)
        value = there.predict(torch.tensor([[1e3], [torch.nan], [0.0]], dtype=torch.float64))
    assert value.isnan().tolist() == [True, True, False]


def test_a_kernel_that_is_not_fused():
    class Plain(Kernel):
        name = "plain"

        def formula(self, u, xp):
            return 1.0 - u

        moment = square_moment = None

    x, y, _, at = data(40, 1)
    plain, fused = (
        NadarayaWatson(1.0, kernel=kernel, backend="torch").fit(*tensors(x, y)) for kernel in (Plain(), "triangular")
    )
    assert torch.equal(plain.predict(*tensors(at)), fused.predict(*tensors(at)))


# ---------------------------------------------------------------- what is refused
X, Y, W, AT = tensors(*data(20, 2))


@pytest.mark.parametrize(("arguments", "message"), [
    ((X[:, :, None], Y), r"X must be \(n, d\) with d >= 1, got shape \(20, 2, 1\)"),
    ((X, Y[:-1]), r"y must have one row for each of the 20 of X, got shape \(19,\)"),
    ((X, Y, W[:-1]), r"sample_weight must have one row for each of the 20 of X, got shape \(19,\)"),
    ((X, Y.numpy()), "y must be a tensor on the device of X, got ndarray"),
    ((X, Y.to("meta")), "y must be a dense tensor that holds numbers, got one of layout torch.strided on meta"),
    ((X.to_sparse(), Y), "X must be a dense tensor"),
    ((X, Y + 1j), "y must be real numbers"),
    ((X * torch.nan, Y), "X holds NaN or infinity; drop or mend these rows first"),
    ((X, Y / 0.0), "y holds NaN or infinity"),
    ((X, Y, -W), "sample_weight must be 0 or lie between 1e-100 and 1e.100"),
    ((X, Y, 0 * W), "degree=0 needs at least 1 rows of positive weight, got n_samples=0"),
    ((X, Y, W, None, torch.ones(20)),
     "frequency= is for data in main memory, and X is a tensor on cpu; fit with backend='numba'"),
    ((X, Y, W, torch.arange(20)), "with groups on a device windows are one-sided: side='past'"),
])  # fmt: skip
def test_data_that_cannot_be_used(arguments, message):
    fit = NadarayaWatson(1.0, backend="torch").fit(X, Y, W)
    before = fit.predict(AT)
    with pytest.raises(KernadvError, match=message):
        fit.fit(*arguments)
    assert torch.equal(fit.predict(AT).nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize(("regressor", "message"), [
    (LocalPolynomial(2, bandwidth=1.0), "smoothed at degree 0 or 1, got degree=2; fit with backend='numba'"),
    (NadarayaWatson("h_block"),
     "a number, or selected by aicc, gcv, leave_one_out, prequential, got h_block; fit with"),
    (NadarayaWatson("plug_in"), "bandwidth='plug_in' is selected in main memory; fit with"),
    (NadarayaWatson(-1.0), "bandwidth must be positive and finite, got -1.0"),
    (NadarayaWatson([1.0, 1.0, 1.0]), "one number a column, 2, got 3"),
    (NadarayaWatson(1.0, categorical={0: "unordered"}), "categorical= is for data in main memory"),
    (KNeighborsSmoother(metric="manhattan"), "on a device metric must be 'euclidean', got 'manhattan'"),
    (KNeighborsSmoother(kernel="inverse_distance"), "kernel='inverse_distance' is for data in main memory"),
    (KNeighborsSmoother(21), "k=21 neighbours are more than the points"),
    (KNeighborsSmoother(ties="some"), "unknown ties"),
])  # fmt: skip
def test_settings_that_cannot_be_used(regressor, message):
    with pytest.raises(KernadvError, match=message):
        regressor.set_params(backend="torch").fit(X, Y)


STEP, NAMES = torch.arange(20)[:, None], torch.arange(20) % 3


@pytest.mark.parametrize(("arguments", "message"), [
    ((STEP.double(), Y, W, NAMES), r"steps of an integer type, got torch.float64; X.long\(\)"),
    ((STEP.expand(20, 2), Y, W, NAMES), r"one column of steps, \(n, 1\), got shape \(20, 2\)"),
    ((STEP, Y, W, NAMES.double()), "groups of tensors on a device must be a tensor of an integer type"),
    ((STEP, Y, W, NAMES.tolist()), "groups of tensors on a device must be a tensor of an integer type"),
    ((STEP, Y, W, NAMES[:5]), r"groups must be one a row of X, 20 on cpu, got shape \(5,\) on cpu"),
    ((STEP, torch.stack([Y, Y], 1), W, NAMES), r"one response, got y of shape \(20, 2\)"),
])  # fmt: skip
def test_series_that_cannot_be_used(arguments, message):
    with pytest.raises(KernadvError, match=message):
        NadarayaWatson(3.0, side="past", backend="torch").fit(*arguments)


def test_settings_of_series_that_cannot_be_used():
    for regressor in (LocalLinear("prequential", side="past"), NadarayaWatson("aicc", side="past")):
        with pytest.raises(KernadvError, match="over groups on a device a bandwidth is a number, or selected by preq"):
            regressor.set_params(backend="torch").fit(STEP, Y, groups=NAMES)
    with pytest.raises(KernadvError, match="x is constant within every series"):
        NadarayaWatson("prequential", side="past", backend="torch").fit(0 * STEP, Y, groups=NAMES)
    fit = NadarayaWatson(3.0, side="past", backend="torch").fit(STEP, Y, groups=NAMES)
    with pytest.raises(KernadvError, match="the fit had groups: name the group of each query"):
        fit.predict(STEP)
    with pytest.raises(KernadvError, match=r"groups must be one a query, 20, got shape \(3,\)"):
        fit.predict(STEP, groups=NAMES[:3])


def test_designs_without_a_bandwidth():
    for x, message in ((torch.cat([X, X[:, :1]], 1), "do not determine the 4 coefficients of degree 1"),
                       (X[:3, [0, 0, 1]], "the 3 points do not determine"),
                       (torch.ones_like(X), "x is constant in dimension 0"),
                       (X[:2], "needs at least 3 rows")):  # fmt: skip
        with pytest.raises(KernadvError, match=message):
            LocalLinear(backend="torch").fit(x, Y[: len(x)])


def test_queries_that_cannot_be_used():
    fit = NadarayaWatson(1.0, backend="torch").fit(X, Y)
    with pytest.raises(KernadvError, match=r"expected queries of shape \(m, 2\), got \(20, 1\)"):
        fit.predict(X[:, :1])
    with pytest.raises(ValueError, match="NaN"):
        fit.predict(np.full((2, 2), np.nan))
    with pytest.raises(KernadvError, match="the fit had no groups"):
        fit.predict(X, groups=torch.ones(20))


@pytest.mark.parametrize("call", [
    lambda fit: fit.predict(X, return_std=True), lambda fit: fit.derivative(X), lambda fit: fit.interval(X),
    lambda fit: fit.band(X), lambda fit: fit.as_fit(), lambda fit: fit.summary(), lambda fit: fit.plot(),
])  # fmt: skip
def test_what_main_memory_is_for(call):
    fit = NadarayaWatson(1.0, backend="torch").fit(X, Y)
    before = dict(fit.__dict__)
    with pytest.raises(
        KernadvError, match=r"main memory, and this fit is on cpu; fit with .* or with X.cpu\(\).numpy\(\)"
    ):
        call(fit)
    assert fit.__dict__ == before


def test_unknown_backend():
    with pytest.raises(KernadvError, match="unknown backend 'triton'; known: auto, numba, torch"):
        NadarayaWatson(1.0, backend="triton").fit(X, Y)
