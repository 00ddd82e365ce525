"""Hat vectors of ragged histories in plain torch: the reference of the fused kernel."""

from __future__ import annotations

import torch

from kernadv.kernels import Kernel
from kernadv.moments import Histories, Windows

#: A line is fitted only if its spread sxx exceeds this share of s2; less could be rounding.
RANK = {"float64": 1e-10, "float32": 1e-5}
#: Windows whose weights add up to less are empty: squares of such weights underflow.
UNDERFLOW = {"float64": 1e-140, "float32": 1e-18}


def kernel_weights(
    histories: Histories, windows: Windows, kernel: Kernel, degree: int, total: int, dtype: str = "float64"
) -> torch.Tensor:
    """Normalised weight of every visit in every fit, ``value = sum_j weight_j * mean reward of visit j``.

    Parameters
    ----------
    histories, windows : of tensors, Q queries x H bandwidths
    kernel : Kernel
    degree : {0, 1}
        Nadaraya-Watson or local linear; the mean if all visits are at one step.
    total : int
        Sum of the lengths.
    dtype : {"float64", "float32"}

    Returns
    -------
    (H, total) tensor
        One query after another, with its visits in the order of its history.  The weights of a query sum to 1; they are NaN
        if no visit has weight.
    """
    real = getattr(torch, dtype)
    out = torch.empty((windows.width.shape[1], total), dtype=real, device=histories.step.device)
    begin = 0
    for q, (start, length) in enumerate(zip(histories.start.tolist(), histories.length.tolist(), strict=True)):
        own = slice(start, start + length)
        lag = windows.at[q] - histories.step[own]
        n, d, past = histories.n[own].to(real), -lag.to(real), lag.to(windows.width.dtype)
        for h in range(len(out)):
            inside = (lag >= 0) & (lag <= windows.reach[q, h])
            u = torch.where(inside, past, 0.0) / windows.width[q, h]  # in float32 a width of 1e-300 is 0
            w = torch.where(inside, kernel.formula(u, torch).to(real) * n, 0.0)
            centre = (w * d).sum() / w.sum()
            sxx = (w * d * d).sum() - centre * (w * d).sum()
            line = (sxx > RANK[dtype] * (w * d * d).sum()) & (degree == 1)
            tilt = torch.where(line, centre / torch.where(line, sxx, 1.0), 0.0)
            below = torch.where(w.sum() > UNDERFLOW[dtype], w.sum(), torch.nan)
            out[h, begin : begin + length] = w * (1.0 / below - tilt * (d - centre))
        begin += length
    return out
