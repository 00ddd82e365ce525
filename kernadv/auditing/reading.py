"""What an audit takes: a log that was read, a frame, arrays of traces, or groups."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kernadv._arrays import is_tensor, read_tensor
from kernadv._errors import ArgumentError, ArgumentTypeError, LogError, import_extra
from kernadv.groups import Groups
from kernadv.typing import AnyArray

if TYPE_CHECKING:
    import polars as pl

    from kernadv.logs import RewardLog

#: Python objects that a column may hold.
_PLAIN = (str, int, float, Decimal, date, list, tuple, dict)


def as_log(
    log: Any,
    prompt_ids: Any = None,
    rewards: Any = None,
    step: Any = None,
    weights: Any = None,
    on_repeat: str = "error",
    *,
    keep_traces: bool = False,
) -> RewardLog | Groups:
    """Return a log or groups as they are, and read frames and arrays, with their single traces if asked to.

    Raises
    ------
    ArgumentError
        If nothing is given, or two things, or not all of the arrays, or arrays of unequal lengths, or weights without
        the other arrays; if `on_repeat` is none of the choices, or is given with a log that was read before, or groups.
    ArgumentTypeError
        If `log` is none of what can be audited.
    LogError
        If a frame cannot be read.
    MissingExtraError
        If a frame or arrays are given without polars.
    """
    arrays = {"prompt_ids": prompt_ids, "rewards": rewards, "step": step}
    given = [name for name, array in arrays.items() if array is not None]
    if (log is None) is not (len(given) == 3) or (log is not None and given):
        came = ["a log"] * (log is not None) + given
        raise ArgumentError(
            f"audit takes a log, or prompt_ids, rewards and step together; got {' and '.join(came) or 'nothing'}"
        )
    if log is not None and weights is not None:
        raise ArgumentError(
            "weights belong to prompt_ids, rewards and step; of a log name their column as it is read: "
            "read_log(path, columns={'weight': COLUMN})"
        )
    is_read = isinstance(log, Groups)
    if not is_read:
        from kernadv.logs import RewardLog

        is_read = isinstance(log, RewardLog)
    if is_read and on_repeat != "error":
        raise ArgumentError(
            f"on_repeat is for a frame or arrays, got {type(log).__name__}, whose rows are groups already; of a file give "
            "it to kernadv.logs.read_log"
        )
    if is_read:
        return cast("RewardLog | Groups", log)
    if log is not None:
        return _read(_frame(log), "the frame", on_repeat, keep_traces)
    frame = _columns(arrays if weights is None else {**arrays, "weights": weights})
    return _read(frame, "the arrays", on_repeat, keep_traces)


def _frame(given: Any) -> pl.DataFrame:
    """A frame of polars, from one of polars or pandas; of columns that no role looks for only the name is kept."""
    polars = import_extra("polars", "auditing a frame", "audit")
    pandas = type(given).__name__ == "DataFrame" and type(given).__module__.startswith("pandas")
    if not (pandas or isinstance(given, polars.DataFrame)):
        raise ArgumentTypeError(
            "audit takes what kernadv.logs.read_log returned, a DataFrame of polars or pandas, or Groups; got "
            f"{type(given).__name__}; of a file give read_log(path)"
        )
    from kernadv.logs import ALIASES

    known = {name for names in ALIASES.values() for name in names}
    names = list(given.columns)
    if twice := [name for name in names if name in known and names.count(name) > 1]:
        raise ArgumentError(f"the frame has the column {twice[0]!r} twice; rename one of them")
    nothing = [None] * len(given)
    columns = {str(name): _column(given[name], name) if name in known else nothing for name in names}
    return cast("pl.DataFrame", polars.DataFrame(columns))


def _column(given: Any, name: str) -> pl.Series:
    """A column of polars from one of any frame, or an array; of Python objects that a file could not hold it is texts.

    Raises
    ------
    ArgumentTypeError
        If it holds other objects than numbers, texts, times, and lists and dictionaries of them.
    """
    polars = import_extra("polars", "auditing a frame or arrays", "audit")
    found = _plainly(polars.from_pandas if hasattr(given, "iloc") else polars.Series, given)
    if found is not None:
        return found
    values = [value.item() if isinstance(value, np.generic) else value for value in given]
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, _PLAIN):
            raise ArgumentTypeError(
                f"column {name!r} must hold numbers or texts, got {type(value).__name__} in row {row + 1}: {value!r:.80}"
            )
    found = _plainly(polars.Series, values)
    if found is not None:
        return found
    texts = [value if value is None or isinstance(value, str) else json.dumps(value, default=str) for value in values]
    return cast("pl.Series", polars.Series(texts, dtype=polars.String))


def _plainly(convert: Callable[[Any], Any], values: Any) -> pl.Series | None:
    """What a function makes of values; None if they are mixed, or of types that it does not know."""
    try:
        found: pl.Series = convert(values)
    except Exception:  # polars, pandas, pyarrow and numpy share no class of errors
        return None
    return None if str(found.dtype) == "Object" else found


def _columns(arrays: Mapping[str, Any]) -> pl.DataFrame:
    """A frame of arrays of one length; tensors are copied from their device."""
    polars = import_extra("polars", "auditing arrays", "audit")
    columns = {name: _array(array, name) for name, array in arrays.items()}
    shapes = {name: column.shape for name, column in columns.items()}
    if len({(len(shape), *shape) for shape in shapes.values()}) > 1 or any(
        len(shape) != 1 for shape in shapes.values()
    ):
        raise ArgumentError(f"audit takes arrays of one number a trace, got the shapes {shapes}")
    names = {"prompt_ids": "prompt_id", "rewards": "reward", "step": "step", "weights": "weight"}
    return cast(
        "pl.DataFrame",
        polars.DataFrame({names[name]: _column(column, names[name]) for name, column in columns.items()}),
    )


def _array(given: Any, name: str) -> AnyArray:
    """An array; masked rewards could not be scored."""
    if is_tensor(given):
        return read_tensor(given, name)
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        if name != "rewards":
            raise ArgumentError(f"{name} must not be masked: every trace needs one")
        given = np.where(given.mask, np.nan, given.data)
    try:
        return np.asarray(given)
    except ValueError as error:  # lists of unequal lengths
        raise ArgumentError(f"{name} must hold one number, or id, a trace: {error}") from None


def _read(frame: pl.DataFrame, what: str, on_repeat: str, keep_traces: bool) -> RewardLog:
    """Read a frame as the file that it would be."""
    from kernadv.logs import read_log

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.parquet"
        frame.write_parquet(path)
        try:
            roles = {"weight": "weight"} if what == "the arrays" and "weight" in frame.columns else {}
            found = read_log(path, format="table", columns=roles, on_repeat=on_repeat, keep_traces=keep_traces)
        except LogError as error:
            options = "; options are for files: of a frame, or arrays, change the columns" if "--" in str(error) else ""
            raise LogError(str(error).replace(str(path), what) + options) from None
    return replace(found, source=type(found.source)(what), format="frame")
