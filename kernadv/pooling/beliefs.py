"""Beta beliefs about the values of prompts, on the logit scale, where they are moved."""

from __future__ import annotations

from typing import Any, NamedTuple

from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace

#: Largest log odds, largest variance of a logit, and largest exponent of a discount.
LARGEST_LOGIT, LARGEST_VARIANCE, LARGEST_EXPONENT = 40.0, 1e15, 60.0
#: Least distance from an end of the range at which a value is placed in another range.
LEAST_SHARE = 1e-9


class Beliefs(NamedTuple):
    """What M filters believe of the values of B prompts, as shares of the range of the rewards: Beta(alpha, beta).

    Attributes
    ----------
    logit : (B, M)
        ``log(alpha / beta)``, less the common level.
    variance : (B, M)
        ``1 / alpha + 1 / beta``, the variance of the logit to first order.

    References
    ----------
    West, Harrison and Migon (1985), dynamic generalized linear models, JASA 80: conjugate updating of a law that is moved
    on the scale of the link by its first two moments.
    """

    logit: Array
    variance: Array

    def at(self, level: Array, xp: ArrayNamespace) -> tuple[Array, Array]:
        """alpha and beta with a common level, which broadcasts.  # (B, M), (B, M)"""
        odds = xp.exp(xp.between(self.logit + level, -LARGEST_LOGIT, LARGEST_LOGIT))
        return (1.0 + odds) / self.variance, (1.0 + 1.0 / odds) / self.variance

    def later(self, gap: Array, walk: Array, discount: Array, xp: ArrayNamespace) -> Beliefs:
        """After (or before) that many steps without a reward.

        Parameters
        ----------
        gap : (B, 1)
            From 0.
        walk, discount : (M,)
            As in `kernadv.pooling.settings.Members`.
        """
        grown = self.variance * xp.exp(xp.between(discount * gap, 0.0, LARGEST_EXPONENT)) + walk * walk * gap
        return self._replace(variance=xp.between(grown, 0.0, LARGEST_VARIANCE))


def believed(alpha: Array, beta: Array, level: Any, xp: ArrayNamespace = NUMPY) -> Beliefs:
    """The beliefs of which `Beliefs.at` makes alpha and beta."""
    return Beliefs(xp.log(alpha) - xp.log(beta) - level, 1.0 / alpha + 1.0 / beta)


def carried(logit: Array, lower: Array, upper: Array, xp: ArrayNamespace = NUMPY) -> tuple[Array, Array]:
    """Logits of shares of a range as those of a range around it, and their derivatives by the old ones.

    In an empty range all rewards are at its low end: in a range that ends there the logit is mirrored.

    Parameters
    ----------
    logit : Array
    lower, upper : Array
        The ends of the old range as shares of the new one, between 0 and 1.
    """
    some = upper > lower
    odds = xp.exp(logit.clip(-LARGEST_LOGIT, LARGEST_LOGIT))
    share = (lower + (upper - lower) * odds / (1.0 + odds)).clip(LEAST_SHARE, 1.0 - LEAST_SHARE)
    placed = xp.log(share / (1.0 - share))
    slope = (upper - lower) / (2.0 + odds + 1.0 / odds) / (share * (1.0 - share))
    at_end = xp.where(lower <= 0.0, logit, xp.where(upper >= 1.0, -logit, placed))
    return xp.where(some, placed, at_end), xp.where(some, slope, 1.0)


def carried_back(logit: Array, lower: Array, upper: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """The other way: from the range around to the old one."""
    some = upper > lower
    share = 1.0 / (1.0 + xp.exp(-logit.clip(-LARGEST_LOGIT, LARGEST_LOGIT)))
    inner = ((share - lower) / xp.where(some, upper - lower, 1.0)).clip(LEAST_SHARE, 1.0 - LEAST_SHARE)
    at_end = xp.where(lower <= 0.0, logit, xp.where(upper >= 1.0, -logit, 0.0 * logit))
    return xp.where(some, xp.log(inner / (1.0 - inner)), at_end)
