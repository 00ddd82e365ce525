"""Running totals over all prompts: the mean reward, its range, and its variance about the predictions."""

from __future__ import annotations

from typing import Any

from kernadv._typing import FloatArray
from kernadv.pooling._base import Batched, Pooled, Scale
from kernadv.pooling._library import NUMPY, Array, Library

#: Traces seen are fewer; and limits of their mean weight, in units.
MOST, LEAST_WEIGHT, MOST_WEIGHT = 2.0**53, 2.0**-260, 2.0**110
#: Share of the sums that is kept from one step to the next: of the mean, and of the rest.
KEEP_MEAN, KEEP = 0.8, 0.97


class Running(Pooled):
    """What was seen so far, whatever the prompt."""

    sums: Array  # discounted sums of w and of w z
    range: Array  # smallest and largest reward
    ratio: Array  # discounted sums of w^2 (z - p)^2 and of w^2 (p - low) (high - p)
    size: Array  # discounted sums of traces and of w
    between: Array  # 1: a reward strictly inside the range was seen

    positive = ("ratio", "size", "between")

    def __init__(self, lib: Library = NUMPY) -> None:
        super().__init__(lib, sums=2, range=2, ratio=2, size=2, between=1)

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `Pooled.sound`: the mean lies in the range."""
        (total, product), (low, high), size = arrays["sums"], arrays["range"], arrays["size"]
        slack = 1e-6 * max(abs(low), abs(high))
        if not (super().sound(arrays) and total >= 0 and low <= high and arrays["between"][0] <= 1.0):
            return False
        if total == 0:
            return not (product or size.any())
        n, w = size
        return bool(
            0.0 < n <= MOST and LEAST_WEIGHT <= w / n <= MOST_WEIGHT and low - slack <= product / total <= high + slack
        )

    @property
    def empty(self) -> Any:
        """Nothing was seen."""
        return self.sums[0] <= 0

    @property
    def mean(self) -> Any:
        """Recent mean reward; 0 while empty."""
        return self.lib.ratio(self.sums[1], self.sums[0])

    @property
    def weight(self) -> Any:
        """Mean weight of a trace; 1 while empty."""
        return self.lib.ratio(self.size[1], self.size[0], 1.0)

    @property
    def two_values(self) -> bool:
        """All rewards seen were one of two values; may wait for the device."""
        return not self.between[0]

    @property
    def scale(self) -> Scale:
        """Range and variance of the rewards."""
        known = (self.ratio[1] > 0) & (self.ratio[0] > 0)
        relative = self.lib.xp.where(known, self.lib.ratio(self.ratio[0], self.ratio[1]).clip(0.05, 2.0), 1.0)
        return Scale(self.range[0], self.range[1], relative)

    def learn(self, value: Array, batch: Batched, low: Any, high: Any, *, new: Any) -> None:
        """Add a batch with its predictions and the smallest and largest of its rewards; new: 1 at a later step, else 0."""
        xp, number = self.lib.xp, self.lib.number
        first, (a, b), weight = self.empty, (self.range[0], self.range[1]), batch.w.sum()
        p = value.clip(a, b)
        spread = xp.stack([batch.squares(p).sum(), (batch.ww * (p - a) * (b - p)).sum()])
        outer = xp.stack([xp.where(first, low, xp.minimum(low, a)), xp.where(first, high, xp.maximum(high, b))])
        outer = xp.where(weight > 0, outer, self.range)
        moved = ~first & (a < b) & (outer != self.range).any()
        a, b = outer[0], outer[1]
        inside = (batch.wwzz - (a + b) * batch.wwz + a * b * batch.ww).sum()  # -sum w^2 (z - a)(b - z)
        between = moved | (inside < -1e-6 * batch.ww.sum() * (b - a) ** 2)
        self.ratio *= KEEP**new
        self.ratio += spread * number(~first)
        self.between += number(between) * (1.0 - self.between)
        self.range[:] = outer
        self.sums *= KEEP_MEAN**new
        self.sums += xp.stack([weight, batch.wz.sum()])
        self.size *= KEEP**new
        self.size += xp.stack([batch.n.sum(), weight])
