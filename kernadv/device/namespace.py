"""The array namespace of the pooled pieces on a device: what is learned stays there, and nothing waits for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernadv.device.groups import sum_elsewhere
from kernadv.device.programs import run_rows
from kernadv.device.transfer import upload
from kernadv.pooling import ArrayNamespace
from kernadv.typing import FloatArray


class TorchNamespace(ArrayNamespace):
    """The functions of torch, for tensors of float64 on a device.

    Parameters
    ----------
    device : torch device
    """

    on_host = False
    _module = torch

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def array(self, x: Any) -> Tensor:
        """Numbers of the host, in float64."""
        return upload(np.array(x, np.float64), self.device)

    def zeros(self, *shape: int) -> Tensor:
        """Zeros, in float64."""
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def empty(self, *shape: int) -> Tensor:
        """Room for float64, to be written."""
        return torch.empty(shape, dtype=torch.float64, device=self.device)

    def copy(self, x: Tensor) -> Tensor:
        """The same numbers in memory of their own."""
        return x.clone()

    def number(self, truth: Tensor) -> Tensor:
        """1.0 where true, 0.0 elsewhere."""
        return truth.double()

    def host(self, x: Tensor) -> FloatArray:
        """A copy for the host; waits for the device."""
        return np.array(x.cpu().numpy(), np.float64)

    def rules_out(self, truth: Tensor) -> bool:
        """The host never knows."""
        return False

    def certain(self, truth: Tensor) -> bool:
        """The host never knows."""
        return False

    def ratio(self, top: Any, bottom: Tensor, otherwise: float = 0.0) -> Tensor:
        """``top / bottom``, and `otherwise` where the bottom is not positive."""
        return torch.where(bottom > 0, top / bottom, otherwise)

    def stack(self, parts: Any) -> Tensor:
        """Tensors of one shape as the rows of one."""
        return torch.stack(parts)

    def solve(self, system: Tensor, right: Tensor) -> Tensor:
        """Solved by Cholesky's factors: other solvers wait to see whether they succeeded."""
        factor = torch.linalg.cholesky_ex(system).L
        return torch.cholesky_solve(right.reshape(len(right), -1), factor).reshape(right.shape)

    def arange(self, size: int) -> Tensor:
        """The whole numbers from 0."""
        return torch.arange(size, device=self.device)

    def rows(self, program: Any, numbers: Any, reads: Any, writes: Any, sums: int = 0) -> Tensor:
        """Run a program for all places.  # (sums,)"""
        reads = [x.contiguous() for x in reads]
        return run_rows(program.__name__, list(numbers), reads, list(writes), sums)

    def sum_of_others(self, prompt: tuple[Tensor, Tensor], *parts: Tensor) -> Tensor:
        """Sum of each part over the rows of the other prompts; `prompt` says where each row's own begin and end."""
        return sum_elsewhere(torch.stack(parts), *prompt)
