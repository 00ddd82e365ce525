"""Fixtures of the whole suite."""

import json
import os
import sys
from pathlib import Path

import pytest

#: Numbers made by other programs; see the README there.
ORACLES = Path(__file__).parent / "data" / "oracles"
#: Third-party reward logs; beside the checkout where development happens, absent elsewhere.
SHARED = Path(__file__).resolve().parents[2] / "shared"
# For `benchmarks`, which is never installed, here and in subprocesses; last, so that the installed kernadv is tested.
ROOT = str(Path(__file__).parents[1])
sys.path.append(ROOT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), ROOT]))

# The clusters of the tests are on this machine, one after the other; Ray's token holds for the first one of a process.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked `nightly`: a test, or its cases for which the condition of the mark holds."""
    if os.environ.get("KERNADV_NIGHTLY") == "1":
        return

    def often(item):
        mark = item.get_closest_marker("nightly")
        return mark is None or (mark.args and not mark.args[0](**item.callspec.params))

    chosen = {True: [], False: []}
    for item in items:
        chosen[bool(often(item))].append(item)
    items[:] = chosen[True]
    if chosen[False]:
        config.hook.pytest_deselected(items=chosen[False])


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
def one_torch_thread():
    """As in the training study."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small(monkeypatch):
    """Few prompts, a tiny untrained model, and a reward that it earns by chance: a filler as the first character."""
    from benchmarks.rlvr.tasks import alphabet, chain_sum
    from benchmarks.rlvr.training import start

    monkeypatch.setattr(start, "POOL", 16)
    monkeypatch.setattr(start, "HELD_OUT", 24)
    fillers = tuple(alphabet.FILLERS)
    monkeypatch.setattr(chain_sum.ChainSum, "reward", lambda self, problem, trace: float(trace.startswith(fillers)))
    few = start.Lessons(2, 8, 2e-3)
    return start.Sizes(width=32, layers=1, heads=2, perfect=few, errors=start.Lessons(1, 8, 5e-4), only=few)
