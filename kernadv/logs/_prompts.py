"""Prompts: texts become short keys, keys become row numbers."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from itertools import count
from typing import Any

import numpy as np
import polars as pl

from kernadv._typing import IntArray

_LONGEST_KEY = 64


def canonical(value: Any) -> str:
    """Return one text for equal messages: sorted keys, no white space, absent and null fields alike."""
    return json.dumps(_without_nulls(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def canonical_texts(series: pl.Series) -> pl.Series:
    """Return the canonical text of each entry of a nested column, null for null."""
    texts = [None if item is None else canonical(item) for item in series.to_list()]
    return pl.Series(series.name, texts, dtype=pl.String)


def prompt_key(text: str) -> str:
    """Return a text of at most 64 characters as it is, a longer one as ``sha256:<hex digest>``: stable across runs."""
    if len(text) <= _LONGEST_KEY:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class PromptIndex:
    """Row numbers of prompts, in their order of appearance; of a long text only its digest is remembered."""

    def __init__(self) -> None:
        self._rows: defaultdict[str, int] = defaultdict(count().__next__)
        self._integral = True

    def rows(self, texts: pl.Series, integral: bool) -> IntArray:
        """Return the row number of each prompt; a new prompt gets the next one.

        Parameters
        ----------
        texts : (M,) Series of str
            Prompts, see `kernadv.logs._values.prompt_texts`.
        integral : bool
            Whether the log holds them as integers.
        """
        self._integral &= integral
        short = (texts.str.len_bytes().max() or 0) <= _LONGEST_KEY  # type: ignore[operator]
        keys = texts.to_list() if short else map(prompt_key, texts.to_list())
        return np.fromiter(map(self._rows.__getitem__, keys), dtype=np.int64, count=len(texts))

    def ids(self) -> list[str] | list[int]:
        """Return the id of each row: integers if the whole log has integers, strings otherwise."""
        return list(map(int, self._rows)) if self._integral else list(self._rows)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(item) for item in value]
    return value
