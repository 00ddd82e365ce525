"""Checks of the arrays of a saved state, before anything is built from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernadv._errors import CheckpointError
from kernadv.typing import AnyArray, FloatArray, IntArray


def as_arrays(state: Any) -> dict[str, AnyArray]:
    """The arrays of a state by name.

    Raises
    ------
    CheckpointError
        If it is no mapping of names to arrays of numbers.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(f"a state is a mapping of names to arrays, got {type(state).__name__}")
    arrays = {}
    for name, values in state.items():
        try:
            array = np.asarray(values)
        except MemoryError:
            raise
        except Exception as error:  # whatever a tensor, or an object that poses as an array, raises
            raise CheckpointError(f"{name!r:.80} of the state is no array: {error}") from None
        if not isinstance(name, str) or array.dtype.kind not in "biuf":
            raise CheckpointError(
                f"{name!r:.80} of the state is no name of an array of numbers: it is damaged or foreign"
            )
        arrays[name] = array
    return arrays


def whole_numbers(array: AnyArray, low: int, high: int) -> IntArray | None:
    """Whole numbers in [low, high] as int64, compared in their own type; None if it holds anything else.  # (N,)"""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        return None
    if len(array) and not low <= int(array.min()) <= int(array.max()) <= high:
        return None
    return np.ascontiguousarray(array, np.int64)


def real_numbers(
    array: AnyArray, shape: tuple[int, ...], low: float = -math.inf, high: float = math.inf
) -> FloatArray | None:
    """Finite numbers of that shape in [low, high] as float64; None if it holds anything else."""
    if array.dtype.kind not in "iuf" or array.shape != shape:
        return None
    with np.errstate(all="ignore"):
        numbers = np.ascontiguousarray(array, np.float64)
    if numbers.size and not (
        max(low, -LARGEST) <= numbers.min() and numbers.max() <= min(high, LARGEST)
    ):  # NaN: neither
        return None
    return numbers


#: The largest float64.
LARGEST = float(np.finfo(np.float64).max)
