"""Checks of the tensors that operators take: types, devices, lengths, layout; nothing that waits for a device."""

from __future__ import annotations

import math
from typing import Any

import torch

from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice, check_positive
from kernadv.moments._base import Sample, Windows
from kernadv.moments.torch_flash import Points
from kernadv.moments.torch_flash import Windows as FlashWindows

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
REAL = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
STEP = (torch.int64, torch.int32)
#: Largest number of points whose indices a kernel holds in 32 bits.
MOST = 2**31 - 2**16


def check_dtype(dtype: str) -> None:
    """Refuse types other than those that the sums can run in."""
    check_choice(dtype, "dtype", ("float64", "float32"))


def check_sample(sample: Sample) -> None:
    """Refuse histories whose tensors do not fit together."""
    _check("start", sample.start, STEP, len(sample.start))
    _check("length", sample.length, STEP, len(sample.start))
    _check("step", sample.step, STEP, len(sample.step))
    _check("n", sample.n, WHOLE + REAL, len(sample.step))
    _check("s", sample.s, REAL, len(sample.step))
    _check("ss", sample.ss, REAL, len(sample.step))
    _one_device(zip(Sample._fields, sample, strict=True))


def check_windows(windows: Windows, sample: Sample) -> None:
    """Refuse windows that do not fit the sample; the values of tensors on the CPU are looked at, too."""
    queries = len(sample.start)
    _check("at", windows.at, STEP, queries)
    for name, tensor, kinds in (("width", windows.width, REAL[:2]), ("reach", windows.reach, STEP)):
        _check_kind(name, tensor, kinds)
        if tensor.ndim != 2 or tensor.shape[0] != queries or tensor.shape != windows.width.shape:
            raise ArgumentError(f"{name} must be ({queries}, H), got {tuple(tensor.shape)}")
    if not windows.width.shape[1]:
        raise ArgumentError("windows must hold at least one bandwidth, got H = 0")
    _one_device([("step", sample.step), *zip(Windows._fields, windows, strict=True)])
    _positive(windows.width)


def check_points(queries: Points, points: Points, response: torch.Tensor, windows: FlashWindows) -> None:
    """Refuse queries and points that do not fit together."""
    for name, part in (("queries", queries), ("points", points)):
        if part.features.ndim != 2 or part.features.shape[1] != points.features.shape[1] or not part.features.shape[1]:
            raise ArgumentError(
                f"features of the {name} must be (., D) with one D >= 1, got {tuple(part.features.shape)}"
            )
        _check_kind(f"features of the {name}", part.features, REAL)
        for field in Points._fields[1:]:
            if (getattr(queries, field) is None) != (getattr(points, field) is None):
                raise ArgumentError(f"{field} must be given for the queries and the points, or for neither")
            if getattr(part, field) is not None:
                _check(f"{field} of the {name}", getattr(part, field), STEP, len(part.features))
        if len(part.features) > MOST:
            raise ArgumentError(f"at most {MOST} {name} at once, got {len(part.features)}; split them")
    _check("response", response, REAL, len(points.features))
    for name, tensor, kinds in (("width", windows.width, REAL[:2]), ("reach", windows.reach, STEP)):
        if (tensor is None) != (points.step is None):
            raise ArgumentError(f"{name} belongs to the steps: give both, or neither")
        if tensor is not None:
            _check(name, tensor, kinds, len(queries.features))
    named = [(f"{name} of the queries", part) for name, part in zip(Points._fields, queries, strict=True)]
    named += [(f"{name} of the points", part) for name, part in zip(Points._fields, points, strict=True)]
    _one_device([*named, ("response", response), ("width", windows.width), ("reach", windows.reach)])
    check_positive(windows.bandwidth, "bandwidth of the features", "it scales their distance", allow_inf=True)
    if not 0.0 <= windows.other_prompt <= 1.0 or math.isnan(windows.other_prompt):
        raise ArgumentError(
            f"other_prompt must lie in [0, 1], got {windows.other_prompt!r}; 1 treats all prompts alike"
        )


def _positive(width: torch.Tensor) -> None:
    """Looked at on the CPU only: on a device it would wait, and the kernels give NaN there."""
    if torch.compiler.is_compiling() or width.device.type != "cpu" or bool((width > 0).all()):
        return
    worst = float(width[~(width > 0)][0])
    raise ArgumentError(f"bandwidth must be positive, got {worst}; inf weighs the whole past alike")


def _check(name: str, tensor: Any, kinds: tuple[torch.dtype, ...], length: int) -> None:
    _check_kind(name, tensor, kinds)
    if tensor.ndim != 1 or len(tensor) != length:
        raise ArgumentError(f"{name} must have shape ({length},), got {tuple(tensor.shape)}")
    if not tensor.is_contiguous():
        raise ArgumentError(
            f"{name} must be contiguous, got strides {tensor.stride()}; call .contiguous() once, where it is made"
        )


def _check_kind(name: str, tensor: Any, kinds: tuple[torch.dtype, ...]) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor, got {type(tensor).__name__}; use torch.as_tensor")
    if tensor.dtype not in kinds:
        raise ArgumentTypeError(
            f"{name} must be {' or '.join(str(kind)[6:] for kind in kinds)}, got {str(tensor.dtype)[6:]}"
        )


def _one_device(tensors: Any) -> None:
    devices = {name: tensor.device for name, tensor in tensors if tensor is not None}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ArgumentError(f"all tensors must be on one device, got {listed}")
