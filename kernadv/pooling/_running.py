"""Running totals over all prompts: the mean reward, its range, and its variance about the predictions."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray
from kernadv.pooling._base import Batched, Pooled, Scale

#: Share of the sums that is kept from one step to the next: of the mean, and of the rest.
KEEP_MEAN, KEEP = 0.8, 0.97


class Running(Pooled):
    """What was seen so far, whatever the prompt."""

    STATE = ("sums", "range", "ratio", "size", "between")

    def __init__(self) -> None:
        self.sums = np.zeros(2)  # discounted sums of w and of w z
        self.range = np.zeros(2)  # smallest and largest reward
        self.ratio = np.zeros(2)  # discounted sums of w^2 (z - p)^2 and of w^2 (p - low) (high - p)
        self.size = np.zeros(2)  # discounted sums of traces and of w
        self.between = np.zeros(1)  # 1: a reward strictly inside the range was seen

    @property
    def empty(self) -> bool:
        """Nothing was seen."""
        return bool(self.sums[0] <= 0)

    @property
    def mean(self) -> float:
        """Recent mean reward."""
        return 0.0 if self.empty else float(self.sums[1] / self.sums[0])

    @property
    def weight(self) -> float:
        """Mean weight of a trace."""
        return 1.0 if self.size[0] <= 0 else float(self.size[1] / self.size[0])

    @property
    def two_values(self) -> bool:
        """All rewards seen were one of two values."""
        return not self.between[0]

    @property
    def scale(self) -> Scale:
        """Range and variance of the rewards."""
        known = self.ratio[1] > 0 and self.ratio[0] > 0
        ratio = float(np.clip(self.ratio[0] / self.ratio[1], 0.05, 2.0)) if known else 1.0
        return Scale(float(self.range[0]), float(self.range[1]), ratio)

    def learn(self, value: FloatArray, batch: Batched, low: float, high: float, *, new: bool) -> None:
        """Add a batch with its predictions and the smallest and largest of its rewards."""
        first = self.empty
        if new:
            self.sums *= KEEP_MEAN
            self.ratio *= KEEP
            self.size *= KEEP
        if not first:
            a, b = self.range.tolist()
            p = np.clip(value, a, b)
            self.ratio += batch.squares(p).sum(), (batch.ww * (p - a) * (b - p)).sum()
        a, b = (low, high) if first else (min(low, self.range[0]), max(high, self.range[1]))
        moved = not first and bool(self.range[0] < self.range[1] and ((self.range != (a, b)).any()))
        inside = (batch.wwzz - (a + b) * batch.wwz + a * b * batch.ww).sum()  # -sum w^2 (z - a)(b - z)
        if moved or inside < -1e-6 * batch.ww.sum() * (b - a) ** 2:
            self.between[0] = 1.0
        self.range = np.array([a, b])
        self.sums += batch.w.sum(), batch.wz.sum()
        self.size += batch.n.sum(), batch.w.sum()
