"""The baselines that are compared: controls, oracles, and estimators through the package's public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.policies.task import Norms, Traces
from kernadv import KernelValueEstimator
from kernadv._typing import FloatArray, IntArray
from kernadv.scores import Surprisal


class Batch(NamedTuple):
    """What a baseline may look at.

    Attributes
    ----------
    prompts : (B,)
        The traces of a prompt lie side by side.
    traces : Traces
    step : int
    group : int
        Traces a prompt.
    norms : Norms
        For oracles.
    """

    prompts: IntArray
    traces: Traces
    step: int
    group: int
    norms: Norms


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
    """

    title: str
    make: Callable[[str], Baseline]
    least_group: int = 1


def tilted(value: FloatArray, k: float) -> FloatArray:
    """``v / (v + (1 - v) k)``: b* of a prompt whose wrong traces have k times the squared score norm of right ones."""
    v = value.clip(0.0, 1.0)
    return v / np.maximum(v + (1.0 - v) * k, 1e-300)


def _mean_of_others(rewards: FloatArray, group: int) -> FloatArray:
    z = rewards.reshape(-1, group)
    return ((z.sum(1, keepdims=True) - z) / (group - 1)).ravel()


def _batch_mean(batch: Batch) -> FloatArray:
    return _mean_of_others(batch.traces.reward, len(batch.prompts))


class Online:
    """A `KernelValueEstimator`: the values of a batch, which is remembered."""

    def __init__(self, estimator: KernelValueEstimator, weights: Surprisal | None = None) -> None:
        self.estimator, self.weights = estimator, weights

    def __call__(self, batch: Batch) -> FloatArray:
        traces = batch.traces
        given = {} if self.weights is None else {"weights": self.weights(traces.log_probs, traces.mask)}
        return traces.reward - self.estimator.advantages(batch.prompts, traces.reward, batch.step, **given)


def _always(baseline: Baseline) -> Callable[[str], Baseline]:
    return lambda loss: baseline


def _tilted(make: Callable[[str], Baseline], k: float) -> Callable[[str], Baseline]:
    def made(loss: str) -> Baseline:
        of = make(loss)
        return lambda batch: tilted(of(batch), k)

    return made


def _plain() -> Callable[[str], Baseline]:
    return lambda loss: Online(KernelValueEstimator())


def _weighted(cap: float = 3.0) -> Callable[[str], Baseline]:
    return lambda loss: Online(KernelValueEstimator(weighted=True), Surprisal(cap, loss))


#: Name in files -> method.  Tilted rows are controls: a lower baseline, without any weights.
METHODS = {
    "none": Method("none", _always(lambda batch: 0.0 * batch.traces.reward)),
    "mirror": Method("2 b* (as much variance as none)", _always(lambda batch: 2.0 * batch.norms.optimal)),
    "batch": Method("batch mean", _always(_batch_mean)),
    "batch-tilted": Method("batch mean, tilted", _tilted(_always(_batch_mean), 3.0)),
    "rloo": Method("RLOO", _always(lambda batch: _mean_of_others(batch.traces.reward, batch.group)), least_group=2),
    "kae": Method("KAE h=0.3", lambda loss: Online(KernelValueEstimator.kae(0.3))),
    "plain": Method("kernadv, plain", _plain()),
    "plain-tilted": Method("kernadv, plain, tilted", _tilted(_plain(), 3.0)),
    "plain-tilted-2": Method("kernadv, plain, tilted by 2", _tilted(_plain(), 2.0)),
    "weighted": Method("kernadv, weighted", _weighted()),
    "weighted-uncapped": Method("kernadv, weighted, no cap", _weighted(np.inf)),
    "weighted-tilted": Method("kernadv, weighted, tilted by 2", _tilted(_weighted(), 2.0)),
    "value": Method("oracle V", _always(lambda batch: batch.norms.value)),
    "optimal": Method("oracle b*", _always(lambda batch: batch.norms.optimal)),
}  # fmt: skip
