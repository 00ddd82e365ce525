"""What the pooled pieces share: their inputs, and state that is a few small arrays.

Each piece is useful alone: it predicts from the past and learns from a batch after the batch was predicted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernadv._errors import CheckpointError
from kernadv._typing import AnyArray, BoolArray, FloatArray, IntArray
from kernadv.groups import Groups
from kernadv.moments import Moments
from kernadv.smoothers.nadaraya_watson import UNDERFLOW


class Windowed(NamedTuple):
    """The past of B groups under H windows; steps count from the query, so `d` is minus the lag.

    Attributes
    ----------
    value : (B, H) float64
        Nadaraya-Watson, NaN where the window is empty.
    n_eff : (B, H) float64
        Kish's effective number of rollouts; 0 where the window is empty.
    centre : (B, H) float64
        Weighted mean of d.
    sxx, sxy : (B, H) float64
        Weighted sums of squares and products of d and the reward about their means; 0 where they are not known.
    defined : (B, H) bool
    bottom : (B, H) float64
        Sum of the weights: the kernel's times the traces' own.
    moments : Moments
    """

    value: FloatArray
    n_eff: FloatArray
    centre: FloatArray
    sxx: FloatArray
    sxy: FloatArray
    defined: BoolArray
    bottom: FloatArray
    moments: Moments

    @staticmethod
    def of(m: Moments) -> Windowed:
        """From the moments of rewards of equal weight."""
        defined = m.s0 > UNDERFLOW
        s0 = np.where(defined, m.s0, 1.0)
        centre = np.where(defined, m.s1 / s0, 0.0)
        sxx = np.where(defined, np.maximum(m.s2 - m.s1 * centre, 0.0), 0.0)
        sxy = np.where(defined, m.t1 - m.t0 * centre, 0.0)
        value = _ratio(m.t0, s0, defined)
        return Windowed(value, _kish(m.s0, m.q0, defined), centre, sxx, sxy, defined, m.s0, m)

    @staticmethod
    def of_weighted(m: Moments) -> Windowed:
        """From moments whose ``s`` are sums of weight x reward, and ``ss`` sums of weights: the weighted value."""
        defined = (m.s0 > UNDERFLOW) & (m.r0 > 0)
        none = np.zeros_like(m.s0)
        value = _ratio(m.t0, np.where(defined, m.r0, 1.0), defined)
        return Windowed(value, _kish(m.s0, m.q0, defined), none, none, none, defined, m.r0, m)

    def moved(self, origin: float, factor: float) -> Windowed:
        """With ``(z - origin) factor`` for each reward z."""
        if factor == 1.0 and not origin:
            return self
        moments = self.moments._replace(t0=(self.moments.t0 - origin * self.bottom) * factor)
        return self._replace(value=(self.value - origin) * factor, sxy=self.sxy * factor, moments=moments)

    def take(self, rows: AnyArray) -> Windowed:
        """The groups of an index array or mask."""
        if everything(rows):
            return self
        moments = Moments(*(part[rows] for part in self.moments))
        parts: dict[str, Any] = {name: part[rows] for name, part in self._asdict().items() if name != "moments"}
        return Windowed(**parts, moments=moments)


class Batched(NamedTuple):
    """The rewards of B groups, each with the weights w of its traces; w = 1 for the plain value.

    Attributes
    ----------
    prompt : (B,) int64
        Index of the group's prompt.
    n : (B,) float64
        Number of traces.
    w, wz : (B,) float64
        Sums of w and of w z.
    ww, wwz, wwzz : (B,) float64
        Sums of w^2, w^2 z and w^2 z^2.
    """

    prompt: IntArray
    n: FloatArray
    w: FloatArray
    wz: FloatArray
    ww: FloatArray
    wwz: FloatArray
    wwzz: FloatArray

    @staticmethod
    def of(groups: Groups) -> Batched:
        """Traces of weight 1."""
        n = groups.n.astype(np.float64)
        return Batched(groups.prompt, n, n, groups.s, n, groups.s, groups.ss)

    def moved(self, origin: float, factor: float) -> Batched:
        """With ``(z - origin) factor`` for each reward z."""
        if factor == 1.0 and not origin:
            return self
        wwzz = self.wwzz - origin * (2.0 * self.wwz - origin * self.ww)
        return self._replace(
            wz=(self.wz - origin * self.w) * factor,
            wwz=(self.wwz - origin * self.ww) * factor,
            wwzz=np.maximum(wwzz, 0.0) * factor * factor,
        )

    def take(self, rows: AnyArray) -> Batched:
        """The groups of an index array or mask."""
        if everything(rows):
            return self
        parts: dict[str, Any] = {name: part[rows] for name, part in self._asdict().items()}
        return Batched(**parts)

    @property
    def mean(self) -> FloatArray:
        """Weighted mean reward of each group; 0 without weight.  # (B,)"""
        return np.asarray(np.where(self.w > 0, self.wz / np.where(self.w > 0, self.w, 1.0), 0.0))

    def squares(self, value: FloatArray) -> FloatArray:
        """Sum over the traces of ``w^2 (z - value)^2``.  # (B,)"""
        return np.asarray(np.maximum(self.wwzz - 2.0 * value * self.wwz + value * value * self.ww, 0.0))


