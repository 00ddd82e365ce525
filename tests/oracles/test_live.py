"""Other programs of Python run beside ours, on inputs that no stored file has: statsmodels, scikit-learn, kernelsmooth,
nprobust.

They are part of the extra `test`, so that nothing here is ever skipped.
"""

import numpy as np
import pytest
from kernelsmooth import KernelRegression, LocalLinearRegression
from nprobust import lpbwselect, lprobust
from scipy import stats
from sklearn.neighbors import KNeighborsRegressor, RadiusNeighborsRegressor
from statsmodels.nonparametric.kernel_regression import KernelReg
from statsmodels.nonparametric.smoothers_lowess import lowess

from kernadv import kernels
from kernadv.regression import KNeighborsSmoother, LinearSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.bandwidth import get
from kernadv.regression.bandwidth._ordered import prepare
from kernadv.regression.inference import robust_bias_corrected
from kernadv.regression.local.polynomial import LocalPolynomialSpec

SEEDS = (0, 1, 2)


def sample(seed, dimensions=1, n=120, m=25):
    """Design (n, d) of unequal scales, responses (n,), queries (m, d) within the data."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-1, 2, dimensions)
    x = rng.normal(size=(n, dimensions)) * scale
    y = np.sin(2 * x[:, 0] / scale[0]) + (x / scale).sum(1) + 0.3 * rng.normal(size=n)
    return x, y, x[rng.choice(n, m, replace=False)] + 0.05 * scale * rng.normal(size=(m, dimensions)), scale


def criterion(name, degree, x, y, bandwidth):
    """A criterion of the Gaussian kernel at one bandwidth."""
    spec = LocalPolynomialSpec(kernels.get("gaussian"), degree)
    return get(name).at(prepare(LinearSmoother(spec, x, y[:, None], np.ones(len(x)))), bandwidth, np.ones(len(x), bool))


# ------------------------------------------------------------------------------------------------ statsmodels


@pytest.mark.filterwarnings("ignore:After 0.17:FutureWarning")  # statsmodels about itself
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1])
def test_statsmodels_kernel_regression(degree, dimensions, seed):
    x, y, at, scale = sample(seed, dimensions)
    h = 0.5 * scale
    other = KernelReg(y, x, "c" * dimensions, ("lc", "ll")[degree], bw=h)
    mean, slope = other.fit(at)
    ours = LocalPolynomial(degree, bandwidth=h, kernel="gaussian").fit(x, y)
    np.testing.assert_allclose(ours.predict(at), mean, rtol=1e-8, atol=1e-8)
    if degree:
        np.testing.assert_allclose(ours.derivative(at, 1).reshape(slope.shape), slope, rtol=1e-7, atol=1e-8)
    loo = other.cv_loo(h, other.est[other.reg_type])
    assert criterion("leave_one_out", degree, x, y, h) == pytest.approx(loo, rel=1e-9)
    assert np.mean((y - ours.loo_predict()) ** 2) == pytest.approx(loo, rel=1e-9)
    if not degree:  # its trace of local linear fits is that of the local constant ones
        assert criterion("aicc", 0, x, y, h) == pytest.approx(other.aic_hurvich(h), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.2, 2 / 3])
def test_statsmodels_lowess(share, seed):
    """Lowess without robust weights.  It rounds weights of points nearer than .001 of the window to 1."""
    x, y, _, _ = sample(seed)
    k = int(share * len(x) + 1e-10)
    ours = KNeighborsSmoother(k, degree=1).fit(x, y).predict(x)
    np.testing.assert_allclose(ours, lowess(y, x[:, 0], share, it=0, return_sorted=False), atol=1e-6)


# ------------------------------------------------------------------------------------------------ scikit-learn


@pytest.mark.parametrize("dimensions", [1, 4])
@pytest.mark.parametrize(
    ("kernel", "k"), [("uniform", 1), ("uniform", 7), ("triangular", 7), ("epanechnikov", 60), ("gaussian", 7)]
)
def test_scikit_learn_neighbours(kernel, k, dimensions):
    """All points, with the kernel's weight at distances in units of the k-th."""
    x, y, at, _ = sample(3, dimensions)
    both = np.column_stack([y, y**2])
    weight = lambda d: kernels.get(kernel).profile(d / np.sort(d, axis=1)[:, k - 1 : k])
    other = KNeighborsRegressor(len(x), weights=weight).fit(x, both)
    ours = KNeighborsSmoother(k, kernel=kernel).fit(x, both)
    np.testing.assert_allclose(ours.predict(at), other.predict(at), rtol=1e-9)


