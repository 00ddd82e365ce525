"""Between host and device without waiting: numbers that go there, and counters that come back when they are ready."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernadv._errors import KernadvError
from kernadv.typing import AnyArray


def upload(array: AnyArray, device: torch.device) -> Tensor:
    """The array on the device, as by `send`."""
    return send(torch.from_numpy(np.ascontiguousarray(array)), device)


def send(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; from main memory through pinned memory, so that the host goes on."""
    if x.is_cpu and device.type != "cpu" and torch.cuda.is_available():
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured, on the current stream of `device` or of the current device."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    with torch.cuda.device(device):
        there = torch.cuda.is_current_stream_capturing()
    return bool(there or torch.cuda.is_current_stream_capturing())


def refuse_capture(device: torch.device, what: str) -> None:
    """Refuse what also changes something on the host, which a replayed graph would not do.

    Raises
    ------
    KernadvError
        If a graph is being captured.
    """
    if capturing(device):
        raise KernadvError(
            f"{what} cannot be captured in a CUDA graph: a replay would change the history on {device} behind the host's "
            "back, which counts how full it is; call it outside of the capture"
        )


class Bound:
    """An upper bound for a counter on the device: its last known value, and what may have been added since.

    Attributes
    ----------
    most : int
        Never below the counter.
    """

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda" and torch.cuda.is_available()
        self._device = device
        self._buffer = torch.zeros(1, dtype=torch.int64, device="cpu", pin_memory=on_gpu)
        self._value = self._buffer.numpy()  # the same memory: reading it is not an operation of torch
        self._event = torch.cuda.Event() if on_gpu else None
        self._asked = -1  # what had been added when the counter was sent; -1: none is on its way
        self._added = 0
        self._known = 0

    @property
    def most(self) -> int:
        """The bound, with what has come back by now."""
        if self._asked >= 0 and not capturing(self._device) and (self._event is None or self._event.query()):
            self._known, self._added, self._asked = int(self._value[0]), self._added - self._asked, -1
        return self._known + self._added

    def add(self, count: int) -> None:
        """The counter may have grown by `count`."""
        self._added += count

    def ask(self, counter: Tensor) -> None:
        """Send the counter to the host, unless it is on its way."""
        if self._asked >= 0 or capturing(self._device):
            return
        self._buffer.copy_(counter.reshape(1), non_blocking=True)
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(counter.device))
        self._asked = self._added
