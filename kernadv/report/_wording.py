"""How the forms of the report write numbers, and the sentences that they share."""

from __future__ import annotations

import math

from kernadv.audit import Audit, Finding, Interval
from kernadv.report import Report

#: Baselines with a systematic error, which may go with the score norm.
DOUBTFUL_GRADIENT = ("zero", "batch_mean")

GROUP_MEAN = (
    "The group mean contains its own reward: corrected, its value MSE is E s^2/G; its gradient is RLOO's times 1 - 1/G."
)


def label(finding: Finding) -> str:
    """Short name of a baseline: ``batch mean``, ``RLOO``, ``KAE h=0.5``."""
    if finding.clock is not None:
        return finding.name.replace("kae", "KAE")
    return "RLOO" if finding.name == "rloo" else finding.name.replace("_", " ")


def reference(audit: Audit) -> str:
    """The baseline that gradient variances are compared with: RLOO, or the batch mean where RLOO is undefined."""
    return "batch mean" if audit.noise is None else "RLOO"


def gradient_assumption() -> str:
    """What the column of gradient variances rests on, to follow its name."""
    return (
        "holds for values whose error is unrelated to the score norm (smoothed values); "
        "it fails for systematic errors (zero, batch mean): in parentheses."
    )


def error(finding: Finding) -> Interval:
    """Value MSE; with one trace a group its difference to the batch mean, which is all that is known."""
    return finding.excess if finding.mse is None else finding.mse


def places(audit: Audit) -> int:
    """Decimals that show two digits of the best error."""
    size = abs(error(audit.finding(audit.best)).estimate)
    return min(max(1 - math.floor(math.log10(size)), 0), 6) if 0 < size < math.inf else 3


def number(value: float | None, decimals: int) -> str:
    """Fixed decimals; a dash for a number that is not there."""
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def percent(value: float | None, decimals: int) -> str:
    """A share as a percentage; a dash for a number that is not there."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{number(100 * value, decimals)}%"


def sizes(audit: Audit) -> list[str]:
    """How much the log holds."""
    g = sorted(audit.group_sizes)
    group = f"{g[0]}" if len(g) == 1 else f"{g[0]} to {g[-1]}"
    return [f"{audit.rows:,} rows", f"{audit.prompts:,} prompts", f"{audit.steps:,} steps", f"G = {group}"]


def spread(report: Report) -> list[str]:
    """Noise of a reward, and spread of the values against it."""
    noise, between = report.audit.noise, report.audit.between
    name = "E V(1-V)" if report.binary else "E s^2"
    if noise is None:
        return []
    ratio = [f"Var V / {name} = {between / noise:.2f}"] if between is not None and noise > 0 else []
    return [f"{name} = {noise:,.0f}" if noise >= 1000 else f"{name} = {noise:.3g}", *ratio]


def _revisits(audit: Audit) -> str:
    """Whether prompts come back often enough to be smoothed over, and the numbers behind it."""
    gap, shown = _median_gap(audit)
    window = _window(audit)
    if audit.first_visits <= 0.25 and window >= 2 * gap:
        judgement = "often enough"
    elif audit.first_visits <= 0.5 and window >= gap:
        judgement = "just often enough, more would help"
    else:
        judgement = "too rarely for smoothing to help much"
    reach = "the whole past" if math.isinf(window) else f"{window:.0f} step{'s' if round(window) != 1 else ''}"
    return (
        f"Prompts come back {judgement}: after {shown} (median), with a best bandwidth of {reach}"
        f"{_halfway(audit)}; {audit.groups / audit.prompts:.3g} visits a prompt; "
        f"{percent(audit.first_visits, 0)} of the groups are first visits, without a past."
    )


def _edge(audit: Audit) -> str | None:
    """What it means that the best bandwidth is the last of its clock, if it is."""
    if not audit.at_edge:
        return None
    best = audit.finding(audit.best)
    if best.bandwidth == math.inf:
        return "The best bandwidth weighs the whole past alike: over this run the values hardly moved."
    others = [s.bandwidth for s in audit.findings if s.clock == best.clock and s.bandwidth is not None]
    end = "narrowest" if best.bandwidth == min(others) else "widest"
    return f"The best bandwidth is the {end} of its clock: the optimum may lie beyond the grid."


def _as_good(audit: Audit) -> str | None:
    """The bandwidths that cannot be told from the best."""
    others = [label(audit.finding(name)).removeprefix("KAE ") for name in audit.as_good if name != audit.best]
    return f"As good, as far as the bootstrap can tell: {', '.join(others)}." if others else None


def remarks(audit: Audit) -> list[str]:
    """What to know before using the best bandwidth; nothing where there is nothing to smooth."""
    best = audit.finding(audit.best)
    if best.mse is not None and best.vs_rloo is None:
        return []
    found = (_as_good(audit), _edge(audit), _revisits(audit))
    return [remark for remark in found if remark is not None]


def is_better(audit: Audit) -> bool:
    """Whether the interval of the best bandwidth's gain over the group mean (or batch mean) is above 0."""
    best = audit.finding(audit.best)
    if best.mse is None:
        return best.excess.high < 0
    return best.vs_rloo is not None and best.vs_rloo.low > 0


def usage(report: Report) -> str:
    """Three lines of Python: the default estimator, or the best bandwidth where its error is smaller."""
    best = report.audit.finding(report.audit.best)
    names, made = "KernelValueEstimator", "KernelValueEstimator()"
    if error(report.audit.finding("kernadv")).estimate > error(best).estimate:
        kernel = "" if report.kernel == "triangular" else f", kernel={report.kernel!r}"
        width = "float('inf')" if best.bandwidth == math.inf else f"{best.bandwidth:g}"
        if best.clock == "relative":
            made = f"KernelValueEstimator.kae(h={width}{kernel})"
        else:
            clock = "Visits" if best.clock == "visits" else "Steps"
            names, made = f"KernelValueEstimator, {clock}", f"KernelValueEstimator({clock}({width}){kernel})"
    return (
        f"from kernadv import {names}\nestimator = {made}\nadvantages = estimator.advantages(prompt_ids, rewards, step)"
    )


def _median_gap(audit: Audit) -> tuple[int, str]:
    """Lower end, and text, of the stretch of gaps that holds the median."""
    half = sum(bar["count"] for bar in audit.gaps) / 2
    seen = 0
    for bar in audit.gaps:
        seen += bar["count"]
        if seen >= half:
            break
    span = f"{bar['low']} step" if bar["low"] == bar["high"] == 1 else f"{bar['low']} to {bar['high']} steps"
    return int(bar["low"]), span


def _window(audit: Audit) -> float:
    """Half-width of the best bandwidth in steps; of a relative one, halfway through the run; of visits, at the usual gap."""
    best = audit.finding(audit.best)
    width = math.inf if best.bandwidth is None else best.bandwidth
    if best.clock == "visits":
        return width * _median_gap(audit)[0]
    middle = (audit.drift[0]["step"] + audit.drift[-1]["step"]) / 2
    return width * middle if best.clock == "relative" else width


def _halfway(audit: Audit) -> str:
    return " halfway through the run" if audit.finding(audit.best).clock == "relative" else ""
