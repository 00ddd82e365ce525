"""A kernel made of a function is the named one with the same formula."""

import math

import numpy as np
import pytest

from kernadv import ArgumentError, ArgumentTypeError, KernelValueEstimator, KNeighborsSmoother, LocalLinear, Steps
from kernadv.kernels import KERNELS, Kernel

FORMULAS = {
    "epanechnikov": (lambda u: 5 * (1 - u**2), 1.0),
    "tricube": (lambda u: (1 - u**3) ** 3, 1.0),
    "uniform": (lambda u: 0 * u + 3.0, 1.0),
    "gaussian": (lambda u: np.exp(-u * u / 2), math.inf),
}


@pytest.fixture(params=FORMULAS)
def pair(request):
    function, support = FORMULAS[request.param]
    return Kernel.from_function(function, support=support, name=request.param), KERNELS[request.param]


def test_constants(pair):
    own, named = pair
    assert (own.name, own.support, own.closed) == (named.name, named.support, named.closed)
    for k in range(6):
        assert own.moment(k) == pytest.approx(named.moment(k), rel=1e-9)
        assert own.square_moment(k) == pytest.approx(named.square_moment(k), rel=1e-9)
    assert own.one_sided == pytest.approx(named.one_sided, rel=1e-9)
    assert own.profile(np.zeros(1)) == 1.0


def test_fits_and_values(pair):
    rng = np.random.default_rng(0)
    x = rng.random(200)
    y = np.sin(6 * x) + 0.1 * rng.normal(size=200)
    fits = [LocalLinear("leave_one_out", kernel=kernel).fit(x, y) for kernel in pair]
    np.testing.assert_allclose(*(fit.predict(x) for fit in fits), atol=1e-9)
    np.testing.assert_allclose(*(fit.interval(x[:9]).low for fit in fits), atol=1e-8)
    near = [KNeighborsSmoother(20, kernel=kernel).fit(x, y).predict(x) for kernel in pair]
    np.testing.assert_allclose(*near, atol=1e-9)
    estimators = [KernelValueEstimator(Steps(20), kernel) for kernel in pair]
    for step in range(1, 30):
        z = rng.integers(0, 2, 8).astype(float)
        np.testing.assert_allclose(*(est.advantages([1, 2] * 4, z, step) for est in estimators), atol=1e-12)


def test_of_tensors():
    torch = pytest.importorskip("torch")
    kernel = Kernel.from_function(lambda u: 1 - u**4)
    found = kernel.profile(torch.tensor([-0.5, 0.0, 1.5]), torch)
    np.testing.assert_allclose(found.numpy(), [1 - 0.5**4, 1.0, 0.0])


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (3, {}, ArgumentTypeError, "function must map distances to weights, got 3"),
        (lambda u: u, {}, ArgumentError, "it returned 0 at 0"),
        (lambda u: 0.5 - u, {}, ArgumentError, r"it returned -0\.00\d+ at 0\.50"),
        (lambda u: 1.0, {}, ArgumentError, r"it returned an array of shape \(\)"),
        (lambda u: math.exp(u), {}, ArgumentTypeError, "function must take an array of distances"),
        (lambda u: 1 / (1 + u), {"support": math.inf}, ArgumentError, "must fall faster, or have a smaller support"),
        (lambda u: 1 - u, {"support": -1.0}, ArgumentError, "support"),
        (lambda u: 1 - u, {"name": 5}, ArgumentTypeError, "name must be a str"),
    ],
)
def test_bad_functions(function, options, error, message):
    with pytest.raises(error, match=message):
        Kernel.from_function(function, **options)
