"""The running totals of `kernadv.tally` on a device."""

import math

import torch
from torch import Tensor

from kernadv.moments.dispatch import fused_operator
from kernadv.tally import DEAD_LOW


def add(
    seen: Tensor, ends: Tensor, errors: Tensor, refused: Tensor, z: Tensor, begin: Tensor, end: Tensor, n: Tensor,
    s: Tensor, value: Tensor | None, refusals: Tensor, keep: float,
) -> None:  # fmt: skip
    """Add a batch to the totals, in place.

    Parameters
    ----------
    seen, ends, errors
        Of a `Tally`.
    refused : () int64
        Number of rows that are refused.
    z : (B,) float64
        Rewards, NaN where not scored; those of a group lie together.
    begin, end : (B,) int64
        Places of the row's group.
    n, s : (B,) float64
        Count and sum of the rewards of the row's group.
    value : (B,) float64, optional
        None: the batch got no advantages.
    refusals : (B,) bool or int64
        What is added to `refused`.
    keep : float
        Share of the errors that is kept.
    """
    told, inf = seen[:1] > 0, math.inf
    x = torch.cat([torch.where(told, ends[:2], math.nan), z])  # the ends before, as if they were rewards
    some = ~x.isnan()
    both = torch.where(some, torch.stack([-x, x]), -inf)
    reach = both.amax(1)  # of all rewards: minus the smallest, and the largest
    between = ((both < reach[:, None]).all(0) & some).any().double()
    after = torch.where(reach[1] > -inf, torch.stack([-reach[0], reach[1], torch.maximum(between, ends[2])]), 0.0)
    stays = torch.cat([errors.new_ones(DEAD_LOW), (~told | (both.diagonal() >= reach)).double()])
    scored = some[2:]
    total = torch.stack([scored.double().sum(), torch.where(scored, z, 0.0).sum()])
    errors *= keep * stays
    if value is not None:
        errors += _errors(z, scored, begin, n, s, value, both[:, 2:], reach, total)
    seen += total
    ends.copy_(after)
    refused += refusals.sum()


def _errors(
    z: Tensor, scored: Tensor, begin: Tensor, n: Tensor, s: Tensor, value: Tensor, both: Tensor, reach: Tensor,
    sums: Tensor,
) -> Tensor:  # fmt: skip
    """Sums over the batch, as `Tally.errors`; the rewards, their ends and their sums as in `add`.  # (12,)"""
    one, (count, total) = scored.double(), sums
    own = (value - z) ** 2
    spread = (count / (count - 1.0).clamp(min=1.0)) ** 2
    other = spread * (total / count.clamp(min=1.0) - z) ** 2
    each, share = 1.0 / (n - 1.0).clamp(min=1.0), 1.0 / n.clamp(min=1.0)
    noise = (z - s * share) ** 2 * (1.0 + each)
    group = torch.full_like(both, -math.inf).scatter_reduce(1, begin.expand(2, -1), both, "amax")
    group = group[:, begin]
    dead = share * (group[0] == -group[1])
    low, high = dead * (group == reach[:, None])
    rows = torch.stack([one, own, other, noise, noise * each, one, own, other, share, dead, low, high])
    several, lone = scored & (n > 1), scored & (n == 1) & (count > 1)
    counts = torch.stack([several] * 5 + [lone] * 3 + [several] * 4)
    return torch.where(counts, rows, 0.0).sum(1)


#: `add`, on a GPU by the fused kernels.
add_totals = fused_operator(
    "add_totals",
    add,
    "kernadv.device.triton_kernels",
    like=lambda *arguments: None,
    mutates=("seen", "ends", "errors", "refused"),
)
