"""How the values of the prompts move."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import betaincinv, expit, logit, ndtr

from kernadv._errors import check_count, check_flag, check_range
from kernadv.typing import FloatArray, IntArray

#: Number of cosines whose sum is a smooth path.
HARMONICS = 12


@dataclass(frozen=True)
class Process:
    """How the values of the prompts move; all levels in logits, all times in steps.

    Parameters
    ----------
    start, rise : float
        Mean logit at step 0, and its rise in the long run.
    spread, spread_rise : float
        Standard deviation of the logits over prompts at step 0, and its rise.
    time_constant : float
        Time constant of both rises.
    wiggle, wiggle_length : float
        Standard deviation and length scale of each prompt's own smooth path (squared exponential covariance).
    walk : float
        Standard deviation of the steps of each prompt's own random walk.
    jump : float
        Added to all logits from the middle of the run on.
    forgetting, decline : float
        Share of the prompts that are forgotten, and how far their logits fall, linearly over the run.
    level_shape : float
        The levels a are logits of draws from Beta(level_shape, level_shape); 0: standard normal.
    leap, leap_rate : float
        Standard deviation of the leaps of single prompts, and the probability of a leap at each step.
    season, season_length, season_phases : float
        Amplitude and period of a sine, and the share of a period over which the phases of the prompts are spread: 0 is one
        sine for all prompts, 1 a sine of its own for each.
    clusters : int
        Prompts x with the same x mod clusters share their paths (wiggle, walk, leaps, phase) and differ only in their
        levels; 0: every prompt has its own path.
    linear : bool
        The value moves in a straight line from where the logits start to where they end.
    concentration : float
        Rewards are drawn from Beta(concentration V, concentration (1 - V)), with mean V and variance V (1 - V) / (1 +
        concentration).  With 0, the limit, they are 1 with probability V, else 0.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a parameter is not a finite number in its range, `clusters` is not a whole number, or `linear` is not a bool.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.simulation import Process
    >>> process = Process(start=0.0, walk=0.2)  # each prompt's logit is a random walk of its own
    >>> prompt, step = np.repeat(np.arange(3), 2), np.tile([0, 100], 3)
    >>> value = process.values(prompt, step, prompts=3, steps=100, seed=0)
    >>> np.allclose(value, 1 / (1 + np.exp(-process.logits(prompt, step, prompts=3, steps=100, seed=0))))
    True
    >>> process.draw(np.random.default_rng(0), value).shape, process.variance(np.array([0.5]))
    ((6,), array([0.25]))
    >>> [shape.round(2) for shape in Process(concentration=4.0).shapes(np.array([0.25]))]  # of rewards between 0 and 1
    [array([1.]), array([3.])]
    """

    start: float = 0.85
    rise: float = 0.0
    spread: float = 1.9
    spread_rise: float = 0.0
    time_constant: float = 60.0
    wiggle: float = 0.0
    wiggle_length: float = 25.0
    walk: float = 0.0
    jump: float = 0.0
    forgetting: float = 0.0
    decline: float = 0.0
    level_shape: float = 0.0
    leap: float = 0.0
    leap_rate: float = 0.0
    season: float = 0.0
    season_length: float = 50.0
    season_phases: float = 0.0
    clusters: int = 0
    linear: bool = False
    concentration: float = 0.0

    def __post_init__(self) -> None:
        check_count(self.clusters, "clusters", least=0, most=2**31 - 1)
        check_flag(self.linear, "linear")
        for field in fields(self):
            if field.name in ("clusters", "linear"):
                continue
            signed = field.name in ("start", "rise", "jump", "decline")
            positive = field.name in ("time_constant", "wiggle_length", "season_length")
            share = field.name in ("forgetting", "leap_rate", "season_phases")
            check_range(
                getattr(self, field.name),
                field.name,
                -np.inf if signed else 1e-3 if positive else 0.0,
                1.0 if share else np.inf,
            )

    def values(self, prompt: IntArray, step: IntArray, prompts: int, steps: int, seed: int) -> FloatArray:
        """Value of each (prompt, step), with the arguments of `logits`.  # (N,)"""
        if not self.linear:
            return np.asarray(expit(self.logits(prompt, step, prompts, steps, seed)))
        ends = (self.logits(prompt, np.full_like(step, end), prompts, steps, seed) for end in (0, steps))
        first, last = (expit(end) for end in ends)
        return np.asarray(first + (last - first) * step / steps)

    def logits(self, prompt: IntArray, step: IntArray, prompts: int, steps: int, seed: int) -> FloatArray:
        """Logit of the value of each (prompt, step); step 0 is the policy before training.

        Parameters
        ----------
        prompt, step : (N,) int64
        prompts, steps : int
            Number of prompts, and of steps of the run.
        seed : int
            The same seed gives the same paths, whichever of their points are requested.
        """
        rng = np.random.default_rng([seed, 0])
        grown = 1.0 - np.exp(-step / self.time_constant)
        found = self._levels(rng.normal(size=prompts))[prompt] * (self.spread + self.spread_rise * grown)
        found += self.start + self.rise * grown
        forgotten = rng.random(prompts) < self.forgetting
        found -= forgotten[prompt] * self.decline * step / steps
        found += self.jump * (step > steps // 2)
        paths, path = (self.clusters, prompt % self.clusters) if self.clusters else (prompts, prompt)
        if self.wiggle:
            frequency = rng.normal(size=(paths, HARMONICS)) / self.wiggle_length
            phase = rng.uniform(0.0, 2.0 * np.pi, (paths, HARMONICS))
            waves = np.cos(frequency[path] * step[:, None] + phase[path]).sum(1)
            found += self.wiggle * np.sqrt(2.0 / HARMONICS) * waves
        if self.walk:
            found += _walks(rng.normal(0.0, self.walk, (paths, steps)))[path, step]
        if self.leap and self.leap_rate:
            leaps = rng.random((paths, steps)) < self.leap_rate
            found += _walks(leaps * rng.normal(0.0, self.leap, (paths, steps)))[path, step]
        if self.season:
            turn = step / self.season_length + self.season_phases * rng.random(paths)[path]
            found += self.season * np.sin(2.0 * np.pi * turn)
        return np.asarray(found)

    def _levels(self, normal: FloatArray) -> FloatArray:
        """Levels a from standard normal draws, by the quantiles of their distribution."""
        if not self.level_shape:
            return normal
        low = betaincinv(self.level_shape, self.level_shape, ndtr(-np.abs(normal)))
        return np.asarray(np.copysign(logit(np.maximum(low, np.finfo(np.float64).tiny)), normal))

    def draw(self, rng: np.random.Generator, value: FloatArray) -> FloatArray:
        """A reward for each value."""
        if not self.concentration:
            return (rng.random(value.shape) < value).astype(np.float64)
        return rng.beta(*self.shapes(value))

    def shapes(self, value: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Both shapes of the Beta law of each value's rewards, kept above 0 where the value is rounded to 0 or 1."""
        least = np.finfo(np.float64).tiny
        a, b = (np.maximum(self.concentration * part, least) for part in (value, 1.0 - value))
        return a, b

    def variance(self, value: FloatArray) -> FloatArray:
        """Variance of a reward, for each value."""
        return value * (1.0 - value) / (1.0 + self.concentration)


def _walks(moves: FloatArray) -> FloatArray:
    """Sums of the moves up to each step, from 0 at step 0.  # (P, T) -> (P, T + 1)"""
    return np.pad(np.cumsum(moves, axis=1), ((0, 0), (1, 0)))


_CALIBRATED = Process(rise=4.2, spread_rise=3.2, wiggle=0.5)

#: Reward processes by name.  `calib` follows the value errors printed in Table 1 of arXiv 2604.28005 (mean V(1-V) from .14
#: to .04), `fast` rises in 25 steps, `flat` does not move; `jump` and `forget` are `calib` with a fall of all logits in
#: mid-run, and with a fifth of the prompts forgotten; in `random_walk` every prompt goes its own way.  In `leaps` prompts
#: jump on their own, 1.2 times a run on average; `u_shaped` starts at values from Beta(.4, .4); in `seasonal` all go up and
#: down together; `rare` has few right answers; in `clusters` four sets of prompts move together; `continuous` is
#: `random_walk` with rewards between 0 and 1; in `linear` values move in straight lines.
PROCESSES: dict[str, Process] = {
    "calib": _CALIBRATED,
    "fast": Process(start=-1.0, rise=6.0, spread_rise=2.2, time_constant=25.0, wiggle=0.5),
    "flat": Process(),
    "jump": Process(rise=4.2, spread_rise=3.2, wiggle=0.5, jump=-2.5),
    "forget": Process(rise=4.2, spread_rise=3.2, wiggle=0.5, forgetting=0.2, decline=8.0),
    "random_walk": Process(walk=0.2),
    "leaps": Process(leap=2.5, leap_rate=0.006),
    "u_shaped": Process(start=0.0, spread=1.0, level_shape=0.4, walk=0.1),
    "seasonal": Process(start=0.5, spread=1.5, season=1.2, season_length=60.0, walk=0.05),
    "rare": Process(start=-4.0, rise=1.0, spread=1.3, walk=0.05),
    "clusters": Process(start=0.0, spread=1.2, walk=0.2, clusters=4),
    "continuous": Process(walk=0.2, concentration=3.0),
    "linear": Process(start=0.0, walk=0.2, linear=True),
}
