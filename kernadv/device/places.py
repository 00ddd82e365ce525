"""The rows of a batch at their places, those of a prompt together, and back in the order in which they came."""

import math

import torch
from torch import Tensor

from kernadv._arrays import LARGEST_REWARD
from kernadv.device.groups import TRITON
from kernadv.device.table import find
from kernadv.moments.dispatch import fused_operator


def arrange(
    keys: Tensor, order: Tensor, rewards: Tensor, tick: Tensor | None, held: Tensor, rows: Tensor, used: Tensor,
    size: Tensor, newest: Tensor, room: int, at: int,
) -> list[Tensor]:  # fmt: skip
    """What a batch is at each place: its reward, where its group lies, and what the history has of its prompt.

    Parameters
    ----------
    keys : (B,) int64, ascending
        Of the prompts, by place.
    order : (B,) int64
        Row at each place.
    rewards : (B,)
        Of the rows, of any type.
    tick : (B,) int64, optional
        Index of the step at each place, ascending within a prompt; None: there is one step.
    held, rows, used
        Keys, rows and number of the places of a `Table` of P places.
    size, newest : (P + 1,) int64
        Of `Visits`.
    room : int
        R.
    at : int
        The step; does not matter where there are several.

    Returns
    -------
    list of (B,) tensors
        Reward (float64, NaN where it is refused), whether it is refused, beginning and end of the group, whether the place
        is the first of it; row, hit and place of the prompt as of `Table.find`; step of its newest visit; first cell of its
        visits, and their number, 0 but at the first place of a group.  Then, where there is one step, that step; else
        beginning and end of the prompt.
    """
    z = rewards.double()[order]
    refused = z.abs() > LARGEST_REWARD
    begin, end = _ends(keys)
    group, group_end = begin, end
    if tick is not None:
        new = torch.ones_like(keys)
        new[1:] = ((keys[1:] != keys[:-1]) | (tick[1:] != tick[:-1])).long()
        group, group_end = _ends(torch.cumsum(new, 0))
    first = group == torch.arange(len(keys), device=keys.device)
    row, hit, place = find(held, rows, used, keys)
    length = torch.where(first, size[row], 0)
    made = [
        torch.where(refused, math.nan, z),
        refused,
        group,
        group_end,
        first,
        row,
        hit,
        place,
        newest[row],
        row * room,
        length,
    ]
    return [*made, torch.full_like(keys, at)] if tick is None else [*made, begin, end]


def _like_arranged(keys: Tensor, order: Tensor, rewards: Tensor, tick: Tensor | None, *_: object) -> list[Tensor]:
    whole, truth = torch.int64, torch.bool
    kinds = [torch.float64, truth, whole, whole, truth, whole, truth, *(5 if tick is None else 6) * [whole]]
    return [torch.empty_like(keys, dtype=kind) for kind in kinds]


#: `arrange`, on a GPU by the fused kernel.
arrange_rows = fused_operator("arrange_rows", arrange, TRITON, like=_like_arranged)


def advantages(z: Tensor, baseline: Tensor, refused: Tensor, order: Tensor, kind: torch.dtype) -> Tensor:
    """Reward - baseline of the rows, in the order in which they came; 0 where a reward is missing, NaN if it is refused.

    Parameters
    ----------
    z, baseline : (B,) float64
        By place.
    refused : (B,) bool
    order : (B,) int64
        Row at each place.
    kind : type of the result

    Returns
    -------
    (B,)
    """
    made = torch.where(z.isnan() & ~refused, 0.0, z - baseline)
    return torch.empty_like(made).index_copy_(0, order, made).to(kind)


#: `advantages`, on a GPU by the fused kernel.
advantages_of_rows = fused_operator(
    "advantages_of_rows",
    advantages,
    TRITON,
    like=lambda z, baseline, refused, order, kind: torch.empty_like(z, dtype=kind),
)


def _ends(x: Tensor) -> tuple[Tensor, Tensor]:
    """Where each number of an ascending list begins and ends.  # (B,), (B,)"""
    begin, end = (torch.searchsorted(x, x, right=right) for right in (False, True))
    return begin, end
