"""The baselines that are compared: controls, oracles, and estimators through the package's public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.policies.task import Norms
from kernadv import KernelValueEstimator
from kernadv.scores import Surprisal
from kernadv.typing import BoolArray, FloatArray, IntArray


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
    """Baseline of each trace, (B,), or of each token, (B, T); called once a batch."""

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
    per_token : bool
        It has a baseline for each token, for policies that write one token after the other.
    """

    title: str
    make: Callable[[str], Baseline]
    least_group: int = 1
    oracle: bool = False
    per_token: bool = False


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
        The values are `tilted` by it, from the first batch on: ``pessimism=k`` waits for the second.
    """

    def __init__(self, estimator: KernelValueEstimator, weights: Surprisal | None = None, k: float = 1.0) -> None:
        self.estimator, self.weights, self.k = estimator, weights, k

    def __call__(self, batch: Batch) -> FloatArray:
        given = {} if self.weights is None else {"weights": self.weights(batch.log_probs, batch.mask)}
        value = batch.reward - self.estimator.advantages(batch.prompts, batch.reward, batch.step, **given)
        return value if self.k == 1.0 else tilted(value, self.k)


class AlongTrace:
    """The weighted baseline, moved along the trace: each part gets the baseline that is best for its own gradient.

    With the score s of a trace and s_c of its part c, that is ``E[w_c Z] / E w_c``, ``w_c = s_c . s``.  For w_c stands
    x_c x, with the surprisal x of the trace and x_c of the part.  Parts are bins of the surprisal before a token.  All
    prompts share the logit shifts between the parts and the trace, which are learnt as the batches come.
    """

    KEPT, SHRUNK = 0.95, 0.002  # share of the sums that stays at a batch; information of the prior, in all weights

    def __init__(self, weights: Surprisal, k: float = 1.0, bins: int = 8) -> None:
        self.estimator, self.weights, self.k, self.bins = KernelValueEstimator(weighted=True), weights, k, bins
        self.edges: FloatArray | None = None
        self.residual, self.information, self.weight = np.zeros((3, bins))

    def __call__(self, batch: Batch) -> FloatArray:
        x = np.where(batch.mask, -batch.log_probs, 0.0)  # (B, T)
        before, total = x.cumsum(1) - x, x.sum(1, keepdims=True)
        now = np.quantile(before[batch.mask], np.arange(1, self.bins) / self.bins)
        edges = now if self.edges is None else self.edges
        self.edges = 0.9 * edges + 0.1 * now
        part = (before[..., None] >= edges).sum(-1)  # (B, T)
        weight = self.weights(batch.log_probs, batch.mask)
        b = batch.reward - self.estimator.advantages(batch.prompts, batch.reward, batch.step, weights=weight)
        inside = b.clip(0.005, 0.995)
        shift = self.residual / np.maximum(self.information + self.SHRUNK * self.weight.sum(), 1e-300)
        logit = np.log(inside / (1.0 - inside))[:, None] + shift.clip(-3.0, 3.0)
        moved = np.take_along_axis(1.0 / (1.0 + np.exp(-logit)), part, axis=1)

        mine = np.stack([np.where(part == c, x, 0.0).sum(1) for c in range(self.bins)], axis=1)  # (B, bins)
        mine *= weight[:, None] / np.maximum(total, 1e-12) / weight.mean()
        news = (batch.reward - b)[:, None] * mine, (inside * (1.0 - inside))[:, None] * mine, mine
        for sums, new in zip((self.residual, self.information, self.weight), news, strict=True):
            sums[:] = self.KEPT * sums + new.sum(0)
        return tilted(moved, self.k)


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
    "weighted-tokens": Method(
        "kernadv, weighted, along the trace", lambda loss: AlongTrace(Surprisal(loss=loss)), per_token=True
    ),
    "weighted-tokens-tilted": Method(
        "kernadv, weighted, along the trace, tilted by 2", lambda loss: AlongTrace(Surprisal(loss=loss), 2.0), per_token=True
    ),
    "value": Method("oracle V", _oracle(lambda norms: norms.value), oracle=True),
    "optimal": Method("oracle b*", _oracle(lambda norms: norms.optimal), oracle=True),
}  # fmt: skip
