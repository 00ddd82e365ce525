"""The audit of a reward log: the value error of every baseline on a finished or running training run."""

from __future__ import annotations

from kernadv.audit.further import further_baselines
from kernadv.audit.replay import Progress, audit, default_grid
from kernadv.audit.result import Audit, Finding, Interval

__all__ = ["Audit", "Finding", "Interval", "Progress", "audit", "default_grid", "further_baselines"]
