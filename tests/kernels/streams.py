"""Streams of batches for the estimators on a device."""

import numpy as np

#: Rewards of a batch: of two values, of a range that grows, few whole numbers, two values around 0.
REWARDS = {
    "binary": lambda rng, rows, count: (rng.random(rows) < 0.4).astype(float),
    "growing": lambda rng, rows, count: (1.0 + count * (count > 6)) * rng.normal(size=rows),
    "whole": lambda rng, rows, count: rng.integers(0, 3, rows) * 10.0 ** (count // 8) - 5.0,
    "signs": lambda rng, rows, count: np.sign(rng.random(rows) - 0.6),
}


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


def hostile(seed, rewards, late=False, steps=24):
    """Ids, rewards, weights and steps of each row: prompts that come and go, blocks of steps, batches that are not scored at
    all, weights of 0, also of whole groups.

    Parameters
    ----------
    rewards : str
        One of `REWARDS`.
    late : bool or int
        As ``allow_late``.
    """
    rng = np.random.default_rng(seed)
    newest = 1
    for count in range(steps):
        rows = int(rng.integers(1, 40))
        ids = rng.integers(count // 3, 4 + count, rows)
        z = REWARDS[rewards](rng, rows, count)
        z[rng.random(rows) < (1.0 if count % 9 == 4 else 0.2)] = np.nan
        at = newest + rng.integers(0, 4) + rng.integers(0, 4, rows) * (count % 2)
        if late:
            at = np.maximum(at - rng.integers(0, 5, rows) * (count % 3 > 0), 1 if late is True else newest - late)
        newest = max(newest, int(at.max()))
        w = rng.gamma(1.0, size=rows)
        w[(rng.random(rows) < 0.3) | (ids % 5 == 2)] = 0.0
        yield ids, z, w if (w[~np.isnan(z)] > 0).any() else np.ones(rows), np.maximum(at, 1)
