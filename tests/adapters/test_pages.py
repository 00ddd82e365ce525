"""Every framework's page says what a user needs, in the same order."""

import ast
import csv
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

from kernadv import adapters

OVERVIEW = ["framework", "switch", "tested"]
HEADINGS = ["Install", "Switch", "Settings", "See that it works", "Limits"]
ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "frameworks"
CAPABILITIES = list(csv.DictReader((PAGES / "capabilities.csv").read_text().splitlines()))


@pytest.mark.parametrize("page", sorted(PAGES.glob("[!i]*.md")), ids=lambda page: page.stem)
def test_a_page_has_what_a_user_needs(page):
    text = page.read_text()
    found = [heading for heading in re.findall(r"^## (.+)$", text, re.M) if heading in HEADINGS]
    assert found == HEADINGS
    assert "pip install" in text
    assert "revisit_gap" in text
    assert "[why](index.md#settings)" in text


@pytest.mark.parametrize("page", sorted(PAGES.glob("[!i]*.md")), ids=lambda page: page.stem)
def test_a_page_begins_with_its_row_of_the_overview(page):
    _, head, _ = page.read_text().split("---\n", 2)
    assert [line.partition(": ")[0] for line in head.splitlines()] == OVERVIEW


@pytest.mark.parametrize("name", [name for _, name, _ in pkgutil.iter_modules(adapters.__path__) if name[0] != "_"])
def test_every_adapter_has_a_page(name):
    """The one named after it, or the overview or that on several processes, if it serves any framework."""
    page = PAGES / f"{name}.md"
    pages = [page] if page.exists() else [PAGES / "index.md", PAGES.parent / "several_processes.md"]
    assert any(f"kernadv.adapters.{name}" in page.read_text() for page in pages)


def test_every_recipe_has_a_page():
    recipes = {f.stem.removesuffix("_kernadv") for f in (PAGES.parents[1] / "examples" / "recipes").glob("*.py")}
    assert recipes <= {page.stem for page in PAGES.glob("*.md")}


def test_every_page_has_its_capabilities():
    rows = [row["page"] for row in CAPABILITIES]
    assert sorted(rows) == sorted({page.stem for page in PAGES.glob("*.md")} - {"index"})


@pytest.mark.parametrize("row", CAPABILITIES, ids=lambda row: row["page"])
def test_every_capability_has_its_test(row):
    for what, cell in list(row.items())[1:]:
        file, _, name = cell.partition("::")
        if name:
            assert (ROOT / file).is_file(), f"{what}: there is no {file}"
            body = ast.parse((ROOT / file).read_text()).body
            assert name in [node.name for node in body if isinstance(node, ast.FunctionDef)], f"{what}: no {cell}"
            assert name.startswith("test_")
        else:
            assert cell in ("no", "none arise"), f"{what}: name a test, or write no, got {cell!r}"


def pinned():
    """Versions of the frameworks that continuous integration installs."""
    lines = (ROOT / "constraints-frameworks.txt").read_text().splitlines()
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines) if version}


def checked():
    """Calls of `check_version` in the adapters: file, package, first tested version, first that is not."""
    for file in sorted((ROOT / "kernadv" / "adapters").glob("*.py")):
        tree = ast.parse(file.read_text())
        constants = (node for node in tree.body if isinstance(node, ast.Assign))
        names = {node.targets[0].id: node.value for node in constants if isinstance(node.targets[0], ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check_version":
                package, *rest = node.args
                if isinstance(rest[0], ast.Starred):  # *TESTED
                    rest = names[rest[0].value.id].elts
                yield file.stem, *map(ast.literal_eval, [package, *rest])


def test_adapters_accept_the_versions_that_are_tested():
    calls = list(checked())
    assert {"trl", "verl", "torchrl", "skyrl"} <= {package for _, package, _, _ in calls}
    for file, package, first, last in calls:
        version = tuple(map(int, pinned()[package].split(".")[:2]))
        assert first <= version < last, f"{file}: tested is {package} {version}, not from {first}, below {last}"


@pytest.mark.parametrize("page", sorted(PAGES.glob("[!i]*.md")), ids=lambda page: page.stem)
def test_pages_and_recipes_name_the_versions_that_are_tested(page):
    """After a framework's name, or after "version", which is that of the page."""
    text = page.read_text()
    recipe = ROOT / "examples" / "recipes" / f"{page.stem}_kernadv.py"
    text += recipe.read_text() if recipe.exists() else ""
    own = re.search(r"^# ([^\n,(]+)", text, re.M)[1].strip()
    for name, sign, said in re.findall(r"([\w-]+) (>= )?(\d+(?:\.\d+)+)", text):
        tested = pinned().get((own if name == "version" else name).lower())
        if tested and sign:
            assert list(map(int, said.split("."))) <= list(map(int, tested.split("."))), f"{name} {sign}{said}"
        elif tested:
            assert f"{tested}.".startswith(f"{said}."), f"the page says {name} {said}, but {tested} is tested"


def test_the_loop_of_the_docs_goes_on_after_a_restart(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    visits = []
    for run in (1, 2):
        loop = runpy.run_path(str(ROOT / "docs" / "examples" / "agent_loop.py"))
        visits.append(loop["driver"].metrics()["kernadv/history_visits"])
        assert capsys.readouterr().out == f"step {100 * run}: 16 prompts\n"
        traces = loop["driver"].estimator.explain("task-3")["traces"]
        assert sum(traces) < 32 * 100 * run / 8  # rollouts count, not their turns
    assert visits[1] > visits[0]
