"""The audit of a reward log: whether it can be trusted, and the value error of every baseline on that run."""

from __future__ import annotations

from kernadv.audit.checks import CHECKS
from kernadv.audit.comparison import Comparison, Difference, compare
from kernadv.audit.further import check_needs, further_baselines
from kernadv.audit.prompts import prompts
from kernadv.audit.replay import Progress, audit, default_grid
from kernadv.audit.result import Audit, Check, Dead, Finding, Interval
from kernadv.audit.watch import Watch

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
