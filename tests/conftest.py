"""Fixtures of the whole suite."""

import json
from pathlib import Path

import pytest

#: Numbers made by other programs; see the README there.
ORACLES = Path(__file__).parent / "data" / "oracles"
#: Third-party reward logs; beside the checkout where development happens, absent elsewhere.
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def oracle():
    """Return a function name -> oracle record."""
    return lambda name: json.loads((ORACLES / f"{name}.json").read_text())


@pytest.fixture
def shared_data():
    """Folder of third-party reward logs; skips where it is not beside the checkout."""
    if not (SHARED / "data").exists():
        pytest.skip("third-party reward logs are not beside this checkout")
    return SHARED / "data"
