"""What the adapters share: a driver of an estimator over batches of rows and of (rows x tokens)."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.estimator import KernelValueEstimator
from kernadv.prompts import prompt_id

#: Name of the estimator's file in a checkpoint of the framework.
STATE_FILE = "kernadv.safetensors"
#: Weight of a trace whose log-probability is 0; weights of a batch must not all be 0.
SMALLEST = 1e-12


class Estimator(Protocol):
    """What an adapter needs of an estimator; `KernelValueEstimator` has it."""

    def advantages(self, prompt_ids: Any, rewards: Any, step: Any) -> Any:
        """Advantages of a batch, which is then remembered."""

    def metrics(self) -> Mapping[str, float]:
        """Numbers for a logger."""

    def save(self, path: Any) -> None:
        """Write the state to a file."""

    def load(self, path: Any) -> None:
        """Replace the state by that of a file."""


class Driver:
    """An estimator, called once a generation batch with gathered rows.

    Parameters
    ----------
    estimator : Estimator, optional
        Default: the pooled `KernelValueEstimator()`.  One with ``weighted=True`` gets the weights of the traces.

    Raises
    ------
    ArgumentTypeError
        If the estimator lacks a method of `Estimator`.
    """

    def __init__(self, estimator: Estimator | None = None) -> None:
        self.estimator: Estimator = KernelValueEstimator() if estimator is None else _checked(estimator)
        self.seconds = 0.0
        self._told = False

    @property
    def weighted(self) -> bool:
        """Whether the estimator expects a weight for each trace."""
        return bool(getattr(self.estimator, "weighted", False))

    def rows(
        self,
        prompt_ids: Sequence[str],
        rewards: Any,
        step: Any,
        *,
        surprisal: Callable[[], Any] | None = None,
        keep: Any = None,
    ) -> Any:
        """Advantages of B rows; the batch is remembered.

        Parameters
        ----------
        prompt_ids : sequence of str  # (B,)
        rewards : tensor or list of float, NaN: could not be scored  # (B,)
        step : int, or (B,) ints, from 1
            Policy version at generation.
        surprisal : callable, optional
            Gives minus the log-probabilities of the traces (B,); called only if the estimator is weighted.  Their squares
            are the weights: they grow with the squared norm of the score about as it does.
        keep : (B,) bool tensor, optional
            Rows that are traces; the others (padding, intermediate outputs) get 0 and are not remembered.

        Returns
        -------
        (B,) of the kind of `rewards`
        """
        start = time.perf_counter()
        rest = {"weights": _weights(surprisal)} if self.weighted else {}
        if keep is None:
            out = self.estimator.advantages(prompt_ids, rewards, step, **rest)
        else:
            index = [row for row, kept in enumerate(keep.tolist()) if kept]
            out = rewards.new_zeros(len(rewards))
            if index:
                rest = {name: column[index] for name, column in rest.items()}
                at = np.asarray(step)[index] if np.ndim(step) else step
                out[index] = self.estimator.advantages([prompt_ids[i] for i in index], rewards[index], at, **rest)
        self.seconds = time.perf_counter() - start
        return out

    def tokens(self, prompt_ids: Sequence[str], token_rewards: Any, mask: Any, step: Any, **options: Any) -> Any:
        """Advantages of (rows x tokens): that of the row at each token of the mask, 0 elsewhere.

        Parameters
        ----------
        prompt_ids : sequence of str  # (B,)
        token_rewards, mask : tensors  # (B, T)
        step : int, or (B,) ints, from 1
        **options
            As in `rows`.

        Returns
        -------
        (B, T) tensor like `token_rewards`
        """
        row = self.rows(prompt_ids, token_rewards.sum(-1).float().cpu(), step, **options)
        return spread(row, token_rewards, mask)

    def ids(self, prompts: Sequence[Any], given: Sequence[Any] | None, missing: str) -> list[str]:
        """The ids `given`, or else those of the prompts' texts, which is said once with what is `missing`."""
        if given is not None:
            plain = [value.item() if hasattr(value, "item") else value for value in given]
            bad = next((row for row, value in enumerate(plain) if value is None or value != value), None)
            if bad is not None:
                raise ArgumentError(
                    f"row {bad} has no prompt id ({plain[bad]}): fill the ids, or drop them to use the texts"
                )
            return [str(value) for value in plain]
        if not self._told:
            self._told = True
            warnings.warn(
                f"{missing}: prompts are told apart by a hash of their text, so equal texts share a history; said once",
                stacklevel=3,
            )
        return [prompt_id(prompt) for prompt in prompts]

    def metrics(self) -> dict[str, float]:
        """Finite metrics of the estimator as ``kernadv/name``, and ``kernadv/seconds`` of the last call."""
        numbers = {**self.estimator.metrics(), "seconds": self.seconds}
        return {f"kernadv/{name}": float(x) for name, x in numbers.items() if math.isfinite(x)}

    def save(self, folder: Any) -> None:
        """Write the estimator's state into a checkpoint's folder, which is made if need be."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.estimator.save(Path(folder) / STATE_FILE)

    def load(self, folder: Any) -> None:
        """Take the estimator's state from a checkpoint's folder; where there is none, say so and go on without a past.

        Raises
        ------
        CheckpointError
            If the state is damaged or of an estimator with other settings.
        """
        path = Path(folder) / STATE_FILE
        if path.is_file():
            self.estimator.load(path)
        else:
            warnings.warn(f"{folder} holds no {STATE_FILE}: kernadv goes on without a past", stacklevel=3)


def _checked(estimator: Any) -> Estimator:
    needed = ("advantages", "metrics", "save", "load")
    missing = [name for name in needed if not callable(getattr(estimator, name, None))]
    if missing or isinstance(estimator, type):
        lacks = f"has no {', '.join(missing)}" if missing else "is a class; call it"
        raise ArgumentTypeError(
            f"an estimator has the methods {', '.join(needed)}, as KernelValueEstimator() does; got {estimator!r:.80}, "
            f"which {lacks}"
        )
    return estimator  # type: ignore[no-any-return]


def _weights(surprisal: Callable[[], Any] | None) -> Any:
    if surprisal is None:
        raise ArgumentError("the estimator is weighted, but no log-probabilities are there to weigh the traces by")
    return np.maximum(np.asarray(surprisal(), np.float32) ** 2, SMALLEST)


def spread(row: Any, token_rewards: Any, mask: Any) -> Any:
    """Each row's number at its tokens, 0 outside the mask, of the kind of `token_rewards`.  # (B,) -> (B, T)"""
    return row.to(token_rewards).unsqueeze(-1) * mask.to(token_rewards)


def surprisal(log_probs: Any, mask: Any) -> Any:
    """Minus the log-probability of each trace.

    Parameters
    ----------
    log_probs, mask : tensors; what lies outside the mask does not count  # (B, T)

    Returns
    -------
    (B,) float32 tensor on the CPU, not negative
    """
    inside = mask.bool()
    return -log_probs.detach().masked_fill(~inside, 0.0).float().sum(-1).clamp(max=0.0).cpu()


@cache
def check_version(package: str, first: tuple[int, int], last: tuple[int, int]) -> None:
    """Warn, once a process, if a framework's version lies outside the range that is tested: from `first`, below `last`."""
    try:
        found = version(package)
    except PackageNotFoundError:
        return
    if not first <= tuple(map(int, re.findall(r"\d+", found)[:2])) < last:
        bounds = f">= {'.'.join(map(str, first))}, < {'.'.join(map(str, last))}"
        warnings.warn(f"kernadv is tested with {package} {bounds}; {found} is installed", stacklevel=3)
