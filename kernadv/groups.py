"""Groups: the traces of one prompt at one step, reduced to their sufficient statistics.

The history keeps no more of them than the count, the sum and the sum of squares of the rewards: exact, and G times smaller
than the rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernadv._arrays import LAST_STEP
from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv._states import real_numbers, whole_numbers
from kernadv.typing import AnyArray, FloatArray, IntArray

__all__ = ["Groups", "aggregate"]


def __dir__() -> list[str]:
    return __all__


#: Most prompts, and most traces of a group.
MOST = 2**31 - 1
#: Sum of the squares of all rewards below which it has lost its digits.
_TINY = 1e-300
#: Largest weight in units; one beyond it counts as this.
MOST_UNITS = 2.0**100
#: Weights below this many units count as 0.
LEAST_UNITS = 2.0**-200


class Groups(NamedTuple):
    """One row a (prompt, step), sorted by prompt, then by step.

    Attributes
    ----------
    prompt : (N,) int64
        Row number of the prompt in its table of ids.
    step : (N,) int64
        Training step (policy version at generation), 1-based.
    n : (N,) int64
        Number of traces with a reward.
    s, ss : (N,) float64
        Sum of the rewards and sum of the squared rewards.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.groups import Groups
    >>> groups = Groups(np.array([0, 0]), np.array([1, 2]), np.array([4, 4]), np.array([1.0, 4.0]), np.array([1.0, 4.0]))
    >>> groups.mean, groups.noise  # of 4 traces each: one success, then four
    (array([0.25, 1.  ]), array([0.25, 0.  ]))
    """

    prompt: IntArray
    step: IntArray
    n: IntArray
    s: FloatArray
    ss: FloatArray

    def take(self, rows: AnyArray | slice) -> Groups:
        """The groups of an index array, mask or slice."""
        return Groups(self.prompt[rows], self.step[rows], self.n[rows], self.s[rows], self.ss[rows])

    @property
    def mean(self) -> FloatArray:
        """Mean reward, of groups with a reward.  # (N,)"""
        return np.asarray(self.s / self.n)

    @property
    def rounding(self) -> FloatArray:
        """Bound of the rounding of ``ss - s^2 / n``, which is 3 n 2^-53 ss at most for n equal rewards.  # (N,)"""
        return np.asarray(2.0 * np.finfo(np.float64).eps * self.n * self.ss)

    @property
    def noise(self) -> FloatArray:
        """Unbiased within-group variance s^2 of the rewards, NaN where n < 2.  # (N,)

        It is 0 where it is no more than the rounding of the sums: whenever all rewards of a group are equal, and also where
        they agree in about seven digits, which sums cannot tell from it.
        """
        n = self.n.astype(np.float64)
        many = n > 1
        centred = self.ss - self.s**2 / np.where(n > 0, n, 1.0)
        centred = np.where(centred > self.rounding, centred, 0.0)
        return np.where(many, centred / np.where(many, n - 1.0, 1.0), np.nan)


def unit_for(largest: Any, unit: Any, xp: Any = np) -> Any:
    """The power of two in which the weights of a batch are counted: that of the first batch with a weight above 0.

    Only the ratios of weights matter, and in such units their products fit, whatever their size.

    Parameters
    ----------
    largest : float
        Of the weights.
    unit : float
        Of the batches before; 0: there was none.
    xp : module
        Of the arrays.
    """
    return xp.where((unit <= 0) & (largest > 0), _near_power(largest, xp), unit)


def in_units(weights: Any, unit: Any, xp: Any = np) -> Any:
    """Weights in a unit, at most `MOST_UNITS`; 0 where they are below `LEAST_UNITS`."""
    some = unit + (unit <= 0)
    share = weights.clip(max=some.clip(max=2.0**900) * MOST_UNITS) / some
    return xp.where(share >= LEAST_UNITS, share, 0.0)


