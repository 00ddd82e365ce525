"""What a type checker says of a user's project: nothing where it is right, and the right thing where it is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

FOLDER = Path(__file__).parent / "typed"


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """File -> line -> code of each error of mypy --strict, with none of our settings."""
    folder = tmp_path_factory.mktemp("user")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null", "--cache-dir", str(folder)]
    files = [str(FOLDER / f"{name}.py") for name in ("right", "wrong")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, cwd=folder)
    assert re.search(r"^Found \d+ errors in ", done.stdout, re.MULTILINE), done.stdout + done.stderr
    found = {"right": {}, "wrong": {}}
    for name, line, code in re.findall(r"(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE):
        found[name][int(line)] = code
    return found


def test_what_is_right_is_right(errors):
    assert errors["right"] == {}


def test_what_is_wrong_is_found(errors):
    lines = (FOLDER / "wrong.py").read_text().splitlines()
    expected = {k: line.rpartition("# ")[2] for k, line in enumerate(lines, start=1) if "  # " in line}
    assert len(expected) == 12
    assert errors["wrong"] == expected
