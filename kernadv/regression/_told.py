"""Docstrings of classes that share parameters: written once, shown in full wherever they hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import cleandoc
from typing import TypeVar

Class = TypeVar("Class", bound=type)

#: An entry of a numpydoc section: its names and type, and the indented lines that describe it.
ENTRY = re.compile(r"^(\w+(?:, \w+)*(?: : [^\n]*)?)\n((?: {4}[^\n]*\n|\n(?= {4}))*)", re.MULTILINE)


def told_by(source: type) -> Callable[[Class], Class]:
    """A decorator: entries that begin with "As in `Source`." get the text of the source, and then their own."""
    mark = f"    As in `{source.__name__}`."
    entries = {
        head.partition(" ")[0]: (head, text) for head, text in ENTRY.findall(cleandoc(source.__doc__ or "") + "\n")
    }

    def in_full(entry: re.Match[str]) -> str:
        names, text = entry[1].partition(" : ")[0].split(", "), entry[2]
        if not text.startswith(mark):
            return entry[0]
        rest = text.removeprefix(mark).lstrip()
        return "".join("{}\n{}".format(*entries[name]) for name in names) + (f"    {rest}" if rest else "")

    def tell(cls: Class) -> Class:
        if cls.__doc__ and source.__doc__:  # python -OO removes them
            cls.__doc__ = ENTRY.sub(in_full, cleandoc(cls.__doc__) + "\n")
        return cls

    return tell
