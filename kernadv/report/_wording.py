"""How the forms of the report write numbers, and the sentences that they share."""

from __future__ import annotations

import math

from kernadv.auditing import CHECKS, Audit, Check, Finding, Interval
from kernadv.auditing.verdict import share

#: Numbers are written with all digits below.
MILLION = 1e6

#: Baselines with a systematic error, which may go with the score norm.
DOUBTFUL_GRADIENT = ("zero", "batch_mean")

VALUE = "A value is an estimate of a prompt's mean reward, which training subtracts from each reward."
CUT = 'MSE cut: how far the value MSE is below that baseline\'s; "11 times": it is that many times as large.'
WORTH = (
    "Worth G: with how many traces a prompt RLOO's values would have this error. This is about values, not gradients: it is "
    "no number of rollouts saved."
)
GROUP_MEAN = (
    "The group mean contains its own reward. Corrected for that, its value MSE is the noise / G; its gradient is RLOO's "
    "times 1 - 1/G."
)
GRADIENT = (
    "Gradient variance: what the value errors imply if they are unrelated to the size of a trace's gradient. So are those "
    "of smoothed values, but not the systematic ones of zero and batch mean: in parentheses."
)


def label(finding: Finding) -> str:
    """Short name of a baseline: ``batch mean``, ``RLOO``, ``KAE h=0.5``."""
    if finding.clock is not None:
        return finding.name.replace("kae", "KAE")
    return "RLOO" if finding.name == "rloo" else finding.name.replace("_", " ")


def mark(audit: Audit, finding: Finding) -> str:
    """What marks a baseline in the table."""
    if finding.name == "kernadv":
        return "default"
    if finding.name == audit.best:
        return "best KAE, in hindsight"
    return "as good" if finding.name in audit.as_good else ""


def trust(audit: Audit) -> str:
    """The answer to whether the log can be trusted."""
    failed = audit.failed()
    missing = [name for name in CHECKS if name not in {check.name for check in audit.checks}]
    total = len(audit.checks)
    answer = f"all {total} checks passed" if not failed else f"{len(failed)} of {total} checks failed"
    unknown = f" (not checked: {', '.join(missing)})" if missing else ""
    return f"Can this log be trusted? {answer[0].upper()}{answer[1:]}{unknown}."


def failure(check: Check) -> str:
    """What a check found, and what to do."""
    return f"{check.evidence} {check.advice}"


def reference(audit: Audit) -> str:
    """The baseline that gradient variances are compared with: RLOO, or the batch mean where RLOO is undefined."""
    return "batch mean" if audit.noise is None else "RLOO"


def error(finding: Finding) -> Interval:
    """Value MSE; with one trace a group its difference to the batch mean, which is all that is known."""
    return finding.excess if finding.mse is None else finding.mse


def places(audit: Audit) -> int:
    """Decimals that show two digits of the default's error."""
    size = abs(error(audit.finding("kernadv")).estimate)
    return min(max(1 - math.floor(math.log10(size)), 0), 6) if 0 < size < math.inf else 3


def number(value: float | None, decimals: int) -> str:
    """Fixed decimals; three digits and a power of ten from a million on; a dash for a number that is not there."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= MILLION:
        return f"{value:.3g}"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def percent(value: float | None, decimals: int = 0) -> str:
    """A share as a percentage; a dash for a number that is not there."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{number(100 * value, decimals)}%"


def numbers(value: Interval | float | None, field: str, decimals: int) -> tuple[str, str, str]:
    """How a number of a finding is written, and the ends of its interval; without an interval the ends are like it.

    A cut that is, or may be, below -200% is written as the factor by which the error is larger.
    """
    found = value if isinstance(value, Interval) else Interval(*(math.nan if value is None else value,) * 3)
    if field in ("vs_rloo", "vs_batch"):
        if found.estimate < -2 or found.low < -2:
            factor = Interval(1.0 - found.estimate, 1.0 - found.high, 1.0 - found.low)
            digits = 0 if factor.estimate >= 10 else 1
            text, low, high = (number(part, digits) for part in factor)
            return f"{text} times", low, high
        return (percent(found.estimate), percent(found.low), percent(found.high))
    digits = {"gradient_ratio": 2, "worth": 1}.get(field, decimals)
    return (number(found.estimate, digits), number(found.low, digits), number(found.high, digits))


def sizes(audit: Audit) -> list[str]:
    """How much the log holds."""
    g = sorted(audit.group_sizes)
    group = f"{g[0]}" if len(g) == 1 else f"{g[0]} to {g[-1]}"
    counts = ((audit.rows, "row"), (audit.prompts, "prompt"), (audit.steps, "step"))
    return [*(f"{count:,} {what}{'s' * (count != 1)}" for count, what in counts), f"G = {group}"]


def spread(audit: Audit) -> list[str]:
    """Noise of a reward, and spread of the values against it."""
    noise, between = audit.noise, audit.between
    name = "E V(1-V)" if audit.binary else "E s^2"
    if noise is None:
        return []
    facts = [f"noise {name} = {noise:,.0f}" if 1000 <= noise < MILLION else f"noise {name} = {noise:.3g}"]
    if between is not None and noise > 0:
        facts.append(f"spread of the values Var V = {between.estimate / noise:.2f} of it")
    return facts


