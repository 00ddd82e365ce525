"""Whether a log keeps to the assumptions of the audit.

Every test that chance can fail has a known error rate: on a log that keeps to the assumptions, each check fails with a
probability of at most `ALARM`, however many tests it holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtrc, gammaln, logsumexp, stdtr, stdtrit

from kernadv._errors import option
from kernadv.auditing.description import all_drawn, two_values
from kernadv.auditing.result import Check
from kernadv.groups import Groups
from kernadv.typing import AnyArray, FloatArray, IntArray

if TYPE_CHECKING:
    from kernadv.logs import RowOrder

#: What is checked, in the order of the report.
CHECKS = (
    "possible results",
    "all groups logged",
    "raw rewards",
    "rows are traces",
    "steps in order",
    "all generations logged",
    "no duplicates",
    "one id a prompt",
    "enough digits",
)
#: Probability with which chance alone fails a check.
ALARM = 1e-3
#: Prompts below which nothing can be said about their spread.
FEWEST = 5
#: Groups, or steps, below which sums that are all equal may be chance.
SEVERAL = 20
#: Share of the gaps between steps from which they are a stride.
USUAL = 0.8
#: Squared mean over variance of the rewards above which sums of squares have lost digits, and above which all of them.
OFFSET, HOPELESS = 1e10, 1e13


def checks_of(groups: Groups, order: RowOrder | None) -> list[Check | None]:
    """The checks of a log that need no baseline; None for one that cannot be made on this log."""
    found: list[Check | None] = [_sampling(groups), _advantages(groups), _thinned(groups), _digits(groups)]
    if order is not None:
        found += [_turns(order, groups), _back(order), _identical(order, groups), _alike(order)]
    return found


def possible(
    kept: Groups, error: FloatArray, names: Sequence[str], spread: tuple[FloatArray, IntArray] | None
) -> Check | None:
    """Whether a mean square, or the variance of V, is below 0 by more than chance.

    Parameters
    ----------
    kept : Groups
        The groups compared.
    error : (P, K) float64
        Estimates of the squared errors of K baselines, summed over the traces of each prompt.
    names : sequence of str, length K
    spread : ((M,) float64, (M,) int64) or None
        Contribution to the variance of V, and prompt, of each group that has one.

    Notes
    -----
    The estimate of a squared error is the mean product of two residuals of the same group.  If it is 0, a product has the
    variance sigma^4: the standard error is at least that, because with rare rewards the products that would lift the
    estimate are not in the sample, and its own spread is too small.  Nor is it less than the rounding of the sums.
    """
    prompts, code = np.unique(kept.prompt, return_inverse=True)
    many = kept.n > 1
    if len(prompts) < FEWEST or not many.all():
        return None
    n, s, ss = (np.bincount(code, part) for part in (kept.n, kept.s, kept.ss))
    variance = np.maximum(ss / n - (s / n) ** 2, 0.0)[code]
    products = variance**2 * 2.0 / (kept.n * (kept.n - 1.0))
    weight = kept.n.astype(np.float64)
    rounding = float(kept.rounding.sum() / weight.sum())
    least = max(math.sqrt((weight**2 * products).sum()) / weight.sum(), rounding)
    limit = -float(stdtrit(len(prompts) - 1, ALARM / (error.shape[1] + 1)))
    below = [
        f"the value MSE of {name} is {estimate:.3g}"
        for name, column in zip(names, error.T, strict=True)
        if (estimate := _below(column, n, least, limit)) is not None
    ]
    if spread is not None and len(spread[0]):
        part, prompt = spread
        _, own = np.unique(prompt, return_inverse=True)
        if own.max() + 1 >= FEWEST:
            least = max(math.sqrt(products.sum() * len(part) / len(products)) / len(part), rounding)
            estimate = _below(np.bincount(own, part), np.bincount(own), least, limit)
            if estimate is not None:
                below.insert(0, f"the variance of V over the prompts is {estimate:.3g}")
    if not below:
        return Check("possible results", "ok", "no mean square is below 0 by more than chance")
    more = f" (and {len(below) - 2} more)" if len(below) > 2 else ""
    return Check(
        "possible results",
        "broken",
        f"Squares are below 0 by more than chance: {', '.join(below[:2])}{more}. The rewards of a group differ more from "
        "one another than independent draws of one policy can.",
        "Look for rows that are turns and not traces, for groups that were filtered, for advantages or relative rewards, "
        "and for a step column that mixes policies.",
    )


def _below(part: AnyArray, weight: AnyArray, least: float, limit: float) -> float | None:
    """The ratio ``sum part / sum weight`` over prompts if it is below 0 by more than `limit` standard errors."""
    estimate = float(part.sum() / weight.sum())
    if estimate >= 0:
        return None
    residual = part - estimate * weight
    clusters = len(residual)
    error = math.sqrt((residual**2).sum() * clusters / (clusters - 1)) / weight.sum()
    return estimate if estimate < -limit * max(error, least) else None


def _sampling(groups: Groups) -> Check | None:
    """Dynamic sampling: whether groups of equal rewards are missing, by two tests of the same chance."""
    values = two_values(groups)
    many = groups.n > 1
    if values is None or not many.any():
        return None
    own = groups.take(many)
    n = own.n.astype(np.int64)
    right = np.rint((own.s - n * values[0]) / (values[1] - values[0])).astype(np.int64)
    equal = int(((right == 0) | (right == n)).sum())
    expected, by_prompts = _among_prompts(own.prompt, n, right)
    shape, by_shape = _at_the_ends(n, right)
    if 2.0 * min(by_prompts, by_shape) > ALARM:
        return Check(
            "all groups logged",
            "ok",
            f"{equal:,} of {len(n):,} groups have equal rewards, where at least {max(expected, shape):,.0f} are expected",
        )
    why = "prompts' other rewards" if by_prompts <= by_shape else "numbers of groups with one or two unequal rewards"
    implied = expected if by_prompts <= by_shape else shape
    return Check(
        "all groups logged",
        "broken",
        f"{equal:,} of {len(n):,} groups have equal rewards, where the {why} imply {implied:,.0f} or more: groups were "
        "dropped because of their rewards.",
        "Log all groups, before they are filtered.",
    )


def _among_prompts(prompt: IntArray, n: IntArray, right: IntArray) -> tuple[float, float]:
    """Least expected number of groups of equal rewards, and a bound of the chance to see so few.

    Given all rewards of a prompt, and whatever its values did, at least as many groups are uniform as if the rewards were
    dealt to its groups at random: V^n is convex in V.  Prompts without a second group are dealt together.
    """
    code = np.where(np.bincount(prompt)[prompt] > 1, prompt + 1, 0)
    total, chosen = (np.bincount(code, part).astype(np.int64)[code] for part in (n, right))
    none, every = float(all_drawn(total - chosen, total, n).sum()), float(all_drawn(chosen, total, n).sum())
    lower, higher = int((right == 0).sum()), int((right == n).sum())
    size = max(_shortfall(none + every, lower + higher), _shortfall(none, lower), _shortfall(every, higher))
    return none + every, min(1.0, 3.0 * math.exp(-size))


def _at_the_ends(n: IntArray, right: IntArray) -> tuple[float, float]:
    """The same from the groups with 0, 1 and 2 rewards of one kind, which needs no prompt to come back.

    Of groups of n traces, P(k right) / (n over k) = E V^k (1-V)^(n-k) is log-convex in k, whatever the law of V.  At equal
    values, given the groups with at most 2 and the rights in them, the number with none has the law of Levene (1949) for
    the genotypes of a sample; unequal values raise it.  Sizes, and both ends where they share no group, are combined by
    Fisher's method.

    References
    ----------
    Levene (1949), On a matching problem arising in genetics, Annals of Mathematical Statistics 20.
    """
    expected, logs = 0.0, []
    for size in np.unique(n):
        counts = np.bincount(right[n == size], minlength=int(size) + 1).astype(np.int64)
        ends = [_end(int(size), *end[:3].tolist()) for end in (counts, counts[::-1])]
        expected += sum(end[0] for end in ends) / (2.0 if size == 2 else 1.0)
        chances = [end[1] for end in ends]
        logs += chances if size >= 5 else chances[:1] if size == 2 else [min(0.0, min(chances) + math.log(2.0))]
    return expected, float(chdtrc(2 * len(logs), -2.0 * sum(logs)))


def _end(size: int, none: int, one: int, two: int) -> tuple[float, float]:
    """Least expected number of groups with none, and the logarithm of the chance of at most as many as there are."""
    groups, rights = none + one + two, one + 2 * two
    twos = np.arange(max(0, rights - groups), rights // 2 + 1)
    ones, nones = rights - 2 * twos, groups - rights + twos
    weight = ones * math.log(size) + twos * math.log(size * (size - 1) / 2.0)
    weight = weight - gammaln(ones + 1) - gammaln(twos + 1) - gammaln(nones + 1)
    total = logsumexp(weight)
    return float((np.exp(weight - total) * nones).sum()), float(logsumexp(weight[nones <= none]) - total)


def _shortfall(expected: float, seen: float) -> float:
    """Minus the logarithm of a bound of the chance to see so few where so many are expected (Chernoff)."""
    if seen >= expected:
        return 0.0
    return float(expected - seen + (seen * math.log(seen / expected) if seen else 0.0))


def _advantages(groups: Groups) -> Check | None:
    """Whether the rewards of every group, or of every step, sum to the same: they were made relative to one another."""
    many = groups.n > 1
    own = groups.take(many)
    noise = own.noise
    if np.count_nonzero(noise) < SEVERAL:
        return None
    for what, means, variance in (
        ("group", own.mean, noise / own.n),
        ("step", *_steps(groups)),
    ):
        if len(means) >= SEVERAL and means.std() < 0.01 * math.sqrt(float(variance.mean())):
            return Check(
                "raw rewards",
                "broken",
                f"The rewards have the same mean, {means.mean():.2g}, in every {what}: they are advantages, or relative "
                f"to the {what}.",
                "Name the column of the raw rewards (--map reward=COLUMN).",
            )
    return Check("raw rewards", "ok", "the mean rewards of the groups differ, as those of raw rewards do")


def _steps(groups: Groups) -> tuple[FloatArray, FloatArray]:
    """Mean reward of each step of several traces, and the variance of that mean if all rewards were of one law."""
    _, tick = np.unique(groups.step, return_inverse=True)
    n, s = (np.bincount(tick, part) for part in (groups.n, groups.s))
    variance = groups.ss.sum() / n.sum() - (s.sum() / n.sum()) ** 2
    several = n > 1
    return s[several] / n[several], variance / n[several]


def _thinned(groups: Groups) -> Check | None:
    """Whether the steps have a constant stride: then the generations between them are not in the log.

    Some gaps may differ: a logger may also write the first and the last step, or all of a warm-up.
    """
    steps = np.unique(groups.step)
    gaps = np.diff(steps)
    if len(gaps) < 2:
        return None
    values, times = np.unique(gaps, return_counts=True)
    usual = int(values[times.argmax()])
    share = USUAL if len(gaps) >= 10 else 1.0
    stride = usual if times.max() >= share * len(gaps) else int(np.gcd.reduce(gaps)) if len(gaps) >= 10 else 1
    if stride == 1:
        return Check("all generations logged", "ok", "the steps have no constant stride")
    return Check(
        "all generations logged",
        "suspect",
        f"The steps are {stride} apart: 1 of {stride} generations is here, unless a generation takes {stride} steps; gaps "
        "and visits cannot be judged.",
        "Log every generation (in TRL logging_steps=1).",
    )


def _digits(groups: Groups) -> Check:
    """Whether the rewards vary so little around a large mean that sums of squares have lost digits."""
    mean = groups.s.sum() / groups.n.sum()
    variance = groups.ss.sum() / groups.n.sum() - mean**2
    means = groups.take(groups.n > 0).mean
    rounding = np.finfo(np.float64).eps * float(groups.n.max() * np.abs(means).max())
    varied = bool((groups.noise > 0).any()) or float(np.ptp(means)) > rounding
    if not varied or mean**2 <= OFFSET * max(variance, 0.0):
        return Check("enough digits", "ok", "the rewards vary enough around their mean")
    return Check(
        "enough digits",
        "suspect" if mean**2 <= HOPELESS * max(variance, 0.0) else "broken",
        f"The rewards vary little around a large mean, {mean:.6g}: digits of their squares are lost.",
        "Subtract a constant from the rewards.",
    )


def _turns(order: RowOrder, groups: Groups) -> Check | None:
    """Whether the reward depends on the place of the row in its group: given the group, all orders are equally likely."""
    rounding = float(np.finfo(np.float64).eps * (groups.n * groups.rounding).sum())
    count, total, squares = order.places[order.places[:, 0] > 0].T if len(order.places) else np.zeros((3, 0))
    if len(count) < 2 or squares.sum() <= rounding:
        return None
    variance = np.maximum(squares, count * squares.sum() / count.sum())
    size = np.abs(total) / np.sqrt(np.where(variance > 0, variance, 1.0))
    place = int(np.argmax(size))
    degrees = max(float(count[place]) - 1.0, 1.0)
    if 2.0 * len(count) * float(stdtr(degrees, -size[place])) > ALARM:
        return Check("rows are traces", "ok", "the reward does not depend on the place of a row in its group")
    return Check(
        "rows are traces",
        "suspect",
        f"The reward depends on the place of a row in its group: at place {place + 1} it is "
        f"{total[place] / count[place]:+.3g} from the mean of the group. The rows may be turns of one episode, not traces.",
        "Keep one row a trace, with the reward of the whole trace. If the rows were only sorted by reward or by time, the "
        "numbers hold.",
    )


def _back(order: RowOrder) -> Check:
    times, row = order.back
    if not times:
        return Check("steps in order", "ok", "no step comes again that was merged with an earlier one")
    return Check(
        "steps in order",
        "suspect",
        f"The steps go back {times:,} time{'s' * (times > 1)}, first at row {row:,}, and rows of the same prompt "
        "and step were merged into one group.",
        "This is right for several writers of the same steps. For a resumed run choose last, and for one that was started "
        f"again offset, with {option('on_repeat')}.",
    )


def _identical(order: RowOrder, groups: Groups) -> Check:
    if not order.identical:
        return Check("no duplicates", "ok", "no more rows are identical than chance explains")
    share = order.identical / float(groups.n.sum())
    return Check(
        "no duplicates",
        "broken" if share >= 0.01 else "suspect",
        f"{order.identical:,} rows ({share:.2%}) repeat an earlier row: groups are larger than they were.",
        "Remove what was logged twice.",
    )


def _alike(order: RowOrder) -> Check:
    if not order.n_alike:
        return Check("one id a prompt", "ok", "no two ids differ only in their spelling")
    first = " and ".join(map(repr, order.alike[0][:2])) if order.alike else ""
    return Check(
        "one id a prompt",
        "suspect",
        f"{order.n_alike:,} set{'s' * (order.n_alike > 1)} of ids differ only by spaces, Unicode form, or 1 and 1.0, such "
        f"as {first}: one prompt may count as several.",
        "Write each id in one way.",
    )
