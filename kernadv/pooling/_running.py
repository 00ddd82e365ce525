"""Running totals over all prompts: the range of the rewards, their mean, and their variance about the predictions."""

from __future__ import annotations

from typing import Any

from kernadv.pooling._base import GroupSums, PoolPiece, share_in
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace
from kernadv.pooling._words import add, get, least, most, over, put, read, where, word
from kernadv.typing import FloatArray

#: Most traces seen, and limits of their mean weight in units.
MOST, LEAST_WEIGHT, MOST_WEIGHT = 2.0**53, 2.0**-260, 2.0**110
#: Rewards nearer to each other than this count as equal, so that squares of shares of the range fit a float.
LEAST_SPAN = 1e-100
#: Share of the sums that is kept from one step to the next: of the mean, and of the rest.
KEEP_MEAN, KEEP = 0.8, 0.97
#: Prior for the noise: so many rollouts, of that variance as a share of the squared range.
TRUST, VARIANCE = 8.0, 0.1
#: Limits of `Running.count`, before it is divided by the weight.
LOWEST_COUNT, HIGHEST_COUNT = 0.1, 20.0


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

    def summary(self) -> Array:
        """`count`, 1 if anything was seen, `weight` and `mean`.  # (4,)"""
        out = self.xp.empty(4)
        self.xp.rows(summary, (1,), (self._state,), (out,))
        return out

    @property
    def mean(self) -> Any:
        """Recent mean reward as a share of the range; 0 while empty."""
        return self.summary()[3]

    @property
    def weight(self) -> Any:
        """Mean weight of a trace; 1 while empty."""
        return self.summary()[2]

    @property
    def count(self) -> Any:
        """How many 0/1 rewards a reward is worth, a unit of its weight.

        1 for 0/1 rewards, more for rewards with less variance than V (1 - V), less where weights differ.
        """
        return self.summary()[0]

    def learn(
        self, mean: Array, error: Array, batch: GroupSums, mass: Any, low: Any, high: Any, *, new: Any
    ) -> tuple[Any, Any, GroupSums]:
        """Add a batch.

        Parameters
        ----------
        mean, error : (B,)
            Predictions as shares of the range before the batch, and their variance about the values.
        batch : GroupSums of B groups
        mass : float
            Sum of its weights.
        low, high : float
            Smallest and largest of its rewards, if any weighs anything.
        new : 1 or 0
            Whether it is of a later step than all before.

        Returns
        -------
        lower, upper : float
            The range before as shares of the present one; 0 and 1 where it is still the same.
        inside : GroupSums of B groups
            In shares of the present range.
        """
        xp = self.xp
        wider, after = xp.empty(5), xp.empty(len(self._state))
        xp.rows(widened, (1,), (self._state, mass, low, high), (wider,))
        inside = batch.inside(wider[0], wider[1], xp)
        n, w, wz, ww, wwz, wwzz = inside[1:7]
        sums = xp.rows(counted, (len(n),), (n, w, wz, ww, wwz, wwzz, mean, error, wider), (), sums=9)
        xp.rows(settled, (1,), (self._state, wider, sums, new), (after,))
        self.become(after)
        return wider[2], wider[3], inside


# The state: low, high; sums of w and of w share; noise, binary and seen; traces and w; between; uneven.
@word
def summed_up(state):
    """`Running.count`, 1 if anything was seen, `Running.weight` and `Running.mean`."""
    total, traces, w = read(state, 2), read(state, 6), read(state, 7)
    weight = where(traces > 0.0, w / where(traces > 0.0, traces, 1.0), 1.0)
    start = TRUST * VARIANCE * weight
    noise = most(read(state, 5) + start * weight, 1e-3 * start * weight)
    learned = most(least((read(state, 4) + start) * weight / noise, HIGHEST_COUNT), LOWEST_COUNT)
    count = where(read(state, 8) + read(state, 9) > 0.0, learned, 1.0) / weight
    mean = where(total > 0.0, read(state, 3) / where(total > 0.0, total, 1.0), 0.0)
    return count, where(total > 0.0, 1.0, 0.0), weight, mean


@word
def summary(i, mine, N, state, out):
    """As of `Running.summary`.  out: (4,)"""
    count, seen, weight, mean = summed_up(state)
    put(out, i, count, mine)
    put(out, i + 1, seen, mine)
    put(out, i + 2, weight, mine)
    put(out, i + 3, mean, mine)


