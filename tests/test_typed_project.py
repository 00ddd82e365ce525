"""What type checkers say of a user's project: nothing where it is right, and the right thing where it is wrong."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import kernadv
from kernadv import ComponentValueEstimator, KernelValueEstimator
from kernadv.baselines import ValueEstimator, discover
from kernadv.typing import Estimator

FOLDER = Path(__file__).parent / "typed"
#: A line that is wrong, and what mypy and pyright call the error.
WRONG = {
    number: line.rpartition("# ")[2].split(", ")
    for number, line in enumerate((FOLDER / "wrong.py").read_text().splitlines(), start=1)
    if "  # " in line
}
WITHOUT_TORCH = "[mypy]\n[mypy-torch.*]\nfollow_imports = skip\nignore_missing_imports = True\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the checkers run and keep what they know of libraries."""
    return tmp_path_factory.mktemp("user")


def mypy(folder, settings, *names):
    """File -> line -> codes of the errors of mypy --strict, with none of our settings."""
    pytest.importorskip("mypy")
    (folder / "mypy.ini").write_text(settings)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "mypy.ini", "--cache-dir", "cache"]
    done = subprocess.run(
        [*command, *(str(FOLDER / f"{name}.py") for name in names)], capture_output=True, text=True, cwd=folder
    )
    assert re.search(r"^(Found \d+ errors? in|Success: no issues)", done.stdout, re.MULTILINE), (
        done.stdout + done.stderr
    )
    found = defaultdict(lambda: defaultdict(set))
    for name, line, code in re.findall(r"(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE):
        found[name][int(line)].add(code)
    return found


def pyright(folder, *names):
    """The same of pyright in its strict mode."""
    pytest.importorskip("basedpyright")
    settings = {
        "typeCheckingMode": "strict",
        "include": [str(FOLDER / f"{name}.py") for name in names],
        "extraPaths": [str(Path(kernadv.__file__).parents[1])],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == len(names), done.stdout
    found = defaultdict(lambda: defaultdict(set))
    for one in told["generalDiagnostics"]:
        found[Path(one["file"]).stem][one["range"]["start"]["line"] + 1].add(one.get("rule"))
    return found


def test_mypy(folder):
    found = mypy(folder, "[mypy]\n", "right", "tensors", "wrong")
    assert found.keys() == {"wrong"}
    assert found["wrong"] == {line: {code} for line, (code, _) in WRONG.items()}


def test_mypy_without_torch(folder):
    assert mypy(folder, WITHOUT_TORCH, "right") == {}


def test_pyright(folder):
    found = pyright(folder, "right", "tensors", "wrong")
    assert found.keys() == {"wrong"}
    assert found["wrong"].keys() == WRONG.keys()
    for line, (_, rule) in WRONG.items():
        assert rule in found["wrong"][line]


def test_enough_is_wrong():
    assert len(WRONG) == 19


@pytest.mark.parametrize("ours", [KernelValueEstimator(), ComponentValueEstimator(2)])
def test_estimators_have_the_protocols(ours):
    assert isinstance(ours, Estimator)
    assert isinstance(ours, ValueEstimator)


def test_online_baselines_have_the_protocol():
    ready = [one for one in discover().values() if not one.needs_truth and not one.offline_rollouts]
    assert len(ready) > 20
    for baseline in ready:
        assert isinstance(baseline.online(), ValueEstimator)


def test_what_lacks_a_method_has_not_the_protocol():
    class Reader:
        def values(self, prompt_ids, rewards, step): ...

    assert not isinstance(Reader(), ValueEstimator)
    assert not isinstance(Reader(), Estimator)
