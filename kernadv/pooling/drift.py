"""Drift correction: what the batch's other prompts say about where all values have moved since the past was recorded."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray
from kernadv.pooling._base import Batched, Pooled, Scale, sum_of_others

#: Share of the sums that is kept from one step to the next.
KEEP = 0.97
#: Steps before the spread of the shifts is used; the gate is the loss.
FEWEST = 1.0
#: A shift is believed, whatever the past ones were, as far as its square exceeds that many times its noise variance.
SURE = 9.0


class CommonDrift(Pooled):
    """A shift of all predictions on the logit scale, estimated from the residuals of the batch's other prompts and shrunk by
    its reliability; in use only while it has lowered the discounted prequential loss.

    For a prompt, with the residuals of the others, ``delta = sum (S - n p) / sum n v`` has noise variance ``1 / sum n v``;
    the variance of true shifts is what the observed ones vary beyond their noise.  A shift of more than three standard
    errors is believed though all before were small: a block of prompts that comes back after a long time has moved far.
    """

    STATE = ("moments", "loss")

    def __init__(self) -> None:
        self.moments = np.zeros(2)  # discounted sums of shift^2 - noise, and of ones
        self.loss = np.zeros(2)  # discounted losses without and with the shift

    @property
    def active(self) -> bool:
        """Whether the shift has paid so far."""
        return bool(self.moments[1] >= FEWEST and self.loss[1] <= self.loss[0])

    def shifted(self, value: FloatArray, batch: Batched, scale: Scale) -> FloatArray:
        """The values with the shift that the other prompts show, whether active or not.  # (B,)"""
        v = scale.variance(value)
        top = sum_of_others(batch.prompt, batch.wz - batch.w * value)
        bottom = sum_of_others(batch.prompt, batch.w * v)
        signal = max(self.moments[0] / self.moments[1], 0.0) if self.moments[1] > 0 else 0.0
        noise = sum_of_others(batch.prompt, batch.ww * v) / np.maximum(bottom, 1e-150) ** 2
        known = bottom > 0
        shift = np.where(known, top / np.where(known, bottom, 1.0), 0.0)
        usual = signal / (signal + noise + 1e-300)
        evident = 1.0 - SURE * noise / np.maximum(shift * shift, 1e-300)
        return scale.clip(value + shift * np.where(known, np.maximum(usual, evident), 0.0) * v)

    def learn(self, value: FloatArray, shifted: FloatArray, batch: Batched, scale: Scale, *, new: bool) -> None:
        """Add a batch: its values without and with the shift."""
        total = batch.w.sum()
        v = scale.variance(value)
        bottom = (batch.w * v).sum()
        if total <= 0 or bottom <= 0:
            return
        if new:
            self.moments *= KEEP
            self.loss *= KEEP
        shift = (batch.wz - batch.w * value).sum() / bottom
        self.moments += shift * shift - (batch.ww * v).sum() / bottom**2, 1.0
        for column, x in enumerate((value, shifted)):
            self.loss[column] += (batch.w * (x - batch.mean) ** 2).sum() / total
