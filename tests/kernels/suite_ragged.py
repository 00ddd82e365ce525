"""The fused kernels of ragged histories against their definitions in float64.

With ``TRITON_INTERPRET=1`` in Triton's interpreter on the CPU, else on the GPU.
"""

import numpy as np
import pytest
import torch
from inputs import (
    ALL,
    CLOSE,
    DEVICE,
    LENGTHS,
    MARKS,
    NAMES,
    Scaled,
    close,
    cloud,
    flash_windows,
    histories,
    queries,
    tensors,
)

from kernadv.clock import Relative, Steps
from kernadv.kernels import KERNELS
from kernadv.moments import Histories, Windows, torch_, triton_ragged
from kernadv.moments import numpy_ as reference
from kernadv.regression.operators import prequential as scores
from kernadv.regression.operators import triton_flash, triton_prequential, triton_weights
from kernadv.regression.operators.weights import kernel_weights

pytestmark = MARKS


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kernel", ALL, ids=NAMES)
def test_moments(kernel, dtype):
    sample = histories(1, LENGTHS)
    windows = queries(sample, kernel)
    got = triton_ragged.ragged_moments(tensors(sample, dtype), tensors(windows, dtype), kernel, dtype)
    for mine, theirs in zip(got, reference.ragged_moments(sample, windows, kernel), strict=True):
        close(mine, theirs, CLOSE[dtype])


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17])
def test_number_of_bandwidths(count):
    kernel = KERNELS["triangular"]
    sample = histories(2, [7, 0, 63])
    windows = queries(sample, kernel, grid=[Steps(2.0 + 3.0 * k) for k in range(count)])
    got = triton_ragged.ragged_moments(tensors(sample), tensors(windows), kernel, "float64")
    for mine, theirs in zip(got, reference.ragged_moments(sample, windows, kernel), strict=True):
        close(mine, theirs, 1e-12)


@pytest.mark.parametrize("kernel", [KERNELS["epanechnikov"], KERNELS["exponential"]], ids=lambda k: k.name)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_long_histories(kernel, dtype):
    sample = histories(3, [4096, 0, 1023, 1], last=6000)
    windows = queries(sample, kernel, last=6000)
    got = triton_ragged.ragged_moments(tensors(sample, dtype), tensors(windows, dtype), kernel, dtype)
    for mine, theirs in zip(got, reference.ragged_moments(sample, windows, kernel), strict=True):
        close(mine, theirs, CLOSE[dtype])


@pytest.mark.parametrize("degree", [0, 1])
def test_weights_of_long_histories(degree):
    sample = histories(21, [4096, 0, 1023, 1], last=6000)
    kernel = KERNELS["epanechnikov"]
    moved = tensors(sample), tensors(queries(sample, kernel, last=6000))
    expected = kernel_weights(*moved, kernel, degree, 5120)
    close(triton_weights.kernel_weights(*moved, kernel, degree, 5120), expected, 1e-10)


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32", "float64"])
def test_storage_types(stored):
    """Rewards that a short type holds exactly give the same sums."""
    kernel = KERNELS["triangular"]
    sample = histories(4, [33, 5, 0])
    sample = sample._replace(s=np.rint(sample.s), ss=np.rint(sample.ss))
    windows = queries(sample, kernel)
    moved = tensors(sample, "float32")
    kind = getattr(torch, stored)
    moved = moved._replace(n=moved.n.to(torch.int8), s=moved.s.to(kind), ss=moved.ss.to(kind))
    got = triton_ragged.ragged_moments(moved, tensors(windows), kernel, "float32")
    for mine, theirs in zip(got, reference.ragged_moments(sample, windows, kernel), strict=True):
        close(mine, theirs, 1e-6)


def test_packed_padded_and_ring_agree():
    """Only start and length say where entries lie; their order does not matter."""
    kernel = KERNELS["triangular"]
    sample = histories(5, [7, 0, 12, 3])
    windows = tensors(queries(sample, kernel))
    packed = triton_ragged.ragged_moments(tensors(sample), windows, kernel, "float64")
    room, size = 12, len(sample.start)
    rng = np.random.default_rng(0)
    held = [
        np.full(size * room, fill, part.dtype)
        for part, fill in zip(sample[2:], (500, np.nan, np.nan, np.nan), strict=True)
    ]
    for q in range(size):
        own = slice(sample.start[q], sample.start[q] + sample.length[q])
        turn = int(rng.integers(0, max(sample.length[q], 1)))
        for ring, part in zip(held, sample[2:], strict=True):
            ring[q * room : q * room + sample.length[q]] = np.roll(part[own], turn)
    ring = Histories(np.arange(size) * room, sample.length, *held)
    close(triton_ragged.ragged_moments(tensors(ring), windows, kernel, "float64"), packed, 1e-13)
    shared = sample._replace(start=sample.start[[2, 2, 0, 1]], length=sample.length[[2, 2, 0, 1]])
    twice = triton_ragged.ragged_moments(
        tensors(shared), Windows(*(p[[2, 2, 0, 1]] for p in windows)), kernel, "float64"
    )
    assert torch.equal(twice, packed[:, [2, 2, 0, 1]])


