"""From prompt ids to rows, on a device: a sorted table that takes in a batch without making the host wait."""

import torch
from torch import Tensor

from kernadv.moments.dispatch import fused_operator

#: Key of a free place; places beyond the used ones are never looked at, so an id may have this value, too.
FREE = 2**63 - 1


class Table:
    """Whole numbers, each with its row: 0, 1, ... in the order in which they came.

    Everything stays at one place in memory until `grow`, so that a captured graph may be replayed.

    Parameters
    ----------
    device : torch device
    size : int
        Places C.
    """

    def __init__(self, device: torch.device, size: int) -> None:
        self.keys = torch.full((size,), FREE, dtype=torch.int64, device=device)
        self.rows = torch.zeros(size, dtype=torch.int64, device=device)
        self.used = torch.zeros((), dtype=torch.int64, device=device)

    def grow(self, size: int) -> None:
        """Have at least `size` places."""
        more = size - len(self.keys)
        if more > 0:
            self.keys = torch.cat([self.keys, self.keys.new_full((more,), FREE)])
            self.rows = torch.cat([self.rows, self.rows.new_zeros(more)])

    def find(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Row of each id (C: it is not there), whether it is there, and where it is or would be; ids in any order."""
        found: tuple[Tensor, Tensor, Tensor] = find_ids(self.keys, self.rows, self.used, ids)
        return found


def find(keys: Tensor, rows: Tensor, used: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `Table.find`, of its tensors."""
    place = torch.searchsorted(keys, ids)
    near = place.clamp(max=len(keys) - 1)
    hit = (place < used) & (keys[near] == ids)
    return torch.where(hit, rows[near], len(keys)), hit, place


#: `find`, on a GPU by the fused kernel.
find_ids = fused_operator(
    "find_ids",
    find,
    "kernadv.device.triton_kernels",
    like=lambda keys, rows, used, ids: (
        torch.empty_like(ids),
        torch.empty_like(ids, dtype=torch.bool),
        torch.empty_like(ids),
    ),
)


def enter(
    keys: Tensor, rows: Tensor, used: Tensor, ids: Tensor, row: Tensor, hit: Tensor, place: Tensor, wanted: Tensor
) -> Tensor:
    """Take in the ids that are `wanted` and not there yet, in place; returns the rows of the wanted ones.

    Parameters
    ----------
    keys, rows, used
        Of a `Table`, with room for all of the ids; without it, the largest are not taken in.
    ids : (B,) int64, ascending
    row, hit, place
        What `Table.find` says of these ids, now.
    wanted : (B,) bool
        True at most once for equal ids.

    Returns
    -------
    (B,) int64
        Row where the id is wanted, C where the table was full; elsewhere it means nothing.
    """
    fresh = wanted > hit
    rank = torch.cumsum(fresh, 0)
    before = rank - fresh.long()  # new ids that are smaller
    end = len(keys)
    own = torch.where(hit, row, (used + before).clamp(max=end))
    shift = torch.cat([rank.new_zeros(1), rank])[torch.searchsorted(ids, keys)]
    moved = (torch.arange(end, device=ids.device) + shift).clamp(max=end)
    added = torch.where(fresh, place + before, end).clamp(max=end)
    for held, new in ((keys, ids), (rows, own)):
        merged = torch.full((end + 1,), FREE, dtype=torch.int64, device=ids.device)
        merged[moved] = held
        merged[added] = new
        held.copy_(merged[:end])
    used.copy_((used + rank[-1]).clamp(max=end))
    return own


#: `enter`, on a GPU by the fused kernel.
enter_ids = fused_operator(
    "enter_ids",
    enter,
    "kernadv.device.triton_kernels",
    like=lambda keys, rows, used, ids, row, hit, place, wanted: torch.empty_like(ids),
    mutates=("keys", "rows", "used"),
)
