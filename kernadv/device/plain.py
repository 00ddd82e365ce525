"""The plain rule on a device."""

from __future__ import annotations

import numpy as np
import torch

from kernadv.clock import Retention, Visits
from kernadv.device.rows import smooth_rows
from kernadv.device.rule import Answer, Asked, DeviceRule
from kernadv.estimator._plain import Plain
from kernadv.moments import Windows, ops
from kernadv.smoothers import Estimate


class DevicePlain(DeviceRule):
    """Moments, solution and the groups' sums by fused kernels; nothing is learned beside the history."""

    def __init__(self, rule: Plain) -> None:
        self._rule = rule

    def read(self, asked: Asked) -> Answer:
        """Values of the rows."""
        batch, windows = asked.batch, self._windows(asked)
        past = ops.trusted_moments(asked.sample, windows, self._rule.kernel, "float64").reshape(9, -1)
        made = smooth_rows(past, batch.z, batch.begin, batch.end, self._rule.smoother)
        estimate = Estimate(made[0], made[1], made[2], made[2] > 0.0)
        return Answer(estimate, made[3:6], made[6:], windows.width, None)

    def learn(self, asked: Asked, answer: Answer) -> None:
        """Nothing is learned beside the history."""

    def settle(self) -> None:
        """Nothing was learned."""

    def keep(self, newest: int, allow_late: bool | int) -> Retention:
        """That of the bandwidth."""
        return self._rule.keep(newest, allow_late)

    def _windows(self, asked: Asked) -> Windows:
        """The window of each place."""
        bandwidth, kernel, clock = self._rule.bandwidth, self._rule.kernel, np.array(asked.clock)
        if isinstance(bandwidth, Visits):
            lag = asked.held.visit_lag(asked.row, asked.at, bandwidth.k).clamp(min=bandwidth.floor)
            return Windows(asked.at, lag[:, None], kernel.reach(lag, torch)[:, None])
        width = bandwidth.half_width(clock, lambda k: np.empty(0))
        return Windows(asked.at, asked.of_steps(width), asked.of_steps(kernel.reach(width)))
