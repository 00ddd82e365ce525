"""The notebooks as they are committed: with what they show, made by the code that they hold."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
from benchmarks.notebooks import fingerprint

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def outputs(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_what_is_shown_was_made_by_this_code(notebook):
    assert notebook["metadata"].get("executed") == fingerprint(notebook), "run: make notebooks"


def test_pictures_are_shown_where_nothing_runs_them(path, outputs):
    assert any("image/png" in output.get("data", {}) for output in outputs)
    # GitHub leaves letters and markers out of the SVG that Matplotlib writes.
    assert not any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 500_000


def test_nothing_failed_and_nothing_changes_from_run_to_run(notebook, outputs):
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert not [output for output in outputs if output.get("execution_count") is not None]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in code if cell["execution_count"] is not None or "execution" in cell["metadata"]]


def test_the_first_cell_leads_to_a_page_of_the_documentation(notebook):
    (page,) = re.findall(
        r"https://kernadv\.readthedocs\.io/en/latest/(\w+)\.html", "".join(notebook["cells"][0]["source"])
    )
    assert (FOLDER.parent / "docs" / f"{page}.md").exists()


def test_another_code_has_another_fingerprint(notebook):
    before = fingerprint(notebook)
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    as_lines = "".join(code["source"]).splitlines(keepends=True)
    code["source"] = as_lines
    assert fingerprint(notebook) == before
    code["source"] = ["1\n", *as_lines]
    assert fingerprint(notebook) != before
