"""What an audit takes: a log that was read, a frame, arrays of traces, or groups."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kernadv._arrays import is_tensor, read_tensor
from kernadv._errors import ArgumentError, ArgumentTypeError, LogError, import_extra
from kernadv.groups import Groups

if TYPE_CHECKING:
    import polars as pl

    from kernadv.logs import RewardLog


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
    columns = {str(name): given[name] if name in known else [None] * len(given) for name in given.columns}
    if pandas:
        columns = {name: polars.from_pandas(part) if name in known else part for name, part in columns.items()}
    return cast("pl.DataFrame", polars.DataFrame(columns))


def _columns(arrays: Mapping[str, Any]) -> pl.DataFrame:
    """A frame of arrays of one length; tensors are copied from their device."""
    polars = import_extra("polars", "auditing arrays", "audit")
    columns = {
        name: read_tensor(array, name) if is_tensor(array) else np.asarray(array) for name, array in arrays.items()
    }
    shapes = {name: column.shape for name, column in columns.items()}
    if len({(len(shape), *shape) for shape in shapes.values()}) > 1 or any(
        len(shape) != 1 for shape in shapes.values()
    ):
        raise ArgumentError(f"audit takes arrays of one number a trace, got the shapes {shapes}")
    names = {"prompt_ids": "prompt_id", "rewards": "reward", "step": "step", "weights": "weight"}
    return cast("pl.DataFrame", polars.DataFrame({names[name]: column for name, column in columns.items()}))


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
            raise LogError(str(error).replace(str(path), what)) from None
    return replace(found, source=type(found.source)(what), format="frame")
