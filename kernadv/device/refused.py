"""Rows whose reward or weight cannot be used: in main memory an error, on a device a warning that comes when it can."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from kernadv._arrays import LARGEST_REWARD
from kernadv.device.transfer import Bound


class Refused:
    """Counts such rows on the device, and warns once, when the host has learned of some without waiting."""

    def __init__(self, device: torch.device) -> None:
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._known = Bound(device)
        self._told = False

    def add(self, refused: Tensor) -> None:
        """Count the rows of a batch.  refused: (B,) bool"""
        if not self._told:
            self._count += refused.sum()
            self._known.ask(self._count)
            self._tell(self._known.most)

    def finish(self) -> None:
        """Warn of what has not come back; waits for the device."""
        if not self._told:
            self._tell(int(self._count))

    def _tell(self, count: int) -> None:
        if count:
            self._told = True
            warnings.warn(
                f"{count} rows so far had a reward that is infinite or beyond {LARGEST_REWARD:g}, or a weight that is "
                "negative or not finite: they count as not scored, and the advantage is NaN.  Look for them where the "
                "rewards are made; a trace that cannot be scored has the reward NaN, and then the advantage 0",
                stacklevel=5,  # add, store, advantages or observe
            )
