"""Prompt ids that differ only in how they are written."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from itertools import chain

import polars as pl

#: Sets of ids that are listed.
_LISTED = 5
#: An integer as a float is written.
_WHOLE = re.compile(r"([+-]?[0-9]+)\.0*")
#: What a text has in it that is not its own loose form.
_ODD = rf"^\s|\s$|\s\s|[^\S ]|[^\x00-\x7f]|^{_WHOLE.pattern}$"


def loose(text: str) -> str:
    """Return what ids have in common that differ only by spaces, Unicode form, or 1 / 1.0."""
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    whole = _WHOLE.fullmatch(plain)
    return whole[1] if whole else plain


def alike(rows: Mapping[str, int], forms: Mapping[str, str]) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Return the first sets of ids that have their loose form in common, and the number of sets.

    Parameters
    ----------
    rows : mapping of str to int
        Ids in their order.
    forms : mapping of str to str
        Loose forms of those that are not texts, where they differ.
    """
    names = pl.Series(rows.keys(), dtype=pl.String)
    spelt: defaultdict[str, list[str]] = defaultdict(list)
    for name in chain(names.filter(names.str.contains(_ODD)), forms):
        if (form := forms.get(name) or loose(name)) != name:
            spelt[form].append(name)
    sets = [[form] * (form in rows) + others for form, others in spelt.items()]
    found = [sorted(names, key=rows.__getitem__) for names in sets if len(names) > 1]
    return tuple(map(tuple, sorted(found, key=lambda names: rows[names[0]])[:_LISTED])), len(found)
