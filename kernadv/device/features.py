"""Features of the prompts of a batch on a device."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kernadv.device.ids import DeviceIds
from kernadv.device.transfer import send, upload
from kernadv.features import Features, check_columns


class DeviceFeatures:
    """As `kernadv.features.Features`.

    For ids that only the device knows a mapping is copied there as a table; a function must be told them, and waits.

    Parameters
    ----------
    source : Features
    device : torch device
    """

    def __init__(self, source: Features, device: torch.device) -> None:
        self._source, self._device = source, device

    def rows(self, given: DeviceIds, expected: int | None) -> Tensor:
        """Features of each row's prompt, NaN where it has none; errors as in `Features.rows`.  # (B, D)"""
        ids, code = given.ids, given.code
        if given.tensor is not None:
            if self._table is not None:
                check_columns(self._table[1].shape[1], expected)
                return self._look_up(given.tensor, *self._table)
            numbers, code = np.unique(given.tensor.cpu().numpy(), return_inverse=True)
            ids = numbers.tolist()
        assert ids is not None
        assert code is not None
        return upload(self._source.rows(ids, expected)[code], self._device)

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor] | None:
        """Whole numbers, ascending, and a row of features each, with a row of NaN behind; None for a function."""
        known = self._source.numbered
        if known is None:
            return None
        keys, rows = known
        blank = np.full((1, rows.shape[1]), np.nan)
        return upload(keys, self._device), upload(np.concatenate([rows, blank]), self._device)

    def _look_up(self, ids: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        ids = send(ids.long(), self._device).contiguous()
        if not len(keys):
            return rows.expand(len(ids), -1)
        place = torch.searchsorted(keys, ids).clamp(max=len(keys) - 1)
        return rows[torch.where(keys[place] == ids, place, len(keys))]
