"""The direct plug-in of the pointwise error for every degree and derivative."""

import numpy as np
import pytest

from kernadv import KernadvError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother, LocalPolynomial
from kernadv.regression.bandwidth import MSEOptimal
from kernadv.regression.local.polynomial import LocalPolynomialSpec

RNG = np.random.default_rng(0)
X = RNG.random((300, 1))
Y = np.sin(6 * X) + 0.3 * RNG.normal(size=(300, 1))


@pytest.mark.parametrize(("kernel", "short"), [("triangular", "tri"), ("epanechnikov", "epa"), ("uniform", "uni")])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_nprobust(kernel, short, degree):
    """Where degree - derivative is even, without R, and nprobust stops its search within 1e-5 of every bandwidth."""
    lpbwselect = pytest.importorskip("nprobust").lpbwselect
    at = np.array([[X.min()], [0.3], [0.55], [X.max()]])
    for derivative in range(degree + 1):
        options = {"deriv": derivative, "kernel": short, "bwselect": "mse-dpi", "bwregul": (degree - derivative) % 2}
        expected = lpbwselect(Y[:, 0], X[:, 0], eval=at[:, 0], p=degree, **options)
        selector = MSEOptimal(derivative=derivative, regularise=bool(options["bwregul"]))
        got = selector.select(LinearSmoother(LocalPolynomialSpec(KERNELS[kernel], degree), X, Y, np.ones(300)), at=at)
        rtol = 1e-8 if (degree - derivative) % 2 else 5e-4
        np.testing.assert_allclose(got.bandwidth[:, 0], np.asarray(expected.bws["h"], float), rtol=rtol)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_units_and_exact_polynomials(degree):
    """x in other units gives h in these; a polynomial of the degree without noise has no bias: the widest bandwidth."""
    spec, at = LocalPolynomialSpec(KERNELS["epanechnikov"], degree), np.array([[0.2], [0.7]])
    one = MSEOptimal().select(LinearSmoother(spec, X, Y, np.ones(300)), at=at)
    other = MSEOptimal().select(LinearSmoother(spec, 10 * X, Y, np.ones(300)), at=10 * at)
    np.testing.assert_allclose(other.bandwidth, 10 * one.bandwidth, rtol=1e-5)
    louder = MSEOptimal().select(LinearSmoother(spec, X, 10 * Y, np.ones(300)), at=at)
    np.testing.assert_allclose(louder.bandwidth, one.bandwidth, rtol=1e-5)
    flat = MSEOptimal().select(LinearSmoother(spec, X, 0 * Y, np.ones(300)), at=at)
    assert flat.flat
    assert flat.at_edge


def test_in_a_regressor():
    fit = LocalPolynomial(2, bandwidth=MSEOptimal(derivative=1)).fit(X, Y[:, 0])
    at = np.linspace(0.1, 0.9, 5)[:, None]
    assert np.abs(fit.derivative(at) - 6 * np.cos(6 * at[:, 0])).max() < 3.0
    assert LocalPolynomial(0, bandwidth="mse_optimal").fit(X, Y[:, 0]).bandwidth_.shape == (300, 1)


def test_bad_settings():
    with pytest.raises(KernadvError, match="derivative must be a whole number >= 0, got -1"):
        MSEOptimal(derivative=-1)
    with pytest.raises(KernadvError, match="derivative=2 needs a degree as high, got 1"):
        LocalPolynomial(1, bandwidth=MSEOptimal(derivative=2)).fit(X, Y[:, 0])
