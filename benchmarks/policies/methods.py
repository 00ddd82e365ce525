"""The baselines that are compared: controls, oracles, and estimators through the package's public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.policies.task import Norms
from kernadv import KernelValueEstimator
from kernadv._typing import BoolArray, FloatArray, IntArray
from kernadv.scores import Surprisal


class Batch(NamedTuple):
    """What a baseline may look at.

    Attributes
    ----------
    prompts : (B,)
        The traces of a prompt lie side by side.
    reward : (B,)
    log_probs, mask : (B, T)
        Of the traces' tokens.
    step : int
    group : int
        Traces a prompt.
    norms : Norms, optional
        For oracles.
    """

    prompts: IntArray
    reward: FloatArray
    log_probs: FloatArray
    mask: BoolArray
    step: int
    group: int
    norms: Norms | None = None


class Baseline(Protocol):
    """Baseline of each trace; called once a batch."""

    def __call__(self, batch: Batch) -> FloatArray: ...


class Method(NamedTuple):
    """A row of the tables.

    Attributes
    ----------
    title : str
    make : callable
        From the loss, "sum" or "trace", to a new `Baseline`.
    least_group : int
        Smallest number of traces a prompt.
    oracle : bool
        It reads the exact norms.
    """

    title: str
    make: Callable[[str], Baseline]
    least_group: int = 1
    oracle: bool = False


def tilted(value: FloatArray, k: float) -> FloatArray:
    """``v / (v + (1 - v) k)``: b* of a prompt whose wrong traces have k times the squared score norm of right ones."""
    v = value.clip(0.0, 1.0)
    return v / np.maximum(v + (1.0 - v) * k, 1e-300)


def _mean_of_others(rewards: FloatArray, group: int) -> FloatArray:
    z = rewards.reshape(-1, group)
    return ((z.sum(1, keepdims=True) - z) / (group - 1)).ravel()


def _batch_mean(batch: Batch) -> FloatArray:
    return _mean_of_others(batch.reward, len(batch.prompts))


class Online:
    """A `KernelValueEstimator`: the values of a batch, which is remembered.

    Parameters
    ----------
    estimator : KernelValueEstimator
    weights : Surprisal, optional
        Of a weighted estimator.
    k : float
        The values are `tilted` by it.
    """

    def __init__(self, estimator: KernelValueEstimator, weights: Surprisal | None = None, k: float = 1.0) -> None:
        self.estimator, self.weights, self.k = estimator, weights, k

    def __call__(self, batch: Batch) -> FloatArray:
        given = {} if self.weights is None else {"weights": self.weights(batch.log_probs, batch.mask)}
        value = batch.reward - self.estimator.advantages(batch.prompts, batch.reward, batch.step, **given)
        return value if self.k == 1.0 else tilted(value, self.k)


def _always(baseline: Baseline) -> Callable[[str], Baseline]:
    return lambda loss: baseline


def _plain(k: float = 1.0) -> Callable[[str], Baseline]:
    return lambda loss: Online(KernelValueEstimator(), k=k)


def _weighted(cap: float = 3.0, k: float = 1.0) -> Callable[[str], Baseline]:
    return lambda loss: Online(KernelValueEstimator(weighted=True), Surprisal(cap, loss), k)


def _oracle(read: Callable[[Norms], FloatArray]) -> Callable[[str], Baseline]:
    return lambda loss: lambda batch: read(batch.norms)


#: Name in files -> method.  Tilted rows are controls: a lower baseline, without any weights.
METHODS = {
    "none": Method("none", _always(lambda batch: 0.0 * batch.reward)),
    "mirror": Method("2 b* (as much variance as none)", _oracle(lambda norms: 2.0 * norms.optimal), oracle=True),
    "batch": Method("batch mean", _always(_batch_mean)),
    "batch-tilted": Method("batch mean, tilted", _always(lambda batch: tilted(_batch_mean(batch), 3.0))),
    "rloo": Method("RLOO", _always(lambda batch: _mean_of_others(batch.reward, batch.group)), least_group=2),
    "kae": Method("KAE h=0.3", lambda loss: Online(KernelValueEstimator.kae(0.3))),
    "plain": Method("kernadv, plain", _plain()),
    "plain-tilted": Method("kernadv, plain, tilted", _plain(3.0)),
    "plain-tilted-2": Method("kernadv, plain, tilted by 2", _plain(2.0)),
    "weighted": Method("kernadv, weighted", _weighted()),
    "weighted-uncapped": Method("kernadv, weighted, no cap", _weighted(np.inf)),
    "weighted-tilted": Method("kernadv, weighted, tilted by 2", _weighted(k=2.0)),
    "value": Method("oracle V", _oracle(lambda norms: norms.value), oracle=True),
    "optimal": Method("oracle b*", _oracle(lambda norms: norms.optimal), oracle=True),
}  # fmt: skip
