"""The operators: torch on the CPU, Triton on a GPU, traceable by the compiler.

They take kernels by their keys, see `kernadv.moments.ops`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernadv._errors import ArgumentError, check_choice
from kernadv.clock import Bandwidth
from kernadv.kernels import Kernel
from kernadv.moments import Histories, Windows
from kernadv.moments.checks import check_dtype, check_histories, check_list, check_windows, one_device
from kernadv.moments.ops import fused_module, kernel_key, kernel_of
from kernadv.regression.operators import flash, local, prequential, weights
from kernadv.regression.operators.flash import PRECISIONS, Fits, Points, check_points
from kernadv.regression.operators.prequential import Scores, half_widths


def prequential_cv(
    histories: Histories,
    bandwidths: Sequence[Bandwidth],
    kernel: str | Kernel,
    dtype: str = "float32",
    asked: Tensor | None = None,
) -> Scores:
    """Prequential scores of H bandwidths over P whole histories, without temporaries; ascending steps.

    Parameters and results as in `prequential.prequential_cv`, for `Steps` and `Relative` bandwidths.
    """
    check_histories(histories)
    check_dtype(dtype)
    if not bandwidths:
        raise ArgumentError("bandwidths must hold at least one bandwidth, got none; e.g. [Steps(20)]")
    if asked is not None:
        check_list("asked", asked, (torch.bool,), len(histories.step))
        one_device([("step", histories.step), ("asked", asked)])
    slope, floor = half_widths(tuple(bandwidths), histories.step.device)
    out = _prequential_cv(*histories, slope, floor, kernel_key(kernel), dtype, asked)
    return Scores(out[0], out[1])


def batched_kernel_weights(
    histories: Histories,
    windows: Windows,
    kernel: str | Kernel,
    degree: int = 0,
    dtype: str = "float32",
    total: int | None = None,
) -> Tensor:
    """The normalised weights of every visit, (H, sum of the lengths); see `kernadv.regression.operators.weights`.

    Without `total`, the sum of the lengths, the host waits for the device to compute it.
    """
    check_histories(histories)
    check_windows(windows, histories)
    check_dtype(dtype)
    _check_degree(degree)
    total = int(histories.length.sum()) if total is None else total
    return _kernel_weights(*histories, *windows, kernel_key(kernel), degree, total, dtype)


def flash_moments(
    queries: Points,
    points: Points,
    response: Tensor,
    windows: flash.Windows,
    feature_kernel: str | Kernel,
    time_kernel: str | Kernel,
    degree: int = 0,
    precision: str = "bf16x3",
) -> Tensor:
    """The sums from which `flash_smoother` makes its estimates, and their unit.

    Parameters as in `flash_smoother`; the (10, Q) float32 result as in `kernadv.regression.operators.flash.flash_moments`.
    """
    check_points(queries, points, response, windows)
    check_choice(precision, "precision", PRECISIONS)
    _check_degree(degree)
    return _flash_moments(
        *queries, *points, response, windows.width, windows.reach, float(windows.bandwidth),
        float(windows.other_prompt), kernel_key(feature_kernel), kernel_key(time_kernel), degree, precision,
    )  # fmt: skip


def flash_smoother(
    queries: Points,
    points: Points,
    response: Tensor,
    windows: flash.Windows,
    feature_kernel: str | Kernel,
    time_kernel: str | Kernel,
    degree: int = 0,
    precision: str = "bf16x3",
) -> Fits:
    """Smooth over features, time and prompts without a matrix of queries x points.

    Parameters
    ----------
    queries, points, response, windows
        As in `kernadv.regression.operators.flash.flash_moments`.
    feature_kernel, time_kernel : str or Kernel
    degree : {0, 1}
        Nadaraya-Watson, or local linear in time.
    precision : {"ieee", "bf16x3", "bf16"}
        Arithmetic of the matrix product on a GPU: float32; three bfloat16 products, equally exact; bfloat16.

    Returns
    -------
    Fits of (Q,) float32 tensors
    """
    out = flash_moments(queries, points, response, windows, feature_kernel, time_kernel, degree, precision)
    s0, s1, s2, t0, t1, q0, q1, q2 = out[:8].double()
    some = s0 > 0
    s0 = torch.where(some, s0, 1.0)
    centre, mean = s1 / s0, t0 / s0
    sxx = s2 - centre * s1
    line = (sxx > 1e-5 * s2) & (degree == 1)
    tilt = torch.where(line, centre / torch.where(line, sxx, 1.0), 0.0)
    value = mean - tilt * (t1 - centre * t0)
    p = 1.0 / s0 + tilt * centre
    norm = p * p * q0 - 2.0 * p * tilt * q1 + tilt * tilt * q2
    value = torch.where(some, value, torch.nan)
    n_eff = torch.where(some & (norm > 0), 1.0 / torch.where(norm > 0, norm, 1.0), 0.0)
    return Fits(value.float(), n_eff.float())


def local_moments(
    x: Tensor,
    channels: Tensor,
    at: Tensor,
    inverse: Tensor,
    kernel: str | Kernel,
    which: local.Columns,
    *,
    radial: bool = False,
    side: str = "both",
    first: int = -1,
) -> Tensor:
    """Weighted moments around any queries, (K, H, M) float64, without a matrix of queries x points.

    Parameters and result as in `kernadv.regression.operators.local.local_moments`, of contiguous tensors of one type.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If they do not fit together.
    """
    local.check(x, channels, at, inverse, which, side)
    return _local_moments(x, channels, at, inverse, *which, kernel_key(kernel), radial, side, first)


def _check_degree(degree: int) -> None:
    if degree not in (0, 1):
        raise ArgumentError(f"degree must be 0 (Nadaraya-Watson) or 1 (local linear), got {degree!r}")


def _module(name: str, reference: Any, like: Tensor, *keys: str) -> Any:
    """The fused module on a GPU where it can run, else the reference."""
    fused = fused_module(f"kernadv.regression.operators.{name}", *keys) if like.is_cuda else None
    return fused or reference


@torch.library.custom_op("kernadv::prequential_cv", mutates_args=())
def _prequential_cv(
    start: Tensor, length: Tensor, step: Tensor, n: Tensor, s: Tensor, ss: Tensor,
    slope: Tensor, floor: Tensor, kernel: str, dtype: str, asked: Tensor | None = None,
) -> Tensor:  # fmt: skip
    module = _module("triton_prequential", prequential, step, kernel)
    return module.prequential_cv(
        Histories(start, length, step, n, s, ss), slope, floor, kernel_of(kernel), dtype, asked
    )


@_prequential_cv.register_fake
def _(start, length, step, n, s, ss, slope, floor, kernel, dtype, asked=None):
    return slope.new_empty((2, len(start), len(slope)), dtype=getattr(torch, dtype))


@torch.library.custom_op("kernadv::kernel_weights", mutates_args=())
def _kernel_weights(
    start: Tensor, length: Tensor, step: Tensor, n: Tensor, s: Tensor, ss: Tensor, at: Tensor, width: Tensor,
    reach: Tensor, kernel: str, degree: int, total: int, dtype: str,
) -> Tensor:  # fmt: skip
    histories, windows = Histories(start, length, step, n, s, ss), Windows(at, width, reach)
    module = _module("triton_weights", weights, step, kernel)
    return module.kernel_weights(histories, windows, kernel_of(kernel), degree, total, dtype)


@_kernel_weights.register_fake
def _(start, length, step, n, s, ss, at, width, reach, kernel, degree, total, dtype):
    return width.new_empty((width.shape[1], total), dtype=getattr(torch, dtype))


@torch.library.custom_op("kernadv::flash_moments", mutates_args=())
def _flash_moments(
    q: Tensor, q_step: Tensor | None, q_prompt: Tensor | None, q_id: Tensor | None,
    x: Tensor, x_step: Tensor | None, x_prompt: Tensor | None, x_id: Tensor | None,
    y: Tensor, width: Tensor | None, reach: Tensor | None, bandwidth: float, other: float,
    far: str, time: str, degree: int, precision: str,
) -> Tensor:  # fmt: skip
    queries, points = Points(q, q_step, q_prompt, q_id), Points(x, x_step, x_prompt, x_id)
    windows, kernels = flash.Windows(bandwidth, width, reach, other), (kernel_of(far), kernel_of(time))
    module = _module("triton_flash", flash, x, far, time)
    if module is flash:
        return flash.flash_moments(queries, points, y, windows, *kernels, "float32" if x.is_cuda else "float64").float()
    return module.flash_moments(queries, points, y, windows, *kernels, precision, degree)


@_flash_moments.register_fake
def _(q, *rest):
    return q.new_empty((10, len(q)), dtype=torch.float32)


@torch.library.custom_op("kernadv::local_moments", mutates_args=())
def _local_moments(
    x: Tensor, channels: Tensor, at: Tensor, inverse: Tensor, channel: Tensor, first: Tensor, second: Tensor,
    kernel: str, radial: bool, side: str, own: int,
) -> Tensor:  # fmt: skip
    module, which = _module("triton_local", local, x, kernel), local.Columns(channel, first, second)
    return module.local_moments(x, channels, at, inverse, kernel_of(kernel), which, radial=radial, side=side, first=own)


@_local_moments.register_fake
def _(x, channels, at, inverse, channel, first, second, kernel, radial, side, own):
    return x.new_empty((len(channel), len(inverse), at.shape[1]), dtype=torch.float64)
