"""README.md: its code runs, and its tables are what the commands print."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Blocks that are tested elsewhere: the set-up commands are what runs these tests, what is installed is tested by
#: tests/test_bare_install.py and `make install-test`, TRL by tests/adapters/test_trl.py.
ELSEWHERE = ("git clone", "pip install", "from kernadv.adapters.trl")


@pytest.fixture
def readme():
    if not (ROOT / "README.md").exists():
        pytest.skip("README.md is not beside the tests")
    return (ROOT / "README.md").read_text()


def blocks(readme):
    return [body for body in re.findall(r"```\w*\n(.*?)```", readme, re.DOTALL) if not body.startswith(ELSEWHERE)]


def test_the_code_runs(readme, tmp_path, monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 80)
    given = {
        "rollouts": lambda step: (["a", "a", "b"], rng.integers(0, 2, 3).astype(float)),
        "x": x,
        "y": np.sin(6 * x) + 0.1 * rng.normal(size=80),
        "x0": np.array([0.2, 0.5]),
    }
    code = [body for body in blocks(readme) if body.startswith("from")]
    assert len(code) == 2
    for body in code:
        exec(compile(body, "README.md", "exec"), given)
    assert "rloo_mse" in capsys.readouterr().out
    assert (tmp_path / "kernadv.safetensors").exists()
    assert np.abs(given["advantages"]).max() <= 1
    np.testing.assert_allclose(given["fit"].predict(given["x0"]), np.sin(6 * given["x0"]), atol=0.15)
    pyplot.close("all")


def test_the_commands_run(readme, tmp_path):
    pl = pytest.importorskip("polars")
    (tmp_path / "OUTPUT_DIR" / "completions").mkdir(parents=True)
    for step in range(1, 9):
        rows = {"step": step, "prompt": ["a", "a", "b", "b"], "reward": [0.0, 1.0, 1.0, float(step % 2)]}
        pl.DataFrame(rows).write_parquet(tmp_path / "OUTPUT_DIR" / "completions" / f"completions_{step:05d}.parquet")
    commands = [line for body in blocks(readme) if body.startswith("kernadv") for line in body.splitlines()]
    assert len(commands) == 2
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in commands:
        done = subprocess.run(
            shlex.split(command, comments=True), cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        assert b"RLOO" in done.stdout


def test_what_the_package_and_the_results_say_is_current(readme):
    pytest.importorskip("polars")
    from benchmarks.readme import filled

    assert readme == filled(readme), "run: make readme"


def test_every_link_leads_to_a_file(readme):
    links = re.findall(r"\]\(([^)#\s]+)", readme)
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []
    assert len(readme.encode()) < 9000
