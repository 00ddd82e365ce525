"""The state of an estimator as a mapping of arrays, without pickle; it is loaded whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernadv._arrays import LARGEST_REWARD
from kernadv._errors import CheckpointError
from kernadv._states import as_arrays
from kernadv.estimator._rule import Rule
from kernadv.estimator.state import HostState
from kernadv.history import History
from kernadv.pooling import Pool
from kernadv.tally import Tally
from kernadv.typing import AnyArray, FloatArray

#: Relative rounding error of a sum; and least square of a reward, against underflow.
ROUNDING, LEAST = 1e-6, 1e-300


def to_arrays(state: HostState) -> dict[str, AnyArray]:
    """All state as plain arrays, with the configuration beside it."""
    learned = {} if state.pool is None else state.pool.state_dict()
    config = np.frombuffer(_config(state.rule, state.pool, learned).encode(), np.uint8).copy()
    return {"config": config, **state.tally.state_dict(), **learned, **state.history.state_dict()}


def from_arrays(
    state: Any, rule: Rule, pool: Pool | None, max_visits: int | None, max_total: int | None, *, strict: bool
) -> tuple[History, Tally, Pool | None, dict[str, AnyArray]]:
    """The arguments that make a `HostState`, from the arrays of `to_arrays`.

    Parameters
    ----------
    state : mapping of arrays
    rule : Rule
    pool : Pool or None
        The present one.
    max_visits, max_total : int, optional
        Caps of the history.
    strict : bool
        Refuse the state of another configuration.

    Raises
    ------
    CheckpointError
        If the state is foreign, damaged, from a newer version or, with `strict`, of another configuration.
    """
    arrays = as_arrays(state)
    if "config" not in arrays or "seen" not in arrays:
        raise CheckpointError(f"not a state of KernelValueEstimator: it holds only {sorted(arrays)[:8]}")
    config = arrays.pop("config")
    if config.dtype != np.uint8 or config.ndim != 1:
        raise CheckpointError("the configuration of the state is no text: it is damaged")
    saved = config.tobytes().decode(errors="replace")
    ours = _config(rule, pool, arrays)
    if strict and saved != ours:
        raise CheckpointError(
            f"the state was saved under {saved:.2000}, this estimator is {ours}; pass strict=False to load it"
        )
    if saved != ours:
        arrays.pop("notes", None)
    tally = Tally.of_state(arrays)
    if saved != ours:
        tally = tally._replace(errors=Tally.empty().errors)
    history = History(max_visits, max_total, rule.noted)
    history.load_state_dict({name: array for name, array in arrays.items() if "." not in name})
    _check_sums(*(arrays[name].astype(np.float64) for name in ("n", "s", "ss")))
    return history, tally, rule.restored(pool, arrays if saved == ours else None), {}


def _config(rule: Rule, pool: Pool | None, arrays: Mapping[str, AnyArray]) -> str:
    return json.dumps({**rule.config(pool, arrays), "allow_late": rule.allow_late}, sort_keys=True)


def _check_sums(n: FloatArray, s: FloatArray, ss: FloatArray) -> None:
    """Refuse sums of visits that n rewards cannot have."""
    with np.errstate(all="ignore"):
        bad = (np.abs(s) > n * (LARGEST_REWARD * (1.0 + ROUNDING))) | ~(s * s <= n * ss * (1.0 + ROUNDING) + LEAST)
    if bad.any():
        raise CheckpointError("the state holds sums that no rewards have: it is damaged")
