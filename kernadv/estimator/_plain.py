"""The plain rule: each prompt smoothed alone with one bandwidth, as in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import betaincinv, ndtri

from kernadv import kernels, smoothers
from kernadv._errors import ArgumentError, CheckpointError
from kernadv.batch import Batch
from kernadv.clock import Bandwidth, Relative, Retention, Steps, Visits
from kernadv.estimator._rule import Belief, Rule, State
from kernadv.groups import Groups
from kernadv.kernels import Kernel
from kernadv.pooling import Pool
from kernadv.smoothers import Estimate
from kernadv.typing import AnyArray, FloatArray

if TYPE_CHECKING:
    from kernadv.device.batch import DeviceBatch


class PlainRule(Rule):
    """Nadaraya-Watson or local linear over the prompt's past and the other traces of the group.

    Parameters
    ----------
    bandwidth : Bandwidth
    kernel : str or Kernel
    smoother : str
    allow_late : bool or int
    """

    bandwidth: Bandwidth
    kernel: Kernel

    def __init__(
        self, bandwidth: Bandwidth, kernel: str | Kernel, smoother: str, allow_late: bool | int = False
    ) -> None:
        super().__init__(allow_late)
        if not isinstance(bandwidth, Bandwidth):
            raise ArgumentError(
                f"bandwidth must be Relative(h), Steps(w) or Visits(k), got {bandwidth!r}; "
                "Relative(0.5) is half of the steps so far, Steps(20) the last 20 steps; None chooses by itself"
            )
        self.bandwidth = bandwidth
        self.kernel = kernels.get(kernel)
        if (
            isinstance(self.bandwidth, Visits)
            and self.bandwidth.k == 1
            and self.kernel.support == 1.0
            and not self.kernel.closed
        ):
            raise ArgumentError(
                f"Visits(1) gives the only visit the weight K(1) = 0 of the {self.kernel.name} kernel; "
                "take k >= 2 or kernel='uniform'"
            )
        smoothers.get(smoother)  # an unknown name raises
        self.smoother = smoother
        self._on_device = isinstance(bandwidth, Steps | Relative | Visits)

    def arguments(self) -> list[str]:
        """The bandwidth; kernel and smoother, where another one was chosen."""
        name = self.kernel.name
        kernel = name if kernels.KERNELS.get(name) == self.kernel else self.kernel
        return [
            repr(self.bandwidth),
            *([f"kernel={kernel!r}"] if kernel != "triangular" else []),
            *([f"smoother={self.smoother!r}"] if self.smoother != "nadaraya_watson" else []),
        ]

    def works_on_device(self, pool: Any) -> bool:
        """Unless the bandwidth is of a class of the user's."""
        return self._on_device

    def predict(self, batch: Batch | DeviceBatch, state: State) -> tuple[Estimate, Any]:
        """Values of the rows, and the half-widths of their windows."""
        width, past = state.past(batch, self.bandwidth, self.kernel, int(self.smoother != "nadaraya_watson"))
        return batch.smoothed(past, self.smoother), width

    def half_width(self, made_from: Any) -> Any:
        """The half-widths that `predict` returned."""
        return made_from

    def restored(self, pool: Pool | None, arrays: Mapping[str, Any] | None) -> None:
        """Nothing is learned beside the history."""
        if arrays is not None and any("." in name for name in arrays):
            raise CheckpointError("the state holds what a pooled estimator learned: it is damaged")

    def belief(self, batch: Batch | DeviceBatch, estimate: Estimate, made_from: Any, state: State) -> Belief:
        """Jeffreys' prior, and n_eff rewards at the ends of the range with the mean of the value."""
        low, high = state.tally.ends[:2]
        share, n = state.xp.ratio(estimate.value - low, high - low).clip(0.0, 1.0), estimate.n_eff
        return Belief((n * share + 0.5) / (n + 1.0), n + 1.0, low, high - low)

    def interval(self, estimate: Estimate, belief: Belief, level: float) -> tuple[FloatArray, FloatArray]:
        """Jeffreys' interval on n_eff where the value lies in [0, 1]; elsewhere normal.

        Covers the smoothed target, the mean of the past values as the kernel weighs them.
        """
        value, n = estimate.value, estimate.n_eff
        tail = (1.0 - level) / 2.0
        unit = estimate.defined & (value >= 0.0) & (value <= 1.0)
        p = np.where(unit, value, 0.5)
        a, b = n * p + 0.5, n * (1.0 - p) + 0.5
        half = ndtri(1.0 - tail) * np.sqrt(estimate.variance)
        low = np.where(unit, np.where(p > 0, betaincinv(a, b, tail), 0.0), value - half)
        high = np.where(unit, np.where(p < 1, betaincinv(a, b, 1.0 - tail), 1.0), value + half)
        return low, high

    def pieces(self, made_from: Any, visits: Groups, at: int) -> dict[str, Any]:
        """The kernel's weights, as shares."""
        lag, width = at - visits.step, made_from[0, 0]
        inside = (lag >= 0) & (lag <= self.kernel.reach(width))
        weight = np.where(inside, self.kernel.profile(lag / width), 0.0) * visits.n
        return {"weights": weight / weight.sum() if weight.any() else weight}

    def _retention(self, newest: int, late: int) -> Retention:
        """The retention of the bandwidth."""
        return self.bandwidth.retention(newest, self.kernel, late)

    def config(self, pool: Pool | None, arrays: Mapping[str, AnyArray]) -> dict[str, Any]:
        """Bandwidth and kernel."""
        return {
            "bandwidth": [type(self.bandwidth).__name__, asdict(self.bandwidth)],  # type: ignore[call-overload]
            "kernel": repr(self.kernel),
        }
