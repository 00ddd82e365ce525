"""Every framework's page says what a user needs, in the same order."""

import pkgutil
import re
from pathlib import Path

import pytest

from kernadv import adapters

OVERVIEW = ["framework", "switch", "tested"]
HEADINGS = ["Install", "Switch", "Settings", "See that it works", "Limits"]
PAGES = Path(__file__).parents[2] / "docs" / "frameworks"


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
