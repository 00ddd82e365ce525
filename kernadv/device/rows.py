"""Leave-one-out estimates of the rows of a batch on a device: the fused kernel's reference, and the operator of both."""

import torch
from torch import Tensor

from kernadv import smoothers
from kernadv.device import groups
from kernadv.moments import Moments
from kernadv.moments.dispatch import triton_module


def estimates(past: Tensor, z: Tensor, begin: Tensor, end: Tensor, smoother: str) -> Tensor:
    """Smooth each row's past and the others of its group.

    Parameters
    ----------
    past : (9, B) float64
        `Moments` of the past of each group, at the place of its first row.
    z, begin, end : (B,)
        As in `kernadv.device.groups.sum_of_groupmates`.
    smoother : str

    Returns
    -------
    (8, B) float64
        Value, variance and n_eff (0 where undefined); count, sum and sum of squares of the rewards of the whole group; 1 and
        the own reward, 0 and 0 where it is NaN.
    """
    scored = ~z.isnan()
    own = torch.where(scored, z, 0.0)
    one = scored.double()
    parts = torch.stack([one, own, own * own])
    others = groups.sum_of_groupmates(parts, begin, end)
    rows = Moments(*past[:, begin]).add_at_query(*others)
    value, variance, n_eff, _ = smoothers.get(smoother)(rows, torch)
    return torch.cat([torch.stack([value, variance, n_eff]), others + parts, parts[:2]])


@torch.library.custom_op("kernadv::places", mutates_args=())
def smooth_rows(past: Tensor, z: Tensor, begin: Tensor, end: Tensor, smoother: str) -> Tensor:
    """`estimates`, on a GPU by the fused kernel."""
    return estimates(past, z, begin, end, smoother)


@smooth_rows.register_kernel("cuda")
def _(past: Tensor, z: Tensor, begin: Tensor, end: Tensor, smoother: str) -> Tensor:
    module = triton_module("kernadv.device.triton_rows")
    fused = module is not None and smoother in module.DEGREES
    return module.estimates(past, z, begin, end, smoother) if fused else estimates(past, z, begin, end, smoother)


@smooth_rows.register_fake
def _(past: Tensor, z: Tensor, begin: Tensor, end: Tensor, smoother: str) -> Tensor:
    return z.new_empty((8, len(z)))
