"""What a release needs says the same in every place, and the workflows run nothing that is not run here."""

import re
from pathlib import Path

import pytest

import kernadv

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / ".github").exists(), reason="the repository is not beside the tests")


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_version_is_the_newest_of_the_changelog_and_of_the_citation():
    assert re.search(r"^## (\S+) \(\d{4}-\d\d-\d\d\)", text("CHANGELOG.md"), re.MULTILINE)[1] == kernadv.__version__
    assert re.search(r"^version: (\S+)", text("CITATION.cff"), re.MULTILINE)[1] == kernadv.__version__


def test_every_command_of_the_workflows_is_one_that_continuous_integration_runs():
    here = text(".ci/run")
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    commands = {line for page in pages for line in re.findall(r"run: (.+)", page)}
    assert len(commands) >= 6
    for command in commands:
        assert re.search(rf"{re.escape(command)}(?![\w-])", here), command


def test_the_image_installs_as_the_readme_says():
    assert '-c constraints.txt ".[audit]"' in text("Dockerfile")
    assert 'pip install ".[audit]"' in text("README.md")


def test_community_files_are_linked():
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CITATION.cff", "CHANGELOG.md"):
        assert (ROOT / name).exists()
    assert "SECURITY.md" in text("CODE_OF_CONDUCT.md")
