"""What frameworks do to advantages after the value was subtracted: separate objects, never part of a value.

Dividing by a standard deviation changes the weights of the prompts (by group) or only the step size (by batch); it says
nothing about how good a value is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, check_range
from kernadv._typing import BoolArray, FloatArray, IntArray
from kernadv.ids import batch_codes


class Normalisation(ABC):
    """A rule that rescales the advantages of a batch."""

    #: Key in tables.
    name: str

    def __call__(self, prompt_ids: Any, advantages: Any) -> FloatArray:
        """Rescaled advantages.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (B,)
            Rows with the same id are a group.
        advantages : (B,) array of float
            NaN: could not be scored; stays NaN and counts for no other.

        Raises
        ------
        ArgumentError
            If the numbers of rows differ, or an advantage is infinite.
        ArgumentTypeError
            If the advantages are not numbers.
        """
        _, group = batch_codes(prompt_ids)
        advantage = check_floats(advantages, "advantages")
        if advantage.shape != group.shape:
            raise ArgumentError(f"expected {len(group)} advantages, one a prompt id, got shape {advantage.shape}")
        if np.isinf(advantage).any():
            row = int(np.flatnonzero(np.isinf(advantage))[0])
            raise ArgumentError(f"advantages must be finite, or NaN if not scored; row {row} is {advantage[row]}")
        out, scored = np.full(len(group), np.nan), ~np.isnan(advantage)
        _, used = np.unique(group[scored], return_inverse=True)
        out[scored] = self._apply(used, advantage[scored])
        return out

    @abstractmethod
    def _apply(self, group: IntArray, advantage: FloatArray) -> FloatArray:
        """Rescale; groups are numbered from 0."""


@dataclass(frozen=True)
class NoNormalisation(Normalisation):
    """Advantages as they are.

    References
    ----------
    Dr. GRPO, arXiv 2503.20783.
    """

    name = "none"

    def _apply(self, group: IntArray, advantage: FloatArray) -> FloatArray:
        return advantage


@dataclass(frozen=True)
class GroupStd(Normalisation):
    """``A / (std of the group + eps)``, the deviation about the group's mean with G - 1; groups of one trace stay.

    Parameters
    ----------
    eps : float

    References
    ----------
    GRPO, arXiv 2402.03300.
    """

    eps: float = 1e-6
    name = "group_std"

    def __post_init__(self) -> None:
        check_range(self.eps, "eps", 0.0)

    def _apply(self, group: IntArray, advantage: FloatArray) -> FloatArray:
        n = np.bincount(group)
        centred = advantage - (np.bincount(group, advantage) / n)[group]
        std = np.sqrt(np.bincount(group, centred**2) / np.maximum(n - 1, 1))
        return np.asarray(advantage / np.where(n > 1, std + self.eps, 1.0)[group])


@dataclass(frozen=True)
class BatchStd(Normalisation):
    """``(A - mean) / (std of the batch + eps)``; the mean of the batch is taken off, as published.

    Parameters
    ----------
    eps : float

    References
    ----------
    REINFORCE++, arXiv 2501.03262.
    """

    eps: float = 1e-8
    name = "batch_std"

    def __post_init__(self) -> None:
        check_range(self.eps, "eps", 0.0)

    def _apply(self, group: IntArray, advantage: FloatArray) -> FloatArray:
        if len(advantage) < 2:
            return advantage
        return np.asarray((advantage - advantage.mean()) / (advantage.std(ddof=1) + self.eps))


@dataclass(frozen=True)
class GroupMAD(Normalisation):
    """``A / (1.4826 median |A - median A| + eps)`` of the group, the robust standard deviation.

    Groups whose median deviation is 0 are divided by 1.

    Parameters
    ----------
    eps : float

    References
    ----------
    Rousseeuw and Croux (1993), Alternatives to the median absolute deviation, JASA 88, for the factor.
    """

    eps: float = 1e-6
    name = "group_mad"

    def __post_init__(self) -> None:
        check_range(self.eps, "eps", 0.0)

    def _apply(self, group: IntArray, advantage: FloatArray) -> FloatArray:
        spread = 1.4826 * _group_median(group, np.abs(advantage - _group_median(group, advantage)[group]))
        some: BoolArray = spread > 0
        return np.asarray(advantage / np.where(some, spread + self.eps, 1.0)[group])


def _group_median(group: IntArray, x: FloatArray) -> FloatArray:
    """Median of x in each group.  # (N,)"""
    n = np.bincount(group)
    start = np.cumsum(n) - n
    ordered = x[np.lexsort((x, group))]
    return np.asarray(0.5 * (ordered[start + (n - 1) // 2] + ordered[start + n // 2]))


#: Every normalisation by name.
NORMALISATIONS: dict[str, Normalisation] = {
    rule.name: rule for rule in (NoNormalisation(), GroupStd(), BatchStd(), GroupMAD())
}
