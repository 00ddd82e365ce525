"""Smoothers: weighted moments -> estimate.  k-NN in time is Nadaraya-Watson with the bandwidth `Visits(k)`."""

from __future__ import annotations

from collections.abc import Callable

from kernadv._errors import check_choice
from kernadv.smoothers._base import Estimate
from kernadv.smoothers.local_linear import local_linear
from kernadv.smoothers.nadaraya_watson import nadaraya_watson

__all__ = [
    "SMOOTHERS",
    "Estimate",
    "Smoother",
    "get",
    "local_linear",
    "nadaraya_watson",
]

#: Of moments, and of the module of their arrays (numpy if left out).
Smoother = Callable[..., Estimate]

#: Every smoother of a history by name.
SMOOTHERS: dict[str, Smoother] = {"nadaraya_watson": nadaraya_watson, "local_linear": local_linear}


def get(name: str) -> Smoother:
    """Return the smoother of that name, or raise with the list of the known ones."""
    return SMOOTHERS[check_choice(name, "smoother", SMOOTHERS)]
