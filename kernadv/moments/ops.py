"""The moments as a torch operator: torch on the CPU, Triton on a GPU, traceable by the compiler.

Operators take a kernel by its key, because the compiler only knows tensors, numbers and text.
"""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernadv import kernels
from kernadv._errors import ArgumentError
from kernadv.kernels import Kernel
from kernadv.moments import Histories, Moments, Windows, torch_
from kernadv.moments.checks import check_dtype, check_histories, check_windows
from kernadv.moments.dispatch import triton_module

_KERNELS: dict[str, Kernel] = {}


@torch.compiler.assume_constant_result
def kernel_key(kernel: str | Kernel) -> str:
    """The text by which operators know a kernel."""
    found = kernels.get(kernel)
    _KERNELS[repr(found)] = found
    return repr(found)


def kernel_of(key: str) -> Kernel:
    """The kernel of a key that `kernel_key` gave."""
    return _KERNELS[key]


@cache
def fused_module(name: str, *keys: str) -> Any:
    """As `triton_module`; also None, with one warning, where one of the kernels is not fused."""
    for kernel in map(kernel_of, keys):
        if kernel.triton_profile() is None:
            warnings.warn(
                f"torch computes with the {kernel.name} kernel on the GPU, more slowly: it is not fused, it has no "
                "triton_profile",
                stacklevel=2,
            )
            return None
    return triton_module(name)


def ragged_moments(
    histories: Histories, windows: Windows, kernel: str | Kernel, dtype: str = "float32", degree: int = 1
) -> Moments:
    """Moments of every query and bandwidth in one pass over the histories; see `Moments`.

    Parameters
    ----------
    histories, windows : of tensors, Q queries x H bandwidths
        Histories may be packed, padded or rings: only `start` and `length` say where entries are, and their order does
        not matter.  A bandwidth of inf weighs the whole past alike; one that is not positive gives NaN.
    kernel : str or Kernel
    dtype : {"float64", "float32"}
        Type of the arithmetic and of the result.
    degree : {1, 0}
        0 if only the Nadaraya-Watson estimate is wanted: s1, s2, t1, q1 and q2 are 0 then, which saves half of the work.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If tensors differ in device or length, are not contiguous, or have a type that cannot be used.
    """
    check_histories(histories)
    check_windows(windows, histories)
    check_dtype(dtype)
    if degree not in (0, 1):
        raise ArgumentError(f"degree must be 0 or 1, got {degree!r}")
    return Moments(*trusted_moments(histories, windows, kernel, dtype, degree).unbind())


def trusted_moments(
    histories: Histories, windows: Windows, kernel: str | Kernel, dtype: str, degree: int = 1
) -> Tensor:
    """`ragged_moments` of arguments that need no check, (9, Q, H)."""
    return _ragged_moments(*histories, *windows, kernel_key(kernel), dtype, degree)


@torch.library.custom_op("kernadv::ragged_moments", mutates_args=())
def _ragged_moments(
    start: Tensor, length: Tensor, step: Tensor, n: Tensor, s: Tensor, ss: Tensor,
    at: Tensor, width: Tensor, reach: Tensor, kernel: str, dtype: str, degree: int = 1,
) -> Tensor:  # fmt: skip
    histories, windows = Histories(start, length, step, n, s, ss), Windows(at, width, reach)
    made = torch.stack(tuple(torch_.ragged_moments(histories, windows, kernel_of(kernel), dtype)))
    if degree == 0:
        made[[1, 2, 4, 6, 7]] = 0.0
    return made


@_ragged_moments.register_kernel("cuda")
def _(start, length, step, n, s, ss, at, width, reach, kernel, dtype, degree=1):
    histories, windows = Histories(start, length, step, n, s, ss), Windows(at, width, reach)
    module = fused_module("kernadv.moments.triton_ragged", kernel)
    if module is None:
        return torch.stack(tuple(torch_.ragged_moments(histories, windows, kernel_of(kernel), dtype)))
    return module.ragged_moments(histories, windows, kernel_of(kernel), dtype, degree)


@_ragged_moments.register_fake
def _(start, length, step, n, s, ss, at, width, reach, kernel, dtype, degree=1):
    return width.new_empty((9, *width.shape), dtype=getattr(torch, dtype))
