"""Ids of prompts on a device: whole numbers, and for text a hash."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernadv._errors import ArgumentTypeError
from kernadv.device.transfer import send, upload
from kernadv.ids import Id, batch_codes, id_key
from kernadv.moments.checks import WHOLE
from kernadv.typing import IntArray


class DeviceIds(NamedTuple):
    """The ids of a batch of B rows: a tensor, or what the host knows of them.

    Attributes
    ----------
    kind : type
        str or int.
    tensor : (B,) tensor of whole numbers, or None
    ids : list of str or int, or None  # (P,)
    code : (B,) int64 or None
        Index of each row's id.
    """

    kind: type
    tensor: Tensor | None
    ids: list[Id] | None
    code: IntArray | None


def read_ids(prompt_ids: Any) -> tuple[DeviceIds, int]:
    """Check the ids of a batch; returns them, and the number of rows."""
    if isinstance(prompt_ids, Tensor):
        if prompt_ids.ndim != 1 or prompt_ids.dtype not in WHOLE:
            raise ArgumentTypeError(
                f"prompt_ids must be one whole number a row, got a tensor of {str(prompt_ids.dtype)[6:]}, shape "
                f"{tuple(prompt_ids.shape)}"
            )
        return DeviceIds(int, prompt_ids, None, None), len(prompt_ids)
    ids, code = batch_codes(prompt_ids)
    return DeviceIds(type(ids[0]) if ids else int, None, ids, code), len(code)


class Names:
    """Text ids and the whole numbers that stand for them: hashes, the same in every process."""

    def __init__(self) -> None:
        self._key: dict[Id, int] = {}
        self._name: dict[int, Id] = {}
        self._last: dict[int, int] = {}  # no visit of a key is newer than that step

    def keys(self, given: DeviceIds, device: torch.device) -> Tensor:
        """Each row's id as a whole number on the device; text is not entered yet.  # (B,)"""
        if given.tensor is not None:
            return send(given.tensor.long(), device)
        assert given.ids is not None
        assert given.code is not None
        keys = given.ids if given.kind is int else list(map(self._find, given.ids))
        return upload(np.array(keys, np.int64)[given.code], device)

    def enter(self, names: list[Id], newest: int) -> IntArray:
        """Key of each name, of which the history then holds no visit that is newer.  # (P,)"""
        keys = []
        for name in names:
            key = self._find(name)
            self._key[name], self._name[key], self._last[key] = key, name, newest
            keys.append(key)
        return np.array(keys, np.int64)

    def of(self, keys: IntArray) -> list[Id]:
        """Name of each key."""
        return [self._name[key] for key in keys.tolist()]

    def forget(self, oldest: int) -> None:
        """Forget the names that have no visit since that step."""
        for key in [key for key, last in self._last.items() if last < oldest]:
            del self._last[key], self._key[self._name.pop(key)]

    def _find(self, name: Id) -> int:
        """The key that a name has, or would get."""
        known = self._key.get(name)
        if known is not None:
            return known
        key = id_key(name)
        while key in self._name:  # one pair of names in 10^18
            key += 1
        return key
