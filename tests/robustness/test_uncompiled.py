"""The loops as plain Python, as they are debugged; the same results as compiled."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from kernadv import KernelValueEstimator, KNeighborsSmoother, LocalLinear, NadarayaWatson, Steps

rng = np.random.default_rng(0)
for est in (KernelValueEstimator(), KernelValueEstimator(weighted=True),
            KernelValueEstimator(Steps(5), max_visits=9, max_total=40, allow_late=3)):
    for step in range(1, 25):
        ids, z, w = [f"p{k}" for k in rng.integers(0, 5, 8)], rng.random(8), rng.random(8)
        at = np.maximum(step - rng.integers(0, 3, 8), 1) if est.allow_late else step
        print(*est.advantages(ids, z, at, **({"weights": w} if est.weighted else {})))
    est.load_state_dict(est.state_dict())
    print(*est.values(ids, z, 30).value)
x = np.sort(rng.random((40, 1)), axis=0)
y = np.sin(6 * x[:, 0])
for fit in (LocalLinear("aicc"), LocalLinear(0.2, kernel="gaussian"), NadarayaWatson(0.2, kernel="exponential"),
            NadarayaWatson(0.2, kernel="triangular", side="past"), KNeighborsSmoother(5)):
    print(*fit.fit(x, y).predict(x))
print(*LocalLinear(0.5).fit(rng.random((40, 2)), y).predict(rng.random((5, 2))))
"""


def output(disabled):
    environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr
    return [float(x) for x in run.stdout.split()]


def test_loops_that_are_not_compiled():
    assert output("1") == pytest.approx(output("0"), rel=1e-9, abs=1e-12, nan_ok=True)
