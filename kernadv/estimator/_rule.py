"""The protocol of a rule: how a batch of rollouts and a history become values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernadv._at_once import Call
from kernadv._group_loops import sum_of_others
from kernadv._typing import AnyArray, FloatArray
from kernadv.batch import Batch
from kernadv.clock import KEEP_ALL, Retention
from kernadv.groups import Groups
from kernadv.history import History
from kernadv.moments import Backend, Sample
from kernadv.smoothers import Estimate

if TYPE_CHECKING:
    import torch

    from kernadv.device.rule import DeviceRule


class Rollouts(NamedTuple):
    """A batch with the weight of each trace.

    Attributes
    ----------
    batch : Batch
    weight : (B,) float64 or None
        In units of `unit`; None: all traces count alike.
    unit : float
        As in `kernadv.history.History`, which it outgrows where it is larger.
    """

    batch: Batch
    weight: FloatArray | None
    unit: float = 0.0

    def outgrow(self, history: History) -> bool:
        """Whether the weights are so much larger than those before that they are counted in a new unit."""
        return self.unit > history.unit > 0.0

    @property
    def others(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Count, weight and weighted sum of the rewards of the other scored traces of each row's group.  # (B,) each"""
        count, total, _ = self.batch.others
        if self.weight is None:
            return count, count, total
        groups = len(self.batch.groups.n)
        z = np.where(self.batch.scored, self.batch.z, 0.0)
        part = sum_of_others(self.batch.group, self.weight, self.batch.scored, groups)[1]
        return count, part, sum_of_others(self.batch.group, self.weight * z, self.batch.scored, groups)[1]

    def sums(self, power: int, of_weight: int = 1, origin: float = 0.0) -> FloatArray:
        """Sum over the scored traces of each group of weight^of_weight x (reward - origin)^power.  # (N,)"""
        w = np.ones(len(self.batch.z)) if self.weight is None else self.weight
        w = np.where(self.batch.scored, w**of_weight, 0.0)
        z = np.where(self.batch.scored, self.batch.z - origin, 0.0)
        return np.bincount(self.batch.group, w * z**power, len(self.batch.groups.n)).astype(np.float64)

    def stored(self) -> Groups:
        """What the history keeps: with weights, the sums of weight x reward and of the weights in the place of the sums of
        the rewards and of their squares.  # N rows"""
        groups = self.batch.groups
        return groups if self.weight is None else groups._replace(s=self.sums(1), ss=self.sums(0))


class Reading(NamedTuple):
    """Values of a batch, and what the rule remembers of how it came to them.

    Attributes
    ----------
    estimate : Estimate of (B,) arrays
    width : (N,) float64
        Half-width of each group's window in steps; NaN where there is no single one.
    memo : Any
        For `Rule.learn`.
    """

    estimate: Estimate
    width: FloatArray
    memo: Any


class Rule(ABC):
    """From batch and history to values.

    Attributes
    ----------
    noted : int
        Numbers that the history notes of a prompt for the rule.
    """

    noted: int = 0

    @abstractmethod
    def read(self, rollouts: Rollouts, history: History, backend: Backend) -> Reading:
        """Values of the rows; reads only."""

    @abstractmethod
    def learning(self, rollouts: Rollouts, reading: Reading) -> tuple[list[Call], FloatArray | None]:
        """The calls for `at_once` that learn from a batch that was read, and what the history then notes of its prompts."""

    @abstractmethod
    def interval(self, reading: Reading, level: float) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound of the true value of each row.  # (B,), (B,)"""

    @abstractmethod
    def pieces(self, reading: Reading, sample: Sample, at: int) -> dict[str, Any]:
        """The ``weights`` of the visits in the value of a single group without traces, and what else made it."""

    @abstractmethod
    def retention(self, step: int, late: int) -> Retention:
        """What of the history can still matter at steps >= step - late."""

    def keep(self, newest: int, allow_late: bool | int) -> Retention:
        """What of the history can still matter after a batch; `allow_late` as in `KernelValueEstimator`."""
        return KEEP_ALL if allow_late is True else self.retention(newest, int(allow_late))

    @abstractmethod
    def config(self, state: Mapping[str, AnyArray]) -> dict[str, Any]:
        """What a saved state depends on, as JSON; what the rule leaves open it takes from the `state`."""

    def on_device(self, device: torch.device) -> DeviceRule | None:
        """The rule where the tensors are, with what was learned so far; None: it works in main memory only."""
        return None

    def metrics(self) -> dict[str, float]:
        """Numbers of the rule for a logger."""
        return {}

    def state_dict(self) -> dict[str, AnyArray]:
        """What was learned, as arrays."""
        return {}

    @abstractmethod
    def loading(self, state: dict[str, Any] | None) -> list[Call]:
        """The calls for `at_once` that replace what was learned; None: by nothing.

        Raises
        ------
        CheckpointError
            If the state is damaged.
        """
