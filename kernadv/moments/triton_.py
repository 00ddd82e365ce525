"""Moments by the fused kernel, on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv._errors import BackendError
from kernadv.kernels import Kernel
from kernadv.moments import Histories, Moments, Windows, dispatch


def unavailable() -> str | None:
    """Why Triton cannot run here, or None."""
    return dispatch.unavailable()


def ragged_moments(histories: Histories, windows: Windows, kernel: Kernel, dtype: str = "float64") -> Moments:
    """Moments of every query and bandwidth; see `Moments`.

    Parameters
    ----------
    histories, windows : of tensors on a GPU, or of numpy arrays
        Arrays are copied to the GPU, and their moments back; it pays to keep them there.
    kernel : Kernel
    dtype : {"float64", "float32"}
        Type of the arithmetic and of the result.

    Raises
    ------
    BackendError
        If there is no GPU, or the tensors are not on it.
    """
    reason = unavailable()
    if reason is not None:
        raise BackendError(f"backend 'triton' cannot run: {reason}")
    import torch

    from kernadv.moments import ops

    def on_gpu(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(part)).cuda()
        if not part.is_cuda:
            raise BackendError(
                f"backend 'triton' takes tensors on a GPU, got one on {part.device}; use backend 'torch'"
            )
        return part

    moved = Histories(*map(on_gpu, histories)), Windows(*map(on_gpu, windows))
    made = ops.ragged_moments(*moved, kernel, dtype)
    if isinstance(histories.step, np.ndarray):
        return Moments(*(part.cpu().numpy() for part in made))
    return made
