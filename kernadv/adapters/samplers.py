"""A `torch.utils.data.Sampler` that visits each block of rows several batches in a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from kernadv._errors import check_count
from kernadv.schedule import block_reuse
from kernadv.typing import IntArray

__all__ = ["ReuseSampler"]


def __dir__() -> list[str]:
    return __all__


class ReuseSampler(Sampler[int]):
    """Row numbers in the order of `kernadv.schedule.block_reuse`.

    Parameters
    ----------
    n, block, reuse, seed
        As in `block_reuse`; a later epoch shuffles anew.
    group : int
        Times that a row is repeated within its batch.
    repeat : int
        Times that a batch is repeated as a whole: frameworks that update several times on one generation read the batch
        anew each time.

    Raises
    ------
    ArgumentError
        If a count is not a whole number >= 1, or a block does not fit into the rows.
    """

    def __init__(
        self, n: int, block: int, reuse: int, seed: int | None = 0, *, group: int = 1, repeat: int = 1
    ) -> None:
        self.n, self.block, self.reuse, self.seed = n, block, reuse, seed
        self.group, self.repeat = check_count(group, "group"), check_count(repeat, "repeat")
        self._epoch = 0
        self.length = self.schedule().size * self.group * self.repeat

    def schedule(self) -> IntArray:
        """The schedule of the epoch: the rows of each generation batch.  # (S, block)"""
        seed = None if self.seed is None else (self.seed, self._epoch)
        return block_reuse(self.n, self.block, self.reuse, seed)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; called by the training loop, also when it resumes."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        for batch in self.schedule():
            for _ in range(self.repeat):
                yield from np.repeat(batch, self.group).tolist()
