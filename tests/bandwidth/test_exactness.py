"""Every criterion against its definition, written out point by point."""

import numpy as np
import pytest

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.bandwidth import GCV, AICc, HBlock, KFold, KNeighbors, LeaveOneOut, OneSided, Prequential
from kernadv.regression.bandwidth._constants import one_sided_ratio
from kernadv.regression.bandwidth._ordered import prepare
from kernadv.regression.local.polynomial import LocalPolynomialSpec, hat_matrix, smooth

KINDS = ["epanechnikov", "triangular", "uniform", "tricube", "gaussian", "exponential", "cosine"]
every_kernel = pytest.mark.parametrize("kernel", KINDS)
every_degree = pytest.mark.parametrize("degree", [0, 1, 2])


def sample_of(spec, d=1, n=80, series=None, seed=0):
    """Random design with ties, two responses and weights."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.random((n, d)), 2)
    y = np.stack([np.sin(5 * x[:, 0]), x.sum(1)], 1) + 0.3 * rng.normal(size=(n, 2))
    label = None if series is None else rng.integers(series, size=n)
    return prepare(LinearSmoother(spec, x, y, rng.random(n) + 0.5, series=label))


def refits(sample, bandwidth, kept, past=False):
    """Error of each point from the points j of its series with kept(i, j), by a fit of its own.  (n, C)"""
    spec = LocalPolynomialSpec(sample.spec.kernel, sample.spec.degree, sample.spec.radial, sample.spec.past or past)
    error = np.full_like(sample.y, np.nan)
    for i in range(len(sample.x)):
        use = np.array([kept(i, j) for j in range(len(sample.x))]) & (sample.label == sample.label[i])
        if use.any():
            fit = smooth(spec, sample.x[use], sample.y[use], sample.weights[use], sample.x[i : i + 1], bandwidth)
            error[i] = sample.y[i] - fit.value[0]
    return error


def assert_same(got, expected, digits=1e-10):
    defined = np.isfinite(got)
    assert defined.all(1).mean() > 0.8
    np.testing.assert_allclose(got[defined], expected[defined], atol=digits)
    assert np.isnan(got[np.isnan(expected)]).all()


@every_kernel
@every_degree
@pytest.mark.parametrize("kind", ["product", "radial", "past", "series"])
def test_leave_one_out(kernel, degree, kind):
    spec = LocalPolynomialSpec(KERNELS[kernel], degree, radial=kind == "radial", past=kind == "past")
    d = 1 if kind in ("past", "series") else 2
    sample = sample_of(spec, d, series=4 if kind == "series" else None)
    bandwidth = np.array([0.4037, 0.7043])[:d]
    got = LeaveOneOut().errors(sample, bandwidth).error
    assert_same(got, refits(sample, bandwidth, lambda i, j: i != j), 1e-9 if degree == 2 else 1e-10)


@every_kernel
@every_degree
@pytest.mark.parametrize("series", [None, 5])
def test_prequential(kernel, degree, series):
    """Own point, ties, the future and other series are not used, whatever `past` says."""
    sample = sample_of(LocalPolynomialSpec(KERNELS[kernel], degree), n=60 if degree < 2 else 100, series=series)
    bandwidth = np.array([0.9037])
    got = Prequential().errors(sample, bandwidth).error
    earlier = lambda i, j: sample.x[j, 0] < sample.x[i, 0]
    expected = refits(sample, bandwidth, earlier, past=True)
    sure = np.array([len(np.unique(sample.x[earlier_than(sample, i)])) > degree + 5 for i in range(len(sample.x))])
    np.testing.assert_allclose(got[sure], expected[sure], atol=1e-8 if degree == 2 else 1e-9)
    first = np.array([not earlier_than(sample, i).any() for i in range(len(sample.x))])
    assert np.isnan(got[first]).all()


def earlier_than(sample, i):
    return (sample.x[:, 0] < sample.x[i, 0]) & (sample.label == sample.label[i])


def test_prequential_in_two_dimensions():
    sample = sample_of(LocalPolynomialSpec(KERNELS["epanechnikov"], 0), 2)
    bandwidth = np.array([0.5037, 0.6043])
    got = Prequential().errors(sample, bandwidth).error
    expected = refits(sample, bandwidth, lambda i, j: sample.x[j, 0] < sample.x[i, 0], past=True)
    np.testing.assert_allclose(got, expected, atol=1e-10)


def places(sample):
    """Rank of each point's x among the distinct ones, of the first dimension, in its series."""
    rank = np.empty(len(sample.x), int)
    for s in np.unique(sample.label):
        rank[sample.label == s] = np.unique(sample.x[sample.label == s, 0], return_inverse=True)[1]
    return rank


@every_kernel
@every_degree
@pytest.mark.parametrize("series", [None, 3])
def test_h_block(kernel, degree, series):
    sample = sample_of(LocalPolynomialSpec(KERNELS[kernel], degree), series=series)
    bandwidth = np.array([0.5037])
    place = places(sample)
    for block in (0, 2):
        got = HBlock(block=block).errors(sample, bandwidth).error
        expected = refits(sample, bandwidth, lambda i, j, block=block: abs(place[i] - place[j]) > block)
        assert_same(got, expected, 1e-9)


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_h_block_in_two_dimensions(radial, past):
    sample = sample_of(LocalPolynomialSpec(KERNELS["epanechnikov"], 0, radial, past), 2)
    bandwidth = np.array([0.6037, 0.7043])
    got = HBlock(block=1).errors(sample, bandwidth).error
    place = places(sample)
    expected = refits(sample, bandwidth, lambda i, j: abs(place[i] - place[j]) > 1)
    defined = np.isfinite(got)
    assert defined.mean() > 0.9
    np.testing.assert_allclose(got[defined], expected[defined], atol=1e-9)