@pytest.mark.parametrize("dimensions", [1, 2, 5])
@pytest.mark.parametrize("kernel", ["uniform", "tricube"])
def test_scikit_learn_radius(kernel, dimensions):
    x, y, at, scale = sample(4, dimensions)
    profile = kernels.get(kernel).profile
    other = RadiusNeighborsRegressor(1.5, weights=lambda d: [profile(one / 1.5) for one in d]).fit(x / scale, y)
    ours = NadarayaWatson(1.5, kernel=kernel, radial=True).fit(x / scale, y)
    np.testing.assert_allclose(ours.predict(at / scale), other.predict(at / scale), rtol=1e-9)


# ------------------------------------------------------------------------------------------------ kernelsmooth


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize(("ours", "theirs"), [(NadarayaWatson, KernelRegression), (LocalLinear, LocalLinearRegression)])
def test_kernelsmooth(ours, theirs, dimensions, seed):
    """Its bandwidths are in units of the standard deviations of the columns; a ridge of 1e-10 is in its linear systems."""
    x, y, at, _ = sample(seed, dimensions)
    h = np.linspace(0.3, 0.6, dimensions)
    other = theirs(bandwidth=h, diag_cov=True).fit(x, y)
    absolute = h * np.asarray(other.L).ravel()
    fit = ours(absolute, kernel="gaussian").fit(x, y)
    np.testing.assert_allclose(fit.predict(at), other.predict(at), rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------ nprobust


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kernel", ["triangular", "epanechnikov", "uniform"])
@pytest.mark.parametrize(("selector", "name"), [("mse_optimal", "mse-dpi"), ("mse_rule", "mse-rot")])
def test_nprobust_local_bandwidths(selector, name, kernel, seed):
    x, y, _, _ = sample(seed, n=300)
    at = np.quantile(x[:, 0], [0.0, 0.2, 0.5, 0.9])[:, None]
    other = lpbwselect(y, x[:, 0], eval=at[:, 0], p=1, kernel=kernel[:3], bwselect=name)
    spec = LocalPolynomialSpec(kernels.get(kernel), 1)
    ours = get(selector).select(LinearSmoother(spec, x, y[:, None], np.ones(len(x))), at=at)
    np.testing.assert_allclose(ours.bandwidth[:, 0], other.bws["h"], rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["nearest", "hc0", "hc1", "hc2", "hc3"])
def test_nprobust_intervals(method, seed):
    x, y, at, scale = sample(seed, n=300)
    spec = LocalPolynomialSpec(kernels.get("epanechnikov"), 1)
    fit = LinearSmoother(spec, x, y[:, None], np.ones(len(x)), 0.8 * scale)
    at = np.sort(at, axis=0)
    got = robust_bias_corrected(fit, at, 0.9, method, reference="normal")
    vce = "nn" if method == "nearest" else method
    other = lprobust(
        y, x[:, 0], eval=at[:, 0], p=1, h=0.8 * scale[0], b=0.8 * scale[0], vce=vce, bwcheck=None, masspoints="off"
    ).Estimate
    half = stats.norm.ppf(0.95) * other["se.rb"].to_numpy()
    np.testing.assert_allclose(got.estimate[:, 0], other["tau.bc"], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose((got.high - got.low)[:, 0] / 2, half, rtol=1e-8)