class Scale(NamedTuple):
    """The range of the rewards seen, and how a reward's variance depends on its mean.

    The variance is modelled as ``ratio (mean - low) (high - mean)``, exact with ratio 1 for rewards of two values.
    """

    low: float
    high: float
    ratio: float

    def variance(self, mean: FloatArray) -> FloatArray:
        """Variance of a reward of that mean, at least a fiftieth of its largest.  # as mean"""
        span = self.high - self.low
        inside = (np.clip(mean, self.low, self.high) - self.low) * (self.high - np.clip(mean, self.low, self.high))
        return np.asarray(self.ratio * np.maximum(inside, 0.08 * 0.25 * span * span))

    def share(self, value: FloatArray) -> FloatArray:
        """Place in the range, which must not be empty: 0 at its low end, 1 at its high one.  # as value"""
        return np.asarray((value - self.low) / (self.high - self.low))

    def clip(self, value: FloatArray) -> FloatArray:
        """Moved into the range of the rewards."""
        return np.asarray(np.clip(value, self.low, self.high))


class Pooled:
    """A piece whose state is the float arrays named in `STATE`."""

    STATE: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, AnyArray]:
        """Copies of the state's arrays."""
        return {name: np.array(getattr(self, name), np.float64) for name in self.STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the state; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            If an array is missing, has another shape or is not finite.
        """
        fresh = {}
        for name in self.STATE:
            have = np.asarray(getattr(self, name))
            array = np.asarray(state.get(name, np.nan))
            if array.dtype.kind not in "iuf" or array.shape != have.shape or not np.isfinite(array).all():
                raise CheckpointError(
                    f"{name} of the pooled state must be {have.shape} finite numbers, got an array of {array.shape}: "
                    "it is damaged, or saved under other windows"
                )
            fresh[name] = array.astype(np.float64)
        self.__dict__.update(fresh)


def everything(rows: AnyArray) -> bool:
    """Whether a mask takes all rows, so that nothing need be copied."""
    return bool(rows.dtype == bool and rows.all())


def sum_of_others(prompt: IntArray, x: FloatArray) -> FloatArray:
    """Sum of x over the groups of the other prompts; the own ones never enter, not even in rounding.  # (B,)"""
    size = int(prompt.max()) + 1 if len(prompt) else 0
    total = np.bincount(prompt, x, size)
    before = np.concatenate([[0.0], np.cumsum(total[:-1])])
    after = np.concatenate([np.cumsum(total[:0:-1])[::-1], [0.0]])
    return np.asarray((before + after)[prompt])


def _ratio(top: AnyArray, bottom: AnyArray, defined: BoolArray) -> FloatArray:
    return np.asarray(np.where(defined, top / bottom, np.nan))


def _kish(s0: AnyArray, q0: AnyArray, defined: BoolArray) -> FloatArray:
    return np.asarray(np.where(defined, s0 * s0 / np.where(defined, q0, 1.0), 0.0))
