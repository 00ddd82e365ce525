"""The compiled loops on a line against sums over all pairs, and a design in any order against the sorted one."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest

from kernadv.kernels import get
from kernadv.regression import KNeighborsSmoother, LocalLinear, NadarayaWatson
from kernadv.regression.bandwidth.plug_in import _blockwise
from kernadv.regression.local.moments import local_moments

KERNELS = ("uniform", "triangular", "epanechnikov", "biweight", "triweight", "tricube")
RNG = np.random.default_rng(0)
TIES = np.round(RNG.random(90) * 20) / 20
DESIGNS = {
    "spread": np.sort(RNG.random(80)),
    "any order": RNG.random(80),
    "ties": TIES,
    "signed zeros": np.array([-0.0, 0.0, 0.5, -0.5, 0.0, -0.0]),
    "one point": np.array([0.3]),
    "far": 1e9 + TIES,
    "skewed": RNG.standard_cauchy(80),
}


def summed(x, v, at, h, kernel, order, past, squared):
    """``sum_j w_j v_cj u_j^k`` over all pairs, and the sums of the absolute values."""
    u = (x[None] - at[:, None]) / h
    w = np.where(past & (u > 0.0), 0.0, kernel.profile(u) ** (2 if squared else 1))
    powers = u[..., None] ** np.arange(order + 1)
    return np.einsum("mn,cn,mnk->mck", w, v, powers), np.einsum("mn,cn->mc", np.abs(u) <= 1.0, np.abs(v))[..., None]


@pytest.mark.parametrize("own", [False, True], ids=["one bandwidth", "one a query"])
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", KERNELS)
def test_moments_on_a_line(name, design, own):
    x, kernel = DESIGNS[design], get(name)
    v = np.stack([RNG.integers(0, 3, len(x)).astype(float), RNG.normal(size=len(x))])
    at = np.concatenate(
        [x, x + 0.25, x - 0.25, RNG.permutation(x)[:5] + 0.1]
    )  # 0.25 is a bandwidth: points at the edge
    for h in (0.01, 0.25, 0.5, 4.0):
        width = h * RNG.integers(1, 5, len(at)) / 2 if own else np.full(len(at), h)
        for order, past, squared in ((0, False, False), (2, False, False), (4, False, True), (2, True, False)):
            given = width[:, None] if own else np.array([h])
            got = local_moments(x[:, None], v, at[:, None], given, kernel, order, past=past, squared=squared)
            exact, size = summed(x, v, at, width[:, None], kernel, order, past, squared)
            np.testing.assert_allclose(got, exact, rtol=0.0, atol=1e-12 * max(size.max(), 1.0))


@pytest.mark.filterwarnings("ignore::kernadv.EmptyWindowWarning")  # where the past is empty
@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize(
    "model",
    [
        NadarayaWatson(bandwidth=0.2),
        LocalLinear(bandwidth=0.2),
        LocalLinear(bandwidth=0.2, side="past"),
        LocalLinear(),
        KNeighborsSmoother(k=9, degree=1),
        KNeighborsSmoother(k=9, kernel="uniform"),
    ],
    ids=str,
)
def test_the_order_of_the_rows_is_that_of_the_data(model, offset, groups):
    """Results of unsorted rows are those of the sorted ones, put back in their places."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.random(60)).round(2) + offset
    y, weights, frequency = rng.normal(size=60), rng.integers(0, 3, 60) / 2, rng.integers(1, 3, 60)
    series = rng.integers(0, 2, 60) if groups else None
    order = rng.permutation(60)

    def fitted(rows):
        named = None if series is None else series[rows]
        one = type(model)(**model.get_params())
        one.fit(x[rows, None], y[rows], sample_weight=weights[rows], groups=named, frequency=frequency[rows])
        return one, {} if named is None else {"groups": named}

    (sorted_fit, sorted_names), (fit, names) = fitted(np.arange(60)), fitted(order)
    own = x[order, None]
    tolerance = {"rtol": 0.0, "atol": 1e-6 if offset else 1e-10}
    value = fit.predict(own, **names)
    np.testing.assert_allclose(value, sorted_fit.predict(x[:, None], **sorted_names)[order], **tolerance)
    np.testing.assert_allclose(fit.loo_predict(), sorted_fit.loo_predict()[order], **tolerance)
    hat = fit.hat_matrix(own, **names)
    np.testing.assert_allclose(
        hat, sorted_fit.hat_matrix(x[:, None], **sorted_names)[np.ix_(order, order)], **tolerance
    )
    defined = ~np.isnan(value)
    np.testing.assert_allclose((hat @ y[order])[defined], value[defined], **tolerance)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("design", ["spread", "skewed", "far"])
def test_quartics_on_blocks(design, columns):
    """The fits of a block are least squares, also where a few points lie far from all others."""
    rng = np.random.default_rng(2)
    x = np.sort(np.concatenate([DESIGNS[design], rng.random(40) + DESIGNS[design].min()]))
    y, weights = rng.normal(size=(len(x), columns)), rng.uniform(0.5, 2.0, len(x))
    cuts = [0, int(np.searchsorted(x, x[len(x) // 2])), len(x)]
    squares = theta = 0.0
    for low, high in pairwise(cuts):
        z, own, response = x[low:high] - x[low:high].mean(), weights[low:high], y[low:high]
        unit = np.abs(z).max()
        design_matrix = (z / unit)[:, None] ** np.arange(5)
        root = np.sqrt(own)[:, None]
        c = np.linalg.lstsq(root * design_matrix, root * response, rcond=None)[0]
        squares += (own @ (response - design_matrix @ c) ** 2).sum()
        second = (2.0 * c[2] + 6.0 * np.outer(z / unit, c[3]) + 12.0 * np.outer((z / unit) ** 2, c[4])) / unit**2
        theta += (own @ second * 24.0 * c[4] / unit**4).sum()
    found = _blockwise(x, y, weights, cuts)
    assert found.squares == pytest.approx(squares, rel=1e-10)
    assert found.variance == pytest.approx(squares / (len(x) - 10), rel=1e-10)
    assert found.theta24 == pytest.approx(theta / len(x), rel=1e-7)


@pytest.mark.parametrize("kernel", ["uniform", "epanechnikov", "triangular", "triweight"])
def test_queries_beyond_the_digits_of_a_bandwidth(kernel):
    """Where a bandwidth more is the same number: a window is what lies at the query."""
    x = np.array([0.0, 1e17, 1e17, 3e17, 1e100])
    y = np.arange(5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = NadarayaWatson(1.0, kernel=kernel).fit(x[:, None], y).predict(np.append(x, 2e17)[:, None])
    np.testing.assert_allclose(got, [0.0, 1.5, 1.5, 3.0, 4.0, np.nan])
