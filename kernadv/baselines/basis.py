"""Offline values, rescaled at each step to the rewards of the other traces of the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kernadv._errors import ArgumentError, check_positive
from kernadv.baselines._base import NOTHING, LinearBaseline, LinearValues, SideInformation, per_step
from kernadv.baselines.offline import soft_value
from kernadv.groups import Groups
from kernadv.typing import FloatArray, IntArray


class Basis(LinearBaseline):
    """``V_i = sum_{j != i} w_ij r_j`` over the traces of the step, with

    ``w_ij = (v_i v_j / s_j^2) / sum_{k != i} v_k^2 / s_k^2``,    s^2 = v (1 - v),

    v the offline value ``beta log mean exp(r / beta)``: v_i times the weighted least-squares slope of the other rewards on
    their v.  Where v is 0 or 1 the value is 0, as published: with 8 offline rollouts that is more than a quarter of the
    visits of the simulated runs, and most of the method's error there.  How many the paper has could not be found.

    Parameters
    ----------
    betas : sequence of float
        The step's beta is the one with the smallest squared error on the step's own rewards, as published (its grid is not):
        the own reward enters, if only by this choice.  A single beta leaves no choice.
    smooth : bool
        Own form: take the offline rewards with half a right and half a wrong one more, so that no prompt falls out.

    Raises
    ------
    ArgumentError
        If betas is empty or holds a number that is not positive.

    References
    ----------
    BASIS, arXiv 2605.27293; read second hand.

    Examples
    --------
    >>> import math
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.basis import Basis
    >>> online = Basis((math.inf,)).online(Offline({"a": 6.0, "b": 2.0, "c": 4.0}, rollouts=8))
    >>> # "a" and "b" get half of their offline means, 0.75 and 0.25: of "c" half of 0.5 is expected
    >>> online.values(["a", "b", "c"], [0.375, 0.125, 1.0], step=1).value[2:].round(2)
    array([0.25])
    """

    offline_rollouts = 8

    def __init__(self, betas: Sequence[float] = (0.25, 0.5, 1.0, 2.0, math.inf), smooth: bool = False) -> None:
        if not isinstance(betas, (Sequence, np.ndarray)) or isinstance(betas, str) or not len(betas):
            raise ArgumentError(f"betas must be a list of one beta or more, e.g. (0.5, 1.0), got {betas!r}")
        self.betas = tuple(check_positive(b, "beta", "inf stands for the plain mean", allow_inf=True) for b in betas)
        self.uses_own_reward = len(self.betas) > 1
        self.smooth = smooth
        rates = "smoothed offline values" if smooth else "offline values"
        self.name = "basis" + ("_smooth" if smooth else "")
        self.title = f"rescaled {rates} (BASIS), own reward"
        if not self.uses_own_reward:
            beta = self.betas[0]
            self.name += "_loo" + (f" beta={beta:g}" if beta < math.inf else "")
            self.title = f"rescaled {rates} (BASIS), beta={beta:g}, leave-one-out"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Rescale each step's offline values."""
        mean, rollouts = self.offline_mean(groups, side)
        if self.smooth:
            mean = (rollouts * mean + 0.5) / (rollouts + 1.0)
        tick, _, _ = per_step(groups)
        found = [self._fit(soft_value(mean, beta), groups, tick) for beta in self.betas]
        loss = np.stack([np.bincount(tick, values.squared_error(groups)) for values in found])
        best = np.argmin(loss, axis=0)[tick]
        rows = np.arange(len(tick))
        return LinearValues(*(np.stack(part)[best, rows] for part in zip(*found, strict=True)))

    @staticmethod
    def _fit(v: FloatArray, groups: Groups, tick: IntArray) -> LinearValues:
        active = (v > 1e-9) & (v < 1.0 - 1e-9)
        x = np.where(active, 1.0 / np.where(active, 1.0 - v, 1.0), 0.0)  # v / s^2
        weight = x * v
        below = np.bincount(tick, groups.n * weight)[tick] - weight  # without the own trace
        slope = np.where(below > 1e-12, v / np.where(below > 1e-12, below, 1.0), 0.0) * active
        rest = np.bincount(tick, groups.s * x)[tick] - groups.s * x
        return LinearValues(slope * rest, slope * x, np.zeros(len(v)))


class TiltedOffline(LinearBaseline):
    """Smoothed offline pass rates, tilted: ``V_i = sigmoid(logit p_i + c)``, p = (S0 + 1/2) / (n0 + 1).

    c is the maximum-likelihood tilt of the step's rewards of the other prompts, found on a grid and refined by a parabola.
    A stable form of BASIS for 0/1 rewards: it never leaves (0, 1), and pass rates of 0 and 1 do not fall out.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.basis import TiltedOffline
    >>> online = TiltedOffline().online(Offline({"a": 6.0, "b": 2.0}, rollouts=8))
    >>> online.values(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 0.0], step=1).value.round(2)  # "b" does better
    array([0.87, 0.87, 0.13, 0.13])
    """

    name = "basis_tilt"
    title = "tilted offline pass rates (after BASIS)"
    offline_rollouts = 8
    #: Tilts tried, in logits.
    tilts = np.arange(-6.0, 9.1, 0.5)

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Tilt each step's pass rates; without other prompts they stay as they are."""
        mean, rollouts = self.offline_mean(groups, side)
        right = rollouts * mean
        logit = np.log((right + 0.5) / (rollouts - right + 0.5))
        levels, code = np.unique(logit, return_inverse=True)
        soft = np.logaddexp(0.0, levels[:, None] + self.tilts)[code]  # (N, C)
        loss = groups.n[:, None] * soft - groups.s[:, None] * self.tilts
        tick, _, _ = per_step(groups)
        order = np.argsort(tick, kind="stable")
        start = np.searchsorted(tick[order], np.arange(tick.max(initial=-1) + 1))
        loss = np.add.reduceat(loss[order], start, axis=0)[tick] - loss
        best = np.clip(np.argmin(loss, axis=1), 1, len(self.tilts) - 2)
        left, middle, right = (loss[np.arange(len(best)), best + k] for k in (-1, 0, 1))
        bend = left - 2.0 * middle + right
        shift = np.where(bend > 1e-12, 0.5 * (left - right) / np.where(bend > 1e-12, bend, 1.0), 0.0)
        alone = np.bincount(tick)[tick] == 1
        tilt = self.tilts[best] + (self.tilts[1] - self.tilts[0]) * np.clip(shift, -1.0, 1.0)
        zero = np.zeros(len(tilt))
        return LinearValues(1.0 / (1.0 + np.exp(-(logit + np.where(alone, 0.0, tilt)))), zero, zero)


BASELINES = (Basis(), Basis((math.inf,)), Basis(smooth=True), Basis((math.inf,), smooth=True), TiltedOffline())

_BETAS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
TUNED = {
    "basis_loo": tuple(Basis((beta,)) for beta in _BETAS),
    "basis_smooth_loo": tuple(Basis((beta,), smooth=True) for beta in _BETAS),
}