def test_windows_may_be_expanded():
    kernel = KERNELS["gaussian"]
    sample = tensors(histories(6, [9, 40]))
    at = torch.tensor([600, 700], device=DEVICE)
    one = torch.tensor([5.0, 50.0, 500.0], dtype=torch.float64, device=DEVICE).expand(2, 3)
    reach = torch.full((1, 1), 2**62, device=DEVICE).expand(2, 3)
    expanded = triton_ragged.ragged_moments(sample, Windows(at, one, reach), kernel, "float64")
    whole = Windows(at, one.contiguous(), reach.contiguous())
    assert torch.equal(expanded, triton_ragged.ragged_moments(sample, whole, kernel, "float64"))


@pytest.mark.parametrize("kernel", [KERNELS["triangular"], KERNELS["exponential"]], ids=lambda k: k.name)
def test_bandwidth_of_zero_and_infinity(kernel):
    sample = histories(7, [5, 0])
    at = np.array([2000, 2000])
    width = np.array([[0.0, np.nan, np.inf]] * 2)
    reach = np.array([[-1, -1, 2**62]] * 2)
    got = triton_ragged.ragged_moments(tensors(sample), tensors(Windows(at, width, reach)), kernel, "float64")
    assert got[:, :, :2].isnan().all()
    assert got[0, 0, 2].item() == sample.n.sum()
    assert got[3, 0, 2].item() == pytest.approx(sample.s.sum(), rel=1e-15)
    assert (got[:, 1, 2] == 0).all()


def test_edge_is_decided_on_integers():
    """29 / (0.29 * 100) is below 1 in floating point, but lies on the edge."""
    sample = Histories(np.array([0]), np.array([1]), np.array([71]), *[np.ones(1)] * 3)
    windows = Windows.of([Relative(0.29)], KERNELS["triangular"], sample, np.array([100]))
    for dtype in ("float64", "float32"):
        got = triton_ragged.ragged_moments(
            tensors(sample, dtype), tensors(windows, dtype), KERNELS["triangular"], dtype
        )
        assert got[0, 0, 0].item() == 0.0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kernel", ALL, ids=NAMES)
@pytest.mark.parametrize("width", [1e-300, 1e-40, 1e-10, 0.5, 1.0, 2.0])
def test_narrow_windows(width, kernel, dtype):
    """A window that holds the lag 0, or not even that."""
    sample = Histories(np.array([0, 3]), np.array([3, 0]), np.array([1, 7, 9]), *[np.ones(3)] * 3)
    windows = Windows.of([Steps(width), Relative(0.5)], kernel, sample, np.array([9, 9]))
    got = triton_ragged.ragged_moments(tensors(sample, dtype), tensors(windows, dtype), kernel, dtype)
    with np.errstate(over="ignore"):
        expected = np.stack(reference.ragged_moments(sample, windows, kernel))
    close(got, expected, CLOSE[dtype])
    close(got[:, :, 0], expected[:, :, 0], CLOSE[dtype])
    moved = tensors(sample, dtype), tensors(windows, dtype)
    for mine, theirs in zip(torch_.ragged_moments(*moved, kernel, dtype), expected, strict=True):
        close(mine, theirs, CLOSE[dtype])


def prequential(sample, bandwidths, kernel):
    """Definition: one prompt, one bandwidth, one visit at a time."""
    out = np.zeros((2, len(sample.start), len(bandwidths)))
    for p, (start, length) in enumerate(zip(sample.start, sample.length, strict=True)):
        step, n, s, ss = (part[start : start + length] for part in sample[2:])
        for h, bandwidth in enumerate(bandwidths):
            width = bandwidth.half_width(step, None)
            for q in range(length):
                lag = step[q] - step[:q]
                w = np.where(lag <= kernel.reach(width[q]), kernel.profile(lag / width[q]), 0.0)
                if (w * n[:q]).sum() > 0:
                    fit = (w * s[:q]).sum() / (w * n[:q]).sum()
                    out[:, p, h] += ss[q] - 2.0 * fit * s[q] + n[q] * fit * fit, n[q]
    return out


