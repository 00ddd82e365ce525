"""Running totals over all prompts: the range of the rewards, their mean, and their variance about the predictions."""

from __future__ import annotations

from typing import Any

from kernadv._typing import FloatArray
from kernadv.pooling._base import GroupSums, PoolPiece, share_of
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace

#: Most traces seen, and limits of their mean weight in units.
MOST, LEAST_WEIGHT, MOST_WEIGHT = 2.0**53, 2.0**-260, 2.0**110
#: Rewards nearer to each other than this count as equal, so that squares of shares of the range fit a float.
LEAST_SPAN = 1e-100
#: Share of the sums that is kept from one step to the next: of the mean, and of the rest.
KEEP_MEAN, KEEP = 0.8, 0.97
#: Prior for the noise: so many rollouts, of that variance as a share of the squared range.
TRUST, VARIANCE = 8.0, 0.1
#: Limits of `Running.count`.
COUNTS = 0.1, 20.0


class Running(PoolPiece):
    """What was seen so far, over all prompts, in shares of the range of the rewards."""

    range: Array  # smallest and largest reward
    sums: Array  # discounted sums of w and of w share
    noise: Array  # discounted sums of w V (1 - V) and of w^2 (share - V)^2
    size: Array  # discounted sums of traces and of w
    between: Array  # 1: a reward strictly inside the range was seen
    uneven: Array  # 1: traces of one batch had different weights

    positive = ("size", "between", "uneven")

    def __init__(self, xp: ArrayNamespace = NUMPY) -> None:
        super().__init__(xp, range=2, sums=2, noise=2, size=2, between=1, uneven=1)

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `PoolPiece.sound`: the mean lies in the range."""
        (total, product), (low, high), size = arrays["sums"], arrays["range"], arrays["size"]
        if not (super().sound(arrays) and total >= 0 and low <= high):
            return False
        if max(arrays["between"][0], arrays["uneven"][0]) > 1.0 or abs(arrays["noise"][0]) > size[1]:
            return False
        if total == 0:
            return not (product or size.any() or arrays["noise"].any())
        n, w = size
        return bool(0.0 < n <= MOST and LEAST_WEIGHT <= w / n <= MOST_WEIGHT and -1e-6 <= product / total <= 1.0 + 1e-6)

    @property
    def empty(self) -> Any:
        """Nothing was seen."""
        return self.sums[0] <= 0

    @property
    def low(self) -> Any:
        """Smallest reward."""
        return self.range[0]

    @property
    def span(self) -> Any:
        """Largest reward minus the smallest."""
        return self.range[1] - self.range[0]

    @property
    def mean(self) -> Any:
        """Recent mean reward as a share of the range; 0 while empty."""
        return self.xp.ratio(self.sums[1], self.sums[0])

    @property
    def weight(self) -> Any:
        """Mean weight of a trace; 1 while empty."""
        return self.xp.ratio(self.size[1], self.size[0], 1.0)

    @property
    def count(self) -> Any:
        """How many 0/1 rewards a reward is worth, a unit of its weight.

        1 for 0/1 rewards, more for rewards with less variance than V (1 - V), less where weights differ.
        """
        w, (binary, noise) = self.weight, self.noise
        start = TRUST * VARIANCE * w
        low, high = COUNTS
        least = 1e-3 * start * w
        learned = self.xp.between((binary + start) * w / self.xp.at_least(noise + start * w, least), low, high)
        return self.xp.pick(self.between[0] + self.uneven[0] > 0, learned, 1.0) / w

    def learn(self, mean: Array, error: Array, batch: GroupSums, low: Any, high: Any, *, new: Any) -> tuple[Any, Any]:
        """Add a batch.

        Parameters
        ----------
        mean, error : (B,)
            Predictions as shares of the range before the batch, and their variance about the values.
        batch : GroupSums of B groups
        low, high : float
            Smallest and largest of its rewards.
        new : 1 or 0
            Whether it is of a later step than all before.

        Returns
        -------
        lower, upper : float
            The range before as shares of the present one; 0 and 1 where it is still the same.
        """
        xp = self.xp
        first, (a, b), weight = self.empty, (self.range[0] + 0.0, self.range[1] + 0.0), batch.w.sum()
        c, d = xp.pick(first, low, xp.minimum(low, a)), xp.pick(first, high, xp.maximum(high, b))
        wide = d - c > LEAST_SPAN
        outer = xp.stack([xp.pick(wide | first, c, a), xp.pick(wide, d, xp.pick(first, c, b))])
        moved = ~first & (outer != self.range).any()
        lower, upper = (xp.pick(moved, share_of(end, outer[0], outer[1], xp), float(k)) for k, end in enumerate((a, b)))
        self.range[:] = outer
        self.sums[1] = lower * self.sums[0] + (upper - lower) * self.sums[1]
        inside = batch.inside(outer[0], outer[1], xp)
        far = (inside.wwz - inside.wwzz).sum()  # sum of w^2 share (1 - share)
        between = (moved & (a < b)) | (far > 1e-6 * batch.ww.sum())
        uneven = (batch.ww * batch.n - batch.w**2).sum() > 1e-9 * (batch.ww * batch.n).sum()
        p = lower + (upper - lower) * mean
        u = (upper - lower) ** 2 * error
        noise = xp.stack([(batch.w * (p * (1.0 - p) - u)).sum(), (inside.squares(p) - batch.ww * u).sum()])
        self.noise *= KEEP**new
        self.noise += noise * xp.number(~first)
        self.between += xp.number(between) * (1.0 - self.between)
        self.uneven += xp.number(uneven) * (1.0 - self.uneven)
        self.sums *= KEEP_MEAN**new
        self.sums += xp.stack([weight, inside.wz.sum()])
        self.size *= KEEP**new
        self.size += xp.stack([batch.n.sum(), weight])
        return lower, upper
