"""Every example of every docstring runs and prints what it says."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import kernadv
from kernadv.regression import inference

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(kernadv.__path__, "kernadv.")
    if not module.name.endswith("__main__")
)


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
def test_examples(name):
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    for test in examples(name):
        report = []
        runner.run(test, out=report.append)
        assert not runner.summarize(verbose=False).failed, "".join(report)


def test_a_wrong_example_is_found():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1


def test_inference_has_examples():
    """Each public function and each bootstrap scheme shows a call."""
    shown = {test.name.rpartition(".")[2] for name in MODULES if ".regression." in name for test in examples(name)}
    public = {name for name in inference.__all__ if inspect.isfunction(getattr(inference, name))}
    assert public | {"Wild", "MovingBlocks"} <= shown