def revisits(audit: Audit) -> str:
    """Whether prompts come back often enough to be smoothed over, and the numbers behind it."""
    if audit.steps == 1:
        return "The log has one step: there is no past to smooth, and kernadv knows only what the prompts share."
    if audit.median_gap is None:
        return (
            "No prompt comes back: one pass over the data, or ids that are drawn anew at each visit. There is no past of a "
            "prompt to smooth; kernadv knows only what the prompts share."
        )
    gap, window = audit.median_gap, _window(audit)
    usual = f"after {gap:g} step{'s' * (gap != 1)} (median)"
    visits = audit.groups / audit.prompts
    tail = f"{visits:.3g} visits a prompt; {share(audit.first_visits)} of the groups are first visits, without a past."
    if window is None:
        return f"Prompts come back {usual}; {tail}"
    if audit.first_visits <= 0.25 and window >= 2 * gap:
        judgement = "often enough"
    elif audit.first_visits <= 0.5 and window >= gap:
        judgement = "just often enough, more would help"
    else:
        judgement = "too rarely for smoothing to help much"
    reach = "the whole past" if math.isinf(window) else f"{window:.0f} step{'s' * (round(window) != 1)}"
    return f"Prompts come back {judgement}: {usual}, with a best bandwidth of {reach}{_halfway(audit)}; {tail}"


def grid(audit: Audit) -> str | None:
    """The best bandwidth, those that cannot be told from it, and what it means that it is the last of its clock."""
    if audit.best is None:
        return None
    best = audit.finding(audit.best)
    others = [label(audit.finding(name)).removeprefix("KAE ") for name in audit.as_good if name != audit.best]
    text = f"Best KAE window, in hindsight: {label(best).removeprefix('KAE ')}"
    text += f"; as good, as far as the bootstrap can tell: {', '.join(others)}." if others else "."
    if not audit.at_edge:
        return text
    if best.bandwidth == math.inf:
        return f"{text} It weighs the whole past alike: over this run the values hardly moved."
    clock = [s.bandwidth for s in audit.findings if s.clock == best.clock and s.bandwidth is not None]
    end = "narrow" if best.bandwidth == min(clock) else "wide"
    return f"{text} It is the {end}est that was tried: a {end}er one may be better."


def other_sizes(audit: Audit) -> str | None:
    """What RLOO would have had with more or fewer traces a prompt."""
    rows = []
    for row in audit.other_sizes:
        if set(audit.group_sizes) == {row["G"]}:
            continue
        dead = "" if row["dead"] is None else f" ({share(row['dead'])} of the groups dead)"
        rows.append(f"{row['gradient_ratio'] - 1.0:+.0%} with G = {row['G']}{dead}")
    return f"Gradient variance of RLOO at the same number of rollouts: {', '.join(rows)}." if rows else None


def remarks(audit: Audit) -> list[str]:
    """What to know before using it; nothing where the log has no signal or cannot be trusted."""
    if audit.noise == 0 or audit.failed("broken"):
        return []
    incomplete = any(check.name == "all generations logged" for check in audit.failed())
    found = (other_sizes(audit), grid(audit), None if incomplete else revisits(audit))
    return [remark for remark in found if remark is not None]


def is_better(audit: Audit) -> bool:
    """Whether the interval of the gain of the advised baseline over RLOO (or the batch mean) is above 0."""
    if audit.failed("broken"):
        return False
    advised = audit.finding(audit.advised)
    if advised.mse is None:
        return advised.excess.high < 0
    return advised.vs_rloo is not None and advised.vs_rloo.low > 0


def usage(audit: Audit) -> str:
    """Three lines of Python: the default estimator, or the best bandwidth where the default has the larger error."""
    advised = audit.finding(audit.advised)
    names, made = "KernelValueEstimator", "KernelValueEstimator()"
    if advised.clock is not None:
        kernel = "" if audit.kernel == "triangular" else f", kernel={audit.kernel!r}"
        width = "float('inf')" if advised.bandwidth == math.inf else f"{advised.bandwidth:g}"
        if advised.clock == "relative":
            made = f"KernelValueEstimator.kae(h={width}{kernel})"
        else:
            clock = "Visits" if advised.clock == "visits" else "Steps"
            names, made = f"KernelValueEstimator, {clock}", f"KernelValueEstimator({clock}({width}){kernel})"
    return (
        f"from kernadv import {names}\nestimator = {made}\nadvantages = estimator.advantages(prompt_ids, rewards, step)"
    )


def _window(audit: Audit) -> float | None:
    """Half-width of the best bandwidth in steps; of a relative one, halfway through the run; of visits, at the usual gap."""
    if audit.best is None or audit.median_gap is None:
        return None
    best = audit.finding(audit.best)
    width = math.inf if best.bandwidth is None else best.bandwidth
    if best.clock == "visits":
        return width * audit.median_gap
    middle = (audit.drift[0]["step"] + audit.drift[-1]["step"]) / 2
    return width * middle if best.clock == "relative" else width


def _halfway(audit: Audit) -> str:
    return " halfway through the run" if audit.best and audit.finding(audit.best).clock == "relative" else ""
