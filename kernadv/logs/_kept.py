"""Single traces, kept beside the groups for those who read more than counts and sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from kernadv.groups import Groups
from kernadv.logs._base import Chunk
from kernadv.logs._values import numbers, refuse
from kernadv.typing import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from kernadv.baselines import Traces


class Kept(NamedTuple):
    """The traces of a chunk: the row of each in the sums, its reward, and its weight if a column holds it."""

    group: IntArray
    reward: FloatArray
    weight: FloatArray | None


class KeptTraces:
    """The traces of the chunks so far, 32 bytes each."""

    def __init__(self) -> None:
        self._parts: list[tuple[IntArray, IntArray, FloatArray, FloatArray | None]] = []

    def add(self, kept: Kept | None, prompt: IntArray, step: IntArray) -> None:
        """Add the next chunk, given prompt and step of each row of its sums."""
        if kept is not None:
            self._parts.append((prompt[kept.group], step[kept.group], kept.reward, kept.weight))

    def finish(self, groups: Groups) -> Traces | None:
        """The traces in the order of the groups; None if none were kept, or the groups are others than those of the rows.

        Parameters
        ----------
        groups : Groups
            Their steps may have been moved, but are in the same order.
        """
        if not self._parts:
            return None
        from kernadv.baselines import Traces

        prompt, step, reward = (np.concatenate([part[k] for part in self._parts]) for k in range(3))
        weighted = [part[3] for part in self._parts if part[3] is not None]
        order = np.lexsort((step, prompt))  # stable: the traces of a group stay as they came
        p, i = prompt[order], step[order]
        new = np.ones(len(p), dtype=bool)
        new[1:] = (p[1:] != p[:-1]) | (i[1:] != i[:-1])
        if not np.array_equal(np.diff(np.flatnonzero(new), append=len(p)), groups.n):
            return None
        return Traces(reward[order], np.concatenate(weighted)[order] if weighted else None)


def weights(chunk: Chunk, usable: BoolArray) -> FloatArray | None:
    """Weights of the rows with a reward; None if no column holds them.

    Raises
    ------
    LogError
        If one is missing or not positive.
    """
    column = chunk.selection.weight
    if column is None:
        return None
    found = numbers(chunk, column)
    wrong = (found.is_null() | (found <= 0).fill_null(True)) & pl.Series(usable)
    refuse(chunk, column, wrong, "a positive weight for each trace, e.g. its response length")
    return found.filter(pl.Series(usable)).to_numpy()
