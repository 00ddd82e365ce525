"""The moments around any queries against their reference in float64: kernels, dimensions, edges, sizes, types.

With ``TRITON_INTERPRET=1`` in Triton's interpreter on the CPU, else on the GPU.
"""

import importlib

import numpy
import pytest
import torch
from inputs import ALL, DEVICE, MARKS, close
from sklearn.base import clone

from kernadv.kernels import KERNELS
from kernadv.regression import KNeighborsSmoother, LocalLinear, NadarayaWatson
from kernadv.regression.operators import local, ops, triton_local

pytestmark = MARKS
TYPES = {"float64": 1e-12, "float32": 3e-6}


def design(dimensions, points, queries, grid, dtype, seed=0):
    """Points, two channels, queries of which the first are points, and 1 / bandwidths."""
    made = torch.Generator().manual_seed(seed)
    x, at = (torch.rand(dimensions, size, generator=made, dtype=torch.float64) for size in (points, queries))
    at[:, : min(points, queries)] = x[:, : min(points, queries)]
    channels = torch.rand(2, points, generator=made, dtype=torch.float64)
    inverse = 1.0 / (0.2 + torch.rand(grid, dimensions, 1, generator=made, dtype=torch.float64))
    return *(part.to(DEVICE, getattr(torch, dtype)) for part in (x, channels, at)), inverse.to(DEVICE)


def compare(x, channels, at, inverse, kernel, degree, tolerance, **options):
    """Both, plane by plane; the reference in float64 has the points as they were rounded."""
    which = local.columns(len(x), len(channels), degree, x.device)
    got = triton_local.local_moments(x, channels, at, inverse, kernel, which, **options)
    wide = [part.double() for part in (x, channels, at)]
    expected = local.local_moments(*wide, inverse, kernel, which, **options)
    assert got.dtype == torch.float64
    close(got, expected, tolerance)
    return got


@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", TYPES)
def test_kernels(kernel, dtype):
    """Every kernel, radial and as a product."""
    for radial in (False, True):
        compare(*design(2, 19, 7, 3, dtype), kernel, 0, TYPES[dtype], radial=radial)


@pytest.mark.parametrize("side", local.SIDES)
@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_sides_and_own_points(side, degree, dtype):
    """One-sided windows, and queries that leave out a point of theirs."""
    x, channels, at, inverse = design(1, 37, 20, 5, dtype)
    for first in (-1, 0, 11):
        got = compare(x, channels, at, inverse, KERNELS["epanechnikov"], degree, TYPES[dtype], side=side, first=first)
        channels = channels.clone()
        if first >= 0:  # a point does not show in the sums of its own query
            channels[:, first + 3] += 1e3
            again = compare(
                x, channels, at, inverse, KERNELS["epanechnikov"], degree, TYPES[dtype], side=side, first=first
            )
            assert torch.equal(again[..., 3], got[..., 3])


@pytest.mark.parametrize(("dimensions", "points", "queries", "grid"),
                         [(1, 1, 1, 1), (1, 33, 33, 4), (3, 70, 2, 1), (5, 8, 65, 9), (40, 11, 5, 2)])  # fmt: skip
def test_sizes(dimensions, points, queries, grid):
    compare(*design(dimensions, points, queries, grid, "float64"), KERNELS["gaussian"], int(dimensions < 9), 1e-12)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_bandwidth_for_each_query(dtype):
    """One of (nearly) 0 leaves the points at the query."""
    x, channels, at, _ = design(3, 41, 35, 1, dtype)
    width = torch.linspace(0.0, 1.5, 35, dtype=torch.float64, device=DEVICE).clamp(min=torch.finfo(x.dtype).tiny)
    inverse = (1.0 / width).expand(1, 3, -1)
    for kernel in ("uniform", "gaussian"):
        got = compare(x, channels, at, inverse, KERNELS[kernel], 1, TYPES[dtype], radial=True)
        assert got[0, 0, 0] == channels[0, 0]


def test_what_is_shared_is_added():
    """Few queries share the points among many programs."""
    compare(*design(2, 700, 3, 2, "float64"), KERNELS["tricube"], 1, 1e-12)


def test_queries_that_are_not_numbers():
    """They have no weights, and the queries beside them lose none."""
    x, channels, at, inverse = design(2, 30, 9, 2, "float64")
    at[1, 4] = torch.nan
    which = local.columns(2, 2, 0, x.device)
    got = triton_local.local_moments(x, channels, at, inverse, KERNELS["gaussian"], which)
    assert (got[..., 4] == 0.0).all()
    assert (got[0, 0] > 0.0).sum() == 8


def test_nothing_to_do():
    x, channels, at, inverse = design(2, 30, 9, 2, "float64")
    which = local.columns(2, 2, 1, x.device)
    none = triton_local.local_moments(x, channels, at[:, :0], inverse, KERNELS["gaussian"], which)
    assert none.shape == (9, 2, 0)
    empty = triton_local.local_moments(x[:, :0], channels[:, :0], at, inverse, KERNELS["gaussian"], which)
    assert empty.shape == (9, 2, 9)
    assert not empty.any()


@pytest.mark.parametrize(
    ("regressor", "dimensions", "dtype"),
    [(NadarayaWatson(), 1, "float64"), (LocalLinear(), 1, "float64"), (LocalLinear(2.0), 3, "float64"),
     (KNeighborsSmoother(5, degree=1), 2, "float64"), (NadarayaWatson(0.5, kernel="gaussian"), 2, "float32"),
     (NadarayaWatson(4.0, radial=True), 17, "float32")],
    ids=lambda part: repr(part),
)  # fmt: skip
def test_regressors(regressor, dimensions, dtype, monkeypatch):
    """From tensors to the numbers of main memory, through the fused kernels themselves."""
    monkeypatch.setattr(
        ops, "_module", lambda name, *_: importlib.import_module(f"kernadv.regression.operators.{name}")
    )
    made = torch.Generator().manual_seed(5)
    x = torch.randn(40, dimensions, generator=made, dtype=torch.float64).to(getattr(torch, dtype))
    y, at = (2.0 * x[:, 0]).sin(), x[:9] + 0.05
    there = clone(regressor).set_params(backend="torch").fit(x.to(DEVICE), y.to(DEVICE))
    here = clone(regressor).fit(x.double().numpy(), y.double().numpy())
    tolerance = 1e-10 if dtype == "float64" else 1e-5
    if isinstance(regressor.get_params().get("bandwidth"), str):
        numpy.testing.assert_allclose(there.selection_.curve, here.selection_.curve, rtol=tolerance)
        here.set_params(bandwidth=there.bandwidth_).fit(x.double().numpy(), y.double().numpy())
    close(there.predict(at.to(DEVICE)), here.predict(at.double().numpy()), tolerance)
    close(there.loo_predict(), here.loo_predict(), 10 * tolerance)
