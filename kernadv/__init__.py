"""Kernel-smoothed value baselines for reinforcement learning of language models with few rollouts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernadv._errors import ArgumentError as ArgumentError
    from kernadv._errors import ArgumentTypeError as ArgumentTypeError
    from kernadv._errors import BackendError as BackendError
    from kernadv._errors import CheckpointError as CheckpointError
    from kernadv._errors import KernadvError as KernadvError
    from kernadv._errors import LogError as LogError
    from kernadv._errors import MissingExtraError as MissingExtraError
    from kernadv.auditing import audit as audit
    from kernadv.clock import Relative as Relative
    from kernadv.clock import Steps as Steps
    from kernadv.clock import Visits as Visits
    from kernadv.estimator import ComponentValueEstimator as ComponentValueEstimator
    from kernadv.estimator import KernelValueEstimator as KernelValueEstimator
    from kernadv.estimator import warmup as warmup
    from kernadv.kernels import Kernel as Kernel
    from kernadv.logs import read_log as read_log
    from kernadv.pooling import Pooling as Pooling
    from kernadv.prompts import prompt_id as prompt_id
    from kernadv.regression import BandwidthWarning as BandwidthWarning
    from kernadv.regression import EmptyWindowWarning as EmptyWindowWarning
    from kernadv.regression import KNeighborsSmoother as KNeighborsSmoother
    from kernadv.regression import LocalLikelihood as LocalLikelihood
    from kernadv.regression import LocalLinear as LocalLinear
    from kernadv.regression import LocalPolynomial as LocalPolynomial
    from kernadv.regression import NadarayaWatson as NadarayaWatson
    from kernadv.simulation import simulate as simulate
    from kernadv.smoothers import Estimate as Estimate

__version__ = "0.2.0"

#: Where each public name lives; loaded on first use, so that `import kernadv` stays light.
_HOME = {
    "ArgumentError": "kernadv._errors",
    "ArgumentTypeError": "kernadv._errors",
    "BackendError": "kernadv._errors",
    "BandwidthWarning": "kernadv.regression",
    "CheckpointError": "kernadv._errors",
    "ComponentValueEstimator": "kernadv.estimator",
    "EmptyWindowWarning": "kernadv.regression",
    "Estimate": "kernadv.smoothers",
    "KNeighborsSmoother": "kernadv.regression",
    "KernadvError": "kernadv._errors",
    "Kernel": "kernadv.kernels",
    "KernelValueEstimator": "kernadv.estimator",
    "LocalLikelihood": "kernadv.regression",
    "LocalLinear": "kernadv.regression",
    "LocalPolynomial": "kernadv.regression",
    "NadarayaWatson": "kernadv.regression",
    "LogError": "kernadv._errors",
    "MissingExtraError": "kernadv._errors",
    "Pooling": "kernadv.pooling",
    "Relative": "kernadv.clock",
    "Steps": "kernadv.clock",
    "Visits": "kernadv.clock",
    "audit": "kernadv.auditing",
    "prompt_id": "kernadv.prompts",
    "read_log": "kernadv.logs",
    "simulate": "kernadv.simulation",
    "warmup": "kernadv.estimator",
}
#: Modules with more, loaded on first use too.
_MODULES = (
    "adapters", "auditing", "baselines", "clock", "estimator", "features", "gradient", "groups", "history", "kernels",
"logs", "moments", "pooling", "prompts", "regression", "report", "schedule", "scores", "simulation", "smoothers", "typing",
)  # fmt: skip

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"kernadv.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'kernadv' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]
