"""Discounted counts of right and wrong answers of every prompt: Beta means that forget by the visit."""

from __future__ import annotations

import numpy as np

from kernadv._errors import ArgumentError, check_positive
from kernadv._typing import FloatArray
from kernadv.baselines._base import LinearValues, Offline
from kernadv.baselines._recursive import Recursive
from kernadv.groups import Groups


class _Discounted(Recursive):
    """Memory (alpha, beta); ``alpha <- discount alpha + S, beta <- discount beta + G - S`` at each visit."""

    discount: float

    def update(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Discount, then count the visit."""
        return self.discount * memory + np.column_stack([groups.s, groups.n - groups.s]), shared


def _check_discount(value: float, name: str) -> float:
    if check_positive(value, name, "1 never forgets") > 1.0:
        raise ArgumentError(f"{name} must lie in (0, 1], got {value!r}; 1 never forgets")
    return float(value)


class DiscountedBeta(_Discounted):
    """``V = alpha / (alpha + beta)`` after the current visit was counted; alpha = beta = 1 before the first.

    This is the kernel estimate with the exponential kernel lambda^k on the clock of the prompt's visits, and two
    pseudo-traces 1 and 0 at the start.

    Parameters
    ----------
    discount : float
        lambda in (0, 1]; published: 0.75 for an 8B model, 0.5 for 1.7B.
    own : bool
        Keep the own reward, as published; else the visit counts without it.

    Raises
    ------
    ArgumentError
        If the discount is not in (0, 1].

    References
    ----------
    DBB, arXiv 2603.18444.
    """

    def __init__(self, discount: float = 0.75, own: bool = True) -> None:
        self.discount = _check_discount(discount, "discount")
        self.uses_own_reward = own
        self.name = f"dbb{'' if own else '_loo'}" + (f" lambda={discount:g}" if discount != 0.75 else "")
        self.title = f"discounted Beta, {'own reward' if own else 'leave-one-out'} (DBB), lambda={discount:g}"

    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """One pseudo-trace right, one wrong."""
        return np.ones((prompts, 2))

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """Mean of the discounted counts with the visit's (other) traces."""
        alpha, beta = self.discount * memory.T
        gain = 1.0 / (alpha + beta + groups.n - (not self.uses_own_reward))
        return LinearValues(alpha * gain, gain, gain if self.uses_own_reward else np.zeros(len(gain)))


class SinglePolicy(_Discounted):
    """``V = alpha / (alpha + beta)`` from before the visit; then ``alpha <- rho alpha + S``, and beta alike.

    Starts from n0 offline rollouts with S0 right: alpha = N (S0 + 1/2) / (n0 + 1), beta = N - alpha, N = 1 / (1 - 0.875).
    As published rho = 2^(-D / 0.06), clipped to [0.875, 0.96], with D the mean change of the log-probabilities of the
    prompt's last answer, which costs a forward pass; here rho is constant.

    Parameters
    ----------
    rho : float
        In (0, 1].
    group : bool
        Also count the other traces of the group (the published method has groups of one trace).

    Raises
    ------
    ArgumentError
        If rho is not in (0, 1].

    References
    ----------
    SPO, arXiv 2509.13232.
    """

    offline_rollouts = 8
    #: Pseudo-traces the offline rollouts are worth.
    weight = 8.0

    def __init__(self, rho: float = 0.875, group: bool = False) -> None:
        self.discount = _check_discount(rho, "rho")
        self.group = group
        self.name = f"spo{'_loo' if group else ''}" + (f" rho={rho:g}" if rho != 0.875 else "")
        self.title = f"discounted Beta from offline rollouts{', with the group' if group else ''} (SPO), rho={rho:g}"

    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """The offline rollouts, worth `weight` traces."""
        assert offline is not None
        alpha = self.weight * (np.asarray(offline.total, np.float64) + 0.5) / (offline.rollouts + 1.0)
        return np.column_stack([alpha, self.weight - alpha])[:prompts]

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """Mean of the counts before the visit, with the group's other traces if asked for."""
        alpha, beta = self.discount * memory.T if self.group else memory.T
        share = 1.0 / (alpha + beta + (groups.n - 1.0 if self.group else 0.0))
        zero = np.zeros(len(share))
        return LinearValues(alpha * share, share if self.group else zero, zero)


BASELINES = (DiscountedBeta(), DiscountedBeta(own=False), SinglePolicy(), SinglePolicy(group=True))

_DISCOUNTS = (0.3, 0.5, 0.65, 0.75, 0.85, 0.92, 0.96, 1.0)
TUNED = {
    "dbb_loo": tuple(DiscountedBeta(x, own=False) for x in _DISCOUNTS),
    "spo": tuple(SinglePolicy(x) for x in (0.5, 0.65, 0.75, 0.8, 0.875, 0.92, 0.96, 1.0)),
    "spo_loo": tuple(SinglePolicy(x, group=True) for x in (0.5, 0.65, 0.75, 0.8, 0.875, 0.92, 0.96, 1.0)),
}
