"""Compile ahead what the first calls of training need."""

from __future__ import annotations

import time

import numpy as np

from kernadv.estimator.components import ComponentValueEstimator
from kernadv.estimator.estimator import KernelValueEstimator


def warmup() -> float:
    """Compile the estimators' loops, or load them from numba's cache, so that no call in training waits for it.

    Call it once per process, before the first batch.  Without it the first calls take that time.  numba keeps the compiled
    loops beside the package, or in the user's cache folder; where neither can be written, every process compiles anew.

    Returns
    -------
    float
        The seconds it took.

    Examples
    --------
    >>> import kernadv
    >>> seconds = kernadv.warmup()
    """
    start = time.perf_counter()
    rewards = np.array([1.0, 0.0, 0.0, np.nan, 1.0])
    for ids in (["a", "a", "b", "b", "c"], [0, 0, 1, 1, 2]):
        for make in (
            KernelValueEstimator,
            KernelValueEstimator.kae,
            lambda: KernelValueEstimator(weighted=True, pessimism=2.0),
            lambda: ComponentValueEstimator(1, allow_late=True),
        ):
            est = make()
            weights = {"weights": np.ones(5)} if est.weighted else {}
            z = rewards[:, None] if isinstance(est, ComponentValueEstimator) else rewards
            for step in (1, 2, 4):
                est.advantages(ids, z, step, **weights)
                est.advantages(ids[:2], z[:2].astype(np.float32), step, **{k: w[:2] for k, w in weights.items()})
            est.advantages(ids, z, 5, trace=list("vwxyz"), **weights)
            est.intervals(ids, z, 6)
            est.predict(ids)
            est.explain(ids[0])
            est.metrics()
            est.load_state_dict(est.state_dict())
    return time.perf_counter() - start
