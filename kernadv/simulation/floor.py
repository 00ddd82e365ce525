"""The floor of every value error: the posterior mean of the value under the law that the run was drawn from.

The value of trace g of a prompt at step t is

    V^(g) = E[ V(t) | rewards of the prompt before t, rewards of the other traces of its group at t ],

under the law of a single prompt.  Prompts that are independent given the law say nothing about each other, so no estimator
that reads only the rewards of the run, and not a trace's own one, has a smaller expected squared error.  A smaller one is
possible only in `clusters`, whose prompts share paths.  Rollouts from before training and features are not used.

A law is represented by K states with weights w and values V_k(t).  Bayes' rule runs forward over the visits,

    w_k <- w_k p(rewards of the group | V_k(t)).

Where the logit is a Markov process around a known path (levels, walks and leaps), the states are a grid of logits, the
weights are convolved with the law of the moves between the visits, and the answer is exact up to the grid.  Otherwise the
states are trajectories drawn from the process: importance sampling with the law itself as the proposal (Robert and Casella
2004, Monte Carlo Statistical Methods, section 3.3).  They come in independent sets, which show the Monte Carlo error.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import betaln, expit
from scipy.stats import binom

from kernadv._errors import ArgumentTypeError
from kernadv._jit import compiled
from kernadv.simulation.process import Process
from kernadv.simulation.run import Simulation
from kernadv.typing import FloatArray, IntArray

#: Distance of the grid in logits; it reaches over so many standard deviations, and never further than a value of 1e-11.
SPACING, REACH, LARGEST = 0.1, 6.5, 25.0
#: Independent sets of trajectories, and the trajectories of a set.
SETS, TRAJECTORIES = 4, 8192
#: Seed of the first trajectories: those of runs are smaller.
FIRST_SEED = 2**63
#: Trajectories drawn at once.
DRAWN = 512
#: Log of the largest number that is rounded to 0, and of the largest distance from 1 that is rounded to 1.
LOG_ZERO, LOG_ONE = -1075.0 * np.log(2.0), -53.0 * np.log(2.0)


class Posterior(NamedTuple):
    """Posterior means of N groups of G traces under the true law.

    Attributes
    ----------
    sets : (R, N, G) float64
        Value of each trace from each of R independent sets of trajectories; R = 1 where a grid gives it exactly.
    ess : (N,) float64
        Effective number of trajectories behind the whole group, (sum w)^2 / sum w^2 summed over the sets; inf where exact.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.simulation import Schedule, posterior, simulate
    >>> run = simulate("calib", Schedule(batch=2, stay=1, blocks=2, steps=4), group_size=2)
    >>> best = posterior(run)
    >>> best.value.shape, best.sets.shape  # of each trace, and from each of four sets of trajectories
    ((8, 2), (4, 8, 2))
    >>> bool(np.sqrt(best.variance).max() < 0.02)  # from their differences
    True
    >>> best.without(0).sets.shape
    (3, 8, 2)
    """

    sets: FloatArray
    ess: FloatArray

    @property
    def value(self) -> FloatArray:
        """Mean over the sets.  # (N, G)"""
        return np.asarray(self.sets.mean(axis=0))

    @property
    def variance(self) -> FloatArray:
        """Monte Carlo variance of `value`, from the differences of the sets; 0 where exact.  # (N, G)"""
        count = len(self.sets)
        return np.asarray(self.sets.var(axis=0, ddof=1) / count if count > 1 else np.zeros(self.sets.shape[1:]))

    def without(self, number: int) -> Posterior:
        """The answer of the other sets, or the same answer if there is only one set."""
        return self if len(self.sets) == 1 else Posterior(np.delete(self.sets, number, axis=0), self.ess)


