"""Which runs the study of the policies has, most valuable first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.rlvr.training.setting import Setting

SEEDS = range(8)
TABLES = 4  # starts: seed s uses table s % 4
COMPARED = {
    1: ("none", "batch", "kae", "default", "weighted"),
    4: ("none", "batch", "rloo", "kae", "default", "weighted"),
}
PROMPTS = {1: 32, 4: 16, 8: 4}  # a step, by group
STEPS = {1: 80, 4: 60, 8: 80}
LONG = 240  # steps of the runs that look for a collapse at G = 1

SENSITIVITY = ("kae-0.1", "kae-1", "kae-exponential")  # beside "kae" at G = 1
BUDGET = ("none", "batch", "rloo", "kae", "default")  # at G = 8 with the rollouts a step of G = 1
FEW = range(4)  # seeds of these two

RATES = (5e-5, 1e-4, 2e-4)
TUNING = {1: 100, 4: 40}  # steps of the choice of the learning rate, by group
TUNING_SEED = 100

#: Learning rate by group: the one with the largest area under the curve in the runs of `tuning`, on average over methods.
#: (Each method's own best is the same but for one run in eleven.)  G = 8 has the traces a step of G = 1, and its rate.
CHOSEN = {1: 1e-4, 4: 2e-4, 8: 1e-4}


def tuning() -> Iterator[Setting]:
    """Every method at every learning rate, with the same small budget."""
    for group, methods in COMPARED.items():
        for method in methods:
            for rate in RATES:
                steps = TUNING[group]
                shape = {"group": group, "prompts": PROMPTS[group], "steps": steps, "every": steps // 2}
                yield Setting(method, TUNING_SEED, rate=rate, **shape)


def policies() -> Iterator[Setting]:
    """Blocks of ten steps, then epochs; all methods of a seed, then the next seed."""
    for seed in SEEDS:
        for group, methods in COMPARED.items():
            for method in methods:
                yield _setting(method, seed, group, 10)
    yield from (_setting(method, seed, 1, 1) for seed in SEEDS for method in COMPARED[1])
    yield from (_setting(method, seed, 1, 10) for seed in FEW for method in SENSITIVITY)
    yield from (_setting(method, seed, 4, 1) for seed in SEEDS for method in COMPARED[4])
    for seed in FEW[:2]:
        for method in COMPARED[1]:
            yield replace(_setting(method, seed, 1, 10), steps=LONG, every=LONG // 6)
    yield from (_setting(method, seed, 8, 10) for seed in FEW for method in BUDGET)


def _setting(method: str, seed: int, group: int, reuse: int) -> Setting:
    shape = {"table": seed % TABLES, "group": group, "prompts": PROMPTS[group], "steps": STEPS[group]}
    return Setting(method, seed, reuse=reuse, rate=CHOSEN[group], **shape)


QUEUES = {"tuning": tuning, "policies": policies}
