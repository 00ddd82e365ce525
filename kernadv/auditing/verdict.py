"""What a person should know first: whether to trust the log, and what training would gain."""

from __future__ import annotations

import math

from kernadv.auditing.result import Audit, Finding, Interval


def verdict(result: Audit) -> str:
    """What is wrong with the log; or how many groups are dead, what better values would do for the gradient, and how much
    better they are."""
    if broken := result.failed("broken"):
        return "These numbers cannot be trusted. " + " ".join(f"{check.evidence} {check.advice}" for check in broken)
    if result.noise == 0:
        return _no_signal(result)
    parts = [_dead(result), _gradient(result), _values(result), _batch_mean(result)]
    return " ".join(filter(None, parts))


def share(value: float) -> str:
    """A share as a percentage, with a decimal where it is small."""
    if not 0 < abs(value) < 0.0995:
        return f"{value:.0%}"
    return f"{value:.1%}" if abs(value) >= 5e-4 else "less than 0.1%"


def apart(low: float, high: float) -> tuple[str, str]:
    """Two numbers with as few digits, at least four, as tell them from one another."""
    for digits in range(4, 18):
        texts = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if float(texts[1]) - float(texts[0]) >= 0.5 * (high - low):
            break
    return texts


def _no_signal(result: Audit) -> str:
    """All rewards of each group are equal."""
    if result.bound is None:
        return (
            "No group has a signal: the rewards of each group are all equal, so that every advantage of RLOO and GRPO is 0. "
            "The noise of a reward, and with it the error of a value, cannot be estimated."
        )
    zero = result.drift[0]["mean"] == 0
    side, end = ("below", result.bound) if zero else ("above", 1.0 - result.bound)
    return (
        f"No group has a signal: all {result.rows:,} rewards are {0 if zero else 1}. The value of every prompt, averaged "
        f"over its visits, is {side} {share(end)} (exact binomial bound, 95% for all prompts at once)."
    )


def _dead(result: Audit) -> str:
    found = result.dead
    if found is None or found.share == 0:
        return ""
    ends = ""
    if found.low is not None and found.high is not None and found.values is not None:
        low, high = apart(*found.values)
        ends = f" (all {low}: {share(found.low)}, all {high}: {share(found.high)})"
    return (
        f"{share(found.share)} of the groups are dead{ends}: their rewards are all equal, and RLOO and GRPO learn nothing "
        "from them."
    )


def _gradient(result: Audit) -> str:
    """The implied variance of the gradient, and the most that any value can do."""
    default = result.finding("kernadv").gradient_ratio
    if default is None:
        return ""
    other = "the batch mean's" if result.noise is None else "RLOO's"
    sizes = sorted(size for size in result.group_sizes if size > 1)
    group = f" with G = {sizes[0]}" if len(sizes) == 1 else ""
    floor = result.gradient_floor
    most = "" if floor is None else f"; no value can take off more than {share(1.0 - floor)}{group}"
    cut = 1.0 - default.estimate
    start = "With the same rollouts, kernadv's values imply a gradient variance "
    if math.isnan(default.low):
        return f"{start}{_off(cut)} {other}, but too few prompts have groups of unequal rewards for an interval{most}."
    if default.low < 1 < default.high:
        return f"{start}that cannot be told from {other} ({_off(cut)} it, 95% interval {_span(default)}){most}."
    if cut > 0 and floor is not None and default.estimate <= floor:
        return f"{start}as far below {other} as any value can: by {share(1.0 - floor)}{group}."
    return f"{start}{_off(cut)} {other} (95% interval {_span(default)}){most}."


def _off(cut: float) -> str:
    return f"{share(abs(cut))} {'below' if cut >= 0 else 'above'}"


def _span(ratio: Interval) -> str:
    low, high = 1.0 - ratio.high, 1.0 - ratio.low
    if low >= 0:
        return f"{share(low)} to {share(high)}"
    return f"{share(-low)} above to {share(abs(high))} {'below' if high >= 0 else 'above'}"


def _values(result: Audit) -> str:
    """The value errors; they are no numbers of rollouts."""
    default = result.finding("kernadv")
    text = _error(default, "Its values")
    if text and result.advised != "kernadv":
        best = result.finding(result.advised)
        text += (
            f" {best.title.partition(', ')[2]} was better still, in hindsight: KAE's values {_error(best, '').lstrip()}"
        )
    return text


def _error(finding: Finding, who: str) -> str:
    gain = finding.vs_rloo
    if gain is None:
        low, high = finding.excess.low, finding.excess.high
        if low <= 0 <= high:
            return f"{who} have an error that cannot be told from the batch mean's."
        less = "less" if high < 0 else "more"
        return f"{who} have {less} squared error than the batch mean."
    if math.isnan(gain.low):
        return f"{who} have {_change(gain.estimate)}; take it as a hint."
    if gain.low <= 0 <= gain.high:
        return f"{who} have an error that cannot be told from RLOO's."
    if gain.estimate >= 1:
        return f"{who} have an error that cannot be told from 0 on this log."
    return f"{who} have {_change(gain.estimate)}."


def _change(cut: float) -> str:
    """A change against RLOO: a share, or how many times."""
    if cut < -2:
        return f"{1.0 - cut:.0f} times RLOO's squared error"
    return f"{share(abs(cut))} {'less' if cut >= 0 else 'more'} squared error than RLOO's"


def _batch_mean(result: Audit) -> str:
    if result.noise is None or not result.finding(result.advised).excess.low > 0:
        return ""
    return "The batch mean has a smaller error still."
