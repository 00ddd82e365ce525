"""docs/architecture.md: its picture agrees with the imports, and what it names exists."""

import re
from pathlib import Path

import pytest

import kernadv
from benchmarks import architecture

PACKAGE = Path(kernadv.__file__).parent


@pytest.fixture
def page():
    if not architecture.PAGE.exists():
        pytest.skip("docs/architecture.md is not beside the tests")
    return architecture.PAGE.read_text()


@pytest.fixture(scope="module")
def imports():
    return architecture.imports()


def shown(page):
    """The rows of the values, of kernel regression and of the ground, as lists of names."""
    picture = page.split("<!-- picture:begin -->")[1].split("<!-- picture:end -->")[0]
    upper, lower = picture.split("┐ ┌")[1], picture.rsplit("┌", 1)[1]
    wings = [row.strip("│").split("│ │") for row in upper.splitlines() if row.startswith("│") and "│ │" in row]
    ground = [row.strip("│") for row in lower.splitlines() if row.startswith("│")]
    return [[re.findall(r"[\w/]+", row) for row in box] for box in (*zip(*wings, strict=True), ground)]


def test_the_picture_is_current(page, imports):
    order = architecture.layers()
    architecture.check(order, imports)
    assert architecture.picture(order) in page, "run: python -m benchmarks.architecture"


def test_every_file_and_folder_is_shown_once(page):
    values, regression, ground = shown(page)
    named = sorted(name for row in [*values, ["regression/"], *ground] for name in row)
    files = [path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    folders = [f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")]
    assert named == sorted(files + folders)
    inner = {f"{path.parent.name}/" for path in (PACKAGE / "regression").glob("*/*.py")}
    assert [name for row in regression for name in row] == ["regression/", *sorted(inner)]


def test_imports_go_down_in_the_picture(page, imports):
    """As drawn: the device lies below the estimator, beside which it stands."""
    values, _, ground = shown(page)
    depth = {name.strip("/"): row for row, names in enumerate(values + ground) for name in names}
    depth["device"] += 0.5
    for part, imported in imports.items():
        if part == "regression":
            assert imported <= {name.strip("/") for row in ground for name in row}
        else:
            assert all(depth[part] < depth[other] for other in imported), part


def test_concepts_are_where_the_table_says(page):
    rows = re.findall(r"^\| `(\w+)` \| `([\w/.]+)` \|", page, re.MULTILINE)
    assert len(rows) > 10
    for name, where in rows:
        path = PACKAGE / where
        files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        assert any(re.search(rf"^class {name}\b", file.read_text(), re.MULTILINE) for file in files), name


def test_files_that_the_text_names_exist(page):
    names = set(re.findall(r"`((?:\w+/)*\w+\.py)`", page))
    assert len(names) > 10
    there = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    assert {name for name in names if not any(f"/{path}".endswith(f"/{name}") for path in there)} == set()


@pytest.mark.parametrize(("part", "other", "message"), [
    ("groups", "batch", "do not go to a lower layer"),
    ("logs", "auditing", "do not go to a lower layer"),
    ("kernels", "regression", "do not go to a lower layer"),
    ("estimator", "regression", "which stands alone"),
    ("baselines", "device", "drawn beside"),
    ("newcomer", "groups", "without a layer"),
])  # fmt: skip
def test_a_planted_import_is_found(imports, part, other, message):
    if not (architecture.ROOT / "pyproject.toml").exists():
        pytest.skip("pyproject.toml is not beside the tests")
    found = {**imports, part: imports.get(part, set()) | {other}}
    with pytest.raises(ValueError, match=message):
        architecture.check(architecture.layers(), found)


@pytest.mark.parametrize(("line", "names"), [
    ("import kernadv.auditing", {"kernadv.auditing"}),
    ("from kernadv import kernels", {"kernadv.kernels"}),
    ("def late():\n    from kernadv.device.state import DeviceState", {"kernadv.device.state.DeviceState"}),
    ("try:\n    import a\nexcept ImportError:\n    import b", {"a", "b"}),
    ("if TYPE_CHECKING:\n    from kernadv.batch import Batch", set()),
])  # fmt: skip
def test_names_that_a_file_imports(line, names):
    assert set(architecture.imported_names(line)) == names
