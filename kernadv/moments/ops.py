"""The moments as torch operators: torch on the CPU, Triton on a GPU, traceable by the compiler.

The operators take a kernel by its key, because the compiler only knows tensors, numbers and text.
"""

import importlib
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernadv import kernels
from kernadv._errors import ArgumentError, check_choice
from kernadv.clock import Bandwidth
from kernadv.kernels import Kernel
from kernadv.moments import torch_, torch_flash, torch_prequential, torch_ragged, torch_weights, triton_
from kernadv.moments._base import Moments, Sample, Windows
from kernadv.moments._checks import check_dtype, check_points, check_sample, check_windows
from kernadv.moments.torch_flash import PRECISIONS, Points
from kernadv.moments.torch_prequential import Scores, half_widths, reach_of
from kernadv.moments.torch_ragged import Fits

_KERNELS: dict[str, Kernel] = {}


@torch.compiler.assume_constant_result
def _key(kernel: str | Kernel) -> str:
    found = kernels.get(kernel)
    _KERNELS[repr(found)] = found
    return repr(found)


def device_windows(bandwidths: Sequence[Bandwidth], kernel: Kernel, at: Tensor) -> Windows:
    """`Windows.of` for `Steps` and `Relative` bandwidths, on the device of `at` and without waiting for it."""
    slope, floor = half_widths(tuple(bandwidths), at.device)
    width = torch.maximum(at[:, None].double() * slope, floor)
    return Windows(at, width, reach_of(width, kernel))


def ragged_moments(sample: Sample, windows: Windows, kernel: str | Kernel, dtype: str = "float32") -> Moments:
    """Moments of every query and bandwidth in one pass over the histories; see `Moments`.

    Parameters
    ----------
    sample, windows : of tensors, Q queries x H bandwidths
        Histories may be packed, padded or rings: only `start` and `length` say where entries are, and their order does
        not matter.  A bandwidth of inf weighs the whole past alike; one that is not positive gives NaN.
    kernel : str or Kernel
    dtype : {"float64", "float32"}
        Type of the arithmetic and of the result.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If tensors differ in device or length, are not contiguous, or have a type that cannot be used.
    """
    check_sample(sample)
    check_windows(windows, sample)
    check_dtype(dtype)
    return Moments(*trusted_moments(sample, windows, kernel, dtype).unbind())


def trusted_moments(sample: Sample, windows: Windows, kernel: str | Kernel, dtype: str) -> Tensor:
    """`ragged_moments` of arguments that need no check, (9, Q, H)."""
    return _ragged_moments(*sample, *windows, _key(kernel), dtype)


def ragged_fits(
    sample: Sample,
    windows: Windows,
    rewards: Tensor,
    kernel: str | Kernel,
    degree: int = 0,
    gradient: bool = False,
    dtype: str = "float32",
) -> Fits:
    """Leave-one-out fits for every member of each query's group, in the same pass.

    Parameters and results as in `kernadv.moments.torch_ragged.ragged_fits`; errors as in `ragged_moments`.
    """
    check_sample(sample)
    check_windows(windows, sample)
    check_dtype(dtype)
    if rewards.ndim != 2 or len(rewards) != len(windows.at) or not rewards.shape[1]:
        raise ArgumentError(
            f"rewards must be ({len(windows.at)}, G) with G >= 1, got {tuple(rewards.shape)}; pad groups with NaN"
        )
    if rewards.device != sample.step.device:
        raise ArgumentError(f"rewards are on {rewards.device} and the sample on {sample.step.device}; use one device")
    _check_degree(degree)
    code = kernels.get(kernel).triton_profile()
    if gradient and code is not None and code.slope is None:
        raise ArgumentError(f"the {kernels.get(kernel).name} kernel has no derivative; use a smooth one")
    out = _ragged_fits(*sample, *windows, rewards, _key(kernel), degree, gradient, dtype)
    return Fits(out[0], out[1], out[2] if gradient else out.new_empty(0))


def prequential_cv(
    sample: Sample, bandwidths: Sequence[Bandwidth], kernel: str | Kernel, dtype: str = "float32"
) -> Scores:
    """Prequential scores of H bandwidths over P whole histories, without temporaries; ascending steps.

    Parameters and results as in `kernadv.moments.torch_prequential.prequential_cv`, with `Steps` and `Relative` bandwidths.
    """
    check_sample(sample)
    check_dtype(dtype)
    if not bandwidths:
        raise ArgumentError("bandwidths must hold at least one bandwidth, got none; e.g. [Steps(20)]")
    slope, floor = half_widths(tuple(bandwidths), sample.step.device)
    out = _prequential_cv(*sample, slope, floor, _key(kernel), dtype)
    return Scores(out[0], out[1])


