"""Prequential scores of bandwidths over whole histories in plain torch: the reference of the fused kernel."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch

from kernadv._errors import ArgumentError
from kernadv.clock import Bandwidth, Relative, Steps
from kernadv.kernels import Kernel
from kernadv.moments import Histories


class Scores(NamedTuple):
    """Scores of P prompts x H bandwidths.

    Attributes
    ----------
    loss : (P, H)
        Sum over the scored rewards of the squared errors of the predictions from strictly earlier visits.
    count : (P, H)
        Number of scored rewards: those with an earlier visit in the window.
    """

    loss: Any
    count: Any


def half_widths(bandwidths: tuple[Bandwidth, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope and floor of each half-width ``max(step * slope, floor)``, float64 on the device.

    They are cached, since copying them again would make the host wait for the device.  In a compiled graph they are
    constants.
    """
    made = _half_widths if torch.compiler.is_compiling() else _cached_half_widths
    return made(bandwidths, device)


def _half_widths(bandwidths: tuple[Bandwidth, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    rows = []
    for bandwidth in bandwidths:
        if isinstance(bandwidth, Steps):
            rows.append((0.0, bandwidth.width))
        elif isinstance(bandwidth, Relative):
            rows.append((bandwidth.h, bandwidth.floor))
        else:
            raise ArgumentError(
                f"bandwidths on a device must be Steps or Relative, got {bandwidth!r}; "
                "Visits looks at the history: make its windows with Windows.of"
            )
    slope, floor = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2).T.contiguous().to(device)
    return slope, floor


_cached_half_widths = lru_cache(maxsize=64)(_half_widths)


def prequential_cv(
    histories: Histories,
    slope: torch.Tensor,
    floor: torch.Tensor,
    kernel: Kernel,
    dtype: str = "float64",
    asked: torch.Tensor | None = None,
) -> torch.Tensor:
    """Score every bandwidth on every history: each visit is predicted from earlier ones by Nadaraya-Watson.

    Parameters
    ----------
    histories : Histories of tensors, P prompts
        Within a prompt the steps ascend.
    slope, floor : (H,) float64
        Half-widths ``max(step * slope, floor)``, see `half_widths`.
    kernel : Kernel
    dtype : {"float64", "float32"}
    asked : (N,) bool, optional
        Visits that are scored; the others only predict.

    Returns
    -------
    (2, P, H) tensor
        In the order of `Scores`.
    """
    real = getattr(torch, dtype)
    out = torch.zeros((2, len(histories.start), len(slope)), dtype=real, device=histories.step.device)
    for p, (start, length) in enumerate(zip(histories.start.tolist(), histories.length.tolist(), strict=True)):
        own = slice(start, start + length)
        step = histories.step[own].long()
        n, s, ss = (part[own].to(real) for part in histories[3:])
        lag = step[:, None] - step
        for h in range(len(slope)):
            width = torch.maximum(step.double() * slope[h], floor[h])[:, None]
            inside = (lag > 0) & (lag <= kernel.reach(width, torch))
            u = torch.where(inside, lag.to(real), 0.0) / width.to(real)
            w = torch.where(inside, kernel.formula(u, torch), 0.0)
            below = w @ n
            scored = below > 0 if asked is None else (below > 0) & asked[own]
            fit = torch.where(scored, w @ s / torch.where(scored, below, 1.0), 0.0)
            out[0, p, h] = torch.where(scored, ss - 2.0 * fit * s + n * fit * fit, 0.0).sum()
            out[1, p, h] = torch.where(scored, n, 0.0).sum()
    return out
