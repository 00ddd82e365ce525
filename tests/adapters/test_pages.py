"""Every framework's page says what a user needs, in the same order."""

import re
from pathlib import Path

import pytest

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


def test_every_recipe_has_a_page():
    recipes = {f.stem.removesuffix("_kernadv") for f in (PAGES.parents[1] / "examples" / "recipes").glob("*.py")}
    assert recipes <= {page.stem for page in PAGES.glob("*.md")}