def batched_kernel_weights(
    sample: Sample,
    windows: Windows,
    kernel: str | Kernel,
    degree: int = 0,
    dtype: str = "float32",
    total: int | None = None,
) -> Tensor:
    """The normalised weights of every visit, (H, sum of the lengths); see `kernadv.moments.torch_weights`.

    The sum of the lengths, `total`, is looked up where it is not given; that waits for the device.
    """
    check_sample(sample)
    check_windows(windows, sample)
    check_dtype(dtype)
    _check_degree(degree)
    total = int(sample.length.sum()) if total is None else total
    return _kernel_weights(*sample, *windows, _key(kernel), degree, total, dtype)


def flash_smoother(
    queries: Points,
    points: Points,
    response: Tensor,
    windows: torch_flash.Windows,
    feature_kernel: str | Kernel,
    time_kernel: str | Kernel,
    degree: int = 0,
    precision: str = "bf16x3",
) -> Fits:
    """Smooth over features, time and prompts without a matrix of queries x points.

    Parameters
    ----------
    queries, points, response, windows
        As in `kernadv.moments.torch_flash.flash_moments`.
    feature_kernel, time_kernel : str or Kernel
    degree : {0, 1}
        Nadaraya-Watson, or local linear in time.
    precision : {"ieee", "bf16x3", "bf16"}
        Arithmetic of the matrix product on a GPU: float32; three bfloat16 products, as exact; bfloat16.

    Returns
    -------
    Fits of (Q,) float32 tensors, without gradient
    """
    check_points(queries, points, response, windows)
    check_choice(precision, "precision", PRECISIONS)
    _check_degree(degree)
    out = _flash_moments(
        *queries, *points, response, windows.width, windows.reach, float(windows.bandwidth),
        float(windows.other_prompt), _key(feature_kernel), _key(time_kernel), degree, precision,
    )  # fmt: skip
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
    return Fits(value.float(), n_eff.float(), value.new_empty(0))


def _check_degree(degree: int) -> None:
    if degree not in (0, 1):
        raise ArgumentError(f"degree must be 0 (Nadaraya-Watson) or 1 (local linear), got {degree!r}")


@cache
def triton_module(module: str) -> Any:
    """The module of a fused kernel; None, said once, where Triton cannot run."""
    reason = triton_.unavailable()
    if reason is not None:
        warnings.warn(f"torch computes the {module} kernel on the GPU, more slowly: {reason}", stacklevel=2)
        return None
    return importlib.import_module(f"kernadv.moments.triton_{module}")


@cache
def _fused_module(module: str, *keys: str) -> Any:
    """The module of a fused kernel; None, said once, where Triton or one of the kernels cannot be."""
    for name in (_KERNELS[key].name for key in keys if _KERNELS[key].triton_profile() is None):
        warnings.warn(
            f"torch computes with the {name} kernel on the GPU, more slowly: it is not fused, it has no triton_profile",
            stacklevel=2,
        )
        return None
    return triton_module(module)


@torch.library.custom_op("kernadv::ragged_moments", mutates_args=())
def _ragged_moments(
    start: Tensor, length: Tensor, step: Tensor, n: Tensor, s: Tensor, ss: Tensor,
    at: Tensor, width: Tensor, reach: Tensor, kernel: str, dtype: str,
) -> Tensor:  # fmt: skip
    sample, windows = Sample(start, length, step, n, s, ss), Windows(at, width, reach)
    return torch.stack(tuple(torch_.ragged_moments(sample, windows, _KERNELS[kernel], dtype)))


@_ragged_moments.register_kernel("cuda")
def _(start, length, step, n, s, ss, at, width, reach, kernel, dtype):
    sample, windows = Sample(start, length, step, n, s, ss), Windows(at, width, reach)
    module = _fused_module("ragged", kernel)
    if module is None:
        return torch.stack(tuple(torch_.ragged_moments(sample, windows, _KERNELS[kernel], dtype)))
    return module.ragged_moments(sample, windows, _KERNELS[kernel], dtype)


@_ragged_moments.register_fake
def _(start, length, step, n, s, ss, at, width, reach, kernel, dtype):
    return width.new_empty((9, *width.shape), dtype=getattr(torch, dtype))


