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
        none = own.new_zeros((2, 1))
        before = torch.cat([none, torch.cumsum(own, 1)], 1)  # the own rewards never enter, not even in rounding
        after = torch.cat([none, torch.cumsum(own.flip(1), 1)], 1)  # from the end
        count, total = before[:, self.prompt_begin] + after[:, len(self.z) - self.prompt_end]
        return torch.where(count > 0, total / count.clamp(min=1.0), otherwise)


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


def sum_of_others(z: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Count, sum and sum of squares of the rewards of the other scored rows of each row's group.

    The others are added one by one, so the own reward never enters, not even in rounding.

    Parameters
    ----------
    z : (B,) float64
        NaN: could not be scored.
    begin, end : (B,) int64
        As in `Grouped`.

    Returns
    -------
    (3, B) float64
    """
    out = z.new_zeros((3, len(z)))
    place = torch.arange(len(z), device=z.device)
    for k in range(int((end - begin).max()) if len(z) else 0):
        other = begin + k
        x = z[other.clamp(max=len(z) - 1)]
        there = (other < end) & (other != place) & ~x.isnan()
        x = torch.where(there, x, 0.0)
        out += torch.stack([there.double(), x, x * x])
    return out
