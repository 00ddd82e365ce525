"""Traces that were split into several rows: one trace has one reward, and counts once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernadv._arrays import Restore, check_floats, is_tensor, read_rewards, read_steps, read_tensor, read_weights
from kernadv._errors import ArgumentError
from kernadv.ids import Id, batch_codes
from kernadv.typing import AnyArray, FloatArray, IntArray

__all__ = ["Parts", "read_parts", "read_trace"]


def __dir__() -> list[str]:
    return __all__


_HINTS = {
    "prompt": "a trace answers one prompt; make ids of traces that no other trace of the batch has",
    "reward": "give each part the reward of the whole trace",
    "step": "give all parts one step, e.g. that of the first one",
    "weight": "give each part the weight of the whole trace",
}


class Parts(NamedTuple):
    """The T traces of B rows; their order is that of their first rows.

    Attributes
    ----------
    first : (T,) int64
        Row of the first part of each trace.
    of : (B,) int64
        Index of each row's trace.
    """

    first: IntArray
    of: IntArray

    def shared(self, name: str, rows: AnyArray, show: Callable[[Any], object] = str) -> AnyArray:
        """What the parts of each trace share.

        Parameters
        ----------
        name : {"prompt", "reward", "step", "weight"}
            What it is, for the error.
        rows : (B,) or (B, C) array
        show : callable
            How the error shows it.

        Returns
        -------
        (T,) or (T, C)

        Raises
        ------
        ArgumentError
            If parts of one trace differ; NaN equals NaN.
        """
        own = rows[self.first]
        other = own[self.of]
        differ = (rows != other) & ~((rows != rows) & (other != other))
        if differ.any():
            row = int(np.argwhere(differ)[0, 0])
            first = int(self.first[self.of[row]])
            raise ArgumentError(
                f"rows {first} and {row} are parts of one trace, but their {name}s differ: {show(rows[first])} and "
                f"{show(rows[row])}; {_HINTS[name]}"
            )
        return own

    def agreed(
        self, ids: list[Id], code: IntArray, rewards: FloatArray, step: IntArray
    ) -> tuple[IntArray, FloatArray, IntArray]:
        """What the parts of each trace share of the columns of a batch; code: (B,) indices into ids."""
        prompt = self.shared("prompt", code, lambda code: repr(ids[code]))
        return prompt, self.shared("reward", rewards), self.shared("step", step)

    def spreading(self, restore: Restore) -> Restore:
        """`restore` of results of the traces, (T,), each given to all parts, (B,)."""
        return lambda x: restore(x[self.of])


def read_trace(trace: Any, rows: int) -> Parts:
    """Which rows are parts of one trace.

    Parameters
    ----------
    trace : sequence of str or of int  # (B,)
        Ids of the traces, unique within the call.
    rows : int
        Number of prompt ids, which must match.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If there are not as many as rows, or one is missing or neither str nor int.
    """
    of = batch_codes(trace, "trace")[1]
    if len(of) != rows:
        raise ArgumentError(f"one trace id a row: got {rows} prompt ids and {len(of)} trace ids")
    return Parts(np.unique(of, return_index=True)[1], of)


def read_parts(trace: Any, prompt_ids: Any, rewards: Any, step: Any, weights: Any = None) -> Parts:
    """Which rows are parts of one trace, where these agree in all that belongs to the trace.

    Parameters
    ----------
    trace : sequence of str or of int  # (B,)
        Ids of the traces, unique within the call.
    prompt_ids : sequence of str or of int  # (B,)
    rewards : array, tensor or sequence of float; NaN: could not be scored  # (B,) or (B, C)
    step : int, or (B,) ints, from 1
    weights : array, tensor or sequence of float, optional  # (B,)
        Those of traces without a reward do not matter.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used, or parts of one trace differ in the prompt, the reward (NaN equals NaN), the step or
        the weight.

    Examples
    --------
    >>> parts = read_parts(["x", "x", "y"], ["a", "a", "a"], [1.0, 1.0, 0.0], step=1)
    >>> parts.first, parts.of
    (array([0, 2]), array([0, 0, 1]))
    """
    ids, code = batch_codes(prompt_ids)
    z, steps = _rewards(rewards, len(code)), read_steps(step, len(code))
    parts = read_trace(trace, len(code))
    parts.agreed(ids, code, z, steps)
    if weights is not None:
        scored = ~np.isnan(z) if z.ndim == 1 else ~np.isnan(z).all(1)
        parts.shared("weight", read_weights(weights, scored))
    return parts


def _rewards(rewards: Any, rows: int) -> FloatArray:
    """Rewards, or a matrix of them, as float64."""
    tensor = is_tensor(rewards)
    shape = read_tensor(rewards, "rewards").shape if tensor else check_floats(rewards, "rewards").shape
    if len(shape) != 2 or not shape[1]:
        return read_rewards(rewards, rows)[0]
    matrix = rewards if tensor else np.asanyarray(rewards)
    return np.stack([read_rewards(matrix[:, column], rows)[0] for column in range(shape[1])], axis=1)
