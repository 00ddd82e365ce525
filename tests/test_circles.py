"""No file of the package imports, at any depth and in any function, a file that imports it."""

import ast
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate
from pathlib import Path

import pytest

import kernadv

PACKAGE = Path(kernadv.__file__).parent


def modules(package):
    """Path of every module by its dotted name."""
    paths = {}
    for path in package.rglob("*.py"):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


class Imports(ast.NodeVisitor):
    """The names that a file imports, in functions too, but not for a type checker alone."""

    def __init__(self, module, package):
        self.found, self.base = set(), module.split(".") if package else module.split(".")[:-1]

    def visit_Import(self, node):
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node):
        base = self.base[: len(self.base) - node.level + 1] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        self.found |= {f"{source}.{alias.name}" for alias in node.names}

    def visit_If(self, node):
        if ast.unparse(node.test) not in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            self.generic_visit(node)
        for rest in node.orelse:
            self.visit(rest)

    def visit_Call(self, node):
        """`import_module` of a text."""
        if ast.unparse(node.func).endswith("import_module") and isinstance(node.args[0], ast.Constant):
            self.found.add(node.args[0].value)
        self.generic_visit(node)


def imports(package):
    """The modules of the package that each of its modules imports: the deepest that a name leads to."""
    paths = modules(package)
    graph = {}
    for module, path in paths.items():
        seen = Imports(module, path.name == "__init__.py")
        seen.visit(ast.parse(path.read_text()))
        known = ([part for part in accumulate(name.split("."), "{}.{}".format) if part in paths] for name in seen.found)
        graph[module] = {parts[-1] for parts in known if parts} - {module}
    return graph


def circle(graph):
    """Modules each of which imports the next, back to the first; empty where there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def test_there_is_no_circle():
    graph = imports(PACKAGE)
    assert len(graph) > 100
    assert circle(graph) == []


@pytest.mark.parametrize("second", [
    "from planted.one import A",
    "from . import one",
    "from .one import A",
    "def late():\n    from planted import one",
    "def late():\n    import planted.one as one",
    "import importlib\n\ndef late():\n    importlib.import_module('planted.one')",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import planted.one",
])  # fmt: skip
def test_a_planted_circle_is_found(tmp_path, second):
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from planted.sub import two\n\nA = two\n")
    (package / "sub").mkdir()
    (package / "sub" / "__init__.py").write_text("")
    (package / "sub" / "two.py").write_text(second.replace("from .", "from ..") + "\n")
    assert set(circle(imports(package))) == {"planted.one", "planted.sub.two"}


def test_imports_for_a_type_checker_are_no_circle(tmp_path):
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from planted.two import B\n")
    (package / "two.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planted.one import A\n"
    )
    assert circle(imports(package)) == []
