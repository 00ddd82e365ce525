"""Streams of batches for the estimators on a device."""

import numpy as np


def batches(seed, kind, steps=20, late=False):
    """Ids, rewards and steps: any order, unequal groups, some not scored, a step twice, a block of steps."""
    rng = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        rows = int(rng.integers(1, 60))
        ids = rng.integers(-3, 12, rows) * 10**15
        z = 3.0 * rng.normal(size=rows)
        z[rng.random(rows) < 0.15] = np.nan
        at = np.maximum(step - rng.integers(0, 4, rows), 1) if late else 3 * ((step + 1) // 2)
        if not late and step % 4 == 0:
            at = at + rng.integers(0, 3, rows)
        yield ([f"p{k}" for k in ids] if kind == "text" else ids), z, at
