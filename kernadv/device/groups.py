"""The rows of a batch on a device, sorted into groups: what belongs together lies together."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Grouped(NamedTuple):
    """B rows in the order of their prompt, then of their step; nothing here makes the host wait.

    Attributes
    ----------
    order : (B,) int64
        Row of the batch at each place.
    ids : (B,) int64
        Ascending.
    tick : (B,) int64 or None
        Index of the row's step among those of the batch; None: there is one step.
    z : (B,) float64
        Rewards; NaN: could not be scored.
    begin, end : (B,) int64
        Places of the row's group: ``begin <= place < end``.
    prompt_begin, prompt_end : (B,) int64
        Places of the row's prompt.
    first : (B,) bool
        Whether a place is the first of its group.
    """

    order: Tensor
    ids: Tensor
    tick: Any
    z: Tensor
    begin: Tensor
    end: Tensor
    prompt_begin: Tensor
    prompt_end: Tensor
    first: Tensor

    def restore(self, x: Tensor) -> Tensor:
        """Numbers of the places as those of the rows.  # (B,)"""
        return torch.empty_like(x).index_copy_(0, self.order, x)

    def mean_of_other_prompts(self, own: Tensor, otherwise: Tensor) -> Tensor:
        """Mean reward of the batch's other prompts for each place; `otherwise` where there is none.  # (B,)

        Parameters
        ----------
        own : (2, B) float64
            1 and the reward of each place; 0 and 0 where it is not scored.
        otherwise : () float64
        """
        count, total = sum_elsewhere(own, self.prompt_begin, self.prompt_end)
        return torch.where(count > 0, total / count, otherwise)


def group(ids: Tensor, z: Tensor, tick: Tensor | None) -> Grouped:
    """Sort a batch into groups.

    Parameters
    ----------
    ids : (B,) int64
    z : (B,) float64
    tick : (B,) int64, optional
        Index of each row's step; None: there is one step.
    """
    if tick is None:
        ids, order = torch.sort(ids, stable=True)
        begin, end = (torch.searchsorted(ids, ids, right=right) for right in (False, True))
        return Grouped(
            order, ids, None, z[order], begin, end, begin, end, begin == torch.arange(len(z), device=z.device)
        )
    order = torch.sort(tick, stable=True).indices
    ids, inner = torch.sort(ids[order], stable=True)
    order = order[inner]
    tick = tick[order]
    prompt_begin, prompt_end = (torch.searchsorted(ids, ids, right=right) for right in (False, True))
    new = torch.ones_like(ids)
    new[1:] = ((ids[1:] != ids[:-1]) | (tick[1:] != tick[:-1])).long()
    code = torch.cumsum(new, 0)
    begin, end = (torch.searchsorted(code, code, right=right) for right in (False, True))
    return Grouped(order, ids, tick, z[order], begin, end, prompt_begin, prompt_end, new.bool())


def sum_of_others(parts: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Sums over the other rows of each row's group.

    Running sums from the front and from the back of each group, by doubling: the own part never enters, not even in
    rounding, nor does anything of another group; and the number of operators, about 3 log2 B, depends on the shape only.

    Parameters
    ----------
    parts : (K, B) float64
        What is summed, finite; 0 in rows that do not count.
    begin, end : (B,) int64
        As in `Grouped`.

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
