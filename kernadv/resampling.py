"""Bootstrap over prompts of ratios of sums."""

from __future__ import annotations

import numpy as np

from kernadv.typing import FloatArray, IntArray

__all__ = ["bootstrap_ratios"]


def __dir__() -> list[str]:
    return __all__


#: Prompts are resampled in at most this many random bundles; sums of independent prompts have the same variance bundled.
BUNDLES = 5000


def bootstrap_ratios(prompt: IntArray, total: FloatArray, weight: FloatArray, draws: int, seed: int) -> FloatArray:
    """Draws of ``sum total / sum weight``, the prompts resampled with replacement.

    Parameters
    ----------
    prompt : (N,) int64
        Prompt of each row; all rows of a prompt are drawn together, because they share its path of values.
    total : (N, K) float64
        Numerators of K ratios.
    weight : (N,) float64
    draws : int
    seed : int

    Returns
    -------
    (draws, K) float64
        The K ratios of a draw share its resampled prompts, so that differences and quotients of them are paired.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, sections 6 and 8.
    """
    rng = np.random.default_rng(seed)
    _, code = np.unique(prompt, return_inverse=True)
    prompts = int(code.max()) + 1
    bundles = min(prompts, BUNDLES)
    bundle = (rng.permutation(prompts) % bundles)[code]
    sums = np.stack([np.bincount(bundle, column, bundles) for column in (*total.T, weight)], axis=1)  # (bundles, K + 1)
    out = np.empty((draws, sums.shape[1]))
    for d in range(draws):
        times = np.bincount(rng.integers(0, bundles, bundles), minlength=bundles)
        out[d] = times @ sums
    return out[:, :-1] / out[:, -1:]
