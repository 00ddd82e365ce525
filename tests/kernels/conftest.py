"""Fixtures of the kernels' tests, and the way to their helpers."""

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

if os.environ.get("TRITON_INTERPRET") == "1" and metadata.version("triton").startswith("3.6."):
    from triton.runtime import interpreter

    patch_tensor = interpreter._patch_lang_tensor

    def patch_index_too(tensor, scope):
        """Triton 3.6 takes `int` of an array with one axis for an index, which numpy 2.4 refuses; Triton 3.7 does not."""
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch_index_too


@pytest.fixture
def poisoned(monkeypatch):
    """Fresh memory is full of NaN, so that a cell that is not written is seen; no count of operators holds that."""
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import _disable_current_modes

    empty = torch.empty

    def full_of_nan(*shape, **options):
        made = empty(*shape, **options)
        with _disable_current_modes():
            return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", full_of_nan)
