"""Arguments and results of public calls: numpy arrays, torch tensors and plain sequences in, the same kind out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.typing import AnyArray, FloatArray, IntArray

#: Turns a result into the kind, dtype and device of the rewards it was computed from.
Restore = Callable[[Any], Any]

#: Steps are kept exactly in float64 up to here.
LAST_STEP = 2**53
#: Squares of rewards must not overflow.
LARGEST_REWARD = 1e100
#: Weights may be of any size that a float has room for, with some to spare.
LARGEST_WEIGHT = 1e300


def is_tensor(x: Any) -> bool:
    """True for a torch tensor, without importing torch."""
    return type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "detach")


def check_real(tensor: Any, name: str) -> Any:
    """Return a torch tensor without its gradient, or raise if it holds complex numbers."""
    if tensor.is_complex():
        raise ArgumentTypeError(f"{name} must be real numbers, got a tensor of {tensor.dtype}")
    return tensor.detach()


def check_rows(shape: Sequence[int], rows: int) -> None:
    """Refuse rewards of a shape other than one a prompt id, and an empty batch."""
    if len(shape) != 1:
        raise ArgumentError(
            f"rewards must have one dimension, one a row, got shape {tuple(shape)}; sum over tokens first"
        )
    if shape[0] != rows:
        raise ArgumentError(f"one reward a prompt id: got {rows} prompt ids and {shape[0]} rewards")
    if not rows:
        raise ArgumentError("the batch is empty: pass at least one row")


def read_tensor(tensor: Any, name: str) -> AnyArray:
    """The numbers of a torch tensor, floats in float64, or raise if it holds none."""
    tensor = check_real(tensor, name)
    try:
        return np.asarray((tensor.double() if tensor.is_floating_point() else tensor).cpu().numpy())
    except (TypeError, RuntimeError):  # sparse; without memory, on the device "meta"
        raise ArgumentTypeError(
            f"{name} must be a dense tensor that holds numbers, got one of layout {tensor.layout} on {tensor.device}"
        ) from None


def check_floats(values: Any, name: str, ndim: int | None = None) -> FloatArray:
    """Return numbers as a float64 array of `ndim` dimensions (None: any), or raise if they are not numbers."""
    array = _floats(values, name)[1]
    if ndim is not None and array.ndim != ndim:
        raise ArgumentError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, got shape {array.shape}")
    return array


def _floats(values: Any, name: str) -> tuple[AnyArray, FloatArray]:
    """Numbers as an array, and in float64."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError
        with np.errstate(over="ignore"):  # becomes infinite, which is the caller's to refuse
            return array, array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: tensors that require a gradient
        raise ArgumentTypeError(f"{name} must be numbers, got {values!r:.80}") from None


def row_order(*columns: AnyArray) -> IntArray:
    """Ascending order of rows by some (n,) or (n, k) arrays, the first one first: only equal rows stay as they came."""
    return np.asarray(np.lexsort([key for array in columns[::-1] for key in np.atleast_2d(array.T)[::-1]]))


