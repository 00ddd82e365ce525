"""Features of the prompts, looked up for a batch and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, ArgumentTypeError, warn
from kernadv.ids import Id
from kernadv.typing import FloatArray, IntArray

__all__ = ["Features"]


def __dir__() -> list[str]:
    return __all__


#: A mapping from prompt id to a vector, or a function from a list of ids to one row a prompt.
FeatureSource = Mapping[Any, Any] | Callable[[Sequence[Id]], Any]


class Features:
    """Features by prompt id.

    Parameters
    ----------
    source : mapping or callable
        Prompt id -> (D,) vector, or list of P ids -> (P, D) array.

    Raises
    ------
    ArgumentTypeError
        If it is neither.
    ArgumentError
        If a mapping is empty, or its vectors differ in length or hold NaN or infinity.
    """

    def __init__(self, source: FeatureSource) -> None:
        self._source = source
        self._told = False
        self.size: int | None = None
        if isinstance(source, Mapping):
            if not source:
                raise ArgumentError("features must hold at least one prompt, got an empty mapping; leave it out")
            self._table = {key: _vector(vector, key) for key, vector in source.items()}
            lengths = {len(vector): key for key, vector in self._table.items()}
            if len(lengths) > 1:
                raise ArgumentError(
                    f"all feature vectors must have one length, got {sorted(lengths)}, e.g. for prompts "
                    f"{', '.join(repr(key) for key in list(lengths.values())[:2])}"
                )
            (self.size,) = lengths
        elif not callable(source):
            raise ArgumentTypeError(
                "features must map prompt ids to vectors, or be a function of a list of ids, got "
                f"{type(source).__name__}"
            )

    @property
    def numbered(self) -> tuple[IntArray, FloatArray] | None:
        """The ids of a mapping that are whole numbers of 64 bits, ascending, and their features; None for a function."""
        if not isinstance(self._source, Mapping):
            return None
        whole = (key for key in self._table if isinstance(key, (int, np.integer)) and not isinstance(key, bool))
        keys = sorted(key for key in whole if -(2**63) <= key < 2**63)
        rows = [self._table[key] for key in keys]
        return np.array(keys, np.int64), np.array(rows, np.float64).reshape(len(keys), self.size or 0)

    def rows(self, ids: Sequence[Id], expected: int | None = None) -> FloatArray:
        """Features of the prompts; NaN where a prompt has none, with one warning.  # (P, D)

        Raises
        ------
        ArgumentError
            If there are not as many as `expected`, or a function returns another shape, NaN or infinity.
        """
        out = self._rows(ids)
        check_columns(out.shape[1], expected)
        return out

    def _rows(self, ids: Sequence[Id]) -> FloatArray:
        if isinstance(self._source, Mapping):
            assert self.size is not None
            blank = np.full(self.size, np.nan)
            out = np.stack([self._table.get(prompt, blank) for prompt in ids])
            missing = np.isnan(out[:, 0])
            if missing.any() and not self._told:
                self._told = True
                first = ids[int(np.flatnonzero(missing)[0])]
                warn(
                    f"{int(missing.sum())} of {len(ids)} prompts have no features, the first is {first!r}: their prior is "
                    "the mean over prompts; this warning comes once",
                )
            return out
        out = check_floats(self._source(list(ids)), "features")
        if out.ndim != 2 or len(out) != len(ids) or not out.shape[1]:
            raise ArgumentError(f"features of {len(ids)} prompts must have the shape ({len(ids)}, D), got {out.shape}")
        if not np.isfinite(out).all():
            raise ArgumentError("features must be finite numbers, got NaN or infinity")
        return out


def check_columns(columns: int, expected: int | None) -> None:
    """Refuse another number of features than was learned from."""
    if expected is not None and columns != expected:
        raise ArgumentError(f"features must have {expected} columns, as those learned from before, got {columns}")


def _vector(vector: Any, key: Any) -> FloatArray:
    out = np.atleast_1d(check_floats(vector, f"the features of prompt {key!r:.60}"))
    if out.ndim != 1 or not len(out) or not np.isfinite(out).all():
        raise ArgumentError(
            f"the features of prompt {key!r} must be a vector of finite numbers, got {vector!r:.60}; leave a prompt without "
            "features out"
        )
    return out
