"""Peak memory, each in a process of its own: ``python -m benchmarks.speed.memory NAME`` prints it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from benchmarks.speed.peak import peak
from kernadv import KernelValueEstimator, NadarayaWatson, Steps

#: Of the long history.
PROMPTS, VISITS, BATCH = 1_000_000, 20, 8192


def measured(name: str) -> list[float]:
    """What a function of `MEMORY` finds in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed.memory", name]
    found: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def cloud() -> tuple[np.ndarray, np.ndarray]:
    """10,000 points in 8 dimensions, and responses."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10**4, 8))
    return x, x[:, 0] + rng.normal(size=10**4)


def several_dimensions() -> list[float]:
    """MiB of a prediction at every point, beyond the inputs."""
    x, y = cloud()
    fitted = NadarayaWatson(bandwidth=0.4, kernel="gaussian").fit(x, y)
    fitted.predict(x[:100])
    before = peak()
    fitted.predict(x)
    return [peak() - before]


def batches() -> Iterator[tuple[list[str], np.ndarray, int]]:
    """`VISITS` passes over `PROMPTS` prompts: ids, rewards and step."""
    rng = np.random.default_rng(0)
    ids = [f"prompt-{k:08d}" for k in range(PROMPTS)]
    for visit in range(VISITS):
        z = (rng.random(PROMPTS) < 0.4).astype(float)
        for low in range(0, PROMPTS, BATCH):
            yield ids[low : low + BATCH], z[low : low + BATCH], visit + 1


def history() -> list[float]:
    """MiB of the long history, ids included, and of its arrays."""
    est = KernelValueEstimator(Steps(np.inf))
    est.observe(["warm-up"], [1.0], 1)
    before = peak()
    est = KernelValueEstimator(Steps(np.inf))
    for batch in batches():
        est.observe(*batch)
    return [peak() - before, est._state.history.nbytes / 2**20]


MEMORY = {function.__name__: function for function in (several_dimensions, history)}

if __name__ == "__main__":
    print(json.dumps(MEMORY[sys.argv[1]]()))
