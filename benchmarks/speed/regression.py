"""Kernel regression beside its peers, in one run: each case returns rows of (what, measured, target)."""

from __future__ import annotations

import importlib.util
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from timing import Rows, median_seconds, one_thread, row


def curve(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy curve on a line, in order."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.random(n))
    return x[:, None], np.sin(6 * x) + 0.3 * rng.normal(size=n)


def line() -> Rows:
    """Exact Nadaraya-Watson and local linear at every design point, with one thread and with all."""
    from kernadv import LocalLinear, NadarayaWatson

    rows = []
    for name, kind, targets in (
        ("NW", NadarayaWatson, ("<= 40 ms", "<= 1 s")),
        ("LL", LocalLinear, ("<= 66 ms", "<= 1 s")),
    ):
        for n, target, times in ((10**5, targets[0], 9), (10**6, targets[1], 3)):
            x, y = curve(n)
            fitted = kind(bandwidth=0.05, kernel="epanechnikov").fit(x, y)
            predict: Callable[[], object] = lambda fitted=fitted, x=x: fitted.predict(x)
            predict()
            with one_thread():
                one = median_seconds(predict, times)
            every = median_seconds(predict, times)
            what = f"{name} exact, Epanechnikov, n = m = {n:,}, one thread (all)"
            rows.append(row(what, f"{1e3 * one:.0f} ms ({1e3 * every:.0f} ms)", target))
    return rows


def selection() -> Rows:
    """Leave-one-out over 64 bandwidths."""
    from kernadv.bandwidth.leave_one_out import LeaveOneOut
    from kernadv.kernels import get
    from kernadv.smoothers.local_polynomial import LocalPolynomialFit

    x, y = curve(10**5)
    rows = []
    for degree, name in ((0, "NW"), (1, "LL")):
        select: Callable[[], object] = lambda degree=degree: LeaveOneOut(size=64).select(
            LocalPolynomialFit(get("epanechnikov"), degree), x, y[:, None], np.ones(len(y))
        )
        select()
        with one_thread():
            one = median_seconds(select, 3)
        every = median_seconds(select, 3)
        what = f"leave-one-out CV, 64 bandwidths and refinement, {name}, n = 100,000, all threads (one)"
        rows.append(row(what, f"{every:.2f} s ({one:.2f} s)", "<= 1 s"))
    return rows


def statsmodels() -> Rows:
    """Nadaraya-Watson with leave-one-out CV at n = 10,000, beside statsmodels' KernelReg.

    Its search and its fit take minutes.  They are measured whole with ``--long``; else one evaluation of its criterion and
    its fit are, and the number of evaluations is that of its search, told apart from what was measured.
    """
    if importlib.util.find_spec("statsmodels") is None:
        return []
    from statsmodels.nonparametric.kernel_regression import KernelReg

    from kernadv import NadarayaWatson

    x, y = curve(10**4)
    ours: Callable[[], NadarayaWatson] = lambda: NadarayaWatson(kernel="gaussian").fit(x, y)
    both: Callable[[], object] = lambda: ours().predict(x)
    both()
    with one_thread():
        one = median_seconds(both, 5)
    seconds = median_seconds(both, 5)
    if os.environ.get("KERNADV_LONG"):
        start = time.perf_counter()
        theirs = KernelReg(y, x, "c", reg_type="lc", bw="cv_ls")
        theirs.fit()
        slow, how = time.perf_counter() - start, "measured"
        h = float(theirs.bw[0])
    else:
        evaluations = _evaluations(KernelReg)
        h = float(ours().bandwidth_[0])
        theirs = KernelReg(y, x, "c", reg_type="lc", bw=[h])
        start = time.perf_counter()
        theirs.cv_loo(np.array([h]), theirs.est["lc"])
        each = time.perf_counter() - start
        start = time.perf_counter()
        theirs.fit()
        slow = time.perf_counter() - start + evaluations * each
        how = f"{evaluations} evaluations (counted at n = 500) of {each:.1f} s (measured), and the fit"
    return [
        row(
            "NW Gaussian, n = 10,000: leave-one-out CV, fit, predict",
            f"{1e3 * seconds:.0f} ms ({1e3 * one:.0f} ms)",
            "",
        ),
        row(
            "the same by statsmodels KernelReg",
            f"{slow:.0f} s ({how}), {slow / seconds:.0f} times ours; bandwidths {h:.4f}, {ours().bandwidth_[0]:.4f}",
            ">= 1000 times",
        ),
    ]


def _evaluations(peer: Any) -> int:
    """How often statsmodels' search evaluates its criterion."""
    x, y = curve(500)
    calls = []

    class Counting(peer):  # type: ignore[misc]
        def cv_loo(self, *arguments: Any) -> Any:
            calls.append(1)
            return super().cv_loo(*arguments)

    Counting(y, x, "c", reg_type="lc", bw="cv_ls")
    return len(calls)


def kernelsmooth() -> Rows:
    """kernelsmooth's least-squares CV and fit at n = 10,000 beside ours (where it is installed)."""
    if importlib.util.find_spec("kernelsmooth") is None:
        return []
    import kernelsmooth as peer

    from kernadv import LocalLinear, NadarayaWatson

    x, y = curve(10**4)
    rows = []
    for name, own, theirs in (
        ("NW", NadarayaWatson, peer.NadarayaWatsonRegression),
        ("LL", LocalLinear, peer.LocalLinearRegression),
    ):
        start = time.perf_counter()
        theirs("lscv").fit(x, y).predict(x)
        slow = time.perf_counter() - start
        ours: Callable[[], object] = lambda own=own: own(kernel="gaussian").fit(x, y).predict(x)
        ours()
        seconds = median_seconds(ours, 9)
        rows.append(
            row(
                f"{name} Gaussian, n = 10,000: CV, fit, predict; kernelsmooth beside it",
                f"{1e3 * seconds:.0f} ms; {slow:.1f} s, {slow / seconds:.0f} times slower",
                ">= 50 times",
            )
        )
    return rows


def few_dimensions() -> Rows:
    """Windows that hold 1% of 20,000 points in 2 to 4 dimensions, beside the dense sums (over a tenth of the queries)."""
    from kernadv import LocalLinear

    n = 20_000
    rows = []
    for d in (2, 3, 4):
        x = np.random.default_rng(d).random((n, d))
        y, h = x.sum(1), 0.5 * 0.01 ** (1 / d)
        fitted = LocalLinear(bandwidth=h, kernel="epanechnikov").fit(x, y)
        fitted.predict(x)
        seconds = median_seconds(lambda fitted=fitted, x=x: fitted.predict(x), 5)
        start = time.perf_counter()
        for low in range(0, n // 10, 100):  # the weights alone
            u = (x[None] - x[low : low + 100, None]) / h
            np.prod(np.where(np.abs(u) <= 1.0, 1.0 - u * u, 0.0), axis=2)
        dense = 10 * (time.perf_counter() - start)
        what = f"LL Epanechnikov, d = {d}, 20,000 x 20,000, windows with 1% of the points"
        rows.append(row(what, f"{1e3 * seconds:.0f} ms; dense weights alone {dense:.1f} s", ""))
    return rows


def several_dimensions() -> Rows:
    """d = 8, 10,000 x 10,000, Gaussian, beside dense torch; time and memory beyond the inputs."""
    from kernadv import NadarayaWatson

    rng = np.random.default_rng(0)
    x = rng.normal(size=(10**4, 8))
    y = x[:, 0] + rng.normal(size=10**4)
    fitted = NadarayaWatson(bandwidth=0.4, kernel="gaussian").fit(x, y)
    fitted.predict(x[:100])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = median_seconds(lambda: fitted.predict(x), 3)
    ours = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    rows = [row("NW Gaussian, d = 8, 10,000 x 10,000", f"{seconds:.2f} s, {ours:.0f} MiB", "as fast as dense torch")]
    if importlib.util.find_spec("torch") is not None:
        import torch

        z, w = torch.from_numpy(x / 0.4), torch.from_numpy(y)

        def dense() -> torch.Tensor:
            weight = torch.exp(-0.5 * torch.cdist(z, z) ** 2)
            return (weight @ w) / weight.sum(1)

        np.testing.assert_allclose(dense().numpy(), fitted.predict(x), atol=1e-8)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        theirs = median_seconds(dense, 3)
        memory = 3 * 8 * 10**8 / 2**20
        what = f"{theirs:.2f} s, {memory:.0f} MiB (three 10,000 x 10,000 matrices): {theirs / seconds:.1f} times ours"
        rows.append(row("the same by dense torch", what, "10 times the memory"))
    return rows


def series() -> Rows:
    """10,000 series of 100 points, 8 bandwidths each, at the newest step: the moments of the value estimator."""
    from kernadv import Steps
    from kernadv.kernels import get
    from kernadv.moments import Histories, Windows, numba_

    count, length = 10_000, 100
    z = (np.random.default_rng(0).random(count * length) < 0.4).astype(float)
    start = np.arange(count) * length
    sample = Histories(start, np.full(count, length), np.tile(np.arange(1, length + 1), count), np.ones(len(z)), z, z)
    kernel = get("triangular")
    windows = Windows.of(
        [Steps(w) for w in (3, 6, 12, 25, 50, 100, 200, 400)], kernel, sample, np.full(count, length + 1)
    )
    run: Callable[[], object] = lambda: numba_.ragged_moments(sample, windows, kernel)
    run()
    seconds = median_seconds(run, 15)
    return [row("10,000 series x 100 points x 8 bandwidths, all nine moments", f"{1e3 * seconds:.1f} ms", "<= 10 ms")]


CASES = {
    "line": line,
    "selection": selection,
    "statsmodels": statsmodels,
    "kernelsmooth": kernelsmooth,
    "few_dimensions": few_dimensions,
    "several_dimensions": several_dimensions,
    "series": series,
}
