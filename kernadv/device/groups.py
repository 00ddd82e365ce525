"""What the rows of a batch on a device take from each other; rows of a group, and of a prompt, lie together."""

import math

import torch
from torch import Tensor

from kernadv import smoothers
from kernadv.moments import Moments
from kernadv.moments.dispatch import fused_operator, triton_module

TRITON = "kernadv.device.triton_kernels"


def sum_by_doubling(parts: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Sums over the other rows of each row's group.

    Running sums from the front and from the back of each group, by doubling: the own part never enters, not even in
    rounding, nor does anything of another group; and the number of operators, about 3 log2 B, depends on the shape only.

    Parameters
    ----------
    parts : (K, B) float64
        What is summed, finite; 0 in rows that do not count.
    begin, end : (B,) int64
        Places of the row's group: ``begin <= place < end``.

    Returns
    -------
    (K, B) float64
    """
    place = torch.arange(parts.shape[1], device=parts.device)
    before = torch.stack([place - begin, (end - 1 - place).flip(0)])[:, None]  # places of the group, (2, 1, B)
    sums = torch.stack([parts, parts.flip(1)])
    sums = torch.where(before >= 1, sums.roll(1, 2), 0.0)
    reach = 1
    while reach < parts.shape[1]:  # a sum is that of the `reach` places before
        sums = sums + torch.where(before >= reach, sums.roll(reach, 2), 0.0)
        reach *= 2
    return sums[0] + sums[1].flip(1)


#: Sums over the other rows of each row's group, see `sum_by_doubling`.
sum_of_groupmates = fused_operator(
    "sum_of_groupmates", sum_by_doubling, TRITON, like=lambda parts, begin, end: torch.empty_like(parts)
)


def sums_of_groups(z: Tensor, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What a batch without weights has in each group; z, begin, end as in `estimates`.

    Returns
    -------
    others, whole : (3, B) float64
        Count, sum and sum of squares of the rewards of the other rows of the group, and of all.
    once : (3, B) float64
        The latter at the first row of each group; elsewhere 0.
    ends : (2, B) float64
        There the smallest and the largest reward; elsewhere, and where there is none, inf and -inf.
    stored : (B,) bool
        Whether the row is the first of a group of which there are rewards.
    """
    others, whole, first = _sums(z, begin, end)
    none = torch.full_like(z, math.inf)
    low, high = (none.scatter_reduce(0, begin, torch.where(z.isnan(), none, sign * z), "amin") for sign in (1, -1))
    return others, whole, whole * first, torch.stack([low, -high]), first & (whole[0] > 0)


#: `sums_of_groups`, on a GPU by the fused kernel.
sum_groups = fused_operator(
    "sum_groups",
    sums_of_groups,
    TRITON,
    like=lambda z, begin, end: (
        *(z.new_empty((many, len(z))) for many in (3, 3, 3, 2)),
        torch.empty_like(z, dtype=torch.bool),
    ),
)


def _sums(z: Tensor, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `sums_of_groups`: of the others and of all; and whether a row is the first of its group."""
    scored = ~z.isnan()
    own, one = torch.where(scored, z, 0.0), scored.double()
    parts = torch.stack([one, own, own * own])
    others = sum_by_doubling(parts, begin, end)
    return others, others + parts, begin == torch.arange(len(z), device=z.device)


def sums_elsewhere(parts: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Sums over all places but those from `begin` to `end`, which never enter, not even in rounding.  # (K, B)

    Parameters
    ----------
    parts : (K, B) float64
    begin, end : (B,) int64
    """
    none = parts.new_zeros((len(parts), 1))
    before = torch.cat([none, _running_sums(parts)], 1)
    after = torch.cat([none, _running_sums(parts.flip(1))], 1)  # from the end
    return before[:, begin] + after[:, parts.shape[1] - end]


#: `sums_elsewhere`, on a GPU by the fused kernels.
sum_elsewhere = fused_operator(
    "sum_elsewhere", sums_elsewhere, TRITON, like=lambda parts, begin, end: torch.empty_like(parts)
)


def filled_from_elsewhere(
    value: Tensor, defined: Tensor, z: Tensor, begin: Tensor, end: Tensor, seen: Tensor
) -> Tensor:
    """Values, and where they are not defined the mean of z at all places but those from `begin` to `end`, without NaN.

    Parameters
    ----------
    value : (B,) float64
    defined : (B,) bool
    z : (B,) float64
    begin, end : (B,) int64
    seen : (2,) float64
        Count and sum of earlier numbers, whose mean it is (0 of none) where there are no others.

    Returns
    -------
    (B,) float64
    """
    scored = ~z.isnan()
    count, total = sums_elsewhere(torch.stack([scored.double(), torch.where(scored, z, 0.0)]), begin, end)
    mean = torch.where(count > 0, total / count, seen[1] / seen[0].clamp(min=1.0))
    return torch.where(defined, value, mean)


#: `filled_from_elsewhere`, on a GPU by the fused kernels.
fill_from_elsewhere = fused_operator(
    "fill_from_elsewhere",
    filled_from_elsewhere,
    TRITON,
    like=lambda value, defined, z, begin, end, seen: torch.empty_like(z),
)


def _running_sums(parts: Tensor) -> Tensor:
    """``cumsum`` of each row; by doubling where torch was told to be deterministic, which its own is not on a GPU."""
    if not torch.are_deterministic_algorithms_enabled():
        return torch.cumsum(parts, 1)
    reach = 1
    while reach < parts.shape[1]:
        parts = parts + torch.nn.functional.pad(parts[:, :-reach], (reach, 0))
        reach *= 2
    return parts


def estimates(past: Tensor, z: Tensor, begin: Tensor, end: Tensor, smoother: str) -> tuple[Tensor, Tensor, Tensor]:
    """Smooth each row's past and the others of its group.

    Parameters
    ----------
    past : (9, B) float64
        `Moments` of the past of each group, at the place of its first row.
    z, begin, end : (B,)
        As in `sum_by_doubling`.
    smoother : str

    Returns
    -------
    numbers : (6, B) float64
        Value, variance and n_eff (0 where undefined); count, sum and sum of squares of the rewards of the whole group.
    defined, stored : (B,) bool
        Whether the value is defined; whether the row is the first of a group of which there are rewards.
    """
    others, whole, first = _sums(z, begin, end)
    rows = Moments(*past[:, begin]).add_at_query(*others)
    value, variance, n_eff, _ = smoothers.get(smoother)(rows, torch)
    return torch.cat([torch.stack([value, variance, n_eff]), whole]), n_eff > 0.0, first & (whole[0] > 0)


@torch.library.custom_op("kernadv::smooth_rows", mutates_args=())
def smooth_rows(past: Tensor, z: Tensor, begin: Tensor, end: Tensor, smoother: str) -> tuple[Tensor, Tensor, Tensor]:
    """`estimates`, on a GPU by the fused kernel."""
    return estimates(past, z, begin, end, smoother)


@smooth_rows.register_kernel("cuda")
def _(past: Tensor, z: Tensor, begin: Tensor, end: Tensor, smoother: str) -> tuple[Tensor, Tensor, Tensor]:
    module = triton_module(TRITON)
    fused = module is not None and smoother in module.DEGREES
    return module.smooth_rows(past, z, begin, end, smoother) if fused else estimates(past, z, begin, end, smoother)


@smooth_rows.register_fake
def _(past: Tensor, z: Tensor, begin: Tensor, end: Tensor, smoother: str) -> tuple[Tensor, Tensor, Tensor]:
    truth = {"dtype": torch.bool}
    return z.new_empty((6, len(z))), torch.empty_like(z, **truth), torch.empty_like(z, **truth)
