"""Text ids of a history on a device, which knows them by numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kernadv._typing import IntArray
from kernadv.clock import Retention
from kernadv.ids import Id, id_key


class Names:
    """Names and the whole numbers that stand for them: hashes, so that they are the same wherever they are made."""

    def __init__(self) -> None:
        self._key: dict[Id, int] = {}
        self._name: dict[int, Id] = {}
        self._last: dict[int, int] = {}  # no visit of a key is newer than that step

    def keys(self, names: Iterable[Id], newest: int | None) -> IntArray:
        """Key of each name.  # (P,) int64

        Parameters
        ----------
        names : iterable of str
        newest : int, optional
            They are stored, and no visit that the history then holds is newer.  None: they are only looked up.
        """
        known = self._key
        keys = [known[name] if name in known else self._make(name, newest is not None) for name in names]
        if newest is not None:
            self._last.update(dict.fromkeys(keys, newest))
        return np.array(keys, np.int64)

    def of(self, keys: IntArray) -> list[Id]:
        """Name of each key."""
        return [self._name[key] for key in keys.tolist()]

    def forget(self, keep: Retention) -> None:
        """Forget the names whose visits are all forgotten; with the latest few kept of each, none is."""
        if keep.visits:
            return
        for key in [key for key, last in self._last.items() if last < keep.oldest]:
            del self._last[key], self._key[self._name.pop(key)]

    def _make(self, name: Id, stored: bool) -> int:
        key = id_key(name)
        while self._name.get(key, name) != name:  # one pair of names in 10^18
            key += 1
        if stored:
            self._key[name], self._name[key] = key, name
        return key
