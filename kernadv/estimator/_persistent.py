"""State of an estimator: arrays in a mapping or a file, without pickle, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernadv import moments
from kernadv._arrays import LARGEST_REWARD
from kernadv._at_once import Call, at_once
from kernadv._checkpoint import load_arrays, save_arrays
from kernadv._errors import CheckpointError
from kernadv._states import as_arrays, real_numbers
from kernadv._typing import AnyArray, FloatArray
from kernadv.estimator._placed import Placed
from kernadv.history import History
from kernadv.units import MOST_UNITS

#: Rewards ever observed, at most; as many are counted exactly.
MOST_SEEN = 2.0**53
#: What sums that were rounded may differ by, relative to them; and squares of rewards near the smallest float64.
ROUNDING, LEAST = 1e-6, 1e-300


class Persistent(Placed):
    """What of `KernelValueEstimator` is saved and loaded."""

    backend: moments.Selection

    def state_dict(self) -> dict[str, AnyArray]:
        """All state as plain arrays, with the configuration beside it."""
        self._home()
        learned = self._rule.state_dict()
        config = np.frombuffer(self._config(learned).encode(), np.uint8).copy()
        return {"config": config, "seen": self._seen.copy(), **learned, **self._history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Replace the state; on an error it stays as it was.

        Parameters
        ----------
        state : mapping of arrays
            As made by `state_dict`.
        strict : bool
            Refuse a state saved under another bandwidth, kernel, pooling, number of features or `allow_late`: visits that
            could not matter under those may have been forgotten.  Without `strict` the visits are loaded, and what was
            learned beside them starts anew: all that the pooled estimator makes values from.

        Raises
        ------
        CheckpointError
            If the state is foreign, damaged, from a newer version or, with `strict`, of another configuration.
        """
        at_once(*self._loading(state, strict))

    def _loading(self, state: Mapping[str, Any], strict: bool) -> list[Call]:
        """The calls for `at_once` that replace the state; errors as in `load_state_dict`."""
        arrays = as_arrays(state)
        if "config" not in arrays or "seen" not in arrays or arrays["seen"].shape != (2,):
            raise CheckpointError(f"not a state of KernelValueEstimator: it holds only {sorted(arrays)[:8]}")
        config = arrays.pop("config")
        if config.dtype != np.uint8 or config.ndim != 1:
            raise CheckpointError("the configuration of the state is no text: it is damaged")
        saved = config.tobytes().decode(errors="replace")
        ours = self._config(arrays)
        if strict and saved != ours:
            raise CheckpointError(
                f"the state was saved under {saved:.2000}, this estimator is {ours}; pass strict=False to load it"
            )
        if saved != ours:
            arrays.pop("notes", None)
        seen = real_numbers(arrays.pop("seen"), (2,))
        if seen is None or not 0 <= seen[0] <= MOST_SEEN or abs(seen[1]) > seen[0] * LARGEST_REWARD:
            raise CheckpointError("the totals of the state are not those of rewards: it is damaged")
        history = History(self._history.max_visits, self._history.max_total, self._rule.noted)
        history.load_state_dict({name: array for name, array in arrays.items() if not name.startswith("pool.")})
        _check_sums(*(arrays[name].astype(np.float64) for name in ("n", "s", "ss")), weighted=self.weighted)
        if history.counters.visits and (history.unit > 0) != self.weighted:
            kept = "with" if history.unit else "without"
            raise CheckpointError(f"the history of the state was kept {kept} weights, which this estimator cannot read")
        replaced = {"_history": history, "_seen": seen, "_last": {}, "_device": None}
        return [*self._rule.loading(arrays if saved == ours else None), (self.__dict__.update, replaced)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file; a crash in the middle leaves the old file whole."""
        save_arrays(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], *, strict: bool = True) -> None:
        """Replace the state by the one in `path`; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            As `load_state_dict`, and if the file is truncated or foreign.
        FileNotFoundError
            If there is no such file.
        """
        self.load_state_dict(load_arrays(path), strict=strict)

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle and copy: the backend by its name, because modules cannot be pickled."""
        self._home()
        return {**self.__dict__, "backend": self.backend.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, backend=moments.select(state["backend"]))

    def _config(self, state: Mapping[str, AnyArray]) -> str:
        return json.dumps({**self._rule.config(state), "allow_late": self.allow_late}, sort_keys=True)


def _check_sums(n: FloatArray, s: FloatArray, ss: FloatArray, *, weighted: bool) -> None:
    """Refuse sums of visits that n rewards cannot have, or n weights and weighted rewards."""
    with np.errstate(all="ignore"):
        if weighted:
            bad = (ss > n * MOST_UNITS) | (np.abs(s) > ss * (LARGEST_REWARD * (1.0 + ROUNDING)) + LEAST)
        else:
            bad = (np.abs(s) > n * (LARGEST_REWARD * (1.0 + ROUNDING))) | ~(s * s <= n * ss * (1.0 + ROUNDING) + LEAST)
    if bad.any():
        raise CheckpointError("the state holds sums that no rewards have: it is damaged")
