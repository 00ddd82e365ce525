"""What the adapters share: a driver of an estimator over batches of rows and of (rows x tokens)."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np

from kernadv._checkpoint import load_arrays
from kernadv._errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    MissingExtraError,
    check_count,
    check_flag,
    warn,
)
from kernadv.adapters import _states
from kernadv.adapters._states import DRIVER_FILE, STATE_FILE, WEIGHTS_FILE, States, Writer, join
from kernadv.estimator import ComponentValueEstimator, KernelValueEstimator
from kernadv.parts import read_parts
from kernadv.prompts import prompt_id
from kernadv.scores import Surprisal
from kernadv.typing import Estimator

#: Estimators whose state can be copied, and then be written while training goes on.
OURS = (KernelValueEstimator, ComponentValueEstimator)
#: Weight of a trace whose log-probability is 0; weights of a batch must not all be 0.
SMALLEST = 1e-12
#: Of the default estimator, unless the weights are your own: surprisals understate how large the scores of wrong traces are.
PESSIMISM = 2.0
#: The weights' arrays, and the clock, in `Driver.state_dict`.
PREFIX, CLOCK = "weights/", "driver/clock"

_log = logging.getLogger("kernadv")


class Driver:
    """An estimator, called once a generation batch with gathered rows, and the clock of these calls.

    It has the methods of an `Estimator`, and can stand where one does.

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
    resume_cold : bool
        Go on without a past, with a warning, where a checkpoint holds no state; otherwise this is an error.
    **options
        Arguments of the default estimator; they win over those above.

    Attributes
    ----------
    calls, step : int
        Calls so far, and their newest step; both are saved with the state.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the estimator lacks a method of `Estimator`, or the weights are not known.

    Examples
    --------
    >>> import tempfile
    >>> from kernadv import KernelValueEstimator
    >>> from kernadv.adapters import Driver
    >>> driver = Driver(KernelValueEstimator(), weights="none")
    >>> driver.rows(["a", "a"], [1.0, 0.0])
    array([ 1., -1.])
    >>> driver.step, driver.weighted, driver.components, len(driver.estimator)
    (1, False, 0, 1)
    >>> driver.advantages(["a"], [1.0], step=5).shape, driver.step
    ((1,), 5)
    >>> driver.ids(["What is 1 + 1?"], given=["sum-1"], missing="no ids"), driver.metrics()["kernadv/history_visits"]
    (['sum-1'], 2.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     driver.save(folder)
    ...     resumed = Driver(KernelValueEstimator(), weights="none")
    ...     resumed.load(folder)
    >>> resumed.step, resumed.calls
    (5, 2)
    >>> resumed.load_state_dict(driver.state_dict())
    >>> with tempfile.TemporaryDirectory() as folder:  # for frameworks that tell nothing of their checkpoints
    ...     attached = driver.attach(folder, every=10)
    ...     driver.finish()
    >>> attached is driver
    True
    """

    def __init__(
        self,
        estimator: Estimator | None = None,
        weights: Any = "surprisal",
        loss: str | None = "sum",
        *,
        resume_cold: bool = False,
        **options: Any,
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
        self._estimator: Any = _checked(estimator)
        self._surprisal = None if callable(weights) else Surprisal(loss=loss or "sum")
        self._weigh = weights if self._surprisal is None else self._surprisal.of_traces
        self.resume_cold = check_flag(resume_cold, "resume_cold")
        self.calls = self.step = 0
        self.seconds = 0.0
        self._told = False
        self._writer, self._every, self._saved = Writer(), 0, 0
        self._states: States | None = None
        if self.weighted:
            _log.info("kernadv weighs traces by %s", self._surprisal or weights)

    @property
    def estimator(self) -> Any:
        """The estimator; while its state is being copied, this waits."""
        self._writer.wait()
        return self._estimator

    @property
    def weighted(self) -> bool:
        """Whether the estimator expects a weight for each trace."""
        return bool(getattr(self._estimator, "weighted", False))

    @property
    def components(self) -> int:
        """Number of components that the estimator tells apart: rewards and advantages are then (B, C).  0: they are (B,)."""
        return int(getattr(self._estimator, "components", 0))

    def rows(
        self,
        prompt_ids: Sequence[str],
        rewards: Any,
        step: Any = None,
        *,
        surprisal: Callable[[], Any] | None = None,
        keep: Any = None,
        trace: Sequence[Any] | None = None,
    ) -> Any:
        """Advantages of B rows; the batch is remembered.

        Parameters
        ----------
        prompt_ids : sequence of str  # (B,)
        rewards : tensor or list of float, NaN: could not be scored  # (B,), or (B, C) for C `components`
        step : int, or (B,) ints, from 1, optional
            Policy version at generation.  None: one after the newest step, for frameworks that tell none.
        surprisal : callable, optional
            Gives minus the log-probabilities of the rows and their numbers of tokens, (B,) each; called only if the
            estimator is weighted.
        keep : (B,) bool tensor, optional
            Rows that are traces or parts of them; the others (padding, intermediate outputs) get 0 and are not remembered.
        trace : sequence of str or of int, optional  # (B,)
            Rows with the same id are parts of one trace: they count once, with what their tokens sum to, and have one
            advantage.  Without it, each row is a trace.

        Returns
        -------
        (B,) or (B, C), of the kind of `rewards`

        Raises
        ------
        ArgumentError
            If a weighted estimator of your own, or one that had weights before, gets no log-probabilities; if parts of one
            trace differ in the prompt, the reward or the step.
        CheckpointError
            If the state before could not be saved into the attached folder; said once, before anything is done.
        """
        start = time.perf_counter()
        self._writer.check()
        step = self.step + 1 if step is None else step
        estimator = self.estimator
        if self.weighted and surprisal is None:
            estimator = self._without_weights()
        weighing = None if self._surprisal is None else self._surprisal.state_dict()
        try:
            out = self._advantages(estimator, prompt_ids, rewards, step, surprisal, keep, trace)
        except BaseException:
            if self._surprisal and weighing:
                self._surprisal.load_state_dict(weighing)
            raise
        if estimator is not self.estimator:
            _log.warning("kernadv: no log-probabilities are there to weigh the traces by: the baseline has no weights")
            self._estimator = estimator
        self._passed(step)
        self.seconds = time.perf_counter() - start
        return out

    def advantages(
        self, prompt_ids: Any, rewards: Any, step: Any = None, *, weights: Any = None, trace: Any = None
    ) -> Any:
        """Advantages as of the estimator, or, without `weights`, as of `rows`; errors as there."""
        if weights is None:
            return self.rows(prompt_ids, rewards, step, trace=trace)
        self._writer.check()
        step = self.step + 1 if step is None else step
        parts = {} if trace is None else {"trace": trace}
        out = self.estimator.advantages(prompt_ids, rewards, step, weights=weights, **parts)
        self._passed(step)
        return out

    def _advantages(
        self, estimator: Any, ids: Any, rewards: Any, step: Any, surprisal: Any, keep: Any, trace: Any
    ) -> Any:
        """Of the rows to keep; 0 for the others."""
        sums = None
        if self.weighted and surprisal is not None:
            sums = [np.asarray(part, np.float64) for part in surprisal()]
        if keep is None:
            return self._of_traces(estimator, ids, rewards, step, sums, trace)
        index = [row for row, kept in enumerate(keep.tolist()) if kept]
        out = rewards.new_zeros(rewards.shape)
        if index:
            out[index] = self._of_traces(
                estimator,
                [ids[row] for row in index],
                rewards[index],
                _at(step, index),
                None if sums is None else [part[index] for part in sums],
                None if trace is None else [trace[row] for row in index],
            )
        return out

    def _of_traces(self, estimator: Any, ids: Any, rewards: Any, step: Any, sums: Any, trace: Any) -> Any:
        """Of rows that are traces, or parts of them."""
        if trace is None:
            return estimator.advantages(ids, rewards, step, **self._weights(sums))
        first, of = read_parts(trace, ids, rewards, step)
        if sums is not None:
            sums = [np.bincount(of, part, len(first)) for part in sums]
        traces = (rewards if hasattr(rewards, "shape") else np.asarray(rewards, np.float64))[first]
        out = estimator.advantages(
            [ids[row] for row in first.tolist()], traces, _at(step, first), **self._weights(sums)
        )
        return out[of]

    def _weights(self, sums: Any) -> dict[str, Any]:
        """The argument ``weights``, where it is expected."""
        if sums is None:
            return {}
        return {"weights": np.maximum(np.asarray(self._weigh(*sums), np.float64), SMALLEST)}

    def _passed(self, step: Any) -> None:
        """Count a call; save if it is time, unless the state before is still being written."""
        self.calls += 1
        self.step = max(self.step, int(np.max(_numbers(step), initial=0)))
        if self._states and self.calls - self._saved >= self._every and not self._writer.busy:
            self._writer.keeping(self._save_attached)

    def _without_weights(self) -> Any:
        """An estimator without weights, if nothing was learned with them."""
        if self._options is None or self._options.get("weighted") or self.estimator.metrics()["history_visits"]:
            raise ArgumentError("the estimator is weighted, but no log-probabilities are there to weigh the traces by")
        return KernelValueEstimator(**self._options)

    def tokens(self, prompt_ids: Sequence[str], token_rewards: Any, mask: Any, step: Any = None, **options: Any) -> Any:
        """Advantages of (rows x tokens): that of the row at each token of the mask, 0 elsewhere.

        Parameters
        ----------
        prompt_ids : sequence of str  # (B,)
        token_rewards, mask : tensors  # (B, T)
        step, **options
            As in `rows`.

        Returns
        -------
        (B, T) tensor like `token_rewards`

        Examples
        --------
        >>> import torch
        >>> driver = Driver(KernelValueEstimator(), weights="none")
        >>> rewards = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])  # at the last token of each answer
        >>> mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
        >>> driver.tokens(["a", "a"], rewards, mask)
        tensor([[ 1.,  1.,  0.],
                [-1., -1., -1.]])
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
            warn(
                f"{missing}: prompts are told apart by a hash of their text, so equal texts share a history; said once",
            )
        return [prompt_id(prompt) for prompt in prompts]

    def metrics(self) -> dict[str, float]:
        """Finite metrics of the estimator and the weights as ``kernadv/name``; ``kernadv/seconds``: of the last call."""
        weights = self._surprisal.metrics() if self.weighted and self._surprisal else {}
        numbers = {**self._estimator.metrics(), **weights, "seconds": self.seconds}
        return {f"kernadv/{name}": float(x) for name, x in numbers.items() if math.isfinite(x)}

    def attach(self, folder: Any, every: int = 50, keep: int = 2) -> Driver:
        """Save the state every few calls, for frameworks that tell nothing of their checkpoints.

        If the folder holds states, the newest is loaded: a run that is started again goes on where its last state was
        saved.  Otherwise the present state is saved at once.  A state that was cut off while it was written does not count.

        Parameters
        ----------
        folder : path or URL
            Of this run and this driver alone.
        every : int
            Calls from state to state.
        keep : int
            States that stay; older ones are removed.

        Returns
        -------
        Driver
            This one.

        Raises
        ------
        CheckpointError
            If the newest state is damaged or of an estimator with other settings, or the folder cannot be written.
        """
        every, keep = check_count(every, "every"), check_count(keep, "keep")
        states = States(folder, keep)
        self._writer.finish()
        whole = states.whole()
        if whole:
            try:
                self.load(whole[-1])
            except CheckpointError as error:
                rest = f"the state before it, {whole[-2]}" if len(whole) > 1 else "nothing: it is the only state"
                raise CheckpointError(f"{error}; if it is damaged, remove {whole[-1]} to go on from {rest}") from error
        else:
            states.write(self._files())
        self._states, self._every, self._saved = states, every, self.calls
        return self

    def finish(self) -> None:
        """Save what came after the last state in the attached folder, and wait until all that is saved is written.

        Call it at the end of training; the interpreter, too, waits for what is being written.

        Raises
        ------
        CheckpointError, OSError, or another error of the store
            If this state, or one before, could not be written.
        """
        self._writer.finish()
        if self._states and self.calls > self._saved:
            self._save_attached()
            self._writer.finish()

    def _save_attached(self) -> None:
        assert self._states is not None
        self._saved = self.calls
        self._writer.run(self._files, self._states.write, self._large())

    def save(self, folder: Any) -> None:
        """Write the state into a checkpoint's folder, or a URL; the folder is made if need be.

        A large state is copied and written in a thread, whose errors the next call or `finish` raises.
        """
        place = _states.absolute(folder)
        self._writer.run(self._files, lambda files: _states.write(place, files), self._large())

    def load(self, folder: Any) -> None:
        """Take the state from a checkpoint's folder, or a URL; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            If there is no state, and not `resume_cold`; if it is damaged, or of an estimator with other settings.
        """
        self._writer.finish()
        path, clock, weights = (join(folder, name) for name in (STATE_FILE, DRIVER_FILE, WEIGHTS_FILE))
        if not _states.is_there(path):
            if not self.resume_cold:
                raise CheckpointError(
                    f"{folder} holds no {STATE_FILE}: resume from a checkpoint that has it, or pass resume_cold=True "
                    "(kernadv.resume_cold in a framework's configuration) to go on without a past"
                )
            warn(f"{folder} holds no {STATE_FILE}: kernadv goes on without a past")
            return
        own = load_arrays(clock) if _states.is_there(clock) else {}
        rest = {CLOCK: own["clock"]} if "clock" in own else {}
        if _states.is_there(weights):
            rest |= {PREFIX + name: x for name, x in load_arrays(weights).items()}
        if isinstance(self.estimator, OURS):
            self.load_state_dict({**load_arrays(path), **rest})
        else:
            self._take(rest, lambda estimator: estimator.load(path))

    def state_dict(self) -> dict[str, Any]:
        """The state as arrays, which are copies."""
        weights = self._surprisal.state_dict() if self.weighted and self._surprisal else {}
        return {
            **self.estimator.state_dict(),
            **{PREFIX + name: x for name, x in weights.items()},
            CLOCK: np.array([self.calls, self.step]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back; errors as in `load`."""
        rest = {name: x for name, x in state.items() if name == CLOCK or str(name).startswith(PREFIX)}
        own = {name: x for name, x in state.items() if name not in rest}
        self._take(rest, lambda estimator: estimator.load_state_dict(own))

    def _large(self) -> bool:
        """Whether copying and writing the state takes longer than training should wait."""
        if not isinstance(self._estimator, OURS):
            return False
        sizes = (
            x for name, x in self._estimator.metrics().items() if name.endswith(("history_prompts", "history_visits"))
        )
        return sum(sizes) > _states.LARGE

    def _files(self) -> dict[str, Any]:
        """What `_states.write` writes; the estimator's file comes last."""
        files: dict[str, Any] = {DRIVER_FILE: {"clock": np.array([self.calls, self.step])}}
        if self.weighted and self._surprisal:
            files[WEIGHTS_FILE] = self._surprisal.state_dict()
        ours = isinstance(self._estimator, OURS)
        return {**files, STATE_FILE: self._estimator.state_dict() if ours else self._estimator.save}

    def _take(self, rest: Mapping[str, Any], load: Callable[[Any], None]) -> None:
        """Load the estimator's state, then the clock and the weights' running mean, which are checked first."""
        clock, mean = (
            np.asarray(rest.get(name, default)) for name, default in ((CLOCK, [0, 0]), (f"{PREFIX}mean", [0.0]))
        )
        if clock.shape != (2,) or clock.dtype.kind not in "iu" or (clock < 0).any():
            raise CheckpointError(f"the clock of the state is {clock!r:.80}, not two whole numbers: it is damaged")
        if mean.shape != (1,) or mean.dtype.kind != "f" or not 0 <= float(mean[0]) < math.inf:
            raise CheckpointError(f"the mean weight of the state is {mean!r:.80}, not a number >= 0: it is damaged")
        self._restore(load)
        self.calls, self.step = clock.tolist()
        self._saved = self.calls
        if self.weighted and self._surprisal and f"{PREFIX}mean" in rest:
            self._surprisal.load_state_dict({"mean": mean})

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
            self._estimator = unweighted


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


def driver_with(
    estimator: Any, weights: Any = "surprisal", loss: str | None = "sum", *, resume_cold: bool = False
) -> Driver:
    """A driver that is given, or else one of that estimator; arguments as in `Driver`."""
    driver = estimator if isinstance(estimator, Driver) else Driver(estimator, weights, loss)
    driver.resume_cold |= check_flag(resume_cold, "resume_cold")
    return driver


def check_groups(ids: Sequence[Any], size: int, rows: Sequence[Any] | None = None, column: str = "prompt_id") -> None:
    """Refuse ids that do not fit the framework's groups of consecutive rows.

    Parameters
    ----------
    ids : sequence of str or of int  # (B,)
    size : int
        Rows a group.
    rows : sequence of hashables, optional  # (B,)
        What tells the data set's rows apart: their numbers, or hashes of all that they hold.
    column : str
        Name of the column of ids, for the error.

    Raises
    ------
    ArgumentError
        If a group has several ids, or unequal rows of the data set share one.
    """
    hint = f"add a column {column!r} to the data set that numbers its prompts"
    for start in range(0, len(ids), check_count(size, "size")):
        other = next((row for row in range(start, min(start + size, len(ids))) if ids[row] != ids[start]), None)
        if other is not None:
            raise ArgumentError(
                f"rows {start} and {other} are of one group of {size}, but their prompt ids are {ids[start]!r:.80} and "
                f"{ids[other]!r:.80}: something in the prompt is unique to the rollout; {hint}"
            )
    seen: dict[Any, int] = {}
    for row, prompt in enumerate(ids if rows is not None else ()):
        first = seen.setdefault(prompt, row)
        if rows is not None and rows[row] != rows[first]:
            raise ArgumentError(
                f"rows {first} and {row} are of different rows of the data set, but share the prompt id {prompt!r:.80}, and "
                f"so would share a history; {hint}"
            )


def _at(step: Any, rows: Any) -> Any:
    """Steps of some rows, if each has its own."""
    return _numbers(step)[rows] if np.ndim(step) else step


def _numbers(step: Any) -> Any:
    """Steps as an array on the host."""
    return np.asarray(step.cpu() if hasattr(step, "cpu") else step)


@cache
def check_version(package: str, first: tuple[int, int], last: tuple[int, int]) -> None:
    """Refuse a framework that is missing or older than `first`; warn, once a process, of one newer than tested: from `last`.

    Raises
    ------
    MissingExtraError
        If it is not there.
    ArgumentError
        If it is older.
    """
    least = ".".join(map(str, first))
    try:
        found = version(package)
    except PackageNotFoundError:
        if package in sys.modules or find_spec(package):  # its sources are, without a version
            return
        raise MissingExtraError(
            f"kernadv needs {package} >= {least}, which is not installed; run: pip install '{package}>={least}'"
        ) from None
    now = tuple(map(int, re.findall(r"\d+", found)[:2]))
    if now < first:
        raise ArgumentError(
            f"kernadv needs {package} >= {least}, and {found} is installed; run: pip install -U '{package}>={least}'"
        )
    if now >= last:
        warn(
            f"kernadv is tested with {package} >= {least}, < {'.'.join(map(str, last))}; {found} is installed",
        )
