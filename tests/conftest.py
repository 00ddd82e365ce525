"""Fixtures of the whole suite."""

import json
from pathlib import Path

import pytest

#: Numbers made by other programs; beside the checkout where development happens, absent elsewhere.
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def oracle():
    """Return a function name -> oracle record; skips where the oracles are not beside the checkout."""

    def load(name):
        path = SHARED / "oracles" / f"{name}.json"
        if not path.exists():
            pytest.skip(f"oracle {name} is not beside this checkout")
        return json.loads(path.read_text())

    return load


@pytest.fixture
def shared_data():
    """Folder of third-party reward logs; skips where it is not beside the checkout."""
    if not (SHARED / "data").exists():
        pytest.skip("third-party reward logs are not beside this checkout")
    return SHARED / "data"
