"""Every backend computes the nine moments of the definition."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernadv import KernadvError, Relative, Steps, Visits, moments
from kernadv.kernels import KERNELS, Exponential
from kernadv.moments import BACKENDS, Histories, Moments, Windows, numba_
from kernadv.moments import numpy_ as reference

OTHERS = [name for name in BACKENDS if name not in ("numpy", "triton")]  # triton: tests/kernels
GRID = [Steps(3), Steps(17.5), Steps(np.inf), Relative(0.1), Relative(1.0), Visits(2), Visits(5)]


def ragged(rng, lengths, last=400, binary=False):
    """Random ragged histories with ascending steps."""
    lengths = np.asarray(lengths, np.int64)
    step = np.concatenate([np.sort(rng.choice(last, size=n, replace=False) + 1) for n in lengths] or [[]]).astype(
        np.int64
    )
    n = rng.integers(1, 9, len(step)).astype(float)
    s = rng.binomial(n.astype(int), 0.3).astype(float) if binary else rng.normal(size=len(step)) * n
    ss = s.copy() if binary else s * s / n + rng.random(len(step))
    return Histories(np.cumsum(lengths) - lengths, lengths.astype(np.int64), step, n, s, ss)


def definition(sample, windows, kernel):
    """The nine moments, written out: one query, one bandwidth, one visit at a time."""
    out = np.zeros((9, *windows.width.shape))
    for q, at in enumerate(windows.at):
        for h, width in enumerate(windows.width[q]):
            for j in range(sample.start[q], sample.start[q] + sample.length[q]):
                d = float(sample.step[j] - at)
                if d > 0 or -d > windows.reach[q, h]:
                    continue
                w = float(kernel.profile(np.array(d / width)))
                n, s, ss = sample.n[j], sample.s[j], sample.ss[j]
                out[:, q, h] += [w * n, w * n * d, w * n * d * d, w * s, w * s * d,
                                 w * w * n, w * w * n * d, w * w * n * d * d, w * ss]  # fmt: skip
    return Moments(*out)


def close(got, expected, rtol):
    """Compare moments relative to the largest entry of each."""
    for name, a, b in zip(Moments._fields, got, expected, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        scale = np.abs(b).max(initial=0) or 1.0
        np.testing.assert_allclose(a / scale, b / scale, atol=rtol, rtol=rtol, err_msg=name)


@pytest.mark.parametrize("kernel", [*KERNELS.values(), Exponential(0.9)], ids=repr)
def test_reference_is_the_definition(kernel):
    rng = np.random.default_rng(1)
    sample = ragged(rng, [0, 1, 5, 33], last=60)
    windows = Windows.of(GRID, kernel, sample, np.array([61, 30, 61, 45]))
    close(reference.ragged_moments(sample, windows, kernel), definition(sample, windows, kernel), 1e-13)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda k: k.name)
def test_backends_agree(name, dtype, rtol, kernel):
    rng = np.random.default_rng(2)
    sample = ragged(rng, rng.integers(0, 150, 63), binary=True)
    windows = Windows.of(GRID, kernel, sample, rng.integers(1, 450, 63))
    got = moments.select(name).backend.ragged_moments(sample, windows, kernel, dtype)
    assert str(got.s0.dtype).endswith(dtype)
    close(got, reference.ragged_moments(sample, windows, kernel), rtol)


@pytest.mark.parametrize("name", OTHERS)
@given(lengths=st.lists(st.integers(0, 12), max_size=8), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_backends_agree_on_odd_shapes(name, lengths, seed):
    rng = np.random.default_rng(seed)
    sample = ragged(rng, lengths, last=20)
    kernel = KERNELS["triangular"]
    windows = Windows.of(GRID, kernel, sample, rng.integers(1, 25, len(lengths)))
    got = moments.select(name).backend.ragged_moments(sample, windows, kernel)
    close(got, reference.ragged_moments(sample, windows, kernel), 1e-12)


@pytest.mark.parametrize("far", [10**6, 10**12, 2**53 - 1])
def test_clock_of_very_many_steps(far):
    """More lags than visits: the weights are made per visit instead of per lag."""
    rng = np.random.default_rng(3)
    sample = ragged(rng, [40, 7, 0])
    sample = sample._replace(step=sample.step * (far // 401))
    kernel = KERNELS["triangular"]
    windows = Windows.of([Relative(0.5), Steps(far), Visits(3)], kernel, sample, np.array([far, far, far]))
    close(numba_.ragged_moments(sample, windows, kernel), reference.ragged_moments(sample, windows, kernel), 1e-12)


def test_large_jobs_are_split(monkeypatch):
    monkeypatch.setattr(numba_, "TABLE", 64)
    rng = np.random.default_rng(4)
    sample = ragged(rng, rng.integers(0, 50, 20))
    kernel = KERNELS["gaussian"]
    windows = Windows.of(GRID, kernel, sample, rng.integers(1, 450, 20))
    close(numba_.ragged_moments(sample, windows, kernel), reference.ragged_moments(sample, windows, kernel), 1e-12)


def test_parallel_equals_serial(monkeypatch):
    rng = np.random.default_rng(5)
    sample = ragged(rng, rng.integers(0, 90, 65))
    kernel = KERNELS["tricube"]
    windows = Windows.of(GRID, kernel, sample, rng.integers(1, 450, 65))
    serial = numba_.ragged_moments(sample, windows, kernel)
    monkeypatch.setattr(numba_, "SERIAL", 0)
    for a, b in zip(serial, numba_.ragged_moments(sample, windows, kernel), strict=True):
        np.testing.assert_array_equal(a, b)


def test_torch_chunks(monkeypatch):
    torch_ = pytest.importorskip("kernadv.moments.torch_")
    rng = np.random.default_rng(6)
    sample = ragged(rng, [30, 0, 41, 2, 0, 17])
    kernel = KERNELS["epanechnikov"]
    windows = Windows.of(GRID, kernel, sample, np.full(6, 401))
    monkeypatch.setattr(torch_, "CHUNK", 32)
    close(torch_.ragged_moments(sample, windows, kernel), reference.ragged_moments(sample, windows, kernel), 1e-12)


def test_edge_of_the_support_carries_no_weight():
    """A visit exactly one bandwidth away has weight 0 also where lag / width is below 1 in floating point."""
    kernel = KERNELS["triangular"]
    sample = Histories(np.array([0]), np.array([1]), np.array([71]), *[np.ones(1)] * 3)
    windows = Windows.of([Relative(0.29)], kernel, sample, np.array([100]))
    assert 29 / windows.width[0, 0] != 1.0
    for name in ["numpy", *OTHERS]:
        got = moments.select(name).backend.ragged_moments(sample, windows, kernel)
        assert float(got.s0[0, 0]) == 0.0


def test_select():
    assert moments.select().name == "numba"
    chosen = moments.select("numpy")
    assert (chosen.name, chosen.reason) == ("numpy", "asked for by name")
    with pytest.raises(KernadvError, match=r"unknown backend 'cuda'; known: auto, numba, numpy, torch, triton"):
        moments.select("cuda")


def test_environment_overrides_auto(monkeypatch):
    monkeypatch.setenv("KERNADV_BACKEND", "numpy")
    assert moments.select() == moments.select("auto")
    assert moments.select().reason == "set by KERNADV_BACKEND"
    assert moments.select("numba").name == "numba"
    monkeypatch.setenv("KERNADV_BACKEND", "fast")
    with pytest.raises(KernadvError, match="KERNADV_BACKEND"):
        moments.select()


def test_named_backend_that_cannot_run_raises_with_its_reason(monkeypatch):
    monkeypatch.setattr(numba_, "unavailable", lambda: "numba is not installed: pip install numba")
    with pytest.raises(KernadvError, match=r"'numba' .* cannot run: numba is not installed"):
        moments.select("numba")
    assert moments.select("auto").name == "numpy"
    assert "numba: numba is not installed" in moments.select("auto").reason


def test_runs_where_no_cache_can_be_written(tmp_path):
    """Without a folder for compiled code the loops are compiled in memory."""
    code = (
        "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
        "from kernadv import KernelValueEstimator\n"
        "print(KernelValueEstimator().advantages(['a', 'a'], [1.0, 0.0], 1).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=os.environ)
    assert done.stdout.strip() == "[1.0, -1.0]", done.stderr