def posterior(run: Simulation) -> Posterior:
    """Posterior mean of the value of every trace of a run.

    Raises
    ------
    ArgumentTypeError
        If it is not a simulated run.

    Examples
    --------
    >>> from kernadv.simulation import simulate
    >>> run = simulate("flat", "multi_pass", 2, seed=1)
    >>> error = posterior(run).value - run.value[:, None]
    >>> bool((error**2).mean() < 0.02)
    True
    """
    if not isinstance(run, Simulation):
        raise ArgumentTypeError(f"expected a run of kernadv.simulation.simulate, got {type(run).__name__}")
    groups, process = run.groups, run.process
    states = _states(replace(process, clusters=0, concentration=0.0), int(groups.step.max()))
    start = np.flatnonzero(np.diff(groups.prompt, prepend=-1))
    before = np.where(np.diff(groups.prompt, prepend=-1) > 0, 0, np.roll(groups.step, 1))
    gap, which = np.unique(groups.step - before, return_inverse=True)
    moves = _moves(process, gap, states.value.shape[2]) if states.markov else np.ones((len(gap), 1))
    table, terms = _likelihood(process, states.value, run.rewards)
    sets, ess = _filter(
        np.append(start, len(groups.step)),
        groups.step,
        which,
        states.value,
        states.prior,
        moves,
        table,
        terms,
        run.rewards,
    )
    return Posterior(sets, np.full(len(ess), np.inf) if states.markov else ess)


class _States(NamedTuple):
    """The states of a law: values (R, T + 1, K) of the R sets, weights (K,) before step 0, and whether they move."""

    value: FloatArray
    prior: FloatArray
    markov: bool


