"""Reports of an audit: JSON, a table for the terminal, and a page of HTML.

Each form is a module of its own, imported when it is asked for: `terminal` needs rich, `page` needs jinja2 and matplotlib.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from kernadv import __version__
from kernadv.audit import Audit
from kernadv.groups import Groups

__all__ = ["Report", "is_binary"]


class Report(NamedTuple):
    """What every form of the report shows.

    Attributes
    ----------
    audit : Audit
    source : str
        The log, as its reader named it.
    format : str
        Format of the log.
    kernel : str
        Kernel of the KAE grid.
    draws : int
        Bootstrap draws.
    binary : bool
        Whether every reward is 0 or 1, so that E s^2 estimates E V(1-V).
    """

    audit: Audit
    source: str
    format: str
    kernel: str
    draws: int
    binary: bool

    def document(self) -> dict[str, Any]:
        """The report as plain values that JSON can hold.

        JSON has no number for infinity or NaN: the infinite bandwidth becomes the string ``"inf"``, every other number
        that is not finite becomes None (null).
        """
        return {
            "kernadv": __version__,
            "source": self.source,
            "format": self.format,
            "audit": _finite(self.audit.to_dict()),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """`document` as text."""
        return json.dumps(self.document(), indent=indent, allow_nan=False)


def is_binary(groups: Groups) -> bool:
    """Say whether every reward is 0 or 1: z (1 - z) is 0 in every group, and no reward lies outside."""
    inside = (groups.s >= 0) & (groups.s <= groups.n)
    return bool((inside & (groups.ss == groups.s)).all())


def _finite(value: Any, key: object = None) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if key == "bandwidth" and value > 0 else None
    return value
