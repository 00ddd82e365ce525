"""Ids of prompts on a device: whole numbers, as they are or in the place of text."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv._typing import IntArray
from kernadv.ids import Id, batch_codes
from kernadv.moments._checks import WHOLE
from kernadv.moments.torch_mirror import upload


class Told(NamedTuple):
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


def read_ids(prompt_ids: Any, rows: int) -> Told:
    """Check the ids of a batch of that many rows."""
    if isinstance(prompt_ids, Tensor):
        if prompt_ids.ndim != 1 or prompt_ids.dtype not in WHOLE:
            raise ArgumentTypeError(
                f"prompt_ids must be one whole number a row, got a tensor of {str(prompt_ids.dtype)[6:]}, shape "
                f"{tuple(prompt_ids.shape)}"
            )
        told, count = Told(int, prompt_ids, None, None), len(prompt_ids)
    else:
        ids, code = batch_codes(prompt_ids)
        told, count = Told(type(ids[0]) if ids else int, None, ids, code), len(code)
    if count != rows:
        raise ArgumentError(f"one reward a prompt id: got {count} prompt ids and {rows} rewards")
    if not rows:
        raise ArgumentError("the batch is empty: pass at least one row")
    return told


class Names:
    """Text ids, each with its number: 0, 1, ... in the order in which they came.

    Parameters
    ----------
    known : list of str
    """

    def __init__(self, known: list[Any]) -> None:
        self._number = {name: number for number, name in enumerate(known)}

    @property
    def all(self) -> list[str]:
        """The names, by number."""
        return list(self._number)

    def keys(self, told: Told, device: torch.device, *, stored: bool) -> Tensor:
        """Each row's id as a whole number on the device.

        Text that is not known gets the next number if it is `stored`, else a negative one.
        """
        if told.tensor is not None:
            return told.tensor.to(device, torch.int64, non_blocking=True)
        assert told.ids is not None
        assert told.code is not None
        if told.kind is int:
            keys = np.array(told.ids, np.int64)
        elif stored:
            keys = np.array([self._number.setdefault(str(name), len(self._number)) for name in told.ids])
        else:
            keys = np.array([self._number.get(str(name), -1 - k) for k, name in enumerate(told.ids)])
        return upload(keys[told.code], device)
