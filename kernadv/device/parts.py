"""Traces that were split into several rows, on a device: as `kernadv.parts`, without waiting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernadv._arrays import read_steps
from kernadv._errors import ArgumentTypeError
from kernadv.device.ids import DeviceIds
from kernadv.device.transfer import send, upload
from kernadv.parts import read_trace
from kernadv.typing import IntArray


class DeviceParts:
    """Which rows are parts of which trace, and which traces have parts that differ.

    The host knows the ids of the traces, and so their number.  Of what only the device knows, a difference is no error: it
    is noted in `differ`.

    Parameters
    ----------
    trace : sequence of str or of int  # (B,)
    rows : int
    device : torch device

    Attributes
    ----------
    of : (B,) int64
        Index of each row's trace.
    size : (T,) int64
        Number of rows.
    differ : (T,) bool

    Raises
    ------
    ArgumentError, ArgumentTypeError
        As `kernadv.parts.read_trace`, and if the ids are a tensor on the device.
    """

    def __init__(self, trace: Any, rows: int, device: torch.device) -> None:
        if isinstance(trace, Tensor) and not trace.is_cpu:
            raise ArgumentTypeError(
                f"trace must be in main memory, got a tensor on {trace.device}: the number of traces decides the shapes; "
                "pass what the ids were made from, or trace.tolist(), which waits"
            )
        self._host = read_trace(trace, rows)
        self.of, self._first = upload(self._host.of, device), upload(self._host.first, device)
        self.size = upload(np.bincount(self._host.of), device)
        self.differ = torch.zeros(len(self._first), dtype=torch.bool, device=device)

    def steps(self, step: Any) -> IntArray:
        """Step of each trace; an error if its parts differ.  # (T,)"""
        return self._host.shared("step", read_steps(step, len(self.of)))

    def prompts(self, given: DeviceIds) -> DeviceIds:
        """Ids of the traces' prompts; if the host knows them, an error if parts differ."""
        if given.tensor is not None:
            return given._replace(tensor=self.shared(send(given.tensor, self.of.device)))
        ids, code = given.ids, given.code
        assert ids is not None
        assert code is not None
        return given._replace(code=self._host.shared("prompt", code, lambda code: repr(ids[code])))

    def shared(self, rows: Tensor) -> Tensor:
        """What the first part of each trace has; others that differ are noted, NaN equals NaN.  # (B,) -> (T,)"""
        own = rows[self._first]
        other = own[self.of]
        differ = (rows != other) & ~(rows.isnan() & other.isnan())
        some = torch.zeros(len(own), dtype=torch.int64, device=own.device)
        self.differ |= some.scatter_reduce(0, self.of, differ.long(), "amax") > 0
        return own
