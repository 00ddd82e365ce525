"""Drift correction: what the batch's other prompts say about where all values have moved since the past was recorded."""

from __future__ import annotations

from typing import Any

from kernadv._typing import FloatArray
from kernadv.pooling._base import Batched, Pooled, Scale
from kernadv.pooling._library import NUMPY, Array, Library

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

    moments: Array  # discounted sums of shift^2 - noise, and of ones
    loss: Array  # discounted losses without and with the shift

    positive = ("loss",)

    def __init__(self, lib: Library = NUMPY) -> None:
        super().__init__(lib, moments=2, loss=2)

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `Pooled.sound`."""
        return bool(arrays["moments"][1] >= 0 and super().sound(arrays))

    @property
    def active(self) -> Any:
        """Whether the shift has paid so far."""
        return (self.moments[1] >= FEWEST) & (self.loss[1] <= self.loss[0])

    def shifted(self, value: Array, batch: Batched, scale: Scale) -> Array:
        """The values with the shift that the other prompts show, whether active or not.  # (B,)"""
        v = scale.variance(value)
        parts = batch.wz - batch.w * value, batch.w * v, batch.ww * v
        top, bottom, square = self.lib.sum_of_others(batch.prompt, *parts)
        signal = self.lib.ratio(self.moments[0], self.moments[1]).clip(0.0)
        noise = square / bottom.clip(1e-150) ** 2
        shift = self.lib.ratio(top, bottom)
        usual = signal / (signal + noise + 1e-300)
        evident = 1.0 - SURE * noise / (shift * shift).clip(1e-300)
        return scale.clip(value + shift * self.lib.xp.maximum(usual, evident) * v)

    def learn(self, value: Array, shifted: Array, batch: Batched, scale: Scale, *, new: Any) -> None:
        """Add a batch: its values without and with the shift."""
        xp, total, v = self.lib.xp, batch.w.sum(), scale.variance(value)
        bottom, mean = (batch.w * v).sum(), self.lib.ratio(batch.wz, batch.w)
        some = self.lib.number((total > 0) & (bottom > 0))
        shift = self.lib.ratio((batch.wz - batch.w * value).sum(), bottom)
        signal = shift * shift - self.lib.ratio((batch.ww * v).sum(), bottom * bottom)
        loss = [self.lib.ratio((batch.w * (x - mean) ** 2).sum(), total) * some for x in (value, shifted)]
        self.keep(KEEP ** (new * some))
        self.moments += xp.stack([signal * some, some])
        self.loss += xp.stack(loss)
