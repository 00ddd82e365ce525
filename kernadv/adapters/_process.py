"""For frameworks that call a registered function: the estimator of the process, and what surrounds a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from kernadv._errors import ArgumentError
from kernadv.adapters._driver import Driver, Estimator
from kernadv.adapters._settings import estimator_of

#: The estimator's name in a framework's configuration.
NAME = "kernadv"


class Call(NamedTuple):
    """What the framework does not hand to the function."""

    step: int
    keys: Any = None  # verl: {uid}_{session}_{output}, one a row
    batch: Any = None


_CALL: ContextVar[Call | None] = ContextVar("kernadv", default=None)
_DRIVERS: dict[str, Driver] = {}


def use(estimator: Estimator) -> None:
    """Take an estimator of your own in this process, instead of the one that the configuration describes."""
    _DRIVERS[NAME] = Driver(estimator)


def driver(algorithm: Any = None) -> Driver:
    """The only estimator of the process, with what feeds it; built from ``algorithm.kernadv`` when first asked for."""
    if NAME not in _DRIVERS:
        settings = algorithm.get(NAME) if hasattr(algorithm, "get") else None
        _DRIVERS[NAME] = Driver(estimator_of(settings or {}))
    return _DRIVERS[NAME]


def current() -> Call:
    """The call under way.

    Raises
    ------
    ArgumentError
        If nobody said at which step.
    """
    call = _CALL.get()
    if call is None:
        raise ArgumentError("the step is not known: wrap the call in `with kernadv.adapters.at_step(step):`")
    return call


@contextmanager
def at_step(step: int, keys: Any = None, batch: Any = None) -> Iterator[None]:
    """Say at which step advantages are computed; the wrapped trainers do so by themselves."""
    token = _CALL.set(Call(step, keys, batch))
    try:
        yield
    finally:
        _CALL.reset(token)
