"""Adapters move rows between a framework and the estimator; statistics, and other frameworks, are not theirs."""

import ast
import sys
import tomllib
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kernadv"
ADAPTERS = sorted((PACKAGE / "adapters").glob("*.py"))
STATISTICS = {"mean", "nanmean", "average", "median", "std", "var", "cov", "quantile", "percentile"}
#: What an adapter may import of this package.
PARTS = {"_checkpoint", "_errors", "adapters", "estimator", "parts", "prompts", "schedule", "scores", "typing"}
PARTS |= {"smoothers"}  # for the type of a result


def imported(file):
    """Dotted names of the modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def third_party(file):
    """Top-level names that are neither of the standard library nor of this package."""
    return {name.partition(".")[0] for name in imported(file)} - set(sys.stdlib_module_names) - {"kernadv"}


@pytest.mark.parametrize("file", ADAPTERS, ids=lambda file: file.stem)
def test_adapters_hold_no_statistics(file):
    called = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    assert not called & STATISTICS
    assert {name.split(".")[1] for name in imported(file) if name.startswith("kernadv.")} <= PARTS


def test_frameworks_are_imported_by_one_adapter_and_by_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needs = [*project["dependencies"], *extras["torch"], *extras["audit"], *extras["regression"], *extras["ray"]]
    ours = {need.partition(";")[0].partition(">")[0].strip().replace("scikit-learn", "sklearn") for need in needs}
    ours.add("typing_extensions")  # for type checkers, which bring it
    rest = {name for file in PACKAGE.rglob("*.py") if file not in ADAPTERS for name in third_party(file)}
    assert rest <= ours
    frameworks = {}
    for file in ADAPTERS:
        frameworks.setdefault(file.stem.lstrip("_").partition("_")[0], set()).update(third_party(file) - ours)
    assert frameworks["trl"] == {"trl", "accelerate"}
    assert not any(one & other for one, other in combinations(frameworks.values(), 2))
