"""The references page names every work that the docstrings of the statistics name."""

import re
import unicodedata
from pathlib import Path

import pytest

import kernadv

STATISTICS = ("estimator", "kernels.py", "pooling", "regression", "smoothers")
PAGE = Path(__file__).parents[1] / "docs" / "references.md"


def plain(text):
    """Letters without accents, on one line."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode())


def cited(part):
    """(first author, year) of the References sections of some modules."""
    place = Path(kernadv.__file__).parent / part
    found = set()
    for file in [place] if place.suffix else sorted(place.rglob("*.py")):
        for section in re.findall(r"References\n\s+-+\n(.*?)(?:\n\s+Examples\n|\"\"\")", file.read_text(), re.DOTALL):
            found |= set(re.findall(r"(?:^|[.;] )([A-Z][\w-]+)[^().;]*\((\d{4})\)", plain(section).strip()))
    return found


@pytest.mark.parametrize("part", STATISTICS)
def test_every_work_is_on_the_page(part):
    works = [work for entry in PAGE.read_text().split("\n- ") for work in plain(entry).split("; ")]
    missing = [
        (author, year)
        for author, year in cited(part)
        if not any(re.search(rf"\b{author}\b", work) and year in work for work in works)
    ]
    assert not missing


def test_works_are_found():
    assert ("Wilson", "1927") in cited("regression")
    assert len(cited("regression/bandwidth")) > 10
