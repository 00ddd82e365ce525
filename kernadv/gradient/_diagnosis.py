"""What each baseline would do to the gradient, predicted from squared norms of scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from kernadv._errors import ArgumentError, ArgumentTypeError, check_count, check_flag
from kernadv.gradient._variance import Measured, codes, finite, measured, quotient
from kernadv.resampling import bootstrap_ratios
from kernadv.typing import FloatArray, IntArray

NONE, BATCH, RLOO, VALUE, OPTIMAL = "none", "batch_mean", "rloo", "value", "optimal"
#: Grid of k on which the gap between V and b* is tabulated, and nodes of a prompt's posterior.
GRID = np.geomspace(1e-3, 1e3, 121)
NODES = (np.arange(32) + 0.5) / 32
#: Bounds of the prior's worth in traces.
WORTH = 0.2, 1e4
#: Least noise of the rewards, in shares of that of 0/1 rewards.
LEAST_NOISE = 1e-6


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes
    ----------
    k : Measured or None
        Squared score norm of wrong over that of right traces, within prompts (Mantel and Haenszel).  With rewards between
        the two ends: of traces at the lower over those at the upper end, if it changed linearly in between.  None: from
        proxies.
    mean_value, mean_optimal : Measured or None
        Mean of V and of b* over the prompts, in the rewards' units, b* by a Beta law of the values; b* is None from proxies.
    predicted : dict of str to Measured
        ``E |(Z - b) s|^2`` of one trace, for "none" (b = 0), "batch_mean" (of the other traces), "rloo" (in groups of
        `group`), "value" (V), "optimal" (b*) and the values given.  Intervals: 95%, by a bootstrap over prompts; NaN for
        one prompt.  From proxies without "none" and "optimal"; NaN for "value" and "optimal" with two traces a prompt.
    ratio : dict of str to Measured
        The same over that of "rloo"; intervals are paired.
    group : int
        Traces a prompt of "rloo".
    prompts, traces : int
        That were used: prompts with three traces or more, or where there are none, with two.
    left_out : int
        Prompts with too few traces.
    proxies : bool
        As given.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.gradient import diagnose
    >>> rng = np.random.default_rng(0)
    >>> prompt = np.repeat(np.arange(100), 4)
    >>> z = (rng.random(400) < rng.uniform(0.1, 0.9, 100)[prompt]) * 1.0
    >>> found = diagnose(z, np.where(z > 0, 1.0, 3.0), prompt)  # wrong traces have scores three times as large
    >>> found.prompts, found.traces, round(found.k.estimate, 6)
    (100, 400, 3.0)
    >>> bool(found.ratio["optimal"].estimate < found.ratio["value"].estimate < 1.0)
    True
    >>> len(found.summary().splitlines()) > 5
    True
    """

    k: Measured | None
    mean_value: Measured
    mean_optimal: Measured | None
    predicted: dict[str, Measured]
    ratio: dict[str, Measured]
    group: int
    prompts: int
    traces: int
    left_out: int
    proxies: bool

    def summary(self) -> str:
        """A table for people."""
        lines = [
            f"{self.traces} traces of {self.prompts} prompts; second moment of one trace's gradient over that of RLOO"
        ]
        if self.left_out:
            lines.append(f"{self.left_out} prompts with too few traces are left out")
        lines += [
            f"  {name:12}{_shown(x)}" for name, x in sorted(self.ratio.items(), key=lambda item: item[1].estimate)
        ]
        lines.append(f"mean V {self.mean_value.estimate:.3f}")
        if self.k is None or self.mean_optimal is None:
            lines.append(
                "from proxies of the norms: only baselines near one another can be ranked; k, b* and no baseline cannot"
            )
        else:
            lines.append(f"mean b* {self.mean_optimal.estimate:.3f}, k {_shown(self.k).strip()}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def diagnose(
    rewards: Any,
    squared_norms: Any,
    prompt_ids: Any,
    values: Mapping[str, Any] | None = None,
    *,
    group: int | None = None,
    lengths: Any = None,
    proxies: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Diagnosis:
    """Predict the second moment of the gradient under each baseline from some hundred traces of one policy.

    For a prompt with value V, w = |s|^2 and a baseline b that does not depend on the trace's own reward::

        E w (Z - b)^2 = E[w] (D + E (b - b*)^2),   b* = E[w Z] / E[w],   D = E[w Z^2] / E[w] - b*^2.

    With 0/1 rewards ``b* = V / (V + (1 - V) k)`` with k = E[w | wrong] / E[w | right]; so no baseline (b = 0) is better than
    a perfect V if, and only if, b* < V / 2, which is ``k > (2 - V) / (1 - V)``.

    Parameters
    ----------
    rewards : (R,) array
        Any two values, or real numbers.  With rewards -1 and 1 "none" is a baseline half way between them.
    squared_norms : (R,) array
        ``|s|^2`` of each trace, of all parameters or of a layer: see `kernadv.scores`.
    prompt_ids : (R,) ids
        At least two traces a prompt; three for "value" and "optimal".
    values : mapping from name to (R,) array, optional
        Baselines that were used, free of the own reward.
    group : int, optional
        Group size of "rloo"; default: the smallest number of traces of a prompt.
    lengths : (R,) array, optional
        Tokens of each trace, if the loss divides each trace by its own number of them (GRPO's 1/|o|): norms are divided by
        their squares.  A baseline then also changes the mean of the gradient.
    proxies : bool
        The norms are stand-ins, e.g. `kernadv.scores.Surprisal`: k and the rank of no baseline would mislead, and are left
        out.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If shapes disagree, numbers are not finite, norms are negative or all 0, or no prompt has two traces.

    References
    ----------
    Greensmith, Bartlett and Baxter (2004), Variance reduction techniques for gradient estimates in reinforcement learning,
    JMLR 5, for b*; Mantel and Haenszel (1959), Statistical aspects of the analysis of data from retrospective studies of
    disease, JNCI 22, for the ratio within strata.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> prompt = np.repeat(np.arange(100), 4)
    >>> z = (rng.random(400) < rng.uniform(0.1, 0.9, 100)[prompt]) * 1.0
    >>> diagnosis = diagnose(z, np.where(z > 0, 1.0, 3.0), prompt)
    >>> round(diagnosis.k.estimate, 6)
    3.0
    """
    z, w = finite(rewards, "rewards"), finite(squared_norms, "squared_norms")
    if z.ndim != 1 or not len(z) or w.shape != z.shape:
        raise ArgumentError(f"expected rewards and squared_norms (R,), got {z.shape} and {w.shape}")
    if lengths is not None:
        tokens = finite(lengths, "lengths")
        if tokens.shape != z.shape or (tokens < 1).any():
            raise ArgumentError(f"lengths must be (R,) numbers of tokens from 1, got {lengths!r:.80}")
        w = w / tokens**2
    prompt = codes(prompt_ids, z, "prompt_ids")
    named = _named(values, z)
    count = np.bincount(prompt)
    if count.max() < 2:
        raise ArgumentError("no prompt has two traces; sample some hundred prompts twice or more with one policy")
    enough = count >= min(3, count.max())
    kept = enough[prompt]
    z, w, named = z[kept], w[kept], {name: x[kept] for name, x in named.items()}
    if (w < 0).any() or not (w > 0).any():
        raise ArgumentError(f"squared norms must not be negative, nor all 0; they go from {w.min():g} to {w.max():g}")
    prompt = np.unique(prompt[kept], return_inverse=True)[1]
    group = int(count[enough].min()) if group is None else check_count(group, "group", 2)

    low, high = z.min(), z.max()
    span = high - low if high > low else 1.0
    terms = _Terms((z - low) / span, prompt)
    predicted = terms.predicted(w, z, low, span, group) | {name: w * (z - x) ** 2 for name, x in named.items()}
    at_lower, at_upper = w * (1.0 - terms.z), w * terms.z
    v = terms.posterior()[..., None]  # (P, NODES, 1)
    # how far E w (Z - V)^2 lies above E w (Z - b*)^2, for squared norms of 1 at the upper end, by k
    gap = ((v * (1.0 - v) * (GRID - 1.0)) ** 2 / (v + (1.0 - v) * GRID)).mean(1)[terms.prompt]  # (R, GRID)
    odds = [at_lower * terms.mean, at_upper * (1.0 - terms.mean)]
    gaps = [at_lower[:, None] * gap, at_upper[:, None] * gap]
    columns = np.column_stack([*predicted.values(), terms.z, terms.z**2, terms.z * terms.mean, *odds, *gaps])
    drawn = np.full((2, columns.shape[1]), np.nan)
    if prompt.max() > 0:
        drawn = bootstrap_ratios(
            prompt, columns, np.ones(len(z)), check_count(draws, "draws"), check_count(seed, "seed", 0)
        )
    table = np.vstack([columns.mean(0), drawn])
    moments = dict(zip(predicted, table.T, strict=False))
    mean, square, product, lower, upper = table[:, len(predicted) : len(predicted) + 5].T
    k = quotient(lower, upper)
    below, above = (_at(part, k) for part in np.split(table[:, len(predicted) + 5 :], 2, axis=1))
    moments[OPTIMAL] = moments[VALUE] - span**2 * (above + quotient(below, k))
    a, b, _ = _law(mean, square, product)
    v = _likely(a, b)
    optimal = (v / (v + (1.0 - v) * k[:, None])).mean(1)
    if check_flag(proxies, "proxies"):
        del moments[NONE], moments[OPTIMAL]
    return Diagnosis(
        k=None if proxies else measured(k),
        mean_value=measured(low + span * mean),
        mean_optimal=None if proxies else measured(low + span * optimal),
        predicted={name: measured(x) for name, x in moments.items()},
        ratio={name: measured(quotient(x, moments[RLOO])) for name, x in moments.items()},
        group=group,
        prompts=int(prompt.max()) + 1,
        traces=len(z),
        left_out=int((~enough).sum()),
        proxies=proxies,
    )


class _Terms:
    """What a prompt's other traces say about its value, rewards on [0, 1].

    Attributes
    ----------
    z, mean, square, product : (R,) float64
        The reward; of the other traces the mean, the mean square, and the mean product of two (NaN without two others).
    """

    def __init__(self, z: FloatArray, prompt: IntArray) -> None:
        self.z, self.prompt = z, prompt
        self.count = np.bincount(prompt)
        others = self.count[prompt] - 1.0
        total = np.bincount(prompt, z)[prompt] - z
        squares = np.bincount(prompt, z**2)[prompt] - z**2
        self.mean, self.square = total / others, squares / others
        self.product = quotient(total**2 - squares, others * (others - 1.0))

    def predicted(self, w: FloatArray, z: FloatArray, low: float, span: float, group: int) -> dict[str, FloatArray]:
        """Unbiased terms of the second moments; their mean over the traces is the prediction.  # (R,) each"""
        rest = (z.sum() - z) / (len(z) - 1)
        past = self.z**2 - 2.0 * self.z * self.mean
        spread = self.square / (group - 1) + (0.0 if group == 2 else self.product * (group - 2) / (group - 1))
        return {
            NONE: w * z**2,
            BATCH: w * (z - rest) ** 2,
            RLOO: span**2 * w * (past + spread),
            VALUE: span**2 * w * (past + self.product),
        }

    def posterior(self) -> FloatArray:
        """Equally likely values of each prompt, by the law of the values and its traces.  # (P, NODES)"""
        a, b, share = _law(self.z.mean(), (self.z**2).mean(), (self.z * self.mean).mean())
        total = np.bincount(self.prompt, self.z)
        return _likely(a + total / share, b + (self.count - total) / share)


def _law(mean: Any, square: Any, product: Any) -> tuple[Any, Any, Any]:
    """Law of the prompts' values on [0, 1] by moments: a and b of a Beta, and the noise in shares of that of 0/1 rewards.

    Parameters
    ----------
    mean, square, product : () or (n,)
        Mean of the rewards, of their squares, and of the products of two rewards of a prompt.
    """
    between, most = product - mean**2, mean * (1.0 - mean)
    worth = np.clip(quotient(most, np.maximum(between, most / (WORTH[1] + 1.0))) - 1.0, *WORTH)
    share = np.clip(quotient(square - product, mean - product), LEAST_NOISE, 1.0)
    return worth * mean, worth * (1.0 - mean), np.where(mean > product, share, 1.0)


def _likely(a: FloatArray, b: FloatArray) -> FloatArray:
    """Equally likely values of a Beta.  # (n,) -> (n, NODES)"""
    return np.asarray(stats.beta.ppf(NODES, np.maximum(a, 1e-3)[:, None], np.maximum(b, 1e-3)[:, None]))


def _shown(x: Measured) -> str:
    return f"{x.estimate:8.3f}  [{x.low:.3f}, {x.high:.3f}]"


def _named(values: Any, z: FloatArray) -> dict[str, FloatArray]:
    """The baselines given, checked."""
    if values is not None and not isinstance(values, Mapping):
        raise ArgumentTypeError(f"values must be a mapping from names to (R,) baselines, got {values!r:.80}")
    named = {name: finite(x, f"values[{name!r}]") for name, x in (values or {}).items()}
    for name, x in named.items():
        if name in (NONE, BATCH, RLOO, VALUE, OPTIMAL):
            raise ArgumentError(f"values must not have the name {name!r}, which is predicted; choose another one")
        if x.shape != z.shape:
            raise ArgumentError(f"values[{name!r}] must have one value a trace, {z.shape}, got {x.shape}")
    return named


def _at(part: FloatArray, k: FloatArray) -> FloatArray:
    """Each row's entry at a k between those of the grid.  # (n, GRID), (n,)"""
    at = np.interp(np.log(np.where(k > 0, k, 1.0)), np.log(GRID), np.arange(len(GRID)))
    left = np.minimum(at.astype(np.int64), len(GRID) - 2)
    rows = np.arange(len(part))
    return np.asarray(part[rows, left] + (at - left) * (part[rows, left + 1] - part[rows, left]))
