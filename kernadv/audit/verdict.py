"""One sentence for a person."""

from __future__ import annotations

import math

from kernadv.audit.result import Audit


def verdict(result: Audit) -> str:
    """Whether smoothing would have helped, by how much, with which bandwidth, and what the default estimator does."""
    cheaper = " The batch mean has a smaller error still." if result.finding(result.best).excess.low > 0 else ""
    return _smoothing(result) + _default(result) + cheaper


def _default(result: Audit) -> str:
    """What the default estimator, which chooses online, would have saved."""
    gain = result.finding("kernadv").vs_rloo
    if gain is None or math.isnan(gain.low) or gain.low <= 0:
        return ""
    return (
        f" The default estimator, which chooses everything online, would have cut it by {gain.estimate:.0%} "
        f"({gain.low:.0%} to {gain.high:.0%})."
    )


def _smoothing(result: Audit) -> str:
    best = result.finding(result.best)
    label = best.title.partition(", ")[2]
    if best.mse is None:
        low, high = best.excess.low, best.excess.high
        if not high < 0:
            return (
                f"Smoothing (best: {label}) does not beat the batch mean on this log: the interval of the gain holds 0."
            )
        return (
            f"Smoothing (KAE, {label}) has a lower value error than the batch mean, by {-best.excess.estimate:.4f} "
            f"(95% interval {-high:.4f} to {-low:.4f}); the error itself needs 2 traces a prompt."
        )
    gain = best.vs_rloo
    if gain is None:
        return "The rewards of each group are all equal: every value is known exactly, and there is nothing to smooth."
    if math.isnan(gain.low):
        return (
            f"Smoothing (best: {label}) has {gain.estimate:.0%} less value error than leave-one-out group means here, "
            "but too few prompts have groups of unequal rewards for an interval: take it as a hint."
        )
    if gain.low <= 0:
        return (
            f"Smoothing is not better than leave-one-out group means on this log (best: {label}, {gain.estimate:+.0%}, "
            f"95% interval {gain.low:+.0%} to {gain.high:+.0%})."
        )
    if best.worth is None:
        return (
            f"Smoothing (KAE, {label}) would have cut the value error of leave-one-out group means by {gain.low:.0%} or "
            f"more; what is left cannot be told from 0 on this log."
        )
    return (
        f"Smoothing (KAE, {label}) would have cut the value error of leave-one-out group means by {gain.estimate:.0%} "
        f"(95% interval {gain.low:.0%} to {gain.high:.0%}), worth RLOO with {best.worth:.0f} traces a prompt."
    )
