"""Bandwidths in training time: how far back a prompt's history is smoothed.

Steps are whole numbers and start at 1 (a relative bandwidth is 0 at step 0).  A bandwidth turns a step into a half-width
in steps, and says which part of a history can never carry weight again, so that it can be forgotten.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, check_positive, check_range
from kernadv.kernels import UNBOUNDED, Kernel
from kernadv.typing import FloatArray, IntArray

__all__ = ["KEEP_ALL", "Bandwidth", "Relative", "Retention", "Steps", "VisitLag", "Visits"]


def __dir__() -> list[str]:
    return __all__


#: k -> lag of the k-th latest visit of each query in steps; one step beyond the first visit where there are fewer. (Q,)
VisitLag = Callable[[int], FloatArray]

#: Kernels without an edge: visits whose weight is below this share of the newest visit's weight may be forgotten.
TAIL = 1e-12


class Retention(NamedTuple):
    """The part of a prompt's history that can still matter: a visit is kept if it is among the latest `visits`, or if its
    step is at least `oldest` and at least the prompt's newest step minus `span`.

    Examples
    --------
    >>> from kernadv.clock import Steps
    >>> from kernadv.kernels import get
    >>> kept = Steps(20).retention(100, get("triangular"), late=0)
    >>> kept.oldest, kept.visits  # at step 100 what is older than step 81 has left the window for good
    (81, 0)
    >>> kept.clamped() == kept
    True
    """

    oldest: int
    span: int
    visits: int

    def clamped(self) -> Retention:
        """A copy with limits that fit 64 bits."""
        return Retention(*(max(-UNBOUNDED, min(limit, UNBOUNDED)) for limit in self))


KEEP_ALL = Retention(-UNBOUNDED, UNBOUNDED, 0)


class Bandwidth(ABC):
    """A rule for the half-width, in steps, of the window that looks back from a step.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.clock import Relative, Steps, Visits
    >>> from kernadv.kernels import get
    >>> third_last = lambda k: np.array([7.0])  # of one query: its k-th latest visit was 7 steps ago
    >>> for rule in (Steps(20), Relative(0.1), Visits(3)):
    ...     kept = rule.retention(50, get("triangular"), late=0)
    ...     print(rule.label, rule.half_width(np.array([50]), third_last), kept.visits)
    w=20 [20.] 0
    h=0.1 [5.] 0
    k=3 [7.] 3
    """

    @abstractmethod
    def half_width(self, step: IntArray, visit_lag: VisitLag) -> FloatArray:
        """Half-width of each query's window in steps.  step: (Q,) -> (Q,)."""

    @abstractmethod
    def retention(self, step: int, kernel: Kernel, late: int) -> Retention:
        """The part of a history to keep so that no estimate at a step >= `step - late` changes."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Short text for tables and plots."""


@dataclass(frozen=True)
class Steps(Bandwidth):
    """A fixed window of `width` steps; with inf the whole past has equal weight.

    Parameters
    ----------
    width : float
        Bandwidth in steps: half-width of a compact kernel's support, scale of the others.

    Raises
    ------
    ArgumentError
        If width is not positive.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> from kernadv.clock import Steps
    >>> KernelValueEstimator(bandwidth=Steps(20)).bandwidth.label
    'w=20'
    """

    width: float

    def __post_init__(self) -> None:
        hint = "Steps(width) takes a number of steps, e.g. 20"
        object.__setattr__(self, "width", check_positive(self.width, "bandwidth", hint, allow_inf=True))

    def half_width(self, step: IntArray, visit_lag: VisitLag) -> FloatArray:
        """The same width at every step."""
        return np.full(len(step), float(self.width))

    def retention(self, step: int, kernel: Kernel, late: int) -> Retention:
        """Compact kernels: the support.  Others: visits with at least `TAIL` of the weight of the prompt's newest visit.

        The kernels without an edge are log-concave, so K(a + b) / K(a) <= K(b).  A visit that is b steps older than the
        newest one therefore has at most K(b / width) of its weight at every later step.
        """
        if math.isinf(kernel.support):  # a late query lies before the newest visit, and may have nothing but old ones
            return KEEP_ALL if late else Retention(-UNBOUNDED, _tail_lag(kernel, self.width), 0)
        reach = int(kernel.reach(np.array(self.width)))
        return Retention(step - late - reach, UNBOUNDED, 0)

    @property
    def label(self) -> str:
        """Short text for tables and plots."""
        return f"w={self.width:g}"


