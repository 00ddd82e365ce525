"""Smoothing over features, time and prompts in plain torch, by chunks of queries: the reference of the fused kernel."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from kernadv._errors import ArgumentError, check_positive
from kernadv.kernels import Kernel
from kernadv.moments.checks import MOST, REAL, STEP, check_kind, check_list, one_device

#: Pairs of query and point at a time; bounds the memory.
CHUNK = 2**24
#: Arithmetic of the product on a GPU: float32; three bfloat16 products, equally exact, on tensor cores; bfloat16.
PRECISIONS = ("ieee", "bf16x3", "bf16")


class Points(NamedTuple):
    """Design points or queries; None fields are not used.  Whole numbers are below 2^31.

    Attributes
    ----------
    features : (N, D) float
    step : (N,) int, optional
    prompt : (N,) int, optional
        Number of the prompt.
    id : (N,) int, optional
        A query ignores the point with its own id; -1: it has none.
    """

    features: Any
    step: Any = None
    prompt: Any = None
    id: Any = None


class Windows(NamedTuple):
    """How Q queries weigh the points.

    Attributes
    ----------
    bandwidth : float
        For the distance of the features.
    width : (Q,) float, optional
        Bandwidth in steps; None without steps.
    reach : (Q,) int, optional
        Largest lag inside the support, an integer comparison; None without steps.
    other_prompt : float
        Factor for points of other prompts, in [0, 1]; 1: all prompts count alike.
    """

    bandwidth: float
    width: Any = None
    reach: Any = None
    other_prompt: float = 1.0


class Fits(NamedTuple):
    """Estimates at Q queries.

    Attributes
    ----------
    value : (Q,)
        NaN where no point has weight.
    n_eff : (Q,)
        1 / sum of the squared hat vector; 0 where undefined.
    """

    value: Any
    n_eff: Any


def flash_moments(
    queries: Points,
    points: Points,
    response: torch.Tensor,
    windows: Windows,
    feature_kernel: Kernel,
    time_kernel: Kernel,
    dtype: str = "float64",
) -> torch.Tensor:
    """Moments with the product of a kernel of the features' distance, a kernel in time and a factor for the prompt.

    Parameters
    ----------
    queries, points : Points of tensors
    response : (N,) float
    windows : Windows
    feature_kernel, time_kernel : Kernel
    dtype : {"float64", "float32"}

    Returns
    -------
    (10, Q) tensor
        The nine `Moments` in units of the largest weight of the kernels without an edge, and its log2.  Values, n_eff and
        hat vectors do not depend on this unit, and nothing underflows far from the points.
    """
    real = getattr(torch, dtype)
    x = points.features.to(real)
    rows = max(CHUNK // max(len(x), 1), 1)
    out = torch.zeros((10, len(queries.features)), dtype=real, device=x.device)
    out[9] = -torch.inf
    if not len(x):
        return out
    y = response.to(real)
    for begin in range(0, out.shape[1], rows):
        own = slice(begin, begin + rows)
        distance = torch.cdist(queries.features[own].to(real), x, compute_mode="donot_use_mm_for_euclid_dist")
        far = distance / windows.bandwidth
        inside, lag, wide = torch.ones_like(far, dtype=torch.bool), torch.zeros_like(far), torch.zeros_like(far)
        if points.step is not None:
            whole = queries.step[own, None].long() - points.step.long()
            inside = (whole >= 0) & (whole <= windows.reach[own, None])
            lag = torch.where(inside, whole, 0).to(real)
            wide = lag / windows.width[own, None].to(real)
        if points.id is not None:
            inside = inside & ((queries.id[own, None] != points.id) | (queries.id[own, None] < 0))
        w = inside.to(real)
        if points.prompt is not None:
            w = torch.where(queries.prompt[own, None] == points.prompt, w, w * windows.other_prompt)
        log = torch.zeros_like(w)
        for kernel, u in ((feature_kernel, far), (time_kernel, wide)):
            fused = kernel.triton_profile()
            if fused is None or fused.log2 is None:
                w = w * kernel.profile(u, torch)
            else:
                log = log + fused.log2(u, fused.a, fused.b)
        log = torch.where(w > 0, log, -torch.inf)
        top = log.amax(1)
        unit = torch.where(torch.isfinite(top), top, 0.0)
        w = w * torch.exp2(log - unit[:, None])
        for k, term in enumerate((w, -w * lag, w * lag * lag, w * y, -w * lag * y, w * w, -w * w * lag, (w * lag) ** 2,
                                  w * y * y)):  # fmt: skip
            out[k, own] = term.sum(1)
        out[9, own] = top
    return out


def check_points(queries: Points, points: Points, response: torch.Tensor, windows: Windows) -> None:
    """Raise if queries and points do not fit together."""
    for name, part in (("queries", queries), ("points", points)):
        if part.features.ndim != 2 or part.features.shape[1] != points.features.shape[1] or not part.features.shape[1]:
            raise ArgumentError(
                f"features of the {name} must be (., D) with one D >= 1, got {tuple(part.features.shape)}"
            )
        check_kind(f"features of the {name}", part.features, REAL)
        for field in Points._fields[1:]:
            if (getattr(queries, field) is None) != (getattr(points, field) is None):
                raise ArgumentError(f"{field} must be given for the queries and the points, or for neither")
            if getattr(part, field) is not None:
                check_list(f"{field} of the {name}", getattr(part, field), STEP, len(part.features))
        if len(part.features) > MOST:
            raise ArgumentError(f"at most {MOST} {name} at once, got {len(part.features)}; split them")
    check_list("response", response, REAL, len(points.features))
    for name, tensor, kinds in (("width", windows.width, REAL[:2]), ("reach", windows.reach, STEP)):
        if (tensor is None) != (points.step is None):
            raise ArgumentError(f"{name} belongs to the steps: give both, or neither")
        if tensor is not None:
            check_list(name, tensor, kinds, len(queries.features))
    named = [(f"{name} of the queries", part) for name, part in zip(Points._fields, queries, strict=True)]
    named += [(f"{name} of the points", part) for name, part in zip(Points._fields, points, strict=True)]
    one_device([*named, ("response", response), ("width", windows.width), ("reach", windows.reach)])
    check_positive(windows.bandwidth, "bandwidth of the features", "it scales their distance", allow_inf=True)
    if not 0.0 <= windows.other_prompt <= 1.0 or math.isnan(windows.other_prompt):
        raise ArgumentError(
            f"other_prompt must lie in [0, 1], got {windows.other_prompt!r}; 1 treats all prompts alike"
        )
