"""The fused smoother over features, time and prompts against its definition in float64.

With ``TRITON_INTERPRET=1`` in Triton's interpreter on the CPU, else on the GPU.
"""

import pytest
import torch
from inputs import INTERPRETED, MARKS, Scaled, close, cloud, flash_summary, flash_windows

from kernadv.kernels import KERNELS
from kernadv.regression.operators import flash, triton_flash

pytestmark = MARKS
#: In the interpreter every product is float32: ieee is bf16x3 without the split.
PRECISIONS = flash.PRECISIONS[1:] if INTERPRETED else flash.PRECISIONS


@pytest.mark.parametrize(
    ("far", "bandwidth", "time"),
    [(k, 1.6, "triangular") for k in KERNELS] + [("gaussian", 0.1, "exponential"), ("exponential", 0.05, "uniform"),
     ("epanechnikov", 1.6, "exponential")],
)  # fmt: skip
@pytest.mark.parametrize("precision", PRECISIONS)
def test_flash(far, bandwidth, time, precision):
    queries, points, y, step = cloud(37, 203, 72)
    windows = flash_windows(step, KERNELS[time], bandwidth, 0.25)
    got = triton_flash.flash_moments(queries, points, y, windows, KERNELS[far], KERNELS[time], precision, split=3)
    if precision == "bf16":  # exact for the features as they were rounded
        centre = points.features.mean(0)
        queries, points = (
            part._replace(features=(part.features - centre).bfloat16().float()) for part in (queries, points)
        )
    expected = flash.flash_moments(queries, points, y, windows, KERNELS[far], KERNELS[time])
    some = expected[0] > 1e-4
    assert some.sum() > 10
    a, b = flash_summary(got)[:, some], flash_summary(expected)[:, some]
    assert ((a - b).norm(dim=1) <= 1e-4 * b.norm(dim=1)).all(), ((a - b).norm(dim=1) / b.norm(dim=1)).tolist()
    assert torch.equal(got[0] > 0, expected[0] > 0)


@pytest.mark.parametrize(("count", "total", "width"), [(1, 1, 1), (17, 33, 5), (16, 32, 32), (3, 100, 33)])
@pytest.mark.parametrize("split", [1, 4, 7])
def test_flash_shapes(count, total, width, split):
    queries, points, y, step = cloud(count, total, width)
    points = points._replace(id=points.id + 1000)
    windows = flash_windows(step, KERNELS["exponential"], 1.0, 1.0)
    kernels = KERNELS["gaussian"], KERNELS["exponential"]
    got = triton_flash.flash_moments(queries, points, y, windows, *kernels, "ieee", split=split)
    expected = flash.flash_moments(queries, points, y, windows, *kernels)
    some = expected[0] > 0
    close(flash_summary(got)[:2, some], flash_summary(expected)[:2, some], 1e-5)
    assert torch.equal(got[9].isinf(), expected[9].isinf())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_flash_of_another_support(precision):
    """A kernel may reach beyond one bandwidth, in features and in time."""
    queries, points, y, step = cloud(17, 90, 8)
    windows = flash_windows(step, Scaled(), 0.7, 0.5)
    got = triton_flash.flash_moments(queries, points, y, windows, Scaled(), Scaled(), precision)
    expected = flash.flash_moments(queries, points, y, windows, Scaled(), Scaled())
    for k in range(9):
        close(got[k], expected[k], 1e-2 if precision == "bf16" else 1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_flash_without_descriptors(precision, monkeypatch):
    """As on a GPU without them: the same numbers by plain loads."""
    queries, points, y, step = cloud(17, 90, 33)
    windows = flash_windows(step, KERNELS["uniform"], 0.7, 0.5)
    call = [queries, points, y, windows, KERNELS["gaussian"], KERNELS["uniform"], precision]
    expected = triton_flash.flash_moments(*call)
    monkeypatch.setattr(triton_flash, "hopper", lambda: False)
    got = triton_flash.flash_moments(*call)
    for k in range(9):
        close(got[k], expected[k], 1e-6)


def test_flash_without_a_line():
    queries, points, y, step = cloud(17, 90, 8)
    call = [
        queries,
        points,
        y,
        flash_windows(step, KERNELS["uniform"], 1.0, 0.5),
        KERNELS["gaussian"],
        KERNELS["uniform"],
    ]
    mean = triton_flash.flash_moments(*call, "ieee", 0)
    line = triton_flash.flash_moments(*call, "ieee", 1)
    assert torch.equal(mean[[0, 3, 5, 8, 9]], line[[0, 3, 5, 8, 9]])
    assert (mean[[1, 2, 4, 6, 7]] == 0).all()


def test_flash_of_features_alone():
    """What is not given plays no part."""
    queries, points, y, _ = cloud(17, 90, 8)
    alone = flash.Points(queries.features), flash.Points(points.features)
    windows = flash.Windows(0.7)
    got = triton_flash.flash_moments(*alone, y, windows, KERNELS["gaussian"], KERNELS["uniform"], "ieee", 0)
    distance = (queries.features.double()[:, None] - points.features.double()).square().sum(2)
    weight = torch.softmax(-0.5 * distance / 0.7**2, 1)
    close(got[3] / got[0], weight @ y.double(), 1e-5)
    close(got[0] ** 2 / got[5], 1.0 / weight.square().sum(1), 1e-5)
    expected = flash.flash_moments(*alone, y, windows, KERNELS["gaussian"], KERNELS["uniform"])
    close(expected[3] / expected[0], weight @ y.double(), 1e-12)


def test_flash_with_the_whole_past():
    """A bandwidth of inf weighs all steps alike, and a line is still fitted through them."""
    queries, points, y, step = cloud(17, 90, 8)
    windows = flash_windows(step * torch.inf, KERNELS["exponential"], 1.0, 0.5)
    call = [queries, points, y, windows, KERNELS["gaussian"], KERNELS["exponential"]]
    got, expected = triton_flash.flash_moments(*call, "ieee"), flash.flash_moments(*call)
    for k in range(9):
        close(got[k], expected[k], 1e-5)


@pytest.mark.parametrize(
    "kernel", [KERNELS[name] for name in ("gaussian", "triangular", "exponential")], ids=lambda k: k.name
)
def test_flash_with_tiny_windows(kernel):
    """Near a width of 0 points of other steps have no weight, or those of the nearest one; nothing is NaN."""
    queries, points, y, step = cloud(17, 90, 8)
    windows = flash_windows(torch.full_like(step, 1e-300), kernel, 1.0, 0.5)
    call = [queries, points, y, windows, KERNELS["gaussian"], kernel]
    got, expected = triton_flash.flash_moments(*call, "ieee"), flash.flash_moments(*call)
    for k in range(9):
        close(got[k], expected[k], 1e-5)


def test_flash_leaves_the_own_point_out():
    queries, points, y, step = cloud(20, 20, 8)
    points = queries
    windows = flash_windows(step, KERNELS["uniform"], 0.2, 1.0)
    kernels = KERNELS["gaussian"], KERNELS["uniform"]
    before = triton_flash.flash_moments(queries, points, y, windows, *kernels, "ieee")
    y[7] += 1e6
    after = triton_flash.flash_moments(queries, points, y, windows, *kernels, "ieee")
    assert torch.equal(before[:, 7], after[:, 7])
    assert not torch.equal(before, after)