@dataclass(frozen=True)
class Relative(Bandwidth):
    """A window that grows with training: ``i * h`` at step i, as in Kernelized Advantage Estimation.

    Parameters
    ----------
    h : float
        Bandwidth as a fraction of the step, such as 0.1.  From 1 on the window holds the whole past, and a large h weighs it
        evenly, as ``Steps(inf)`` does: for a window of 20 steps say ``Steps(20)``, not ``Relative(20)``.
    floor : float
        Smallest half-width in steps (0: none).

    Raises
    ------
    ArgumentError
        If h is not positive and finite, or floor is negative or not finite.

    References
    ----------
    Kernelized Advantage Estimation, arXiv 2604.28005, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.clock import Relative
    >>> Relative(0.1, floor=2.0).half_width(np.array([10, 100]), None)
    array([ 2., 10.])
    """

    h: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        hint = "Relative(h) takes a fraction of the step, e.g. 0.1"
        object.__setattr__(self, "h", check_positive(self.h, "bandwidth", hint))
        object.__setattr__(self, "floor", check_range(self.floor, "floor", 0.0))

    def half_width(self, step: IntArray, visit_lag: VisitLag) -> FloatArray:
        """``max(i h, floor)``."""
        return np.maximum(step.astype(np.float64) * self.h, self.floor)

    def retention(self, step: int, kernel: Kernel, late: int) -> Retention:
        """Compact kernels: ``i - reach(i h)`` never decreases with i, so what has left the window stays out."""
        if math.isinf(kernel.support):
            return KEEP_ALL
        earliest = max(step - late, 1)
        reach = int(kernel.reach(np.array(max(earliest * self.h, self.floor))))
        return Retention(earliest - reach, UNBOUNDED, 0)

    @property
    def label(self) -> str:
        """Short text for tables and plots."""
        return f"h={self.h:g}"


@dataclass(frozen=True)
class Visits(Bandwidth):
    """k nearest neighbours in time: the half-width is the distance to the k-th latest visit.

    With the uniform kernel this gives the mean over the last k visits.  Kernels that vanish at their edge give the k-th
    visit itself the weight 0, as in locally weighted regression.  With fewer than k visits, the window ends one step beyond
    the first of them, so that all count.

    Parameters
    ----------
    k : int
        Number of visits.
    floor : float
        Smallest half-width in steps; at least 1, because a visit at the same step has distance 0.

    Raises
    ------
    ArgumentError
        If k is not a whole number >= 1 or floor is below 1 or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.clock import Visits
    >>> Visits(10).half_width(np.array([100]), lambda k: np.array([4.0 * k]))  # visited every 4 steps
    array([40.])
    """

    k: int
    floor: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, (int, np.integer)) or not 1 <= self.k < 2**63:
            raise ArgumentError(
                f"k must be a whole number >= 1 that fits 64 bits, got {self.k!r:.80}; Visits(k) counts visits, e.g. 10"
            )
        object.__setattr__(self, "k", int(self.k))
        object.__setattr__(self, "floor", check_range(self.floor, "floor", 1.0))

    def half_width(self, step: IntArray, visit_lag: VisitLag) -> FloatArray:
        """Distance to the k-th latest visit, at least `floor`."""
        return np.maximum(visit_lag(int(self.k)), self.floor)

    def retention(self, step: int, kernel: Kernel, late: int) -> Retention:
        """The k latest visits (and as many more as can lie after a late query), and the floor's window."""
        if math.isinf(kernel.support):
            return KEEP_ALL
        reach = int(kernel.reach(np.array(self.floor)))
        return Retention(step - late - reach, UNBOUNDED, int(self.k) + late)

    @property
    def label(self) -> str:
        """Short text for tables and plots."""
        return f"k={self.k}"


def _tail_lag(kernel: Kernel, width: float) -> int:
    """Smallest whole lag with K(lag / width) < TAIL."""
    if math.isinf(width):
        return UNBOUNDED
    low, high = 0, 1
    while high < UNBOUNDED and float(kernel.profile(np.array(high / width))) >= TAIL:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if float(kernel.profile(np.array(middle / width))) >= TAIL else (low, middle)
    return high