@torch.library.custom_op("kernadv::ragged_fits", mutates_args=())
def _ragged_fits(
    start: Tensor, length: Tensor, step: Tensor, n: Tensor, s: Tensor, ss: Tensor, at: Tensor, width: Tensor,
    reach: Tensor, rewards: Tensor, kernel: str, degree: int, gradient: bool, dtype: str,
) -> Tensor:  # fmt: skip
    sample, windows = Sample(start, length, step, n, s, ss), Windows(at, width, reach)
    fits = torch_ragged.ragged_fits(sample, windows, rewards, _KERNELS[kernel], degree, gradient, dtype)
    return torch.stack(tuple(fits)[: 2 + gradient])


@_ragged_fits.register_kernel("cuda")
def _(start, length, step, n, s, ss, at, width, reach, rewards, kernel, degree, gradient, dtype):
    sample, windows = Sample(start, length, step, n, s, ss), Windows(at, width, reach)
    module = _fused_module("ragged", kernel)
    if module is None:
        fits = torch_ragged.ragged_fits(sample, windows, rewards, _KERNELS[kernel], degree, gradient, dtype)
        return torch.stack(tuple(fits)[: 2 + gradient])
    return module.ragged_fits(sample, windows, rewards, _KERNELS[kernel], degree, gradient, dtype)


@_ragged_fits.register_fake
def _(start, length, step, n, s, ss, at, width, reach, rewards, kernel, degree, gradient, dtype):
    return width.new_empty((2 + gradient, *width.shape, rewards.shape[1]), dtype=getattr(torch, dtype))


@torch.library.custom_op("kernadv::prequential_cv", mutates_args=())
def _prequential_cv(
    start: Tensor, length: Tensor, step: Tensor, n: Tensor, s: Tensor, ss: Tensor,
    slope: Tensor, floor: Tensor, kernel: str, dtype: str,
) -> Tensor:  # fmt: skip
    sample = Sample(start, length, step, n, s, ss)
    return torch_prequential.prequential_cv(sample, slope, floor, _KERNELS[kernel], dtype)


@_prequential_cv.register_kernel("cuda")
def _(start, length, step, n, s, ss, slope, floor, kernel, dtype):
    module = _fused_module("prequential", kernel) or torch_prequential
    return module.prequential_cv(Sample(start, length, step, n, s, ss), slope, floor, _KERNELS[kernel], dtype)


@_prequential_cv.register_fake
def _(start, length, step, n, s, ss, slope, floor, kernel, dtype):
    return slope.new_empty((2, len(start), len(slope)), dtype=getattr(torch, dtype))


@torch.library.custom_op("kernadv::kernel_weights", mutates_args=())
def _kernel_weights(
    start: Tensor, length: Tensor, step: Tensor, n: Tensor, s: Tensor, ss: Tensor, at: Tensor, width: Tensor,
    reach: Tensor, kernel: str, degree: int, total: int, dtype: str,
) -> Tensor:  # fmt: skip
    sample, windows = Sample(start, length, step, n, s, ss), Windows(at, width, reach)
    return torch_weights.kernel_weights(sample, windows, _KERNELS[kernel], degree, total, dtype)


@_kernel_weights.register_kernel("cuda")
def _(start, length, step, n, s, ss, at, width, reach, kernel, degree, total, dtype):
    sample, windows = Sample(start, length, step, n, s, ss), Windows(at, width, reach)
    module = _fused_module("weights", kernel) or torch_weights
    return module.kernel_weights(sample, windows, _KERNELS[kernel], degree, total, dtype)


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
    windows = torch_flash.Windows(bandwidth, width, reach, other)
    return torch_flash.flash_moments(queries, points, y, windows, _KERNELS[far], _KERNELS[time]).float()


@_flash_moments.register_kernel("cuda")
def _(
    q,
    q_step,
    q_prompt,
    q_id,
    x,
    x_step,
    x_prompt,
    x_id,
    y,
    width,
    reach,
    bandwidth,
    other,
    far,
    time,
    degree,
    precision,
):
    queries, points = Points(q, q_step, q_prompt, q_id), Points(x, x_step, x_prompt, x_id)
    windows = torch_flash.Windows(bandwidth, width, reach, other)
    module = _fused_module("flash", far, time)
    if module is None:
        return torch_flash.flash_moments(queries, points, y, windows, _KERNELS[far], _KERNELS[time], "float32")
    return module.flash_moments(queries, points, y, windows, _KERNELS[far], _KERNELS[time], precision, degree)


@_flash_moments.register_fake
def _(
    q,
    q_step,
    q_prompt,
    q_id,
    x,
    x_step,
    x_prompt,
    x_id,
    y,
    width,
    reach,
    bandwidth,
    other,
    far,
    time,
    degree,
    precision,
):
    return q.new_empty((10, len(q)), dtype=torch.float32)
