"""Fixtures of the whole suite."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

#: Numbers made by other programs; see the README there.
ORACLES = Path(__file__).parent / "data" / "oracles"
#: Third-party reward logs; beside the checkout where development happens, absent elsewhere.
SHARED = Path(__file__).resolve().parents[2] / "shared"
#: The training study.
RLVR = Path(__file__).parents[1] / "benchmarks" / "rlvr"


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


@pytest.fixture(scope="module")
def code() -> Iterator[dict[str, ModuleType]]:
    """The modules of the benchmark, imported by path; their plain names are forgotten afterwards."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("rich")
    pytest.importorskip("pyarrow")
    if not RLVR.is_dir():
        pytest.skip("benchmarks/rlvr is not part of the wheel")
    names = [path.stem for path in RLVR.glob("*.py")]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RLVR))
        for name in names:
            patch.delitem(sys.modules, name, raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield {name: importlib.import_module(name) for name in names}
        torch.set_num_threads(threads)
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def small(code, monkeypatch):
    """Few prompts, a tiny untrained model, and a reward that it earns by chance: a filler as the first character."""
    monkeypatch.setattr(code["start"], "POOL", 16)
    monkeypatch.setattr(code["start"], "HELD_OUT", 24)
    monkeypatch.setattr(code["runs"], "SAVED_EVERY", 2)
    fillers = tuple(code["alphabet"].FILLERS)
    monkeypatch.setattr(
        code["chain_sum"].ChainSum, "reward", lambda self, problem, trace: float(trace.startswith(fillers))
    )
    return code["start"].Sizes(width=32, layers=1, heads=2, base_steps=2, base_batch=8, steps=1, batch=8)
