"""Which versions of the frameworks the tests run against."""

from __future__ import annotations

import re
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version

#: From the first, below the second.
TESTED = {
    "trl": ((1, 16), (1, 17)),
    "verl": ((0, 9), (0, 10)),
    "torchrl": ((0, 14), (0, 15)),
    "skyrl": ((0, 3), (0, 4)),
}


@cache
def check_version(package: str) -> None:
    """Warn, once a process, if a framework's version lies outside the range that is tested."""
    first, last = TESTED[package]
    try:
        found = version(package)
    except PackageNotFoundError:
        return
    if not first <= tuple(map(int, re.findall(r"\d+", found)[:2])) < last:
        bounds = f">= {'.'.join(map(str, first))}, < {'.'.join(map(str, last))}"
        warnings.warn(f"kernadv is tested with {package} {bounds}; {found} is installed", stacklevel=4)
