"""Every parameter of a public class is described where `help` and completion look: in the class's own docstring."""

import inspect

import pytest

pytest.importorskip("sklearn")

import kernadv.estimator
import kernadv.kernels
import kernadv.regression
from kernadv.regression import LocalLinear, LocalPolynomial, bandwidth
from kernadv.regression._told import ENTRY, told_by

CLASSES = [
    *(getattr(kernadv.regression, name) for name in kernadv.regression.__all__),
    *(getattr(bandwidth, name) for name in bandwidth.__all__),
    *(getattr(kernadv.kernels, name) for name in ("Exponential", "Power")),
    kernadv.estimator.ComponentValueEstimator,
    kernadv.estimator.KernelValueEstimator,
    kernadv.Relative,
    kernadv.Steps,
    kernadv.Visits,
    kernadv.Pooling,
]
CLASSES = [cls for cls in CLASSES if inspect.isclass(cls) and not issubclass(cls, Warning)]


def entries(cls):
    """Name -> type and text, of all sections."""
    found = {}
    for head, text in ENTRY.findall(inspect.cleandoc(cls.__doc__) + "\n"):
        names, _, kind = head.partition(" : ")
        found |= dict.fromkeys(names.split(", "), f"{kind}\n{text}")
    return found


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_parameter_is_described(cls):
    told = entries(cls)
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            assert told[name].strip(), name
            assert "As in `" not in told[name], name


def test_enough_classes_are_looked_at():
    assert {"LocalLinear", "NadarayaWatson", "AICc", "KernelValueEstimator"} <= {cls.__name__ for cls in CLASSES}


def test_the_text_is_that_of_the_source():
    source, own = entries(LocalPolynomial), entries(LocalLinear)
    for name in ("bandwidth", "categorical", "empty", "bandwidth_", "times_"):
        assert own[name] == source[name]
    assert "degree" not in own


def test_what_is_added_comes_after():
    class Source:
        """A source.

        Parameters
        ----------
        width : float
            In steps.

            At least 1.
        kind : str
        """

    @told_by(Source)
    class Own:
        """A class.

        Parameters
        ----------
        kind, width
            As in `Source`.  Default: 2.
        other : int
            As in `Else`.
        """

    assert Own.__doc__.splitlines() == [
        "A class.",
        "",
        "Parameters",
        "----------",
        "kind : str",
        "width : float",
        "    In steps.",
        "",
        "    At least 1.",
        "    Default: 2.",
        "other : int",
        "    As in `Else`.",
    ]


def test_a_name_that_the_source_lacks_is_an_error():
    with pytest.raises(KeyError, match="wide"):

        @told_by(LocalPolynomial)
        class Own:
            """A class.

            Parameters
            ----------
            wide
                As in `LocalPolynomial`.
            """
