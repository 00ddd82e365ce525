"""The variance of the gradient under each baseline, measured from the scores of single traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice, check_count, check_range
from kernadv.ids import batch_codes
from kernadv.resampling import bootstrap_ratios
from kernadv.typing import FloatArray, IntArray

#: Names of the values that are always there.
NONE, RLOO, OPTIMAL, GLOBAL = "none", "rloo", "b*", "global b*"


class Measured(NamedTuple):
    """An estimate with its 95% bootstrap interval over prompts; NaN where there are fewer than two prompts.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.gradient import gradient_variance
    >>> rng = np.random.default_rng(0)
    >>> found = gradient_variance(rng.normal(size=(80, 3)), rng.random(80) < 0.5, np.repeat(np.arange(20), 4), {})
    >>> ratio = found["none"].ratio
    >>> bool(ratio.low < ratio.estimate < ratio.high)
    True
    """

    estimate: float
    low: float
    high: float


class BaselineVariance(NamedTuple):
    """What one baseline does to the gradient of a group.

    Attributes
    ----------
    second_moment : Measured
        ``E |g|^2``; from squared norms alone, its part ``E sum (Z - V)^2 |s|^2 / G^2``, which differs by a number that
        all values share (up to ``|E g|^2 / G (G - 1)`` where they use the group's other rewards).
    variance : Measured
        ``E |g|^2 - |E g|^2``; NaN from squared norms, and where a prompt has a single trace.
    ratio : Measured
        Variance relative to that of the reference; second moments, where the variance is NaN.
    gap_closed : Measured
        Share of the reference's distance to b* that the baseline closes, 1 for b*, 0 for the reference, negative if
        worse.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.gradient import gradient_variance
    >>> rng = np.random.default_rng(0)
    >>> found = gradient_variance(rng.normal(size=(80, 3)), rng.random(80) < 0.5, np.repeat(np.arange(20), 4), {})
    >>> found["rloo"].ratio.estimate, found["b*"].gap_closed.estimate  # the reference, and what could be had
    (1.0, 1.0)
    """

    second_moment: Measured
    variance: Measured
    ratio: Measured
    gap_closed: Measured


def gradient_variance(
    scores: Any,
    rewards: Any,
    groups: Any,
    values: Mapping[str, Any],
    *,
    prompts: Any = None,
    reference: str = RLOO,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, BaselineVariance]:
    """Measure the gradient variance under each set of values.

    Parameters
    ----------
    scores : (R, D) array of score vectors, or (R,) of their squared norms
        Gradient of the log-probability of each trace in the parameters, or in random projections of them.
    rewards : (R,) array
    groups : (R,) ids
        Traces with the same id are averaged into one gradient.
    values : mapping from name to (R,) array
        Value of each trace, free of its own reward.  Added are "none" (0), "rloo" (the mean of the group's other traces,
        where every group has two), "global b*" (one optimal value for all, from the other prompts' traces) and "b*", from
        all other traces of the prompt: with few of them that is a noisy end of the gap, so give "b*" where it is known
        better, e.g. from many more traces.
    prompts : (R,) ids, optional
        Prompt of each trace, where a prompt has several groups; default: the groups.
    reference : str
        Name of the values that ratios and gaps start from.
    draws, seed : int
        Of the bootstrap over prompts.

    Returns
    -------
    dict
        Name -> `BaselineVariance`.

    Raises
    ------
    ArgumentError
        If shapes disagree, numbers are not finite, squared norms are negative, or there is no reference.

    References
    ----------
    Greensmith, Bartlett and Baxter (2004), Variance reduction techniques for gradient estimates in reinforcement
    learning, JMLR 5.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.gradient import gradient_variance
    >>> rng = np.random.default_rng(0)
    >>> group = np.repeat(np.arange(200), 2)
    >>> v = rng.uniform(0.1, 0.9, 200)[group]  # the true values
    >>> found = gradient_variance(rng.normal(size=(400, 3)), rng.random(400) < v, group, {"truth": v})
    >>> bool(found["truth"].ratio.high < 1.0)  # less variance than RLOO with two traces
    True
    """
    if not isinstance(values, Mapping):
        raise ArgumentTypeError(
            f"values must be a mapping from names to values, e.g. {{'mine': v}}, got {values!r:.80}"
        )
    s, z = finite(scores, "scores"), finite(rewards, "rewards")
    if z.ndim != 1 or s.ndim not in (1, 2) or len(s) != len(z) or not len(z):
        raise ArgumentError(
            f"expected rewards (R,) and scores (R, D) or squared norms (R,), got {z.shape} and {s.shape}"
        )
    vectors = s.ndim == 2
    if not vectors and (s < 0).any():
        raise ArgumentError(f"squared norms of scores must not be negative, the least is {s.min():g}")
    norm = np.einsum("rd,rd->r", s, s) if vectors else s
    group, prompt = codes(groups, z, "groups"), codes(groups if prompts is None else prompts, z, "prompts")
    size = np.bincount(group)
    owner = np.zeros(len(size), np.int64)
    owner[group] = prompt
    if (owner[group] != prompt).any():
        raise ArgumentError("a group must have one prompt; give groups ids that differ between prompts")
    table = {NONE: np.zeros(len(z))}
    if (size > 1).all():
        table[RLOO] = _weighted_mean_of_others(group, np.ones(len(z)), z)
    if OPTIMAL not in values:
        if (np.bincount(prompt) < 2).any():
            raise ArgumentError('"b*" cannot be estimated for a prompt with a single trace; give values["b*"]')
        table[OPTIMAL] = _weighted_mean_of_others(prompt, norm, z)
    if prompt.max() > 0:
        over = [np.bincount(prompt, x) for x in (norm, norm * z)]
        rest, above = (x.sum() - x for x in over)
        table[GLOBAL] = np.where(rest > 0, above / np.where(rest > 0, rest, 1.0), 0.0)[prompt]
    for name, given in values.items():
        table[name] = finite(given, f"values[{name!r}]")
        if table[name].shape != z.shape:
            raise ArgumentError(f"values[{name!r}] must have one value a trace, {z.shape}, got {table[name].shape}")
    if reference == RLOO and RLOO not in table:
        raise ArgumentError("rloo needs two traces or more in every group; choose another reference among the values")
    check_choice(reference, "reference", table)

    moments = [_second_moment(s if vectors else None, norm, z - value, group, size) for value in table.values()]
    squared_mean = _squared_mean(s, z, prompt)[owner] if vectors else np.full(len(size), np.nan)
    sums = np.column_stack([*moments, squared_mean])
    drawn = np.full((2, sums.shape[1]), np.nan)
    if len(np.unique(owner)) > 1:
        drawn = bootstrap_ratios(
            owner, sums, np.ones(len(size)), check_count(draws, "draws"), check_count(seed, "seed", 0)
        )
    every = np.vstack([sums.mean(0), drawn])
    spread = every[:, :-1] - every[:, -1:]
    compared = every if np.isnan(spread[0]).any() else spread
    names = list(table)
    start, end = compared[:, names.index(reference)], compared[:, names.index(OPTIMAL)]
    return {
        name: BaselineVariance(
            measured(every[:, k]),
            measured(spread[:, k]),
            measured(quotient(compared[:, k], start)),
            measured(quotient(start - compared[:, k], start - end)),
        )
        for k, name in enumerate(names)
    }


def implied_ratio(noise: float, mse: float, reference_mse: float = 0.0) -> float:
    """Gradient variance relative to a reference, implied by the value MSEs: ``(noise + mse) / (noise +
    reference_mse)``.

    Holds if the squared norm of the score is uncorrelated with the reward and the values are free of the own reward;
    `noise` is the mean of V (1 - V).  Where the scores are known, `gradient_variance` measures it instead.

    Raises
    ------
    ArgumentError
        If a number is negative or not finite, or noise and reference are both 0.

    Examples
    --------
    >>> from kernadv.gradient import implied_ratio
    >>> round(implied_ratio(noise=0.15, mse=0.01, reference_mse=0.05), 3)  # .16 over .2
    0.8
    """
    given = {"noise": noise, "mse": mse, "reference_mse": reference_mse}
    noise, mse, reference_mse = (check_range(x, name, 0.0) for name, x in given.items())
    if noise + reference_mse == 0:
        raise ArgumentError("noise and reference_mse must not both be 0: the ratio would divide by 0")
    return (noise + mse) / (noise + reference_mse)


def _second_moment(
    s: FloatArray | None, norm: FloatArray, advantage: FloatArray, group: IntArray, size: IntArray
) -> FloatArray:
    """|g|^2 of each group, or the part of it that the squared norms give.  # (N,)"""
    if s is None:
        return np.asarray(np.bincount(group, advantage**2 * norm) / size**2)
    total = _sum_rows(advantage[:, None] * s, group, len(size)) / size[:, None]
    return np.asarray(np.einsum("nd,nd->n", total, total))


def _squared_mean(s: FloatArray, z: FloatArray, prompt: IntArray) -> FloatArray:
    """|E Z s|^2 of each prompt from its pairs of traces, about the mean of all rewards to keep the noise small.  # (P,)"""
    weighted = (z - z.mean())[:, None] * s
    size = np.bincount(prompt)
    total = _sum_rows(weighted, prompt, len(size))
    own = np.bincount(prompt, np.einsum("rd,rd->r", weighted, weighted))
    pairs = size * (size - 1.0)
    cross = np.einsum("nd,nd->n", total, total) - own
    return np.where(pairs > 0, cross / np.where(pairs > 0, pairs, 1.0), np.nan)


def _sum_rows(x: FloatArray, group: IntArray, groups: int) -> FloatArray:
    """Sum of the rows of each group.  # (N, D)"""
    order = np.argsort(group, kind="stable")
    return np.asarray(np.add.reduceat(x[order], np.searchsorted(group[order], np.arange(groups)), axis=0))


def _weighted_mean_of_others(group: IntArray, weight: FloatArray, z: FloatArray) -> FloatArray:
    """Weighted mean of z over the other rows of the group, NaN without any.  # (R,)"""
    below = np.bincount(group, weight)[group] - weight
    above = np.bincount(group, weight * z)[group] - weight * z
    some = below > 1e-12 * weight
    return np.where(some, above / np.where(some, below, 1.0), np.nan)


def measured(column: FloatArray) -> Measured:
    """The first entry, and the 2.5% and 97.5% points of the others."""
    low, high = np.quantile(column[1:], (0.025, 0.975))
    return Measured(float(column[0]), float(low), float(high))


def quotient(a: FloatArray, b: FloatArray) -> FloatArray:
    """a / b, NaN where b is 0."""
    return np.where(b != 0, a / np.where(b != 0, b, 1.0), np.nan)


def codes(ids: Any, z: FloatArray, name: str) -> IntArray:
    _, code = batch_codes(ids)
    if code.shape != z.shape:
        raise ArgumentError(f"{name} must have one id a trace, {len(z)}, got {len(code)}")
    return code


def finite(x: Any, name: str) -> FloatArray:
    array = check_floats(x, name)
    if not np.isfinite(array).all():
        raise ArgumentError(f"{name} must be finite; leave out traces that could not be scored")
    return array
