"""Interruptions by a timer: a real signal at a random moment, whose handler raises.

Large batches, so that most signals fall into numpy and the compiled loops, after which the handler runs.
"""

from __future__ import annotations

import copy
import functools
import signal
import time
from types import FrameType

import numpy as np

from benchmarks.attacks._estimators import CONFIGURATIONS, Configuration, changed, same, warm_up
from benchmarks.attacks._row import Part, Row

__all__ = ["KIND", "parts", "warm_up"]

KIND = "timers"
NAMES = ("plain", "default", "weighted", "capped plain", "forgetting")
ROWS, PROMPTS = 8192, range(4000)
#: Steps after which an estimator starts anew.
STEPS = 30


class Stop(BaseException):
    """Raised by the handler."""


def parts(short: bool, seed: int) -> list[Part]:
    """One part for each configuration."""
    return [functools.partial(interrupted, name, 4 if short else 100, seed) for name in NAMES]


def interrupted(name: str, hits: int, seed: int, configuration: Configuration | None = None) -> Row:
    """Interrupt `advantages` until a signal has hit it `hits` times; a second estimator runs beside it, in peace."""
    row = Row(KIND, f"a timer's handler raised inside `advantages` of {ROWS:,} rows")
    how = configuration or CONFIGURATIONS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    armed = False

    def handler(number: int, frame: FrameType | None) -> None:
        if armed:
            raise Stop

    earlier = signal.signal(signal.SIGALRM, handler)
    try:
        step, took = STEPS, 0.005
        while row.count < hits:
            if step == STEPS:
                step, attacked, peaceful = 0, how.make(), how.make()
            step += 1
            batch, options = how.batch(seed, step, PROMPTS, ROWS)
            before = peaceful.state_dict()
            begun = time.perf_counter()
            expected = peaceful.advantages(*batch, **options)
            took = 0.7 * took + 0.3 * (time.perf_counter() - begun)
            got = None
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, max(1e-5, rng.random() * took * 1.1))
                got = attacked.advantages(*batch, **options)
                armed = False
            except Stop:
                armed = False
                row.count += 1
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            wrong = None
            try:
                state = attacked.state_dict()
                after = peaceful.state_dict()
                if got is None and same(state, before):
                    got = attacked.advantages(*batch, **options)
                    state = attacked.state_dict()
                if not same(state, after):
                    wrong = f"state in between: {changed(state, before)} differ from before"
                elif got is not None and not np.array_equal(got, expected):
                    wrong = "advantages differ from an uninterrupted run's"
            except Exception as raised:
                wrong = f"{type(raised).__name__}: {str(raised)[:80]}"
            if wrong:
                row.fail(f"{name}: {wrong}")
                attacked = copy.deepcopy(peaceful)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, earlier)
    return row
