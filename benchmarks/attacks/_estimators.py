"""Estimators of every kind, and batches for them: through their public calls only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kernadv import ComponentValueEstimator, KernelValueEstimator, Relative, Steps, Visits

#: Prompts 0 .. PROMPTS - 1 have features.
PROMPTS = 90
FEATURES = {k: [k / PROMPTS, float(k % 3)] for k in range(PROMPTS)}

State = dict[str, np.ndarray]
Estimator = KernelValueEstimator | ComponentValueEstimator


class Batch(NamedTuple):
    """The arguments of `advantages`, but for the weights."""

    ids: list[int]
    rewards: np.ndarray
    step: Any


class Configuration(NamedTuple):
    """How to make an estimator, and what its batches look like."""

    make: Callable[[], Estimator]
    weighted: bool = False
    late: bool = False
    components: int = 0

    def batch(self, seed: int, step: int, prompts: range = range(60), rows: int = 40) -> tuple[Batch, dict[str, Any]]:
        """A batch that follows from `seed` and `step`, as positional and keyword arguments."""
        rng = np.random.default_rng([seed, step])
        ids = rng.choice(np.asarray(prompts), rows).tolist()
        shape = (rows, self.components) if self.components else rows
        rewards = (rng.random(shape) < 0.4).astype(np.float64)
        at = np.maximum(step - rng.integers(0, 3, rows), 1).tolist() if self.late else step
        return Batch(ids, rewards, at), {"weights": rng.random(rows) + 0.05} if self.weighted else {}

    def trained(self, seed: int, steps: int = 8, prompts: range = range(60), rows: int = 40) -> Estimator:
        """An estimator after some steps."""
        estimator = self.make()
        for step in range(1, steps + 1):
            arguments, options = self.batch(seed, step, prompts, rows)
            estimator.observe(*arguments, **options)
        return estimator


CONFIGURATIONS: dict[str, Configuration] = {
    "plain": Configuration(lambda: KernelValueEstimator(Steps(300.0), "uniform")),
    "kae": Configuration(lambda: KernelValueEstimator.kae()),
    "local linear": Configuration(lambda: KernelValueEstimator(Visits(6), smoother="local_linear")),
    "default": Configuration(lambda: KernelValueEstimator()),
    "weighted": Configuration(lambda: KernelValueEstimator(weighted=True), weighted=True),
    "features": Configuration(lambda: KernelValueEstimator(features=FEATURES)),
    "capped": Configuration(lambda: KernelValueEstimator(max_visits=4, max_total=150)),
    "capped plain": Configuration(lambda: KernelValueEstimator(Relative(0.5), max_visits=3, max_total=120)),
    "late": Configuration(lambda: KernelValueEstimator(allow_late=True), late=True),
    "forgetting": Configuration(lambda: KernelValueEstimator(Steps(4.0), allow_late=3), late=True),
    "components": Configuration(lambda: ComponentValueEstimator(2), components=2),
}


def warm_up() -> None:
    """Import and compile what the estimators need, so that processes forked from this one start with it."""
    for configuration in CONFIGURATIONS.values():
        batch, options = configuration.batch(0, 9)
        configuration.trained(0).advantages(*batch, **options)


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two states hold the same arrays, bit for bit."""
    return a.keys() == b.keys() and all(
        (x := np.asarray(a[name])).dtype == (y := np.asarray(b[name])).dtype
        and x.shape == y.shape
        and x.tobytes() == y.tobytes()
        for name in a
    )


def changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """The first arrays that differ, in words."""
    names = [n for n in {**a, **b} if n not in a or n not in b or not same({n: a[n]}, {n: b[n]})]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