@pytest.mark.parametrize("kernel", ALL, ids=NAMES)
def test_prequential(kernel):
    """The edge decides which visits are scored: a weight of 1e-8 there would move the score by 1e-3."""
    sample = histories(12, [0, 1, 33, 65, 7])
    bandwidths = [Steps(30), Steps(np.inf), Relative(0.1), Relative(0.29, floor=40.0)]
    slope, floor = scores.half_widths(tuple(bandwidths), torch.device(DEVICE))
    expected = prequential(sample, bandwidths, kernel)
    for dtype in ("float64", "float32"):
        moved = tensors(sample, dtype)
        loss, count = triton_prequential.prequential_cv(moved, slope, floor, kernel, dtype)
        assert torch.equal(count.cpu().double(), torch.as_tensor(expected[1]))
        close(loss, expected[0], CLOSE[dtype])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "kernel", [*map(KERNELS.get, ("triangular", "uniform", "exponential")), Scaled()], ids=lambda k: k.name
)
def test_edges_of_prequential_windows(kernel, dtype):
    """A visit at the edge, just beyond and twice at one step; lags that float32 cannot hold; widths from tiny to inf."""
    step = [71, 100, 1, 2**25 + 2, 1, 2**25 + 3, 3, 3, 5, 8]
    length = np.array([2, 2, 2, 3, 1])
    c = np.arange(1.0, 11.0)
    sample = Histories(np.cumsum(length) - length, length, np.array(step), c, c % 4, c % 4)
    bandwidths = [Relative(0.29), Steps(2**25 + 1), Steps(2), Steps(1e-300), Steps(np.inf)]
    slope, floor = scores.half_widths(tuple(bandwidths), torch.device(DEVICE))
    expected = scores.prequential_cv(tensors(sample), slope, floor, kernel)
    loss, count = triton_prequential.prequential_cv(tensors(sample, dtype), slope, floor, kernel, dtype)
    close(count, expected[1], 0.0)
    close(loss, expected[0], CLOSE[dtype])


def test_prequential_of_one_long_history():
    sample = histories(13, [700], last=3000)
    kernel = KERNELS["exponential"]
    bandwidths = [Relative(0.05), Steps(9)]
    slope, floor = scores.half_widths(tuple(bandwidths), torch.device(DEVICE))
    moved = tensors(sample, "float32")
    loss, count = triton_prequential.prequential_cv(moved, slope, floor, kernel, "float32")
    expected = prequential(sample, bandwidths, kernel)
    close(loss, expected[0], 1e-5)
    close(count, expected[1], 0.0)


@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("name", ["triangular", "uniform", "exponential"])
def test_weights(name, degree):
    kernel = KERNELS[name]
    sample = histories(14, [0, 1, 33, 70])
    windows = queries(sample, kernel)
    total = int(sample.length.sum())
    expected = kernel_weights(tensors(sample), tensors(windows), kernel, degree, total)
    got = triton_weights.kernel_weights(tensors(sample), tensors(windows), kernel, degree, total)
    close(got, expected, 1e-10)
    short = triton_weights.kernel_weights(
        tensors(sample, "float32"), tensors(windows, "float32"), kernel, degree, total, "float32"
    )
    wide = [h for h, width in enumerate(windows.width[2]) if width >= 60]  # no weight underflows in float32
    close(short[wide], expected[wide], 1e-6 if degree == 0 else 1e-4)
    sums = got[:, 1:34].sum(1)
    assert torch.allclose(sums[~sums.isnan()], torch.ones_like(sums[~sums.isnan()]), atol=1e-12)


def test_prequential_of_some_visits():
    """The others predict and are not scored; the parts add up."""
    sample = tensors(histories(22, [40, 0, 70]))
    kernel = KERNELS["epanechnikov"]
    slope, floor = scores.half_widths((Relative(0.2), Steps(31)), torch.device(DEVICE))
    asked = torch.arange(110, device=DEVICE) % 3 == 0
    whole = triton_prequential.prequential_cv(sample, slope, floor, kernel)
    parts = [
        triton_prequential.prequential_cv(sample, slope, floor, kernel, "float64", which) for which in (asked, ~asked)
    ]
    close(parts[0] + parts[1], whole, 1e-12)
    close(parts[0], scores.prequential_cv(sample, slope, floor, kernel, "float64", asked), 1e-12)


def test_same_bits_every_time():
    sample = tensors(histories(15, LENGTHS), "float32")
    windows = tensors(queries(histories(15, LENGTHS), KERNELS["gaussian"]), "float32")
    first = triton_ragged.ragged_moments(sample, windows, KERNELS["gaussian"], "float32")
    assert torch.equal(first, triton_ragged.ragged_moments(sample, windows, KERNELS["gaussian"], "float32"))
    queries_, points, y, step = cloud(37, 203, 8)
    wide = flash_windows(step, KERNELS["cosine"], 1.0, 0.5)
    call = [queries_, points, y, wide, KERNELS["gaussian"], KERNELS["cosine"], "ieee"]
    assert torch.equal(triton_flash.flash_moments(*call), triton_flash.flash_moments(*call))


def test_no_queries():
    sample = tensors(histories(16, []))
    windows = tensors(queries(histories(16, []), KERNELS["uniform"]))
    assert triton_ragged.ragged_moments(sample, windows, KERNELS["uniform"], "float64").shape == (9, 0, 6)
