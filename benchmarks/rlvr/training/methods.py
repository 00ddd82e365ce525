"""The baselines that are compared, through the package's public interface only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernadv import KernelValueEstimator
from kernadv.baselines import ValueEstimator, discover


class Method(NamedTuple):
    """A value baseline.

    Attributes
    ----------
    title : str
        In tables.
    make : callable
        A new `KernelValueEstimator`, or the online form of a `kernadv.baselines.Baseline`.
    least_group : int
        Smallest number of traces a prompt.
    weighted : bool
        It reads a weight a trace, here ``sum_t |onehot(y_t) - p_t|^2``.
    """

    title: str
    make: Callable[[], ValueEstimator]
    least_group: int = 1
    weighted: bool = False


def _stateless(name: str) -> Callable[[], ValueEstimator]:
    return lambda: discover()[name].online()


def _kae(h: float, kernel: str = "triangular") -> Callable[[], ValueEstimator]:
    return lambda: KernelValueEstimator.kae(h, kernel)


#: Name in files -> method.  KAE's h = 0.3 was fixed before any run; the others with it show the sensitivity.
METHODS = {
    "none": Method("none", _stateless("zero")),
    "batch": Method("batch mean", _stateless("batch_mean")),
    "rloo": Method("RLOO", _stateless("rloo"), least_group=2),
    "kae": Method("KAE h=0.3", _kae(0.3)),
    "default": Method("kernadv", KernelValueEstimator),
    "weighted": Method("kernadv, score-weighted", lambda: KernelValueEstimator(weighted=True), weighted=True),
    "kae-0.1": Method("KAE h=0.1", _kae(0.1)),
    "kae-1": Method("KAE h=1", _kae(1.0)),
    "kae-exponential": Method("KAE h=0.1, exponential", _kae(0.1, "exponential")),
}


class Advantages:
    """Rewards minus a method's values, and its memory.

    Parameters
    ----------
    method : Method
    """

    def __init__(self, method: Method) -> None:
        self._estimator = method.make()
        self._weighted = method.weighted

    def __call__(self, prompt_ids: Any, rewards: Any, step: int, weights: Any) -> Any:
        """Advantages of a batch, which is remembered.  # (B,) float64"""
        estimator = self._estimator
        if isinstance(estimator, KernelValueEstimator):
            given = {"weights": weights} if self._weighted else {}
            return estimator.advantages(prompt_ids, rewards, step, **given)
        advantages = rewards - np.asarray(estimator.values(prompt_ids, rewards, step).value)
        estimator.observe(prompt_ids, rewards, step)
        return advantages

    def state_dict(self) -> dict[str, Any]:
        """The memory, as arrays; empty for baselines without one."""
        return self._estimator.state_dict() if isinstance(self._estimator, KernelValueEstimator) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the memory back."""
        if isinstance(self._estimator, KernelValueEstimator):
            self._estimator.load_state_dict(state)
