"""The plain rule: each prompt smoothed alone with one bandwidth, as in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import betaincinv, ndtri

from kernadv import kernels, moments, smoothers
from kernadv._at_once import Call
from kernadv._errors import ArgumentError, CheckpointError
from kernadv._typing import AnyArray, FloatArray
from kernadv.clock import Bandwidth, Relative, Retention, Steps, Visits
from kernadv.estimator._rule import Reading, Rollouts, Rule
from kernadv.history import History
from kernadv.kernels import Kernel
from kernadv.moments import Backend, Sample, Windows

if TYPE_CHECKING:
    import torch

    from kernadv.device.rule import DeviceRule


class Plain(Rule):
    """Nadaraya-Watson or local linear over the prompt's past and the other traces of the group.

    Parameters
    ----------
    bandwidth : Bandwidth
    kernel : str or Kernel
    smoother : str
    """

    def __init__(self, bandwidth: Bandwidth, kernel: str | Kernel, smoother: str) -> None:
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
        self._smooth = smoothers.get(smoother)
        self.smoother = smoother

    def __repr__(self) -> str:
        return f"{self.bandwidth!r}, kernel={self.kernel.name!r}, smoother={self.smoother!r}"

    def read(self, rollouts: Rollouts, history: History, backend: Backend) -> Reading:
        """Values of the rows."""
        batch = rollouts.batch
        at = batch.groups.step
        with history.borrowed(history.find(batch.ids)[batch.groups.prompt]) as sample:
            windows = Windows.of([self.bandwidth], self.kernel, sample, at)
            past = backend.ragged_moments(sample, windows, self.kernel)
        rows = moments.Moments(*(np.asarray(part)[batch.group, 0] for part in past))
        return Reading(self._smooth(rows.add_at_query(*batch.others)), windows.width[:, 0], None)

    def on_device(self, device: torch.device) -> DeviceRule | None:
        """With the bandwidths that are known there."""
        if not isinstance(self.bandwidth, Steps | Relative | Visits):
            return None
        from kernadv.device.plain import DevicePlain

        return DevicePlain(self)

    def learning(self, rollouts: Rollouts, reading: Reading) -> tuple[list[Call], None]:
        """Nothing is learned beside the history."""
        return [], None

    def loading(self, state: dict[str, Any] | None) -> list[Call]:
        """Nothing was learned."""
        if state is not None and any(name.startswith("pool.") for name in state):
            raise CheckpointError("the state holds what a pooled estimator learned: it is damaged")
        return []

    def interval(self, reading: Reading, level: float) -> tuple[FloatArray, FloatArray]:
        """Jeffreys' interval on n_eff where the value lies in [0, 1]; elsewhere normal.

        Covers the smoothed target, the mean of the past values as the kernel weighs them.
        """
        estimate = reading.estimate
        value, n = np.asarray(estimate.value), np.asarray(estimate.n_eff)
        tail = (1.0 - level) / 2.0
        unit = estimate.defined & (value >= 0.0) & (value <= 1.0)
        p = np.where(unit, value, 0.5)
        a, b = n * p + 0.5, n * (1.0 - p) + 0.5
        half = ndtri(1.0 - tail) * np.sqrt(np.asarray(estimate.variance))
        low = np.where(unit, np.where(p > 0, betaincinv(a, b, tail), 0.0), value - half)
        high = np.where(unit, np.where(p < 1, betaincinv(a, b, 1.0 - tail), 1.0), value + half)
        return low, high

    def pieces(self, reading: Reading, sample: Sample, at: int) -> dict[str, Any]:
        """The kernel's weights, as shares."""
        lag = at - sample.step
        inside = (lag >= 0) & (lag <= self.kernel.reach(reading.width)[0])
        weight = np.where(inside, self.kernel.profile(lag / reading.width[0]), 0.0) * sample.n
        return {"weights": weight / weight.sum() if weight.any() else weight}

    def retention(self, step: int, late: int) -> Retention:
        """That of the bandwidth."""
        return self.bandwidth.retention(step, self.kernel, late)

    def config(self, state: Mapping[str, AnyArray]) -> dict[str, Any]:
        """Bandwidth and kernel."""
        return {
            "bandwidth": [type(self.bandwidth).__name__, asdict(self.bandwidth)],  # type: ignore[call-overload]
            "kernel": repr(self.kernel),
        }