def _near_power(x: Any, xp: Any) -> Any:
    """The power of two nearest on a logarithmic scale, of x > 0."""
    share = xp.frexp(x + (x <= 0))[0]  # from .5 to 1
    return (x + (x <= 0)) / share * xp.where(share < 0.5**0.5, 0.5, 1.0)


def check_groups(groups: Groups) -> Groups:
    """Return groups that may be smoothed and repeated row by row, or raise.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If they are no `Groups`; if their arrays are no lists of numbers of one length; if a prompt, step or count is no
        whole number, or out of range, or a sum not finite; if they are not in order of prompt and step, each pair once; if
        there are rewards, but squares of them are too small for a float.
    """
    if not isinstance(groups, Groups):
        raise ArgumentTypeError(
            f"expected Groups, got {type(groups).__name__}; of a log that was read give its .groups"
        )
    arrays = [np.asarray(part) for part in groups]
    whole = [whole_numbers(part, 0, most) for part, most in zip(arrays[:3], (MOST, LAST_STEP, MOST), strict=True)]
    real = [real_numbers(part, arrays[0].shape) for part in arrays[3:]]
    wrong = [name for name, part in zip(Groups._fields, [*whole, *real], strict=True) if part is None]
    if not wrong and len({part.shape for part in arrays}) == 1:
        p, i = arrays[:2]
        if not ((p[1:] > p[:-1]) | ((p[1:] == p[:-1]) & (i[1:] > i[:-1]))).all():
            raise ArgumentError(
                "groups must be sorted by prompt, then by step, each pair once: kernadv.groups.aggregate makes them so"
            )
        if arrays[3].any() and arrays[4].sum() < _TINY:
            raise ArgumentError(
                "the rewards are too small for their squares to be numbers: multiply them by a constant"
            )
        return groups
    raise ArgumentError(
        f"groups must hold five lists of one length: prompts and counts below 2^31, steps up to 2^53 and finite sums; "
        f"wrong: {', '.join(wrong) or 'the lengths'}"
    )


def aggregate(prompt: IntArray, step: IntArray, n: IntArray, s: FloatArray, ss: FloatArray) -> Groups:
    """Merge rows of the same (prompt, step) and sort by prompt, then by step.

    Parameters
    ----------
    prompt, step, n, s, ss : (M,) arrays
        Partial sums in any order; a single reward z is the row (1, z, z^2).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.groups import aggregate
    >>> prompt, step, reward = np.array([1, 0, 1]), np.array([5, 5, 5]), np.array([1.0, 0.0, 0.0])
    >>> groups = aggregate(prompt, step, np.ones(3, np.int64), reward, reward**2)
    >>> groups.prompt, groups.n, groups.s
    (array([0, 1]), array([1, 2]), array([0., 1.]))
    """
    if not len(prompt):
        empty = np.empty(0, np.int64)
        return Groups(empty, empty, empty, np.empty(0), np.empty(0))
    order = _order(prompt, step)
    p, i = prompt[order], step[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (p[1:] != p[:-1]) | (i[1:] != i[:-1])
    start = np.flatnonzero(first)
    return Groups(
        p[start].astype(np.int64),
        i[start].astype(np.int64),
        np.add.reduceat(n[order], start).astype(np.int64),
        np.add.reduceat(s[order], start).astype(np.float64),
        np.add.reduceat(ss[order], start).astype(np.float64),
    )


def _order(prompt: IntArray, step: IntArray) -> IntArray:
    """Order by prompt, then by step: as one key where that fits 64 bits, which sorts four times faster."""
    low, span = int(step.min()), int(step.max()) - int(step.min()) + 1
    if int(prompt.min()) < 0 or (int(prompt.max()) + 1) * span >= 2**63:
        return np.asarray(np.lexsort((step, prompt)), np.int64)
    key: IntArray = prompt.astype(np.int64) * span + (step.astype(np.int64) - low)
    return np.argsort(key)
