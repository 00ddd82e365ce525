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
    #: It can weigh the rows.
    weighted: bool = False

    def __call__(self, prompt_ids: Any, advantages: Any, weights: Any = None) -> FloatArray:
        """Rescaled advantages.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (B,)
            Rows with the same id are a group.
        advantages : (B,) array of float
            NaN: could not be scored; stays NaN and counts for no other.
        weights : (B,) array of float, optional
            Response lengths in tokens, for a rule that counts tokens.

        Raises
        ------
        ArgumentError
            If the numbers of rows differ, an advantage is infinite, a weight is not positive and finite, or the rule has no
            use for weights.
        ArgumentTypeError
            If the advantages or weights are not numbers.
        """
        _, group = batch_codes(prompt_ids)
        advantage = check_floats(advantages, "advantages")
        if advantage.shape != group.shape:
            raise ArgumentError(f"expected {len(group)} advantages, one a prompt id, got shape {advantage.shape}")
        if np.isinf(advantage).any():
            row = int(np.flatnonzero(np.isinf(advantage))[0])
            raise ArgumentError(f"advantages must be finite, or NaN if not scored; row {row} is {advantage[row]}")
        weight = self._check_weights(weights, len(group))
        out, scored = np.full(len(group), np.nan), ~np.isnan(advantage)
        _, used = np.unique(group[scored], return_inverse=True)
        out[scored] = self._apply(used, advantage[scored], None if weight is None else weight[scored])
        return out

    def _check_weights(self, weights: Any, rows: int) -> FloatArray | None:
        """Return the weights, or raise if they cannot be used."""
        if weights is None:
            return None
        if not self.weighted:
            raise ArgumentError(f"{self.name} has no use for weights; pass none")
        weight = check_floats(weights, "weights")
        if weight.shape != (rows,):
            raise ArgumentError(f"expected {rows} weights, one a prompt id, got shape {weight.shape}")
        if not ((weight > 0) & (weight < np.inf)).all():
            raise ArgumentError("weights, e.g. response lengths, must be positive and finite")
        return weight

    @abstractmethod
    def _apply(self, group: IntArray, advantage: FloatArray, weight: FloatArray | None) -> FloatArray:
        """Rescale; groups are numbered from 0."""


@dataclass(frozen=True)
class NoNormalisation(Normalisation):
    """Advantages as they are.

    References
    ----------
    Dr. GRPO, arXiv 2503.20783.
    """

    name = "none"

    def _apply(self, group: IntArray, advantage: FloatArray, weight: FloatArray | None) -> FloatArray:
        return advantage


@dataclass(frozen=True)
class GroupStd(Normalisation):
    """``A / (std of the group + eps)``, the deviation about the group's mean with G - 1; groups of one trace stay.

    GRPO divides by the deviation of the rewards, which is that of the advantages where all traces of a group have the same
    value.  With other values the two differ: for RLOO by G / (G - 1), so that the quotient is GRPO's either way.

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

    def _apply(self, group: IntArray, advantage: FloatArray, weight: FloatArray | None) -> FloatArray:
        n = np.bincount(group)
        centred = advantage - (np.bincount(group, advantage) / n)[group]
        std = np.sqrt(np.bincount(group, centred**2) / np.maximum(n - 1, 1))
        return np.asarray(advantage / np.where(n > 1, std + self.eps, 1.0)[group])


@dataclass(frozen=True)
class BatchStd(Normalisation):
    """``(A - mean) / (std of the batch + eps)``; the mean of the batch is taken off, as published.

    With weights L, mean and variance are over the tokens, as frameworks have them: ``sum L A / sum L`` and
    ``sum L (A - mean)^2 / (sum L - 1)``.  Taking off a mean is more than a scale: it changes the value
    (`kernadv.baselines.token_mean`).

    Parameters
    ----------
    eps : float

    References
    ----------
    REINFORCE++, arXiv 2501.03262; verl, ``masked_whiten``.
    """

    eps: float = 1e-8
    name = "batch_std"
    weighted = True

    def __post_init__(self) -> None:
        check_range(self.eps, "eps", 0.0)

    def _apply(self, group: IntArray, advantage: FloatArray, weight: FloatArray | None) -> FloatArray:
        if len(advantage) < 2:
            return advantage
        count = np.ones(len(advantage)) if weight is None else weight
        off = advantage - np.average(advantage, weights=count)
        freedom = count.sum() - 1.0
        if not freedom > 0:
            raise ArgumentError(f"weights must be lengths in tokens, at least 1 each, got a sum of {count.sum():g}")
        return np.asarray(off / (np.sqrt((count * off**2).sum() / freedom) + self.eps))


@dataclass(frozen=True)
class GroupMAD(Normalisation):
    """``A / (1.4826 median |A - median A| + eps)`` of the group, the robust standard deviation.

    Groups whose median deviation is 0 are divided by 1.  MC-GRPO divides by the median deviation itself plus 1e-3, with the
    lower median of even groups: such groups are multiplied by 1000 there.

    Parameters
    ----------
    eps : float

    References
    ----------
    MC-GRPO, arXiv 2601.22582; Rousseeuw and Croux (1993), Alternatives to the median absolute deviation, JASA 88, for the
    factor.
    """

    eps: float = 1e-6
    name = "group_mad"

    def __post_init__(self) -> None:
        check_range(self.eps, "eps", 0.0)

    def _apply(self, group: IntArray, advantage: FloatArray, weight: FloatArray | None) -> FloatArray:
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
