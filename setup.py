"""The description on the package index: README.md, whose relative links lead to the repository there."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
HOME = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def absolute(link: re.Match[str]) -> str:
    """The same link from anywhere; pictures in themselves."""
    mark, text, path = link.groups()
    return f"{mark}[{text}]({HOME}/{'raw' if mark else 'blob'}/main/{path})"


setup(
    long_description=re.sub(
        r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)", absolute, (HERE / "README.md").read_text(encoding="utf-8")
    ),
    long_description_content_type="text/markdown",
)
