"""The baselines at a checkpoint: each has seen the path's history, and values fresh groups of the checkpoint's prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.rlvr.banks.draw import GROUP, OFFLINE_ROLLOUTS, Plan
from benchmarks.rlvr.files import load
from kernadv import KernelValueEstimator
from kernadv.baselines import Offline, ValueEstimator, discover
from kernadv.baselines.kae import KAE
from kernadv.clock import Relative
from kernadv.scores import Surprisal

GROUPS = (1, 4, 8)
#: Weights that are powers of a trace's columns.
POWERS = {"proxy-squared": ("proxy", 2), "surprisal-squared": ("surprisal", 2), "proxy-cubed": ("proxy", 3)}


class Bank(NamedTuple):
    """What `draw.draw` kept, as arrays.

    Attributes
    ----------
    plan : Plan
    step : int
    offline : Offline
        Eight rollouts of every prompt by the start.
    data : dict
        As `draw.draw` returns it; histories as (steps, P, 8).
    """

    plan: Plan
    step: int
    offline: Offline
    data: dict[str, Any]

    @property
    def prompts(self) -> int:
        """Number P of prompts."""
        return len(self.data["prompt"])


def read(plan: Plan, step: int, folder: Path) -> Bank:
    """A bank on disk."""
    data = {name: _arrays(part) for name, part in load(plan.bank(folder, step)).items()}
    size = plan.setting.prompts, GROUP
    data["history"] = {name: column.reshape(-1, *size) for name, column in data["history"].items()}
    for source in (data, data["history"]):
        source.update({name: source[of] ** power for name, (of, power) in POWERS.items() if of in source})
    if "surprisal" in data:
        weigh = Surprisal()  # as the batches came, then the fresh traces

        def capped(x: Any, length: Any) -> Any:
            return weigh.of_traces(x.ravel(), length.ravel()).reshape(x.shape)

        history = data["history"]
        if "surprisal" in history:
            batches = zip(history["surprisal"], history["length"], strict=True)
            history["surprisal-capped"] = np.array([capped(*batch) for batch in batches])
        data["surprisal-capped"] = capped(data["surprisal"], data["length"])
    rates = load(plan.offline(folder)).numpy()
    return Bank(plan, step, Offline(rates * OFFLINE_ROLLOUTS, OFFLINE_ROLLOUTS), data)


def _arrays(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _arrays(x) for name, x in part.items()}
    return part.numpy().astype(np.int64 if part.dtype.is_floating_point is False else np.float64)


class ScoreWeightedKAE:
    """KAE of w z over KAE of w: the plain kernel estimate of E[w Z] / E[w]."""

    def __init__(self, h: float) -> None:
        self._top, self._bottom = (KAE(Relative(h)).online() for _ in range(2))

    def baselines(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any) -> Any:
        """Of each row.  # (B,)"""
        top, bottom = (
            np.asarray(estimator.values(prompt_ids, x, step).value)
            for estimator, x in ((self._top, weights * rewards), (self._bottom, weights))
        )
        return top / bottom

    def observe(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any) -> None:
        """Learn from a batch."""
        self._top.observe(prompt_ids, weights * rewards, step)
        self._bottom.observe(prompt_ids, weights, step)


class Column(NamedTuple):
    """A baseline of the tables.

    Attributes
    ----------
    title : str
    make : callable
        From the offline rollouts to the estimator.
    weight : str
        Which column of the traces weighs them; "": none.
    least_group : int
    """

    title: str
    make: Callable[[Offline], Any]
    weight: str = ""
    least_group: int = 1


def online(name: str) -> Callable[[Offline], ValueEstimator]:
    def make(offline: Offline) -> ValueEstimator:
        baseline = discover()[name]
        return baseline.online(offline if baseline.offline_rollouts else None)

    return make


def _kae(h: float) -> Callable[[Offline], ValueEstimator]:
    return lambda _: KAE(Relative(h)).online()


def pooled(**options: Any) -> Callable[[Offline], KernelValueEstimator]:
    return lambda _: KernelValueEstimator(**options)


#: Free of the own reward.  KAE's h = 0.3 was fixed before any run.
COLUMNS = {
    "batch": Column("batch mean", online("batch_mean")),
    "rloo": Column("RLOO", online("rloo"), least_group=2),
    "kae-0.1": Column("KAE h=0.1", _kae(0.1)),
    "kae": Column("KAE h=0.3", _kae(0.3)),
    "kae-0.5": Column("KAE h=0.5", _kae(0.5)),
    "kae-1": Column("KAE h=1", _kae(1.0)),
    "default": Column("kernadv", online("kernadv")),
}


def values(bank: Bank, column: Column, group: int, traces: dict[str, Any]) -> Any:
    """Values of fresh groups.

    Parameters
    ----------
    bank : Bank
    column : Column
    group : int
        Number G of traces a group; the history is the first G of each group of the path.
    traces : dict of (repeats, P, G) arrays
        reward, and the column that weighs.

    Returns
    -------
    (repeats, P, G) float64
    """
    estimator = column.make(bank.offline)
    history = {name: x[:, :, :group] for name, x in bank.data["history"].items()}

    def given(source: dict[str, Any], k: int) -> dict[str, Any]:
        return {"weights": source[column.weight][k].ravel()} if column.weight else {}

    for k, prompt in enumerate(history.get("prompt", ())):
        estimator.observe(prompt.astype(int).ravel(), history["reward"][k].ravel(), k + 1, **given(history, k))
    ids = np.repeat(bank.data["prompt"], group)
    reward = traces["reward"]
    if hasattr(estimator, "baselines"):
        out = [estimator.baselines(ids, z.ravel(), bank.step, **given(traces, k)) for k, z in enumerate(reward)]
    else:
        out = [estimator.values(ids, z.ravel(), bank.step).value for z in reward]
    return np.asarray(out).reshape(reward.shape)


def table(rows: list[dict[str, Any]], plan: Plan, step: int) -> pa.Table:
    """Rows, with the checkpoint's columns before them; small types."""
    s = plan.setting
    about = {"profile": s.profile, "seed": s.seed, "reuse": s.reuse, "step": step, "temperature": plan.temperature}
    columns = {name: np.array([(about | row)[name] for row in rows]) for name in (*about, *rows[0])}
    return pa.table({name: _small(column) for name, column in columns.items()})


def _small(column: Any) -> Any:
    if column.dtype.kind in "fi":
        return column.astype(np.float32 if column.dtype.kind == "f" else np.int32)
    return pa.array(column).dictionary_encode()
