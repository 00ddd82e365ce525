"""Checks of the tensors that operators take: types, devices, lengths, layout; nothing that waits for a device."""

from __future__ import annotations

from typing import Any

import torch

from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice
from kernadv.moments import Histories, Windows

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
REAL = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
STEP = (torch.int64, torch.int32)
#: Largest number of points whose indices a kernel holds in 32 bits.
MOST = 2**31 - 2**16


def check_dtype(dtype: str) -> None:
    """Refuse types other than those that the sums can run in."""
    check_choice(dtype, "dtype", ("float64", "float32"))


def check_histories(histories: Histories) -> None:
    """Refuse histories whose tensors do not fit together."""
    check_list("start", histories.start, STEP, len(histories.start))
    check_list("length", histories.length, STEP, len(histories.start))
    check_list("step", histories.step, STEP, len(histories.step))
    check_list("n", histories.n, WHOLE + REAL, len(histories.step))
    check_list("s", histories.s, REAL, len(histories.step))
    check_list("ss", histories.ss, REAL, len(histories.step))
    one_device(zip(Histories._fields, histories, strict=True))


def check_windows(windows: Windows, histories: Histories) -> None:
    """Refuse windows that do not fit the histories; the values of tensors on the CPU are looked at, too."""
    queries = len(histories.start)
    check_list("at", windows.at, STEP, queries)
    for name, tensor, kinds in (("width", windows.width, REAL[:2]), ("reach", windows.reach, STEP)):
        check_kind(name, tensor, kinds)
        if tensor.ndim != 2 or tensor.shape[0] != queries or tensor.shape != windows.width.shape:
            raise ArgumentError(f"{name} must be ({queries}, H), got {tuple(tensor.shape)}")
    if not windows.width.shape[1]:
        raise ArgumentError("windows must hold at least one bandwidth, got H = 0")
    one_device([("step", histories.step), *zip(Windows._fields, windows, strict=True)])
    _positive(windows.width)


def _positive(width: torch.Tensor) -> None:
    """Looked at on the CPU only: on a device it would wait, and the kernels give NaN there."""
    if torch.compiler.is_compiling() or width.device.type != "cpu" or bool((width > 0).all()):
        return
    worst = float(width[~(width > 0)][0])
    raise ArgumentError(f"bandwidth must be positive, got {worst}; inf weighs the whole past alike")


def check_list(name: str, tensor: Any, kinds: tuple[torch.dtype, ...], length: int) -> None:
    """Refuse anything but a contiguous tensor of that many numbers of these types."""
    check_kind(name, tensor, kinds)
    if tensor.ndim != 1 or len(tensor) != length:
        raise ArgumentError(f"{name} must have shape ({length},), got {tuple(tensor.shape)}")
    if not tensor.is_contiguous():
        raise ArgumentError(
            f"{name} must be contiguous, got strides {tensor.stride()}; call .contiguous() once, where it is made"
        )


def check_kind(name: str, tensor: Any, kinds: tuple[torch.dtype, ...]) -> None:
    """Refuse anything but a tensor of one of these types."""
    if not isinstance(tensor, torch.Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor, got {type(tensor).__name__}; use torch.as_tensor")
    if tensor.dtype not in kinds:
        raise ArgumentTypeError(
            f"{name} must be {' or '.join(str(kind)[6:] for kind in kinds)}, got {str(tensor.dtype)[6:]}"
        )


def one_device(tensors: Any) -> None:
    """Refuse named tensors on several devices; None is on none."""
    devices = {name: tensor.device for name, tensor in tensors if tensor is not None}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ArgumentError(f"all tensors must be on one device, got {listed}")
