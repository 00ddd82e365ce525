"""The launchers up to the device: arguments are bound and compiled as on an H100, and only the launch itself is left out."""

from contextlib import ExitStack
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("triton")
import torch
from launches import fused, recorded
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from waiting import Deterministic, fake, leave_unanswered

from kernadv import KernelValueEstimator
from kernadv.clock import Relative, Steps
from kernadv.device import triton_kernels, triton_programs
from kernadv.device.table import Table
from kernadv.device.visits import Visits
from kernadv.kernels import KERNELS
from kernadv.moments import Histories, Windows, triton_ragged
from kernadv.regression.operators import (
    flash,
    local,
    prequential,
    triton_flash,
    triton_local,
    triton_prequential,
    triton_weights,
)

KERNEL = KERNELS["triangular"]
#: Every fused kernel.
EVERY = [
    kernel
    for module in (
        triton_ragged,
        triton_prequential,
        triton_weights,
        triton_flash,
        triton_local,
        triton_kernels,
        triton_programs,
    )
    for name, kernel in vars(module).items()
    if name.endswith("_kernel")
]


class Device:
    """A driver of a GPU that is not there; it keeps what would have been launched."""

    def __init__(self):
        self.launched = []
        self.utils = SimpleNamespace(
            load_binary=lambda *arguments: (None, None, 0, 0, 1024),
            get_device_properties=lambda device: {"max_shared_mem": 228 * 1024},
        )

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def launcher_cls(self, source, metadata):
        def launch(x, y, z, *arguments):
            self.launched.append(((x, y, z), metadata))

        return launch


@pytest.fixture
def device(monkeypatch):
    made = Device()
    for kernel in EVERY:
        kernel.device_caches.clear()
    monkeypatch.setattr(driver, "_active", made)
    yield made
    for kernel in EVERY:
        kernel.device_caches.clear()


@pytest.fixture
def sample():
    lengths = np.array([5, 0, 40])
    step = np.concatenate([np.arange(1, size + 1) for size in lengths])
    ones = np.ones(len(step))
    made = Histories(np.cumsum(lengths) - lengths, lengths, step, ones, ones, ones)
    return Histories(*(torch.as_tensor(part) for part in made))


def windows(sample, count=16):
    arrays = Histories(*(part.numpy() for part in sample))
    made = Windows.of([Relative(0.1 * k) for k in range(1, count + 1)], KERNEL, arrays, np.full(3, 41))
    return Windows(*(torch.as_tensor(part) for part in made))


def test_ragged(device, sample):
    triton_ragged.ragged_moments(sample, windows(sample), KERNEL, "float32")
    triton_ragged.ragged_moments(sample, windows(sample, 17), KERNEL, "float32")
    narrow = sample._replace(step=sample.step.int(), length=sample.length.int(), n=sample.n.int())
    near = windows(sample)
    triton_ragged.ragged_moments(narrow, near._replace(at=near.at.int()), KERNEL, "float32")
    grids = [grid for grid, _ in device.launched]
    assert grids == [(6, 1, 1), (9, 1, 1), (6, 1, 1)]
    assert [metadata.num_warps for _, metadata in device.launched] == [1, 1, 1]


def test_prequential(device, sample):
    slope, floor = prequential.half_widths((Steps(3), Relative(0.1)), torch.device("cpu"))
    triton_prequential.prequential_cv(sample, slope, floor, KERNEL, "float32")
    assert device.launched[0][0] == (3, 1, 16)


def test_weights(device, sample):
    triton_weights.kernel_weights(sample, windows(sample), KERNEL, 1, 45, "float32")
    assert device.launched[0][0] == (3, 1, 1)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize(("dimensions", "degree", "grid"), [(1, 0, 1), (1, 1, 32), (5, 1, 16), (40, 0, 32)])
