"""Every example of every docstring runs and prints what it says."""

import doctest
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import kernadv
from kernadv.adapters import _process

DOCS = Path(__file__).resolve().parents[1] / "docs"
sys.path.insert(0, str(DOCS / "_ext"))
from public import expected, modules

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(kernadv.__path__, "kernadv.")
    if not module.name.endswith("__main__")
)
PARSER = doctest.DocTestParser()
REFERENCE = modules((DOCS / "reference" / "index.md").read_text(encoding="utf-8"))
#: The families of baselines, which the reference lists by itself.
FAMILIES = [name for name in MODULES if re.match(r"kernadv\.baselines\.[a-z]", name)]
NAMES = {module: sorted(expected(module)) for module in [*REFERENCE, *FAMILIES]}
#: Whose classes are used by the other modules more than by people.
INNER = {"kernadv.pooling", "kernadv.moments", "kernadv.history", "kernadv.groups", "kernadv.typing", *FAMILIES}


def examples(name):
    """The doctests of a module, of its own objects only; an adapter or engine is skipped where its framework is missing."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith(("kernadv.adapters.", "kernadv.logs._ray")) or error.name.startswith("kernadv"):
            raise
        pytest.skip(f"{error.name} is not installed")
    except kernadv.MissingExtraError as error:
        if not name.startswith("kernadv.adapters."):
            raise
        pytest.skip(str(error))
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("name", ["kernadv", *MODULES])
def test_examples(name, monkeypatch):
    monkeypatch.setattr(_process, "_DRIVERS", {})  # what the example of `use` changes
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    for test in examples(name):
        report = []
        runner.run(test, out=report.append)
        assert not runner.summarize(verbose=False).failed, "".join(report)


def test_a_wrong_example_is_found():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1


def shown(name):
    """Whether a public name has an example: its own, or for a method in that of its class or of a class above."""
    found = importlib.import_module(next(module for module in NAMES if name in NAMES[module]))
    owners = []
    for part in name.removeprefix(f"{found.__name__}.").split("."):
        owners = list(inspect.getmro(found)) if inspect.isclass(found) else []
        found = inspect.getattr_static(found, part) if owners else getattr(found, part)
    found = found.fget if isinstance(found, property) else found
    inside = [example.source for owner in owners for example in PARSER.get_examples(owner.__doc__ or "")]
    return bool(PARSER.get_examples(inspect.getdoc(found) or "")) or any(
        re.search(rf"\.{part}\b", source) for source in inside
    )


@pytest.mark.parametrize("module", NAMES)
def test_every_public_name_has_an_example(module):
    """Of the inner modules every function and class, elsewhere every method as well."""
    names = [name for name in NAMES[module] if module not in INNER or name.count(".") == module.count(".") + 1]
    assert not "\n".join(name for name in names if not shown(name))
