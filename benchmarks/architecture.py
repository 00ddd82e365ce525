"""Put the picture of the package into docs/architecture.md: its layers from pyproject.toml, checked against the imports.

Command: ``python -m benchmarks.architecture`` (or ``make readme``); a test checks that the picture is the current one.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import kernadv
from benchmarks.readme import ROOT, fill

#: Where the files and folders are.
PACKAGE = Path(kernadv.__file__).parent
PAGE = ROOT / "docs" / "architecture.md"
#: The layer that is a wing of its own; the layers below it are the ground, those above it the other wing.
WING = "regression"
#: A layer that is drawn beside the one layer that imports it.
BESIDE = {"device": "estimator"}
#: Characters inside the boxes.
LEFT, RIGHT = 58, 16

#: The nodes of a syntax tree that are, or hold, statements.
STATEMENTS = ast.stmt, ast.excepthandler, ast.match_case
#: The files and folders of the package that each of them imports.
Imports = dict[str, set[str]]


def imports() -> Imports:
    """What each file or folder imports, in functions too, but not for a type checker alone."""
    found: Imports = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if part != "__init__":
            names = imported_names(path.read_text())
            others = {name.split(".")[1] for name in names if name.startswith("kernadv.")}
            found.setdefault(part, set()).update(others - {part, "__version__"})
    return found


def imported_names(source: str) -> Iterator[str]:
    """The dotted names that a file imports."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting += (child for child in ast.iter_child_nodes(node) if isinstance(child, STATEMENTS))


def layers() -> list[list[str]]:
    """The layers of the import contract, from top to bottom."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["type"] == "layers")
    return [sorted(layer.split(" | "), key=lambda part: part.strip("_")) for layer in contract["layers"]]


def check(order: list[list[str]], found: Imports) -> None:
    """Raise unless the picture of these layers is true.

    Raises
    ------
    ValueError
        If a file or folder has no layer or a layer names one that does not exist, if one imports another of its own layer or
        of a higher one, if the wings import each other, or if a layer drawn beside another is imported from elsewhere.
    """
    level = {part: depth for depth, layer in enumerate(order) for part in layer}
    if set(level) != set(found):
        raise ValueError(f"without a layer, or in a layer but missing: {sorted(set(level) ^ set(found))}")
    upwards = [(one, other) for one in found for other in found[one] if level[other] <= level[one]]
    if upwards:
        raise ValueError(f"imports that do not go to a lower layer: {sorted(upwards)}")
    if across := sorted(one for one in found if WING in found[one]):
        raise ValueError(f"imports of {WING}, which stands alone: {across}")
    for part, neighbour in BESIDE.items():
        if (by := {one for one in found if part in found[one]}) != {neighbour}:
            raise ValueError(f"{part} is drawn beside {neighbour}, but is imported by {sorted(by)}")


def picture(order: list[list[str]]) -> str:
    """The layers as two boxes that stand on a third; folders end in a slash."""
    split = order.index([WING])
    values = [_row(layer) for layer in order[:split] if layer[0] not in BESIDE]
    regression = [_named(WING), *(f"  {name}/" for name in _folders(PACKAGE / WING))]
    ground = [_row(layer) for layer in order[split + 1 :]]
    lines = [
        f" {'values and their baselines':{LEFT + 5}}kernel regression",
        f"┌{'─' * (LEFT + 2)}┐ ┌{'─' * (RIGHT + 2)}┐",
        *(f"│ {one:{LEFT}} │ │ {other:{RIGHT}} │" for one, other in zip_longest(values, regression, fillvalue="")),
        f"└{'─' * (LEFT + 2)}┘ └{'─' * (RIGHT + 2)}┘",
        f"┌{'─' * (LEFT + RIGHT + 7)}┐",
        *(f"│ {row:{LEFT + RIGHT + 5}} │" for row in ground),
        f"└{'─' * (LEFT + RIGHT + 7)}┘",
        " the ground",
    ]
    return "\n".join(["```text", *lines, "```"])


def _row(layer: list[str]) -> str:
    """A layer, and what is drawn beside it."""
    beside = [_named(part) for part, neighbour in BESIDE.items() if neighbour in layer]
    return " ── ".join([" · ".join(map(_named, layer)), *beside])


def _named(part: str) -> str:
    return f"{part}/" if (PACKAGE / part).is_dir() else part


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if any(path.glob("*.py")))


def main() -> None:
    """Rewrite the picture in docs/architecture.md."""
    order = layers()
    check(order, imports())
    PAGE.write_text(fill(PAGE.read_text(), "picture", f"\n{picture(order)}\n"))


if __name__ == "__main__":
    main()
