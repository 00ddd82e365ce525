"""README.md: its example runs, and the table it shows is the one the command prints."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def readme():
    if not (ROOT / "README.md").exists():
        pytest.skip("README.md is not beside the tests")
    return (ROOT / "README.md").read_text()


def test_example_runs(readme, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "n_eff" in capsys.readouterr().out
    assert (tmp_path / "kernadv.safetensors").exists()


def test_audit_table_is_current(readme):
    pytest.importorskip("polars")
    from benchmarks.readme import audit

    shown = readme.split("<!-- audit:begin -->\n")[1].split("\n<!-- audit:end -->")[0]
    assert shown == audit(), "run: make readme"