@every_degree
@pytest.mark.parametrize("series", [None, 3])
def test_k_fold(degree, series):
    sample, selector = (
        sample_of(LocalPolynomialSpec(KERNELS["gaussian"], degree), series=series),
        KFold(folds=6, seed=2),
    )
    fold = selector.assign(len(sample.x))
    assert np.ptp(np.bincount(fold)) <= 1
    assert (fold == selector.assign(len(sample.x))).all()
    assert (fold != KFold(folds=6, seed=3).assign(len(sample.x))).any()
    bandwidth = np.array([0.3037])
    got = selector.errors(sample, bandwidth).error
    assert_same(got, refits(sample, bandwidth, lambda i, j: fold[i] != fold[j]), 1e-9)


@every_degree
def test_residual_criteria(degree):
    """GCV and AICc with weights, from the dense hat matrix of the degree that is fitted."""
    sample = sample_of(LocalPolynomialSpec(KERNELS["triangular"], degree))
    h, w = np.array([0.4037]), sample.weights
    fit = sample.with_bandwidth(h).smooth(sample.x)
    hat = hat_matrix(sample.spec, sample.x, w, sample.x, h, fit)
    n, trace = len(w), np.trace(hat)
    squares = w @ (sample.y - hat @ sample.y) ** 2 / w.sum()
    everywhere = np.ones(n, bool)
    assert GCV().at(sample, h, everywhere) == pytest.approx(squares.sum() / (1 - trace / n) ** 2, rel=1e-11)
    aicc = np.log(squares) + 1 + 2 * (trace + 1) / (n - trace - 2)
    assert AICc().at(sample, h, everywhere) == pytest.approx(aicc.sum(), rel=1e-11)


def test_one_sided_is_leave_one_out_of_the_one_sided_fit():
    spec = LocalPolynomialSpec(KERNELS["epanechnikov"], 0)
    rng = np.random.default_rng(0)
    x, y = rng.random((80, 1)), rng.normal(size=(80, 1))
    sample = OneSided().prepare(LinearSmoother(spec, x, y, np.ones(80)))
    got = OneSided().errors(sample, np.array([0.3])).error
    past = lambda i, j: i != j and sample.x[j, 0] <= sample.x[i, 0]
    expected = refits(sample, np.array([0.3 / one_sided_ratio(spec.kernel)]), past)
    np.testing.assert_allclose(got[3:], expected[3:], atol=1e-9)


@pytest.mark.parametrize("kernel", ["uniform", "triangular", "gaussian"])
@pytest.mark.parametrize("d", [1, 2])
def test_k_neighbors(kernel, d):
    """Each point from the k nearest of the others."""
    sample = sample_of(LocalPolynomialSpec(KERNELS[kernel], 0), d, series=2)
    for k in (5, 17):
        got = KNeighbors().errors(sample, np.array([float(k)])).error
        for i in range(len(sample.x)):
            use = (sample.label == sample.label[i]) & (np.arange(len(sample.x)) != i)
            distance = np.abs(sample.x[use] - sample.x[i]).max(1)
            h = np.sort(distance)[k - 1 :]
            h = h[h > 0][:1] * (1 + 1e-9 * (kernel == "uniform"))
            fit = smooth(sample.spec, sample.x[use], sample.y[use], sample.weights[use], sample.x[i : i + 1], h)
            np.testing.assert_allclose(got[i], sample.y[i] - fit.value[0], atol=1e-9)


def test_series_do_not_touch():
    """Criterion and choice over series equal those of the series taken one by one; their order and labels do not matter."""
    rng = np.random.default_rng(3)
    n, parts = 90, 3
    x, y, label = rng.random((n, 1)) * 10 + 1e4, rng.normal(size=(n, 1)), rng.integers(parts, size=n)
    spec, h = LocalPolynomialSpec(KERNELS["gaussian"], 0), np.array([1.5])
    together = prepare(LinearSmoother(spec, x, y, np.ones(n), series=label))
    error = LeaveOneOut().errors(together, h).error
    for s in range(parts):
        own = label == s
        alone = prepare(LinearSmoother(spec, x[own], y[own], np.ones(own.sum())))
        np.testing.assert_allclose(error[together.label == s], LeaveOneOut().errors(alone, h).error, atol=1e-10)


def test_many_series():
    """10,000 series in one call, against a few of them alone."""
    rng = np.random.default_rng(0)
    n = 50_000
    x, label = rng.integers(1, 100, size=(n, 1)).astype(float), rng.integers(10_000, size=n)
    y = rng.normal(size=(n, 1))
    for kernel in ("triangular", "exponential"):
        spec, h = LocalPolynomialSpec(KERNELS[kernel], 0), np.array([30.0])
        together = prepare(LinearSmoother(spec, x, y, np.ones(n), series=label))
        error = Prequential().errors(together, h).error
        for s in range(0, 10_000, 1000):
            own = label == np.unique(label)[s]
            if own.sum() < 3 or np.ptp(x[own]) == 0:
                continue
            alone = prepare(LinearSmoother(spec, x[own], y[own], np.ones(own.sum())))
            np.testing.assert_allclose(
                error[together.label == s], Prequential().errors(alone, h).error, atol=1e-7, equal_nan=True
            )


def test_series_in_many_dimensions_are_refused():
    spec = LocalPolynomialSpec(KERNELS["gaussian"], 0)
    x = np.random.default_rng(0).random((20, 4))
    with pytest.raises(ArgumentError, match="up to 3 dimensions"):
        LeaveOneOut().select(LinearSmoother(spec, x, x[:, :1], np.ones(20), series=np.arange(20) % 2))
