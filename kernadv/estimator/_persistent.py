"""State of an estimator: arrays in a mapping or a file, without pickle, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernadv import moments
from kernadv._at_once import Call, at_once
from kernadv._checkpoint import load_arrays, save_arrays
from kernadv._errors import CheckpointError
from kernadv._typing import AnyArray
from kernadv.estimator._placed import Placed
from kernadv.history import History


class Persistent(Placed):
    """What of `KernelValueEstimator` is saved and loaded."""

    backend: moments.Selection

    def state_dict(self) -> dict[str, AnyArray]:
        """All state as plain arrays, with the configuration beside it."""
        self._home()
        config = np.frombuffer(json.dumps(self._config(), sort_keys=True).encode(), np.uint8).copy()
        return {"config": config, "seen": self._seen.copy(), **self._rule.state_dict(), **self._history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Replace the state; on an error it stays as it was.

        Parameters
        ----------
        state : mapping of arrays
            As made by `state_dict`.
        strict : bool
            Refuse a state saved under another bandwidth, kernel, pooling or `allow_late`: visits that could not matter
            under those may have been forgotten.  Without `strict` what was learned beside the history starts anew.

        Raises
        ------
        CheckpointError
            If the state is foreign, damaged, from a newer version or, with `strict`, of another configuration.
        """
        at_once(*self._loading(state, strict))

    def _loading(self, state: Mapping[str, Any], strict: bool) -> list[Call]:
        """The calls for `at_once` that replace the state; errors as in `load_state_dict`."""
        if not isinstance(state, Mapping):
            raise CheckpointError(f"a state is a mapping of names to arrays, got {type(state).__name__}")
        arrays = {name: np.asarray(array) for name, array in state.items()}
        if "config" not in arrays or "seen" not in arrays or arrays["seen"].shape != (2,):
            raise CheckpointError(f"not a state of KernelValueEstimator: it holds only {sorted(arrays)[:8]}")
        saved = arrays.pop("config").astype(np.uint8).tobytes().decode(errors="replace")
        ours = json.dumps(self._config(), sort_keys=True)
        if strict and saved != ours:
            raise CheckpointError(
                f"the state was saved under {saved}, this estimator is {ours}; pass strict=False to load it"
            )
        seen = arrays.pop("seen")
        if seen.dtype.kind not in "iuf" or not np.isfinite(seen).all() or seen[0] < 0:
            raise CheckpointError(f"the totals of the state are {seen}: it is damaged")
        seen = seen.astype(np.float64)
        history = History(self._history.max_visits, self._history.max_total)
        history.load_state_dict({name: array for name, array in arrays.items() if not name.startswith("pool.")})
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

    def _config(self) -> dict[str, Any]:
        return {**self._rule.config(), "allow_late": self.allow_late}
