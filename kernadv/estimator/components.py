"""Several reward components with one value each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from kernadv._arrays import is_tensor
from kernadv._at_once import Call, at_once
from kernadv._checkpoint import load_arrays, save_arrays
from kernadv._errors import ArgumentError, CheckpointError, check_count
from kernadv._states import as_arrays
from kernadv._typing import AnyArray
from kernadv.estimator.estimator import KernelValueEstimator
from kernadv.estimator.prediction import Prediction
from kernadv.smoothers import Estimate


class ComponentValueEstimator:
    """A `KernelValueEstimator` for each column of a matrix of rewards, e.g. one a reward function.

    Parameters
    ----------
    components : int
        Number C of columns.
    **options
        Arguments of `KernelValueEstimator`, the same for all columns.

    Raises
    ------
    ArgumentError
        If components is not a whole number >= 1, or as `KernelValueEstimator`.

    Examples
    --------
    >>> est = ComponentValueEstimator(2)
    >>> est.advantages(["a", "a"], [[1.0, 0.0], [0.0, 0.0]], step=1)
    array([[ 1.,  0.],
           [-1.,  0.]])
    """

    def __init__(self, components: int, **options: Any) -> None:
        self.columns = [KernelValueEstimator(**options) for _ in range(check_count(components, "components"))]
        self.components = len(self.columns)
        self.weighted = self.columns[0].weighted

    def values(self, prompt_ids: Any, rewards: Any, step: Any, *, trace: Any = None) -> Estimate:
        """Value of each row's prompt by component; arguments as in `KernelValueEstimator.values`, rewards (B, C).

        Returns
        -------
        Estimate of (B, C) arrays
        """
        parts = [
            est.values(prompt_ids, column, step, trace=trace)
            for est, column in zip(self.columns, self._split(rewards), strict=True)
        ]
        return Estimate(*(_stack([getattr(part, name) for part in parts]) for name in Estimate._fields))

    def predict(self, prompt_ids: Any, step: Any = None, *, level: float = 0.95) -> list[Prediction]:
        """What is known of prompts before any trace of `step`: a `Prediction` for each component.  Only reads.

        Parameters and errors as in `KernelValueEstimator.predict`; the default of `step` is one after the newest.
        """
        return [est.predict(prompt_ids, step, level=level) for est in self.columns]

    def observe(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any = None, trace: Any = None) -> None:
        """Learn from a batch; rewards (B, C)."""
        parts = [
            est._observing(prompt_ids, column, step, weights, trace)
            for est, column in zip(self.columns, self._split(rewards), strict=True)
        ]
        at_once(*_together(parts))

    def advantages(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any = None, trace: Any = None) -> Any:
        """``rewards - baselines``, then `observe`.  rewards: (B, C) -> (B, C)"""
        parts = [
            est._advantages(prompt_ids, column, step, weights, trace)
            for est, column in zip(self.columns, self._split(rewards), strict=True)
        ]
        out = _stack([advantages for advantages, _ in parts])
        at_once(*_together([learning for _, learning in parts]))
        return out

    def metrics(self) -> dict[str, float]:
        """Metrics of each component, as ``component/name``."""
        return {f"{k}/{name}": x for k, est in enumerate(self.columns) for name, x in est.metrics().items()}

    def state_dict(self) -> dict[str, AnyArray]:
        """All state, as ``component/name``."""
        return {f"{k}/{name}": x for k, est in enumerate(self.columns) for name, x in est.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Replace the state; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            As `KernelValueEstimator.load_state_dict`, and if it holds another number of components.
        """
        state = as_arrays(state)
        saved = {name.partition("/")[0] for name in state}
        if saved != {str(k) for k in range(len(self.columns))}:
            raise CheckpointError(f"the state holds {len(saved)} components, this estimator has {len(self.columns)}")
        parts = []
        for k, est in enumerate(self.columns):
            own = {name.partition("/")[2]: x for name, x in state.items() if name.partition("/")[0] == str(k)}
            parts.append(est._loading(own, strict))
        at_once(*_together(parts))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file, or a URL, as `KernelValueEstimator.save`."""
        save_arrays(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], *, strict: bool = True) -> None:
        """Replace the state with the one in `path`; errors as in `load_state_dict` and `KernelValueEstimator.load`."""
        self.load_state_dict(load_arrays(path), strict=strict)

    def _split(self, rewards: Any) -> list[Any]:
        try:
            matrix = rewards if is_tensor(rewards) else np.asarray(rewards)
        except ValueError:
            raise ArgumentError(
                "rewards must be a matrix: its rows differ in length; NaN stands for no reward"
            ) from None
        if matrix.ndim != 2 or matrix.shape[1] != len(self.columns):
            raise ArgumentError(
                f"rewards must have {len(self.columns)} columns, one a component, got shape {tuple(matrix.shape)}"
            )
        return [matrix[:, k] for k in range(len(self.columns))]


def _together(parts: list[list[Call]]) -> list[Call]:
    """The calls of all columns, the first ones of each, which can fail, before the others."""
    return [call for call in chain.from_iterable(zip_longest(*parts)) if call is not None]


def _stack(columns: list[Any]) -> Any:
    if is_tensor(columns[0]):
        out = columns[0].new_empty((len(columns[0]), len(columns)))
        for k, column in enumerate(columns):
            out[:, k] = column
        return out
    return np.stack(columns, axis=1)
