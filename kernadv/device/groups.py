"""Sums over the rows of a batch on a device, where what belongs together lies together."""

from __future__ import annotations

import torch
from torch import Tensor


def sum_of_groupmates(parts: Tensor, begin: Tensor, end: Tensor) -> Tensor:
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


def sum_elsewhere(parts: Tensor, begin: Tensor, end: Tensor) -> Tensor:
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


def _running_sums(parts: Tensor) -> Tensor:
    """``cumsum`` of each row; by doubling where torch was told to be deterministic, which its own is not on a GPU."""
    if not torch.are_deterministic_algorithms_enabled():
        return torch.cumsum(parts, 1)
    reach = 1
    while reach < parts.shape[1]:
        parts = parts + torch.nn.functional.pad(parts[:, :-reach], (reach, 0))
        reach *= 2
    return parts
