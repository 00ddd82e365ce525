"""Responses of two values: which columns have them, and Jeffreys' and Wilson's limits for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv, ndtri

from kernadv._errors import ArgumentError
from kernadv.regression.inference._base import Interval
from kernadv.typing import BoolArray, FloatArray

PROPORTIONS = ("wilson", "jeffreys", "uniform")
#: That of "auto": with weights and rare successes Wilson covers less.
PROPORTION = "jeffreys"
#: Responses of a window agree if a smaller share differs: rounding errors.
AGREE = 1e-12
#: Pairs to which a column with only one of the values is taken to belong.
USUAL = ((0.0, 1.0), (-1.0, 1.0))


def two_values(y: FloatArray) -> FloatArray:
    """The two values of each column of the responses, the lower first; NaN for other columns.  # (C, 2)

    A column of zeros, ones or minus ones alone has the values 0 and 1, or -1 and 1: rare successes must not change what is
    estimated.  Two responses that differ are no evidence of two values, unless they are such a pair.
    """
    pairs = np.stack([y.min(axis=0), y.max(axis=0)], axis=1)
    for c, pair in enumerate(pairs):
        usual = [values for values in USUAL if np.isin(pair, values).all()]
        pairs[c] = usual[0] if usual else pair if pair[0] < pair[1] and len(y) > 2 else np.nan
        if not np.isin(y[:, c], pairs[c]).all():
            pairs[c] = np.nan
    return pairs


def by_column(
    y: FloatArray, two: Callable[[BoolArray], Interval], other: Callable[[BoolArray], Interval]
) -> Interval[FloatArray]:
    """The intervals of `two` for the columns (C,) bool of two values, those of `other` for the rest; both cover the same.

    NaN for columns whose responses are all the same, without a second value: their variance is unknown.
    """
    chosen = ~np.isnan(two_values(y)[:, 0])
    parts = [(columns, make(columns)) for columns, make in ((chosen, two), (~chosen, other)) if columns.any()]
    estimate, low, high = (np.empty((len(parts[0][1].estimate), y.shape[1])) for _ in range(3))
    for columns, part in parts:
        estimate[:, columns], low[:, columns], high[:, columns] = part[:3]
    still = ~chosen & (y.min(axis=0) == y.max(axis=0))
    low[:, still], high[:, still] = np.nan, np.nan
    return Interval(estimate, low, high, parts[0][1].covers)


def proportion_interval(
    y: FloatArray, estimate: FloatArray, size: FloatArray, tail: float | FloatArray, method: str, covers: str
) -> Interval[FloatArray]:
    """The interval around estimates (m, C) from n_eff = `size` (m,) responses of two values, to which they are clipped.

    `tail`, a number or (C,), is the chance of an error on one side.

    Raises
    ------
    ArgumentError
        If a column of y (n, C) has other values.
    """
    pairs = two_values(y)
    if np.isnan(pairs).any():
        other = y[:, np.isnan(pairs[:, 0])][:, 0]
        raise ArgumentError(
            f"method {method!r} needs responses that are 0 or 1, or of two other values in a column, got {len(set(other))} "
            f"from {other.min():g} to {other.max():g}; use method='robust'"
        )
    lower, unit = pairs[:, 0], pairs[:, 1] - pairs[:, 0]
    share = np.clip((estimate - lower) / unit, 0.0, 1.0)
    trials, tails = (np.broadcast_to(part, share.shape) for part in (size[:, None], tail))
    low, high = np.full(share.shape, np.nan), np.full(share.shape, np.nan)
    known = ~np.isnan(share)
    low[known], high[known] = proportion_limits(share[known] * trials[known], trials[known], tails[known], method)
    centre, low, high = (np.clip(lower + unit * part, lower, pairs[:, 1]) for part in (share, low, high))
    return Interval(centre, low, high, covers)


def wider(one: Interval, other: Interval) -> Interval[FloatArray]:
    """From the lower of the low limits to the higher of the high ones; `other` where `one` is undefined."""
    estimate = np.where(np.isnan(one.estimate), other.estimate, one.estimate)
    return Interval(estimate, np.fmin(one.low, other.low), np.fmax(one.high, other.high), one.covers)


def proportion_limits(
    count: FloatArray, size: FloatArray, tail: FloatArray, method: str
) -> tuple[FloatArray, FloatArray]:
    """Limits for `count` successes in `size` trials, neither of them necessarily whole; `tail` is the chance on one side.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22.
    Brown, Cai and DasGupta (2001), section 3.1.2: the limit is 0 itself without a success, and 1 without a failure.
    """
    share, rest = count / size, size - count
    if method == "wilson":
        z = -ndtri(tail)
        shrunk = 1.0 + z**2 / size
        middle = (share + z**2 / (2.0 * size)) / shrunk
        half = z * np.sqrt(share * (1.0 - share) / size + z**2 / (4.0 * size**2)) / shrunk
        low, high = middle - half, middle + half
    else:
        prior = {"jeffreys": 0.5, "uniform": 1.0}[method]
        low, high = (betaincinv(prior + count, prior + rest, quantile) for quantile in (tail, 1.0 - tail))
    return np.where(count <= AGREE * size, 0.0, low), np.where(rest <= AGREE * size, 1.0, high)
