"""From what the past of a prompt is worth to the value of each trace: the other traces of its group join."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv.pooling._forecast import Forecast
from kernadv.pooling._library import Array
from kernadv.pooling.pool import Pool
from kernadv.smoothers import Estimate


def posterior(
    pool: Pool, forecast: Forecast, group: Array, others: tuple[Array, Array, Array], weight: Any
) -> Estimate:
    """``(nu p + sum of the others' w z) / (nu + sum of the others' w)``, nu in rollouts of a typical `weight`.

    Parameters
    ----------
    pool : Pool
    forecast : Forecast of N groups
    group : (B,) int64
        Index of each row's group.
    others : three (B,) arrays
        Count, sum of the weights w and sum of w z over the other scored traces of the row's group.
    weight : () or (B,)

    Returns
    -------
    Estimate of (B,)
        ``defined`` is False where neither the past nor a trace says anything.
    """
    xp = pool.lib.xp
    where = xp.where
    count, mass, total = others
    known = ~xp.isnan(forecast.final)
    final = where(known, pool.value(forecast), 0.0)[group]
    strength = where(known, forecast.strength, 0.0)[group]
    prior = strength * weight
    defined = prior + mass > 0
    value = where(defined, (prior * final + total) / where(defined, prior + mass, 1.0), np.nan)
    n_eff = where(defined, strength + count, 0.0)
    variance = where(defined & ~pool.running.empty, pool.scale.variance(value) / (n_eff + 1.0), np.nan)
    return Estimate(value, variance, n_eff, defined)


def typical_weight(pool: Pool, weight: Array | None, scored: Array) -> Array:
    """Mean weight of a trace: of those seen, or at first of the batch's other traces.

    Parameters
    ----------
    pool : Pool
    weight : (B,) or None
        Of the traces, 0 where they are not scored; None: all count alike.
    scored : (B,) bool

    Returns
    -------
    () or (B,)
    """
    if weight is None:
        return pool.running.weight
    where = pool.lib.xp.where
    count = pool.lib.number(scored)
    total, others = weight.sum() - weight, count.sum() - count
    first = where((others > 0) & (total > 0), pool.lib.ratio(total, others), 1.0)
    return where(pool.running.empty, first, pool.running.weight)
