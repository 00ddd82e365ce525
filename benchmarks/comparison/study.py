"""Which methods are compared, and their runs."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from benchmarks.comparison.run import compare
from kernadv.baselines import Baseline, discover, discover_tuned
from kernadv.baselines.pooled import PooledKernel
from kernadv.pooling import Pooling

#: KAE with the best of its windows, chosen with the truth in hand.
REFERENCE = "kae in hindsight"
#: The windows that KAE may choose from with the truth in hand.
FAMILIES = ("kae_relative tuned", "kae_steps tuned")

#: The default estimator, and with one piece changed.
PIECES: list[Baseline] = [
    PooledKernel(),
    PooledKernel(Pooling(common=(0.0,)), name="common level fixed"),
    PooledKernel(Pooling(priors=(1.0,)), name="one prior"),
    PooledKernel(Pooling(discounts=()), name="no discounts"),
    PooledKernel(Pooling(walks=(0.0,)), name="no walks"),
    PooledKernel(Pooling(priors=(1.0,), walks=(0.1,), discounts=()), name="one filter"),
]


def chosen(features: str | None = None, pieces: bool = False, settings: bool = False) -> dict[str, Baseline]:
    """The methods to run, by name; those of KAE's windows are among them."""
    tuned = discover_tuned()
    families = FAMILIES if not settings else [name for name, family in tuned.items() if not family.offline_rollouts]
    some: list[Baseline] = [*discover().values(), *tuned.values()]
    if features:
        some = [PooledKernel(), PooledKernel(features=True)]
    elif pieces:
        some = PIECES
    elif settings:
        some = [PooledKernel()]
    return {b.name: b for b in (*some, *(member for family in families for member in tuned[family].grid))}


def measure(
    every: dict[str, Baseline], seeds: Iterable[int], workers: int, features: str | None = None
) -> pl.DataFrame:
    """The long table, by run: whole runs and their first steps."""
    return compare(list(every.values()), seeds=list(seeds), workers=workers, features=features, parts=["all", "first"])


def fair(every: dict[str, Baseline]) -> list[str]:
    """The methods that may be the best other: no rollouts from before training, no own reward, no truth."""
    return [
        n
        for n, b in every.items()
        if not (b.uses_own_reward or b.offline_rollouts or b.needs_truth or n.startswith("kernadv"))
    ]
