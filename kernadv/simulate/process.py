"""How the values of the prompts move."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from kernadv._errors import check_range
from kernadv._typing import FloatArray, IntArray

#: Cosines a smooth path is the sum of.
HARMONICS = 12


@dataclass(frozen=True)
class Process:
    """How the values of the prompts move; all levels in logits, all times in steps.

    Parameters
    ----------
    start, rise : float
        Mean logit at step 0, and how much it has risen in the end.
    spread, spread_rise : float
        Standard deviation of the logits over prompts at step 0, and its rise.
    time_constant : float
        Time constant of both rises.
    wiggle, wiggle_length : float
        Standard deviation and length scale of every prompt's own smooth path (squared exponential covariance).
    walk : float
        Standard deviation of the steps of every prompt's own random walk.
    jump : float
        Added to all logits from the middle of the run on.
    forgetting, decline : float
        Share of the prompts that are forgotten: their logits fall linearly, by `decline` over the run.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a parameter is not a finite number in its range.
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

    def __post_init__(self) -> None:
        for field in fields(self):
            signed = field.name in ("start", "rise", "jump", "decline")
            positive = field.name in ("time_constant", "wiggle_length")
            check_range(
                getattr(self, field.name),
                field.name,
                -np.inf if signed else 1e-3 if positive else 0.0,
                1.0 if field.name == "forgetting" else np.inf,
            )

    def logits(self, prompt: IntArray, step: IntArray, prompts: int, steps: int, seed: int) -> FloatArray:
        """Logit of the value of each (prompt, step); step 0 is the policy before training.

        Parameters
        ----------
        prompt, step : (N,) int64
        prompts, steps : int
            Number of prompts, and of steps of the run.
        seed : int
            The same seed gives the same paths, whichever points of them are asked for.
        """
        rng = np.random.default_rng([seed, 0])
        grown = 1.0 - np.exp(-step / self.time_constant)
        logit = rng.normal(size=prompts)[prompt] * (self.spread + self.spread_rise * grown)
        logit += self.start + self.rise * grown
        forgotten = rng.random(prompts) < self.forgetting
        logit -= forgotten[prompt] * self.decline * step / steps
        logit += self.jump * (step > steps // 2)
        if self.wiggle:
            frequency = rng.normal(size=(prompts, HARMONICS)) / self.wiggle_length
            phase = rng.uniform(0.0, 2.0 * np.pi, (prompts, HARMONICS))
            waves = np.cos(frequency[prompt] * step[:, None] + phase[prompt]).sum(1)
            logit += self.wiggle * np.sqrt(2.0 / HARMONICS) * waves
        if self.walk:
            path = np.zeros((prompts, steps + 1))
            np.cumsum(rng.normal(0.0, self.walk, (prompts, steps)), axis=1, out=path[:, 1:])
            logit += path[prompt, step]
        return np.asarray(logit)


_CALIBRATED = Process(rise=4.2, spread_rise=3.2, wiggle=0.5)

#: Reward processes by name.  `calib` follows the value errors printed in Table 1 of arXiv 2604.28005 (mean V(1-V) from .14
#: to .04), `fast` rises in 25 steps, `flat` does not move; `jump`, `forget` are `calib` with a fall of all logits in
#: mid-run, and with a fifth of the prompts forgotten; in `random_walk` every prompt goes its own way.
PROCESSES: dict[str, Process] = {
    "calib": _CALIBRATED,
    "fast": Process(start=-1.0, rise=6.0, spread_rise=2.2, time_constant=25.0, wiggle=0.5),
    "flat": Process(),
    "jump": Process(rise=4.2, spread_rise=3.2, wiggle=0.5, jump=-2.5),
    "forget": Process(rise=4.2, spread_rise=3.2, wiggle=0.5, forgetting=0.2, decline=8.0),
    "random_walk": Process(walk=0.2),
}
