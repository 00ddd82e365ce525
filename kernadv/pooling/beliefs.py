"""Beta beliefs about the values of prompts, on the logit scale, where they are moved: words of the pool's programs.

A filter believes that the value of a prompt, as a share of the range of the rewards, is Beta(alpha, beta).  Noted are the
logit ``log(alpha / beta)``, less the common level, and ``1 / alpha + 1 / beta``, its variance to first order.

References
----------
West, Harrison and Migon (1985), dynamic generalized linear models, JASA 80: conjugate updating of a law that is moved on the
scale of the link by its first two moments.
"""

from __future__ import annotations

from kernadv.pooling._words import exp, least, log, most, where, word

#: Largest log odds, largest variance of a logit, and largest exponent of a discount.
LARGEST_LOGIT, LARGEST_VARIANCE, LARGEST_EXPONENT = 40.0, 1e15, 60.0
#: Least distance from an end of the range at which a value is placed in another range.
LEAST_SHARE = 1e-9


@word
def aged(variance, gap, walk, discount):
    """The variance of a logit after (or before) that many steps without a reward; walk and discount as in `Members`."""
    return least(variance * exp(least(discount * gap, LARGEST_EXPONENT)) + walk * walk * gap, LARGEST_VARIANCE)


@word
def odds_of(logit):
    return exp(most(least(logit, LARGEST_LOGIT), -LARGEST_LOGIT))


@word
def logit_of(share):
    return log(share / (1.0 - share))


@word
def inner(share):
    return most(least(share, 1.0 - LEAST_SHARE), LEAST_SHARE)


@word
def carried(logit, lower, upper):
    """A logit of a share of a range as that of a range around it, and its derivative by the old one.

    In an empty range all rewards are at its low end: in a range that ends there the logit is mirrored.

    lower, upper: the ends of the old range as shares of the new one, between 0 and 1
    """
    wide = upper > lower
    span = where(wide, upper - lower, 1.0)
    odds = odds_of(logit)
    share = inner(lower + span * (odds / (1.0 + odds)))
    slope = span / (2.0 + odds + 1.0 / odds) / (share * (1.0 - share))
    at_end = where(lower <= 0.0, logit, where(upper >= 1.0, -logit, logit_of(inner(lower))))
    return where(wide, logit_of(share), at_end), where(wide, slope, 1.0)


@word
def carried_back(logit, lower, upper):
    """The other way: from the range around to the old one."""
    wide = upper > lower
    odds = odds_of(logit)
    share = inner((odds / (1.0 + odds) - lower) / where(wide, upper - lower, 1.0))
    at_end = where(lower <= 0.0, logit, where(upper >= 1.0, -logit, 0.0))
    return where(wide, logit_of(share), at_end)
