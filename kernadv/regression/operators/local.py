"""Weighted moments around any queries in plain torch, by blocks of queries: the reference of the fused kernel."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from kernadv._errors import ArgumentError, check_choice
from kernadv.kernels import Kernel
from kernadv.moments.checks import MOST, check_kind, one_device
from kernadv.regression.local.monomials import monomials

#: Pairs of query and point at a time; bounds the memory.
PAIRS = 2**22
#: Share of the support by which rounding in float32 may move a point over its edge; float64 has `Kernel.edge`.
ROUNDING = 1e-6
#: Windows: all points, those up to the query in the first dimension, those before it.
SIDES = ("both", "past", "before")


class Columns(NamedTuple):
    """Which sums are taken: each is over ``w v_c d_a d_b``, where d is the lag in a dimension, or 1.

    Attributes
    ----------
    channel, first, second : (K,) int64
        Number of the channel v; of the dimensions of both factors, D where the factor is 1.
    """

    channel: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


@cache  # copied to the device once
def columns(dimensions: int, channels: int, degree: int, device: torch.device) -> Columns:
    """The sums that a local polynomial needs: channel 0 (weights) up to twice the degree, the others up to the degree.

    Parameters
    ----------
    degree : {0, 1}
    """
    rows = []
    for channel in range(channels):
        for exponents in monomials(dimensions, 2 * degree if channel == 0 else degree).exponents.tolist():
            factors = [i for i, power in enumerate(exponents) for _ in range(power)]
            rows.append((channel, *factors, *[dimensions] * (2 - len(factors))))
    return Columns(*torch.tensor(rows, device=device).T.contiguous())


def edge(kernel: Kernel, dtype: torch.dtype) -> float:
    """`Kernel.edge` for lags of this type."""
    if dtype == torch.float64:
        return kernel.edge
    return kernel.support * (1.0 + ROUNDING if kernel.closed else 1.0 - ROUNDING)


def weights(
    x: torch.Tensor, at: torch.Tensor, inverse: torch.Tensor, kernel: Kernel, *, radial: bool, side: str
) -> torch.Tensor:
    """Kernel weight of each point at each query, (m, N), at one bandwidth; `inverse` is (D, 1) or (D, m)."""
    real, limit = x.dtype, edge(kernel, x.dtype)

    def profile(u: torch.Tensor) -> torch.Tensor:
        inside = u <= limit
        return torch.where(inside, kernel.formula(torch.where(inside, u, 0.0), torch), 0.0)

    out = torch.full((at.shape[1], x.shape[1]), 0.0 if radial else 1.0, dtype=real, device=x.device)
    for d in range(len(x)):
        u = (x[d] - at[d, :, None]).abs() * inverse[d, :, None].to(real)
        out = out + u * u if radial else out * profile(u)
    if radial:
        out = profile(out.sqrt())
    if side != "both":
        lag = x[0] - at[0, :, None]
        out = torch.where(lag <= 0.0 if side == "past" else lag < 0.0, out, 0.0)
    return out


def local_moments(
    x: torch.Tensor,
    channels: torch.Tensor,
    at: torch.Tensor,
    inverse: torch.Tensor,
    kernel: Kernel,
    which: Columns,
    *,
    radial: bool = False,
    side: str = "both",
    first: int = -1,
) -> torch.Tensor:
    """Sums over j of ``w_j v_cj d_aj d_bj``, with ``d_j = x_j - q``, for all queries q and H bandwidths.

    Parameters
    ----------
    x : (D, N) float
        Points, one dimension after the other.
    channels : (C, N) float
        The values to sum: weights and weighted responses.
    at : (D, M) float
        Queries.
    inverse : (H, D, 1) or (1, D, M) float64
        1 / bandwidth: H of them for all queries, or one a query.
    kernel : Kernel
    which : Columns
        The K sums.
    radial : bool
        ``K(|u|)`` instead of the product ``prod_i K(u_i)``.
    side : {"both", "past", "before"}
        All points, those with ``x <= q`` in the first dimension, or those with ``x < q``.
    first : int
        If not negative, query i leaves out point ``first + i``.

    Returns
    -------
    (K, H, M) float64 tensor
        Weights and products are rounded to the type of `x`, the sums are not.
    """
    (_, total), many = x.shape, at.shape[1]
    out = torch.empty((len(which.channel), len(inverse), many), dtype=torch.float64, device=x.device)
    wide, sums = channels.double(), list(zip(*(part.tolist() for part in which), strict=True))
    rows = max(PAIRS // max(total, 1), 1)
    for begin in range(0, many, rows):
        own = slice(begin, begin + rows)
        for h, scale in enumerate(inverse):
            w = weights(
                x, at[:, own], scale if scale.shape[1] == 1 else scale[:, own], kernel, radial=radial, side=side
            )
            if first >= 0:
                index = torch.arange(begin, begin + len(w), device=x.device)
                w[index - begin, first + index] = 0.0
            for k, (channel, a, b) in enumerate(sums):
                term = w
                for d in (a, b):
                    if d < len(x):
                        term = term * (x[d] - at[d, own, None])
                out[k, h, own] = term.double() @ wide[channel]
    return out


def check(
    x: torch.Tensor, channels: torch.Tensor, at: torch.Tensor, inverse: torch.Tensor, which: Columns, side: str
) -> None:
    """Raise if points, queries and bandwidths do not fit together."""
    check_choice(side, "side", SIDES)
    named = {"x": x, "channels": channels, "at": at, "inverse": inverse}
    for name, tensor in named.items():
        check_kind(name, tensor, (torch.float64,) if name == "inverse" else (torch.float64, torch.float32))
        if tensor.ndim != 2 + (name == "inverse"):
            raise ArgumentError(
                f"{name} must have {2 + (name == 'inverse')} dimensions, got shape {tuple(tensor.shape)}"
            )
        if name != "inverse" and (tensor.dtype != x.dtype or not tensor.is_contiguous()):
            raise ArgumentError(f"{name} must be contiguous and of the type of x, {x.dtype}, got {tensor.dtype}")
        if tensor.shape[-1] > MOST:
            raise ArgumentError(f"{name} may have at most {MOST} columns, got {tensor.shape[-1]}; split it")
    (d, total), many = x.shape, at.shape[1]
    if len(at) != d or channels.shape[1] != total:
        raise ArgumentError(
            f"x (D, N), channels (C, N) and at (D, M) do not fit together: got {tuple(x.shape)}, {tuple(channels.shape)}, "
            f"{tuple(at.shape)}"
        )
    if inverse.shape[1:] != (d, 1) and inverse.shape != (1, d, many):
        raise ArgumentError(f"inverse must be (H, {d}, 1) or (1, {d}, {many}), got {tuple(inverse.shape)}")
    one_device([*named.items(), *zip(Columns._fields, which, strict=True)])
