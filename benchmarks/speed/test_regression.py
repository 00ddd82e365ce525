"""Kernel regression beside its peers."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from benchmarks.speed import memory
from kernadv import LocalLinear, NadarayaWatson, Steps
from kernadv.kernels import get
from kernadv.moments import Histories, Windows, numba_
from kernadv.regression import KNeighborsSmoother, LinearSmoother
from kernadv.regression.bandwidth import LeaveOneOut
from kernadv.regression.local.polynomial import LocalPolynomialSpec

SMOOTHERS = {"NW": NadarayaWatson, "LL": LocalLinear}
CORES = os.cpu_count() or 1
THREADS = {"all threads": CORES, "one thread": 1}


def curve(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy curve on a line, in order."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.random(n))
    return x[:, None], np.sin(6 * x) + 0.3 * rng.normal(size=n)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(
    ("name", "n", "rounds", "target"),
    [
        ("NW", 10**5, 9, "<= 40 ms"),
        ("NW", 10**6, 3, "<= 1 s"),
        ("LL", 10**5, 9, "<= 66 ms"),
        ("LL", 10**6, 3, "<= 1 s"),
    ],
)
def test_line(measure, name, n, rounds, target, threads):
    """Exact, at every design point."""
    x, y = curve(n)
    fitted = SMOOTHERS[name](bandwidth=0.05, kernel="epanechnikov").fit(x, y)
    beside = {"target": target} if threads == "one thread" else {}
    case = f"{name} exact, Epanechnikov, n = m = {n:,}"
    measure(case, f"kernadv, {threads}", lambda: fitted.predict(x), rounds, threads=THREADS[threads], **beside)


@pytest.mark.parametrize("rows", ["sorted", "unsorted"])
@pytest.mark.parametrize("name", SMOOTHERS)
def test_order(measure, name, rows):
    """At every design point, the rows in order and not."""
    x, y = curve(10**5)
    order = np.random.default_rng(1).permutation(len(x)) if rows == "unsorted" else slice(None)
    fitted = SMOOTHERS[name](bandwidth=0.05, kernel="epanechnikov").fit(x[order], y[order])
    beside = {"target": "<= 1.5 times sorted"} if rows == "unsorted" else {}
    case = f"{name} exact, Epanechnikov, n = m = 100,000, by the order of the rows"
    measure(case, f"kernadv, one thread, {rows}", lambda: fitted.predict(x[order]), 15, threads=1, **beside)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("name", SMOOTHERS)
def test_large_selection(measure, name):
    """Leave-one-out over the default grid, and fit."""
    x, y = unsorted(10**6)
    case = f"leave-one-out CV, default grid and refinement, {name}, n = 1,000,000"
    call = lambda: SMOOTHERS[name]().fit(x, y)
    measure(case, "kernadv, one thread", call, 1, threads=1, target="<= 10 s")


def unsorted(n: int, columns: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy surface, or curve, as data come."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, columns))
    return x, np.sin(6 * x).sum(1) + 0.3 * rng.normal(size=n)


SIZES = (10**4, 10**5)
PLUG_IN = "plug-in bandwidth, n = {:,}"


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("n", [*SIZES, 10**6])
def test_plug_in(measure, n):
    """Sort, choose, fit."""
    x, y = unsorted(n)
    measure(PLUG_IN.format(n), "kernadv, one thread", lambda: LocalLinear("plug_in").fit(x, y), 5, threads=1)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("n", [*SIZES, 10**6])
def test_plug_in_by_r(measure, n, tmp_path):
    """Its time inside R; the median of five calls."""
    if shutil.which("Rscript") is None:
        pytest.skip("needs R with KernSmooth")
    x, y = unsorted(n)
    np.column_stack([x, y]).tofile(tmp_path / "data")
    code = f"""suppressMessages(library(KernSmooth)); d <- matrix(readBin("{tmp_path}/data", "double", {2 * n}), nrow = 2)
    t <- sapply(1:6, function(i) system.time(dpill(d[1, ], d[2, ]))[["elapsed"]]); cat(median(t[-1]))"""
    found = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"needs R with KernSmooth: {found.stderr[-200:]}")
    inside = float(found.stdout)
    measure(PLUG_IN.format(n), "R KernSmooth dpill", lambda: time.sleep(inside), 1, warm_up=0, target=">= 1 times")


LOWESS = "local lines, tricube, nearest 5%, at 1,001 points, n = {:,}"
AT = np.linspace(0.0, 1.0, 1001)


@pytest.mark.parametrize("n", SIZES)
def test_nearest_lines(measure, n):
    """Fit and predict."""
    x, y = unsorted(n)
    call = lambda: KNeighborsSmoother(0.05, degree=1, kernel="tricube").fit(x, y).predict(AT[:, None])
    measure(LOWESS.format(n), "kernadv, one thread", call, 9, threads=1)


@pytest.mark.parametrize("n", SIZES)
def test_nearest_lines_by_statsmodels(measure, n):
    """The same numbers."""
    lowess = pytest.importorskip("statsmodels.nonparametric.smoothers_lowess").lowess
    x, y = unsorted(n)
    call = lambda: lowess(y, x[:, 0], frac=0.05, it=0, xvals=AT)
    found = measure(LOWESS.format(n), "statsmodels lowess", call, 9, threads=1, target=">= 1 times")
    ours = KNeighborsSmoother(0.05, degree=1, kernel="tricube").fit(x, y).predict(AT[:, None])
    np.testing.assert_allclose(found, ours, atol=1e-9)


@pytest.fixture(params=[(n, m, d) for n in SIZES for m in (1001, n) for d in (1, 3)], ids=str)
def neighbours(request) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """A case, data and queries for the mean of the five nearest."""
    n, m, d = request.param
    x, y = unsorted(n, d)
    case = f"mean of 5 neighbours, {d} column{'s' if d > 1 else ''}, n = {n:,}, at {m:,} points"
    return case, x, y, np.random.default_rng(1).random((m, d))


def test_nearest_mean(measure, neighbours):
    """Predictions."""
    case, x, y, at = neighbours
    fitted = KNeighborsSmoother(5, kernel="uniform").fit(x, y)
    measure(case, "kernadv, one thread", lambda: fitted.predict(at), 9, threads=1)


def test_nearest_mean_by_scikit_learn(measure, neighbours):
    """The same numbers."""
    case, x, y, at = neighbours
    fitted = KNeighborsRegressor(5).fit(x, y)
    found = measure(case, "scikit-learn", lambda: fitted.predict(at), 9, threads=1, target=">= 1 times")
    np.testing.assert_allclose(found, KNeighborsSmoother(5, kernel="uniform").fit(x, y).predict(at), atol=1e-9)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(("degree", "name"), [(0, "NW"), (1, "LL")])
def test_selection(measure, degree, name, threads):
    """Leave-one-out over 64 bandwidths."""
    x, y = curve(10**5)
    smoother = LinearSmoother(LocalPolynomialSpec(get("epanechnikov"), degree), x, y[:, None], np.ones(len(y)))
    beside = {"target": "<= 1 s"} if threads == "all threads" else {}
    case = f"leave-one-out CV, 64 bandwidths and refinement, {name}, n = 100,000"
    select = lambda: LeaveOneOut(size=64).select(smoother)
    measure(case, f"kernadv, {threads}", select, 3, threads=THREADS[threads], **beside)


CHOSEN = "{} Gaussian, n = 10,000: leave-one-out CV, fit, predict"


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("name", SMOOTHERS)
def test_chosen(measure, name, threads):
    """With a bandwidth by least-squares cross-validation."""
    x, y = curve(10**4)
    call = lambda: SMOOTHERS[name](kernel="gaussian").fit(x, y).predict(x)
    measure(CHOSEN.format(name), f"kernadv, {threads}", call, 9, threads=THREADS[threads])


@pytest.mark.usefixtures("full")
@pytest.mark.filterwarnings("ignore")  # the peer's own
def test_chosen_by_statsmodels(measure):
    """The whole search and its fit: more than a minute."""
    peer = pytest.importorskip("statsmodels.nonparametric.kernel_regression").KernelReg
    x, y = curve(10**4)

    def call() -> Any:
        found = peer(y, x, "c", reg_type="lc", bw="cv_ls")
        found.fit()
        return found

    target = {"target": ">= 1000 times"}
    found = measure(CHOSEN.format("NW"), "statsmodels KernelReg", call, 1, warm_up=0, **target)
    ours = NadarayaWatson(kernel="gaussian").fit(x, y).bandwidth_[0]
    assert found.bw[0] == pytest.approx(ours, rel=0.02)


@pytest.mark.parametrize(
    ("name", "kind"), [("NW", "NadarayaWatsonRegression"), ("LL", "LocalLinearRegression")], ids=["NW", "LL"]
)
def test_chosen_by_kernelsmooth(measure, request, name, kind):
    """Its least-squares cross-validation and fit."""
    if name == "LL":
        request.getfixturevalue("full")  # half a minute
    peer = getattr(pytest.importorskip("kernelsmooth"), kind)
    x, y = curve(10**4)
    call = lambda: peer("lscv").fit(x, y).predict(x)
    measure(CHOSEN.format(name), "kernelsmooth", call, 1, warm_up=0, target=">= 50 times")


INTERVAL = "robust bias-corrected intervals, LL Epanechnikov, n = 100,000, 1,001 queries"


def test_interval(measure):
    """Corrected for bias, with the degrees of freedom of each window."""
    fitted, at = LocalLinear(bandwidth=0.05).fit(*curve(10**5)), np.linspace(0, 1, 1001)[:, None]
    measure(INTERVAL, "kernadv, one thread", lambda: fitted.interval(at), 3, threads=1, target="<= 1 s")


@pytest.mark.usefixtures("full")
@pytest.mark.filterwarnings("ignore")  # the peer's own
def test_interval_by_nprobust(measure):
    """At a few of the queries: estimates, and errors with the same residuals."""
    peer = pytest.importorskip("nprobust").lprobust
    x, y = curve(10**5)
    at = np.linspace(0, 1, 1001)[::100]
    settings = {"p": 1, "h": 0.05, "b": 0.05, "kernel": "epa", "vce": "hc2", "bwcheck": None, "masspoints": "off"}
    call = lambda: peer(y, x[:, 0], eval=at, **settings)
    found = measure(INTERVAL, "nprobust", call, 1, warm_up=0, threads=1, times=1001 / len(at))
    ours = LocalLinear(bandwidth=0.05).fit(x, y).interval(at[:, None]).estimate
    np.testing.assert_allclose(ours, np.asarray(found.Estimate["tau.bc"], float), atol=1e-8)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(("n", "target"), [(10**4, "<= 1 s"), (10**5, "<= 5 s")])
def test_band(measure, n, target):
    """The largest t of 1,000 draws, each with residuals of its own at all points."""
    fitted, at = LocalLinear(bandwidth=0.05).fit(*curve(n)), np.linspace(0, 1, 101)[:, None]
    case = f"band, LL Epanechnikov, n = {n:,}, 101 queries"
    measure(case, "kernadv, one thread", lambda: fitted.band(at), 3, threads=1, target=target)


@pytest.mark.usefixtures("full")
def test_plot(measure):
    """Data, fit, intervals and band, written as PNG."""
    backend = pytest.importorskip("matplotlib.backends.backend_agg")
    figure = pytest.importorskip("matplotlib.figure").Figure
    fitted = LocalLinear(bandwidth=0.05).fit(*curve(10**5))

    def draw() -> None:
        ax = figure().add_subplot()
        fitted.plot(ax)
        backend.FigureCanvasAgg(ax.figure).print_png(io.BytesIO())

    measure("plot, LL Epanechnikov, n = 100,000", "kernadv, one thread", draw, 3, threads=1, target="<= 3 s")


@pytest.fixture(params=[2, 3, 4], ids="d = {}".format)
def cloud(request) -> tuple[str, np.ndarray, float]:
    """A case, 20,000 points in a few dimensions, and a bandwidth whose windows hold 1% of them."""
    d = request.param
    x = np.random.default_rng(d).random((20_000, d))
    case = f"LL Epanechnikov, d = {d}, 20,000 x 20,000, windows with 1% of the points"
    return case, x, 0.5 * 0.01 ** (1 / d)


def test_few_dimensions(measure, cloud):
    """At every point."""
    case, x, h = cloud
    fitted = LocalLinear(bandwidth=h, kernel="epanechnikov").fit(x, x.sum(1))
    measure(case, "kernadv, all threads", lambda: fitted.predict(x), 5)


def test_few_dimensions_dense(measure, cloud):
    """The weights alone, of a few of the points."""
    case, x, h = cloud

    def weights() -> None:
        for low in range(0, len(x) // 50, 100):
            u = (x[None] - x[low : low + 100, None]) / h
            np.prod(np.where(np.abs(u) <= 1.0, 1.0 - u * u, 0.0), axis=2)

    measure(case, "dense weights alone", weights, 1, warm_up=0, times=50)


EIGHT = "NW Gaussian, d = 8, 10,000 x 10,000"


def test_several_dimensions(measure):
    """Memory is beyond the inputs."""
    x, y = memory.cloud()
    fitted = NadarayaWatson(bandwidth=0.4, kernel="gaussian").fit(x, y)
    beside = {"memory": f"{memory.measured('several_dimensions')[0]:.0f} MiB", "target": "as fast as dense torch"}
    measure(EIGHT, "kernadv, all threads", lambda: fitted.predict(x), 3, **beside)


def test_several_dimensions_by_torch(measure):
    """Three 10,000 x 10,000 matrices."""
    torch = pytest.importorskip("torch")
    x, y = memory.cloud()
    z, w = torch.from_numpy(x / 0.4), torch.from_numpy(y)

    def dense() -> Any:
        weight = torch.exp(-0.5 * torch.cdist(z, z) ** 2)
        return (weight @ w) / weight.sum(1)

    ours = NadarayaWatson(bandwidth=0.4, kernel="gaussian").fit(x, y).predict(x)
    beside = {"memory": f"{3 * 8 * 10**8 / 2**20:.0f} MiB", "target": "10 times the memory"}
    found = measure(EIGHT, "dense torch", dense, 3, **beside)
    np.testing.assert_allclose(found.numpy(), ours, atol=1e-8)


def test_series(measure):
    """At the newest step: the moments of the value estimator."""
    count, length = 10_000, 100
    z = (np.random.default_rng(0).random(count * length) < 0.4).astype(float)
    start = np.arange(count) * length
    sample = Histories(start, np.full(count, length), np.tile(np.arange(1, length + 1), count), np.ones(len(z)), z, z)
    kernel = get("triangular")
    widths = [Steps(w) for w in (3, 6, 12, 25, 50, 100, 200, 400)]
    windows = Windows.of(widths, kernel, sample, np.full(count, length + 1))
    case = "10,000 series x 100 points x 8 bandwidths, all nine moments"
    call = lambda: numba_.ragged_moments(sample, windows, kernel)
    measure(case, "kernadv, all threads", call, 15, target="<= 10 ms")
