"""Fixtures of the kernels' tests, and the way to their helpers and to the benchmark."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "benchmarks" / "gpu")]


@pytest.fixture
def poisoned(monkeypatch):
    """Fresh memory is full of NaN, so that a cell that is not written is seen."""
    torch = pytest.importorskip("torch")
    empty = torch.empty

    def full_of_nan(*shape, **options):
        made = empty(*shape, **options)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", full_of_nan)
