"""What the launchers of the Triton kernels share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import FunctionType
from typing import Any

import torch
import triton
import triton.language as tl

from kernadv._errors import BackendError
from kernadv._fused import Fused
from kernadv.kernels import Kernel

#: Whether the kernels run in Triton's interpreter, on the CPU.
INTERPRETED = bool(triton.knobs.runtime.interpret)
#: Products and sums are fused, whatever the release's default is.
OPTIONS = {"enable_fp_fusion": True}


@cache
def device_code(function: Callable[..., Any]) -> Any:
    """The function, with Triton's language as its global `tl`, as Triton compiles it into a kernel."""
    seen = FunctionType(function.__code__, {**function.__globals__, "tl": tl}, function.__name__)
    seen.__module__, seen.__qualname__ = function.__module__, function.__qualname__
    return triton.jit(seen)


def fused(kernel: Kernel) -> Fused:
    """The kernel's profile, or an error where it has none."""
    code = kernel.triton_profile()
    if code is None:
        raise BackendError(f"the {kernel.name} kernel is not fused (it has no triton_profile): torch computes it")
    return code


def real_type(dtype: str) -> Any:
    """Triton's type of that name."""
    return {"float32": tl.float32, "float64": tl.float64}[dtype]


def here(tensor: torch.Tensor) -> AbstractContextManager[Any]:
    """Launch on the tensor's device, whatever the current one is."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
