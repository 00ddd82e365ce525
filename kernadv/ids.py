"""Prompt ids: checked and turned into batch codes; packed into arrays for checkpoints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import count, pairwise
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, CheckpointError
from kernadv._typing import AnyArray, IntArray

Id = str | int

_STR = {str, np.str_}


def batch_codes(prompt_ids: Any) -> tuple[list[Id], IntArray]:
    """Distinct ids of a batch in order of appearance, and each row's index into them.

    Parameters
    ----------
    prompt_ids : sequence of str, sequence of int, array or tensor of either  # (B,)

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
    unordered = isinstance(prompt_ids, (str, bytes, set, frozenset, dict, type)) or hasattr(prompt_ids, "columns")
    if unordered or not hasattr(prompt_ids, "__len__"):
        raise ArgumentTypeError(f"prompt_ids must be a sequence of ids, one a row, got {prompt_ids!r:.80}")
    if hasattr(prompt_ids, "tolist"):
        if len(prompt_ids.shape) != 1:
            raise ArgumentError(f"prompt_ids must have one dimension, got shape {tuple(prompt_ids.shape)}")
        prompt_ids = prompt_ids.tolist()
    types = set(map(type, prompt_ids))
    if types not in ({str}, {int}, set()):
        _refuse(prompt_ids, types)
        prompt_ids = list(map(str if types <= _STR else int, prompt_ids))
    table: defaultdict[Id, int] = defaultdict(count().__next__)
    code = np.fromiter(map(table.__getitem__, prompt_ids), np.int64, len(prompt_ids))
    ids = list(table)
    if types == {int} and any(not -(2**63) <= int(x) < 2**63 for x in ids):
        raise ArgumentError("int prompt ids must fit 64 bits; pass larger ones as str")
    return ids, code


def _refuse(prompt_ids: Sequence[Any], types: set[type]) -> None:
    """Raise for ids that cannot be used; numpy integers pass."""
    for kind in types:
        if kind in _STR or (issubclass(kind, (int, np.integer)) and kind is not bool):
            continue
        row = next(i for i, x in enumerate(prompt_ids) if type(x) is kind)
        raise ArgumentTypeError(
            f"prompt ids must be str or int, got {kind.__name__} in row {row}: {prompt_ids[row]!r:.80}; "
            "use the row number in the data set or the prompt's text"
        )
    if types & _STR and types - _STR:
        raise ArgumentError(
            "prompt ids must all be str or all be int, got both in one batch; convert them, e.g. with str()"
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
    if "ids_int" in state:
        ids = np.asarray(state["ids_int"], np.int64).tolist()
    elif "ids_text" in state and "ids_length" in state:
        text = np.asarray(state["ids_text"], np.uint8).tobytes()
        ends = np.cumsum(np.asarray(state["ids_length"], np.int64))
        if (np.diff(ends, prepend=0) < 0).any() or (ends[-1] if len(ends) else 0) != len(text):
            raise CheckpointError("the ids of the state are damaged: their lengths do not add up")
        bounds = [0, *ends.tolist()]
        try:
            ids = [text[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(bounds)]
        except UnicodeDecodeError:
            raise CheckpointError("the ids of the state are damaged: they are not UTF-8") from None
    else:
        raise CheckpointError("the state has no prompt ids: it is damaged or foreign")
    if len(set(ids)) != len(ids):
        raise CheckpointError("the state is damaged: a prompt id occurs twice")
    return ids
