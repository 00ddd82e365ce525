"""The choice of what is pooled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from kernadv import kernels
from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice, check_flag
from kernadv.clock import Bandwidth, Steps
from kernadv.kernels import Kernel
from kernadv.pooling.aggregation import AGGREGATIONS


@dataclass(frozen=True)
class Pooling:
    """What the prompts share.  Every piece can be switched off.

    Parameters
    ----------
    windows : tuple of float
        Bandwidths in steps, ascending; inf weighs the whole past alike.
    kernel : str or Kernel
        The kernel in time.
    level : bool
        Shrink to the mean over prompts by empirical Bayes.
    slope : bool
        Add the windows' local linear estimates with pooled slopes.
    drift : bool
        Correct by the residuals of the batch's other prompts, while it pays.
    aggregation : {"stacking", "argmin", "one_se", "exponential_weights"}
        How the windows become one estimate.

    Raises
    ------
    ArgumentError
        If windows are empty, not positive or not ascending, or a name is unknown.
    """

    windows: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 300.0, 800.0, math.inf)
    kernel: str | Kernel = "exponential"
    level: bool = True
    slope: bool = True
    drift: bool = True
    aggregation: str = "stacking"

    def __post_init__(self) -> None:
        for name in ("level", "slope", "drift"):
            object.__setattr__(self, name, check_flag(getattr(self, name), name))
        try:
            if isinstance(self.windows, (str, bytes, set, frozenset)):
                raise TypeError
            windows = tuple(Steps(w).width for w in self.windows)
        except TypeError as error:
            if isinstance(error, ArgumentTypeError):
                raise
            raise ArgumentTypeError(
                f"windows must be bandwidths in steps, got {self.windows!r}; e.g. (4, 16, 64)"
            ) from None
        if not windows:
            raise ArgumentError("windows must hold at least one bandwidth in steps, got none; e.g. (4, 16, 64, inf)")
        if any(a >= b for a, b in pairwise(windows)):
            raise ArgumentError(f"windows must ascend, got {self.windows}; sort them and drop repetitions")
        object.__setattr__(self, "windows", windows)
        object.__setattr__(self, "kernel", kernels.get(self.kernel))
        check_choice(self.aggregation, "aggregation", AGGREGATIONS)

    @property
    def bandwidths(self) -> list[Bandwidth]:
        """The windows on the clock of training."""
        return [Steps(w) for w in self.windows]
