"""Which prompts to visit next, by what the estimator predicts of them: dead groups, signal, and what is neglected.

    python -m benchmarks.curriculum [--seeds 16]

Values follow their paths whatever is visited: nothing here says how a policy trains.  Writes results/curriculum.md, in
half a minute a seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from benchmarks import RESULTS
from kernadv import KernelValueEstimator
from kernadv.estimator import Prediction
from kernadv.simulation import PROCESSES
from kernadv.typing import FloatArray, IntArray

PROMPTS, BATCH, GROUP, STEPS = 512, 32, 8, 200
#: Steps before which nothing is counted.
FIRST = 50
SCENARIOS = ("random_walk", "rare")


def choose(interest: FloatArray, batch: int, rng: np.random.Generator, uniform: float = 0.25) -> IntArray:
    """Draw distinct prompts: a share of the weight for all alike, the rest by interest; NaN: nothing is known yet.

    Parameters
    ----------
    interest : (P,)
        Not negative, e.g. v (1 - v) of predicted values v between 0 and 1.
    batch : int
    rng : numpy Generator
    uniform : float
        From 0 to 1.

    Returns
    -------
    (batch,) int64
        Places of the prompts.
    """
    weight = np.where(np.isnan(interest), 1.0, interest) + 1e-9
    share = uniform / len(weight) + (1.0 - uniform) * weight / weight.sum()
    return rng.choice(len(weight), batch, replace=False, p=share)


def spread(v: FloatArray) -> FloatArray:
    """Variance of a 0/1 reward with the value v."""
    v = np.clip(v, 0.0, 1.0)
    return v * (1.0 - v)


#: Title -> interest of prompts, from what is predicted and their true values; and the share of the weight for all alike.
SAMPLERS: dict[str, tuple[Callable[[Prediction, FloatArray], FloatArray], float]] = {
    "all alike": (lambda seen, v: np.ones(len(v)), 1.0),
    "1 - dead(G), 1/4 alike": (lambda seen, v: 1.0 - seen.dead(GROUP), 0.25),
    "1 - dead(G)": (lambda seen, v: 1.0 - seen.dead(GROUP), 0.0),
    "v (1 - v), 1/4 alike": (lambda seen, v: spread(seen.value), 0.25),
    "v (1 - v)": (lambda seen, v: spread(seen.value), 0.0),
    "true V (1 - V)": (lambda seen, v: spread(v), 0.0),
}


class Outcome(NamedTuple):
    """One run, after `FIRST` steps.

    Attributes
    ----------
    dead : float
        Share of the groups whose rewards are all equal.
    signal : float
        Mean V (1 - V) of the visited prompts.
    neglected : float
        Share of all prompts that were not visited.
    crowded : float
        Share of the visits that went to the tenth of the prompts visited most.
    error : float
        Mean squared error of the values predicted of all prompts.
    ahead : float
        Mean reward of the visited prompts, minus the mean value of all.
    """

    dead: float
    signal: float
    neglected: float
    crowded: float
    error: float
    ahead: float


def simulated(process: str, sampler: str, seed: int) -> Outcome:
    """Visit prompts for `STEPS` steps."""
    law, (interest, uniform) = PROCESSES[process], SAMPLERS[sampler]
    prompt, step = np.repeat(np.arange(PROMPTS), STEPS), np.tile(np.arange(1, STEPS + 1), PROMPTS)
    path = law.values(prompt, step, PROMPTS, STEPS, seed).reshape(PROMPTS, STEPS)
    est, rng, every = KernelValueEstimator(), np.random.default_rng((seed, 1)), np.arange(PROMPTS)
    visits, found = np.zeros(PROMPTS), []
    for at in range(1, STEPS + 1):
        v = path[:, at - 1]
        seen = est.predict(every, at)
        chosen = choose(interest(seen, v), BATCH, rng, uniform)
        rewards = law.draw(rng, np.repeat(v[chosen], GROUP))
        est.advantages(np.repeat(chosen, GROUP), rewards, at)
        if at > FIRST:
            right = rewards.reshape(BATCH, GROUP).sum(1)
            visits[chosen] += 1
            found.append((((right == 0) | (right == GROUP)).mean(), (v[chosen] * (1 - v[chosen])).mean(),
                          ((seen.value - v) ** 2).mean(), rewards.mean() - v.mean()))  # fmt: skip
    dead, signal, error, ahead = np.mean(found, axis=0)
    crowded = np.sort(visits)[-PROMPTS // 10 :].sum() / visits.sum()
    return Outcome(dead, signal, (visits == 0).mean(), crowded, error, ahead)


def markdown(outcomes: dict[tuple[str, str], list[Outcome]], seeds: int) -> str:
    """The table: means over the runs, with 95% intervals of the differences to visiting all alike on the same paths."""
    lines = [
        f"{PROMPTS} prompts, {BATCH} a step with {GROUP} traces each, steps {FIRST + 1} to {STEPS}, means over {seeds} "
        "runs; 0/1 rewards; true values follow their paths whatever is visited. ±: half a 95% interval of the difference to "
        "all alike, over paired runs. Signal: mean V (1 - V) of the visited prompts. Not visited: share of the prompts. Top "
        "tenth: share of the visits that went to the tenth of the prompts visited most. MSE: of the values predicted of all "
        "prompts. Reward ahead: mean reward of the visited prompts minus the mean value of all.",
        "",
        "| values | visited by | dead groups | signal | not visited | top tenth | MSE x 1000 | reward ahead |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (process, sampler), runs in outcomes.items():
        found, alike = np.array(runs), np.array(outcomes[process, "all alike"])
        mean = Outcome(*found.mean(0))
        half = Outcome(*student.ppf(0.975, seeds - 1) * (found - alike).std(0, ddof=1) / np.sqrt(seeds))
        base = sampler == "all alike"
        dead, signal, error = (
            f"{scale * getattr(mean, name):.{digits}f}"
            + ("" if base else f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{scale * getattr(half, name):.{digits}f}")
            for name, scale, digits in (("dead", 1, 2), ("signal", 1, 3), ("error", 1000, 1))
        )
        lines.append(
            f"| {process if base else ''} | {sampler} | {dead} | {signal} | "
            f"{mean.neglected:.0%} | {mean.crowded:.0%} | {error} | {mean.ahead:+.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16, help="at least 2")
    options = parser.parse_args()
    cells = product(SCENARIOS, SAMPLERS)
    outcomes = {cell: [simulated(*cell, seed) for seed in range(options.seeds)] for cell in cells}
    (RESULTS / "curriculum.md").write_text(markdown(outcomes, options.seeds))


if __name__ == "__main__":
    main()
