"""What the adapters share: a driver of an estimator over batches of rows and of (rows x tokens)."""

from __future__ import annotations

import logging
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

from kernadv._checkpoint import load_arrays, save_arrays
from kernadv._errors import ArgumentError, ArgumentTypeError, CheckpointError
from kernadv.estimator import KernelValueEstimator
from kernadv.prompts import prompt_id
from kernadv.scores import Surprisal

#: Names of the files of the estimator, and of what makes its weights, in a checkpoint of the framework.
STATE_FILE, WEIGHTS_FILE = "kernadv.safetensors", "kernadv_weights.safetensors"
#: Weight of a trace whose log-probability is 0; weights of a batch must not all be 0.
SMALLEST = 1e-12
#: Of the default estimator, unless the weights are your own: surprisals understate how large the scores of wrong traces are.
PESSIMISM = 2.0
#: The weights' arrays in `Driver.state_dict`.
PREFIX = "weights/"

_log = logging.getLogger("kernadv")


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
        Default: a `KernelValueEstimator`, weighted and with ``pessimism=2``; without log-probabilities not weighted, which
        is said once.  One of your own gets weights if, and only if, it has ``weighted=True``.
    weights : {"surprisal", "none"} or callable
        "surprisal": `kernadv.scores.Surprisal`, for the loss given.  A callable takes the surprisal and the number of tokens
        of the traces, (B,) each, and returns their weights (B,); there is no pessimism beside it.  "none": the value is
        subtracted.
    loss : {"sum", "trace"} or None
        As in `Surprisal`.  None: not known; the default estimator is then as without log-probabilities, which is said once.
    **options
        Arguments of the default estimator; they win over those above.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the estimator lacks a method of `Estimator`, or the weights are not known.
    """

    def __init__(
        self, estimator: Estimator | None = None, weights: Any = "surprisal", loss: str | None = "sum", **options: Any
    ) -> None:
        if not callable(weights) and weights not in ("surprisal", "none"):
            raise ArgumentError(f"weights must be 'surprisal', 'none' or a function, got {weights!r:.80}")
        self._options = None
        if estimator is None:
            self._options = {"pessimism": PESSIMISM, **options} if weights == "surprisal" else options
            if weights == "surprisal" and loss is None:
                _log.warning("kernadv does not know how this loss divides long traces: the baseline has no weights")
                weights = "none"
            estimator = KernelValueEstimator(**{"weighted": weights != "none", **self._options})
        self.estimator: Any = _checked(estimator)
        self._surprisal = None if callable(weights) else Surprisal(loss=loss or "sum")
        self._weigh = weights if self._surprisal is None else self._surprisal.of_traces
        self.seconds = 0.0
        self._told = False
        if self.weighted:
            _log.info("kernadv weighs traces by %s", self._surprisal or weights)

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
            Gives minus the log-probabilities of the traces and their numbers of tokens, (B,) each; called only if the
            estimator is weighted.
        keep : (B,) bool tensor, optional
            Rows that are traces; the others (padding, intermediate outputs) get 0 and are not remembered.

        Returns
        -------
        (B,) of the kind of `rewards`

        Raises
        ------
        ArgumentError
            If a weighted estimator of your own, or one that had weights before, gets no log-probabilities.
        """
        start = time.perf_counter()
        estimator = self._without_weights() if self.weighted and surprisal is None else self.estimator
        weighing = None if self._surprisal is None else self._surprisal.state_dict()
        try:
            out = self._advantages(estimator, prompt_ids, rewards, step, surprisal, keep)
        except BaseException:
            if self._surprisal and weighing:
                self._surprisal.load_state_dict(weighing)
            raise
        if estimator is not self.estimator:
            _log.warning("kernadv: no log-probabilities are there to weigh the traces by: the baseline has no weights")
            self.estimator = estimator
        self.seconds = time.perf_counter() - start
        return out

    def _advantages(self, estimator: Any, ids: Any, rewards: Any, step: Any, surprisal: Any, keep: Any) -> Any:
        """Of the rows to keep; 0 for the others."""
        if keep is None:
            return estimator.advantages(ids, rewards, step, **self._weights(surprisal, slice(None)))
        index = [row for row, kept in enumerate(keep.tolist()) if kept]
        out = rewards.new_zeros(len(rewards))
        if index:
            at = np.asarray(step)[index] if np.ndim(step) else step
            rest = self._weights(surprisal, index)
            out[index] = estimator.advantages([ids[i] for i in index], rewards[index], at, **rest)
        return out

    def _weights(self, surprisal: Callable[[], Any] | None, rows: Any) -> dict[str, Any]:
        """The argument ``weights`` of some rows, where it is expected."""
        if not self.weighted or surprisal is None:
            return {}
        x, tokens = (np.asarray(part, np.float64)[rows] for part in surprisal())
        return {"weights": np.maximum(np.asarray(self._weigh(x, tokens), np.float64), SMALLEST)}

    def _without_weights(self) -> Any:
        """An estimator without weights, if nothing was learned with them."""
        if self._options is None or self._options.get("weighted") or self.estimator.metrics()["history_visits"]:
            raise ArgumentError("the estimator is weighted, but no log-probabilities are there to weigh the traces by")
        return KernelValueEstimator(**self._options)

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
        """Finite metrics of the estimator and the weights as ``kernadv/name``; ``kernadv/seconds``: of the last call."""
        weights = self._surprisal.metrics() if self.weighted and self._surprisal else {}
        numbers = {**self.estimator.metrics(), **weights, "seconds": self.seconds}
        return {f"kernadv/{name}": float(x) for name, x in numbers.items() if math.isfinite(x)}

    def save(self, folder: Any) -> None:
        """Write the state into a checkpoint's folder, which is made if need be."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        if self.weighted and self._surprisal:
            save_arrays(Path(folder) / WEIGHTS_FILE, self._surprisal.state_dict())
        self.estimator.save(Path(folder) / STATE_FILE)

    def load(self, folder: Any) -> None:
        """Take the state from a checkpoint's folder; where there is none, say so and go on without a past.

        Raises
        ------
        CheckpointError
            If the state is damaged or of an estimator with other settings.
        """
        path = Path(folder) / STATE_FILE
        if not path.is_file():
            warnings.warn(f"{folder} holds no {STATE_FILE}: kernadv goes on without a past", stacklevel=3)
            return
        self._restore(lambda estimator: estimator.load(path))
        if self.weighted and self._surprisal and (weights := path.with_name(WEIGHTS_FILE)).is_file():
            self._surprisal.load_state_dict(load_arrays(weights))

    def state_dict(self) -> dict[str, Any]:
        """The state as arrays."""
        weights = self._surprisal.state_dict() if self.weighted and self._surprisal else {}
        return {**self.estimator.state_dict(), **{PREFIX + name: x for name, x in weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back; errors as in `load`."""
        own = {name: x for name, x in state.items() if not name.startswith(PREFIX)}
        self._restore(lambda estimator: estimator.load_state_dict(own))
        if self.weighted and self._surprisal and f"{PREFIX}mean" in state:
            self._surprisal.load_state_dict({"mean": state[f"{PREFIX}mean"]})

    def _restore(self, load: Callable[[Any], None]) -> None:
        """Load a state; the default estimator goes on without weights if the run had none."""
        try:
            load(self.estimator)
        except CheckpointError as error:
            if self._options is None or not self.weighted:
                raise
            unweighted = KernelValueEstimator(**{**self._options, "weighted": False})
            try:
                load(unweighted)
            except CheckpointError:
                raise error from None
            self.estimator = unweighted


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


def spread(row: Any, token_rewards: Any, mask: Any) -> Any:
    """Each row's number at its tokens, 0 outside the mask, of the kind of `token_rewards`.  # (B,) -> (B, T)"""
    return row.to(token_rewards).unsqueeze(-1) * mask.to(token_rewards)


def surprisal(log_probs: Any, mask: Any) -> Any:
    """Minus the log-probability of each trace, and its number of tokens.

    Parameters
    ----------
    log_probs, mask : tensors; what lies outside the mask does not count  # (B, T)

    Returns
    -------
    (B,), (B,) float64 tensors on the CPU
    """
    return tuple(part.cpu() for part in Surprisal.sums(log_probs, mask))


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
