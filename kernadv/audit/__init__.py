"""The audit of a reward log: whether it can be trusted, and the value error of every baseline on that run."""

from __future__ import annotations

from kernadv.audit.checks import CHECKS
from kernadv.audit.further import further_baselines
from kernadv.audit.replay import Progress, audit, default_grid
from kernadv.audit.result import Audit, Check, Dead, Finding, Interval
from kernadv.audit.watch import Watch

__all__ = [
    "CHECKS",
    "Audit",
    "Check",
    "Dead",
    "Finding",
    "Interval",
    "Progress",
    "Watch",
    "audit",
    "default_grid",
    "further_baselines",
]