@lru_cache(maxsize=1)
def _states(process: Process, steps: int) -> _States:
    """States of the law of a single prompt over a run."""
    clock = np.arange(steps + 1)
    if _is_markov(process):
        still = replace(process, spread=0.0, walk=0.0, leap=0.0)
        path = still.logits(np.zeros_like(clock), clock, 1, steps, 0)
        moved = process.walk**2 * steps
        moved += process.leap**2 * (process.leap_rate * steps + 4.0 * np.sqrt(process.leap_rate * steps))
        level = 4.0 / process.level_shape if process.level_shape else 1.0
        reach = min(REACH * np.sqrt((level * process.spread) ** 2 + moved), LARGEST + np.abs(path).max())
        half = int(np.ceil(reach / SPACING))
        grid = np.asarray(SPACING * np.arange(-half, half + 1), np.float64)
        return _States(expit(path[:, None] + grid)[None], _level_weights(process, grid), True)
    value = np.empty((SETS, steps + 1, TRAJECTORIES))
    prompt, step = np.repeat(np.arange(DRAWN), steps + 1), np.tile(clock, DRAWN)
    for part in range(SETS * TRAJECTORIES // DRAWN):
        drawn = process.values(prompt, step, DRAWN, steps, FIRST_SEED + part).reshape(DRAWN, steps + 1)
        own, first = divmod(part * DRAWN, TRAJECTORIES)
        value[own, :, first : first + DRAWN] = drawn.T
    return _States(value, np.full(TRAJECTORIES, 1.0 / TRAJECTORIES), False)


def _is_markov(process: Process) -> bool:
    """Whether the logit minus a path known in advance is a Markov process."""
    own_season = process.season and process.season_phases
    return not (
        process.wiggle or (process.spread and process.spread_rise) or process.forgetting or own_season or process.linear
    )


def _level_weights(process: Process, grid: FloatArray) -> FloatArray:
    """Law of the level times its spread on the grid; with a spread far below the spacing, all weight is at 0.  # (K,)"""
    if not process.spread:
        return np.asarray(grid == 0.0, np.float64)
    level, shape = grid / process.spread, process.level_shape
    log = shape * level - 2.0 * shape * np.logaddexp(0.0, level) if shape else -0.5 * level**2
    weight = np.exp(log - log.max())
    return np.asarray(weight / weight.sum())


def _moves(process: Process, gap: IntArray, states: int) -> FloatArray:
    """Law of the move over each number of steps on the grid, from -(K - 1) to K - 1 cells at most.  # (gaps, odd width)"""
    rows = []
    for steps in gap.tolist():
        leaps = np.arange(steps + 1)
        share = binom.pmf(leaps, steps, process.leap_rate if process.leap else 0.0)
        seen = share > 1e-10
        sd = np.sqrt(process.walk**2 * steps + process.leap**2 * leaps[seen])
        rows.append(sum(p * _normal(s, states) for p, s in zip(share[seen], sd, strict=True)))
    kernel = np.stack(rows)
    cells = np.flatnonzero((kernel > 1e-14).any(axis=0))
    width = max(states - 1 - int(cells[0]), 0)
    return np.ascontiguousarray(kernel[:, states - 1 - width : states + width])


def _normal(sd: float, states: int) -> FloatArray:
    """A centred normal law on the cells -(K - 1) ... K - 1, with its variance kept.  # (2 K - 1,)"""
    cell = np.arange(1 - states, states)
    variance = (sd / SPACING) ** 2
    if variance < 0.5:
        return np.asarray(np.where(cell == 0, 1.0 - variance, np.where(np.abs(cell) == 1, 0.5 * variance, 0.0)))
    weight = np.exp(-0.5 * cell**2 / variance)
    return np.asarray(weight / weight.sum())


def _likelihood(process: Process, value: FloatArray, rewards: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The log-likelihood of a reward as a scalar product of a table over the states and terms of the reward.

    Empty where rewards are 0 or 1: powers of V and 1 - V are faster.  A reward that was rounded to 0 or 1 has the
    probability of everything that is rounded to it; for Beta(a, b) near 0 this is x^a / (a B(a, b)).

    Returns
    -------
    table : (R, T + 1, 5, K)
    terms : (N, G, 5)
    """
    if not process.concentration:
        return np.empty((1, 1, 0, 1)), np.empty((len(rewards), rewards.shape[1], 0))
    a, b = process.shapes(value)
    inside = (rewards > 0.0) & (rewards < 1.0)
    z = np.where(inside, rewards, 0.5)
    terms = np.stack([inside, inside * np.log(z), inside * np.log1p(-z), rewards <= 0.0, rewards >= 1.0], axis=-1)
    scale = -betaln(a, b)
    to_zero, to_one = (scale + c * log - np.log(c) for c, log in ((a, LOG_ZERO), (b, LOG_ONE)))
    return np.stack([scale, a - 1.0, b - 1.0, to_zero, to_one], axis=2), terms.astype(np.float64)


@compiled()
def _filter(
    start: IntArray,
    step: IntArray,
    which: IntArray,
    value: FloatArray,
    prior: FloatArray,
    moves: FloatArray,
    table: FloatArray,
    terms: FloatArray,
    rewards: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Values of all traces from each set of states, and the effective number of states behind each group.

    `start` (P + 1,) has the first group of each prompt; `which` (N,) the row of `moves` for the steps since the last visit.
    """
    sets, groups, size, states = len(value), len(step), rewards.shape[1], value.shape[2]
    found, ess = np.empty((sets, groups, size)), np.zeros(groups)
    weight, other = np.empty(states), np.empty(states)
    after = np.empty((size + 1, states))
    for own in range(sets):
        for prompt in range(len(start) - 1):
            weight[:] = prior
            for i in range(start[prompt], start[prompt + 1]):
                if moves.shape[1] > 1:
                    _move(weight, moves[which[i]], other)
                v, z = value[own, step[i]], rewards[i]
                if terms.shape[2]:
                    _observe(weight, v, table[own, step[i]], terms[i], after, other, found[own, i])
                else:
                    _count(weight, v, z, other, found[own, i])
                total, squares = 0.0, 0.0
                for k in range(states):
                    total += weight[k]
                    squares += weight[k] * weight[k]
                ess[i] += total * total / squares
                for k in range(states):
                    weight[k] /= total
    return found, ess


@compiled()
def _move(weight: FloatArray, law: FloatArray, other: FloatArray) -> None:
    """Convolve the weights, of sum 1, with the law of a move; what leaves the grid, or is lost to rounding, is dropped."""
    states, half = len(weight), len(law) // 2
    low, high = 0, states
    while weight[low] < 1e-17:
        low += 1
    while weight[high - 1] < 1e-17:
        high -= 1
    other[:] = 0.0
    for cell in range(-half, half + 1):
        share = law[half + cell]
        if share > 0.0:
            for k in range(max(0, low + cell), min(states, high + cell)):
                other[k] += share * weight[k - cell]
    weight[:] = other


@compiled()
def _count(weight: FloatArray, v: FloatArray, z: FloatArray, other: FloatArray, found: FloatArray) -> None:
    """Rewards 0 and 1: with m(s) the probability of s right answers, in order, ``V = m(s + 1) / (m(s) + m(s + 1))`` where
    s of the others are right.  Powers are taken relative to the group's mean, against underflow."""
    right = 0
    for g in range(len(z)):
        right += z[g] > 0.5
    wrong = len(z) - right
    mean = (right + 0.5) / (len(z) + 1.0)
    scale_right, scale_wrong = 1.0 / mean, 1.0 / (1.0 - mean)
    other[:] = weight
    for _ in range(right - 1):
        for k in range(len(v)):
            other[k] *= v[k] * scale_right
    for _ in range(wrong - 1):
        for k in range(len(v)):
            other[k] *= (1.0 - v[k]) * scale_wrong
    less, same, more = 0.0, 0.0, 0.0
    if right and wrong:
        for k in range(len(v)):
            a = other[k] * v[k]
            b = other[k] - a
            weight[k] = a * (1.0 - v[k])
            less += b * (1.0 - v[k])
            same += weight[k]
            more += a * v[k]
    elif right:
        for k in range(len(v)):
            weight[k] = other[k] * v[k]
            less += other[k] - weight[k]
            same += weight[k]
    else:
        for k in range(len(v)):
            weight[k] = other[k] * (1.0 - v[k])
            same += weight[k]
            more += other[k] - weight[k]
    for g in range(len(z)):
        found[g] = same / (less + same) if z[g] > 0.5 else more / (same + more)


@compiled()
def _observe(
    weight: FloatArray,
    v: FloatArray,
    table: FloatArray,
    terms: FloatArray,
    after: FloatArray,
    before: FloatArray,
    found: FloatArray,
) -> None:
    """Rewards of any law.  The others of a trace are those before it and those after it; its own reward never enters."""
    size, states = len(terms), len(v)
    after[size] = 0.0  # row g: log-likelihood of the traces from g on
    for g in range(size - 1, -1, -1):
        after[g] = after[g + 1]
        _add(after[g], table, terms[g])
    before[:] = 0.0
    for g in range(size):
        highest = _highest(weight, before, after[g + 1])
        total, mean = 0.0, 0.0
        for k in range(states):
            now = weight[k] * np.exp(before[k] + after[g + 1, k] - highest)
            total += now
            mean += now * v[k]
        found[g] = mean / total
        _add(before, table, terms[g])
    highest = _highest(weight, before, after[size])
    for k in range(states):
        weight[k] *= np.exp(before[k] - highest)


@compiled()
def _add(log: FloatArray, table: FloatArray, terms: FloatArray) -> None:
    """Add the log-likelihood of a reward."""
    for c in range(len(terms)):
        if terms[c] != 0.0:
            for k in range(len(log)):
                log[k] += terms[c] * table[c, k]


@compiled()
def _highest(weight: FloatArray, before: FloatArray, after: FloatArray) -> float:
    """Largest log-likelihood of a state with weight."""
    highest = -np.inf
    for k in range(len(weight)):
        if weight[k] > 0.0:
            highest = max(highest, before[k] + after[k])
    return highest
