"""The audit of a reward log: whether it can be trusted, and the value error of every baseline on that run."""

from __future__ import annotations

from kernadv.auditing.checks import CHECKS
from kernadv.auditing.comparison import Comparison, Difference, compare
from kernadv.auditing.further import check_needs, further_baselines
from kernadv.auditing.prompts import prompts
from kernadv.auditing.replay import Progress, audit, default_grid
from kernadv.auditing.result import Audit, Check, Dead, Finding, Interval
from kernadv.auditing.watch import Watch

__all__ = [
    "CHECKS",
    "Audit",
    "Check",
    "Comparison",
    "Dead",
    "Difference",
    "Finding",
    "Interval",
    "Progress",
    "Watch",
    "audit",
    "check_needs",
    "compare",
    "default_grid",
    "further_baselines",
    "prompts",
]


def __dir__() -> list[str]:
    return __all__
