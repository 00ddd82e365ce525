"""Products of hat vectors with many columns are those of hat matrices that are written out here."""

import numpy as np
import pytest

from kernadv.kernels import KERNELS
from kernadv.regression.local import products
from kernadv.regression.local._moving import GRAIN, moving_sums
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.local.products import HatProducts

DESIGNS = {
    "even": lambda rng, n: rng.random(n),
    "ties": lambda rng, n: np.round(rng.random(n) * 50) / 50,
    "gaps": lambda rng, n: rng.random(n) * 0.1 + rng.integers(0, 4, n),
    "dense and thin": lambda rng, n: rng.random(n) ** 6,
    "far": lambda rng, n: 1e6 + rng.random(n),
}


def hat_matrix(spec, x, weights, at, h):
    """Weighted least squares at each query; NaN where the design is deficient."""
    out = np.full((len(at), len(x)), np.nan)
    for q, query in enumerate(at[:, 0]):
        u = (x[:, 0] - query) / h
        weight = weights * spec.kernel.profile(u) * (u <= 0 if spec.past else 1)
        root = np.sqrt(weight)
        design = root[:, None] * u[:, None] ** np.arange(spec.degree + 1)
        length = np.linalg.norm(design, axis=0)
        if length.all() and np.linalg.cond(design / length) < 1e6:
            out[q] = np.linalg.pinv(design / length)[0] / length[0] * root
    return out


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("kernel", ["uniform", "triangular", "epanechnikov", "biweight", "tricube", "gaussian"])
def test_written_out(kernel, degree, past, design):
    rng = np.random.default_rng(degree)
    n = 150
    x = DESIGNS[design](rng, n)[:, None]
    at = np.concatenate([x[::3], rng.uniform(x.min() - 0.1, x.max() + 0.1, (30, 1))])
    weights, columns = rng.gamma(3.0, size=n), rng.normal(size=(n, 3))
    spec = LocalPolynomialSpec(KERNELS[kernel], degree, past=past)
    made = HatProducts(spec, x, weights, at, np.array([0.3]))
    hat = hat_matrix(spec, x, weights, at, 0.3)
    sure = made.values.defined & ~np.isnan(hat[:, 0])
    assert sure.sum() > 15
    size = np.abs(hat[sure]) @ np.abs(columns)
    assert (np.abs(made.of(columns)[sure] - hat[sure] @ columns) <= 1e-9 * size).all()
    expected = hat[sure] ** 2 @ columns**2
    np.testing.assert_allclose(made.of_squares(columns**2)[sure], expected, rtol=1e-8)
    assert np.isnan(made.of(columns)[~made.values.defined]).all()


@pytest.mark.parametrize("columns", [1, products.WIDE, 2 * products.WIDE + 1])
def test_each_column_by_itself(columns):
    rng = np.random.default_rng(0)
    x, v = np.sort(rng.random((80, 1)), 0), rng.normal(size=(80, columns))
    made = HatProducts(LocalPolynomialSpec(KERNELS["epanechnikov"], 1), x, np.ones(80), x[::-1], np.array([0.2]))
    for b in range(columns):
        np.testing.assert_allclose(made.of(v)[:, b], made.of(v[:, b : b + 1])[:, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("width", [0, 1, GRAIN - 1, GRAIN, GRAIN + 1, 5 * GRAIN + 3])
def test_windows_of_any_width(width):
    """Windows that stand still, move by one and leap; a large response before them leaves no trace."""
    rng = np.random.default_rng(width)
    x = np.sort(rng.random(200))
    low = np.sort(np.concatenate([rng.integers(0, 200, 40), np.full(20, 90)]))
    high = np.minimum(low + width, 200)
    at, weights, v = x[low], rng.random(200), rng.normal(size=(200, 2))
    v[40] = 1e14
    polynomials = rng.normal(size=(60, 3))
    out = np.zeros((60, 2))
    moving_sums(x, weights, v, at, low, high, polynomials, out)
    for q in range(60):
        own = slice(low[q], high[q])
        factor = weights[own] * ((x[own] - at[q])[:, None] ** np.arange(3) @ polynomials[q])
        np.testing.assert_allclose(
            out[q], factor @ v[own], rtol=1e-11, atol=1e-12 if not low[q] <= 40 < high[q] else 10
        )