def test_local(device, dimensions, degree, grid, real):
    x = torch.rand(dimensions, 1000, dtype=getattr(torch, real))
    which = local.columns(dimensions, 2, degree, x.device)
    inverse = torch.ones((grid, dimensions, 1), dtype=torch.float64)
    triton_local.local_moments(x, x[:1].expand(2, -1).contiguous(), x, inverse, KERNEL, which, first=0)
    bk, bh, _, bn = triton_local.tile(len(which.channel), grid, real)
    blocks = -(-grid // bh) * -(-len(which.channel) // bk)
    shares = max(min(triton_local.PROGRAMS // (32 * blocks), -(-1000 // (8 * bn))), 1)
    assert device.launched[0][0] == (32, blocks, shares)


def test_local_of_neighbours(device):
    """A bandwidth for each query, of a few queries that share the points; also one alone."""
    x = torch.rand(3, 1000)
    for many in (1, 17):
        inverse = torch.ones(many, dtype=torch.float64).expand(1, 3, -1)
        which = local.columns(3, 2, 0, x.device)
        triton_local.local_moments(
            x, x[:2].contiguous(), x[:, :many].contiguous(), inverse, KERNEL, which, radial=True, side="past"
        )
    assert [grid for grid, _ in device.launched] == [(1, 1, 32)] * 2


def test_rows(device):
    z, ends = torch.ones(300, dtype=torch.float64), torch.zeros((2, 300), dtype=torch.int64)
    triton_kernels.smooth_rows(torch.ones((9, 300), dtype=torch.float64), z, *ends, "local_linear")
    assert device.launched[0][0] == (3, 1, 1)


def test_groups(device):
    parts, ends = torch.ones((6, 300), dtype=torch.float64), torch.zeros((2, 300), dtype=torch.int64)
    triton_kernels.sum_of_groupmates(parts, *ends)
    triton_kernels.sum_groups(parts[0], *ends)
    assert [grid for grid, _ in device.launched] == 2 * [(3, 1, 1)]


def test_sizes_of_groups_are_not_compiled_in(device):
    """One binary for groups of any size, which therefore has the same registers."""
    count = 1024
    for size in (8, 16, 64, 128):
        first = torch.arange(count) // size * size
        parts = torch.ones((9, count), dtype=torch.float64)
        triton_kernels.smooth_rows(parts, parts[0], first, first + size, "local_linear")
        triton_kernels.sum_of_groupmates(parts, first, first + size)
        triton_kernels.sum_groups(parts[0], first, first + size)
        triton_kernels.fill_from_elsewhere(parts[0], parts[0] > 0, parts[1], first, first + size, parts[2])
        triton_kernels.add_totals(
            *parts[1:4], torch.tensor(0), parts[0], first, first + size, *parts[4:7], parts[0] > 0, 0.98
        )
    for kernel in (triton_kernels.rows_kernel, triton_kernels.others_kernel, triton_kernels.sums_kernel,
                   triton_kernels.mean_kernel, triton_kernels.errors_kernel):  # fmt: skip
        assert len(kernel.device_caches[0][0]) == 1


def test_history(device):
    """Steps are not compiled in: one binary serves all that fit 32 bits."""
    table, ids = Table(torch.device("cpu"), 300), torch.arange(200)
    triton_kernels.enter_ids(table.keys, table.rows, table.used, ids, *table.find(ids), ids > 0)
    kinds = [torch.int64, torch.int32, torch.float64, torch.float64]
    visits = Visits(*(torch.zeros(81, dtype=kind) for kind in kinds), *torch.zeros((2, 11)).long())
    notes, sums = (torch.ones(shape, dtype=torch.float64) for shape in ((11, 74), (3, 200)))
    for step in (1, 2, 16, 33):
        triton_kernels.put_visits(*visits, notes, ids % 10, ids < 10, sums, None, step, 8)
    assert [grid for grid, _ in device.launched] == [(1, 1, 1), (5, 1, 1), (3, 1, 1)] + 4 * [(200, 1, 1)]
    assert len(triton_kernels.put_kernel.device_caches[0][0]) == 1


def test_rows_of_a_batch(device):
    """Steps are not compiled in; whether there are several is."""
    table, ids, size = Table(torch.device("cpu"), 300), torch.arange(200), torch.zeros(301, dtype=torch.int64)
    z = torch.ones(200, dtype=torch.float64)
    for step, tick in ((1, None), (16, None), (33, None), (33, ids)):
        triton_kernels.arrange_rows(ids, ids, z, tick, table.keys, table.rows, table.used, size, size, 8, step)
    for kind in (torch.float32, torch.bfloat16):
        triton_kernels.advantages_of_rows(z, z, z > 1, ids, kind)
    assert [grid for grid, _ in device.launched] == 6 * [(2, 1, 1)]
    assert len(triton_kernels.arrange_kernel.device_caches[0][0]) == 2


def test_sums_of_a_batch(device):
    ids = torch.arange(2000)
    table = Table(torch.device("cpu"), 300)
    triton_kernels.find_ids(table.keys, table.rows, table.used, ids)
    z, seen = torch.ones(2000, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    triton_kernels.fill_from_elsewhere(z, z > 0, z, ids, ids, seen)
    triton_kernels.sum_elsewhere(torch.ones((3, 2000), dtype=torch.float64), ids, ids)
    totals = [torch.zeros(many, dtype=torch.float64) for many in (2, 3, 12)]
    for value in (z, None):
        triton_kernels.add_totals(*totals, torch.tensor(0), z, ids, ids, z, z, value, z > 0, 0.98)
    assert [grid for grid, _ in device.launched] == [(16, 1, 1), (2, 1, 1), (2, 1, 1), (6, 1, 1), (6, 1, 1)] + 2 * [
        (2, 1, 1),
        (2, 1, 1),
        (1, 1, 1),
    ]


@pytest.mark.parametrize("precision", flash.PRECISIONS)
def test_flash(device, precision):
    points = flash.Points(torch.randn(200, 64), *[torch.arange(200)] * 3)
    around = flash.Windows(1.0, torch.full((200,), 9.0), torch.full((200,), 2**62), 0.5)
    triton_flash.flash_moments(points, points, torch.ones(200), around, KERNELS["gaussian"], KERNEL, precision)
    (grid, metadata), *_ = device.launched
    bq = triton_flash.tile(precision, True, True)[0]
    assert grid[0] == -(-200 // bq)
    assert metadata.shared < 228 * 1024


@pytest.mark.parametrize("precision", flash.PRECISIONS)
def test_numbers_of_features_are_not_compiled_in(device, precision):
    """Features are padded to whole tiles: one binary, that of the budget, for any number of them."""
    for width in (1, 33, 64, 256, 1024):
        points = flash.Points(torch.randn(160, width))
        call = [points, points, torch.ones(160), flash.Windows(1.0), KERNELS["gaussian"], KERNEL]
        triton_flash.flash_moments(*call, precision, 0, split=2)
    assert len(triton_flash.flash_kernel.device_caches[0][0]) == 1


def test_same_kernel_is_compiled_once(device, sample):
    for _ in range(3):
        triton_ragged.ragged_moments(sample, windows(sample), KERNEL, "float32")
    cache = triton_ragged.ragged_kernel.device_caches[0][0]
    assert len(cache) == 1
    triton_ragged.ragged_moments(sample, windows(sample), KERNELS["gaussian"], "float32")
    assert len(cache) == 2


@pytest.mark.parametrize("make", [KernelValueEstimator.kae, KernelValueEstimator], ids=["plain", "pooled"])
def test_deterministic_mode(make, monkeypatch):
    """What an estimator calls around the fused kernels has a deterministic form on a GPU, too."""
    leave_unanswered(monkeypatch)
    first = make()
    first.observe(list(range(15)) * 4, np.arange(60) % 3 / 2.0, 1)
    learned = first.state_dict()
    torch.use_deterministic_algorithms(True)
    try:
        with fused(), recorded() as launched, fake():
            estimator = make(backend="torch")
            estimator.load_state_dict(learned)
            ids, z = torch.arange(60) // 4, torch.rand(60)
            for step in (2, 3):
                with Deterministic() as watch:
                    estimator.advantages(ids, z, step)
                    estimator.values(ids, z, step)
                    estimator.observe(ids, z, step + 10)
                estimator._state.newest = step
    finally:
        torch.use_deterministic_algorithms(False)
    assert watch.operators
    assert triton_kernels.put_kernel in [kernel for kernel, _ in launched]


class Guard:
    """`torch.cuda.device` of a machine without a GPU; `now`: the device that would be the current one."""

    now = torch.device("cuda:0")

    def __init__(self, device):
        self.own, self.before = torch.device(device), Guard.now

    def __enter__(self):
        Guard.now = self.own

    def __exit__(self, *problem):
        Guard.now = self.before


def launch_everything(device):
    """Call every launcher with tensors on a device, as they come from the operators."""
    real, whole = {"dtype": torch.float64, "device": device}, torch.ones(45, dtype=torch.int64, device=device)
    nine, x, count = torch.ones(9, 45, **real), torch.ones(45, **real), torch.ones((), dtype=torch.int64, device=device)
    triton_kernels.smooth_rows(nine, x, whole, whole, "local_linear")
    triton_kernels.sum_of_groupmates(nine, whole, whole)
    triton_kernels.sum_groups(x, whole, whole)
    triton_kernels.sum_elsewhere(nine, whole, whole)
    triton_kernels.fill_from_elsewhere(x, x > 0, x, whole, whole, x)
    triton_kernels.advantages_of_rows(x, x, x > 0, whole, torch.float32)
    triton_kernels.add_totals(x, x, x, count, x, whole, whole, x, x, x, x > 0, 0.98)
    triton_kernels.arrange_rows(whole, whole, x, None, whole, whole, whole, whole, whole, 8, 3)
    found = triton_kernels.find_ids(whole, whole, whole, whole)
    triton_kernels.enter_ids(whole, whole, whole, whole, *found, found[1])
    triton_kernels.put_visits(whole, whole, x, x, whole, whole, nine, whole, found[1], nine, None, 3, 8)
    triton_programs.over_rows("summary", (1,), (x,), (x,), 0)
    sample = Histories(whole, whole, whole, x, x, x)
    around = Windows(whole, torch.ones(45, 2, **real), whole.expand(2, 45).T)
    triton_ragged.ragged_moments(sample, around, KERNEL, "float64")
    triton_weights.kernel_weights(sample, around, KERNEL, 1, 45)
    triton_prequential.prequential_cv(sample, x, x, KERNEL)
    which = local.Columns(*(torch.ones(2, dtype=torch.int64, device=device) for _ in range(3)))
    line = torch.ones(1, 45, **real)
    triton_local.local_moments(line, torch.ones(2, 45, **real), line, torch.ones(1, 1, 1, **real), KERNEL, which)
    points = flash.Points(torch.ones(45, 8, device=device))
    triton_flash.flash_moments(points, points, torch.ones(45, device=device), flash.Windows(1.0), KERNEL, KERNEL)


def test_kernels_are_launched_where_the_tensors_are():
    """On a second GPU while the first is the current one; what is asked of a device is asked of the second."""
    launched, there = {}, torch.device("cuda:1")

    def run(kernel, *arguments, grid, **options):
        launched[kernel] = Guard.now

    def properties(device):
        assert torch.device(device) == there
        return SimpleNamespace(multi_processor_count=132)

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.cuda, "device", Guard))
        stack.enter_context(patch.object(torch.cuda, "get_device_properties", properties))
        stack.enter_context(patch.object(triton_flash, "hopper", lambda: Guard.now == there))
        stack.enter_context(patch.object(triton_flash, "merge", lambda partial: partial))
        stack.enter_context(patch.object(type(triton_kernels.put_kernel), "run", run))
        stack.enter_context(fake())
        launch_everything(there)
    assert launched == dict.fromkeys(EVERY, there)
    assert Guard.now == torch.device("cuda:0")
