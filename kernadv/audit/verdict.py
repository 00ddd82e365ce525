"""One sentence for a person."""

from __future__ import annotations

from kernadv.audit.result import Audit


def verdict(result: Audit) -> str:
    """One sentence for a person."""
    best = result.score(result.best)
    label = best.title.partition(", ")[2]
    if best.vs_rloo is None:
        low, high = best.excess.low, best.excess.high
        if high < 0:
            return (f"Smoothing (KAE, {label}) has a lower value error than the batch mean, by {-best.excess.estimate:.4f} "
                    f"(95% interval {-high:.4f} to {-low:.4f}); the error itself needs 2 traces a prompt.")  # fmt: skip
        return (
            f"Smoothing (KAE, {label}) is not better than the batch mean on this log: the interval of the gain holds 0."
        )
    gain = best.vs_rloo
    if gain.low <= 0:
        return (f"Smoothing is not better than leave-one-out group means on this log (best: {label}, {gain.estimate:+.0%}, "
                f"95% interval {gain.low:+.0%} to {gain.high:+.0%}).")  # fmt: skip
    worth = f", worth RLOO with {best.worth:.0f} traces a prompt" if best.worth is not None else ""
    return (f"Smoothing (KAE, {label}) would have cut the value error of leave-one-out group means by {gain.estimate:.0%} "
            f"(95% interval {gain.low:.0%} to {gain.high:.0%}){worth}.")  # fmt: skip
