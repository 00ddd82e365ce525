"""Ids of prompts and of traces: checked and turned into batch codes; packed into arrays for checkpoints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import count, pairwise
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, CheckpointError
from kernadv._states import whole_numbers
from kernadv.typing import AnyArray, IntArray

__all__ = ["batch_codes", "decode_ids", "encode_ids", "id_key", "length_of"]


def __dir__() -> list[str]:
    return __all__


Id = str | int

#: Names of the arrays that hold ids in a state.
ID_NAMES = ("ids_int", "ids_text", "ids_length")

#: What a message calls the argument with the ids of each kind, and what it advises.
_WORDS = {
    "prompt": ("prompt_ids", "use the row number in the data set or the prompt's text"),
    "trace": ("trace", "use the number of the rollout, the same for all its parts"),
}
_STR = {str, np.str_}


def batch_codes(given: Any, kind: str = "prompt") -> tuple[list[Id], IntArray]:
    """Distinct ids of a batch in order of appearance, and each row's index into them.

    Parameters
    ----------
    given : sequence of str, sequence of int, array or tensor of either  # (B,)
    kind : {"prompt", "trace"}
        What the ids are of, for the errors.

    Returns
    -------
    ids : list of str or list of int  # (P,)
    code : (B,) int64

    Raises
    ------
    ArgumentTypeError
        If an id is neither str nor int (a list, None, a float, a bool, ...).
    ArgumentError
        If str and int ids are mixed, or an int does not fit 64 bits, or ids are not one-dimensional.
    """
    name = _WORDS[kind][0]
    unordered = isinstance(given, (str, bytes, set, frozenset, dict, type)) or hasattr(given, "columns")
    if unordered or not hasattr(given, "__len__"):
        raise ArgumentTypeError(f"{name} must be a sequence of ids, one a row, got {given!r:.80}")
    if hasattr(given, "tolist"):
        if len(given.shape) != 1:
            raise ArgumentError(f"{name} must have one dimension, got shape {tuple(given.shape)}")
        try:
            given = given.tolist()
        except (TypeError, RuntimeError):  # a tensor that is sparse, or holds no numbers
            raise ArgumentTypeError(f"{name} must be a dense tensor that holds numbers") from None
    types = set(map(type, given))
    if types not in ({str}, {int}, set()):
        _refuse(given, types, kind)
        given = list(map(str if types <= _STR else int, given))
    table: defaultdict[Id, int] = defaultdict(count().__next__)
    code = np.fromiter(map(table.__getitem__, given), np.int64, len(given))
    ids = list(table)
    if types == {int} and any(not -(2**63) <= int(x) < 2**63 for x in ids):
        raise ArgumentError(f"int {kind} ids must fit 64 bits; pass larger ones as str")
    return ids, code


def length_of(prompt_ids: Any) -> int:
    """Number of rows, 0 of what `batch_codes` refuses for having none."""
    try:
        return len(prompt_ids)
    except TypeError:
        return 0


def _refuse(given: Sequence[Any], types: set[type], of: str) -> None:
    """Raise for ids that cannot be used; numpy integers pass."""
    for kind in types:
        if kind in _STR or (issubclass(kind, (int, np.integer)) and kind is not bool):
            continue
        row = next(i for i, x in enumerate(given) if type(x) is kind)
        raise ArgumentTypeError(
            f"{of} ids must be str or int, got {kind.__name__} in row {row}: {given[row]!r:.80}; {_WORDS[of][1]}"
        )
    if types & _STR and types - _STR:
        raise ArgumentError(
            f"{of} ids must all be str or all be int, got both in one batch; convert them, e.g. with str()"
        )


def id_key(prompt_id: Id) -> int:
    """A whole number that stands for an id: itself, or 62 bits of a hash of the text, the same in every process."""
    if isinstance(prompt_id, int):
        return prompt_id
    digest = blake2b(prompt_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def encode_ids(ids: Sequence[Id]) -> dict[str, AnyArray]:
    """Ids as plain arrays: int64, or the bytes of UTF-8 text and each text's length in bytes."""
    if ids and isinstance(ids[0], int):
        return {"ids_int": np.array(ids, np.int64)}
    texts = [str(x).encode("utf-8", "surrogatepass") for x in ids]
    return {
        "ids_text": np.frombuffer(b"".join(texts), np.uint8).copy(),
        "ids_length": np.fromiter(map(len, texts), np.int64, len(texts)),
    }


def decode_ids(state: Mapping[str, Any]) -> list[Id]:
    """The inverse of `encode_ids`.

    Raises
    ------
    CheckpointError
        If the arrays are missing or damaged, or an id occurs twice.
    """
    ids: list[Id]
    held = {name: np.asarray(state[name]) for name in ID_NAMES if name in state}
    if set(held) == {"ids_int"}:
        numbers = whole_numbers(held["ids_int"], -(2**63), 2**63 - 1)
        if numbers is None:
            raise CheckpointError("the ids of the state are damaged: they are no list of whole numbers of 64 bits")
        ids = numbers.tolist()
    elif set(held) == {"ids_text", "ids_length"}:
        text = held["ids_text"]
        length = whole_numbers(held["ids_length"], 0, text.size)  # none is larger than their sum, which then fits
        if text.dtype != np.uint8 or text.ndim != 1 or length is None or length.sum() != len(text):
            raise CheckpointError("the ids of the state are damaged: their lengths do not add up")
        data, bounds = text.tobytes(), [0, *np.cumsum(length).tolist()]
        try:
            ids = [data[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(bounds)]
        except UnicodeDecodeError:
            raise CheckpointError("the ids of the state are damaged: they are not UTF-8") from None
    else:
        raise CheckpointError("the state has no prompt ids, or too many: it is damaged or foreign")
    if len(set(ids)) != len(ids):
        raise CheckpointError("the state is damaged: a prompt id occurs twice")
    return ids