def read_rewards(rewards: Any, rows: int) -> tuple[FloatArray, Restore]:
    """Rewards as float64, and a function that turns results back into their kind.

    Parameters
    ----------
    rewards : (B,) array, tensor or sequence of numbers; NaN marks a trace that could not be scored
    rows : int
        Number of prompt ids, which must match.

    Returns
    -------
    rewards : (B,) float64
    restore : callable
        Array of floats -> same kind, device and, if floating, dtype as the rewards (integers become floats); other arrays
        keep their dtype.  An error, where a finite number would become infinite by it.

    Raises
    ------
    ArgumentError
        If the batch is empty, lengths differ, the rewards are not one-dimensional or hold an infinity.
    ArgumentTypeError
        If the rewards are not numbers.
    """
    if is_tensor(rewards):
        z = read_tensor(rewards, "rewards").astype(np.float64)
        source = rewards.detach()
        like = source if source.is_floating_point() else source.float()

        def restore(x: Any) -> Any:
            if x.dtype.kind != "f":
                return like.new_tensor(x.astype(np.float64)).bool()
            out = like.new_tensor(x)
            if (np.isfinite(x) & ~np.isfinite(out.double().cpu().numpy())).any():
                raise _too_large(out.dtype)
            return out
    else:
        array, z = _floats(rewards, "rewards")
        if isinstance(rewards, np.ma.MaskedArray):  # masked: could not be scored
            z = np.where(rewards.mask, np.nan, z)
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)

        def restore(x: Any) -> Any:
            if x.dtype.kind != "f":
                return x
            try:
                with np.errstate(over="raise"):
                    return x.astype(dtype)
            except FloatingPointError:
                raise _too_large(dtype) from None

    check_rows(z.shape, rows)
    huge = np.abs(z) > LARGEST_REWARD
    if huge.any():
        row = int(np.flatnonzero(huge)[0])
        raise ArgumentError(
            f"rewards must be finite (up to {LARGEST_REWARD:g}), or NaN for a trace that could not be scored; row {row} is "
            f"{z[row]}"
        )
    return z, restore


def _too_large(dtype: Any) -> ArgumentError:
    return ArgumentError(f"a result is too large for {dtype}, the type of the rewards: pass them as float64")


def read_weights(weights: Any, scored: Any) -> FloatArray:
    """Weights of the traces as float64; those of traces without a reward do not matter.  # (B,)

    Raises
    ------
    ArgumentError
        If there are not as many as rows, one is negative or beyond 1e300, or all are 0.
    ArgumentTypeError
        If the weights are not numbers.
    """
    if is_tensor(weights):
        weights = read_tensor(weights, "weights")
    w = check_floats(weights, "weights")
    if w.shape != scored.shape:
        raise ArgumentError(f"one weight a row: got {len(scored)} rows and weights of shape {w.shape}")
    bad = scored & ~((w >= 0) & (w <= LARGEST_WEIGHT))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ArgumentError(
            f"weights must be finite (up to {LARGEST_WEIGHT:g}) and not negative, row {row} has {w[row]}"
        )
    if scored.any() and not (w[scored] > 0).any():
        raise ArgumentError("all weights are 0: at least one trace must count; leave weighted out for the plain value")
    return np.where(scored, w, 0.0)


def read_steps(step: Any, rows: int) -> IntArray:
    """Step of every row as int64.  # (B,)

    Parameters
    ----------
    step : int, or (B,) whole numbers
        Training step at which the trace was generated, from 1.

    Raises
    ------
    ArgumentError
        If a step is not finite, not whole, below 1 or beyond 2^53, or there are not as many as rows.
    ArgumentTypeError
        If step is not a number.
    """
    if is_tensor(step):
        step = read_tensor(step, "step")
    if np.ma.is_masked(step):
        raise ArgumentError("steps must not be masked: every row needs its step")
    try:
        array = np.asarray(step)
        if array.dtype.kind not in "iuf" or array.ndim > 1:
            raise TypeError
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: tensors that require a gradient
        raise ArgumentTypeError(f"step must be a whole number or one a row, got {step!r:.80}") from None
    with np.errstate(over="ignore"):  # becomes infinite
        value = array.astype(np.float64)
    if value.ndim == 1 and len(value) != rows:
        raise ArgumentError(f"one step a row: got {rows} rows and {len(value)} steps")
    bad = ~np.isfinite(value) | (value != np.rint(np.where(np.isfinite(value), value, 0.0)))
    if bad.any():
        raise ArgumentError(f"steps must be whole numbers, got {np.atleast_1d(value[bad])[0]}")
    if (value < 1).any() or (array > LAST_STEP).any():
        wrong = value.min() if (value < 1).any() else value.max()
        raise ArgumentError(f"steps start at 1 and end at 2^53, got {wrong:.0f}; add 1 to a clock that starts at 0")
    return np.broadcast_to(value.astype(np.int64), (rows,))