@word
def widened(i, mine, N, state, mass, low, high, out):
    """The range with a batch, the one before as shares of it, and 1 if that was a part of it, of some length.  out: (5,)"""
    a, b, some = read(state, 0), read(state, 1), read(mass, 0) > 0.0
    c, d = where(some, read(low, 0), a), where(some, read(high, 0), b)
    seen = read(state, 2) > 0.0
    c, d = where(seen, least(c, a), c), where(seen, most(d, b), d)
    wide = d - c > LEAST_SPAN
    low_end = where(wide, c, where(seen, a, c))
    high_end = where(wide, d, where(seen, b, c))
    moved = where(seen, most(a - low_end, high_end - b), 0.0) > 0.0
    put(out, i, low_end, mine)
    put(out, i + 1, high_end, mine)
    put(out, i + 2, where(moved, share_in(a, low_end, high_end), 0.0), mine)
    put(out, i + 3, where(moved, share_in(b, low_end, high_end), 1.0), mine)
    put(out, i + 4, where(moved, where(b > a, 1.0, 0.0), 0.0), mine)


@word
def counted(i, mine, N, n, w, wz, ww, wwz, wwzz, mean, error, wider, sums):
    """What `settled` needs of the groups.  sums: (9,)"""
    lower, upper = read(wider, 2), read(wider, 3)
    p, u = lower + (upper - lower) * get(mean, i, mine), (upper - lower) * (upper - lower) * get(error, i, mine)
    traces, weight, square = get(n, i, mine), get(w, i, mine), get(ww, i, mine)
    middle, top = get(wwz, i, mine), get(wwzz, i, mine)
    add(sums, 0, weight)
    add(sums, 1, get(wz, i, mine))
    add(sums, 2, traces)
    add(sums, 3, weight * (p * (1.0 - p) - u))
    add(sums, 4, most(top - 2.0 * p * middle + p * p * square, 0.0) - square * u)
    add(sums, 5, middle - top)  # w^2 share (1 - share)
    add(sums, 6, square)
    add(sums, 7, square * traces - weight * weight)
    add(sums, 8, square * traces)


@word
def settled(i, mine, N, state, wider, sums, new, out):
    """The state after a batch, from the sums of its groups.  out: (10,)"""
    lower, upper = read(wider, 2), read(wider, 3)
    keep_mean, keep = where(read(new, 0) > 0.0, KEEP_MEAN, 1.0), where(read(new, 0) > 0.0, KEEP, 1.0)
    total = read(state, 2)
    first = where(total > 0.0, 1.0, 0.0)
    inner = where(read(sums, 5) > 1e-6 * read(sums, 6), 1.0, read(wider, 4))
    put(out, i, read(wider, 0), mine)
    put(out, i + 1, read(wider, 1), mine)
    put(out, i + 2, keep_mean * total + read(sums, 0), mine)
    put(out, i + 3, keep_mean * (lower * total + (upper - lower) * read(state, 3)) + read(sums, 1), mine)
    put(out, i + 4, keep * read(state, 4) + first * read(sums, 3), mine)
    put(out, i + 5, keep * read(state, 5) + first * read(sums, 4), mine)
    put(out, i + 6, keep * read(state, 6) + read(sums, 2), mine)
    put(out, i + 7, keep * read(state, 7) + read(sums, 0), mine)
    put(out, i + 8, most(read(state, 8), inner), mine)
    put(out, i + 9, where(read(sums, 7) > 1e-9 * read(sums, 8), 1.0, read(state, 9)), mine)


@over(summary)
def _summary(N, state, out):
    for i in range(N):
        summary(i, True, N, state, out)


@over(widened)
def _widened(N, state, mass, low, high, out):
    for i in range(N):
        widened(i, True, N, state, mass, low, high, out)


@over(counted)
def _counted(N, n, w, wz, ww, wwz, wwzz, mean, error, wider, sums):
    for i in range(N):
        counted(i, True, N, n, w, wz, ww, wwz, wwzz, mean, error, wider, sums)


@over(settled)
def _settled(N, state, wider, sums, new, out):
    for i in range(N):
        settled(i, True, N, state, wider, sums, new, out)
