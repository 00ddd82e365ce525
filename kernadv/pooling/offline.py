"""Pass rates measured before training, as a feature of the prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, check_count
from kernadv._typing import FloatArray
from kernadv.ids import Id, batch_codes

#: As many as a visit of a history counts.
MOST_ROLLOUTS = 2**31 - 1


def offline_features(prompt_ids: Sequence[Id], pass_rates: Sequence[float], rollouts: int) -> dict[Id, FloatArray]:
    """Features for `KernelValueEstimator(features=...)` from rollouts scored before training.

    The feature is the logit of the pass rate, ``log((k + 1/2) / (n - k + 1/2))`` for k of n rollouts.  The regression
    learns what it is worth as the policy moves away from the one that was measured; as rewards of an earlier step, the
    rollouts would keep the weight that the windows give to their age.

    Parameters
    ----------
    prompt_ids : sequence of str or of int  # (P,)
    pass_rates : sequence of float in [0, 1]  # (P,)
    rollouts : int
        Number n of rollouts a prompt, below 2^31.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a pass rate lies outside [0, 1], the lengths differ, a prompt comes twice or an argument cannot be used.

    Examples
    --------
    >>> offline_features(["a", "b"], [0.0, 1.0], 8)["b"]
    array([2.83321334])
    """
    count = check_count(rollouts, "rollouts", most=MOST_ROLLOUTS)
    ids, row = batch_codes(prompt_ids)
    rate = check_floats(pass_rates, "pass rates")
    if rate.shape != (len(row),):
        raise ArgumentError(f"one pass rate a prompt: got {len(row)} prompts and rates of shape {rate.shape}")
    bad = ~((rate >= 0) & (rate <= 1))
    if bad.any():
        first = int(bad.argmax())
        raise ArgumentError(f"pass rates must lie in [0, 1], got {rate[first]} for prompt {ids[row[first]]!r}")
    if len(ids) < len(rate):
        raise ArgumentError(f"one pass rate a prompt: got {len(rate)} rates of {len(ids)} prompts")
    return dict(zip(ids, pass_rate_logit(rate, count)[:, None], strict=True))


def pass_rate_logit(rate: FloatArray, rollouts: int) -> FloatArray:
    """Logit of a pass rate, with half a rollout added on both sides."""
    return np.asarray(np.log((rollouts * rate + 0.5) / (rollouts * (1.0 - rate) + 0.5)))
