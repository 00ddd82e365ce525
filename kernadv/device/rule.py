"""The protocol of a rule on a device: how a batch and a history there become values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernadv._typing import AnyArray
from kernadv.clock import Retention
from kernadv.device.groups import Grouped
from kernadv.device.history import DeviceHistory
from kernadv.device.ids import Told
from kernadv.device.transfer import upload
from kernadv.moments import Sample
from kernadv.smoothers import Estimate


class Asked(NamedTuple):
    """A batch on a device, in the order of its groups, and where its past is.

    Attributes
    ----------
    batch : Grouped of B rows
    weight : (B,) float64 or None
        Of the traces, 0 where they are not scored; None: all count alike.
    features : (B, D) float64 or None
    clock : list of int
        Steps of the batch, ascending.
    at : (B,) int64
        Step of each place.
    row : (B,) int64
        Of the history.
    held : DeviceHistory
    """

    batch: Grouped
    weight: Tensor | None
    features: Tensor | None
    clock: list[int]
    at: Tensor
    row: Tensor
    held: DeviceHistory

    @property
    def sample(self) -> Sample:
        """Visits of each group, at the place of its first row; none at the others."""
        return self.held.sample(self.row, self.batch.first)

    def of_steps(self, values: AnyArray) -> Tensor:
        """One number a step of the batch at every place.  # (B, 1)"""
        if self.batch.tick is not None:
            return upload(values, self.at.device)[self.batch.tick][:, None]
        kind = torch.float64 if values.dtype.kind == "f" else torch.int64
        return torch.full((1, 1), values[0].item(), dtype=kind, device=self.at.device).expand(len(self.at), 1)


class Answer(NamedTuple):
    """Values of the places, and what goes with them.

    Attributes
    ----------
    estimate : Estimate of (B,)
    sums : (3, B) float64
        Count and the two sums that the history keeps, of the whole group.
    own : (2, B) float64
        1 and the own reward; 0 and 0 where it is not scored.
    width : Tensor
        Half-widths of the windows in steps, for `metrics`; broadcasts to (B, 1).
    memo : Any
        For `DeviceRule.learn`.
    """

    estimate: Estimate
    sums: Tensor
    own: Tensor
    width: Tensor
    memo: Any


class DeviceRule(ABC):
    """From batch and history on a device to values."""

    def features(self, told: Told) -> Tensor | None:
        """Features of each row's prompt, where the rule reads any.  # (B, D)"""
        return None

    @abstractmethod
    def read(self, asked: Asked) -> Answer:
        """Values of the rows; reads only."""

    @abstractmethod
    def learn(self, asked: Asked, answer: Answer) -> Tensor | None:
        """Learn from a batch that was read, before it enters the history; returns what is then noted of the prompt of each
        group, at the place of its first row.  # (B, noted)"""

    @abstractmethod
    def settle(self) -> None:
        """Give the rule in main memory what was learned here; waits for the device."""

    @abstractmethod
    def keep(self, newest: int, allow_late: bool | int) -> Retention:
        """As `Rule.keep`."""
