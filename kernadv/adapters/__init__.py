"""Adapters of training frameworks, one module each, called as the framework and alone in importing it.

They hand rows to a `Driver` and its advantages to the framework; nothing is computed in them but sums over tokens.
"""

from kernadv.adapters._driver import Driver as Driver
from kernadv.adapters._process import at_step as at_step
from kernadv.adapters._process import use as use

__all__ = ["Driver", "at_step", "use"]


def __dir__() -> list[str]:
    return __all__
