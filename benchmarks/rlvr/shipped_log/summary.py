"""Summary numbers of the log, and the check of its exact values against its rewards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Spread(NamedTuple):
    """Numbers of a stretch of steps; a visit is one prompt at one step.

    Attributes
    ----------
    value, reward : float
        Mean over visits.
    ratio : float
        Var V / E[V (1 - V)] over visits: how much prompts differ, relative to the noise of one reward.
    flat : float
        Share of groups whose rewards are all equal; they give no gradient with a group baseline.
    """

    value: float
    reward: float
    ratio: float
    flat: float


def spread(rewards: Array, values: Array) -> Spread:
    """Summarise rewards (..., G) and exact values (...) of any number of visits."""
    flat = rewards.min(-1) == rewards.max(-1)
    noise = values * (1.0 - values)
    return Spread(values.mean(), rewards.mean(), values.var() / noise.mean(), flat.mean())


def z_score(rewards: Array, values: Array) -> float:
    """Distance of the rewards from their exact means, in standard errors.

    z = sum (Z - V) / sqrt(sum V (1 - V)), over rewards Z (..., G) and values V (...). Given the past, a reward is
    Bernoulli(V) with V fixed before it is drawn, so the terms of the sum are martingale differences, and z is close to
    N(0, 1) although the policy learns from these very rewards. The visits must be chosen by their values or steps, not
    by their rewards.
    """
    surplus = (rewards - values[..., None]).sum()
    return float(surplus / np.sqrt(rewards.shape[-1] * (values * (1.0 - values)).sum()))
