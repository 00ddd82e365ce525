"""What only a GPU can show: sizes of training, the rounding of each precision, no waiting, graphs.

With ``TRITON_INTERPRET=1`` in Triton's interpreter on the CPU, else on the GPU.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from inputs import (
    CLOSE,
    DEVICE,
    LENGTHS,
    MARKS,
    REHEARSED,
    capture,
    close,
    cloud,
    flash_summary,
    flash_windows,
    histories,
    no_waiting,
    on_gpu,
    queries,
    tensors,
)

from kernadv import KernelValueEstimator
from kernadv.clock import Relative, Steps, Visits
from kernadv.kernels import KERNELS
from kernadv.moments import ops, triton_ragged
from kernadv.moments import torch_ as reference
from kernadv.regression import KNeighborsSmoother, LocalLinear, NadarayaWatson
from kernadv.regression.operators import flash, triton_flash
from kernadv.regression.operators import ops as operators

pytestmark = MARKS


@on_gpu
def test_operators_choose_the_fused_kernels():
    sample = tensors(histories(17, LENGTHS), "float32")
    windows = tensors(queries(histories(17, LENGTHS), KERNELS["gaussian"]), "float32")
    got = torch.stack(tuple(ops.ragged_moments(sample, windows, "gaussian")))
    fused = triton_ragged.ragged_moments(sample, windows, KERNELS["gaussian"], "float32")
    assert torch.equal(got, fused) or REHEARSED


@on_gpu
def test_no_waiting_and_graph_capture():
    """The host never waits for the device, and a captured graph gives the same bits when it is replayed."""
    sample = tensors(histories(18, LENGTHS), "float32")
    windows = tensors(queries(histories(18, LENGTHS), KERNELS["triangular"]), "float32")
    points, others, y, step = cloud(40, 300, 64)
    around = flash_windows(step, KERNELS["triangular"], 1.0, 0.5)

    def call():
        return (*ops.ragged_moments(sample, windows, "triangular"),
                *operators.prequential_cv(sample, [Steps(30), Relative(0.1)], "triangular"),
                *operators.flash_smoother(points, others, y, around, "gaussian", "triangular"))  # fmt: skip

    expected = [part.clone() for part in call()]
    with no_waiting():
        call()
    captured, replay = capture(call)
    replay()
    for mine, theirs in zip(captured, expected, strict=True):
        assert torch.equal(mine.nan_to_num(), theirs.nan_to_num())


@on_gpu
@pytest.mark.parametrize("name", ["triangular", "exponential"])
def test_large_histories(name):
    """As many visits as in training, against torch in float64 on the device."""
    rng = np.random.default_rng(19)
    sample = histories(19, rng.integers(0, 513, 10 if REHEARSED else 2048), last=1500)
    kernel = KERNELS[name]
    windows = queries(sample, kernel, last=1500, grid=[Relative(0.05 * k) for k in range(1, 17)])
    expected = reference.ragged_moments(tensors(sample), tensors(windows), kernel)
    for dtype in ("float64", "float32"):
        got = triton_ragged.ragged_moments(tensors(sample, dtype), tensors(windows, dtype), kernel, dtype)
        for mine, theirs in zip(got, expected, strict=True):
            close(mine, theirs, CLOSE[dtype])


@on_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("ieee", 2e-5), ("bf16x3", 2e-5), ("bf16", 5e-3)])
@pytest.mark.parametrize("width", [64, 100, 256, 1024])
def test_large_flash(precision, tolerance, width):
    """The rounding of each precision, which the interpreter cannot show: relative to exact features."""
    queries_, points, y, step = cloud(*((20, 200) if REHEARSED else (512, 20_000)), width)
    windows = flash_windows(step, KERNELS["triangular"], 0.5, 0.5)
    kernels = KERNELS["gaussian"], KERNELS["triangular"]
    got = triton_flash.flash_moments(queries_, points, y, windows, *kernels, precision)
    expected = flash.flash_moments(queries_, points, y, windows, *kernels)
    a, b = flash_summary(got)[0], flash_summary(expected)[0]
    assert (a - b).norm() <= tolerance * b.norm()


@on_gpu
@pytest.mark.parametrize("kind", ["text", "tensor"])
@pytest.mark.parametrize("make", [
    lambda **o: KernelValueEstimator.kae(0.5, **o),
    lambda **o: KernelValueEstimator(Steps(6), "exponential", smoother="local_linear", **o),
    lambda **o: KernelValueEstimator(Visits(3), "gaussian", **o),
    lambda **o: KernelValueEstimator.kae(0.3, max_visits=4, allow_late=True, **o),
    lambda **o: KernelValueEstimator(Steps(3), max_total=150, **o),
    lambda **o: KernelValueEstimator(**o),
    lambda **o: KernelValueEstimator(features={key: [k / 60, k % 7] for k in range(60) for key in (k, f"p{k}")}, **o),
    lambda **o: KernelValueEstimator(weighted=True, **o),
    lambda **o: KernelValueEstimator(allow_late=2, max_total=150, **o),
])  # fmt: skip
def test_estimator_on_the_gpu(make, kind):
    """Tensors on a GPU keep the history there: the numbers of the CPU, and the host never waits."""
    rng = np.random.default_rng(20)
    here, there = make(backend="numba"), make()
    for step in range(1, 41):
        numbers = rng.integers(0, 60, 100)
        names = [f"p{k}" for k in numbers]
        z = rng.normal(size=100)
        z[rng.random(100) < 0.1] = np.nan
        ids = names if kind == "text" else torch.as_tensor(numbers, device=DEVICE)
        rewards = torch.as_tensor(z, device=DEVICE)
        at = np.maximum(step - rng.integers(0, 3, 100), 1) if here.allow_late else step
        w = {"weights": rng.gamma(2.0, size=100)} if here.weighted else {}
        given = {key: torch.as_tensor(x, device=DEVICE) for key, x in w.items()}
        with nullcontext() if step == 1 else no_waiting():  # a pool learns from the first batch in main memory
            estimate = there.values(ids, rewards, at)
            got = there.advantages(ids, rewards, at, **given)
        assert got.device.type == DEVICE
        assert step == 1 or there._state.device is not None
        host = names if kind == "text" else numbers
        expected = here.values(host, z, at)
        for mine, theirs in zip(estimate, expected, strict=True):
            np.testing.assert_allclose(mine.cpu().numpy(), theirs, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(got.cpu().numpy(), here.advantages(host, z, at, **w), rtol=1e-9, atol=1e-9)
    assert there.metrics()["n_eff"] == pytest.approx(here.metrics()["n_eff"])
    again = make(backend="numba")
    again.load_state_dict(there.state_dict())
    again, expected = (one.advantages(host, z, 50, **w) for one in (again, here))
    np.testing.assert_allclose(again, expected, rtol=1e-9, atol=1e-9)


@on_gpu
def test_values_are_captured():
    """Replayed on other rewards and a longer history, the captured call gives what a fresh call gives."""
    est = KernelValueEstimator.kae(0.5)
    ids, z = torch.arange(64, device=DEVICE) // 4, torch.rand(64, device=DEVICE)
    for step in range(1, 4):
        est.advantages(ids, z, step)
    est.values(ids, z, 6)
    captured, replay = capture(lambda: est.values(ids, z, 6))
    est.advantages(ids, torch.rand(64, device=DEVICE), 5)
    z.copy_(torch.rand(64, device=DEVICE))
    replay()
    for mine, theirs in zip(captured, est.values(ids, z, 6), strict=True):
        assert torch.equal(mine.nan_to_num(), theirs.nan_to_num())


@on_gpu
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_regressors(dtype):
    """The numbers of main memory; predictions do not make the host wait."""
    made = torch.Generator().manual_seed(23)
    n = 60 if REHEARSED else 3000
    for d in (1, 3, 24):
        x = torch.randn(n, d, generator=made, dtype=torch.float64).to(getattr(torch, dtype))
        y, q = x[:, 0].sin() + 0.1 * x[:, -1], x[: n // 2] + 0.1
        for regressor, waits in ((NadarayaWatson(2.0 * d**0.5, kernel="gaussian"), False),
                                 (LocalLinear(2.5 * d**0.5, radial=True), False),
                                 (KNeighborsSmoother(2 * d + 9, kernel="uniform"), True),
                                 (NadarayaWatson("leave_one_out", radial=True), False)):  # fmt: skip
            there = regressor.set_params(backend="torch").fit(x.to(DEVICE), y.to(DEVICE))
            got, at = [there.predict(q.to(DEVICE)), there.loo_predict()], q.to(DEVICE)
            if not waits:
                with no_waiting():
                    got[0] = there.predict(at)
            bandwidth = getattr(there, "bandwidth_", None)
            here = regressor.set_params(backend="numba", **({} if bandwidth is None else {"bandwidth": bandwidth}))
            here.fit(x.double().numpy(), y.double().numpy())
            for mine, theirs in zip(got, (here.predict(q.double().numpy()), here.loo_predict()), strict=True):
                close(mine, theirs, 1e-9 if dtype == "float64" else 1e-4)
